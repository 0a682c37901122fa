//! One step, from a batch to changed parameters.

use std::time::Instant;

use cupola_data::Batch;
use cupola_io::run::{Record, Step};
use cupola_models::Decoder;
use cupola_nn::{Module, training};
use cupola_tensor::autograd::clip::clip_factor;
use cupola_tensor::{Gradients, Tensor};

use super::look::{Look, Seen};
use super::{Trainer, Watch};
use crate::checkpoint;
use crate::config::{Config, Policy};
use crate::error::{Error, Result};
use crate::evaluate::{computing, tensors};
use crate::guard::Trouble;

impl Trainer {
    /// Trains on the next batch.
    pub(super) fn one_step(&mut self, watch: &mut dyn Watch) -> Result<()> {
        let began = Instant::now();
        let batch = self.loader.next_batch()?;
        let (mut loss, mut grads) = gradients(&mut self.model, &batch, &self.config, self.step);
        watch.gradients(self.step + 1, &mut self.model, &mut loss, &mut grads);
        let norm = grads.norm();
        let before = self.guard;
        if let Some((trouble, policy)) = self.guard.judge(loss, norm, &self.config.guard) {
            return self.intervene(watch, &trouble, policy, loss, norm, &grads);
        }
        if before.in_a_row > 0 {
            self.event(watch, "recovered", format!("after {} steps the loss is {loss:.4}", before.in_a_row))?;
        }
        let lr = self.schedule.at(self.step);
        self.optimizer.set_lr(lr);
        let clip = self.config.optimizer.clip;
        let scale = if clip > 0.0 { clip_factor(norm, clip) } else { 1.0 };
        let every = self.config.metrics.histograms_every.unwrap_or(0);
        let look = (every > 0 && (self.step + 1).is_multiple_of(every)).then(|| Look::before(&self.model, &grads));
        self.optimizer.step(&mut self.model, &grads, scale);
        let seen = look.map(|look| look.after(&self.model, self.step + 1));
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model);
        }
        drop(grads);
        self.step += 1;
        self.tokens += batch.tokens.len() as u64;
        self.last_loss = Some(loss);
        let seconds = began.elapsed().as_secs_f64().max(1e-9);
        let rate = batch.tokens.len() as f64 / seconds;
        let mut record = Step::new(self.step).time(self.seconds()).tokens(self.tokens);
        let mut values = vec![("loss", loss), ("lr", lr), ("grad_norm", norm), ("tokens_per_s", rate)];
        values.push(("mfu", rate * self.flops.0 / self.flops.1));
        values.push(("memory_mb", cupola_core::alloc::stats().reserved as f64 / (1 << 20) as f64));
        if let Some(bytes) = self.bytes_per_token {
            values.push(("bits_per_byte", loss / std::f64::consts::LN_2 / bytes));
        }
        let Seen { ratios, histograms } = seen.unwrap_or_default();
        values.extend(ratios.iter().map(|(name, ratio)| (name.as_str(), *ratio)));
        for &(name, value) in &values {
            record = record.with(name, value);
        }
        self.events.scalars(self.step, values)?;
        self.record(watch, Record::Step(record))?;
        histograms.into_iter().try_for_each(|histogram| self.record(watch, histogram.into()))
    }

    /// Follows the policy for a step that went wrong. The optimiser has not seen its gradients.
    fn intervene(
        &mut self,
        watch: &mut dyn Watch,
        trouble: &Trouble,
        policy: Policy,
        loss: f64,
        norm: f64,
        grads: &Gradients,
    ) -> Result<()> {
        let at = self.step + 1;
        let (name, what) = match trouble {
            Trouble::NotFinite => ("nan", format!("loss {loss}, gradient norm {norm}; {}", self.culprit(grads))),
            Trouble::Spike => ("spike", format!("the loss is {loss:.4}, far above what it was")),
        };
        let most = self.config.guard.most;
        let why = if policy == Policy::Stop {
            Some(String::new())
        } else if self.guard.in_a_row > most {
            Some(format!(", {most} times in a row"))
        } else if policy == Policy::Rewind && self.rewound.1 >= most {
            let (to, times) = self.rewound;
            Some(format!(", after {times} returns to step {to}"))
        } else {
            None
        };
        if let Some(why) = why {
            let message = format!("step {at}: {what}{why}");
            self.event(watch, name, message.clone())?;
            return Err(Error::Diverged(message));
        }
        if policy == Policy::Rewind
            && let Some(message) = self.rewind(&what, at)?
        {
            return self.event(watch, name, message);
        }
        // The step's batch is passed over; its number is used up, as that of an ordinary step.
        self.step += 1;
        self.event(watch, name, format!("step {at}: {what}; its update is left out"))
    }

    /// Goes back to the last whole checkpoint, and keeps the place in the data, so that the batches since then are passed over.
    fn rewind(&mut self, what: &str, at: u64) -> Result<Option<String>> {
        self.keeper.wait()?;
        let mut loaded = match checkpoint::newest(&self.run, self.model.spec(), self.adapter.as_ref()) {
            Ok((Some(loaded), _)) => loaded,
            Ok((None, _)) => return Ok(None),
            Err(error @ Error::Refused(_)) => return Err(error),
            // The run itself is whole, and writes new ones.
            Err(_) => return Ok(None),
        };
        let step = loaded.state.step;
        // Good steps between one return and the next are no progress until there is a checkpoint behind them.
        self.rewound = if self.rewound.0 == step { (step, self.rewound.1 + 1) } else { (step, 1) };
        let folder = self.run.checkpoint_path(step);
        self.model = loaded.model.clone();
        super::prepare_model(&mut self.model, &self.config)?;
        checkpoint::restore_optimizer(&mut self.optimizer, &mut loaded, &folder)?;
        if let (Some(average), true) = (loaded.ema.take(), self.config.optimizer.ema > 0.0) {
            self.ema = Some(checkpoint::average(average, self.config.optimizer.ema));
        }
        self.schedule = loaded.state.schedule;
        self.tokens = loaded.state.tokens;
        let in_a_row = self.guard.in_a_row;
        self.guard = loaded.state.guard;
        self.guard.in_a_row = in_a_row;
        self.step = step;
        Ok(Some(format!("step {at}: {what}; back to step {step}, passing over the batches since then")))
    }

    /// The first weight or gradient that is not finite.
    fn culprit(&self, grads: &Gradients) -> String {
        let infinite = |x: &Tensor| x.to_f64_vec().iter().any(|value| !value.is_finite());
        let all = self.model.named_parameters();
        for (name, param) in &all {
            if param.value().is_some_and(infinite) {
                return format!("the weight `{name}` is not finite");
            }
        }
        for (name, param) in &all {
            let grad = param.value().and_then(Tensor::leaf_id).and_then(|id| grads.get_id(id));
            if grad.is_some_and(infinite) {
                return format!("the first gradient that is not finite is that of `{name}`");
            }
        }
        "all weights and gradients are finite".to_string()
    }
}

