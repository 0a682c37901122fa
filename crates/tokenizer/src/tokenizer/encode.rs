//! Text to ids.

use super::{EncodeOptions, Tokenizer};
use crate::added::{AllowedSpecial, Finder, Section};
use crate::error::{Error, Result};
use crate::model::sink::{Counter, Ranged};
use crate::model::{Scratch, Sink};
use crate::normalize::aligned::Aligned;
use crate::rng::Rng;
use crate::template::Part;
use cupola_regex::BorderMemory;
use std::ops::Range;

/// The longest text of one call. Offsets are 32 bits, and normalisation may make a text longer.
const MAX_TEXT: usize = 1 << 30;

/// Pieces out of a list that are handed to the model at once.
const GROUP: usize = 64;

/// The part of a text that fits into a number of tokens; see [`Tokenizer::cut`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The ids that fit.
    pub ids: Vec<u32>,
    /// The bytes of the text that they stand for.
    pub bytes: usize,
    /// True when the whole text fits.
    pub complete: bool,
}

impl Tokenizer {
    /// The ids of a text: no special token is recognised in it, none is added.
    ///
    /// # Errors
    /// When the vocabulary has no token for a character and no unknown token, or a pattern reaches its search limit.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        // A token of a common vocabulary has about four bytes.
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        let finder = self.added.finder(&AllowedSpecial::None)?;
        self.pool.with(|scratch| self.run(text, &finder, scratch, &mut ids))?;
        Ok(ids)
    }

    /// The ids of a text as the options say. Padding is left to [`Tokenizer::encoding`].
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], and when the options name an unknown special token or cannot be followed.
    pub fn encode_with(&self, text: &str, options: &EncodeOptions) -> Result<Vec<u32>> {
        if options.truncation.is_some() {
            return Ok(self.encoding(text, &EncodeOptions { padding: None, ..options.clone() })?.ids);
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        if !options.template {
            self.run_with(text, options, &mut ids)?;
            return Ok(ids);
        }
        for part in self.parts.template.single() {
            match part {
                Part::Token { id, .. } => ids.push(*id),
                _ => self.run_with(text, options, &mut ids)?,
            }
        }
        Ok(ids)
    }

    /// The number of ids of a text, found without keeping them.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn count(&self, text: &str) -> Result<usize> {
        self.count_with(text, &EncodeOptions::default())
    }

    /// [`Tokenizer::count`] as the options say; truncation and padding are not counted.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_with`].
    pub fn count_with(&self, text: &str, options: &EncodeOptions) -> Result<usize> {
        let mut counter = Counter::default();
        self.run_with(text, options, &mut counter)?;
        Ok(counter.0 + if options.template { self.parts.template.added(false) } else { 0 })
    }

    /// The first `limit` ids of a text and how much of the text they stand for. The text is read only as far as
    /// needed. The ids are the beginning of the ids of the whole text; the end lies between two characters, so a
    /// token that holds only part of a character may be left out.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn cut(&self, text: &str, limit: usize) -> Result<Cut> {
        let options = EncodeOptions::default();
        let mut sink = Ranged { limit: Some(limit.saturating_add(1)), ..Ranged::default() };
        self.run_with(text, &options, &mut sink)?;
        let Ranged { mut ids, ranges, .. } = sink;
        if ids.len() <= limit {
            return Ok(Cut { ids, bytes: text.len(), complete: true });
        }
        let mut kept = limit;
        // The text up to the first token that does not fit; what lies between tokens belongs to the part before.
        while kept > 0 && !text.is_char_boundary(ranges[kept].0 as usize) {
            kept -= 1;
        }
        // Tokens that share one character of the text (byte fallback after a normaliser) go or stay together.
        while kept > 0 && ranges[kept - 1].1 > ranges[kept].0 {
            kept -= 1;
        }
        let bytes = if kept == 0 { 0 } else { ranges[kept].0 as usize };
        ids.truncate(kept);
        Ok(Cut { ids, bytes, complete: false })
    }

    /// The pieces that the model sees, after normalisation.
    ///
    /// # Errors
    /// When a pattern reaches its search limit.
    pub fn pieces(&self, text: &str) -> Result<Vec<String>> {
        let mut aligned = Aligned::new(text, 0, false);
        for step in &self.parts.normalizers {
            step.apply(&mut aligned)?;
        }
        self.parts.pre_tokenizer.split(&aligned.text)
    }

    /// The number of [`Tokenizer::pieces`].
    ///
    /// # Errors
    /// When a pattern reaches its search limit.
    pub fn count_pieces(&self, text: &str) -> Result<usize> {
        let single = self.parts.pre_tokenizer.single_pattern().filter(|_| self.parts.normalizers.is_empty());
        let Some(pattern) = single else {
            return Ok(self.pieces(text)?.len());
        };
        let mut n = 0;
        pattern.for_borders(text, &mut BorderMemory::default(), |_, ends| {
            n += ends.len();
            Ok(true)
        })?;
        Ok(n)
    }

    /// Runs the pipeline with the sampling options set.
    pub(super) fn run_with<S: Sink>(&self, text: &str, options: &EncodeOptions, sink: &mut S) -> Result<()> {
        if !(0.0..=1.0).contains(&options.dropout) {
            return Err(Error::Config(format!("dropout = {} is not between 0 and 1", options.dropout)));
        }
        if let Some(alpha) = options.sample_alpha.filter(|a| !a.is_finite() || *a < 0.0) {
            return Err(Error::Config(format!("sample_alpha = {alpha} is not a number of at least 0")));
        }
        let finder = self.added.finder(&options.allowed_special)?;
        self.pool.with(|scratch| {
            scratch.dropout = (options.dropout > 0.0).then(|| (options.dropout, Rng::new(options.seed)));
            scratch.alpha = options.sample_alpha.map(|alpha| (alpha, Rng::new(options.seed)));
            let result = self.run(text, &finder, scratch, sink);
            scratch.dropout = None;
            scratch.alpha = None;
            result
        })
    }

    /// The pipeline: added tokens, normaliser, added tokens again, pre-tokeniser, model.
    #[inline]
    fn run<S: Sink>(&self, text: &str, finder: &Finder<'_>, scratch: &mut Scratch, sink: &mut S) -> Result<()> {
        if text.len() > MAX_TEXT {
            return Err(Error::TooLong { len: text.len(), max: MAX_TEXT });
        }
        if finder.raw_is_empty() {
            return self.section(text, 0..text.len(), finder, scratch, sink);
        }
        for section in finder.raw(text) {
            match section {
                Section::Token(id, range) => sink.token(id, range.start, range.end),
                Section::Text(range) => self.section(text, range, finder, scratch, sink)?,
            }
            if sink.full() {
                break;
            }
        }
        Ok(())
    }

    fn section<S: Sink>(
        &self,
        text: &str,
        range: Range<usize>,
        finder: &Finder<'_>,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let first = range.start == 0;
        let mut aligned = Aligned::new(&text[range.clone()], range.start, S::RANGES);
        for step in &self.parts.normalizers {
            step.apply(&mut aligned)?;
            if aligned.text.len() > u32::MAX as usize {
                return Err(Error::TooLong { len: aligned.text.len(), max: u32::MAX as usize });
            }
        }
        if finder.normalized_is_empty() {
            return self.model_section(&mut aligned, first, scratch, sink);
        }
        for section in finder.normalized(&aligned.text) {
            match section {
                Section::Token(id, range) => {
                    let (start, end) = aligned.span(range);
                    sink.token(id, start as usize, end as usize);
                }
                Section::Text(range) => {
                    let first = first && range.start == 0;
                    self.model_section(&mut aligned.slice(range), first, scratch, sink)?;
                }
            }
            if sink.full() {
                break;
            }
        }
        Ok(())
    }

    #[inline]
    fn model_section<S: Sink>(
        &self,
        aligned: &mut Aligned<'_>,
        first: bool,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let mark = sink.mark();
        if let Some(pattern) = self.parts.pre_tokenizer.single_pattern() {
            let text = &*aligned.text;
            let mut memory = scratch.borders.take().unwrap_or_default();
            let mut at = 0;
            let done = pattern.for_borders(text, &mut memory, |base, ends| {
                self.parts.model.encode_borders(text, at, (base, ends), scratch, sink)?;
                at = base + ends.last().map_or(0, |&end| end as usize);
                Ok(!sink.full())
            });
            scratch.borders = Some(memory);
            done?;
        } else {
            self.parts.pre_tokenizer.cut(aligned, first, scratch)?;
            let pieces = std::mem::take(&mut scratch.pieces);
            let done = self.encode_pieces(&aligned.text, &pieces, scratch, sink);
            scratch.pieces = pieces;
            done?;
        }
        sink.relocate(mark, |range| aligned.span(range));
        Ok(())
    }

    /// Pieces with or without gaps between them.
    fn encode_pieces<S: Sink>(
        &self,
        text: &str,
        pieces: &[(u32, u32)],
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let model = &self.parts.model;
        let mut rest = pieces;
        let mut ends = [0; GROUP];
        while let Some(&(start, _)) = rest.first()
            && !sink.full()
        {
            // Those that follow one another directly go together.
            let (mut n, mut at) = (0, start);
            while n < GROUP
                && let Some(&(from, to)) = rest.get(n)
                && from == at
            {
                (ends[n], at) = (to, to);
                n += 1;
            }
            model.encode_borders(text, start as usize, (0, &ends[..n]), scratch, sink)?;
            rest = &rest[n..];
        }
        Ok(())
    }
}
