//! Where tokens stand: rotary tables, sinusoids, slopes.

use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, PoisonError};

use cupola_tensor::ops::rotary::Pairing;
use cupola_tensor::{DType, Element, Tensor};

use crate::spec::{ModelSpec, PositionKind, RopeScaling};

/// A table with a row for each position, as long as the longest sequence that was met so far: a model that knows many positions
/// takes memory for those that are used.
#[derive(Clone)]
struct Rows<const TABLES: usize> {
    most: usize,
    made: Arc<Mutex<Option<[Tensor; TABLES]>>>,
}

impl<const TABLES: usize> Rows<TABLES> {
    fn new(most: usize) -> Self {
        Self { most, made: Arc::default() }
    }

    /// At least the first `positions` rows, or all that there are. Each row is the same however long the table is.
    fn first(&self, positions: usize, make: impl Fn(usize) -> [Tensor; TABLES]) -> [Tensor; TABLES] {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = positions.min(self.most);
        let tables = made.take().filter(|tables| tables[0].dim(0) >= wanted);
        // Doubled, so that a sequence that grows by one token after the other seldom asks for more.
        let tables = tables.unwrap_or_else(|| make(wanted.next_power_of_two().max(64).min(self.most)));
        made.insert(tables).clone()
    }
}

/// Cosines and sines for every position and pair, `[P, Dr / 2]`, computed in f64 and kept in f32; in f64 from the first time that
/// a model in f64 asks.
#[derive(Clone)]
pub struct RotaryTables {
    /// How far the next sequences reach.
    longest: usize,
    frequencies: Vec<f64>,
    factor: f64,
    narrow: Rows<2>,
    wide: Rows<2>,
}

impl RotaryTables {
    /// The tables for heads of which `width` values are turned.
    pub fn new(positions: usize, width: usize, theta: f64, scaling: Option<&RopeScaling>) -> Self {
        let (frequencies, factor) = frequencies(width, theta, scaling);
        Self { longest: positions, frequencies, factor, narrow: Rows::new(positions), wide: Rows::new(positions) }
    }

    /// The same tables for sequences of at most so many positions: no more rows than these need are made.
    pub fn reaching(&self, positions: usize) -> Self {
        Self { longest: positions, ..self.clone() }
    }

    /// The heads of each token turned by the angles of its position, `[N, H, Dh]` of positions `[N]`.
    #[track_caller]
    pub fn turn(&self, x: &Tensor, positions: &Tensor, pairing: Pairing) -> Tensor {
        let (frequencies, factor) = (&self.frequencies, self.factor);
        let [cos, sin] = match x.dtype() {
            DType::F64 => self.wide.first(self.longest, |rows| tables(rows, frequencies, |value| value * factor)),
            _ => self.narrow.first(self.longest, |rows| tables(rows, frequencies, |value| (value * factor) as f32)),
        };
        x.rotary(positions, &cos, &sin, pairing)
    }

    /// The tables of a specification's latent attention; `None` when nothing is turned.
    pub fn of_latent(spec: &ModelSpec) -> Option<Self> {
        let mla = spec.mla.as_ref().filter(|_| spec.position == PositionKind::Rotary)?;
        let (positions, scaling) = (spec.max_position_embeddings, spec.rope_scaling.as_ref());
        Some(Self::new(positions, mla.qk_rope_head_dim, spec.rope_theta, scaling))
    }

    /// The tables of a specification's attention; `None` when nothing is turned.
    pub fn of(spec: &ModelSpec) -> Option<Self> {
        let attention = spec.attention.as_ref().filter(|_| spec.position == PositionKind::Rotary)?;
        let width = (attention.head_width(spec.hidden_size) as f64 * spec.partial_rotary_factor) as usize;
        Some(Self::new(spec.max_position_embeddings, width, spec.rope_theta, spec.rope_scaling.as_ref()))
    }
}

/// The sinusoids of a model, [`sinusoids`], as far as sequences have reached.
#[derive(Clone)]
pub struct Sinusoids {
    width: usize,
    rows: Rows<1>,
}

impl Sinusoids {
    /// The table of a specification; `None` where positions are told otherwise.
    pub fn of(spec: &ModelSpec) -> Option<Self> {
        let own = || Self { width: spec.hidden_size, rows: Rows::new(spec.max_position_embeddings) };
        (spec.position == PositionKind::Sinusoidal).then(own)
    }

