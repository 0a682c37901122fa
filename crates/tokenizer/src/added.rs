//! Added and special tokens: texts that are tokens as they stand, found before the model sees anything.

use crate::error::{Error, Result};
use crate::hash::{FastMap, FastSet};
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A token that is found in the text as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub content: String,
    /// A control token: text never turns into it unless the caller allows it.
    pub special: bool,
    /// Only where no word character stands beside it.
    pub single_word: bool,
    /// It takes the white space before it.
    pub lstrip: bool,
    /// It takes the white space after it.
    pub rstrip: bool,
    /// It is looked for in the normalised text.
    pub normalized: bool,
}

impl AddedToken {
    /// A control token.
    pub fn special(id: u32, content: impl Into<String>) -> Self {
        Self {
            id,
            content: content.into(),
            special: true,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
        }
    }

    /// A token of ordinary text, which is always found.
    pub fn ordinary(id: u32, content: impl Into<String>) -> Self {
        Self { special: false, ..Self::special(id, content) }
    }
}

/// Which special tokens a text may contain. The default is none: what a user types is text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedSpecial {
    /// The text of a special token is encoded as any other text.
    #[default]
    None,
    /// All special tokens are recognised. Only for text that the program itself has put together.
    All,
    /// These special tokens are recognised.
    Only(Vec<String>),
}

impl AllowedSpecial {
    /// The special tokens with these texts.
    pub fn only<S: Into<String>>(tokens: impl IntoIterator<Item = S>) -> Self {
        Self::Only(tokens.into_iter().map(Into::into).collect())
    }
}

/// The added tokens of a tokenizer, and the automata that find them.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddedTokens {
    by_id: BTreeMap<u32, AddedToken>,
    by_content: FastMap<String, u32>,
    /// Automata over tokens of ordinary text (first) and over all tokens; each split by `normalized`.
    ordinary: Matchers,
    all: Matchers,
    id_bound: usize,
}

#[derive(Clone, Debug, Default)]
struct Matchers {
    raw: Option<Arc<Matcher>>,
    normalized: Option<Arc<Matcher>>,
}

#[derive(Debug)]
struct Matcher {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

/// A part of a text: an added token or what is between two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Text(Range<usize>),
    Token(u32, Range<usize>),
}

impl AddedTokens {
    /// # Errors
    /// When two tokens share an id or a text, or a text is empty.
    pub(crate) fn new(
        tokens: impl IntoIterator<Item = AddedToken>,
        normalize: impl Fn(&str) -> Result<String>,
    ) -> Result<Self> {
        let mut added = Self::default();
        for token in tokens {
            if token.content.is_empty() {
                return Err(Error::Config(format!("the added token {} has no text", token.id)));
            }
            if let Some(old) = added.by_id.get(&token.id) {
                let (a, b) = (&old.content, &token.content);
                return Err(Error::Config(format!("the added tokens {a:?} and {b:?} share the id {}", token.id)));
            }
            if let Some(old) = added.by_content.insert(token.content.clone(), token.id) {
                return Err(Error::Config(format!(
                    "the added token {:?} has the ids {old} and {}",
                    token.content, token.id
                )));
            }
            added.id_bound = added.id_bound.max(token.id as usize + 1);
            added.by_id.insert(token.id, token);
        }
        let pick = |special: bool, normalized: bool| {
            added.matcher(|t| (special || !t.special) && t.normalized == normalized, normalized, &normalize)
        };
        let ordinary = Matchers { raw: pick(false, false)?, normalized: pick(false, true)? };
        let all = Matchers { raw: pick(true, false)?, normalized: pick(true, true)? };
        Ok(Self { ordinary, all, ..added })
    }

    fn matcher(
        &self,
        wanted: impl Fn(&AddedToken) -> bool,
        normalized: bool,
        normalize: impl Fn(&str) -> Result<String>,
    ) -> Result<Option<Arc<Matcher>>> {
        let mut ids = Vec::new();
        let mut contents = Vec::new();
        for token in self.by_id.values().filter(|t| wanted(t)) {
            let content = if normalized { normalize(&token.content)? } else { token.content.clone() };
            if !content.is_empty() {
                ids.push(token.id);
                contents.push(content);
            }
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&contents)
            .map_err(|e| Error::Config(format!("the added tokens cannot be searched for: {e}")))?;
        Ok(Some(Arc::new(Matcher { automaton, ids })))
    }

    pub(crate) fn get(&self, id: u32) -> Option<&AddedToken> {
        self.by_id.get(&id)
    }

    pub(crate) fn id(&self, content: &str) -> Option<u32> {
        self.by_content.get(content).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.by_id.values()
    }

    pub(crate) fn id_bound(&self) -> usize {
        self.id_bound
    }

    /// The finder for a policy.
    ///
    /// # Errors
    /// When the policy names a token that is not special here.
    pub(crate) fn finder(&self, allowed: &AllowedSpecial) -> Result<Finder<'_>> {
        let (matchers, only) = match allowed {
            AllowedSpecial::None => (&self.ordinary, None),
            AllowedSpecial::All => (&self.all, None),
            AllowedSpecial::Only(names) => {
                let mut only = FastSet::default();
                for name in names {
                    match self.id(name) {
                        Some(id) if self.by_id[&id].special => only.insert(id),
                        _ => {
                            return Err(Error::UnknownSpecial { token: name.clone(), known: self.known() });
                        }
                    };
                }
                (&self.all, Some(only))
            }
        };
        Ok(Finder { tokens: self, matchers, only })
    }

    fn known(&self) -> String {
        let names: Vec<&str> = self.iter().filter(|t| t.special).map(|t| &t.content[..]).collect();
        match names.len() {
            0 => "none".to_string(),
            1..=8 => names.join(", "),
            n => format!("{}, … ({n} in all)", names[..8].join(", ")),
        }
    }
}

