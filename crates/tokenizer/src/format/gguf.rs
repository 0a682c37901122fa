//! The vocabulary inside a GGUF file, read as llama.cpp reads it.
//!
//! Only the metadata at the start of the file is looked at; tensors are not needed and need not be there.

use super::byte_chars;
use super::read;
use super::sentencepiece::{self, Kind, Piece};
use crate::added::AddedToken;
use crate::decode::{DecodeStep, Decoder};
use crate::error::{Error, Result};
use crate::hash::FastMap;
use crate::model::bpe::{Alphabet, Bpe, BpeConfig, MARKER, MergeRule, Unknown};
use crate::model::{Model, WordPiece};
use crate::normalize::{BertNormalizer, Charsmap, Normalizer, SentencePieceNormalizer};
use crate::split::{Pattern, PreTokenizer, Step, patterns};
use crate::template::{Part, Template};
use crate::tokenizer::{Tokenizer, TokenizerParts};
use crate::vocab::Vocab;
use std::path::Path;

const FORMAT: &str = "GGUF";

/// A metadata value, as far as tokenizers use them.
#[derive(Clone, Debug)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The sizes of the scalar types by number; 8 is a string and 9 an array.
fn scalar_size(kind: u32) -> Option<usize> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

impl<'a> Reader<'a> {
    fn wrong(&self, what: impl std::fmt::Display) -> Error {
        Error::malformed(FORMAT, format!("{what} at byte {}", self.at))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.wrong(format_args!("the file ends inside a value of {n} bytes")))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn u64(&mut self) -> Result<u64> {
        let mut word = [0; 8];
        word.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(word))
    }

    fn text(&mut self) -> Result<String> {
        let len = self.u64()?;
        let len = usize::try_from(len).map_err(|_| self.wrong("a text of impossible length"))?;
        let bytes = self.take(len)?;
        // Some vocabularies hold tokens that are not UTF-8; llama.cpp keeps them, and they match no text.
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn scalar(&mut self, kind: u32) -> Result<Value> {
        let size = scalar_size(kind).ok_or_else(|| self.wrong(format_args!("the unknown type {kind}")))?;
        let mut word = [0; 8];
        word[..size].copy_from_slice(self.take(size)?);
        let unsigned = u64::from_le_bytes(word);
        let shift = 64 - 8 * size as u32;
        Ok(match kind {
            6 => Value::Float(f64::from(f32::from_bits(unsigned as u32))),
            12 => Value::Float(f64::from_bits(unsigned)),
            7 => Value::Bool(unsigned != 0),
            1 | 3 | 5 | 11 => Value::Signed((unsigned << shift) as i64 >> shift),
            _ => Value::Unsigned(unsigned),
        })
    }

    /// A value; arrays of no interest are skipped without keeping them.
    fn value(&mut self, keep: bool) -> Result<Option<Value>> {
        let kind = self.u32()?;
        if kind == 8 {
            return Ok(Some(Value::Text(self.text()?)));
        }
        if kind != 9 {
            return self.scalar(kind).map(Some);
        }
        let kind = self.u32()?;
        let n = self.u64()?;
        let n = usize::try_from(n).map_err(|_| self.wrong("an array of impossible length"))?;
        if kind == 8 {
            let mut texts = Vec::new();
            for _ in 0..n {
                let text = self.text()?;
                if keep {
                    texts.push(text);
                }
            }
            return Ok(keep.then_some(Value::Texts(texts)));
        }
        let size = scalar_size(kind).ok_or_else(|| self.wrong(format_args!("an array of the type {kind}")))?;
        let len = n.checked_mul(size).ok_or_else(|| self.wrong("an array of impossible length"))?;
        if !keep {
            self.take(len)?;
            return Ok(None);
        }
        // The bytes are there before memory is asked for.
        if len > self.bytes.len() - self.at {
            return Err(self.wrong(format_args!("an array of {n} values goes beyond the end of the file")));
        }
        if matches!(kind, 6 | 12) {
            let mut floats = Vec::with_capacity(n);
            for _ in 0..n {
                if let Value::Float(f) = self.scalar(kind)? {
                    floats.push(f as f32);
                }
            }
            return Ok(Some(Value::Floats(floats)));
        }
        let mut integers = Vec::with_capacity(n);
        for _ in 0..n {
            integers.push(match self.scalar(kind)? {
                Value::Unsigned(u) => u as i64,
                Value::Signed(i) => i,
                _ => 0,
            });
        }
        Ok(Some(Value::Integers(integers)))
    }
}