    /// The rows of these positions, `[N]` -> `[N, D]`, of sequences of at most `longest` tokens.
    #[track_caller]
    pub fn rows(&self, positions: &Tensor, longest: usize) -> Tensor {
        let [table] = self.rows.first(longest, |rows| [sinusoids(rows, self.width)]);
        table.embedding(positions)
    }
}

/// The cosines and the sines of every position and pair.
fn tables<T: Element>(positions: usize, frequencies: &[f64], of: impl Fn(f64) -> T) -> [Tensor; 2] {
    [f64::cos, f64::sin].map(|f: fn(f64) -> f64| {
        let row = |t: usize| frequencies.iter().map(move |w| f(t as f64 * w));
        let values = (0..positions).flat_map(row).map(&of).collect();
        Tensor::from_vec(values, [positions, frequencies.len()])
    })
}

/// Radians that each pair turns by from one position to the next, and the factor of cosines and sines.
fn frequencies(width: usize, theta: f64, scaling: Option<&RopeScaling>) -> (Vec<f64>, f64) {
    let plain =
        |base: f64| -> Vec<f64> { (0..width / 2).map(|pair| base.powf(-2.0 * pair as f64 / width as f64)).collect() };
    match *scaling.unwrap_or(&RopeScaling::Linear { factor: 1.0 }) {
        RopeScaling::Linear { factor } => (plain(theta).into_iter().map(|w| w / factor).collect(), 1.0),
        RopeScaling::Ntk { factor } => {
            let d = width as f64;
            (plain(theta * factor.powf(d / (d - 2.0))), 1.0)
        }
        RopeScaling::Yarn { factor, original_max_position_embeddings, beta_fast, beta_slow, attention_factor } => {
            let context = original_max_position_embeddings as f64;
            // The pair that turns `times` times in the training context.
            let pair_of = |times: f64| width as f64 * (context / (times * TAU)).ln() / (2.0 * theta.ln());
            let low = pair_of(beta_fast).floor().max(0.0);
            let high = pair_of(beta_slow).ceil().min(width as f64 - 1.0);
            // A ramp of no width would divide by zero.
            let high = if high == low { low + 0.001 } else { high };
            let mix = |(pair, w): (usize, f64)| {
                let stretched = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                w / factor * stretched + w * (1.0 - stretched)
            };
            let sharpened = attention_factor.unwrap_or(0.1 * factor.ln() + 1.0);
            (plain(theta).into_iter().enumerate().map(mix).collect(), sharpened)
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let context = original_max_position_embeddings as f64;
            let mix = |w: f64| {
                let turns = context * w / TAU;
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                w / factor * (1.0 - kept) + w * kept
            };
            (plain(theta).into_iter().map(mix).collect(), 1.0)
        }
    }
}

/// The slope of each head, geometric from `2^(-8 / H)` on; where H is no power of two, those of the power below and every other
/// one of the power above (Press et al., "Train Short, Test Long", 2021).
pub fn alibi_slopes(heads: usize) -> Vec<f64> {
    let geometric = |n: usize| (1..=n).map(move |i| 2f64.powf(-8.0 * i as f64 / n as f64));
    let below = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    geometric(below).chain(geometric(2 * below).step_by(2).take(heads - below)).collect()
}

