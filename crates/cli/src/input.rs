//! Files and standard input.

use crate::exit::Failure;
use anyhow::Context;
use cupola_data::input::{self as data, Format, Found};
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
            crate::output::note("reading from the keyboard; end with Ctrl-D");
        }
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).context("standard input")?;
        bytes
    } else {
        std::fs::read(path).with_context(|| name.clone())?
    };
    Ok(Source { name, bytes })
}

/// The files behind paths, of which standard input (`-`) becomes one in the folder `scratch`.
///
/// # Errors
/// When a path leads nowhere or standard input cannot be kept.
pub fn extents(paths: &[String], format: Option<Format>, scratch: &Path) -> cupola_data::Result<Found> {
    let mut all = Found::default();
    for given in paths.chunk_by(|a, b| a != STDIN && b != STDIN) {
        if given == [STDIN] {
            all.extents.push(data::spool(io::stdin().lock(), &scratch.join("standard-input"), format)?);
        } else {
            let found = data::find(given, format)?;
            all.extents.extend(found.extents);
            all.skipped.extend(found.skipped);
        }
    }
    Ok(all)
}

/// A folder that is removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// A new one among the system's temporary files.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(purpose: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("cupola-{purpose}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: the system cleans its folder for temporary files too.
        let _ = std::fs::remove_dir_all(&self.0);
    }
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