/// The mean loss of a batch, and its gradients, added up over micro-batches.
pub(crate) fn gradients(model: &mut Decoder, batch: &Batch, config: &Config, step: u64) -> (f64, Gradients) {
    let learnt = batch.learnt().max(1) as f64;
    let rows = batch.rows.len();
    let micro_rows = config.batch.micro_rows.unwrap_or(rows).clamp(1, rows.max(1));
    let mut grads = Gradients::new();
    let mut loss = 0.0;
    let scope = training(config.seed, step);
    for first in (0..rows).step_by(micro_rows) {
        let part = batch.micro(first..(first + micro_rows).min(rows));
        let own = part.targets.iter().filter(|&&target| target != cupola_data::IGNORE).count();
        if own == 0 {
            continue;
        }
        scope.micro_batch(if first == 0 { 0 } else { batch.rows[first - 1].0 as u64 });
        let (tokens, targets, segments) = tensors(part.tokens, part.targets, part.lengths);
        let sum = computing(config.dtype, || model.loss_sum(&tokens, &targets, &segments));
        loss += sum.item() / learnt;
        let mut total = sum.affine(1.0 / learnt, 0.0);
        for (_, auxiliary) in scope.auxiliary_losses() {
            total = total + auxiliary.affine(own as f64 / learnt, 0.0);
        }
        total.backward_into(&mut grads);
    }
    grads.settle();
    scope.finish(model);
    (loss, grads)
}
