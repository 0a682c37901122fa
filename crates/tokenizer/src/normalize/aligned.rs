//! Text that remembers where it came from.

use std::borrow::Cow;
use std::ops::Range;

/// Text on its way to the model, with the place in the original text that each of its bytes came from.
#[derive(Clone, Debug)]
pub(crate) struct Aligned<'t> {
    pub text: Cow<'t, str>,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Origin {
    /// Unchanged so far; byte 0 is at this offset of the original text.
    Same(u32),
    /// The span in the original text, for each byte.
    Spans(Vec<(u32, u32)>),
    /// Nobody will ask.
    Unknown,
}

impl<'t> Aligned<'t> {
    /// Text that starts at `offset` of the original. Without `track`, places are not kept once the text changes.
    pub(crate) fn new(text: &'t str, offset: usize, track: bool) -> Self {
        let origin = if track { Origin::Same(offset as u32) } else { Origin::Unknown };
        Self { text: Cow::Borrowed(text), origin }
    }

    /// The span in the original text of a range of this text. An empty range has an empty span.
    pub(crate) fn span(&self, range: Range<usize>) -> (u32, u32) {
        match &self.origin {
            Origin::Same(offset) => (range.start as u32 + offset, range.end as u32 + offset),
            Origin::Spans(spans) => {
                let end_of_all = spans.last().map_or(0, |s| s.1);
                let start = spans.get(range.start).map_or(end_of_all, |s| s.0);
                if range.is_empty() {
                    return (start, start);
                }
                (start, spans.get(range.end - 1).map_or(end_of_all, |s| s.1).max(start))
            }
            Origin::Unknown => (0, 0),
        }
    }

    /// A part of this text as a text of its own.
    pub(crate) fn slice(&self, range: Range<usize>) -> Aligned<'_> {
        let origin = match &self.origin {
            Origin::Same(offset) => Origin::Same(offset + range.start as u32),
            Origin::Spans(spans) => Origin::Spans(spans[range.clone()].to_vec()),
            Origin::Unknown => Origin::Unknown,
        };
        Aligned { text: Cow::Borrowed(&self.text[range]), origin }
    }

    /// Replaces the text by what `write` puts into the [`Rewriter`], reading from the text as it was.
    pub(crate) fn rewrite(&mut self, write: impl FnOnce(&str, &mut Rewriter<'_>)) {
        let spans = match self.origin {
            Origin::Unknown => None,
            _ => Some(Vec::with_capacity(self.text.len())),
        };
        let mut out = Rewriter {
            origin: &self.origin,
            text: String::with_capacity(self.text.len()),
            spans,
            whole: self.text.len(),
        };
        write(&self.text, &mut out);
        let Rewriter { text, spans, .. } = out;
        self.origin = spans.map_or(Origin::Unknown, Origin::Spans);
        self.text = Cow::Owned(text);
    }
}

/// Receives the new text of [`Aligned::rewrite`] piece by piece.
pub(crate) struct Rewriter<'a> {
    origin: &'a Origin,
    pub text: String,
    spans: Option<Vec<(u32, u32)>>,
    whole: usize,
}

impl Rewriter<'_> {
    /// Puts `new` in the place of the bytes `from` of the old text. An empty range inserts.
    pub(crate) fn push(&mut self, new: &str, from: Range<usize>) {
        self.text.push_str(new);
        if let Some(spans) = &mut self.spans {
            let span = match self.origin {
                Origin::Same(offset) => (from.start as u32 + offset, from.end as u32 + offset),
                Origin::Spans(old) => {
                    let end = old.last().map_or(0, |s| s.1);
                    let start = old.get(from.start).map_or(end, |s| s.0);
                    let stop = if from.is_empty() { start } else { old[from.end - 1].1 };
                    (start, stop)
                }
                Origin::Unknown => (0, 0),
            };
            spans.resize(spans.len() + new.len(), span);
        }
    }

    /// [`Rewriter::push`] for one character.
    pub(crate) fn push_char(&mut self, new: char, from: Range<usize>) {
        let mut buffer = [0; 4];
        self.push(new.encode_utf8(&mut buffer), from);
    }

    /// Takes back the last `len` bytes.
    pub(crate) fn pop(&mut self, len: usize) {
        let kept = self.text.len().saturating_sub(len);
        self.text.truncate(kept);
        if let Some(spans) = &mut self.spans {
            spans.truncate(kept);
        }
    }

    /// Keeps a range of the old text as it is.
    pub(crate) fn keep(&mut self, old: &str, from: Range<usize>) {
        debug_assert_eq!(old.len(), self.whole);
        self.text.push_str(&old[from.clone()]);
        if let Some(spans) = &mut self.spans {
            match self.origin {
                Origin::Same(offset) => {
                    for (i, c) in old[from.clone()].char_indices() {
                        let at = (from.start + i) as u32 + offset;
                        let width = c.len_utf8();
                        spans.resize(spans.len() + width, (at, at + width as u32));
                    }
                }
                Origin::Spans(before) => spans.extend_from_slice(&before[from]),
                Origin::Unknown => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_survive_two_rewrites() {
        let mut text = Aligned::new("aé c", 10, true);
        text.rewrite(|old, out| {
            out.push("xx", 0..0);
            out.keep(old, 0..3);
            out.push("\u{2581}", 3..4);
            out.keep(old, 4..5);
        });
        assert_eq!(text.text, "xxaé\u{2581}c");
        assert_eq!(text.span(0..2), (10, 10));
        assert_eq!(text.span(0..3), (10, 11));
        assert_eq!(text.span(3..5), (11, 13));
        assert_eq!(text.span(5..8), (13, 14));
        text.rewrite(|_, out| {
            out.push("E", 3..5);
            out.push("C", 5..9);
        });
        assert_eq!(text.span(0..1), (11, 13));
        assert_eq!(text.span(1..2), (13, 15));
        assert_eq!(text.span(2..2), (15, 15));
    }
}
