//! What a model makes of a text.

use cupola_data::{Batch, Dataset, loader};
use cupola_models::Decoder;
use cupola_nn::evaluate;
use cupola_tensor::{DType, Segments, Tensor, mode};

use crate::config::Compute;
use crate::error::Result;

/// A sum of losses and what it was summed over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// The sum of the negative logarithms of the probabilities, in nats.
    pub nats: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Bytes of text, when known.
    pub bytes: Option<u64>,
}

impl Score {
    /// Nats a token.
    pub fn loss(&self) -> f64 {
        self.nats / self.tokens.max(1) as f64
    }

    /// Bits a byte of text.
    pub fn bits_per_byte(&self) -> Option<f64> {
        self.bytes.filter(|&bytes| bytes > 0).map(|bytes| self.nats / std::f64::consts::LN_2 / bytes as f64)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            nats: self.nats + other.nats,
            tokens: self.tokens + other.tokens,
            bytes: self.bytes.zip(other.bytes).map(|(a, b)| a + b),
        }
    }
}

/// Tokens, targets and segments of a batch as the model takes them.
pub(crate) fn tensors(tokens: &[i64], targets: &[i64], lengths: &[usize]) -> (Tensor, Tensor, Segments) {
    let count = tokens.len();
    (Tensor::from_slice(tokens, [count]), Tensor::from_slice(targets, [count]), Segments::from_lengths(lengths))
}

/// Runs `body` with products in this type.
pub(crate) fn computing<R>(dtype: Compute, body: impl FnOnce() -> R) -> R {
    match dtype {
        Compute::F32 => body(),
        Compute::Bf16 => mode::autocast(DType::BF16, body),
    }
}

/// The score of one batch.
pub fn batch(model: &Decoder, dtype: Compute, batch: &Batch) -> Score {
    let (tokens, targets, segments) = tensors(&batch.tokens, &batch.targets, &batch.lengths);
    let learnt = batch.learnt() as u64;
    if learnt == 0 {
        return Score::default();
    }
    let nats = evaluate(|| computing(dtype, || model.loss_sum(&tokens, &targets, &segments).item()));
    Score { nats, tokens: learnt, bytes: None }
}

/// The score of a whole dataset, in windows that do not overlap, `rows` of them at a time.
///
/// # Errors
/// When a shard has an id that is not in the vocabulary.
pub fn dataset(model: &Decoder, dtype: Compute, data: &Dataset, window: usize, rows: usize) -> Result<Score> {
    let mut score = Score { bytes: Some(0), ..Score::default() };
    for part in loader::windows(data, window, rows) {
        score = Score { bytes: Some(0), ..self::batch(model, dtype, &part?) }.plus(score);
    }
    Ok(Score { bytes: data.text_bytes(), ..score })
}