/// Finds added tokens under one policy.
pub(crate) struct Finder<'a> {
    tokens: &'a AddedTokens,
    matchers: &'a Matchers,
    only: Option<FastSet<u32>>,
}

impl Finder<'_> {
    /// True when nothing is ever found in raw text.
    pub(crate) fn raw_is_empty(&self) -> bool {
        self.matchers.raw.is_none()
    }

    /// True when nothing is ever found in normalised text.
    pub(crate) fn normalized_is_empty(&self) -> bool {
        self.matchers.normalized.is_none()
    }

    /// The sections of a raw text.
    pub(crate) fn raw(&self, text: &str) -> Vec<Section> {
        self.sections(self.matchers.raw.as_deref(), text)
    }

    /// The sections of a normalised text.
    pub(crate) fn normalized(&self, text: &str) -> Vec<Section> {
        self.sections(self.matchers.normalized.as_deref(), text)
    }

    fn sections(&self, matcher: Option<&Matcher>, text: &str) -> Vec<Section> {
        let mut sections = Vec::new();
        let mut at = 0;
        let mut from = 0;
        while let Some(matcher) = matcher
            && let Some(hit) = matcher.automaton.find(aho_corasick::Input::new(text).range(from..))
        {
            let id = matcher.ids[hit.pattern().as_usize()];
            let token = &self.tokens.by_id[&id];
            // A token that is not allowed hides neither a shorter one at the same place nor one inside it.
            let refused = token.special && self.only.as_ref().is_some_and(|only| !only.contains(&id));
            let range = if refused { self.shorter(matcher, text, hit.start()) } else { Some((id, hit.range())) };
            let Some((id, range)) = range else {
                from = hit.start() + text[hit.start()..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let token = if refused { &self.tokens.by_id[&id] } else { token };
            from = range.end;
            if token.single_word && !stands_alone(text, &range) {
                continue;
            }
            let mut range = range;
            if token.lstrip {
                range.start = at + text[at..range.start].trim_end().len();
            }
            if token.rstrip {
                range.end = text.len() - text[range.end..].trim_start().len();
                from = range.end;
            }
            if at < range.start {
                sections.push(Section::Text(at..range.start));
            }
            at = range.end;
            sections.push(Section::Token(id, range));
        }
        if at < text.len() {
            sections.push(Section::Text(at..text.len()));
        }
        sections
    }

    /// The longest allowed token that starts at this place.
    fn shorter(&self, matcher: &Matcher, text: &str, start: usize) -> Option<(u32, Range<usize>)> {
        let only = self.only.as_ref()?;
        matcher
            .ids
            .iter()
            .map(|id| &self.tokens.by_id[id])
            .filter(|t| (!t.special || only.contains(&t.id)) && text[start..].starts_with(&t.content))
            .max_by_key(|t| t.content.len())
            .map(|t| (t.id, start..start + t.content.len()))
    }
}

fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    !text[..range.start].chars().next_back().is_some_and(word) && !text[range.end..].chars().next().is_some_and(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> AddedTokens {
        let list = [
            AddedToken::special(1, "<s>"),
            AddedToken::special(2, "<s>x"),
            AddedToken::ordinary(3, "  "),
            AddedToken { single_word: true, ..AddedToken::ordinary(4, "cat") },
            AddedToken { lstrip: true, rstrip: true, ..AddedToken::special(5, "<mask>") },
        ];
        AddedTokens::new(list, |s| Ok(s.to_string())).unwrap()
    }

    fn find(allowed: AllowedSpecial, text: &str) -> Vec<(u32, String)> {
        let tokens = tokens();
        let finder = tokens.finder(&allowed).unwrap();
        let sections = finder.raw(text).into_iter();
        sections
            .map(|s| match s {
                Section::Text(r) => (0, text[r].to_string()),
                Section::Token(id, r) => (id, text[r].to_string()),
            })
            .collect()
    }

    fn owned(list: &[(u32, &str)]) -> Vec<(u32, String)> {
        list.iter().map(|(id, s)| (*id, s.to_string())).collect()
    }

    #[test]
    fn special_text_is_ordinary_unless_allowed() {
        assert_eq!(find(AllowedSpecial::None, "a<s>  b"), owned(&[(0, "a<s>"), (3, "  "), (0, "b")]));
        assert_eq!(find(AllowedSpecial::All, "a<s>xb"), owned(&[(0, "a"), (2, "<s>x"), (0, "b")]));
        assert_eq!(find(AllowedSpecial::only(["<s>"]), "a<s>xb"), owned(&[(0, "a"), (1, "<s>"), (0, "xb")]));
        assert_eq!(find(AllowedSpecial::only(["<mask>"]), "<s>x"), owned(&[(0, "<s>x")]));
        let error = tokens().finder(&AllowedSpecial::only(["<nope>"])).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("<nope>") && error.contains("<mask>"), "{error}");
        assert!(tokens().finder(&AllowedSpecial::only(["cat"])).is_err(), "an ordinary token is not a special one");
    }

    #[test]
    fn flags_are_followed() {
        assert_eq!(find(AllowedSpecial::None, "cat cats"), owned(&[(4, "cat"), (0, " cats")]));
        let stripped = find(AllowedSpecial::All, "a  \n<mask> b");
        assert_eq!(stripped, owned(&[(0, "a"), (3, "  "), (5, "\n<mask> "), (0, "b")]));
    }
}
