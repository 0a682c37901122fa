//! Pre-tokenisers: how a text is cut into the pieces that no token crosses.
//!
//! - `pattern`: the one door to the regular-expression engine
//! - `patterns`: the published patterns
//! - `behavior`: what happens to the text between and inside matches
//! - `metaspace`: spaces as visible marks
//! - `syllables`: words cut where they may be hyphenated

pub mod behavior;
pub mod metaspace;
pub mod pattern;
pub mod patterns;
mod syllables;

use crate::error::Result;
use crate::model::Scratch;
use crate::normalize::aligned::Aligned;
pub use behavior::Behavior;
pub use metaspace::{Metaspace, PrependScheme};
pub use pattern::Pattern;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// One step of a pre-tokeniser, over the pieces of the step before.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Split by a pattern.
    Pattern {
        /// What separates.
        pattern: Pattern,
        /// What becomes of it.
        behavior: Behavior,
        /// The text between the matches separates instead.
        invert: bool,
    },
    /// A space in front of every piece so far unless it begins with one (`add_prefix_space`).
    PrefixSpace,
    /// Spaces as visible marks.
    Metaspace(Metaspace),
    /// Split at white space, which is dropped.
    WhitespaceSplit,
    /// Words and runs of other characters; white space is dropped.
    Words,
    /// BERT's: white space is dropped, each punctuation mark is a piece.
    Bert,
    /// Split at punctuation.
    Punctuation(Behavior),
    /// Split at numbers.
    Digits {
        /// Each digit is a piece.
        individual: bool,
    },
    /// Split at a character, which is dropped.
    Delimiter(char),
    /// Pieces of this many characters.
    FixedLength(usize),
    /// Words cut before each hyphen that stands between two letters.
    Syllables,
}

/// A pre-tokeniser: steps, applied in order. Without steps the text stays whole.
#[derive(Clone, Debug, Default)]
pub struct PreTokenizer {
    steps: Vec<Step>,
}

impl PreTokenizer {
    /// A pre-tokeniser of these steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }

    /// Every match of the pattern and every text between two matches is a piece: the usual form of the patterns in
    /// [`patterns`].
    ///
    /// # Errors
    /// When the pattern does not compile.
    pub fn pattern(source: &str) -> Result<Self> {
        Self::chain(&[source])
    }

    /// Several patterns, each over the pieces of the one before.
    ///
    /// # Errors
    /// When a pattern does not compile.
    pub fn chain(sources: &[&str]) -> Result<Self> {
        let step = |source: &&str| {
            Ok(Step::Pattern { pattern: Pattern::regex(source)?, behavior: Behavior::Isolated, invert: false })
        };
        Ok(Self { steps: sources.iter().map(step).collect::<Result<_>>()? })
    }

