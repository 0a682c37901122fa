//! Symbol kinds of a block of text, one byte for each byte.
//!
//! The kind of a symbol stands at its first byte; its continuation bytes get a kind of their own. ASCII, and first bytes
//! that belong to one kind only, go through tables held in registers, where the machine has the instructions; every other
//! symbol is looked up in a tree over its bytes.

use super::tree::Tree;
use crate::alphabet::Alphabet;

/// The tables, and how to apply them.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// Kinds of ASCII.
    ascii: [u8; 128],
    /// The kind of a continuation byte.
    continuation: u8,
    /// Kinds as the machine numbers them, by those of the alphabet.
    columns: Box<[u8]>,
    /// Kinds of the characters of texts that are UTF-8.
    tree: Option<Tree>,
    /// For first bytes from 0xC0 on: the kind of all characters, or [`VARIOUS`].
    leads: [u8; 64],
    level: Level,
}

/// Bytes that are classified together, and how many behind them can be read then, for the last character.
#[cfg(target_arch = "x86_64")]
pub const BYTES: usize = 64;
#[cfg(target_arch = "x86_64")]
pub const AHEAD: usize = 3;

/// Marks bytes whose kind is looked up by itself; kinds are less.
const VARIOUS: u8 = 0x80;

/// Instruction sets that are made use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Classifier {
    /// A classifier for an alphabet of fewer than 64 kinds, which have other numbers here; the last is that of continuation
    /// bytes. `valid` promises that texts are UTF-8.
    pub fn new(alphabet: &Alphabet, columns: &[u8], valid: bool) -> Self {
        let mut ascii = [0; 128];
        for (byte, kind) in ascii.iter_mut().enumerate() {
            *kind = columns[usize::from(alphabet.single[byte])];
        }
        let tree = if valid { Tree::new(alphabet, columns) } else { None };
        let leads = tree.as_ref().map_or([VARIOUS; 64], |tree| {
            std::array::from_fn(|lead| tree.kind_by_first(0xC0 + lead as u8).unwrap_or(VARIOUS))
        });
        Classifier { ascii, continuation: columns[alphabet.len], columns: columns.into(), tree, leads, level: detect() }
    }

    /// All variants that this machine can run.
    #[cfg(test)]
    pub fn variants(alphabet: &Alphabet) -> Vec<Self> {
        let same: Vec<u8> = (0..=alphabet.len as u8).collect();
        let mut all = vec![Classifier { level: Level::Scalar, ..Self::new(alphabet, &same, true) }];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                all.push(Classifier { level: Level::Avx2, ..Self::new(alphabet, &same, true) });
                all.push(Classifier { level: Level::Avx2, ..Self::new(alphabet, &same, false) });
            }
            if detect() == Level::Avx512 {
                all.push(Self::new(alphabet, &same, true));
                all.push(Self::new(alphabet, &same, false));
            }
        }
        all
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.columns.len() + self.tree.as_ref().map_or(0, Tree::memory)
    }

    /// Writes the kinds of 64 bytes of UTF-8, wherever characters begin; false if it cannot.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn block(&self, bytes: &[u8; BYTES + AHEAD], kinds: &mut [u8; BYTES]) -> bool {
        let Some(tree) = self.tree.as_ref().filter(|_| self.level != Level::Scalar) else {
            return false;
        };
        // SAFETY: the other levels are only chosen where `detect` has found AVX2, BMI1 and POPCNT.
        unsafe { x86::block(self, tree, bytes, kinds) };
        true
    }

    /// Writes the kinds of `text` to `kinds`, which has the same length. `text` begins and ends between symbols.
    pub fn classify(&self, alphabet: &Alphabet, text: &[u8], kinds: &mut [u8]) {
        assert_eq!(text.len(), kinds.len(), "one kind for each byte");
        #[cfg(target_arch = "x86_64")]
        if let Some(tree) = &self.tree
            && self.level == Level::Avx2
            && text.len() >= 32
        {
            // SAFETY: this level is only chosen where `detect` has found AVX2, BMI1 and POPCNT.
            unsafe { x86::valid(self, tree, text, kinds) };
            return;
        }
        let mut at = 0;
        while at < text.len() {
            at += self.ascii_run(&text[at..], &mut kinds[at..]);
            // Symbol by symbol until there has been nothing but ASCII for a while.
            let mut plain = 0;
            while at < text.len() && plain < 16 {
                let byte = text[at];
                if byte < 0x80 {
                    kinds[at] = self.ascii[usize::from(byte)];
                    at += 1;
                    plain += 1;
                    continue;
                }
                plain = 0;
                at += self.multi(alphabet, text, kinds, at);
            }
        }
    }

    /// Classifies the symbol at `at`, which is not ASCII; returns its length.
    #[inline]
    fn multi(&self, alphabet: &Alphabet, text: &[u8], kinds: &mut [u8], at: usize) -> usize {
        let (kind, len) = match &self.tree {
            Some(tree) => (tree.kind_at(text, at), (text[at].leading_ones() as usize).clamp(1, text.len() - at)),
            None => {
                let (kind, len) = alphabet.next_multi(text, at);
                (self.columns[usize::from(kind)], len)
            }
        };
        kinds[at] = kind;
        kinds[at + 1..at + len].fill(self.continuation);
        len
    }

    /// Classifies leading whole vectors of ASCII; returns how many bytes that were.
    fn ascii_run(&self, text: &[u8], kinds: &mut [u8]) -> usize {
        match self.level {
            Level::Scalar => {
                let mut done = 0;
                for (bytes, out) in text.chunks_exact(16).zip(kinds.chunks_exact_mut(16)) {
                    if !bytes.is_ascii() {
                        break;
                    }
                    for (byte, kind) in bytes.iter().zip(out) {
                        *kind = self.ascii[usize::from(byte & 0x7F)];
                    }
                    done += 16;
                }
                done
            }
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this level is only chosen where `detect` has found AVX2.
            Level::Avx2 => unsafe { x86::avx2(&self.ascii, text, kinds) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this level is only chosen where `detect` has found AVX-512 with BW and VBMI.
            Level::Avx512 => unsafe { x86::avx512(&self.ascii, text, kinds) },
        }
    }
}

