//! `cupola regex`: looking at patterns.
//!
//! - `find`: what a pattern matches
//! - `explain`: what it is made of and which engine runs

mod explain;
mod find;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    /// Print all matches of a pattern in files or standard input
    Find(find::Find),
    /// Say in words how a pattern is searched for, and why
    Explain(explain::Explain),
}

impl Command {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Find(command) => command.run(),
            Self::Explain(command) => command.run(),
        }
    }
}
