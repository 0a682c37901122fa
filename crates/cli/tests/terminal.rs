//! `cupola train` on a terminal: one that is nearly too small, one without colours, one without UTF-8.
#![cfg(unix)]

mod common;

use common::micro::Micro;
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

/// What a run of some steps shows on a terminal of this size.
fn shown(rows: u16, columns: u16, environment: &[(&str, &str)]) -> String {
    let micro = Micro::new();
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).expect("the system has pseudo-terminals");
    let sets = ["--steps", "60", "--set", "sample.every=20", "--set", "sample.tokens=30"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args(micro.arguments("run", &sets)).stdin(Stdio::null()).stdout(Stdio::null());
    command
        .env_remove("NO_COLOR")
        .env_remove("LC_ALL")
        .env_remove("LC_CTYPE")
        .env("LANG", "C.UTF-8")
        .env("TERM", "xterm");
    command.envs(environment.iter().copied()).stderr(Stdio::from(terminal.slave));
    let mut child = command.spawn().expect("the program starts");
    // The command holds the other end as well.
    drop(command);
    let mut screen = File::from(terminal.master);
    let (mut all, mut block) = (Vec::new(), [0; 4096]);
    // When the last program that had the terminal ends, reading it is an error on Linux.
    while let Ok(n @ 1..) = screen.read(&mut block) {
        all.extend(&block[..n]);
    }
    let status = child.wait().expect("the child is ours");
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(status.success() && !text.contains("panicked"), "{rows}x{columns} {environment:?}: {status} {text}");
    text
}

/// Sequences that colour, and no others.
fn colours(text: &str) -> usize {
    let end = |part: &str| part.find(|c: char| c.is_ascii_alphabetic()).is_some_and(|at| part.as_bytes()[at] == b'm');
    text.split("\x1b[").skip(1).filter(|part| end(part)).count()
}

#[test]
fn a_bar_and_samples_are_shown_in_the_letters_that_the_terminal_has() {
    let text = shown(24, 100, &[]);
    assert!(text.contains("first loss ") && text.contains("/60 ") && text.contains("━"), "{text}");
    assert!(text.contains("held-out loss ") && text.contains("sample") && colours(&text) > 0, "{text}");
    let text = shown(24, 100, &[("LC_ALL", "C")]);
    assert!(text.is_ascii() && text.contains("=>") && text.contains("sample"), "{text}");
    let text = shown(24, 100, &[("NO_COLOR", "1")]);
    assert!(text.contains("first loss ") && colours(&text) == 0, "{text}");
}

#[test]
fn a_terminal_of_any_size_ends_no_run() {
    for (rows, columns) in [(1, 1), (1, 2), (2, 7), (0, 0), (1, 400)] {
        let text = shown(rows, columns, &[]);
        assert!(text.contains("done: 60 steps"), "{rows}x{columns}: {text}");
    }
}
