//! Where a piece can be cut: between two characters that no token spans. What lies between two cuts is encoded by itself, as no
//! merge ever crosses them; in many scripts that is one character.

use crate::vocab::Vocab;

/// Pieces that come before the table is made, or bytes of one: a few short texts are encoded before it would be ready.
pub(super) const PATIENCE: u32 = 60;
pub(super) const AT_ONCE: usize = 512;

/// Bits of the filter.
const JOINS: usize = 1 << 20;

/// Which bytes stand beside each other in tokens where a character of several bytes begins.
#[derive(Debug)]
pub(super) struct Cuts {
    /// Pairs of bytes that a token begins or ends with; the second begins a character.
    pairs: Box<[u64]>,
    /// A filter for four bytes inside of tokens of which the third begins a character.
    joins: Box<[u64]>,
}

#[inline(always)]
fn pair(a: u8, b: u8) -> (usize, u64) {
    let place = usize::from(a) << 8 | usize::from(b);
    (place / 64, 1 << (place % 64))
}

#[inline(always)]
fn join(four: [u8; 4]) -> (usize, u64) {
    let h = u64::from(u32::from_le_bytes(four)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    (h as usize / 64, 1 << (h % 64))
}

#[inline(always)]
fn begins(byte: u8) -> bool {
    byte >= 0xC0
}

impl Cuts {
    pub(super) fn new(vocab: &Vocab) -> Self {
        let words = |n: usize| vec![0u64; n].into_boxed_slice();
        let mut cuts = Self { pairs: words(1 << 10), joins: words(JOINS / 64) };
        for (_, token) in vocab.iter().filter(|(_, token)| token.len() > 1 && !token.is_ascii()) {
            let last = token.len() - 1;
            for at in (1..=last).filter(|&at| begins(token[at])) {
                if at == 1 || at == last {
                    let (word, bit) = pair(token[at - 1], token[at]);
                    cuts.pairs[word] |= bit;
                } else {
                    let (word, bit) = join([token[at - 2], token[at - 1], token[at], token[at + 1]]);
                    cuts.joins[word] |= bit;
                }
            }
        }
        cuts
    }

    /// Whether no token can lie across the place `at` of `text[start..end]`. One that does begins or ends with the two bytes at
    /// that place, or has two on both sides.
    #[inline(always)]
    fn cuts_at(&self, text: &[u8], [start, at, end]: [usize; 3]) -> bool {
        let (word, bit) = pair(text[at - 1], text[at]);
        if self.pairs[word] & bit != 0 {
            return false;
        }
        if at - start < 2 || end - at < 2 {
            return true;
        }
        let (word, bit) = join([text[at - 2], text[at - 1], text[at], text[at + 1]]);
        self.joins[word] & bit == 0
    }

    /// The first cut of `text[start..end]` behind `from`, or `end`.
    #[inline]
    pub(super) fn next(&self, text: &[u8], [start, from, end]: [usize; 3]) -> usize {
        let mut at = from;
        loop {
            // As long as the character that begins here, if it is one.
            let lead = text[at];
            at += 1 + usize::from(lead >= 0xC0) + usize::from(lead >= 0xE0) + usize::from(lead >= 0xF0);
            if at >= end {
                return end;
            }
            if begins(text[at]) && self.cuts_at(text, [start, at, end]) {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn no_token_lies_across_a_cut() {
        let rng = std::cell::RefCell::new(Rng::new(9));
        let parts = ["中", "文", "字", "😀", "😂", "é", "ж", "a", "bc", " ", "\u{301}", "the", "\u{4e2e}"];
        let pick = |n: usize| rng.borrow_mut().next_u64() as usize % n;
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        for _ in 0..60 {
            let token: Vec<u8> = (0..1 + pick(4)).flat_map(|_| parts[pick(parts.len())].bytes()).collect();
            // Some begin or end inside a character.
            let (from, to) = (pick(3).min(token.len() - 1), token.len() - pick(3).min(token.len() - 1));
            if from < to && !tokens.contains(&token[from..to].to_vec()) {
                tokens.push(token[from..to].to_vec());
            }
        }
        let vocab = Vocab::new("test", tokens.iter().enumerate().map(|(i, t)| (i as u32, t))).unwrap();
        let cuts = Cuts::new(&vocab);
        let mut found = 0;
        for _ in 0..600 {
            let text: Vec<u8> = (0..30).flat_map(|_| parts[pick(parts.len())].bytes()).collect();
            let start = pick(text.len());
            let end = start + 1 + pick(text.len() - start);
            let mut at = cuts.next(&text, [start, start, end]);
            while at < end {
                found += 1;
                for from in start..at {
                    for to in at + 1..=end {
                        assert_eq!(vocab.id(&text[from..to]), None);
                    }
                }
                at = cuts.next(&text, [start, at, end]);
            }
        }
        assert!(found > 200, "{found}");
    }
}
