//! From logits to tokens.

mod sampler;

use cupola_tensor::{Segments, Tensor, no_grad};

pub use sampler::{Sampler, SamplerConfig};

use crate::decoder::Decoder;
use crate::state::State;

/// How many tokens of a prompt are read at a time, so that memory does not grow with its length.
const CHUNK: usize = 512;

/// Writes one token after the other: an iterator that ends after a token of `stop`, after `limit` tokens, or when the model's
/// context is full. A model whose positions do not end ([`ModelSpec::longest`](crate::ModelSpec::longest)) has no such context and
/// goes on.
///
/// ```
/// use cupola_models::{Decoder, Generator, ModelSpec, SamplerConfig};
/// use cupola_nn::Module;
/// let model = Decoder::new(&ModelSpec::preset("llama-nano", 65)?).init(0);
/// let config = SamplerConfig { temperature: 0.8, seed: 3, ..SamplerConfig::default() };
/// let tokens: Vec<u32> = Generator::new(&model, &[1, 2, 3], config).limit(5).collect();
/// assert_eq!(tokens.len(), 5);
/// # Ok::<(), cupola_models::SpecError>(())
/// ```
pub struct Generator<'a> {
    model: &'a Decoder,
    state: State,
    sampler: Sampler,
    /// The prompt and what was written.
    history: Vec<u32>,
    /// How much of the history the state has read.
    read: usize,
    left: usize,
    stop: Vec<u32>,
}

impl<'a> Generator<'a> {
    /// Goes on after this prompt. An empty prompt has nothing to go on from: the iterator ends at once.
    pub fn new(model: &'a Decoder, prompt: &[u32], config: SamplerConfig) -> Self {
        Self {
            model,
            state: model.state(),
            sampler: Sampler::new(config),
            history: prompt.to_vec(),
            read: 0,
            left: usize::MAX,
            stop: Vec::new(),
        }
    }

    /// Ends after this many tokens.
    #[must_use]
    pub fn limit(self, tokens: usize) -> Self {
        Self { left: tokens, ..self }
    }

    /// Ends after one of these tokens, which is returned.
    #[must_use]
    pub fn stop_at(self, tokens: &[u32]) -> Self {
        Self { stop: tokens.to_vec(), ..self }
    }

    /// The logits behind the last token of the history.
    fn logits(&mut self) -> Vec<f32> {
        no_grad(|| {
            let mut last = None;
            while self.read < self.history.len() {
                let end = self.history.len().min(self.read + CHUNK);
                let chunk: Vec<i64> = self.history[self.read..end].iter().map(|&id| i64::from(id)).collect();
                let count = chunk.len();
                let tokens = Tensor::from_vec(chunk, [count]);
                let hidden = self.model.hidden(&tokens, &Segments::one(count), Some(&mut [&mut self.state]));
                last = Some(hidden.narrow(0, count - 1, 1));
                self.read = end;
            }
            let last = last.expect("there is a token that was not read: the prompt's last or the one just written");
            self.model.logits(&last).to_dtype(cupola_tensor::DType::F32).to_vec::<f32>()
        })
    }
}

impl Iterator for Generator<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let full = self.model.spec().longest().is_some_and(|longest| self.history.len() > longest);
        if self.left == 0 || full || self.history.is_empty() {
            return None;
        }
        let mut logits = self.logits();
        let token = self.sampler.next(&mut logits, &self.history);
        self.history.push(token);
        self.left = if self.stop.contains(&token) { 0 } else { self.left - 1 };
        Some(token)
    }
}
