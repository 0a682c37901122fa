//! Standard output, and one answer for each line of a stream of JSON objects.

use anyhow::Context;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, BufWriter, StdoutLock, Write};

/// One line on standard output.
///
/// # Errors
/// When standard output is closed.
pub fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}").context("standard output")
}

/// One line on standard error. A reader that has gone away is no reason to stop what is being done.
pub fn note(text: impl std::fmt::Display) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Standard output with a buffer. What is left in it is lost unless [`Output::finish`] is called.
pub struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    /// Standard output.
    pub fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    /// One JSON value on a line of its own.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn json(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, value)?;
        self.0.write_all(b"\n")
    }

    /// Numbers with spaces between them, on a line of their own.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn numbers(&mut self, numbers: &[u32]) -> io::Result<()> {
        for (i, number) in numbers.iter().enumerate() {
            write!(self.0, "{}{number}", if i == 0 { "" } else { " " })?;
        }
        self.0.write_all(b"\n")
    }

    /// Writes what is in the buffer.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.0.flush().context("standard output")
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Answers each line of standard input with one line: what `answer` makes of the object, or `{"error": ...}`. A bad line
/// does not stop the rest. Answers are written out whenever no further line has arrived yet, so that another program
/// can ask and wait.
///
/// # Errors
/// When a standard stream fails.
pub fn answer_lines(mut answer: impl FnMut(&Value) -> anyhow::Result<Value>) -> anyhow::Result<()> {
    let mut input = BufReader::with_capacity(64 << 10, io::stdin().lock());
    let mut output = Output::new();
    let mut line = Vec::new();
    loop {
        if input.buffer().is_empty() {
            output.flush().context("standard output")?;
        }
        line.clear();
        if input.read_until(b'\n', &mut line).context("standard input")? == 0 {
            return output.finish();
        }
        let answered = serde_json::from_slice(&line)
            .map_err(|error| anyhow::anyhow!("the line is not JSON: {error}"))
            .and_then(|value: Value| {
                anyhow::ensure!(value.is_object(), "the line is not a JSON object");
                answer(&value)
            });
        output
            .json(&answered.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })))
            .context("standard output")?;
    }
}
