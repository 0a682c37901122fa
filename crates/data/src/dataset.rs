//! Token shards together: one long stream of tokens, cut into documents.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::{Hasher, hex};
use crate::error::{Error, Result};
use crate::loader::{Batch, IGNORE};
use crate::shard::{EXTENSION, Shard};

/// A part of a shard.
#[derive(Clone, Debug)]
struct Part {
    shard: Arc<Shard>,
    tokens: Range<usize>,
    /// The documents that have a token in the range.
    documents: Range<usize>,
    /// Tokens and documents of the parts before.
    first_token: usize,
    first_document: usize,
}

/// Tokens of one document, or of a stretch of one, in part `part`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which part of the dataset.
    pub part: usize,
    /// The tokens, counted from the beginning of its shard.
    pub tokens: Range<usize>,
}

/// Shards, or ranges of shards, one after the other. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Dataset {
    parts: Arc<Vec<Part>>,
    tokens: usize,
    documents: usize,
}

impl Dataset {
    /// These shards, in this order.
    ///
    /// # Errors
    /// When they hold no token, or were not made with one tokenizer.
    pub fn new(shards: Vec<Shard>) -> Result<Self> {
        let shards: Vec<Arc<Shard>> = shards.into_iter().map(Arc::new).collect();
        if let [first, rest @ ..] = &shards[..] {
            for other in rest {
                let facts = |shard: &Shard| (shard.tokenizer(), shard.vocab_size(), shard.separator());
                if facts(first) != facts(other) {
                    let describe =
                        |shard: &Shard| format!("{} with {} ids", &shard.tokenizer()[..12], shard.vocab_size());
                    let expected = format!("{} as in {}", describe(first), first.path().display());
                    return Err(Error::damaged(other.path(), "the tokenizer", describe(other), expected));
                }
            }
        }
        let parts = shards.into_iter().map(|shard| {
            let tokens = 0..shard.len();
            (shard, tokens)
        });
        Self::from_parts(parts.collect())
    }

    fn from_parts(ranges: Vec<(Arc<Shard>, Range<usize>)>) -> Result<Self> {
        let (mut first_token, mut first_document) = (0, 0);
        let mut parts = Vec::new();
        for (shard, tokens) in ranges {
            if tokens.is_empty() {
                continue;
            }
            let documents = shard.document_of(tokens.start)..shard.document_of(tokens.end - 1) + 1;
            let part = Part { shard, tokens, documents, first_token, first_document };
            first_token += part.tokens.len();
            first_document += part.documents.len();
            parts.push(part);
        }
        if parts.is_empty() {
            return Err(Error::Options("the data holds no tokens, expected at least one".to_string()));
        }
        Ok(Self { parts: Arc::new(parts), tokens: first_token, documents: first_document })
    }

