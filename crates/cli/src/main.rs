//! The program `cupola`.
//!
//! - `commands`: one file or folder for each command
//! - `exit`: exit codes
//! - `input`, `output`: files and standard streams
//! - `terminal`: what is only there for people

mod commands;
mod exit;
mod input;
mod output;
mod terminal;

use clap::Parser;
use std::process::ExitCode;

/// Raw text to a trained and served model, on the machine in front of you.
#[derive(Parser)]
#[command(name = "cupola", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the input was refused, 130 interrupted.")]
struct Program {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    exit::report(Program::parse().command.run())
}
