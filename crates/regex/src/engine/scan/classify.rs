//! Symbol kinds of a block of text, one byte for each byte.
//!
//! The kind of a symbol stands at its first byte; its continuation bytes get a kind of their own. ASCII goes through a
//! 128-entry table held in registers, where the machine has the instructions; every other symbol is decoded.

use crate::alphabet::Alphabet;

/// The table, and how to apply it.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// Kinds of ASCII; everything else is decoded.
    ascii: [u8; 128],
    /// The kind of a continuation byte.
    continuation: u8,
    /// Kinds as the machine numbers them, by those of the alphabet.
    columns: Box<[u8]>,
    /// Kinds of the characters of two bytes.
    two: Box<[u8]>,
    /// For each pair of first bytes of a character of three: the kind of all 64 characters, or [`MIXED`].
    three: Box<[u8]>,
    /// The same for the first three bytes of a character of four.
    four: Box<[u8]>,
    /// For first bytes from 0xC0 on: the kind of all characters, or [`VARIOUS`].
    leads: [u8; 64],
    /// Texts are known to be UTF-8.
    pub valid: bool,
    level: Level,
}

/// The characters with these first bytes are of several kinds.
const MIXED: u8 = u8::MAX;

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
        let two: Box<[u8]> = (0..0x800).map(|symbol| columns[usize::from(alphabet.kind_of(symbol))]).collect();
        let uniform = |prefixes| alphabet.uniform(prefixes, columns).map(|kind| kind.unwrap_or(MIXED)).collect();
        let (three, four): (Box<[u8]>, Box<[u8]>) = (uniform(0..0x400), uniform(0x400..0x4400));
        let same = |kinds: &[u8]| kinds[0] != MIXED && kinds.iter().all(|kind| *kind == kinds[0]);
        let mut leads = [VARIOUS; 64];
        for (byte, lead) in (0xC0usize..).zip(&mut leads) {
            // What would be longer than it need be, or a surrogate, is left out.
            let kinds = match byte {
                0xC2..0xE0 => &two[(byte & 0x1F) << 6..][..64],
                0xE0 => &three[0x20..0x40],
                0xED => &three[0x340..0x360],
                0xE1..0xF0 => &three[(byte & 0x0F) << 6..][..64],
                0xF0 => &four[..0xC00],
                0xF1..0xF4 => &four[((byte & 0x07) << 12) - 0x400..][..0x1000],
                0xF4 => &four[0x3C00..],
                _ => continue,
            };
            if same(kinds) {
                *lead = kinds[0];
            }
        }
        let continuation = columns[alphabet.len];
        let columns = columns.into();
        Classifier { ascii, continuation, columns, two, three, four, leads, valid, level: detect() }
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

    /// Writes the kinds of `text` to `kinds`, which has the same length. `text` begins and ends between symbols.
    pub fn classify(&self, alphabet: &Alphabet, text: &[u8], kinds: &mut [u8]) {
        assert_eq!(text.len(), kinds.len(), "one kind for each byte");
        #[cfg(target_arch = "x86_64")]
        if self.valid && self.level == Level::Avx2 && text.len() >= 32 {
            // SAFETY: this level is only chosen where `detect` has found AVX2.
            unsafe { x86::valid(self, alphabet, text, kinds) };
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
        let kinds = &mut kinds[at..];
        let bits = |byte: u8| u32::from(byte & 0x3F);
        let continuation = self.continuation;
        match text[at..] {
            [a @ 0xE0..=0xEF, b, c, _, ..] if self.valid => {
                let prefix = u32::from(a & 0x0F) << 6 | bits(b);
                let mut kind = self.three[prefix as usize];
                if kind == MIXED {
                    kind = self.columns[usize::from(alphabet.kind_of(prefix << 6 | bits(c)))];
                }
                // The fourth byte is written again with the next symbol.
                kinds[..4].copy_from_slice(&[kind, continuation, continuation, 0]);
                3
            }
            [a @ 0xC0..=0xDF, b, ..] if self.valid => {
                let kind = self.two[(u32::from(a & 0x1F) << 6 | bits(b)) as usize];
                kinds[..2].copy_from_slice(&[kind, continuation]);
                2
            }
            [a @ 0xF0..=0xF7, b, c, d, ..] if self.valid => {
                let prefix = u32::from(a & 0x07) << 12 | bits(b) << 6 | bits(c);
                let mut kind = self.four[prefix as usize - 0x400];
                if kind == MIXED {
                    kind = self.columns[usize::from(alphabet.kind_of(prefix << 6 | bits(d)))];
                }
                kinds[..4].copy_from_slice(&[kind, continuation, continuation, continuation]);
                4
            }
            _ => {
                let (kind, len) = alphabet.next_multi(text, at);
                kinds[0] = self.columns[usize::from(kind)];
                for kind in &mut kinds[1..len] {
                    *kind = continuation;
                }
                len
            }
        }
    }

    /// The kind of the character at `at`, which is not ASCII, in text that is UTF-8.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn kind_at(&self, alphabet: &Alphabet, text: &[u8], at: usize) -> u8 {
        let bits = |byte: u8| u32::from(byte & 0x3F);
        let (prefix, known, last) = match text[at..] {
            [a @ 0xE0..=0xEF, b, c, ..] => {
                let prefix = u32::from(a & 0x0F) << 6 | bits(b);
                (prefix, self.three[prefix as usize], c)
            }
            [a @ 0xC0..=0xDF, b, ..] => return self.two[(u32::from(a & 0x1F) << 6 | bits(b)) as usize],
            [a @ 0xF0..=0xF7, b, c, d, ..] => {
                let prefix = u32::from(a & 0x07) << 12 | bits(b) << 6 | bits(c);
                (prefix, self.four[(prefix as usize).wrapping_sub(0x400)], d)
            }
            _ => return self.continuation,
        };
        if known == MIXED { self.columns[usize::from(alphabet.kind_of(prefix << 6 | bits(last)))] } else { known }
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
        if is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("avx512bw") {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") {
            return Level::Avx2;
        }
    }
    Level::Scalar
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Classifier;
    use crate::alphabet::Alphabet;

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

    /// What the rows, of which the first is that of high half `first`, say of each byte; 0 for those that have no row.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn look_up<const N: usize>(rows: &[__m256i; N], first: usize, v: __m256i) -> __m256i {
        let mut kind = _mm256_setzero_si256();
        for (high, row) in (first..).zip(rows) {
            // Bytes of this high half keep their low half; all others get bit 7, for which the shuffle gives 0.
            let own = _mm256_xor_si256(v, _mm256_set1_epi8((high << 4) as i8));
            let index = _mm256_adds_epu8(own, _mm256_set1_epi8(0x70));
            kind = _mm256_or_si256(kind, _mm256_shuffle_epi8(*row, index));
        }
        kind
    }

    /// Classifies text of at least 32 bytes that is UTF-8. Where the first byte of a character tells its kind, nothing is decoded.
    #[target_feature(enable = "avx2")]
    pub fn valid(classifier: &Classifier, alphabet: &Alphabet, text: &[u8], kinds: &mut [u8]) {
        let (ascii, leads) = (rows::<8>(&classifier.ascii), rows::<4>(&classifier.leads));
        let continuation = _mm256_set1_epi8(classifier.continuation as i8);
        let mut at = 0;
        loop {
            let (bytes, out) = (&text[at..at + 32], &mut kinds[at..at + 32]);
            // SAFETY: `bytes` has 32 bytes; unaligned loads are allowed.
            let v = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            let beyond = _mm256_movemask_epi8(v) as u32;
            let mut kind = _mm256_setzero_si256();
            if beyond != u32::MAX {
                kind = look_up(&ascii, 0, v);
            }
            if beyond != 0 {
                let inner = _mm256_cmpgt_epi8(_mm256_set1_epi8(0xC0u8 as i8), v);
                kind = _mm256_or_si256(kind, _mm256_and_si256(inner, continuation));
                kind = _mm256_or_si256(kind, look_up(&leads, 0xC, v));
            }
            // SAFETY: `out` has 32 bytes; unaligned stores are allowed.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), kind) };
            let mut various = _mm256_movemask_epi8(kind) as u32;
            while various != 0 {
                let offset = various.trailing_zeros() as usize;
                various &= various - 1;
                out[offset] = classifier.kind_at(alphabet, text, at + offset);
            }
            if at + 32 >= text.len() {
                return;
            }
            // The last vector overlaps the one before it.
            at = (at + 32).min(text.len() - 32);
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
            let kind = look_up(&tables, 0, v);
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