/// The `tokenizer.*` entries of a file.
struct Metadata(FastMap<String, Value>);

impl Metadata {
    fn read(file: &[u8]) -> Result<Self> {
        let mut reader = Reader { bytes: file, at: 0 };
        if reader.take(4)? != b"GGUF" {
            return Err(Error::malformed(FORMAT, "the file does not begin with GGUF"));
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(Error::unsupported(FORMAT, format!("version {version}")));
        }
        reader.u64()?;
        let entries = reader.u64()?;
        let mut map = FastMap::default();
        for _ in 0..entries {
            let key = reader.text()?;
            let ours = key.starts_with("tokenizer.");
            if let Some(value) = reader.value(ours)?
                && ours
            {
                map.insert(key, value);
            }
        }
        Ok(Self(map))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(&format!("tokenizer.ggml.{key}"))
    }

    fn text(&self, key: &str) -> Option<&str> {
        if let Some(Value::Text(text)) = self.get(key) { Some(text) } else { None }
    }

    fn bool(&self, key: &str, default: bool) -> bool {
        if let Some(Value::Bool(b)) = self.get(key) { *b } else { default }
    }

    /// An id; some files write -1 for none.
    fn id(&self, key: &str) -> Option<u32> {
        match self.get(key)? {
            Value::Unsigned(n) => u32::try_from(*n).ok().filter(|&n| n != u32::MAX),
            Value::Signed(n) => u32::try_from(*n).ok(),
            _ => None,
        }
    }

    fn pieces(&self) -> Result<Vec<Piece>> {
        let Some(Value::Texts(tokens)) = self.get("tokens") else {
            return Err(Error::malformed(FORMAT, "tokenizer.ggml.tokens is missing or not a list of texts"));
        };
        let same = |len: usize, key: &str| {
            if len == tokens.len() {
                return Ok(());
            }
            let n = tokens.len();
            Err(Error::malformed(FORMAT, format!("tokenizer.ggml.{key} has {len} entries for {n} tokens")))
        };
        let scores = match self.get("scores") {
            Some(Value::Floats(scores)) => &scores[..],
            _ => &[],
        };
        let kinds = match self.get("token_type") {
            Some(Value::Integers(kinds)) => &kinds[..],
            _ => &[],
        };
        if !scores.is_empty() {
            same(scores.len(), "scores")?;
        }
        if !kinds.is_empty() {
            same(kinds.len(), "token_type")?;
        }
        let mut pieces = Vec::with_capacity(tokens.len());
        for (id, text) in tokens.iter().enumerate() {
            let kind = kinds.get(id).copied().unwrap_or(1);
            let kind = u64::try_from(kind).ok().and_then(Kind::from_number);
            let kind = kind.ok_or_else(|| Error::malformed(FORMAT, format!("token {id} has an unknown type")))?;
            pieces.push(Piece { text: text.clone(), score: scores.get(id).copied().unwrap_or(0.0), kind });
        }
        sentencepiece::guard(&mut pieces);
        Ok(pieces)
    }
}

impl Tokenizer {
    /// Reads the vocabulary of a GGUF file. The template puts what the file's `add_bos_token` and `add_eos_token` say
    /// around a text; `tokenizer.chat_template` is kept. User-defined tokens that look like control tokens, as
    /// `<start_of_turn>` does in older files, are special: text becomes them only when the caller allows it. A byte-level
    /// vocabulary whose file does not say how text is cut is cut as llama.cpp does it by default.
    ///
    /// # Errors
    /// When the metadata is malformed, or names a model or a pre-tokeniser that is not known here.
    pub fn from_gguf(file: &[u8]) -> Result<Self> {
        let metadata = Metadata::read(file)?;
        let pieces = metadata.pieces()?;
        let mut parts = match metadata.text("model") {
            Some("gpt2") => byte_level(&metadata, &pieces)?,
            Some("llama") => llama(&metadata, &pieces)?,
            Some("bert") => bert(&metadata, &pieces)?,
            Some("t5") => t5(&metadata, &pieces)?,
            Some(other) => return Err(Error::unsupported(FORMAT, format!("tokenizer.ggml.model = {other:?}"))),
            None => return Err(Error::malformed(FORMAT, "tokenizer.ggml.model is missing")),
        };
        parts.bos = parts.bos.or(metadata.id("bos_token_id"));
        parts.eos = parts.eos.or(metadata.id("eos_token_id"));
        if let Some(Value::Text(template)) = metadata.0.get("tokenizer.chat_template") {
            parts.chat_template = Some(template.clone());
        }
        if parts.template.is_plain() {
            let one = |wanted: bool, id: Option<u32>| id.filter(|_| wanted).into_iter().collect::<Vec<_>>();
            let spm = matches!(metadata.text("model"), Some("llama"));
            let before = one(metadata.bool("add_bos_token", spm), parts.bos);
            let after = one(metadata.bool("add_eos_token", metadata.text("model") == Some("t5")), parts.eos);
            if !before.is_empty() || !after.is_empty() {
                parts.template = Template::around(&before, &after);
            }
        }
        Self::new(parts)
    }

