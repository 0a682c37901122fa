//! Training, prefill, decoding.

use crate::exit::Failure;
use cupola_core::Rng;
use cupola_models::{Decoder, State};
use cupola_nn::{Module, training};
use cupola_tensor::autograd::clip::clip_factor;
use cupola_tensor::{DType as Elements, Segments, Tensor, mode, no_grad};
use cupola_train::optimizer::Optimizer;

use super::works::{self, Definition, Work};
use super::{Line, Options};
use crate::commands::train::DType;

/// Runs `body` with products in the type asked for.
fn computing<R>(options: &Options, body: impl FnOnce() -> R) -> R {
    match options.dtype {
        DType::F32 => body(),
        DType::Bf16 => mode::autocast(Elements::BF16, body),
    }
}

/// What a step of training needs, as the work defines it.
pub(super) struct Steps<'a> {
    options: &'a Options,
    work: Work,
    definition: Definition,
    model: Decoder,
    optimizer: Optimizer,
    step: u64,
}

impl<'a> Steps<'a> {
    pub(super) fn new(options: &'a Options, work: Work) -> anyhow::Result<Self> {
        if work == Work::Infer110m {
            let text = "infer110m is not trained; it is a work of decode and prefill".to_string();
            return Err(Failure::Usage(text).into());
        }
        let definition = work.definition()?;
        let model = Decoder::new(&definition.spec).init(1);
        let optimizer = Optimizer::new(&works::adamw(), works::RATE, &model);
        Ok(Self { options, work, definition, model, optimizer, step: 0 })
    }

    /// Tokens of a step.
    pub(super) fn tokens(&self) -> usize {
        self.definition.rows * self.definition.window
    }

    /// A random batch, forward, mean cross-entropy, backward, clipping, AdamW on every parameter, the loss read back.
    pub(super) fn one(&mut self) {
        let Definition { spec, rows, window } = &self.definition;
        let segments = Segments::uniform(*rows, *window);
        let (step, count) = (self.step, rows * window);
        let draw =
            |purpose: u64| Tensor::randint(0, spec.vocab_size as i64, [count], Rng::seed(1).stream(&[step, purpose]));
        let (tokens, targets) = (draw(0), draw(1));
        let scope = training(1, step);
        let loss = computing(self.options, || self.model.loss_sum(&tokens, &targets, &segments));
        let loss = loss.affine(1.0 / count as f64, 0.0);
        std::hint::black_box(loss.item());
        let grads = loss.backward();
        scope.finish(&mut self.model);
        let clip = self.work.clip();
        let scale = if clip > 0.0 { clip_factor(grads.norm(), clip) } else { 1.0 };
        self.optimizer.step(&mut self.model, &grads, scale);
        self.step += 1;
    }
}

/// Steps as the work defines them.
pub(super) fn train(options: &Options) -> anyhow::Result<()> {
    let work = options.work.unwrap_or(Work::Nano);
    let mut steps = Steps::new(options, work)?;
    let seconds = options.median(|| steps.one());
    let rate = steps.tokens() as f64 / seconds;
    options.print(&Line { bench: "train", config: work.name(), rate: ("tokens_per_s", rate) })
}

/// One token after the other from an empty context, 128 of them.
pub(super) fn decode(options: &Options) -> anyhow::Result<()> {
    const TOKENS: usize = 128;
    let work = options.work.unwrap_or(Work::Infer110m);
    let Definition { spec, .. } = work.definition()?;
    let tokens = TOKENS.min(spec.max_position_embeddings);
    let model = Decoder::new(&spec).init(1);
    let seconds = options.median(|| {
        let mut state: State = model.state();
        let mut next = 1i64;
        no_grad(|| {
            computing(options, || {
                for _ in 0..tokens {
                    let token = Tensor::from_vec(vec![next], [1]);
                    let logits = model.forward(&token, &Segments::one(1), Some(&mut [&mut state]));
                    let logits = logits.to_dtype(Elements::F32).to_vec::<f32>();
                    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
                    next = best.unwrap_or(0) as i64;
                }
            });
        });
    });
    options.print(&Line { bench: "decode", config: work.name(), rate: ("tokens_per_s", tokens as f64 / seconds) })
}

/// A prompt of 512 tokens at once, the logits of the last one.
pub(super) fn prefill(options: &Options) -> anyhow::Result<()> {
    const TOKENS: usize = 512;
    let work = options.work.unwrap_or(Work::Infer110m);
    let Definition { spec, .. } = work.definition()?;
    let tokens = TOKENS.min(spec.max_position_embeddings);
    let model = Decoder::new(&spec).init(1);
    let prompt = Tensor::randint(0, spec.vocab_size as i64, [tokens], Rng::seed(2));
    let seconds = options.median(|| {
        no_grad(|| {
            computing(options, || {
                let mut state = model.state();
                let hidden = model.hidden(&prompt, &Segments::one(tokens), Some(&mut [&mut state]));
                std::hint::black_box(model.logits(&hidden.narrow(0, tokens - 1, 1)));
            });
        });
    });
    options.print(&Line { bench: "prefill", config: work.name(), rate: ("tokens_per_s", tokens as f64 / seconds) })
}
