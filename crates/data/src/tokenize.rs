//! From files to a dataset.
//!
//! Documents are read in order, encoded on all threads and written to shards in order, so that equal files give equal shards on
//! any number of threads. `dataset.json` beside the shards says how far the work is; what was interrupted goes on behind the
//! last complete shard.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cupola_core::parallel_for;
use cupola_tokenizer::{EncodeOptions, Model, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::chat;
use crate::dataset::Dataset;
use crate::digest::{digest, hex};
use crate::error::{Error, Result};
use crate::input::Extent;
use crate::read::{Content, Cursor, OnBad, Piece, ReadOptions, Reader};
use crate::shard::{EXTENSION, Shard, ShardWriter, Vocabulary};

/// The file beside the shards.
pub const MANIFEST: &str = "dataset.json";

/// How a corpus is tokenised.
#[derive(Clone, Debug)]
pub struct TokenizeOptions {
    /// The token before each document. [`separator_of`] suggests one.
    pub separator: Option<u32>,
    /// The field of a JSON line that holds its text.
    pub field: String,
    /// What happens to bad lines and files.
    pub on_bad: OnBad,
    /// Tokens of a shard, more or less.
    pub shard_tokens: u64,
}

impl Default for TokenizeOptions {
    fn default() -> Self {
        Self { separator: None, field: "text".to_string(), on_bad: OnBad::Refuse, shard_tokens: 1 << 26 }
    }
}

/// How far the work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the files that have been read.
    pub bytes: u64,
    /// Bytes of all files.
    pub of: u64,
    /// Tokens written.
    pub tokens: u64,
}

/// What stands in [`MANIFEST`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this file's form.
    pub schema: u32,
    /// Whether all files have been read.
    pub complete: bool,
    /// A checksum of everything that the shards depend on: files with their lengths and times, tokenizer, options.
    pub plan: String,
    /// The tokenizer's checksum.
    pub tokenizer: String,
    /// Where the next shard begins.
    pub next: Cursor,
    /// Lines and files that were left out.
    pub skipped: u64,
    /// The complete shards.
    pub shards: Vec<ShardEntry>,
}

/// One shard of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// The file's name.
    pub name: String,
    /// Tokens in it.
    pub tokens: u64,
    /// Documents that begin or go on in it.
    pub documents: u64,
    /// Its checksum.
    pub checksum: String,
}

/// Text that is encoded at a time: enough for all threads, little enough to keep.
const BLOCK: usize = 8 << 20;

/// The tokenizer's checksum: of its `tokenizer.json`.
///
/// # Errors
/// When it cannot be written as one.
pub fn tokenizer_digest(tokenizer: &Tokenizer) -> Result<[u8; 32]> {
    let json = tokenizer.to_json().map_err(|source| tokenizer_error(Path::new("tokenizer"), 0, source))?;
    Ok(digest(json.as_bytes()))
}

/// The token that is put before each document: the one that ends a sequence, or `<|endoftext|>`, or the one that begins one.
pub fn separator_of(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.eos().or_else(|| tokenizer.token_to_id("<|endoftext|>")).or(tokenizer.bos())
}

fn tokenizer_error(path: &Path, offset: u64, source: cupola_tokenizer::Error) -> Error {
    Error::Tokenizer { path: path.to_owned(), offset, source }
}

/// Tokenises `extents` into shards in the folder `dir`, or opens what an earlier call with the same arguments has made there.
///
/// # Errors
/// When a file cannot be read or written, has changed, or holds what is refused.
pub fn tokenize(
    dir: &Path,
    extents: &[Extent],
    tokenizer: &Tokenizer,
    options: &TokenizeOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Dataset, Manifest)> {
    fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
    let hash = tokenizer_digest(tokenizer)?;
    let vocabulary = Vocabulary { size: tokenizer.vocab_size() as u64, separator: options.separator, tokenizer: hash };
    let plan = plan(extents, &vocabulary, options);
    let mut manifest = resume(dir, &plan).unwrap_or(Manifest {
        schema: 1,
        complete: false,
        plan,
        tokenizer: hex(&hash),
        next: Cursor::default(),
        skipped: 0,
        shards: Vec::new(),
    });
    if !manifest.complete {
        sweep(dir, &manifest)?;
        let work = Work { dir, extents, tokenizer, options, vocabulary };
        work.run(&mut manifest, progress)?;
    }
    let shards = manifest.shards.iter().map(|entry| Shard::open(&dir.join(&entry.name))).collect::<Result<_>>()?;
    Ok((Dataset::new(shards)?, manifest))
}

