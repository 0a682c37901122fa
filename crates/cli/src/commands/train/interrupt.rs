//! Ctrl-C once and twice.

use anyhow::Context;
use cupola_train::Stop;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::exit::INTERRUPTED;

/// Whom a Ctrl-C (or request of the system to end) concerns.
enum Whose {
    /// A run, which saves and stops at the first, while the second ends the program.
    Run(Stop),
    /// Nobody: it ends the program.
    Nobody,
    /// Somebody who listens by other means.
    Other,
}

static WHOSE: Mutex<Whose> = Mutex::new(Whose::Nobody);
/// Whether the handler is there; the system takes one alone.
static INSTALLED: Mutex<bool> = Mutex::new(false);

fn whose() -> MutexGuard<'static, Whose> {
    WHOSE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this is there, the first Ctrl-C asks the run to save and stop, and the second ends the program.
pub struct Watched(Stop);

impl Deref for Watched {
    type Target = Stop;

    fn deref(&self) -> &Stop {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        *whose() = Whose::Nobody;
    }
}

/// Begins to watch.
///
/// # Errors
/// When the system does not let signals be handled.
pub fn install() -> anyhow::Result<Watched> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        ctrlc::set_handler(heard).context("no handler for Ctrl-C")?;
        *installed = true;
    }
    let stop = Stop::default();
    *whose() = Whose::Run(stop.clone());
    Ok(Watched(stop))
}

/// From now on somebody else listens: handlers of signals are never removed, so that this one has to know.
pub fn hand_over() {
    *whose() = Whose::Other;
}

fn heard() {
    match &*whose() {
        Whose::Run(stop) if !stop.is_asked() => {
            stop.ask();
            crate::output::note("\nsaving after this step; once more ends at once");
        }
        Whose::Run(_) | Whose::Nobody => std::process::exit(i32::from(INTERRUPTED)),
        Whose::Other => {}
    }
}
