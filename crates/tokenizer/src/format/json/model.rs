//! The `model` section.

use super::FORMAT;
use super::file::{Added, Model as Section, Vocab as List};
use crate::added::AddedToken;
use crate::error::{Error, Result};
use crate::format::byte_chars;
use crate::hash::{FastMap, FastSet};
use crate::model::bpe::{Alphabet, Bpe, BpeConfig, MergeRule, Unknown};
use crate::model::unigram::UnigramConfig;
use crate::model::{Model, Unigram, WordPiece};
use crate::vocab::Vocab;

/// The model and the added tokens. Special tokens are taken out of the model's vocabulary: text never becomes one by
/// way of the model.
pub(super) fn read(section: Section, added: &[Added], byte_level: bool) -> Result<(Model, Vec<AddedToken>)> {
    let tokens: Vec<AddedToken> = added
        .iter()
        .map(|t| AddedToken {
            id: t.id,
            content: t.content.clone(),
            special: t.special,
            single_word: t.single_word,
            lstrip: t.lstrip,
            rstrip: t.rstrip,
            normalized: t.normalized,
        })
        .collect();
    let kind = match &section.kind {
        Some(kind) => kind.clone(),
        None if section.merges.is_some() => "BPE".into(),
        None if matches!(section.vocab, List::Scores(_)) => "Unigram".into(),
        None if section.continuing_subword_prefix.is_some() => "WordPiece".into(),
        None => return Err(Error::malformed(FORMAT, "the model has no type")),
    };
    if section.dropout.is_some_and(|p| p > 0.0) {
        return Err(Error::unsupported(FORMAT, "model.dropout (use EncodeOptions::dropout)"));
    }
    if byte_level && kind != "BPE" {
        return Err(Error::unsupported(FORMAT, format!("a ByteLevel pre-tokenizer with the model {kind}")));
    }
    let model = match &kind[..] {
        "BPE" => bpe(section, &tokens, byte_level)?,
        "Unigram" => unigram(section, &tokens)?,
        "WordPiece" => wordpiece(section, &tokens)?,
        other => return Err(Error::unsupported(FORMAT, format!("model.type = {other:?}"))),
    };
    Ok((model, tokens))
}

fn ids(section: &mut Section, tokens: &[AddedToken]) -> Result<Vec<(String, u32)>> {
    let list = match std::mem::replace(&mut section.vocab, List::Ids(Vec::new())) {
        List::Ids(list) => list,
        List::Scores(_) => return Err(Error::malformed(FORMAT, "model.vocab is a list; this model has a map")),
    };
    let special: FastMap<&str, u32> = tokens.iter().map(|t| (&t.content[..], t.id)).collect();
    for (token, id) in &list {
        if let Some(other) = special.get(&token[..])
            && other != id
        {
            let what = format!("{token:?} has the id {id} in model.vocab and {other} in added_tokens");
            return Err(Error::malformed(FORMAT, what));
        }
    }
    Ok(list)
}

fn special_ids(tokens: &[AddedToken]) -> FastSet<u32> {
    tokens.iter().filter(|t| t.special).map(|t| t.id).collect()
}

/// The id of the unknown token, among the model's tokens or the added ones.
fn named(list: &FastMap<&str, u32>, tokens: &[AddedToken], name: &str) -> Result<u32> {
    let added = || tokens.iter().find(|t| t.content == name).map(|t| t.id);
    list.get(name)
        .copied()
        .or_else(added)
        .ok_or_else(|| Error::malformed(FORMAT, format!("the unknown token {name:?} is not in the vocabulary")))
}

