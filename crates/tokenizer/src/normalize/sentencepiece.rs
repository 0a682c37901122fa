//! SentencePiece's normaliser: the character map, then spaces.

use super::aligned::Aligned;
use super::charsmap::Charsmap;
use crate::model::bpe::MARKER;
use crate::trie::Trie;

/// The rules of a `.model` file (`NormalizerSpec`) together with the pieces that it must not touch.
#[derive(Clone, Debug)]
pub struct SentencePieceNormalizer {
    map: Option<Charsmap>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
    whitespace_as_suffix: bool,
    /// User-defined symbols stand as they are.
    protected: Trie,
    /// They would not without that: the map or the rules for spaces change one of them.
    protection_counts: bool,
}

/// What a `tokenizer.json` needs to do the same step by step.
pub(crate) struct Rules<'a> {
    pub(crate) map: Option<&'a Charsmap>,
    pub(crate) add_dummy_prefix: bool,
    pub(crate) remove_extra_whitespaces: bool,
    pub(crate) space: &'static str,
}

impl SentencePieceNormalizer {
    /// The normaliser of a `.model` file; `protected` are its user-defined symbols, which stay as they are.
    pub fn new<'a>(
        map: Option<Charsmap>,
        add_dummy_prefix: bool,
        remove_extra_whitespaces: bool,
        escape_whitespaces: bool,
        whitespace_as_suffix: bool,
        protected: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let symbols: Vec<&str> = protected.into_iter().collect();
        let protection_counts = symbols.iter().any(|symbol| {
            let spaces = symbol.starts_with(' ') || symbol.ends_with(' ') || symbol.contains("  ");
            let mapped = |at: usize| map.as_ref().is_some_and(|map| map.longest(&symbol.as_bytes()[at..]).is_some());
            remove_extra_whitespaces && spaces || symbol.char_indices().any(|(at, _)| mapped(at))
        });
        let protected = Trie::new(symbols.into_iter().map(|s| (s.as_bytes(), 0)));
        Self {
            map,
            add_dummy_prefix,
            remove_extra_whitespaces,
            escape_whitespaces,
            whitespace_as_suffix,
            protected,
            protection_counts,
        }
    }

    /// The rules, or what about them no sequence of other normalisers does.
    pub(crate) fn rules(&self) -> Result<Rules<'_>, &'static str> {
        if self.whitespace_as_suffix {
            return Err("a SentencePiece model with white space as suffix");
        }
        if self.protection_counts {
            return Err("a SentencePiece model with user-defined symbols that its normaliser would change");
        }
        Ok(Rules {
            map: self.map.as_ref(),
            add_dummy_prefix: self.add_dummy_prefix,
            remove_extra_whitespaces: self.remove_extra_whitespaces,
            space: if self.escape_whitespaces { MARKER } else { " " },
        })
    }

    /// The next unit of the text: its length and its replacement.
    fn step<'a>(&'a self, text: &'a str) -> (usize, &'a str) {
        if let Some((len, _)) = self.protected.longest(text.as_bytes()) {
            return (len, &text[..len]);
        }
        if let Some(map) = &self.map
            && let Some((len, new)) = map.longest(text.as_bytes())
            && text.is_char_boundary(len)
        {
            return (len, new);
        }
        let len = text.chars().next().map_or(0, char::len_utf8);
        (len, &text[..len])
    }

    pub(crate) fn apply(&self, text: &mut Aligned<'_>) {
        let space = if self.escape_whitespaces { MARKER } else { " " };
        text.rewrite(|old, out| {
            let mut at = 0;
            if self.remove_extra_whitespaces {
                while at < old.len() {
                    let (len, new) = self.step(&old[at..]);
                    if new != " " {
                        break;
                    }
                    at += len;
                }
            }
            // A text of nothing but spaces is empty; no space is put before it.
            if at == old.len() {
                return;
            }
            if self.add_dummy_prefix && !self.whitespace_as_suffix {
                out.push(space, at..at);
            }
            let mut previous_space = self.remove_extra_whitespaces;
            while at < old.len() {
                let (len, new) = self.step(&old[at..]);
                let mut new = new;
                while previous_space && new.starts_with(' ') {
                    new = &new[1..];
                }
                if !new.is_empty() {
                    let from = at..at + len;
                    for (i, part) in new.split(' ').enumerate() {
                        if i > 0 {
                            out.push(space, from.clone());
                        }
                        out.push(part, from.clone());
                    }
                    previous_space = new.ends_with(' ');
                }
                at += len;
                if !self.remove_extra_whitespaces {
                    previous_space = false;
                }
            }
            if self.remove_extra_whitespaces {
                while out.text.ends_with(space) {
                    out.pop(space.len());
                }
            }
            if self.add_dummy_prefix && self.whitespace_as_suffix {
                out.push(space, at..at);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(normalizer: &SentencePieceNormalizer, text: &str) -> String {
        let mut aligned = Aligned::new(text, 0, true);
        normalizer.apply(&mut aligned);
        aligned.text.into_owned()
    }

    #[test]
    fn spaces_are_collapsed_marked_and_prefixed() {
        let normalizer = SentencePieceNormalizer::new(None, true, true, true, false, []);
        assert_eq!(run(&normalizer, "  a  b "), "▁a▁b");
        assert_eq!(run(&normalizer, ""), "");
        assert_eq!(run(&normalizer, "   "), "");
        let keep = SentencePieceNormalizer::new(None, true, false, true, false, []);
        assert_eq!(run(&keep, "  a  b "), "▁▁▁a▁▁b▁");
    }

    #[test]
    fn protected_pieces_escape_the_map() {
        let raw = super::super::charsmap::tests::single_byte_map(&[(b'A', "a")]);
        let map = Charsmap::new(&raw).unwrap();
        let normalizer = SentencePieceNormalizer::new(Some(map), false, false, true, false, ["<A>"]);
        assert_eq!(run(&normalizer, "A<A>A"), "a<A>a");
    }
}
