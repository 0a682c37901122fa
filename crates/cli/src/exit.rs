//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the input was refused, 130 interrupted.

use crate::terminal;
use std::io;
use std::process::ExitCode;

/// The exit code of a program that was interrupted, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// An ending with an exit code of its own. Any other error ends with 1.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// An input does not follow its format.
    #[error("{0}")]
    Refused(String),
    /// The user asked to stop, and what there was has been saved.
    #[error("interrupted")]
    Interrupted,
}

/// Prints what went wrong and chooses the exit code.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    // `cupola ... | head` is no error.
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    if matches!(error.downcast_ref(), Some(Failure::Interrupted)) {
        return ExitCode::from(INTERRUPTED);
    }
    let red = terminal::Style::RED.on_stderr();
    crate::output::note(format_args!("{red}error:{red:#} {}", told(&error)));
    ExitCode::from(code(&error))
}

/// All causes in one line, without those that the message before ends with: errors that are complete by themselves name theirs.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.as_str() {
        "" => cause,
        known if known.ends_with(&cause) => line,
        _ => format!("{line}: {cause}"),
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(1)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    use cupola_tokenizer::Error as Tokenizer;
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(match failure {
            Failure::Usage(_) => 2,
            Failure::Refused(_) => 3,
            Failure::Interrupted => INTERRUPTED,
        });
    }
    if let Some(error) = cause.downcast_ref::<cupola_train::Error>() {
        return Some(error.exit_code());
    }
    if cause.is::<cupola_train::config::ConfigError>() || cause.is::<cupola_models::SpecError>() {
        return Some(2);
    }
    if cause.is::<cupola_models::ModelError>() {
        return Some(3);
    }
    if cause.is::<cupola_regex::Error>() || cause.is::<cupola_regex::SearchError>() {
        return Some(3);
    }
    Some(match cause.downcast_ref::<Tokenizer>()? {
        Tokenizer::File { .. } => 1,
        Tokenizer::Config(_) | Tokenizer::Vocabulary(_) | Tokenizer::UnknownSpecial { .. } => 2,
        _ => 3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_innermost_known_cause_gives_the_code() {
        let refused = anyhow::Error::new(Failure::Refused("no".into())).context("notes.txt");
        assert_eq!(code(&refused), 3);
        assert_eq!(code(&Failure::Usage("no".into()).into()), 2);
        assert_eq!(code(&anyhow::anyhow!("no")), 1);
        let id = cupola_tokenizer::Error::UnknownId { id: 9, position: 0, size: 3 };
        assert_eq!(code(&anyhow::Error::new(id).context("ids")), 3);
    }

    #[test]
    fn a_cause_that_a_message_names_is_not_told_twice() {
        let missing = || io::Error::other("not found");
        #[derive(Debug, thiserror::Error)]
        #[error("run.json: cannot open: {source}")]
        struct Complete {
            source: io::Error,
        }
        let complete = anyhow::Error::new(Complete { source: missing() }).context("the run");
        assert_eq!(told(&complete), "the run: run.json: cannot open: not found");
        assert_eq!(told(&anyhow::Error::new(missing()).context("run.json")), "run.json: not found");
    }

    #[test]
    fn a_reader_that_has_gone_away_is_no_failure() {
        let gone = Err::<(), _>(io::Error::from(io::ErrorKind::BrokenPipe)).context("standard output");
        assert!(is_broken_pipe(&gone.unwrap_err()));
        assert!(!is_broken_pipe(&io::Error::from(io::ErrorKind::NotFound).into()));
    }
}
