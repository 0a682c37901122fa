//! Counter-based random numbers: Rng 4x32 with 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011).
//!
//! An [`Rng`] is a key. The numbers at position `i` of its stream are a pure function of key and position, so that any
//! thread may compute any part in any order. Streams of different purposes are separated by [`Rng::stream`], which
//! derives a key from words such as (step, sample, call).

/// A random stream, addressed by position.
///
/// ```
/// use cupola_core::Rng;
/// let stream = Rng::seed(7).stream(&[3, 1]);
/// assert_eq!(stream.u32x4(5), Rng::seed(7).stream(&[3, 1]).u32x4(5));
/// assert_ne!(stream.u32x4(5), stream.u32x4(6));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rng {
    key: [u32; 2],
}

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

impl Rng {
    /// The stream of a seed.
    pub const fn seed(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// The stream with this one's key and the given address; different addresses give independent streams.
    #[must_use]
    pub fn stream(&self, address: &[u64]) -> Self {
        let mut key = self.key;
        for (index, &word) in address.iter().enumerate() {
            let block = rounds([word as u32, (word >> 32) as u32, index as u32, 0x6375_706F], key);
            key = [block[0], block[1]];
        }
        Self { key }
    }

    /// The stream named by a text, such as a parameter's path.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let mut words: Vec<u64> = vec![name.len() as u64];
        for chunk in name.as_bytes().chunks(8) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            words.push(u64::from_le_bytes(bytes));
        }
        self.stream(&words)
    }

    /// Four independent uniform 32-bit words: block `index` of the stream.
    #[inline(always)]
    pub fn u32x4(&self, index: u64) -> [u32; 4] {
        rounds([index as u32, (index >> 32) as u32, 0, 0], self.key)
    }

    /// Word `index` of the stream.
    #[inline(always)]
    pub fn u32(&self, index: u64) -> u32 {
        self.u32x4(index / 4)[(index % 4) as usize]
    }

    /// A uniform 64-bit word: words `2 * index` and `2 * index + 1` of the stream.
    #[inline(always)]
    pub fn u64(&self, index: u64) -> u64 {
        let block = self.u32x4(index / 2);
        let half = (index % 2) as usize * 2;
        u64::from(block[half]) | u64::from(block[half + 1]) << 32
    }

    /// Uniform in [0, 1) with 53 random bits.
    #[inline(always)]
    pub fn uniform(&self, index: u64) -> f64 {
        (self.u64(index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Standard normal, by the Box-Muller transform in f64: positions `2k` and `2k + 1` share one pair of uniforms.
    pub fn normal(&self, index: u64) -> f64 {
        let pair = index / 2 * 2;
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform(pair)).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform(pair + 1)).sin_cos();
        radius * if index.is_multiple_of(2) { cos } else { sin }
    }

    /// Uniform in 0..`bound`, without bias up to 2^-32 relative (64-bit multiply and shift).
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&self, index: u64, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        ((u128::from(self.u64(index)) * u128::from(bound)) >> 64) as u64
    }
}

#[inline(always)]
fn rounds(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution for philox4x32-10.
    #[test]
    fn known_answers() {
        assert_eq!(rounds([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(rounds([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            rounds([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn moments_of_uniform_and_normal() {
        let stream = Rng::seed(42).named("weights");
        let n = 100_000;
        let uniform: f64 = (0..n).map(|i| stream.uniform(i)).sum::<f64>() / n as f64;
        let normal: Vec<f64> = (0..n).map(|i| stream.normal(i)).collect();
        let mean = normal.iter().sum::<f64>() / n as f64;
        let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        let fourth = normal.iter().map(|x| (x - mean).powi(4)).sum::<f64>() / n as f64;
        assert!((uniform - 0.5).abs() < 4e-3, "{uniform}");
        assert!(mean.abs() < 1e-2 && (variance - 1.0).abs() < 1.5e-2 && (fourth - 3.0).abs() < 0.1);
    }

    #[test]
    fn streams_of_different_addresses_differ() {
        let base = Rng::seed(1);
        let keys =
            [base, base.stream(&[0]), base.stream(&[0, 0]), base.stream(&[1]), base.named("a"), base.named("a\0")];
        for (i, a) in keys.iter().enumerate() {
            for b in &keys[i + 1..] {
                assert_ne!(a.u32x4(0), b.u32x4(0));
            }
        }
    }

    #[test]
    fn below_reaches_every_value_and_no_other() {
        let stream = Rng::seed(3);
        let mut seen = [0; 5];
        (0..1000).for_each(|i| seen[stream.below(i, 5) as usize] += 1);
        assert!(seen.iter().all(|&n| n > 140), "{seen:?}");
    }
}
