//! An order of `n` things that needs no memory.

use cupola_core::Rng;

/// A permutation of `0..n`, a pure function of its key: position `i` is computed, not looked up, so that an epoch of any
/// length can be entered anywhere.
///
/// A Feistel network over the next even power of two, walked until it lands below `n` (Black and Rogaway, "Ciphers with
/// Arbitrary Finite Domains", 2002).
///
/// ```
/// use cupola_core::Rng;
/// use cupola_data::permutation::Permutation;
/// let order = Permutation::new(Rng::seed(7), 10);
/// let mut seen: Vec<u64> = (0..10).map(|i| order.at(i)).collect();
/// seen.sort_unstable();
/// assert_eq!(seen, (0..10).collect::<Vec<_>>());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    rng: Rng,
    n: u64,
    /// Bits of each half.
    half: u32,
}

/// Rounds of the network. Four are known to suffice against an adversary; the order of training data needs less.
const ROUNDS: u64 = 6;

impl Permutation {
    /// The permutation of `0..n` with this key.
    pub fn new(rng: Rng, n: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self { rng, n, half: bits.div_ceil(2).max(1) }
    }

    /// What stands at position `i`.
    ///
    /// # Panics
    /// When `i` is not below `n`.
    #[track_caller]
    pub fn at(&self, i: u64) -> u64 {
        assert!(i < self.n, "permutation: there is no position {i} of {}", self.n);
        let mut x = i;
        loop {
            x = self.network(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn network(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let (mut left, mut right) = (x >> self.half, x & mask);
        for round in 0..ROUNDS {
            let mixed = u64::from(self.rng.u32x4(round << 32 | right)[0]) & mask;
            (left, right) = (right, left ^ mixed);
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use super::{Permutation, Rng};
    use proptest::prelude::{prop_assert, proptest};

    proptest! {
        #[test]
        fn every_thing_has_one_place(n in 1u64..3000, seed: u64) {
            let order = Permutation::new(Rng::seed(seed), n);
            let mut seen = vec![false; n as usize];
            for i in 0..n {
                prop_assert!(!std::mem::replace(&mut seen[order.at(i) as usize], true));
            }
        }
    }

    #[test]
    fn neighbours_are_torn_apart_and_keys_differ() {
        let n = 10_000;
        let order = Permutation::new(Rng::seed(1), n);
        let kept = (1..n).filter(|&i| order.at(i) == order.at(i - 1) + 1).count();
        assert!(kept < 10, "{kept} neighbours stayed together");
        let half = (0..n / 2).filter(|&i| order.at(i) < n / 2).count() as f64 / (n / 2) as f64;
        assert!((half - 0.5).abs() < 0.03, "{half} of the first half stayed there");
        let other = Permutation::new(Rng::seed(2), n);
        assert!((0..n).filter(|&i| order.at(i) == other.at(i)).count() < 20);
    }
}