    /// All shards of a folder in order of name, or one file.
    ///
    /// # Errors
    /// When there is none, or one of them is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let mut files: Vec<PathBuf> = Vec::new();
        if path.is_dir() {
            for entry in fs::read_dir(path).map_err(Error::io(path, "list"))? {
                let file = entry.map_err(Error::io(path, "list"))?.path();
                if file.extension().is_some_and(|ending| ending == EXTENSION) {
                    files.push(file);
                }
            }
            files.sort();
        } else {
            files.push(path.to_owned());
        }
        if files.is_empty() {
            let reason = format!("no file there ends in .{EXTENSION}");
            return Err(Error::NoInput { path: path.display().to_string(), reason });
        }
        Self::new(files.iter().map(|file| Shard::open(file)).collect::<Result<_>>()?)
    }

    /// Reads all shards whole and checks them; see [`Shard::verify`].
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn verify(&self) -> Result<()> {
        self.parts.iter().try_for_each(|part| part.shard.verify())
    }

    /// The first tokens and the rest, cut at `share`.
    ///
    /// # Errors
    /// When one side would be empty.
    pub fn split(&self, share: f64) -> Result<(Self, Self)> {
        let mut left = (self.tokens as f64 * share) as usize;
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for part in self.parts.iter() {
            let take = left.min(part.tokens.len());
            left -= take;
            let cut = part.tokens.start + take;
            first.push((part.shard.clone(), part.tokens.start..cut));
            second.push((part.shard.clone(), cut..part.tokens.end));
        }
        Ok((Self::from_parts(first)?, Self::from_parts(second)?))
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Never true: a dataset holds at least one token.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Number of documents.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Bytes of the text that the tokens stand for; in proportion where only a part of a shard is used, and `None` when a
    /// shard does not know.
    pub fn text_bytes(&self) -> Option<u64> {
        self.parts.iter().try_fold(0, |sum, part| {
            let bytes = part.shard.text_bytes();
            let share = part.tokens.len() as f64 / part.shard.len() as f64;
            (bytes > 0).then(|| sum + (bytes as f64 * share).round() as u64)
        })
    }

    /// Number of tokens that are to be learnt: all, where nothing is marked.
    pub fn learnt(&self) -> usize {
        let of = |part: &Part| match part.shard.is_marked() {
            true => part.tokens.clone().filter(|&at| part.shard.learns(at)).count(),
            false => part.tokens.len(),
        };
        self.parts.iter().map(of).sum()
    }

    /// One more than the largest id that may occur.
    pub fn vocab_size(&self) -> u64 {
        self.parts[0].shard.vocab_size()
    }

    /// The checksum of the tokenizer.
    pub fn tokenizer(&self) -> String {
        self.parts[0].shard.tokenizer()
    }

    /// The token before each document.
    pub fn separator(&self) -> Option<u32> {
        self.parts[0].shard.separator()
    }

    /// Whether all ids are below `vocab_size`, that of a model for instance.
    ///
    /// # Errors
    /// With the first id that is not.
    pub fn check_ids(&self, vocab_size: u64) -> Result<()> {
        if self.vocab_size() <= vocab_size {
            return Ok(());
        }
        for (shard, tokens) in self.shards() {
            for at in tokens {
                let id = shard.token(at);
                if u64::from(id) >= vocab_size {
                    let expected = format!("an id below {vocab_size}, the size of the model's vocabulary");
                    return Err(Error::content(shard.path(), "token", at as u64, format!("the id {id}"), expected));
                }
            }
        }
        Ok(())
    }

    /// The shards that it is made of, with the tokens of each that are used.
    pub fn shards(&self) -> impl Iterator<Item = (&Shard, Range<usize>)> {
        self.parts.iter().map(|part| (&*part.shard, part.tokens.clone()))
    }

    /// A checksum of all that is in it: of the shards' checksums and the ranges used.
    pub fn hash(&self) -> String {
        let mut hasher = Hasher::new();
        for part in self.parts.iter() {
            hasher.update(format!("{} {:?}\n", part.shard.checksum(), part.tokens).as_bytes());
        }
        hex(&hasher.finish())
    }

    /// The tokens of document `index`.
    ///
    /// # Panics
    /// When there is no such document.
    #[track_caller]
    pub fn document(&self, index: usize) -> Span {
        assert!(index < self.documents, "dataset: there is no document {index} of {}", self.documents);
        let part = self.parts.partition_point(|part| part.first_document <= index) - 1;
        let Part { shard, tokens, documents, first_document, .. } = &self.parts[part];
        let whole = shard.document(documents.start + index - first_document);
        Span { part, tokens: whole.start.max(tokens.start)..whole.end.min(tokens.end) }
    }

    /// The spans, one for each document touched, of the tokens `range` of the whole stream.
    ///
    /// # Panics
    /// When the range is not within the stream.
    #[track_caller]
    pub fn spans(&self, range: Range<usize>, out: &mut Vec<Span>) {
        assert!(range.end <= self.tokens, "dataset: there are no tokens {range:?} of {}", self.tokens);
        let mut at = range.start;
        while at < range.end {
            let index = self.parts.partition_point(|part| part.first_token <= at) - 1;
            let part = &self.parts[index];
            let begin = part.tokens.start + at - part.first_token;
            let document = part.shard.document(part.shard.document_of(begin));
            let end = document.end.min(part.tokens.end).min(begin + range.end - at);
            out.push(Span { part: index, tokens: begin..end });
            at += end - begin;
        }
    }

    /// Appends a span to a batch as one segment: its tokens, and for each what comes next in its document. Behind a document
    /// comes the separator, where the next one begins with it; what nobody knows, or is not to be learnt, is [`IGNORE`].
    ///
    /// # Errors
    /// When an id is not in the vocabulary.
    pub fn append(&self, span: &Span, batch: &mut Batch) -> Result<()> {
        let part = &self.parts[span.part];
        let shard = &part.shard;
        let Range { start, end } = span.tokens.clone();
        if start == end {
            return Ok(());
        }
        shard.read(start..end, &mut batch.tokens)?;
        let before = batch.targets.len();
        let document = shard.document(shard.document_of(end - 1));
        if end < document.end && end < part.tokens.end {
            shard.read(start + 1..end + 1, &mut batch.targets)?;
        } else {
            shard.read(start + 1..end, &mut batch.targets)?;
            batch.targets.push(if end == document.end { self.behind(span.part, end) } else { IGNORE });
        }
        if shard.is_marked() {
            for (target, at) in batch.targets[before..].iter_mut().zip(start + 1..) {
                if at < shard.len() && !shard.learns(at) {
                    *target = IGNORE;
                }
            }
        }
        batch.lengths.push(end - start);
        Ok(())
    }

    /// What comes behind a document that ends at `end` of a part.
    fn behind(&self, part: usize, end: usize) -> i64 {
        let next = if end < self.parts[part].tokens.end {
            Some(self.parts[part].shard.token(end))
        } else {
            self.parts.get(part + 1).map(|next| next.shard.token(next.tokens.start))
        };
        match (next, self.separator()) {
            (Some(next), Some(separator)) if next == separator => i64::from(separator),
            _ => IGNORE,
        }
    }
}
