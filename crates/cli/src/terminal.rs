//! What is only there for people: colours and progress, on a terminal and nowhere else.

use std::fmt;
use std::io::{self, IsTerminal};

/// A colour. `{style}` switches it on, `{style:#}` off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style(&'static str);

impl Style {
    pub const RED: Self = Self("\x1b[1;31m");
    pub const BOLD: Self = Self("\x1b[1m");
    pub const DIM: Self = Self("\x1b[2m");
    pub const CYAN: Self = Self("\x1b[36m");
    const NONE: Self = Self("");

    /// This colour when standard output shows colours.
    pub fn on_stdout(self) -> Self {
        if colours(io::stdout().is_terminal()) { self } else { Self::NONE }
    }

    /// This colour when standard error shows colours.
    pub fn on_stderr(self) -> Self {
        if colours(io::stderr().is_terminal()) { self } else { Self::NONE }
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.is_empty(), f.alternate()) {
            (true, _) => Ok(()),
            (false, false) => f.write_str(self.0),
            (false, true) => f.write_str("\x1b[0m"),
        }
    }
}

/// Colours are for terminals, unless the user has said that there should be none (<https://no-color.org>).
fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A whole number with commas, as people read it.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn no_style_prints_nothing() {
        assert_eq!(format!("{0}x{0:#}", Style::NONE), "x");
        assert_eq!(format!("{0}x{0:#}", Style::BOLD), "\x1b[1mx\x1b[0m");
    }
}