fn plan(extents: &[Extent], vocabulary: &Vocabulary, options: &TokenizeOptions) -> String {
    let mut text = format!(
        "{} {} {:?} {} {:?} {}\n",
        hex(&vocabulary.tokenizer),
        vocabulary.size,
        vocabulary.separator,
        options.field,
        options.on_bad,
        options.shard_tokens
    );
    for extent in extents {
        let modified = fs::metadata(&extent.path).and_then(|about| about.modified());
        let modified = modified.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        text.push_str(&format!("{extent:?} {:?}\n", modified.map(|since| since.as_nanos())));
    }
    hex(&digest(text.as_bytes()))
}

/// The manifest of an earlier call with the same plan whose shards are all there.
fn resume(dir: &Path, plan: &str) -> Option<Manifest> {
    let text = fs::read(dir.join(MANIFEST)).ok()?;
    let manifest: Manifest = serde_json::from_slice(&text).ok()?;
    let there =
        |entry: &ShardEntry| Shard::open(&dir.join(&entry.name)).is_ok_and(|shard| shard.checksum() == entry.checksum);
    (manifest.schema == 1 && manifest.plan == plan && manifest.shards.iter().all(there)).then_some(manifest)
}

/// Removes what belongs to no complete shard.
fn sweep(dir: &Path, manifest: &Manifest) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let path: PathBuf = entry.map_err(Error::io(dir, "list"))?.path();
        let ours = path.extension().is_some_and(|ending| ending == EXTENSION || ending == "partial");
        let kept = manifest.shards.iter().any(|entry| path.file_name().is_some_and(|name| *name == *entry.name));
        if ours && !kept {
            fs::remove_file(&path).map_err(Error::io(&path, "delete"))?;
        }
    }
    Ok(())
}

struct Work<'a> {
    dir: &'a Path,
    extents: &'a [Extent],
    tokenizer: &'a Tokenizer,
    options: &'a TokenizeOptions,
    vocabulary: Vocabulary,
}

/// The ids of a piece, which of them are learnt, and how many bytes of text they stand for.
type Encoded = (Vec<u32>, Option<Vec<bool>>, u64);

