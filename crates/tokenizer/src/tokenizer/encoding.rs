//! Ids with offsets and masks.

use super::{EncodeOptions, Padding, PaddingLength, Side, Tokenizer, Truncation, TruncationStrategy};
use crate::error::{Error, Result};
use crate::model::sink::Ranged;
use crate::template::{Part, Template};

/// One text or a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// One text.
    Single(&'a str),
    /// Two texts, as for question and answer.
    Pair(&'a str, &'a str),
}

impl<'a> From<&'a str> for Input<'a> {
    fn from(text: &'a str) -> Self {
        Self::Single(text)
    }
}

impl<'a> From<&'a String> for Input<'a> {
    fn from(text: &'a String) -> Self {
        Self::Single(text)
    }
}

impl<'a> From<(&'a str, &'a str)> for Input<'a> {
    fn from((first, second): (&'a str, &'a str)) -> Self {
        Self::Pair(first, second)
    }
}

/// Ids with everything that is known about them. All lists have one entry for each token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Ids.
    pub ids: Vec<u32>,
    /// Type ids (which text of a pair, as the template says).
    pub type_ids: Vec<u32>,
    /// Bytes of the original text that each token stands for, `(start, end)`; empty for tokens of template and
    /// padding. A token that holds part of a character has the range of that part, unless a normaliser or a
    /// pre-tokeniser has rewritten the text: then the whole character's.
    pub offsets: Vec<(usize, usize)>,
    /// Which text a token comes from: 0, 1, or none for template and padding.
    pub sequence_ids: Vec<Option<u8>>,
    /// 1 for tokens of template and padding.
    pub special_tokens_mask: Vec<u8>,
    /// 0 for padding.
    pub attention_mask: Vec<u8>,
    /// What truncation has cut off, as encodings of their own that repeat `stride` tokens.
    pub overflow: Vec<Encoding>,
}

impl Encoding {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True without tokens.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn push(&mut self, id: u32, type_id: u32, offset: (usize, usize), sequence: Option<u8>, attention: u8) {
        self.ids.push(id);
        self.type_ids.push(type_id);
        self.offsets.push(offset);
        self.sequence_ids.push(sequence);
        self.special_tokens_mask.push(u8::from(sequence.is_none()));
        self.attention_mask.push(attention);
    }

    fn pad(&mut self, length: usize, padding: &Padding) {
        for part in &mut self.overflow {
            part.pad(length, padding);
        }
        let missing = length.saturating_sub(self.len());
        if missing == 0 {
            return;
        }
        let mut filled = Self { overflow: std::mem::take(&mut self.overflow), ..Self::default() };
        let fill = |filled: &mut Self| {
            for _ in 0..missing {
                filled.push(padding.id, padding.type_id, (0, 0), None, 0);
            }
        };
        if padding.side == Side::Left {
            fill(&mut filled);
        }
        for i in 0..self.len() {
            filled.push(self.ids[i], self.type_ids[i], self.offsets[i], self.sequence_ids[i], self.attention_mask[i]);
            filled.special_tokens_mask[i + if padding.side == Side::Left { missing } else { 0 }] =
                self.special_tokens_mask[i];
        }
        if padding.side == Side::Right {
            fill(&mut filled);
        }
        *self = filled;
    }
}

/// Pads a batch to one length.
pub(super) fn pad_batch(encodings: &mut [Encoding], padding: &Padding) {
    let longest = encodings.iter().map(Encoding::len).max().unwrap_or(0);
    let length = match padding.length {
        PaddingLength::Longest => longest,
        PaddingLength::Fixed(length) => length,
    };
    let length = padding.multiple_of.filter(|m| *m > 0).map_or(length, |m| length.next_multiple_of(m));
    for encoding in encodings {
        encoding.pad(length, padding);
    }
}

/// The tokens of one text.
#[derive(Default)]
struct Tokens {
    ids: Vec<u32>,
    ranges: Vec<(u32, u32)>,
}

/// A window into the tokens of one text.
type Window = (usize, usize);

impl Tokenizer {
    /// The options that the tokenizer's file asks for: its template, truncation and padding.
    pub fn options(&self) -> EncodeOptions {
        EncodeOptions {
            template: true,
            truncation: self.parts.truncation,
            padding: self.parts.padding.clone(),
            ..EncodeOptions::default()
        }
    }

