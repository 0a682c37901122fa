//! From logits to a token and its probabilities.

use std::collections::HashSet;

use cupola_models::{Sampler, SamplerConfig};

use super::job::Score;
use crate::api::Sampling;

/// Picks the tokens of one answer.
#[derive(Clone)]
pub(super) struct Chooser {
    sampler: Sampler,
    repetition_penalty: f64,
    /// Tokens that occurred, when these are to be made less likely.
    occurred: HashSet<u32>,
}

impl Chooser {
    /// For the answer number `choice` to a prompt.
    pub(super) fn new(sampling: &Sampling, seed: u64, choice: usize, prompt: &[u32]) -> Self {
        // An odd number, so that the answers of one request have different seeds, and those of the next seed others.
        let seed = seed.wrapping_add((choice as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let config = SamplerConfig {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            typical_p: sampling.typical_p,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            logit_bias: sampling.logit_bias.clone(),
            seed,
            ..SamplerConfig::default()
        };
        let repetition_penalty = sampling.repetition_penalty;
        let occurred = if repetition_penalty == 1.0 { HashSet::new() } else { prompt.iter().copied().collect() };
        Self { sampler: Sampler::new(config), repetition_penalty, occurred }
    }

    /// The next token, after those generated so far.
    pub(super) fn next(&mut self, logits: &mut [f32], generated: &[u32]) -> u32 {
        if self.repetition_penalty != 1.0 {
            self.occurred.extend(generated.last());
            for &token in &self.occurred {
                if let Some(logit) = logits.get_mut(token as usize) {
                    let value = f64::from(*logit);
                    let penalty = self.repetition_penalty;
                    *logit = (if value > 0.0 { value / penalty } else { value * penalty }) as f32;
                }
            }
        }
        self.sampler.next(logits, generated)
    }

    /// True when the likeliest token is always taken and nothing but the logits decides.
    pub(super) fn greedy(&self) -> bool {
        self.sampler.config().temperature == 0.0
    }
}

/// The token's log-probability in this row, and the likeliest `top` tokens.
pub(super) fn score(logits: &[f32], token: u32, top: usize) -> Score {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
    let norm = f64::from(largest) + sum.ln();
    let logprob = |id: u32| (f64::from(logits[id as usize]) - norm) as f32;
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let before = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let top = top.min(order.len());
    if top > 0 && top < order.len() {
        order.select_nth_unstable_by(top - 1, before);
    }
    order.truncate(top);
    order.sort_unstable_by(before);
    Score { logprob: logprob(token), top: order.into_iter().map(|id| (id, logprob(id))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_logarithms_of_the_softmax() {
        let logits = [0.0f32, 2.0, 1.0, 2.0];
        let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        let found = score(&logits, 2, 2);
        assert!((f64::from(found.logprob) - (1.0 - total.ln())).abs() < 1e-6);
        assert_eq!(found.top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(score(&logits, 0, 0).top, []);
        assert_eq!(score(&logits, 0, 9).top.len(), 4);
    }

    #[test]
    fn repetition_counts_the_prompt_and_the_other_penalties_do_not() {
        let logits = || vec![0.0f32, 2.0, 1.5];
        let next = |sampling: Sampling, generated: &[u32]| {
            let sampling = Sampling { temperature: 0.0, ..sampling };
            Chooser::new(&sampling, 0, 0, &[1]).next(&mut logits(), generated)
        };
        assert_eq!(next(Sampling::default(), &[1]), 1);
        assert_eq!(next(Sampling { repetition_penalty: 2.0, ..Sampling::default() }, &[]), 2);
        assert_eq!(next(Sampling { presence_penalty: 1.0, ..Sampling::default() }, &[]), 1);
        assert_eq!(next(Sampling { presence_penalty: 1.0, ..Sampling::default() }, &[1]), 2);
    }

    #[test]
    fn answers_of_one_seed_differ_and_repeat() {
        let drawn = |choice: usize| {
            let mut chooser = Chooser::new(&Sampling::default(), 7, choice, &[]);
            (0..20).map(|_| chooser.next(&mut [0.0f32; 50], &[])).collect::<Vec<_>>()
        };
        assert_eq!(drawn(0), drawn(0));
        assert_ne!(drawn(0), drawn(1));
    }
}
