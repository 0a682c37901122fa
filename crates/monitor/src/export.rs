//! Measured numbers as CSV.

use std::collections::BTreeSet;
use std::fmt::Write;

use cupola_io::run::{Record, RunDir};

use crate::run::Run;
use crate::series::extremes;
use crate::state::{Over, RunState};

/// The most times that a run went back which are told apart; further ones leave superseded rows in the file.
const MOST_RETURNS: usize = 100_000;

/// Every step and validation of a run that is still true, a block of text at a time: one row each, one column a number.
/// A run in a folder is read from its file and is exact at any length; one that is fed gives what is kept of it.
///
/// `give` returns `false` when nobody wants more.
pub fn csv(run: &Run, mut give: impl FnMut(String) -> bool) {
    run.refresh();
    let names: Vec<String> = run.with(|state, _| state.names().map(str::to_owned).collect());
    let mut text = "step,time,tokens".to_owned();
    for name in &names {
        text.push(',');
        text.push_str(&field(name));
    }
    text.push('\n');
    match run.dir() {
        Some(dir) => from_file(&dir, &names, text, &mut give),
        None => {
            run.with(|state, _| from_state(state, &names, &mut text));
            give(text);
        }
    }
}

/// A field of text: quoted, and never taken for a formula by a spreadsheet.
fn field(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

/// The records of the file in their order; what cannot be read is passed over, as the page does that says so.
fn records(dir: &RunDir) -> impl Iterator<Item = Record> {
    let mut tail = dir.tail().ok();
    let mut errors = 0;
    std::iter::from_fn(move || {
        loop {
            match tail.as_mut()?.read() {
                Ok(record) => return record,
                // A disk that fails would fail for ever.
                Err(cupola_io::Error::Io { .. }) => return None,
                Err(_) => errors += 1,
            }
            if errors > 1_000_000 {
                return None;
            }
        }
    })
}

fn from_file(dir: &RunDir, names: &[String], mut text: String, give: &mut impl FnMut(String) -> bool) {
    // A first reading finds where training went back: the record's number and the step it went back to.
    let mut returns: Vec<(u64, u64)> = Vec::new();
    let mut last = None;
    for (number, record) in (0u64..).zip(records(dir)) {
        if let Record::Step(step) = record {
            if last.is_some_and(|last| step.step <= last) && returns.len() < MOST_RETURNS {
                returns.push((number, step.step));
            }
            last = Some(step.step);
        }
    }
    // Whatever lies at or behind the earliest step that is still to be gone back to, is superseded.
    let mut lowest = u64::MAX;
    for (_, step) in returns.iter_mut().rev() {
        lowest = lowest.min(*step);
        *step = lowest;
    }
    let mut next = 0;
    for (number, record) in (0u64..).zip(records(dir)) {
        while returns.get(next).is_some_and(|(at, _)| *at <= number) {
            next += 1;
        }
        let (step, time, tokens, values) = match record {
            Record::Step(step) => (step.step, step.time, Some(step.tokens), step.values),
            Record::Eval(eval) => (eval.step, eval.time, None, eval.values),
            _ => continue,
        };
        if returns.get(next).is_some_and(|(_, lowest)| step >= *lowest) {
            continue;
        }
        let tokens = tokens.map_or_else(String::new, |tokens| tokens.to_string());
        write!(text, "{step},{time},{tokens}").expect("a String takes everything");
        row(&mut text, names.iter().map(|name| values.get(name).copied()));
        if text.len() > 1 << 16 && !give(std::mem::take(&mut text)) {
            return;
        }
    }
    give(text);
}

fn row(text: &mut String, values: impl Iterator<Item = Option<f64>>) {
    for value in values {
        match value {
            Some(value) => write!(text, ",{value}").expect("a String takes everything"),
            None => text.push(','),
        }
    }
    text.push('\n');
}

fn from_state(state: &RunState, names: &[String], text: &mut String) {
    let all = |name: &String| {
        let cells = state.series(name).map(|series| series.buckets(|step| step as f64, 0.0, f64::INFINITY, usize::MAX));
        extremes(&cells.unwrap_or_default())
    };
    let columns: Vec<Vec<(u64, f64)>> = names.iter().map(all).collect();
    let steps: BTreeSet<u64> = columns.iter().flatten().map(|point| point.0).collect();
    let mut at = vec![0; columns.len()];
    for step in steps {
        let (time, tokens) = (state.place(step, Over::Time), state.place(step, Over::Tokens).round());
        write!(text, "{step},{time},{tokens}").expect("a String takes everything");
        let values = columns.iter().zip(&mut at).map(|(column, at)| {
            let (_, value) = column.get(*at).filter(|point| point.0 == step)?;
            *at += 1;
            Some(*value)
        });
        row(text, values);
    }
}
