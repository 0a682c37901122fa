//! The rules that numbers have to keep, whatever the text and the machine are.

use super::{Config, ConfigError, Layers, ScheduleKind};
use crate::optimizer::KINDS;

impl Config {
    /// Whether all numbers make sense.
    ///
    /// # Errors
    /// With the first key that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, found: String, expected: &str| {
            Err(ConfigError { place: key.to_string(), reason: format!("found {found}, expected {expected}") })
        };
        let ends = [self.steps.is_some(), self.epochs.is_some(), self.time.is_some()];
        if ends.iter().filter(|&&given| given).count() > 1 {
            return wrong("steps", "more than one of steps, epochs and time".to_string(), "one");
        }
        for (key, value) in [
            ("steps", self.steps.map(|n| n as f64)),
            ("epochs", self.epochs),
            ("time", self.time),
            ("optimizer.learning_rate", self.optimizer.learning_rate),
            ("data.weight", Some(self.data.weight)),
            ("guard.spike_deviations", Some(self.guard.spike_deviations)),
            ("optimizer.eps", Some(self.optimizer.eps)),
            ("batch.window", self.batch.window.map(|n| n as f64)),
            ("batch.rows", self.batch.rows.map(|n| n as f64)),
            ("batch.micro_rows", self.batch.micro_rows.map(|n| n as f64)),
            ("tokenizer.vocab_size", self.tokenizer.vocab_size.map(|n| n as f64)),
            ("checkpoint.every", self.checkpoint.every.map(|n| n as f64)),
            ("checkpoint.keep", Some(self.checkpoint.keep as f64)),
            ("guard.most", Some(self.guard.most as f64)),
        ] {
            if let Some(value) = value.filter(|value| !(*value > 0.0 && value.is_finite())) {
                return wrong(key, value.to_string(), "a number above 0");
            }
        }
        for (key, value, least, most) in [
            ("steps", self.steps.unwrap_or(1) as f64, 1.0, 1e12),
            ("batch.window", self.batch.window.unwrap_or(1) as f64, 1.0, 1e7),
            ("batch.rows", self.batch.rows.unwrap_or(1) as f64, 1.0, 1e7),
            ("tokenizer.vocab_size", self.tokenizer.vocab_size.unwrap_or(256) as f64, 2.0, 1e7),
            ("data.held_out", self.data.held_out, 0.0, 0.9),
            ("data.workers", self.data.workers as f64, 0.0, 64.0),
            ("optimizer.weight_decay", self.optimizer.weight_decay, 0.0, 1e3),
            ("optimizer.betas", self.optimizer.betas[0], 0.0, 0.999_999),
            ("optimizer.betas", self.optimizer.betas[1], 0.0, 0.999_999_9),
            ("optimizer.momentum", self.optimizer.momentum, 0.0, 0.999_999),
            ("optimizer.clip", self.optimizer.clip, 0.0, f64::MAX),
            ("optimizer.ema", self.optimizer.ema, 0.0, 0.999_999_9),
            ("schedule.decay", self.schedule.decay, 0.0, 1.0),
            ("schedule.end", self.schedule.end, 0.0, 1.0),
            ("eval.min_delta", self.eval.min_delta, 0.0, f64::MAX),
            ("sample.temperature", self.sample.temperature, 0.0, 100.0),
            ("sample.tokens", self.sample.tokens as f64, 0.0, 1e6),
            ("model.dropout", self.model.dropout.unwrap_or(0.0), 0.0, 0.99),
        ] {
            if !(least..=most).contains(&value) {
                return wrong(key, value.to_string(), &format!("a number from {least} to {most}"));
            }
        }
        if let Some(loss) = self.until_loss.filter(|loss| !loss.is_finite() || *loss < 0.0) {
            return wrong("until_loss", loss.to_string(), "a number from 0 on");
        }
        if let Some(lora) = &self.lora {
            for (key, value, least, most) in [
                ("lora.rank", lora.rank as f64, 1.0, 65_536.0),
                ("lora.alpha", lora.alpha, f64::MIN_POSITIVE, 1e6),
                ("lora.dropout", lora.dropout, 0.0, 0.99),
            ] {
                if !(least..=most).contains(&value) {
                    return wrong(key, value.to_string(), &format!("a number from {least} to {most}"));
                }
            }
            if self.optimizer.ema > 0.0 {
                return wrong(
                    "optimizer.ema",
                    self.optimizer.ema.to_string(),
                    "0 with [lora], whose weights stay as they are",
                );
            }
        }
        if let Some(Layers::Word(word)) = &self.model.gradient_checkpointing
            && word != "all"
            && word != "none"
        {
            return wrong("model.gradient_checkpointing", format!("`{word}`"), "\"all\", \"none\" or a list of layers");
        }
        if self.model.preset.is_some() && self.model.spec.is_some() {
            return wrong("model.preset", "a preset and a spec".to_string(), "one of them");
        }
        if self.model.from.is_some() {
            for (key, given) in
                [("model.preset", self.model.preset.is_some()), ("model.spec", self.model.spec.is_some())]
            {
                if given {
                    let found = "another model beside model.from, which has its own".to_string();
                    return wrong(key, found, "one of them");
                }
            }
        }
        if self.data.held_out == 0.0 {
            for (key, given) in [
                ("until_loss", self.until_loss.is_some()),
                ("eval.patience", self.eval.patience > 0),
                ("schedule.kind", self.schedule.kind == ScheduleKind::Plateau),
            ] {
                if given {
                    let found = "what follows the held-out loss, with data.held_out = 0".to_string();
                    return wrong(key, found, "some text held out");
                }
            }
        }
        let (rows, micro) = (self.batch.rows, self.batch.micro_rows);
        if let (Some(rows), Some(micro)) = (rows, micro)
            && micro > rows
        {
            return wrong("batch.micro_rows", micro.to_string(), &format!("at most batch.rows = {rows}"));
        }
        for entry in &self.optimizer.no_decay {
            let known = KINDS.map(|(word, _)| word);
            // A name of a parameter has a point, a pattern a point or a star.
            if !known.contains(&entry.as_str()) && !entry.contains(['.', '*']) {
                return wrong(
                    "optimizer.no_decay",
                    format!("`{entry}`"),
                    &format!("{} or a pattern", known.join(", ")),
                );
            }
        }
        for source in &self.data.sources {
            if !(source.weight > 0.0 && source.weight.is_finite()) {
                return wrong("data.sources", format!("the weight {}", source.weight), "a number above 0");
            }
        }
        Ok(())
    }
}