impl Work<'_> {
    fn run(&self, manifest: &mut Manifest, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let whole = self.cuts_at_lines();
        let options = ReadOptions {
            field: self.options.field.clone(),
            on_bad: self.options.on_bad,
            piece: whole.then_some(1 << 18),
            anywhere: self.is_unit_model(),
        };
        let of = self.extents.iter().map(Extent::len).sum();
        let mut reader = Reader::new(self.extents, &options, manifest.next);
        let skipped_before = manifest.skipped;
        let mut tokens = manifest.shards.iter().map(|entry| entry.tokens).sum();
        let mut writer: Option<ShardWriter> = None;
        // What was left out of the present document, and whether its beginning was: what follows joins on to nothing.
        let mut hole: Option<bool> = None;
        loop {
            let block = self.block(&mut reader)?;
            let last = block.is_empty();
            let encoded = self.encode(&block)?;
            for (piece, encoded) in block.iter().zip(encoded) {
                let Some((ids, learn, bytes)) = encoded else {
                    manifest.skipped += 1;
                    hole = Some(piece.begins || hole == Some(true));
                    continue;
                };
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => {
                        let path = self.dir.join(format!("{:05}.{EXTENSION}", manifest.shards.len()));
                        writer.insert(ShardWriter::create(&path, self.vocabulary.clone())?)
                    }
                };
                let hole = hole.take();
                if piece.begins || hole.is_some() || writer.is_empty() {
                    writer.begin(piece.begins || hole == Some(true))?;
                }
                let before = writer.len();
                writer.push(&ids, learn.as_deref(), bytes).map_err(|error| self.located(error, piece))?;
                tokens += writer.len() - before;
            }
            manifest.next = reader.position();
            let done = (self.extents.iter().take(manifest.next.extent).map(Extent::len).sum::<u64>()
                + self.extents.get(manifest.next.extent).map_or(0, |e| manifest.next.offset.saturating_sub(e.begin)))
            .min(of);
            if last || writer.as_ref().is_some_and(|writer| writer.len() >= self.options.shard_tokens) {
                if let Some(writer) = writer.take() {
                    let shard = writer.finish()?;
                    let name = shard.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let (tokens, documents) = (shard.len() as u64, shard.documents() as u64);
                    manifest.shards.push(ShardEntry { name, tokens, documents, checksum: shard.checksum() });
                }
                manifest.complete = last;
                manifest.skipped = manifest.skipped.max(skipped_before) + std::mem::take(&mut reader.skipped);
                let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
                cupola_io::atomic::write_bytes(self.dir.join(MANIFEST), &text)?;
            }
            progress(Progress { bytes: done, of, tokens });
            if last {
                return Ok(());
            }
        }
    }

    /// Whether text cut behind a line end has the ids of the whole: true of byte-level and unit models, not of those that put
    /// something before a text.
    fn cuts_at_lines(&self) -> bool {
        let ids = |text: &str| self.tokenizer.encode(text).ok();
        let joined = || Some([ids("Ab\n")?, ids("Cd e\n")?].concat());
        let unit = self.is_unit_model();
        let known = unit || self.tokenizer.model().is_byte_level();
        known && self.tokenizer.parts().normalizers.is_empty() && (unit || ids("Ab\nCd e\n") == joined())
    }

    fn is_unit_model(&self) -> bool {
        matches!(self.tokenizer.model(), Model::Chars(_) | Model::Bytes(_))
    }

    fn block(&self, reader: &mut Reader<'_>) -> Result<Vec<Piece>> {
        let mut block = Vec::new();
        let mut size = 0;
        while size < BLOCK
            && let Some(piece) = reader.next_piece()?
        {
            size += match &piece.content {
                Content::Text(text) => text.len(),
                Content::Ids(ids) => ids.len() * 4,
                Content::Messages(messages) => messages.as_array().map_or(0, Vec::len) * 256,
                Content::Completion { prompt, completion } => prompt.len() + completion.len(),
            } + 64;
            block.push(piece);
        }
        Ok(block)
    }

    /// The ids of all pieces, in order; `None` for one that is left out.
    fn encode(&self, block: &[Piece]) -> Result<Vec<Option<Encoded>>> {
        let results: Vec<Mutex<Option<Result<Option<Encoded>>>>> = block.iter().map(|_| Mutex::new(None)).collect();
        parallel_for(block.len(), |index| {
            let result = self.encode_piece(&block[index]);
            if let Ok(mut place) = results[index].lock() {
                *place = Some(result);
            }
        });
        results.into_iter().map(|place| place.into_inner().ok().flatten().unwrap_or(Ok(None))).collect()
    }

    fn encode_piece(&self, piece: &Piece) -> Result<Option<Encoded>> {
        let extent = &self.extents[piece.at.extent];
        let refused = |error: Error| match self.options.on_bad {
            OnBad::Refuse => Err(error),
            OnBad::Skip => Ok(None),
        };
        let encode = |text: &str| self.tokenizer.encode_with(text, &EncodeOptions::default());
        match &piece.content {
            Content::Text(text) => match encode(text) {
                Ok(ids) => Ok(Some((ids, None, text.len() as u64))),
                Err(source) => refused(tokenizer_error(&extent.path, piece.at.offset, source)),
            },
            Content::Ids(ids) => {
                let bytes = ids.iter().filter_map(|&id| self.tokenizer.token_bytes(id)).map(<[u8]>::len).sum::<usize>();
                Ok(Some((ids.clone(), None, bytes as u64)))
            }
            // Apart, as whoever asks the model later has the prompt alone.
            Content::Completion { prompt, completion } => {
                match encode(prompt).and_then(|a| Ok((a, encode(completion)?))) {
                    Ok((mut ids, own)) => {
                        let mut learn = vec![false; ids.len()];
                        learn.resize(ids.len() + own.len(), true);
                        ids.extend(own);
                        Ok(Some((ids, Some(learn), completion.len() as u64)))
                    }
                    Err(source) => refused(tokenizer_error(&extent.path, piece.at.offset, source)),
                }
            }
            Content::Messages(messages) => match chat::conversation(self.tokenizer, messages) {
                Ok(conversation) => {
                    // Losses are of the answers alone, and so are the bytes that they are divided by.
                    Ok(Some((conversation.ids, Some(conversation.learn), conversation.answer_bytes)))
                }
                Err(reason) => {
                    let expected = "messages that the tokenizer's chat template takes";
                    refused(Error::content(&extent.path, "byte", piece.at.offset, reason, expected))
                }
            },
        }
    }

    /// An error of the shard's writer, at the place in the file that was read.
    fn located(&self, error: Error, piece: &Piece) -> Error {
        match error {
            Error::Content { found, expected, .. } => Error::Content {
                path: self.extents[piece.at.extent].path.clone(),
                unit: "byte",
                at: piece.at.offset,
                found,
                expected,
            },
            other => other,
        }
    }
}