    /// By the name of a vocabulary in [`patterns::NAMED`], all of its passes, or else by the pattern itself.
    ///
    /// # Errors
    /// When it is neither.
    pub fn named(name_or_pattern: &str) -> Result<Self> {
        match patterns::by_name(name_or_pattern) {
            Some(passes) => Self::chain(passes),
            None => Self::pattern(name_or_pattern),
        }
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The pieces of a text, as the model would see them.
    ///
    /// # Errors
    /// When a pattern reaches its search limit.
    pub fn split(&self, text: &str) -> Result<Vec<String>> {
        let mut aligned = Aligned::new(text, 0, false);
        let mut scratch = Scratch::default();
        self.cut(&mut aligned, true, &mut scratch)?;
        Ok(scratch.pieces.iter().map(|&(a, b)| aligned.text[a as usize..b as usize].to_string()).collect())
    }

    /// The pattern, when all this does is to split by one and keep everything: the form that needs no list of pieces.
    pub(crate) fn single_pattern(&self) -> Option<&Pattern> {
        match &self.steps[..] {
            [Step::Pattern { pattern, behavior: Behavior::Isolated, .. }] => Some(pattern),
            _ => None,
        }
    }

    /// Cuts the text; the pieces are in `scratch.pieces`. Steps may rewrite the text. `first` says that nothing stands
    /// before this text in the whole input.
    pub(crate) fn cut(&self, text: &mut Aligned<'_>, first: bool, scratch: &mut Scratch) -> Result<()> {
        scratch.pieces.clear();
        if !text.text.is_empty() {
            scratch.pieces.push((0, text.text.len() as u32));
        }
        for step in &self.steps {
            step.apply(text, first, scratch)?;
        }
        Ok(())
    }
}

impl Step {
    fn apply(&self, text: &mut Aligned<'_>, first: bool, scratch: &mut Scratch) -> Result<()> {
        match self {
            Self::Pattern { pattern, behavior, invert } => each_piece(text, scratch, |piece, out| {
                let mut parts = behavior::Parts::new(*behavior, out);
                let mut at = 0;
                pattern.for_each(piece, |range| {
                    parts.push(at, range.start, *invert);
                    parts.push(range.start, range.end, !*invert);
                    at = range.end;
                })?;
                parts.push(at, piece.len(), *invert);
                parts.finish();
                Ok(())
            }),
            Self::PrefixSpace => {
                metaspace::insert(text, scratch, |piece, _| (!piece.starts_with(' ')).then_some(" "));
                Ok(())
            }
            Self::Metaspace(metaspace) => metaspace.apply(text, first, scratch),
            Self::WhitespaceSplit => split_chars(text, scratch, Behavior::Removed, char::is_whitespace),
            Self::Words => each_piece(text, scratch, |piece, out| {
                let mut open: Option<(usize, u8)> = None;
                for (i, c) in piece.char_indices() {
                    let kind = if c.is_whitespace() { 0 } else { 1 + u8::from(is_word(c)) };
                    if let Some((start, k)) = open
                        && k != kind
                    {
                        if k > 0 {
                            out.push((start as u32, i as u32));
                        }
                        open = None;
                    }
                    open.get_or_insert((i, kind));
                }
                if let Some((start, 1..)) = open {
                    out.push((start as u32, piece.len() as u32));
                }
                Ok(())
            }),
            Self::Bert => {
                split_chars(text, scratch, Behavior::Removed, char::is_whitespace)?;
                split_chars(text, scratch, Behavior::Isolated, is_punctuation)
            }
            Self::Punctuation(behavior) => split_chars(text, scratch, *behavior, is_punctuation),
            Self::Digits { individual } => {
                let behavior = if *individual { Behavior::Isolated } else { Behavior::Contiguous };
                split_chars(text, scratch, behavior, char::is_numeric)
            }
            Self::Delimiter(delimiter) => split_chars(text, scratch, Behavior::Removed, |c| c == *delimiter),
            Self::FixedLength(length) => each_piece(text, scratch, |piece, out| {
                let mut start = 0;
                for (n, (i, _)) in piece.char_indices().enumerate() {
                    if n > 0 && n % (*length).max(1) == 0 {
                        out.push((start, i as u32));
                        start = i as u32;
                    }
                }
                out.push((start, piece.len() as u32));
                Ok(())
            }),
            Self::Syllables => each_piece(text, scratch, |piece, out| {
                syllables::split(piece, |from, to| out.push((from as u32, to as u32)));
                Ok(())
            }),
        }
    }
}

/// Runs `split` over every piece; it pushes the parts relative to the piece.
fn each_piece(
    text: &Aligned<'_>,
    scratch: &mut Scratch,
    mut split: impl FnMut(&str, &mut Vec<(u32, u32)>) -> Result<()>,
) -> Result<()> {
    let before = std::mem::take(&mut scratch.pieces);
    let mut after = std::mem::take(&mut scratch.spare);
    after.clear();
    let mut result = Ok(());
    for &(start, end) in &before {
        let from = after.len();
        result = split(&text.text[start as usize..end as usize], &mut after);
        if result.is_err() {
            break;
        }
        for part in &mut after[from..] {
            *part = (part.0 + start, part.1 + start);
        }
    }
    scratch.pieces = after;
    scratch.spare = before;
    result
}

/// Splits every piece at the characters for which `separates` is true; each of them is a match of its own.
fn split_chars(
    text: &Aligned<'_>,
    scratch: &mut Scratch,
    behavior: Behavior,
    separates: impl Fn(char) -> bool,
) -> Result<()> {
    each_piece(text, scratch, |piece, out| {
        let mut parts = behavior::Parts::new(behavior, out);
        let mut at = 0;
        for (i, c) in piece.char_indices() {
            if separates(c) {
                parts.push(at, i, false);
                at = i + c.len_utf8();
                parts.push(i, at, true);
            }
        }
        parts.push(at, piece.len(), false);
        parts.finish();
        Ok(())
    })
}

/// ASCII punctuation and general category P.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || !c.is_ascii() && c.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// `\w` of a Unicode regular expression (UTS #18): alphabetic, marks, decimal digits, connector punctuation, joiners.
fn is_word(c: char) -> bool {
    use unicode_properties::GeneralCategory as G;
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    c.is_alphabetic()
        || matches!(c, '\u{200c}' | '\u{200d}')
        || matches!(
            c.general_category(),
            G::DecimalNumber | G::ConnectorPunctuation | G::NonspacingMark | G::SpacingMark | G::EnclosingMark
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(step: Step, text: &str) -> Vec<String> {
        PreTokenizer::new([step]).split(text).unwrap()
    }

    #[test]
    fn words_and_punctuation() {
        assert_eq!(split(Step::Words, "Hey, you_2 ... \u{301}x"), ["Hey", ",", "you_2", "...", "\u{301}x"]);
        assert_eq!(split(Step::Bert, " Hey,«you» $5 "), ["Hey", ",", "«", "you", "»", "$", "5"]);
        assert_eq!(split(Step::WhitespaceSplit, "a,b\u{3000}c\n"), ["a,b", "c"]);
        assert_eq!(split(Step::Digits { individual: true }, "ab12c"), ["ab", "1", "2", "c"]);
        assert_eq!(split(Step::Digits { individual: false }, "ab12c½"), ["ab", "12", "c", "½"]);
        assert_eq!(split(Step::Delimiter('-'), "a--b-"), ["a", "b"]);
        assert_eq!(split(Step::FixedLength(2), "añbcd"), ["añ", "bc", "d"]);
    }

    #[test]
    fn a_chain_splits_the_pieces_of_the_step_before() {
        let chain = PreTokenizer::chain(&patterns::DEEPSEEK_V3).unwrap();
        assert_eq!(chain.split("ab 12345中文 cd").unwrap(), ["ab", " ", "123", "45", "中文", " cd"]);
    }

    #[test]
    fn all_published_patterns_compile_and_keep_every_byte() {
        let text = "I'LL  don't\r\n\n \u{17f}'S 1234567 中文かな😀\u{200d}x\t\u{a0}_é\u{301} fooBarBAZ ...//\n ";
        for source in
            [patterns::GPT2, patterns::CL100K, patterns::O200K, patterns::LLAMA3, patterns::QWEN2, patterns::TEKKEN]
        {
            assert_eq!(PreTokenizer::pattern(source).unwrap().split(text).unwrap().concat(), text);
        }
        assert_eq!(PreTokenizer::chain(&patterns::DEEPSEEK_V3).unwrap().split(text).unwrap().concat(), text);
    }
}
