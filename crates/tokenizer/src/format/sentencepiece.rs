//! SentencePiece `.model` files (`sentencepiece_model.proto`): BPE, Unigram, words and characters of a trained model
//! with its normaliser.

use super::protobuf::{Fields, Value};
use super::read;
use crate::added::AddedToken;
use crate::decode::{DecodeStep, Decoder};
use crate::error::{Error, Result};
use crate::model::bpe::{Bpe, MARKER, Unknown};
use crate::model::unigram::UnigramConfig;
use crate::model::{Model, Unigram};
use crate::normalize::{Charsmap, Normalizer, SentencePieceNormalizer};
use crate::split::Pattern;
use crate::template::Template;
use crate::tokenizer::{Tokenizer, TokenizerParts};
use crate::vocab::Vocab;
use std::path::Path;

const FORMAT: &str = "SentencePiece model";

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    /// The numbering of SentencePiece, which GGUF shares.
    pub(crate) fn from_number(n: u64) -> Option<Self> {
        Some(match n {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// A vocabulary entry of SentencePiece or GGUF.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: Kind,
}

/// The settings of a `.model` file that matter, with SentencePiece's defaults.
pub(super) struct Spec {
    pub pieces: Vec<Piece>,
    pub model_type: u64,
    pub byte_fallback: bool,
    pub whitespace_as_suffix: bool,
    pub charsmap: Vec<u8>,
    pub add_dummy_prefix: bool,
    pub remove_extra_whitespaces: bool,
    pub escape_whitespaces: bool,
}

/// The number of BPE among the model types.
pub(super) const BPE: u64 = 2;

impl Default for Spec {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            model_type: 1,
            byte_fallback: false,
            whitespace_as_suffix: false,
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        }
    }
}

