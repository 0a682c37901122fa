//! One call of the model for the tokens of many sequences.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cupola_models::state::Mark;
use cupola_models::{Decoder, State};
use cupola_tensor::{DType, Segments, Tensor, no_grad};

/// Which rows of a sequence's part of a step are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// None: there is more of the prompt to come.
    None,
    /// Logits behind the last token.
    Last,
    /// Logits behind every token.
    All,
    /// Hidden values of every token.
    Hidden,
}

/// A sequence's part of a step.
pub(super) struct Part<'a> {
    pub(super) tokens: &'a [u32],
    pub(super) state: &'a mut State,
    pub(super) rows: Rows,
}

/// What a part comes to: rows one after the other, or why it failed.
pub(super) type Outcome = Result<Vec<f32>, String>;

/// A call that may be made to panic, for tests.
pub(super) type Fault = fn(&[u32]);

/// Runs the model over all parts. When a call panics, the states go back to where they were, and it is repeated with each half of the
/// parts, so that only the part that panics alone fails.
pub(super) fn run(model: &Decoder, parts: &mut [Part<'_>], fault: Option<Fault>, panics: &mut usize) -> Vec<Outcome> {
    if parts.is_empty() {
        return Vec::new();
    }
    let marks: Vec<Mark> = parts.iter().map(|part| part.state.mark()).collect();
    match catch_unwind(AssertUnwindSafe(|| no_grad(|| call(model, parts, fault)))) {
        Ok(rows) => rows.into_iter().map(Ok).collect(),
        Err(panic) => {
            *panics += 1;
            parts.iter_mut().zip(&marks).for_each(|(part, mark)| part.state.rewind(mark));
            if parts.len() == 1 {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text =
                    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
                return vec![Err(text.to_owned())];
            }
            let (first, second) = parts.split_at_mut(parts.len() / 2);
            let mut outcomes = run(model, first, fault, panics);
            outcomes.extend(run(model, second, fault, panics));
            outcomes
        }
    }
}

fn call(model: &Decoder, parts: &mut [Part<'_>], fault: Option<Fault>) -> Vec<Vec<f32>> {
    let tokens: Vec<i64> = parts.iter().flat_map(|part| part.tokens.iter().map(|&id| i64::from(id))).collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.tokens.len()).collect();
    let segments = Segments::from_lengths(&lengths);
    let count = tokens.len();
    let mut states: Vec<&mut State> = parts.iter_mut().map(|part| &mut *part.state).collect();
    let hidden = model.hidden(&Tensor::from_vec(tokens, [count]), &segments, Some(&mut states));
    if let Some(fault) = fault {
        parts.iter().for_each(|part| fault(part.tokens));
    }
    let wanted: Vec<i64> = parts
        .iter()
        .zip(segments.iter())
        .flat_map(|(part, range)| match part.rows {
            Rows::None | Rows::Hidden => 0..0,
            Rows::Last => range.end as i64 - 1..range.end as i64,
            Rows::All => range.start as i64..range.end as i64,
        })
        .collect();
    let rows = wanted.len();
    let (logits, width) = if rows == 0 {
        (Vec::new(), 0)
    } else {
        let picked =
            if rows == count { hidden.clone() } else { hidden.index_select(0, &Tensor::from_vec(wanted, [rows])) };
        let logits = model.logits(&picked);
        let width = logits.dim(1);
        (logits.to_dtype(DType::F32).to_vec::<f32>(), width)
    };
    let mut left = &logits[..];
    parts
        .iter()
        .zip(segments.iter())
        .map(|(part, range)| {
            let rows = match part.rows {
                Rows::None => return Vec::new(),
                Rows::Hidden => {
                    return hidden.narrow(0, range.start, range.len()).to_dtype(DType::F32).to_vec::<f32>();
                }
                Rows::Last => 1,
                Rows::All => range.len(),
            };
            let (own, rest) = left.split_at(rows * width);
            left = rest;
            own.to_vec()
        })
        .collect()
}
