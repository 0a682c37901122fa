//! Files and standard input.

use crate::exit::Failure;
use anyhow::Context;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// The name that stands for standard input.
const STDIN: &str = "-";

/// One input: its name for people, and its bytes.
pub struct Source {
    /// The path as it was given, or `-`.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Source {
    /// The bytes as text.
    ///
    /// # Errors
    /// When they are not UTF-8.
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.bytes)
            .map_err(|e| Failure::Refused(format!("{}: not UTF-8 at byte {}", self.shown(), e.valid_up_to())))
    }

    /// The name, in words for standard input.
    pub fn shown(&self) -> &str {
        if self.name == STDIN { "standard input" } else { &self.name }
    }
}

/// Reads one input: a file, or standard input for `-`.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> anyhow::Result<Source> {
    let name = path.display().to_string();
    let bytes = if path == Path::new(STDIN) {
        if io::stdin().is_terminal() {
            eprintln!("reading from the keyboard; end with Ctrl-D");
        }
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).context("standard input")?;
        bytes
    } else {
        std::fs::read(path).with_context(|| name.clone())?
    };
    Ok(Source { name, bytes })
}

/// The paths, or standard input when there is none.
pub fn or_stdin(paths: &[PathBuf]) -> Vec<PathBuf> {
    if paths.is_empty() { vec![PathBuf::from(STDIN)] } else { paths.to_vec() }
}

/// The lines of a text without their line feeds. A line feed at the end begins no line.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.split('\n').filter(move |_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_at_the_end_begins_no_line() {
        let all = |text: &'static str| lines(text).collect::<Vec<_>>();
        assert_eq!(all("a\n\nb\n"), ["a", "", "b"]);
        assert_eq!(all("a\r\nb"), ["a\r", "b"]);
        assert_eq!(all("\n"), [""]);
        assert!(all("").is_empty());
    }
}