    /// Ids with offsets and masks, of one text or a pair.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_with`].
    pub fn encoding<'a>(&self, input: impl Into<Input<'a>>, options: &EncodeOptions) -> Result<Encoding> {
        let mut encoding = self.encoding_unpadded(input.into(), options)?;
        if let Some(padding) = &options.padding {
            pad_batch(std::slice::from_mut(&mut encoding), padding);
        }
        Ok(encoding)
    }

    pub(super) fn encoding_unpadded(&self, input: Input<'_>, options: &EncodeOptions) -> Result<Encoding> {
        let tokens = |text: &str| {
            let mut sink = Ranged::default();
            self.run_with(text, options, &mut sink)?;
            Ok::<_, Error>(Tokens { ids: sink.ids, ranges: sink.ranges })
        };
        let (first, second) = match input {
            Input::Single(text) => (tokens(text)?, None),
            Input::Pair(a, b) => (tokens(a)?, Some(tokens(b)?)),
        };
        let plain = Template::default();
        let template = if options.template { &self.parts.template } else { &plain };
        let n = (first.ids.len(), second.as_ref().map_or(0, |s| s.ids.len()));
        let build = |a: Window, b: Window| assemble(template, &first, a, second.as_ref().map(|s| (s, b)));
        let Some(truncation) = options.truncation else {
            return Ok(build((0, n.0), (0, n.1)));
        };
        let room = truncation.max_length.saturating_sub(template.added(second.is_some()));
        let keep = shares(&truncation, n, room)?;
        let windows = |n: usize, keep: usize| windows(n, keep, &truncation);
        let (wa, wb) = (windows(n.0, keep.0)?, windows(n.1, keep.1)?);
        let mut encoding = build(wa[0], wb[0]);
        // The overflow of the first text with all of the second, then the overflow of the second alone.
        for &a in &wa[1..] {
            encoding.overflow.extend(wb.iter().map(|&b| build(a, b)));
        }
        encoding.overflow.extend(wb[1..].iter().map(|&b| build(wa[0], b)));
        Ok(encoding)
    }
}

fn assemble(template: &Template, first: &Tokens, a: Window, second: Option<(&Tokens, Window)>) -> Encoding {
    let mut encoding = Encoding::default();
    for part in if second.is_some() { template.pair() } else { template.single() } {
        let (tokens, window, type_id, sequence) = match *part {
            Part::Token { id, type_id } => {
                encoding.push(id, type_id, (0, 0), None, 1);
                continue;
            }
            Part::First { type_id } => (first, a, type_id, 0),
            Part::Second { type_id } => match second {
                Some((tokens, window)) => (tokens, window, type_id, 1),
                None => continue,
            },
        };
        for i in window.0..window.1 {
            let (start, end) = tokens.ranges[i];
            encoding.push(tokens.ids[i], type_id, (start as usize, end as usize), Some(sequence), 1);
        }
    }
    encoding
}

/// How many tokens of each text are kept.
fn shares(truncation: &Truncation, (a, b): (usize, usize), room: usize) -> Result<(usize, usize)> {
    if a + b <= room {
        return Ok((a, b));
    }
    let too_short = |which: &str, other: usize| {
        Error::Config(format!(
            "the {which} text cannot be cut to fit: the other one and the template leave no room in max_length = {} ({other} tokens)",
            truncation.max_length
        ))
    };
    match truncation.strategy {
        TruncationStrategy::OnlyFirst if b < room => Ok((room - b, b)),
        TruncationStrategy::OnlyFirst => Err(too_short("first", b)),
        TruncationStrategy::OnlySecond if a < room => Ok((a, room - a)),
        TruncationStrategy::OnlySecond => Err(too_short("second", a)),
        TruncationStrategy::LongestFirst => {
            // The shorter text is kept whole while it takes at most half of the room.
            let (short, swapped) = if a <= b { (a, false) } else { (b, true) };
            let (low, high) = if short > room / 2 { (room / 2, room - room / 2) } else { (short, room - short) };
            Ok(if swapped { (high, low) } else { (low, high) })
        }
    }
}

/// The window that is kept, then those that overflow.
fn windows(n: usize, keep: usize, truncation: &Truncation) -> Result<Vec<Window>> {
    if n <= keep {
        return Ok(vec![(0, n)]);
    }
    if keep == 0 {
        return Ok(vec![(0, 0), (0, n)]);
    }
    if truncation.stride >= keep {
        let (stride, length) = (truncation.stride, truncation.max_length);
        return Err(Error::Config(format!(
            "stride = {stride} has to be smaller than the {keep} tokens of text that max_length = {length} leaves"
        )));
    }
    let step = keep - truncation.stride;
    let mut all = Vec::new();
    let mut at = 0;
    loop {
        let end = (at + keep).min(n);
        all.push(match truncation.side {
            Side::Right => (at, end),
            Side::Left => (n - end, n - at),
        });
        if end == n {
            return Ok(all);
        }
        at += step;
    }
}
