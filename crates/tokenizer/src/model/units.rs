//! The two models without anything to learn: characters and bytes.

use super::Sink;
use super::bpe::Unknown;
use crate::error::{Error, Result};
use crate::hash::FastMap;
use crate::vocab::{NONE, Vocab};

/// One token for each character of a fixed alphabet.
#[derive(Clone, Debug)]
pub struct Chars {
    vocab: Vocab,
    ascii: Box<[u32; 128]>,
    other: FastMap<u32, u32>,
    unknown: Unknown,
}

impl Chars {
    /// A model over `alphabet`: ids in the order given.
    ///
    /// # Errors
    /// When a character is repeated.
    pub fn new(alphabet: impl IntoIterator<Item = char>, unknown: Unknown) -> Result<Self> {
        let mut buffer = [0; 4];
        let tokens: Vec<Vec<u8>> =
            alphabet.into_iter().map(|c| c.encode_utf8(&mut buffer).as_bytes().to_vec()).collect();
        let vocab = Vocab::new("alphabet", tokens.iter().enumerate().map(|(id, t)| (id as u32, t)))?;
        Self::from_vocab(vocab, unknown)
    }

    /// A model whose tokens are single characters.
    ///
    /// # Errors
    /// When a token is not one character, or two ids have the same one.
    pub fn from_vocab(vocab: Vocab, unknown: Unknown) -> Result<Self> {
        let mut ascii = Box::new([NONE; 128]);
        let mut other = FastMap::default();
        for (id, token) in vocab.iter() {
            let mut chars = std::str::from_utf8(token).unwrap_or_default().chars();
            let (Some(c), None) = (chars.next(), chars.next()) else {
                let token = String::from_utf8_lossy(token).into_owned();
                return Err(Error::Config(format!(
                    "token {id} of a character vocabulary is {token:?}, not one character"
                )));
            };
            if vocab.id(token) != Some(id) {
                return Err(Error::Config(format!("the character {c:?} has two ids")));
            }
            if c.is_ascii() {
                ascii[c as usize] = id;
            } else {
                other.insert(c as u32, id);
            }
        }
        Ok(Self { vocab, ascii, other, unknown })
    }

    /// Byte strings and ids.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// What becomes of a character outside the alphabet.
    pub fn unknown(&self) -> Unknown {
        self.unknown
    }

    pub(crate) fn encode_piece<S: Sink>(&self, text: &str, start: usize, end: usize, sink: &mut S) -> Result<()> {
        let mut open: Option<(u32, usize, usize)> = None;
        for (i, c) in text[start..end].char_indices() {
            let (from, to) = (start + i, start + i + c.len_utf8());
            let id = if c.is_ascii() {
                self.ascii[c as usize]
            } else {
                self.other.get(&(c as u32)).copied().unwrap_or(NONE)
            };
            if id != NONE {
                if let Some((id, from, to)) = open.take() {
                    sink.token(id, from, to);
                }
                sink.token(id, from, to);
                continue;
            }
            match self.unknown {
                Unknown::Refuse => {
                    return Err(Error::NoToken { text: c.to_string(), offset: from });
                }
                Unknown::Drop => {}
                Unknown::Token { id, fuse: false } => sink.token(id, from, to),
                Unknown::Token { id, fuse: true } => open = Some((id, open.map_or(from, |o| o.1), to)),
            }
        }
        if let Some((id, from, to)) = open {
            sink.token(id, from, to);
        }
        Ok(())
    }
}

/// One token for each byte; the id is the byte plus an offset, which leaves room for special tokens below (ByT5 has
/// three, <https://arxiv.org/abs/2105.13626>).
#[derive(Clone, Debug)]
pub struct Bytes {
    vocab: Vocab,
    offset: u32,
}

impl Bytes {
    /// Ids `offset..offset + 256`.
    ///
    /// # Errors
    /// When the offset is above one million.
    pub fn new(offset: u32) -> Result<Self> {
        if offset > 1_000_000 {
            return Err(Error::Config(format!("byte ids with an offset of {offset}; at most 1000000 is accepted")));
        }
        let vocab = Vocab::new("bytes", (0..256u32).map(|b| (offset + b, [b as u8])))?;
        Ok(Self { vocab, offset })
    }

    /// Byte strings and ids.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The id of byte 0.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    pub(crate) fn encode_piece<S: Sink>(&self, text: &[u8], start: usize, end: usize, sink: &mut S) {
        for (i, &b) in text[start..end].iter().enumerate() {
            sink.token(self.offset + u32::from(b), start + i, start + i + 1);
        }
    }
}
