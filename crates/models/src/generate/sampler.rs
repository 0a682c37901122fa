//! Which token comes next.

use std::cmp::Ordering;
use std::collections::HashMap;

use cupola_core::Rng;
use serde::{Deserialize, Serialize};

/// How the next token is chosen. The default changes nothing: tokens are drawn with the model's own probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerConfig {
    /// Logits are divided by it; 0 takes the most probable token.
    pub temperature: f64,
    /// Only the k most probable tokens; 0 for all.
    pub top_k: usize,
    /// Only the most probable tokens that together have this probability; 1 for all (Holtzman et al. 2020).
    pub top_p: f64,
    /// Only tokens with at least this part of the most probable one's probability; 0 for all.
    pub min_p: f64,
    /// Only the tokens whose surprise is nearest to the expected one and that together have this probability; 1 for all
    /// (Meister et al., "Locally Typical Sampling", 2022).
    pub typical_p: f64,
    /// Logits of tokens that occurred are divided by it where positive and multiplied where negative; 1 leaves them (Keskar et al.
    /// 2019).
    pub repetition_penalty: f64,
    /// Subtracted from the logits of tokens that occurred.
    pub presence_penalty: f64,
    /// Subtracted from the logits of tokens once for each time that they occurred.
    pub frequency_penalty: f64,
    /// How many of the last tokens the penalties look at; 0 for all.
    pub penalty_window: usize,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// The random numbers. Equal seeds give equal tokens.
    pub seed: u64,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl SamplerConfig {
    /// The most probable token, always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// The first field whose value makes no sense, as a sentence.
    pub fn problem(&self) -> Option<String> {
        let part = |name, value: f64| {
            (!(value > 0.0 && value <= 1.0)).then(|| format!("{name} = {value} is not above 0 and at most 1"))
        };
        let finite = |name, value: f64| (!value.is_finite()).then(|| format!("{name} = {value} is not a number"));
        let at_least_zero = |name, value: f64| {
            (!(value >= 0.0 && value.is_finite())).then(|| format!("{name} = {value} is not a number from 0 on"))
        };
        at_least_zero("temperature", self.temperature)
            .or_else(|| part("top_p", self.top_p))
            .or_else(|| part("typical_p", self.typical_p))
            .or_else(|| {
                (!(0.0..=1.0).contains(&self.min_p)).then(|| format!("min_p = {} is not between 0 and 1", self.min_p))
            })
            .or_else(|| {
                let penalty = self.repetition_penalty;
                (!(penalty > 0.0 && penalty.is_finite()))
                    .then(|| format!("repetition_penalty = {penalty} is not a positive number"))
            })
            .or_else(|| finite("presence_penalty", self.presence_penalty))
            .or_else(|| finite("frequency_penalty", self.frequency_penalty))
    }
}

/// Chooses one token after the other; see [`SamplerConfig`].
///
/// The order is: bias, penalties, temperature, top-k, typical, top-p, min-p. The draw of token n takes number n of the seed's
/// stream, and computes in f64, so that it depends on nothing but the logits, the history and the seed.
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplerConfig,
    drawn: u64,
}

/// A token that may be chosen.
#[derive(Clone, Copy)]
struct Candidate {
    token: u32,
    logit: f64,
    probability: f64,
}

impl Sampler {
    /// A sampler that has not drawn yet.
    ///
    /// # Panics
    /// When [`SamplerConfig::problem`] has something to say.
    #[track_caller]
    pub fn new(config: SamplerConfig) -> Self {
        if let Some(problem) = config.problem() {
            panic!("Sampler: {problem}");
        }
        Self { config, drawn: 0 }
    }

    /// How the tokens are chosen.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// The next token, given the model's logits, which are changed by bias and penalties, and the tokens before.
    ///
    /// # Panics
    /// When there are no logits.
    #[track_caller]
    pub fn next(&mut self, logits: &mut [f32], history: &[u32]) -> u32 {
        assert!(!logits.is_empty(), "Sampler: there are no logits");
        self.adjust(logits, history);
        let draw = Rng::seed(self.config.seed).uniform(self.drawn);
        self.drawn += 1;
        if self.config.temperature == 0.0 {
            return most_probable(logits);
        }
        let candidates = self.candidates(logits);
        let total: f64 = candidates.iter().map(|c| c.probability).sum();
        let mut left = draw * total;
        for candidate in &candidates {
            left -= candidate.probability;
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Rounding may leave a last grain.
        let possible = candidates.iter().rfind(|c| c.probability > 0.0);
        possible.map_or(candidates[0].token, |c| c.token)
    }

    /// Bias and penalties.
    fn adjust(&self, logits: &mut [f32], history: &[u32]) {
        let config = &self.config;
        for &(token, bias) in &config.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        let neutral =
            config.repetition_penalty == 1.0 && config.presence_penalty == 0.0 && config.frequency_penalty == 0.0;
        if neutral {
            return;
        }
        let window = if config.penalty_window == 0 { history.len() } else { config.penalty_window };
        let mut counts: HashMap<u32, u32> = HashMap::new();
        history.iter().rev().take(window).for_each(|&token| *counts.entry(token).or_default() += 1);
        for (token, count) in counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            let value = f64::from(*logit);
            let penalty = config.repetition_penalty;
            let value = if value > 0.0 { value / penalty } else { value * penalty };
            *logit = (value - config.presence_penalty - config.frequency_penalty * f64::from(count)) as f32;
        }
    }

