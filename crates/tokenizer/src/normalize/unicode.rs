//! Unicode normal forms and case, with alignment.

use super::aligned::{Aligned, Rewriter};
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, is_nfc_quick, is_nfd_quick, is_nfkc_quick, is_nfkd_quick};

/// A Unicode normal form (UAX #15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Canonical decomposition, then composition.
    Nfc,
    /// Canonical decomposition.
    Nfd,
    /// Compatibility decomposition, then composition.
    Nfkc,
    /// Compatibility decomposition.
    Nfkd,
}

impl Form {
    pub(crate) fn apply(self, text: &mut Aligned<'_>) {
        use unicode_normalization::UnicodeNormalization as _;
        let quick = match self {
            Self::Nfc => is_nfc_quick(text.text.chars()),
            Self::Nfd => is_nfd_quick(text.text.chars()),
            Self::Nfkc => is_nfkc_quick(text.text.chars()),
            Self::Nfkd => is_nfkd_quick(text.text.chars()),
        };
        if quick == IsNormalized::Yes {
            return;
        }
        by_segments(text, |s| match self {
            Self::Nfc => s.nfc().collect(),
            Self::Nfd => s.nfd().collect(),
            Self::Nfkc => s.nfkc().collect(),
            Self::Nfkd => s.nfkd().collect(),
        });
    }
}

/// True for a character that never combines with what stands before it, in any normal form: the text can be
/// normalised in two halves here.
fn starts_segment(c: char) -> bool {
    c.is_ascii()
        || canonical_combining_class(c) == 0
            && is_nfc_quick(std::iter::once(c)) == IsNormalized::Yes
            && is_nfkc_quick(std::iter::once(c)) != IsNormalized::Maybe
            && !decomposes_into_mark(c)
}

/// Some starters decompose into a sequence that begins with a mark, or compose backwards once decomposed.
fn decomposes_into_mark(c: char) -> bool {
    let mut first = None;
    unicode_normalization::char::decompose_compatible(c, |d| {
        first.get_or_insert(d);
    });
    first.is_some_and(|d| {
        d != c && (canonical_combining_class(d) != 0 || is_nfc_quick(std::iter::once(d)) != IsNormalized::Yes)
    })
}

/// Rewrites each segment of the text by `f`. The result points to the characters it comes from, or to the whole segment
/// where characters were combined or reordered.
pub(crate) fn by_segments(text: &mut Aligned<'_>, f: impl Fn(&str) -> String) {
    text.rewrite(|old, out| {
        let mut start = 0;
        while start < old.len() {
            let tail = &old.as_bytes()[start..];
            // ASCII stays as it is; its last character may still combine with what follows.
            let ascii = tail.iter().take_while(|b| b.is_ascii()).count();
            if ascii > 1 {
                out.keep(old, start..start + ascii - 1);
                start += ascii - 1;
            }
            let mut chars = old[start..].char_indices();
            chars.next();
            let end = chars.find(|(_, c)| starts_segment(*c)).map_or(old.len(), |(i, _)| start + i);
            let new = f(&old[start..end]);
            if new == old[start..end] {
                out.keep(old, start..end);
            } else {
                push_segment(out, &new, &old[start..end], start, &f);
            }
            start = end;
        }
    });
}

/// When the characters of a segment change one by one, each result points to its own character.
fn push_segment(out: &mut Rewriter<'_>, new: &str, segment: &str, start: usize, f: &impl Fn(&str) -> String) {
    let each = |(i, c): (usize, char)| (start + i..start + i + c.len_utf8(), f(c.encode_utf8(&mut [0; 4])));
    let parts: Vec<_> = segment.char_indices().map(each).collect();
    if parts.iter().map(|(_, part)| &part[..]).collect::<String>() == new {
        for (range, part) in parts {
            out.push(&part, range);
        }
    } else {
        out.push(new, start..start + segment.len());
    }
}

/// Full lower-casing, character by character (no final-sigma rule, as in Hugging Face's).
pub(crate) fn lowercase(text: &mut Aligned<'_>) {
    if text.text.chars().all(|c| c.is_ascii() && !c.is_ascii_uppercase()) {
        return;
    }
    text.rewrite(|old, out| {
        for (i, c) in old.char_indices() {
            for lower in c.to_lowercase() {
                out.push_char(lower, i..i + c.len_utf8());
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_normalization::UnicodeNormalization as _;

    #[test]
    fn segments_together_are_the_whole() {
        let parts = [
            "a",
            "é",
            "e\u{301}",
            "\u{1100}",
            "\u{1161}",
            "\u{11a8}",
            "각",
            "ﬁ",
            "Ⅷ",
            "\u{0323}",
            "\u{0307}",
            "ſ",
            "\u{ff9e}",
            "ｶ",
            "\u{0b47}",
            "\u{0b3e}",
            "が",
            "😀",
            "\u{200d}",
            "½",
            " ",
            "\u{3099}",
            "か",
            "\u{fb1d}",
            "\u{1f1e6}",
        ];
        let mut rng = crate::rng::Rng::new(9);
        for _ in 0..4000 {
            let text: String = (0..rng.next_u64() % 9).map(|_| parts[rng.next_u64() as usize % parts.len()]).collect();
            for form in [Form::Nfc, Form::Nfd, Form::Nfkc, Form::Nfkd] {
                let mut ours = Aligned::new(&text, 0, true);
                form.apply(&mut ours);
                let whole: String = match form {
                    Form::Nfc => text.nfc().collect(),
                    Form::Nfd => text.nfd().collect(),
                    Form::Nfkc => text.nfkc().collect(),
                    Form::Nfkd => text.nfkd().collect(),
                };
                assert_eq!(ours.text, whole, "{form:?} of {text:?}");
                let (start, end) = ours.span(0..ours.text.len());
                assert_eq!((start as usize, end as usize), (0, text.len()));
            }
        }
    }
}
