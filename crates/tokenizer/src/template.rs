//! Post-processing: the special tokens that a model expects around one text or a pair.

use crate::error::{Error, Result};

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A special token with its type id.
    Token {
        /// The token.
        id: u32,
        /// Its type id.
        type_id: u32,
    },
    /// The first text.
    First {
        /// Type id of its tokens.
        type_id: u32,
    },
    /// The second text.
    Second {
        /// Type id of its tokens.
        type_id: u32,
    },
}

/// Templates for one text and for a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    single: Vec<Part>,
    pair: Vec<Part>,
}

impl Default for Template {
    /// No special tokens; the second text of a pair has type id 1.
    fn default() -> Self {
        let first = Part::First { type_id: 0 };
        Self { single: vec![first], pair: vec![first, Part::Second { type_id: 1 }] }
    }
}

impl Template {
    /// A template.
    ///
    /// # Errors
    /// When `single` does not hold exactly the first text, or `pair` not exactly both.
    pub fn new(single: Vec<Part>, pair: Vec<Part>) -> Result<Self> {
        let firsts = |parts: &[Part]| parts.iter().filter(|p| matches!(p, Part::First { .. })).count();
        let seconds = |parts: &[Part]| parts.iter().filter(|p| matches!(p, Part::Second { .. })).count();
        if (firsts(&single), seconds(&single)) != (1, 0) {
            return Err(Error::Config(
                "a template for one text has to contain the first text once and no second".into(),
            ));
        }
        if (firsts(&pair), seconds(&pair)) != (1, 1) {
            return Err(Error::Config("a template for a pair has to contain both texts once".into()));
        }
        Ok(Self { single, pair })
    }

    /// Tokens before and after each text.
    pub fn around(before: &[u32], after: &[u32]) -> Self {
        let tokens =
            |ids: &[u32], type_id: u32| ids.iter().map(move |&id| Part::Token { id, type_id }).collect::<Vec<_>>();
        let first = [tokens(before, 0), vec![Part::First { type_id: 0 }], tokens(after, 0)].concat();
        let second = [tokens(before, 1), vec![Part::Second { type_id: 1 }], tokens(after, 1)].concat();
        Self { pair: [first.clone(), second].concat(), single: first }
    }

    /// The template for one text.
    pub fn single(&self) -> &[Part] {
        &self.single
    }

    /// The template for a pair.
    pub fn pair(&self) -> &[Part] {
        &self.pair
    }

    /// True when it adds no token.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The number of tokens that it adds.
    pub fn added(&self, pair: bool) -> usize {
        let parts = if pair { &self.pair } else { &self.single };
        parts.iter().filter(|p| matches!(p, Part::Token { .. })).count()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.single.iter().chain(&self.pair).filter_map(|p| match p {
            Part::Token { id, .. } => Some(*id),
            _ => None,
        })
    }
}