    /// The tokens that may be chosen, with their probabilities; the most probable first where some are left out.
    fn candidates(&self, logits: &[f32]) -> Vec<Candidate> {
        let config = &self.config;
        let candidate = |(token, &logit): (usize, &f32)| Candidate {
            token: token as u32,
            logit: f64::from(logit) / config.temperature,
            probability: 0.0,
        };
        let mut all: Vec<Candidate> = logits.iter().enumerate().map(candidate).filter(|c| !c.logit.is_nan()).collect();
        if all.is_empty() {
            return vec![Candidate { token: 0, logit: 0.0, probability: 1.0 }];
        }
        if config.top_k > 0 && config.top_k < all.len() {
            all.select_nth_unstable_by(config.top_k - 1, order);
            all.truncate(config.top_k);
            all.sort_unstable_by(order);
        }
        normalise(&mut all);
        if config.typical_p < 1.0 {
            self.keep_typical(&mut all);
            normalise(&mut all);
        }
        if config.top_p < 1.0 {
            keep_top(&mut all, config.top_p);
        }
        if config.min_p > 0.0 {
            let least = config.min_p * all.iter().map(|c| c.probability).fold(0.0, f64::max);
            all.retain(|c| c.probability >= least);
        }
        all
    }

    fn keep_typical(&self, all: &mut Vec<Candidate>) {
        let surprise = |c: &Candidate| if c.probability > 0.0 { -c.probability.ln() } else { f64::INFINITY };
        let expected: f64 = all.iter().filter(|c| c.probability > 0.0).map(|c| c.probability * surprise(c)).sum();
        let away = |c: &Candidate| (surprise(c) - expected).abs();
        all.sort_by(|a, b| away(a).total_cmp(&away(b)).then(a.token.cmp(&b.token)));
        let mut sum = 0.0;
        let enough = all.iter().position(|c| {
            sum += c.probability;
            sum >= self.config.typical_p
        });
        all.truncate(enough.map_or(all.len(), |last| last + 1));
    }
}

/// The first of the largest.
fn most_probable(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] || logits[best].is_nan() {
            best = token;
        }
    }
    best as u32
}

/// The most probable first; of equal ones the lower number.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

/// Keeps the most probable candidates that together have probability `mass`, sorted. They are usually few, so that a large
/// vocabulary is seldom sorted as a whole.
fn keep_top(all: &mut Vec<Candidate>, mass: f64) {
    let mut sorted = 256;
    loop {
        if sorted < all.len() {
            all.select_nth_unstable_by(sorted - 1, order);
        }
        let first = sorted.min(all.len());
        all[..first].sort_unstable_by(order);
        let mut sum = 0.0;
        let enough = all[..first].iter().position(|c| {
            sum += c.probability;
            sum >= mass
        });
        if enough.is_some() || first == all.len() {
            all.truncate(enough.map_or(first, |last| last + 1));
            return;
        }
        sorted *= 8;
    }
}