fn bpe(mut section: Section, tokens: &[AddedToken], byte_level: bool) -> Result<Model> {
    let list = ids(&mut section, tokens)?;
    let by_text: FastMap<&str, u32> = list.iter().map(|(t, id)| (&t[..], *id)).collect();
    let prefix = section.continuing_subword_prefix.take().unwrap_or_default();
    let suffix = section.end_of_word_suffix.take().unwrap_or_default();
    let special = special_ids(tokens);
    let mut merges = Vec::new();
    for (rank, merge) in section.merges.take().unwrap_or_default().iter().enumerate() {
        let id = |text: &str| {
            by_text.get(text).copied().ok_or_else(|| {
                Error::malformed(FORMAT, format!("merge {rank} uses {text:?}, which is not in the vocabulary"))
            })
        };
        let tail = merge.1.strip_prefix(&prefix[..]).unwrap_or(&merge.1);
        let rule = MergeRule { left: id(&merge.0)?, right: id(&merge.1)?, id: id(&format!("{}{tail}", merge.0))? };
        if !special.contains(&rule.id) {
            merges.push(rule);
        }
    }
    let unknown = match &section.unk_token {
        None => Unknown::Drop,
        Some(name) => Unknown::Token { id: named(&by_text, tokens, name)?, fuse: section.fuse_unk.unwrap_or(false) },
    };
    let config = BpeConfig {
        alphabet: if byte_level { Alphabet::Bytes } else { Alphabet::Chars },
        unknown,
        byte_fallback: section.byte_fallback.unwrap_or(false),
        whole_first: section.ignore_merges.unwrap_or(false),
        prefix,
        suffix,
    };
    let ordinary = list.iter().filter(|(_, id)| !special.contains(id));
    let vocab = if byte_level {
        // A text that stands for no bytes cannot be reached by bytes; it comes last so that it hides no other token.
        let decoded = ordinary.clone().filter_map(|(t, id)| Some((*id, byte_chars::decode(t)?)));
        let other =
            ordinary.filter(|(t, _)| byte_chars::decode(t).is_none()).map(|(t, id)| (*id, t.clone().into_bytes()));
        Vocab::new(FORMAT, decoded.chain(other))?
    } else {
        Vocab::new(FORMAT, ordinary.map(|(t, id)| (*id, t)))?
    };
    Ok(Model::Bpe(Bpe::from_merges(vocab, merges, config)))
}

fn unigram(section: Section, tokens: &[AddedToken]) -> Result<Model> {
    let List::Scores(list) = section.vocab else {
        return Err(Error::malformed(FORMAT, "model.vocab is a map; a Unigram model has a list"));
    };
    if let Some(id) = section.unk_id.filter(|&id| id as usize >= list.len()) {
        return Err(Error::malformed(FORMAT, format!("unk_id = {id} in a vocabulary of {} tokens", list.len())));
    }
    let special = special_ids(tokens);
    let entries = || list.iter().enumerate().map(|(id, (token, score))| (id as u32, token, *score));
    let chosen = |id: u32| !special.contains(&id);
    let scores: Vec<Option<f64>> = entries().map(|(id, _, score)| chosen(id).then_some(score)).collect();
    // The penalty of unknown characters counts from the smallest score of all, special tokens included.
    let min_score = list.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let vocab = Vocab::new(FORMAT, entries().filter(|(id, ..)| !special.contains(id)).map(|(id, t, _)| (id, t)))?;
    let unknown = section.unk_id.map_or(Unknown::Refuse, |id| Unknown::Token { id, fuse: true });
    let config = UnigramConfig {
        unknown,
        byte_fallback: section.byte_fallback.unwrap_or(false),
        min_score: min_score.is_finite().then_some(min_score),
        single_precision: false,
    };
    Ok(Model::Unigram(Unigram::new(FORMAT, vocab, &scores, config)?))
}

fn wordpiece(mut section: Section, tokens: &[AddedToken]) -> Result<Model> {
    let list = ids(&mut section, tokens)?;
    let by_text: FastMap<&str, u32> = list.iter().map(|(t, id)| (&t[..], *id)).collect();
    let unknown = section.unk_token.as_deref().map(|name| named(&by_text, tokens, name)).transpose()?;
    let special = special_ids(tokens);
    let vocab = Vocab::new(FORMAT, list.iter().filter(|(_, id)| !special.contains(id)).map(|(t, id)| (*id, t)))?;
    let prefix = section.continuing_subword_prefix.unwrap_or_else(|| "##".into());
    Ok(Model::WordPiece(WordPiece::new(vocab, unknown, prefix, section.max_input_chars_per_word.unwrap_or(100))))
}
