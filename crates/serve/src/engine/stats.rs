//! Numbers about the engine's work, readable at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that many threads may read.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// Replaces.
    pub fn set(&self, n: usize) {
        self.0.store(n as u64, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a histogram's buckets, in seconds.
pub const BOUNDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// How durations are spread.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Number; BOUNDS.len()],
    count: Number,
    micros: Number,
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&self, time: Duration) {
        if let Some(bucket) = BOUNDS.iter().position(|&bound| time.as_secs_f64() <= bound) {
            self.buckets[bucket].add(1);
        }
        self.count.add(1);
        self.micros.add(usize::try_from(time.as_micros()).unwrap_or(usize::MAX));
    }

    /// Writes it in Prometheus's words, of one model.
    fn write(&self, name: &str, model: &str, out: &mut String) {
        let mut sum = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            sum += bucket.get();
            out.push_str(&format!("{name}_bucket{{model=\"{model}\",le=\"{bound}\"}} {sum}\n"));
        }
        let count = self.count.get().max(sum);
        out.push_str(&format!("{name}_bucket{{model=\"{model}\",le=\"+Inf\"}} {count}\n"));
        let seconds = self.micros.get() as f64 / 1e6;
        out.push_str(&format!(
            "{name}_sum{{model=\"{model}\"}} {seconds}\n{name}_count{{model=\"{model}\"}} {count}\n"
        ));
    }
}

/// What engines count.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests that wait.
    pub waiting: Number,
    /// Sequences that are worked on.
    pub running: Number,
    /// Bytes of the states of sequences, of what they share included.
    pub state_bytes: Number,
    /// Bytes of the states of prompts read before.
    pub prefix_bytes: Number,
    /// Pages of keys and values in use, those that several hold counted once.
    pub pages_used: Number,
    /// Pages that there is room for beside them.
    pub pages_free: Number,
    /// Requests refused because too many waited.
    pub refused: Number,
    /// Requests whose reader went away.
    pub abandoned: Number,
    /// Sequences put aside for want of memory.
    pub preempted: Number,
    /// Panics caught in steps.
    pub panics: Number,
    /// Calls of the model.
    pub steps: Number,
    /// Tokens of prompts.
    pub prompt_tokens: Number,
    /// Tokens of prompts that had been read before.
    pub cached_tokens: Number,
    /// Tokens generated.
    pub generated_tokens: Number,
    /// Tokens guessed.
    pub guessed_tokens: Number,
    /// Guesses that were right.
    pub accepted_tokens: Number,
    /// From arrival to the first token.
    pub first_token: Histogram,
    /// Between tokens.
    pub token_gap: Histogram,
    /// From arrival to the first step.
    pub queued: Histogram,
}

impl Stats {
    /// The engine has ended: nothing is in use any more. What was counted stays.
    pub(crate) fn end(&self) {
        for (kind, _, _, value) in LINES {
            if kind == "gauge" {
                value(self).set(0);
            }
        }
    }
}

/// A number of the statistics: its kind, name, help, and where it is.
type Line = (&'static str, &'static str, &'static str, fn(&Stats) -> &Number);
/// A histogram: its name, help, and where it is.
type Spread = (&'static str, &'static str, fn(&Stats) -> &Histogram);

const LINES: [Line; 16] = [
    ("gauge", "requests_waiting", "Requests that wait.", |s| &s.waiting),
    ("gauge", "sequences_running", "Sequences that are worked on.", |s| &s.running),
    ("gauge", "state_bytes", "Bytes of the states of sequences.", |s| &s.state_bytes),
    ("gauge", "prefix_bytes", "Bytes of the states of prompts read before.", |s| &s.prefix_bytes),
    ("gauge", "pages_used", "Pages of keys and values in use.", |s| &s.pages_used),
    ("gauge", "pages_free", "Pages of keys and values that there is room for.", |s| &s.pages_free),
    ("counter", "requests_refused_total", "Requests refused because too many waited.", |s| &s.refused),
    ("counter", "requests_abandoned_total", "Requests whose reader went away.", |s| &s.abandoned),
    ("counter", "preemptions_total", "Sequences put aside for want of memory.", |s| &s.preempted),
    ("counter", "step_panics_total", "Panics caught in steps.", |s| &s.panics),
    ("counter", "steps_total", "Calls of the model.", |s| &s.steps),
    ("counter", "prompt_tokens_total", "Tokens of prompts that were read.", |s| &s.prompt_tokens),
    ("counter", "cached_tokens_total", "Tokens of prompts that had been read before.", |s| &s.cached_tokens),
    ("counter", "generated_tokens_total", "Tokens generated.", |s| &s.generated_tokens),
    ("counter", "guessed_tokens_total", "Tokens guessed ahead.", |s| &s.guessed_tokens),
    ("counter", "accepted_tokens_total", "Guesses that were right.", |s| &s.accepted_tokens),
];
const SPREADS: [Spread; 3] = [
    ("queue_seconds", "From arrival to the first step.", |s| &s.queued),
    ("time_to_first_token_seconds", "From arrival to the first token.", |s| &s.first_token),
    ("time_between_tokens_seconds", "Between two tokens of an answer.", |s| &s.token_gap),
];

/// Writes the numbers of all models in Prometheus's words.
pub fn write(models: &[(String, Arc<Stats>)], out: &mut String) {
    // A label's value is quoted as JSON quotes, but for escapes that names of directories rarely need.
    let label = |name: &str| name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    for (kind, name, help, value) in LINES {
        out.push_str(&format!("# HELP cupola_{name} {help}\n# TYPE cupola_{name} {kind}\n"));
        for (model, stats) in models {
            out.push_str(&format!("cupola_{name}{{model=\"{}\"}} {}\n", label(model), value(stats).get()));
        }
    }
    for (name, help, histogram) in SPREADS {
        out.push_str(&format!("# HELP cupola_{name} {help}\n# TYPE cupola_{name} histogram\n"));
        for (model, stats) in models {
            histogram(stats).write(&format!("cupola_{name}"), &label(model), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_what_is_at_most_their_bound() {
        let stats = Stats::default();
        for ms in [1, 3, 200, 90_000] {
            stats.queued.record(Duration::from_millis(ms));
        }
        stats.steps.add(3);
        let mut text = String::new();
        write(&[("a\"b".into(), Arc::new(stats))], &mut text);
        for line in [
            "cupola_steps_total{model=\"a\\\"b\"} 3",
            "cupola_queue_seconds_bucket{model=\"a\\\"b\",le=\"0.001\"} 1",
            "cupola_queue_seconds_bucket{model=\"a\\\"b\",le=\"0.25\"} 3",
            "cupola_queue_seconds_bucket{model=\"a\\\"b\",le=\"60\"} 3",
            "cupola_queue_seconds_bucket{model=\"a\\\"b\",le=\"+Inf\"} 4",
            "cupola_queue_seconds_sum{model=\"a\\\"b\"} 90.204",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }
}