/// Softmax.
fn normalise(all: &mut [Candidate]) {
    let largest = all.iter().map(|c| c.logit).fold(f64::NEG_INFINITY, f64::max);
    // Equal infinities differ by NaN; such tokens share everything.
    let weight = |logit: f64| if logit == largest { 1.0 } else { (logit - largest).exp() };
    let total: f64 = all.iter().map(|c| weight(c.logit)).sum();
    all.iter_mut().for_each(|c| c.probability = weight(c.logit) / total);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, -1.0, 1.5];

    fn drawn(config: SamplerConfig, history: &[u32]) -> Vec<u32> {
        let mut sampler = Sampler::new(config);
        (0..2000).map(|_| sampler.next(&mut LOGITS.clone(), history)).collect()
    }

    fn support(config: SamplerConfig, history: &[u32]) -> Vec<u32> {
        let mut all = drawn(config, history);
        all.sort_unstable();
        all.dedup();
        all
    }

    #[test]
    fn neutral_draws_have_the_models_probabilities() {
        let all = drawn(SamplerConfig::default(), &[]);
        let total: f64 = LOGITS.iter().map(|&x| f64::from(x).exp()).sum();
        for token in 0..5 {
            let expected = f64::from(LOGITS[token as usize]).exp() / total;
            let found = all.iter().filter(|&&t| t == token).count() as f64 / 2000.0;
            assert!((found - expected).abs() < 0.04, "token {token}: {found}, expected {expected}");
        }
    }

    #[test]
    fn every_option_narrows_or_moves_the_choice() {
        let neutral = SamplerConfig::default;
        assert_eq!(support(SamplerConfig::greedy(), &[]), [1]);
        assert_eq!(support(SamplerConfig { top_k: 2, ..neutral() }, &[]), [1, 4]);
        // Probabilities: .46, .28, .17, .06, .02
        assert_eq!(support(SamplerConfig { top_p: 0.7, ..neutral() }, &[]), [1, 4]);
        assert_eq!(support(SamplerConfig { min_p: 0.3, ..neutral() }, &[]), [1, 2, 4]);
        assert_eq!(support(SamplerConfig { typical_p: 0.2, ..neutral() }, &[]), [4]);
        assert_eq!(support(SamplerConfig { logit_bias: vec![(3, 100.0)], ..neutral() }, &[]), [3]);
        let greedy = SamplerConfig::greedy;
        assert_eq!(support(SamplerConfig { repetition_penalty: 2.0, ..greedy() }, &[1]), [4]);
        assert_eq!(support(SamplerConfig { presence_penalty: 0.6, ..greedy() }, &[1, 1]), [4]);
        assert_eq!(support(SamplerConfig { frequency_penalty: 0.3, ..greedy() }, &[1]), [1]);
        assert_eq!(support(SamplerConfig { frequency_penalty: 0.3, ..greedy() }, &[1, 1]), [4]);
        let short = SamplerConfig { frequency_penalty: 0.3, penalty_window: 1, ..greedy() };
        assert_eq!(support(short, &[1, 1]), [1]);
        let cold = drawn(SamplerConfig { temperature: 0.2, ..neutral() }, &[]);
        assert!(cold.iter().filter(|&&t| t == 1).count() > 1800);
    }

    #[test]
    fn the_most_probable_of_a_large_vocabulary_are_those_of_a_whole_sort() {
        let logits: Vec<f32> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 1000.0).collect();
        for (top_p, temperature) in [(0.01, 0.3), (0.5, 0.3), (0.9, 1.0), (0.999, 1.0)] {
            let config = SamplerConfig { top_p, temperature, ..SamplerConfig::default() };
            let found = Sampler::new(config.clone()).candidates(&logits);
            let mut all = Sampler::new(SamplerConfig { top_p: 1.0, ..config }).candidates(&logits);
            all.sort_by(order);
            let (mut sum, mut expected) = (0.0, Vec::new());
            for candidate in all {
                expected.push(candidate.token);
                sum += candidate.probability;
                if sum >= top_p {
                    break;
                }
            }
            assert_eq!(found.iter().map(|c| c.token).collect::<Vec<_>>(), expected, "{top_p}");
        }
    }

    #[test]
    fn a_seed_says_what_is_drawn() {
        let with = |seed| drawn(SamplerConfig { seed, ..SamplerConfig::default() }, &[]);
        assert_eq!(with(7), with(7));
        assert_ne!(with(7), with(8));
    }

    #[test]
    fn infinite_and_undefined_logits_are_survived() {
        let next = |config: SamplerConfig, mut logits: Vec<f32>| Sampler::new(config).next(&mut logits, &[]);
        let infinite = vec![f32::NEG_INFINITY, 1.0, f32::INFINITY];
        assert_eq!(next(SamplerConfig::default(), infinite.clone()), 2);
        assert_eq!(next(SamplerConfig::greedy(), infinite), 2);
        assert_eq!(next(SamplerConfig::default(), vec![f32::NAN; 3]), 0);
        assert_eq!(next(SamplerConfig::greedy(), vec![f32::NAN, 1.0]), 1);
        assert_eq!(next(SamplerConfig::default(), vec![f32::NEG_INFINITY, 0.0]), 1);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let problem = |config: SamplerConfig| config.problem().unwrap_or_default();
        let neutral = SamplerConfig::default;
        assert_eq!(problem(neutral()), "");
        assert!(problem(SamplerConfig { temperature: -1.0, ..neutral() }).starts_with("temperature = -1"));
        assert!(problem(SamplerConfig { top_p: 0.0, ..neutral() }).starts_with("top_p = 0"));
        assert!(problem(SamplerConfig { min_p: 2.0, ..neutral() }).starts_with("min_p = 2"));
        assert!(problem(SamplerConfig { repetition_penalty: 0.0, ..neutral() }).starts_with("repetition_penalty = 0"));
        assert!(
            problem(SamplerConfig { presence_penalty: f64::NAN, ..neutral() }).starts_with("presence_penalty = NaN")
        );
    }
}
