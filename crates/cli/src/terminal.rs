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

/// Whether the language that the system is set to is written in UTF-8.
pub fn is_utf8() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    cfg!(windows) || writes_utf8(["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).as_deref())
}

fn writes_utf8(locale: Option<&str>) -> bool {
    // Without one it is the language C, which is ASCII.
    let encoding = locale.unwrap_or("C").to_ascii_lowercase();
    encoding.contains("utf-8") || encoding.contains("utf8")
}

/// What a bar is drawn with: what is done, its tip, and what is left.
pub fn bar() -> &'static str {
    if is_utf8() { "━╸ " } else { "=> " }
}

/// A text on one line, in letters that the terminal has.
pub fn one_line(text: &str) -> String {
    flat(text, is_utf8())
}

fn flat(text: &str, utf8: bool) -> String {
    let shown = text.chars().map(|c| match c {
        '\n' if utf8 => '⏎',
        '\n' => ' ',
        c if utf8 || c.is_ascii() => c,
        _ => '?',
    });
    shown.collect()
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
    fn a_language_without_utf8_gets_ascii() {
        assert_eq!(
            [Some("de_DE.UTF-8"), Some("C.utf8"), Some("C"), Some("tr_TR.ISO-8859-9"), None].map(writes_utf8),
            [true, true, false, false, false]
        );
        assert_eq!((flat("ä\nb", true), flat("ä\nb", false)), ("ä⏎b".to_string(), "? b".to_string()));
    }

    #[test]
    fn no_style_prints_nothing() {
        assert_eq!(format!("{0}x{0:#}", Style::NONE), "x");
        assert_eq!(format!("{0}x{0:#}", Style::BOLD), "\x1b[1mx\x1b[0m");
    }
}
