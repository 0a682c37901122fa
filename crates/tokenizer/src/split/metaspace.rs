//! Spaces as visible marks, as SentencePiece does.

use super::each_piece;
use crate::error::Result;
use crate::model::Scratch;
use crate::normalize::aligned::Aligned;
use crate::normalize::first_char;

/// When a mark is put in front of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrependScheme {
    /// In front of every part of the text that stands between added tokens.
    Always,
    /// In front of the whole text only.
    First,
    /// Not at all.
    Never,
}

/// Replaces spaces by a mark and optionally splits before each mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metaspace {
    /// The mark, usually U+2581.
    pub replacement: char,
    /// When a mark is put in front.
    pub prepend: PrependScheme,
    /// Split before each mark.
    pub split: bool,
}

impl Metaspace {
    pub(super) fn apply(&self, text: &mut Aligned<'_>, first: bool, scratch: &mut Scratch) -> Result<()> {
        let mut buffer = [0; 4];
        let mark: &str = self.replacement.encode_utf8(&mut buffer);
        if text.text.contains(' ') {
            replace_spaces(text, scratch, mark);
        }
        insert(text, scratch, |piece, at_start| {
            let wanted = match self.prepend {
                PrependScheme::Always => true,
                PrependScheme::First => first && at_start,
                PrependScheme::Never => false,
            };
            (wanted && !piece.starts_with(self.replacement)).then_some(mark)
        });
        if !self.split {
            return Ok(());
        }
        each_piece(text, scratch, |piece, out| {
            let mut start = 0;
            for (i, _) in piece.match_indices(self.replacement).filter(|(i, _)| *i > 0) {
                out.push((start, i as u32));
                start = i as u32;
            }
            out.push((start, piece.len() as u32));
            Ok(())
        })
    }
}

fn replace_spaces(text: &mut Aligned<'_>, scratch: &mut Scratch, mark: &str) {
    let pieces = &mut scratch.pieces;
    text.rewrite(|old, out| {
        for piece in pieces {
            let start = out.text.len() as u32;
            let mut at = piece.0 as usize;
            for (i, _) in old[piece.0 as usize..piece.1 as usize].match_indices(' ') {
                let space = piece.0 as usize + i;
                out.keep(old, at..space);
                out.push(mark, space..space + 1);
                at = space + 1;
            }
            out.keep(old, at..piece.1 as usize);
            *piece = (start, out.text.len() as u32);
        }
    });
}

/// Puts what `before` returns in front of each piece; it also learns whether the piece is at the start of the text.
pub(super) fn insert<'s>(
    text: &mut Aligned<'_>,
    scratch: &mut Scratch,
    before: impl Fn(&str, bool) -> Option<&'s str>,
) {
    let pieces = &mut scratch.pieces;
    let prefix = |text: &str, p: &(u32, u32)| before(&text[p.0 as usize..p.1 as usize], p.0 == 0);
    if pieces.iter().all(|p| prefix(&text.text, p).is_none()) {
        return;
    }
    text.rewrite(|old, out| {
        for piece in pieces {
            let start = out.text.len() as u32;
            if let Some(new) = prefix(old, piece) {
                let from = piece.0 as usize;
                out.push(new, from..from + first_char(&old[from..]));
            }
            out.keep(old, piece.0 as usize..piece.1 as usize);
            *piece = (start, out.text.len() as u32);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::{PreTokenizer, Step};
    use super::*;

    fn split(prepend: PrependScheme, split: bool, text: &str) -> Vec<String> {
        let metaspace = Metaspace { replacement: '\u{2581}', prepend, split };
        PreTokenizer::new([Step::Metaspace(metaspace)]).split(text).unwrap()
    }

    #[test]
    fn spaces_become_marks() {
        assert_eq!(split(PrependScheme::Always, true, "a b  c"), ["▁a", "▁b", "▁", "▁c"]);
        assert_eq!(split(PrependScheme::Never, false, "a b"), ["a▁b"]);
        assert_eq!(split(PrependScheme::First, true, " a"), ["▁a"]);
        assert!(split(PrependScheme::Always, true, "").is_empty());
    }

    #[test]
    fn after_a_whitespace_split_every_word_gets_a_mark() {
        let metaspace = Metaspace { replacement: '\u{2581}', prepend: PrependScheme::Always, split: true };
        let both = PreTokenizer::new([Step::WhitespaceSplit, Step::Metaspace(metaspace)]);
        assert_eq!(both.split(" a  b\tc ").unwrap(), ["▁a", "▁b", "▁c"]);
    }
}