fn detect() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        let bits = is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("popcnt");
        if bits && is_x86_feature_detected!("avx2") {
            let larger = is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("avx512bw");
            return if larger { Level::Avx512 } else { Level::Avx2 };
        }
    }
    Level::Scalar
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{AHEAD, BYTES, Classifier, Tree};

    /// Tables of 16, one for each high half of a byte.
    #[target_feature(enable = "avx2")]
    fn rows<const N: usize>(table: &[u8]) -> [__m256i; N] {
        let mut rows = [_mm256_setzero_si256(); N];
        for (row, part) in rows.iter_mut().zip(table.chunks_exact(16)) {
            // SAFETY: `part` has 16 bytes; unaligned loads are allowed.
            *row = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(part.as_ptr().cast()) });
        }
        rows
    }

    /// What the table says of ASCII; 0 for other bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of_ascii(rows: &[__m256i; 8], v: __m256i) -> __m256i {
        // Shuffles give 0 for bytes beyond ASCII. Bits 4, 5 and 6 choose between the rows, each as the highest one of its byte.
        let row = |high: usize| _mm256_shuffle_epi8(rows[high], v);
        let (four, five) = (_mm256_slli_epi16::<3>(v), _mm256_slli_epi16::<2>(v));
        let pair = |high: usize| _mm256_blendv_epi8(row(high), row(high + 1), four);
        let low = _mm256_blendv_epi8(pair(0), pair(2), five);
        let high = _mm256_blendv_epi8(pair(4), pair(6), five);
        _mm256_blendv_epi8(low, high, _mm256_add_epi8(v, v))
    }

    /// What the table says of bytes from 0xC0 on; something for others.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of_leads(rows: &[__m256i; 4], v: __m256i) -> __m256i {
        let low = _mm256_and_si256(v, _mm256_set1_epi8(15));
        let row = |high: usize| _mm256_shuffle_epi8(rows[high], low);
        let four = _mm256_slli_epi16::<3>(v);
        let pair = |high: usize| _mm256_blendv_epi8(row(high), row(high + 1), four);
        _mm256_blendv_epi8(pair(0), pair(2), _mm256_slli_epi16::<2>(v))
    }

    /// Classifies text of at least 32 bytes that is UTF-8. Where the first byte of a character tells its kind, nothing is decoded.
    #[target_feature(enable = "avx2,bmi1,popcnt")]
    pub fn valid(classifier: &Classifier, tree: &Tree, text: &[u8], kinds: &mut [u8]) {
        let tables = Tables::new(classifier);
        let mut at = 0;
        while let Some(bytes) = text[at..].first_chunk::<{ BYTES + AHEAD }>()
            && let Some(out) = kinds[at..].first_chunk_mut::<BYTES>()
        {
            tables.block(tree, bytes, out);
            at += BYTES;
        }
        while at < text.len() {
            // The last vector overlaps the one before it.
            at = at.min(text.len() - 32);
            let out = &mut kinds[at..at + 32];
            let mut various = tables.vector(&text[at..at + 32], out);
            while various != 0 {
                let offset = various.trailing_zeros() as usize;
                various &= various - 1;
                out[offset] = tree.kind_at(text, at + offset);
            }
            at += 32;
        }
    }

    /// Classifies 64 bytes, behind which three more can be read.
    #[target_feature(enable = "avx2,bmi1,popcnt")]
    pub fn block(classifier: &Classifier, tree: &Tree, bytes: &[u8; BYTES + AHEAD], kinds: &mut [u8; BYTES]) {
        Tables::new(classifier).block(tree, bytes, kinds);
    }

    /// Tells the kinds of the characters that begin at the bits of `various` and have up to `BEYOND` bytes beyond the first.
    /// They are taken by fours, so that hardly a branch depends on the text.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,popcnt")]
    fn each<const BEYOND: usize>(tree: &Tree, various: u64, bytes: &[u8; BYTES + AHEAD], kinds: &mut [u8; BYTES]) {
        let mut rest = various;
        for _ in 0..various.count_ones().div_ceil(4) {
            for _ in 0..4 {
                // Once there is none left, that of the last byte is told again.
                let at = (rest | 1 << 63).trailing_zeros() as usize;
                rest &= rest.wrapping_sub(1);
                kinds[at] = tree.kind::<BEYOND>([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            }
        }
    }

    /// What tells the kinds of 32 bytes.
    struct Tables {
        ascii: [__m256i; 8],
        leads: [__m256i; 4],
        continuation: __m256i,
    }

    impl Tables {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn new(classifier: &Classifier) -> Self {
            Tables {
                ascii: rows(&classifier.ascii),
                leads: rows(&classifier.leads),
                continuation: _mm256_set1_epi8(classifier.continuation as i8),
            }
        }

        #[inline]
        #[target_feature(enable = "avx2,bmi1,popcnt")]
        fn block(&self, tree: &Tree, bytes: &[u8; BYTES + AHEAD], out: &mut [u8; BYTES]) {
            let (low, high) = (self.vector(&bytes[..32], &mut out[..32]), self.vector(&bytes[32..64], &mut out[32..]));
            let various = u64::from(low) | u64::from(high) << 32;
            if various == 0 {
                return;
            }
            // SAFETY: both have 32 bytes; unaligned loads are allowed.
            let largest = unsafe {
                _mm256_max_epu8(
                    _mm256_loadu_si256(bytes.as_ptr().cast()),
                    _mm256_loadu_si256(bytes[32..].as_ptr().cast()),
                )
            };
            let beyond = |first: u8| {
                let same = _mm256_cmpeq_epi8(_mm256_max_epu8(largest, _mm256_set1_epi8(first as i8)), largest);
                _mm256_movemask_epi8(same) != 0
            };
            match (beyond(0xE0), beyond(0xF0)) {
                (false, _) => each::<1>(tree, various, bytes, out),
                (true, false) => each::<2>(tree, various, bytes, out),
                (true, true) => each::<3>(tree, various, bytes, out),
            }
        }

        /// Writes the kinds of 32 bytes as far as single bytes tell them; a bit for each of the others.
        #[inline]
        #[target_feature(enable = "avx2")]
        fn vector(&self, bytes: &[u8], out: &mut [u8]) -> u32 {
            let (bytes, out) = (&bytes[..32], &mut out[..32]);
            // SAFETY: `bytes` has 32 bytes; unaligned loads are allowed.
            let v = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            let beyond = _mm256_movemask_epi8(v) as u32;
            let mut kind = of_ascii(&self.ascii, v);
            if beyond != 0 {
                let inner = _mm256_cmpgt_epi8(_mm256_set1_epi8(0xC0u8 as i8), v);
                let multi = _mm256_blendv_epi8(of_leads(&self.leads, v), self.continuation, inner);
                kind = _mm256_blendv_epi8(kind, multi, v);
            }
            // SAFETY: `out` has 32 bytes; unaligned stores are allowed.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), kind) };
            _mm256_movemask_epi8(kind) as u32
        }
    }

    /// 32 bytes at a time.
    #[target_feature(enable = "avx2")]
    pub fn avx2(table: &[u8; 128], text: &[u8], kinds: &mut [u8]) -> usize {
        let tables = rows::<8>(table);
        let mut done = 0;
        // Classifies the vector at `at`; false when it is not all ASCII.
        let mut vector = |at: usize| {
            let (bytes, out) = (&text[at..at + 32], &mut kinds[at..at + 32]);
            // SAFETY: `bytes` has 32 bytes; unaligned loads are allowed.
            let v = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            if _mm256_movemask_epi8(v) != 0 {
                return false;
            }
            let kind = of_ascii(&tables, v);
            // SAFETY: `out` has 32 bytes; unaligned stores are allowed.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), kind) };
            true
        };
        while text.len() - done >= 32 {
            if !vector(done) {
                return done;
            }
            done += 32;
        }
        // What is left, together with bytes that are done already.
        if done > 0 && done < text.len() && vector(text.len() - 32) { text.len() } else { done }
    }

    /// 64 bytes at a time: one look into a table of 128.
    #[target_feature(enable = "avx512bw,avx512vbmi")]
    pub fn avx512(table: &[u8; 128], text: &[u8], kinds: &mut [u8]) -> usize {
        // SAFETY: both halves of the table have 64 bytes; unaligned loads are allowed.
        let (low, high) =
            unsafe { (_mm512_loadu_si512(table.as_ptr().cast()), _mm512_loadu_si512(table.as_ptr().add(64).cast())) };
        let mut done = 0;
        let mut vector = |at: usize| {
            let (bytes, out) = (&text[at..at + 64], &mut kinds[at..at + 64]);
            // SAFETY: `bytes` has 64 bytes; unaligned loads are allowed.
            let v = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            if _mm512_movepi8_mask(v) != 0 {
                return false;
            }
            let kind = _mm512_permutex2var_epi8(low, v, high);
            // SAFETY: `out` has 64 bytes; unaligned stores are allowed.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), kind) };
            true
        };
        while text.len() - done >= 64 {
            if !vector(done) {
                return done;
            }
            done += 64;
        }
        if done > 0 && done < text.len() && vector(text.len() - 64) { text.len() } else { done }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symset::SymSet;
    use crate::unicode;

    #[test]
    fn every_variant_gives_the_kinds_of_the_alphabet() {
        let sets = [unicode::perl('w'), unicode::perl('s'), SymSet::single(0x20), SymSet::new(vec![(0x41, 0x5A)])];
        let alphabet = Alphabet::new(&sets, false).unwrap();
        let ascii: String = (0..=127u8).map(char::from).collect();
        let texts =
            [ascii.repeat(5), format!("{ascii}é中😀{ascii}{ascii}é"), "中文。日本語 ab ".repeat(30), String::new()];
        for classifier in Classifier::variants(&alphabet) {
            for text in &texts {
                for cut in 0..text.len().min(70) {
                    let Some(text) = text.get(cut..) else { continue };
                    let mut expected = vec![alphabet.len as u8; text.len()];
                    for (at, c) in text.char_indices() {
                        expected[at] = alphabet.kind_after(text.as_bytes(), at) as u8;
                        assert_eq!(c.is_whitespace(), unicode::perl('s').contains(u32::from(c)));
                    }
                    let mut kinds = vec![0xEE; text.len()];
                    classifier.classify(&alphabet, text.as_bytes(), &mut kinds);
                    assert_eq!(kinds, expected, "{classifier:?}");
                }
            }
        }
    }
}
