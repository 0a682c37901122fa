//! Models: from a piece of text to ids.
//!
//! - `bpe`: byte-pair encoding over bytes or characters
//! - `unigram`: the most probable segmentation under a unigram language model
//! - `wordpiece`: longest match first
//! - `units`: characters and bytes
//! - `sink`: where the ids go

pub mod bpe;
pub(crate) mod sink;
pub mod unigram;
pub mod units;
pub mod wordpiece;

use crate::error::Result;
use crate::rng::Rng;
use crate::vocab::Vocab;
pub use bpe::Bpe;
use cupola_regex::BorderMemory;
pub(crate) use sink::Sink;
pub use unigram::Unigram;
pub use units::{Bytes, Chars};
pub use wordpiece::WordPiece;

/// The model of a tokenizer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Model {
    /// Byte-pair encoding.
    Bpe(Bpe),
    /// Unigram language model.
    Unigram(Unigram),
    /// WordPiece.
    WordPiece(WordPiece),
    /// One token for each character.
    Chars(Chars),
    /// One token for each byte.
    Bytes(Bytes),
}

/// Working memory of an encoder, kept between calls.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub merge: bpe::merge::MergeBuffers,
    /// Lent out while pieces are on their way.
    pub blocks: Vec<Box<[bpe::block::Block; 3]>>,
    pub cache: bpe::cache::PieceCache,
    pub long: bpe::cache::LongCache,
    pub seen: bpe::cache::Seen,
    pub pairs: bpe::rules::PairCache,
    pub greedy: bpe::greedy::GreedyBuffers,
    pub short: bpe::short::ShortBuffers,
    /// Pieces that were merged because the tables for reading or cutting them were not made.
    pub unread: u32,
    pub uncut: u32,
    pub ids: Vec<u32>,
    /// Memory for cutting the text; lent out while the pattern runs.
    pub borders: Option<Box<BorderMemory>>,
    pub lattice: unigram::Lattice,
    /// Pieces of a pre-tokenizer with several steps.
    pub pieces: Vec<(u32, u32)>,
    pub spare: Vec<(u32, u32)>,
    /// Set for a call that samples: probability of leaving out a merge.
    pub dropout: Option<(f32, Rng)>,
    /// Set for a call that samples: inverse temperature of the segmentation.
    pub alpha: Option<(f32, Rng)>,
}

impl Model {
    /// Byte strings and ids of the model itself; special and added tokens are beside it.
    pub fn vocab(&self) -> &Vocab {
        match self {
            Self::Bpe(m) => m.vocab(),
            Self::Unigram(m) => m.vocab(),
            Self::WordPiece(m) => m.vocab(),
            Self::Chars(m) => m.vocab(),
            Self::Bytes(m) => m.vocab(),
        }
    }

    /// True when tokens are raw bytes, so that any byte string can be encoded and decoding is concatenation.
    pub fn is_byte_level(&self) -> bool {
        match self {
            Self::Bpe(m) => m.alphabet() == bpe::Alphabet::Bytes,
            Self::Bytes(_) => true,
            _ => false,
        }
    }

    /// Encodes the pieces of the text between `from` and each of the borders `base + ends`, in order, until the sink is
    /// full. No token crosses a border.
    #[inline]
    pub(crate) fn encode_borders<S: Sink>(
        &self,
        text: &str,
        from: usize,
        (base, ends): (usize, &[u32]),
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        if let Self::Bpe(m) = self
            && m.looks_up_first::<S>(scratch)
        {
            return m.encode_borders(text.as_bytes(), from, (base, ends), scratch, sink);
        }
        let mut start = from;
        for &end in ends {
            let end = base + end as usize;
            self.encode_piece(text, start, end, scratch, sink)?;
            start = end;
            if sink.full() {
                break;
            }
        }
        Ok(())
    }

    /// Encodes `text[start..end]`, a piece that no token may cross.
    pub(crate) fn encode_piece<S: Sink>(
        &self,
        text: &str,
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        match self {
            Self::Bpe(m) => m.encode_piece(text.as_bytes(), start, end, scratch, sink),
            Self::Unigram(m) => m.encode_piece(text, start, end, scratch, sink),
            Self::WordPiece(m) => m.encode_piece(text, start, end, sink),
            Self::Chars(m) => m.encode_piece(text, start, end, sink),
            Self::Bytes(m) => {
                m.encode_piece(text.as_bytes(), start, end, sink);
                Ok(())
            }
        }
    }
}