    /// [`Tokenizer::from_gguf`] for a file.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`], and when the file cannot be read.
    pub fn from_gguf_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_gguf(&read(path.as_ref())?)
    }
}

/// The pre-tokeniser by its name in the file, and whether whole words come before merges.
fn pre_tokenizer(name: &str) -> Result<(PreTokenizer, bool)> {
    let chain: &[&str] = match name {
        "gpt-2" | "gpt2" | "phi-2" | "mpt" | "olmo" | "jais" | "roberta-bpe" | "jina-es" | "jina-de" | "jina-v2-es"
        | "jina-v2-de" | "jina-v2-code" | "trillion" => &[patterns::GPT2],
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" => {
            &[patterns::LLAMA3]
        }
        "qwen2" | "stablelm2" | "deepseek-r1-qwen" | "megrez" => &[patterns::QWEN2],
        "deepseek-llm" => &patterns::DEEPSEEK_LLM,
        "deepseek-coder" => &patterns::DEEPSEEK_CODER,
        "deepseek-v3" => &patterns::DEEPSEEK_V3,
        "tekken" => &[patterns::TEKKEN],
        "gpt-4o" | "llama4" => &[patterns::O200K],
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b" => {
            &patterns::DIGITS_THEN_GPT2
        }
        "default" | "" => &patterns::LLAMA_CPP_DEFAULT,
        other => return Err(Error::unsupported(FORMAT, format!("tokenizer.ggml.pre = {other:?}"))),
    };
    let whole_first = matches!(name, "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "tekken");
    Ok((PreTokenizer::chain(chain)?, whole_first))
}

fn byte_level(metadata: &Metadata, pieces: &[Piece]) -> Result<TokenizerParts> {
    let (pre_tokenizer, whole_first) = pre_tokenizer(metadata.text("pre").unwrap_or("default"))?;
    let ids: FastMap<&str, u32> = pieces.iter().enumerate().map(|(id, p)| (&p.text[..], id as u32)).collect();
    let Some(Value::Texts(list)) = metadata.get("merges") else {
        return Err(Error::malformed(FORMAT, "tokenizer.ggml.merges is missing or not a list of texts"));
    };
    let mut merges = Vec::with_capacity(list.len());
    for (rank, merge) in list.iter().enumerate() {
        let rule = || {
            // The left half may itself begin with a space in vocabularies that are not byte-encoded.
            let space = merge.char_indices().skip(1).find(|(_, c)| *c == ' ')?.0;
            let (left, right) = (&merge[..space], &merge[space + 1..]);
            let whole = format!("{left}{right}");
            Some(MergeRule { left: *ids.get(left)?, right: *ids.get(right)?, id: *ids.get(&whole[..])? })
        };
        let wrong = || Error::malformed(FORMAT, format!("merge {rank} is {merge:?}, not two tokens that make a third"));
        let rule = rule().ok_or_else(wrong)?;
        if matches!(pieces[rule.id as usize].kind, Kind::Normal | Kind::UserDefined) {
            merges.push(rule);
        }
    }
    let ordinary = || pieces.iter().enumerate().filter(|(_, p)| p.kind == Kind::Normal);
    let decoded = ordinary().filter_map(|(id, p)| Some((id as u32, byte_chars::decode(&p.text)?)));
    let others = ordinary().filter(|(_, p)| byte_chars::decode(&p.text).is_none());
    let others = others.map(|(id, p)| (id as u32, p.text.clone().into_bytes()));
    let vocab = Vocab::new(FORMAT, decoded.chain(others))?;
    let config = BpeConfig { alphabet: Alphabet::Bytes, unknown: Unknown::Drop, whole_first, ..BpeConfig::default() };
    Ok(TokenizerParts {
        pre_tokenizer,
        added_tokens: sentencepiece::added_tokens(pieces),
        ..TokenizerParts::new(Model::Bpe(Bpe::from_merges(vocab, merges, config)))
    })
}