fn parse(file: &[u8]) -> Result<Spec> {
    let mut spec = Spec::default();
    let wrong = |field: &str| Error::malformed(FORMAT, format!("the field {field} has another type than it should"));
    for field in Fields::new(FORMAT, file) {
        let (number, value) = field?;
        match number {
            1 => {
                let id = spec.pieces.len();
                spec.pieces.push(piece(value.bytes().ok_or_else(|| wrong("pieces"))?, id)?);
            }
            2 => {
                for field in Fields::new(FORMAT, value.bytes().ok_or_else(|| wrong("trainer_spec"))?) {
                    match field? {
                        (3, v) => spec.model_type = v.u64().ok_or_else(|| wrong("model_type"))?,
                        (24, v) => {
                            spec.whitespace_as_suffix = v.bool().ok_or_else(|| wrong("treat_whitespace_as_suffix"))?
                        }
                        (35, v) => spec.byte_fallback = v.bool().ok_or_else(|| wrong("byte_fallback"))?,
                        _ => {}
                    }
                }
            }
            3 => {
                for field in Fields::new(FORMAT, value.bytes().ok_or_else(|| wrong("normalizer_spec"))?) {
                    match field? {
                        (2, v) => spec.charsmap = v.bytes().ok_or_else(|| wrong("precompiled_charsmap"))?.to_vec(),
                        (3, v) => spec.add_dummy_prefix = v.bool().ok_or_else(|| wrong("add_dummy_prefix"))?,
                        (4, v) => {
                            spec.remove_extra_whitespaces =
                                v.bool().ok_or_else(|| wrong("remove_extra_whitespaces"))?;
                        }
                        (5, v) => spec.escape_whitespaces = v.bool().ok_or_else(|| wrong("escape_whitespaces"))?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if spec.pieces.is_empty() {
        return Err(Error::malformed(FORMAT, "no pieces"));
    }
    Ok(spec)
}

fn piece(message: &[u8], id: usize) -> Result<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Normal };
    let wrong = |what: &str| Error::malformed(FORMAT, format!("piece {id} has a wrong {what}"));
    for field in Fields::new(FORMAT, message) {
        match field? {
            (1, v) => {
                let text = v.bytes().and_then(|b| std::str::from_utf8(b).ok());
                piece.text = text.ok_or_else(|| wrong("text"))?.to_string();
            }
            (2, v) => piece.score = v.f32().filter(|s| s.is_finite()).ok_or_else(|| wrong("score"))?,
            (3, Value::Varint(n)) => piece.kind = Kind::from_number(n).ok_or_else(|| wrong("type"))?,
            (3, _) => return Err(wrong("type")),
            _ => {}
        }
    }
    if piece.text.is_empty() {
        return Err(wrong("text: it is empty"));
    }
    Ok(piece)
}

/// User-defined pieces that a chat or a training job uses as control tokens become such: found in every text, they would
/// let a user's text end a turn. Gemma's `<start_of_turn>` is one.
pub(crate) fn guard(pieces: &mut [Piece]) {
    for piece in pieces.iter_mut().filter(|p| p.kind == Kind::UserDefined && looks_like_control(&p.text)) {
        piece.kind = Kind::Control;
    }
}

/// By the forms that published vocabularies have: `<|...|>` with either bar, names with an underscore in angle brackets,
/// capitals in square brackets, unused and reserved places, and a few by name. HTML's tags are none of them.
fn looks_like_control(text: &str) -> bool {
    const NAMES: [&str; 10] =
        ["<pad>", "<mask>", "<2mass>", "<bos>", "<eos>", "<s>", "</s>", "<unk>", "[@BOS@]", "[multimodal]"];
    let inside = |open: &str, close: &str| text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    let is = |name: &str, letter: fn(char) -> bool| {
        let name = name.strip_prefix('/').unwrap_or(name);
        name.contains(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| letter(c) || c.is_ascii_digit() || c == '_')
    };
    let angles = inside("<", ">").filter(|name| is(name, |c| c.is_ascii_alphabetic()));
    NAMES.contains(&text)
        || inside("<|", "|>").is_some_and(|name| !name.is_empty())
        || inside("<\u{ff5c}", "\u{ff5c}>").is_some_and(|name| !name.is_empty())
        || angles.is_some_and(|name| name.contains('_') || name.starts_with("unused") || name.starts_with("reserved"))
        || inside("[", "]").is_some_and(|name| name.len() > 1 && is(name, |c| c.is_ascii_uppercase()))
}

/// Pieces of text by id: all but control and unknown tokens.
pub(crate) fn vocab(format: &'static str, pieces: &[Piece]) -> Result<Vocab> {
    let text = |p: &Piece| !matches!(p.kind, Kind::Control | Kind::Unknown);
    Vocab::new(format, pieces.iter().enumerate().filter(|(_, p)| text(p)).map(|(id, p)| (id as u32, &p.text)))
}

/// Control tokens are special; user-defined ones are found in every text.
pub(crate) fn added_tokens(pieces: &[Piece]) -> Vec<AddedToken> {
    let added = |(id, p): (usize, &Piece)| match p.kind {
        Kind::Control | Kind::Unknown => Some(AddedToken::special(id as u32, &p.text[..])),
        Kind::UserDefined => Some(AddedToken::ordinary(id as u32, &p.text[..])),
        _ => None,
    };
    pieces.iter().enumerate().filter_map(added).collect()
}

/// The first unknown piece.
pub(crate) fn unknown(pieces: &[Piece], fuse: bool) -> Unknown {
    let id = pieces.iter().position(|p| p.kind == Kind::Unknown);
    id.map_or(Unknown::Refuse, |id| Unknown::Token { id: id as u32, fuse })
}

/// BPE by score, as SentencePiece and llama.cpp do it.
pub(crate) fn bpe(format: &'static str, pieces: &[Piece], byte_fallback: bool) -> Result<Bpe> {
    let chosen = |p: &Piece| matches!(p.kind, Kind::Normal | Kind::UserDefined | Kind::Unused);
    let scores: Vec<Option<f32>> = pieces.iter().map(|p| chosen(p).then_some(p.score)).collect();
    let unused: Vec<u32> =
        pieces.iter().enumerate().filter(|(_, p)| p.kind == Kind::Unused).map(|(id, _)| id as u32).collect();
    Bpe::from_scores(vocab(format, pieces)?, &scores, &unused, unknown(pieces, true), byte_fallback, format)
}

/// The unigram model of SentencePiece.
pub(crate) fn unigram(format: &'static str, pieces: &[Piece], byte_fallback: bool) -> Result<Unigram> {
    let normal = || pieces.iter().filter(|p| p.kind == Kind::Normal).map(|p| p.score);
    let (low, high) = (normal().fold(f32::INFINITY, f32::min), normal().fold(f32::NEG_INFINITY, f32::max));
    let score = |p: &Piece| match p.kind {
        Kind::Normal => Some(f64::from(p.score)),
        // A user-defined symbol beats every way to split it.
        Kind::UserDefined => Some(f64::from(p.text.len() as f32 * high - 0.1)),
        _ => None,
    };
    let scores: Vec<Option<f64>> = pieces.iter().map(score).collect();
    let config = UnigramConfig {
        unknown: unknown(pieces, true),
        byte_fallback,
        min_score: low.is_finite().then_some(f64::from(low)),
        single_precision: true,
    };
    Unigram::new(format, vocab(format, pieces)?, &scores, config)
}

/// Marks become spaces, byte tokens bytes; the space that the normaliser had put in front goes.
pub(crate) fn decoder(dummy_prefix: bool) -> Result<Decoder> {
    let mut steps = vec![
        DecodeStep::Replace { pattern: Pattern::literal(MARKER)?, content: " ".into() },
        DecodeStep::ByteFallback,
        DecodeStep::Fuse,
    ];
    if dummy_prefix {
        steps.push(DecodeStep::Strip { content: ' ', start: 1, stop: 0 });
    }
    Ok(Decoder::new(steps))
}

impl Tokenizer {
    /// Reads a SentencePiece `.model` file. The first control tokens named `<s>` and `</s>` begin and end a sequence;
    /// the template puts neither, as SentencePiece itself does. User-defined pieces that look like control tokens, as
    /// `<start_of_turn>` does, are special: text becomes them only when the caller allows it.
    ///
    /// # Errors
    /// When the file is malformed, or its model type is not BPE or Unigram.
    pub fn from_sentencepiece(file: &[u8]) -> Result<Self> {
        Self::from_spec(parse(file)?)
    }

    pub(super) fn from_spec(mut spec: Spec) -> Result<Self> {
        guard(&mut spec.pieces);
        let model = match spec.model_type {
            1 => Model::Unigram(unigram(FORMAT, &spec.pieces, spec.byte_fallback)?),
            BPE => {
                let frozen = spec.pieces.iter().enumerate().filter(|(_, p)| p.kind == Kind::UserDefined);
                let frozen: Vec<u32> = frozen.map(|(id, _)| id as u32).collect();
                Model::Bpe(bpe(FORMAT, &spec.pieces, spec.byte_fallback)?.with_frozen(&frozen))
            }
            3 => return Err(Error::unsupported(FORMAT, "trainer_spec.model_type = WORD")),
            4 => return Err(Error::unsupported(FORMAT, "trainer_spec.model_type = CHAR")),
            n => return Err(Error::malformed(FORMAT, format!("trainer_spec.model_type = {n}"))),
        };
        let map = if spec.charsmap.is_empty() { None } else { Some(Charsmap::new(&spec.charsmap)?) };
        let protected = spec.pieces.iter().filter(|p| p.kind == Kind::UserDefined).map(|p| &p.text[..]);
        let normalizer = SentencePieceNormalizer::new(
            map,
            spec.add_dummy_prefix,
            spec.remove_extra_whitespaces,
            spec.escape_whitespaces,
            spec.whitespace_as_suffix,
            protected,
        );
        let control =
            |name: &str| spec.pieces.iter().position(|p| p.kind == Kind::Control && p.text == name).map(|id| id as u32);
        // User-defined symbols are found by the model itself, which also sees the text around them.
        let added = added_tokens(&spec.pieces).into_iter().filter(|t| t.special).collect();
        Self::new(TokenizerParts {
            normalizers: vec![Normalizer::SentencePiece(normalizer)],
            added_tokens: added,
            template: Template::default(),
            decoder: decoder(spec.add_dummy_prefix)?,
            bos: control("<s>"),
            eos: control("</s>"),
            ..TokenizerParts::new(model)
        })
    }

    /// [`Tokenizer::from_sentencepiece`] for a file.
    ///
    /// # Errors
    /// As [`Tokenizer::from_sentencepiece`], and when the file cannot be read.
    pub fn from_sentencepiece_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_sentencepiece(&read(path.as_ref())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_tokens_are_told_from_tags_and_text() {
        for control in [
            "<start_of_turn>",
            "<end_of_turn>",
            "<image_soft_token>",
            "</tool_call>",
            "<|im_start|>",
            "<\u{ff5c}User\u{ff5c}>",
            "<unused17>",
            "<pad>",
            "<bos>",
            "[@BOS@]",
            "[INST]",
            "[/INST]",
            "[TOOL_CALLS]",
            "[multimodal]",
        ] {
            assert!(looks_like_control(control), "{control}");
        }
        for text in [
            "<b>", "</table>", "<h1>", "\n\n", "  ", "foo bar", "<sep>", "[]", "[1]", "[a]", "<>", "<||>", "<a b_c>",
            "ab",
        ] {
            assert!(!looks_like_control(text), "{text:?}");
        }
    }
}