/// `sin(t / 10000^(2i / D))` in value `2i` and the cosine in `2i + 1` of row t (Vaswani et al. 2017), `[P, D]`.
pub fn sinusoids(positions: usize, width: usize) -> Tensor {
    let value = |k: usize| {
        let (t, i) = ((k / width) as f64, k % width);
        let angle = t * 10_000f64.powf(-((i - i % 2) as f64) / width as f64);
        if i.is_multiple_of(2) { angle.sin() as f32 } else { angle.cos() as f32 }
    };
    Tensor::from_vec((0..positions * width).map(value).collect(), [positions, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_paper() {
        assert_eq!(alibi_slopes(8), [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]);
        let twelve = alibi_slopes(12);
        assert_eq!(twelve[..8], alibi_slopes(8));
        assert_eq!(twelve[8..], [2f64.powf(-0.5), 2f64.powf(-1.5), 2f64.powf(-2.5), 2f64.powf(-3.5)]);
    }

    #[test]
    fn a_factor_of_one_stretches_nothing() {
        let (plain, one) = frequencies(16, 10_000.0, None);
        assert_eq!((plain[0], one), (1.0, 1.0));
        let yarn = RopeScaling::Yarn {
            factor: 1.0,
            original_max_position_embeddings: 64,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
        };
        let llama = RopeScaling::Llama3 {
            factor: 1.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        };
        for scaling in [RopeScaling::Linear { factor: 1.0 }, RopeScaling::Ntk { factor: 1.0 }, yarn, llama] {
            let (stretched, factor) = frequencies(16, 10_000.0, Some(&scaling));
            assert_eq!(factor, 1.0, "{scaling:?}");
            assert!(stretched.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-15), "{scaling:?}");
        }
    }

    #[test]
    fn ntk_stretches_the_slowest_pair_in_full_and_the_fastest_not_at_all() {
        let (plain, _) = frequencies(16, 10_000.0, None);
        let (ntk, _) = frequencies(16, 10_000.0, Some(&RopeScaling::Ntk { factor: 4.0 }));
        assert_eq!(ntk[0], plain[0]);
        assert!((plain[7] / ntk[7] - 4.0).abs() < 1e-9);
    }

    #[test]
    fn ntk_stretches_every_pair_by_the_factor_to_its_share_of_the_way() {
        let (plain, factor) = (frequencies(16, 10_000.0, None).0, 3.0f64);
        let (ntk, sharpened) = frequencies(16, 10_000.0, Some(&RopeScaling::Ntk { factor }));
        for pair in 0..8 {
            let expected = plain[pair] / factor.powf(pair as f64 / 7.0);
            assert!((ntk[pair] / expected - 1.0).abs() < 1e-12, "pair {pair}: {} instead of {expected}", ntk[pair]);
        }
        assert_eq!(sharpened, 1.0);
    }

    #[test]
    fn linear_scaling_turns_a_position_as_the_one_that_lies_the_factor_nearer() {
        let scaling = RopeScaling::Linear { factor: 3.0 };
        let (plain, scaled) = (RotaryTables::new(8, 6, 100.0, None), RotaryTables::new(22, 6, 100.0, Some(&scaling)));
        let x = Tensor::arange(1.0, 49.0, 1.0).reshape([8, 1, 6]).to_dtype(DType::F64);
        let positions = |step: i64| Tensor::from_vec((0..8).map(|t| t * step).collect(), [8]);
        let near = plain.turn(&x, &positions(1), Pairing::HalfSplit);
        let far = scaled.turn(&x, &positions(3), Pairing::HalfSplit);
        assert!(far.relative_error(&near) < 1e-14);
        // By hand: values 1 and 4 of token 1 at position 3 are turned by 100^(-2/6).
        let (found, angle) = (far.to_vec::<f64>(), 100f64.powf(-1.0 / 3.0));
        assert!((found[7] - (8.0 * angle.cos() - 11.0 * angle.sin())).abs() < 1e-12);
        assert!((found[10] - (11.0 * angle.cos() + 8.0 * angle.sin())).abs() < 1e-12);
    }

    #[test]
    fn tables_are_as_long_as_the_sequences_that_were_met_and_every_row_stays_the_same() {
        let tables = RotaryTables::new(1 << 24, 64, 10_000.0, None);
        let rows = |tables: &RotaryTables| {
            let made = tables.narrow.made.lock().expect("no panic holds it");
            made.as_ref().map_or(0, |[cos, _]| cos.dim(0))
        };
        assert_eq!(rows(&tables), 0);
        let x = Tensor::ones([1, 1, 64]);
        let at = |tables: &RotaryTables, position: i64| {
            tables.turn(&x, &Tensor::from_vec(vec![position], [1]), Pairing::HalfSplit)
        };
        let first = at(&tables.reaching(10), 9);
        assert_eq!(rows(&tables), 64);
        at(&tables.reaching(65), 64);
        assert_eq!(rows(&tables), 128, "clones share them");
        assert!(at(&tables.reaching(10), 9).same_bits(&first));
        let short = RotaryTables::new(70, 64, 10_000.0, None);
        at(&short.reaching(70), 69);
        assert_eq!(rows(&short), 70, "no more than there are");
    }
}
