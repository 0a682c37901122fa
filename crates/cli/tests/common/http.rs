//! Programs that listen, and a client of plain sockets for them.
#![allow(dead_code, reason = "each test file is a program of its own")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A program that is ended with the test, and the lines that it prints on both of its streams.
pub struct Program {
    pub child: Child,
    lines: Receiver<String>,
    /// All lines so far.
    pub said: Vec<String>,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                // The test may have ended before the program.
                BufReader::new(stream).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
            });
        }
        Self { child, lines, said: Vec::new() }
    }

    /// Waits for a line with this in it, unless it was said already, and returns what follows there.
    #[track_caller]
    pub fn wait_for(&mut self, words: &str) -> String {
        let rest = |line: &String| line.split_once(words).map(|(_, rest)| rest.to_owned());
        if let Some(rest) = self.said.iter().find_map(rest) {
            return rest;
        }
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("it never said {words:?}, but: {:#?}", self.said)
            };
            let rest = rest(&line);
            self.said.push(line);
            if let Some(rest) = rest {
                return rest;
            }
        }
    }

    /// Sends a signal such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().expect("there is kill").success());
    }

    /// Waits for the end, for so long at most, and returns the exit code; all that was said is in `said` then.
    #[track_caller]
    pub fn ended_within(&mut self, time: Duration) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                self.said.extend(self.lines.iter());
                return status.code();
            }
            assert!(start.elapsed() < time, "it does not end; it said {:#?}", self.said);
            std::thread::yield_now();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole answer to a request, or nothing when nobody listens.
pub fn ask(address: &str, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}

/// A request without a body.
pub fn get(address: &str, path: &str) -> Option<String> {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"))
}

/// A request with JSON.
pub fn post(address: &str, path: &str, body: &str) -> Option<String> {
    let head = "content-type: application/json\r\nconnection: close";
    let length = body.len();
    ask(
        address,
        &format!("POST {path} HTTP/1.1\r\nhost: {address}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}"),
    )
}
