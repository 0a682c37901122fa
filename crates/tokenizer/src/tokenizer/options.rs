//! What a call may ask for.

use crate::added::AllowedSpecial;

/// How to encode. The default adds nothing and recognises no special token: what a user types is text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodeOptions {
    /// Which special tokens the text may contain.
    pub allowed_special: AllowedSpecial,
    /// Put the template's special tokens around the text.
    pub template: bool,
    /// Cut long sequences.
    pub truncation: Option<Truncation>,
    /// Fill short sequences; for encodings, not for plain ids.
    pub padding: Option<Padding>,
    /// Leave out each possible merge with this probability (BPE dropout); 0 for none.
    pub dropout: f32,
    /// Draw the segmentation of a unigram model with probability proportional to `exp(alpha * score)`.
    pub sample_alpha: Option<f32>,
    /// Seed of the two options above.
    pub seed: u64,
    /// Threads of a batch at most; as many as the machine has when `None`. The result does not depend on it.
    pub threads: Option<usize>,
}

impl EncodeOptions {
    /// With the template's special tokens around the text.
    pub fn with_template(mut self) -> Self {
        self.template = true;
        self
    }

    /// With these special tokens recognised in the text.
    pub fn allow(mut self, allowed: AllowedSpecial) -> Self {
        self.allowed_special = allowed;
        self
    }
}

/// At which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// At the start.
    Left,
    /// At the end.
    #[default]
    Right,
}

/// Which text of a pair is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TruncationStrategy {
    /// The longer one, token by token.
    #[default]
    LongestFirst,
    /// Only the first.
    OnlyFirst,
    /// Only the second.
    OnlySecond,
}

/// How long sequences are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Number of tokens at most, with the template's.
    pub max_length: usize,
    /// Tokens that the overflowing parts repeat from the part before.
    pub stride: usize,
    /// Which text of a pair is cut.
    pub strategy: TruncationStrategy,
    /// Where it is cut.
    pub side: Side,
}

impl Truncation {
    /// At most so many tokens, cut at the end.
    pub fn to(max_length: usize) -> Self {
        Self { max_length, stride: 0, strategy: TruncationStrategy::LongestFirst, side: Side::Right }
    }
}

/// To which length sequences are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaddingLength {
    /// The longest of the batch.
    Longest,
    /// A fixed number of tokens.
    Fixed(usize),
}

/// How short sequences are filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Padding {
    /// To which length.
    pub length: PaddingLength,
    /// Round the length up to a multiple of this.
    pub multiple_of: Option<usize>,
    /// Where.
    pub side: Side,
    /// The padding token.
    pub id: u32,
    /// Its type id.
    pub type_id: u32,
    /// Its text, which files repeat.
    pub token: String,
}

impl Padding {
    /// To the longest of the batch, at the end.
    pub fn longest(id: u32, token: impl Into<String>) -> Self {
        Self {
            length: PaddingLength::Longest,
            multiple_of: None,
            side: Side::Right,
            id,
            type_id: 0,
            token: token.into(),
        }
    }
}

/// How to decode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Leave special tokens out.
    pub skip_special: bool,
}
