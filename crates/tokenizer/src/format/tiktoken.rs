//! `.tiktoken` files: one line for each token, its bytes in base64 and its rank, which is its id.

use super::read;
use crate::added::AddedToken;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::bpe::Bpe;
use crate::split::PreTokenizer;
use crate::tokenizer::{Tokenizer, TokenizerParts};
use crate::vocab::Vocab;
use std::path::Path;

const FORMAT: &str = ".tiktoken";

impl Tokenizer {
    /// Loads ranks with special tokens and the pattern that belongs to the ranks: a name of
    /// [`NAMED`](crate::split::patterns::NAMED) with all its passes, or a regular expression.
    ///
    /// # Errors
    /// When the ranks are malformed or do not hold all 256 bytes, or the pattern does not compile.
    pub fn from_tiktoken<'a>(
        ranks: &[u8],
        pattern: &str,
        special: impl IntoIterator<Item = (&'a str, u32)>,
    ) -> Result<Self> {
        Self::from_ranks(self::ranks(ranks)?, PreTokenizer::named(pattern)?, special)
    }

    /// [`Tokenizer::from_tiktoken`] for a file.
    ///
    /// # Errors
    /// As [`Tokenizer::from_tiktoken`], and when the file cannot be read.
    pub fn from_tiktoken_file<'a>(
        path: impl AsRef<Path>,
        pattern: &str,
        special: impl IntoIterator<Item = (&'a str, u32)>,
    ) -> Result<Self> {
        Self::from_tiktoken(&read(path.as_ref())?, pattern, special)
    }

    /// A byte-level tokenizer from tokens and their ranks: two neighbours merge when they are a token together, the
    /// smallest rank first.
    ///
    /// # Errors
    /// When a rank is given twice, or one of the 256 bytes is missing.
    pub fn from_ranks<'a, B: AsRef<[u8]>>(
        ranks: impl IntoIterator<Item = (B, u32)>,
        pre_tokenizer: PreTokenizer,
        special: impl IntoIterator<Item = (&'a str, u32)>,
    ) -> Result<Self> {
        let vocab = Vocab::new(FORMAT, ranks.into_iter().map(|(token, id)| (id, token)))?;
        if let Some(byte) = (0..=255u8).find(|&b| vocab.id(&[b]).is_none()) {
            return Err(Error::malformed(FORMAT, format!("the byte 0x{byte:02x} is not among the tokens")));
        }
        let special = special.into_iter().map(|(text, id)| AddedToken::special(id, text)).collect();
        Self::new(TokenizerParts {
            pre_tokenizer,
            added_tokens: special,
            ..TokenizerParts::new(Model::Bpe(Bpe::from_ranks(vocab)))
        })
    }
}

/// The tokens and ranks of a file.
pub(crate) fn ranks(file: &[u8]) -> Result<Vec<(Vec<u8>, u32)>> {
    let mut ranks = Vec::with_capacity(file.len() / 16);
    for (number, line) in file.split(|&b| b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let entry = || {
            let space = line.iter().position(|&b| b == b' ')?;
            let token = base64(&line[..space])?;
            let rank = std::str::from_utf8(&line[space + 1..]).ok()?.parse().ok()?;
            (!token.is_empty()).then_some((token, rank))
        };
        let wrong = || {
            let line = crate::error::excerpt(&String::from_utf8_lossy(line));
            Error::malformed(
                FORMAT,
                format!("line {} is {line:?}; base64, a space and a rank are expected", number + 1),
            )
        };
        ranks.push(entry().ok_or_else(wrong)?);
    }
    Ok(ranks)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// 64 for a byte that is not of the alphabet.
const VALUES: [u8; 256] = {
    let mut values = [64; 256];
    let mut i = 0;
    while i < 64 {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// Standard base64 with padding.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|&&b| b == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let body = &text[..text.len() - padding];
    for group in body.chunks(4) {
        let mut word = 0u32;
        for &b in group {
            let value = VALUES[usize::from(b)];
            if value == 64 {
                return None;
            }
            word = word << 6 | u32::from(value);
        }
        word <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}

/// Standard base64 with padding.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        for i in 0..4 {
            let value = (word >> (18 - 6 * i)) as usize & 63;
            text.push(if i <= group.len() { char::from(ALPHABET[value]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_goes_both_ways() {
        for (bytes, text) in
            [(&b""[..], ""), (b"a", "YQ=="), (b"ab", "YWI="), (b"abc", "YWJj"), (b"\xff\xfe\x00\x01", "//4AAQ==")]
        {
            assert_eq!(to_base64(bytes), text);
            assert_eq!(base64(text.as_bytes()).as_deref(), Some(bytes));
        }
        for wrong in ["YQ", "YQ=", "Y===", "YQ=a", "Y!==", "===="] {
            assert_eq!(base64(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_brings_all_passes_of_its_vocabulary() {
        let ranks: String = (0..=255u8).map(|b| format!("{} {b}\n", to_base64(&[b]))).collect();
        for name in ["deepseek_v3", "starcoder", "gpt2"] {
            let tokenizer = Tokenizer::from_tiktoken(ranks.as_bytes(), name, []).unwrap();
            let passes = crate::split::patterns::by_name(name).unwrap().len();
            assert_eq!(tokenizer.parts().pre_tokenizer.steps().len(), passes, "{name}");
        }
        let tokenizer = Tokenizer::from_tiktoken(ranks.as_bytes(), "deepseek_v3", []).unwrap();
        assert_eq!(tokenizer.pieces("ab12345中c").unwrap(), ["ab", "123", "45", "中", "c"]);
        assert!(Tokenizer::from_tiktoken(ranks.as_bytes(), "(", []).is_err());
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = ranks(b"YQ== 0\nYg== x\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("Yg== x"), "{error}");
    }
}