fn llama(metadata: &Metadata, pieces: &[Piece]) -> Result<TokenizerParts> {
    let prefix = metadata.bool("add_space_prefix", true);
    let mut normalizers = Vec::new();
    if prefix {
        normalizers.push(Normalizer::Prepend(MARKER.into()));
    }
    normalizers.push(Normalizer::Replace { pattern: Pattern::literal(" ")?, content: MARKER.into() });
    Ok(TokenizerParts {
        normalizers,
        added_tokens: sentencepiece::added_tokens(pieces),
        decoder: sentencepiece::decoder(prefix)?,
        ..TokenizerParts::new(Model::Bpe(sentencepiece::bpe(FORMAT, pieces, true)?))
    })
}

fn t5(metadata: &Metadata, pieces: &[Piece]) -> Result<TokenizerParts> {
    let map = match metadata.get("precompiled_charsmap") {
        Some(Value::Integers(bytes)) => Some(Charsmap::new(&bytes.iter().map(|&b| b as u8).collect::<Vec<_>>())?),
        _ => None,
    };
    let prefix = metadata.bool("add_space_prefix", true);
    let protected = pieces.iter().filter(|p| p.kind == Kind::UserDefined).map(|p| &p.text[..]);
    let extra = metadata.bool("remove_extra_whitespaces", true);
    let normalizer = SentencePieceNormalizer::new(map, prefix, extra, true, false, protected);
    Ok(TokenizerParts {
        normalizers: vec![Normalizer::SentencePiece(normalizer)],
        added_tokens: sentencepiece::added_tokens(pieces).into_iter().filter(|t| t.special).collect(),
        decoder: sentencepiece::decoder(prefix)?,
        ..TokenizerParts::new(Model::Unigram(sentencepiece::unigram(FORMAT, pieces, false)?))
    })
}

/// GGUF marks the tokens that begin a word; WordPiece marks the others.
fn bert(metadata: &Metadata, pieces: &[Piece]) -> Result<TokenizerParts> {
    let text = |p: &Piece| match p.text.strip_prefix(MARKER) {
        Some(word) => word.to_string(),
        None => format!("##{}", p.text),
    };
    let ordinary = pieces.iter().enumerate().filter(|(_, p)| !matches!(p.kind, Kind::Control | Kind::Unknown));
    let vocab = Vocab::new(FORMAT, ordinary.map(|(id, p)| (id as u32, text(p))))?;
    let special = pieces.iter().enumerate().filter(|(_, p)| matches!(p.kind, Kind::Control | Kind::Unknown));
    let special = special.map(|(id, p)| AddedToken::special(id as u32, &p.text[..])).collect();
    let token = |id, type_id| Part::Token { id, type_id };
    let template = match (metadata.id("cls_token_id").or(metadata.id("bos_token_id")), separator(metadata)) {
        (Some(cls), Some(sep)) => {
            let single = vec![token(cls, 0), Part::First { type_id: 0 }, token(sep, 0)];
            let pair = [single.clone(), vec![Part::Second { type_id: 1 }, token(sep, 1)]].concat();
            Template::new(single, pair)?
        }
        _ => Template::default(),
    };
    let bert = BertNormalizer { clean_text: true, chinese_chars: true, strip_accents: Some(true), lowercase: true };
    let named = || pieces.iter().position(|p| p.text == "[UNK]").map(|id| id as u32);
    let unknown = metadata.id("unknown_token_id").or_else(named);
    Ok(TokenizerParts {
        normalizers: vec![Normalizer::Bert(bert)],
        pre_tokenizer: PreTokenizer::new([Step::Bert]),
        added_tokens: special,
        template,
        decoder: Decoder::new([DecodeStep::WordPiece { prefix: "##".into(), cleanup: true }]),
        ..TokenizerParts::new(Model::WordPiece(WordPiece::new(vocab, unknown, "##", usize::MAX)))
    })
}

/// The key is misspelt in the format; newer files may have it right.
fn separator(metadata: &Metadata) -> Option<u32> {
    metadata.id("seperator_token_id").or(metadata.id("separator_token_id"))
}
