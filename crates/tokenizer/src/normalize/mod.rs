//! Normalisers: what happens to text before it is cut into pieces.
//!
//! - `aligned`: text that remembers where it came from
//! - `unicode`: normal forms and case
//! - `bert`: BERT's cleaning
//! - `charsmap`: SentencePiece's precompiled map
//! - `sentencepiece`: SentencePiece's whole normaliser

pub(crate) mod aligned;
pub mod bert;
pub mod charsmap;
pub mod sentencepiece;
pub mod unicode;

use crate::error::Result;
use crate::split::Pattern;
use aligned::Aligned;
pub use bert::BertNormalizer;
pub use charsmap::Charsmap;
pub use sentencepiece::SentencePieceNormalizer;
pub use unicode::Form;
use unicode_segmentation::UnicodeSegmentation as _;

/// One step of normalisation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Normalizer {
    /// A Unicode normal form.
    Unicode(Form),
    /// Lower case.
    Lowercase,
    /// Drop combining marks (the text is not decomposed for it).
    StripAccents,
    /// Drop white space at the ends.
    Strip {
        /// At the start.
        left: bool,
        /// At the end.
        right: bool,
    },
    /// Put a text in front, unless the text is empty.
    Prepend(String),
    /// Replace every match.
    Replace {
        /// What to look for.
        pattern: Pattern,
        /// What to put there.
        content: String,
    },
    /// BERT's cleaning.
    Bert(BertNormalizer),
    /// SentencePiece's map alone, grapheme by grapheme, as Hugging Face applies it.
    Precompiled(Charsmap),
    /// The rules of the NMT tool that SentencePiece calls `nmt`: some control characters go, others become spaces.
    Nmt,
    /// SentencePiece's whole normaliser.
    SentencePiece(SentencePieceNormalizer),
}

impl Normalizer {
    /// The text after this step.
    ///
    /// # Errors
    /// When a pattern reaches its search limit.
    pub fn normalize(&self, text: &str) -> Result<String> {
        let mut aligned = Aligned::new(text, 0, false);
        self.apply(&mut aligned)?;
        Ok(aligned.text.into_owned())
    }

    pub(crate) fn apply(&self, text: &mut Aligned<'_>) -> Result<()> {
        match self {
            Self::Unicode(form) => form.apply(text),
            Self::Lowercase => unicode::lowercase(text),
            Self::StripAccents => {
                if text.text.chars().any(is_combining_mark) {
                    text.rewrite(|old, out| {
                        for (i, c) in old.char_indices().filter(|(_, c)| !is_combining_mark(*c)) {
                            out.push_char(c, i..i + c.len_utf8());
                        }
                    });
                }
            }
            Self::Strip { left, right } => {
                let mut kept = &text.text[..];
                let before = if *left { kept.len() - kept.trim_start().len() } else { 0 };
                kept = &kept[before..];
                let after = if *right { kept.len() - kept.trim_end().len() } else { 0 };
                if before + after > 0 {
                    text.rewrite(|old, out| out.keep(old, before..old.len() - after));
                }
            }
            Self::Prepend(prefix) => {
                if !text.text.is_empty() {
                    text.rewrite(|old, out| {
                        // What is put in front points to the first character, as in the reference.
                        out.push(prefix, 0..first_char(old));
                        out.keep(old, 0..old.len());
                    });
                }
            }
            Self::Replace { pattern, content } => {
                let mut found = Vec::new();
                pattern.for_each(&text.text, |range| found.push(range))?;
                if !found.is_empty() {
                    text.rewrite(|old, out| {
                        let mut at = 0;
                        for range in found {
                            out.keep(old, at..range.start);
                            at = range.end;
                            out.push(content, range);
                        }
                        out.keep(old, at..old.len());
                    });
                }
            }
            Self::Bert(bert) => bert.apply(text),
            Self::Precompiled(map) => precompiled(map, text),
            Self::Nmt => nmt(text),
            Self::SentencePiece(normalizer) => normalizer.apply(text),
        }
        Ok(())
    }
}

/// Length of the first character.
pub(crate) fn first_char(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

fn is_combining_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

/// Hugging Face's execution of the map: a grapheme of fewer than six bytes is looked up whole, and only when that
/// fails, its characters one by one.
fn precompiled(map: &Charsmap, text: &mut Aligned<'_>) {
    text.rewrite(|old, out| {
        for (start, grapheme) in old.grapheme_indices(true) {
            let end = start + grapheme.len();
            if grapheme.len() < 6
                && let Some((len, new)) = map.longest(grapheme.as_bytes())
                && len <= grapheme.len()
            {
                out.push(new, start..end);
                continue;
            }
            for (i, c) in grapheme.char_indices() {
                let at = start + i..start + i + c.len_utf8();
                match map.longest(&old.as_bytes()[at.clone()]) {
                    Some((_, new)) => out.push(new, at),
                    None => out.keep(old, at),
                }
            }
        }
    });
}

fn nmt(text: &mut Aligned<'_>) {
    text.rewrite(|old, out| {
        for (i, c) in old.char_indices() {
            let at = i..i + c.len_utf8();
            match u32::from(c) {
                0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0x8f | 0x9f => {}
                0x09 | 0x0a | 0x0c | 0x0d | 0x1680 | 0x200b..=0x200f | 0x2028 | 0x2029 | 0x2581 | 0xfeff | 0xfffd => {
                    out.push(" ", at);
                }
                _ => out.keep(old, at),
            }
        }
    });
}
