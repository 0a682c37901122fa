//! Ctrl-C once and twice.

use anyhow::Context;
use cupola_train::Stop;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::exit::INTERRUPTED;

/// From now on the first Ctrl-C (or request of the system to end) asks the run to save and stop, and the second ends the program.
///
/// # Errors
/// When the system does not let signals be handled.
pub fn install() -> anyhow::Result<Stop> {
    static SIGNALS: AtomicU32 = AtomicU32::new(0);
    let stop = Stop::default();
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        if SIGNALS.fetch_add(1, Ordering::Relaxed) > 0 {
            std::process::exit(i32::from(INTERRUPTED));
        }
        asked.ask();
        crate::output::note("\nsaving after this step; once more ends at once");
    })
    .context("no handler for Ctrl-C")?;
    Ok(stop)
}
