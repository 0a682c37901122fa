//! Hashing of short byte strings and id pairs, and loads that never leave a slice.
//!
//! The functions are the folded 64-by-64 multiplication that wyhash and its relatives use. They are not keyed: the
//! tables they serve are built from a vocabulary file, probe a bounded number of slots in practice, and a hostile
//! file can only slow down its own use.

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd1b5_4a32_d192_ed03;

/// 128-bit product folded to 64 bits.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let p = u128::from(a) * u128::from(b);
    (p as u64) ^ ((p >> 64) as u64)
}

/// Hash of two words.
#[inline(always)]
pub(crate) fn words(a: u64, b: u64) -> u64 {
    fold(a ^ K0, b ^ K1)
}

#[inline(always)]
pub(crate) fn load8(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The first 16 bytes, of which there are at least that many.
#[inline(always)]
pub(crate) fn load16(bytes: &[u8]) -> u128 {
    let mut word = [0; 16];
    word.copy_from_slice(&bytes[..16]);
    u128::from_le_bytes(word)
}

#[inline(always)]
pub(crate) fn load4(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u64::from(u32::from_le_bytes(word))
}

/// Hash of a byte string of any length.
#[inline]
pub(crate) fn bytes(s: &[u8]) -> u64 {
    let n = s.len();
    if n <= 16 {
        let (a, b) = match n {
            0 => (0, 0),
            1..=3 => (u64::from(s[0]) | u64::from(s[n / 2]) << 8 | u64::from(s[n - 1]) << 16, 0),
            4..=8 => (load4(s, 0), load4(s, n - 4)),
            _ => (load8(s, 0), load8(s, n - 8)),
        };
        return words(a ^ (n as u64) << 56, b);
    }
    let mut h = n as u64;
    let mut at = 0;
    while at + 16 < n {
        h = fold(load8(s, at) ^ K0 ^ h, load8(s, at + 8) ^ K1);
        at += 16;
    }
    words(load8(s, n - 16) ^ h, load8(s, n - 8))
}

/// Hash of a pair of ids.
#[inline(always)]
pub(crate) fn pair(left: u32, right: u32) -> u64 {
    fold((u64::from(left) << 32 | u64::from(right)) ^ K0, K1)
}

/// A [`std::hash::Hasher`] over [`words`], for maps with small keys on hot paths.
#[derive(Clone, Copy, Default)]
pub(crate) struct FastHasher(u64);

impl std::hash::Hasher for FastHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, s: &[u8]) {
        self.0 = fold(self.0 ^ bytes(s), K1);
    }
    fn write_u8(&mut self, v: u8) {
        self.write_u64(u64::from(v));
    }
    fn write_u32(&mut self, v: u32) {
        self.write_u64(u64::from(v));
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = fold(self.0 ^ v ^ K0, K1);
    }
    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }
}

/// Builder of [`FastHasher`]s.
pub(crate) type FastBuild = std::hash::BuildHasherDefault<FastHasher>;
/// A `HashMap` with [`FastHasher`].
pub(crate) type FastMap<K, V> = std::collections::HashMap<K, V, FastBuild>;
/// A `HashSet` with [`FastHasher`].
pub(crate) type FastSet<K> = std::collections::HashSet<K, FastBuild>;
