//! Evaluation, samples, and how fast the machine is.

use std::time::{Duration, Instant};

use cupola_io::run::{Eval, Record, Sample};
use cupola_models::{Generator, SamplerConfig};
use cupola_tensor::{Rng, Tensor, no_grad};

use super::{Trainer, Watch};
use crate::checkpoint::Best;
use crate::config::Compute;
use crate::error::{Error, Result};
use crate::evaluate::{self, Score, computing};

/// Tokens of the held-out text that samples go on from when there are no prompts.
const PROMPT: usize = 16;

impl Trainer {
    /// Measures the held-out text, all of it. Returns whether the loss is the lowest so far.
    pub(super) fn evaluate(&mut self, watch: &mut dyn Watch) -> Result<bool> {
        self.swap_average()?;
        let window = self.config.batch.window.unwrap_or(1);
        let rows = self.config.batch.micro_rows.unwrap_or(1);
        let scores =
            self.held_out.iter().map(|data| evaluate::dataset(&self.model, self.config.dtype, data, window, rows));
        let scores: Result<Vec<Score>> = scores.collect();
        self.swap_average()?;
        let score = scores?.into_iter().reduce(Score::plus).unwrap_or_default();
        let (loss, bits) = (score.loss(), score.bits_per_byte());
        self.last_score = Some((loss, bits));
        let lowest = self.best.map_or(f64::INFINITY, |best| best.loss);
        let better = loss < lowest - self.config.eval.min_delta;
        if better {
            self.best = Some(Best { loss, step: self.step });
            self.stale = 0;
        } else {
            self.stale += 1;
        }
        if loss.is_finite() {
            self.schedule.observe(loss);
        }
        let mut values = vec![("val_loss", loss)];
        values.extend(bits.map(|bits| ("val_bits_per_byte", bits)));
        self.events.scalars(self.step, values.clone())?;
        let values = values.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        let eval = Eval { step: self.step, time: self.seconds(), values };
        self.record(watch, Record::Eval(eval))?;
        Ok(better)
    }

    /// Exchanges the weights and their average, where there is one.
    fn swap_average(&mut self) -> Result<()> {
        match &mut self.ema {
            Some(ema) => ema.swap(&mut self.model).map_err(|error| Error::Refused(error.to_string())),
            None => Ok(()),
        }
    }

    /// Has the model write.
    pub(super) fn sample(&mut self, watch: &mut dyn Watch) -> Result<()> {
        if self.config.sample.tokens == 0 {
            return Ok(());
        }
        let wrong = |source| Error::Tokenizer { place: "sample".to_string(), source };
        let mut prompts = Vec::new();
        for prompt in &self.config.sample.prompts {
            prompts.push((prompt.clone(), self.tokenizer.encode(prompt).map_err(wrong)?));
        }
        if prompts.is_empty()
            && let Some(data) = self.held_out.first()
            && let Some(batch) = cupola_data::loader::windows(data, PROMPT, 1).next()
        {
            let special = |id: &u32| self.tokenizer.is_special(*id);
            let ids: Vec<u32> = batch?.tokens.iter().map(|&id| id as u32).skip_while(special).collect();
            prompts.push((self.tokenizer.decode_lossy(&ids).map_err(wrong)?, ids));
        }
        self.swap_average()?;
        let mut samples = Vec::new();
        for (prompt, ids) in prompts {
            let (temperature, seed) = (self.config.sample.temperature, self.config.seed);
            let config = SamplerConfig { temperature, seed, ..SamplerConfig::default() };
            let stop: Vec<u32> = self.tokenizer.eos().into_iter().collect();
            let written = Generator::new(&self.model, &ids, config).limit(self.config.sample.tokens).stop_at(&stop);
            let mut text = self.tokenizer.stream_decoder();
            // The prompt goes first, so that what is written joins on as it would in one text.
            text.push_all(&ids).map_err(wrong)?;
            let mut out = String::new();
            for id in written.filter(|id| !stop.contains(id)) {
                // A token that the tokenizer has no text for (rows added for round numbers) writes nothing.
                out.push_str(&text.push(id).unwrap_or_default());
            }
            out.push_str(&text.finish());
            samples.push(Sample { step: self.step, prompt, text: out });
        }
        self.swap_average()?;
        samples.into_iter().try_for_each(|sample| self.record(watch, Record::Sample(sample)))
    }
}

/// Floating-point operations that this machine does in a second in a large product: the best of a few.
pub(super) fn machine_flops(dtype: Compute) -> f64 {
    const SIZE: usize = 512;
    let a = Tensor::randn([SIZE, SIZE], Rng::seed(1));
    let b = Tensor::randn([SIZE, SIZE], Rng::seed(2));
    let mut best = Duration::MAX;
    no_grad(|| {
        computing(dtype, || {
            for _ in 0..4 {
                let began = Instant::now();
                std::hint::black_box(a.matmul(&b));
                best = best.min(began.elapsed());
            }
        });
    });
    2.0 * (SIZE * SIZE * SIZE) as f64 / best.as_secs_f64().max(1e-9)
}
