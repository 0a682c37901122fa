//! A model spread over several files.
//!
//! `model.safetensors.index.json` maps every tensor's name to the file it is in:
//! `{"metadata": {"total_size": 123}, "weight_map": {"wte.weight": "model-00001-of-00002.safetensors", ...}}`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{MAX_HEADER, Metadata, SafeTensors, TensorBytes, TensorView, nearest, save};
use crate::atomic;
use crate::error::{Error, Result, shortened};
use crate::source::Source;

/// The name of a model that is one file.
pub const SINGLE_NAME: &str = "model.safetensors";
/// The name of the index of a model that is several.
pub const INDEX_NAME: &str = "model.safetensors.index.json";

/// The index as it is read. Its metadata are free; nothing here depends on them.
#[derive(Deserialize)]
struct Index {
    #[serde(deserialize_with = "unique")]
    weight_map: BTreeMap<String, String>,
}

/// The index as it is written.
#[derive(Serialize)]
struct NewIndex {
    metadata: TotalSize,
    weight_map: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct TotalSize {
    total_size: usize,
}

/// Reads a map and refuses a key that occurs twice, of which serde's own would keep the last.
fn unique<'de, D: Deserializer<'de>>(json: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Unique;
    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of file names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut unique = BTreeMap::new();
            while let Some((name, file)) = map.next_entry::<String, String>()? {
                match unique.entry(name) {
                    Entry::Occupied(known) => {
                        let name = shortened(known.key());
                        return Err(A::Error::custom(format!("tensor `{name}` occurs twice")));
                    }
                    Entry::Vacant(new) => new.insert(file),
                };
            }
            Ok(unique)
        }
    }
    json.deserialize_map(Unique)
}

/// The tensors of a model, in one file or in several with an index.
///
/// Index and files must agree: every tensor of the index is in the file that it names, and the files have no others.
#[derive(Clone, Debug)]
pub struct Shards {
    path: PathBuf,
    files: Vec<SafeTensors>,
    /// Which file each tensor is in.
    homes: BTreeMap<String, usize>,
}

impl Shards {
    /// Opens the model in the folder at `path`, or the single file or index at `path`. In a folder `model.safetensors` goes
    /// before an index.
    ///
    /// # Errors
    /// When a file cannot be mapped or breaks the format, or index and files disagree.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            let single = path.join(SINGLE_NAME);
            return if single.exists() { Self::single(&single) } else { Self::indexed(&path.join(INDEX_NAME)) };
        }
        if path.extension().is_some_and(|extension| extension == "json") {
            Self::indexed(path)
        } else {
            Self::single(path)
        }
    }

    fn single(path: &Path) -> Result<Self> {
        let file = SafeTensors::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            homes: file.names().map(|name| (name.to_owned(), 0)).collect(),
            files: vec![file],
        })
    }

    fn indexed(path: &Path) -> Result<Self> {
        let weight_map = read_index(path, Source::open(path)?.bytes())?;
        let mut numbers = BTreeMap::new();
        let mut files: Vec<SafeTensors> = Vec::new();
        let mut homes = BTreeMap::new();
        for (name, file) in weight_map {
            let number = match numbers.entry(file) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    files.push(SafeTensors::open(path.with_file_name(new.key()))?);
                    *new.insert(files.len() - 1)
                }
            };
            files[number].tensor(&name)?;
            homes.insert(name, number);
        }
        for (number, file) in files.iter().enumerate() {
            if let Some(name) = file.names().find(|&name| homes.get(name) != Some(&number)) {
                let found = if homes.contains_key(name) { "for another file" } else { "missing" };
                let expected = format!("for this file, in {}", path.display());
                return Err(Error::tensor(file.path(), name, "its entry in the index", found, expected));
            }
        }
        Ok(Self { path: path.to_owned(), files, homes })
    }

    /// The single file's path, or the index's.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files, each once.
    pub fn files(&self) -> &[SafeTensors] {
        &self.files
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.homes.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.homes.is_empty()
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.homes.iter().filter_map(|(name, &file)| self.files[file].get(name))
    }

    /// The tensor called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        self.files[*self.homes.get(name)?].get(name)
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// When there is none; the error suggests the most similar name.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        self.get(name).ok_or_else(|| Error::Missing {
            path: self.path.clone(),
            tensor: shortened(name),
            nearest: nearest(name, self.homes.keys().map(String::as_str)),
        })
    }
}

fn read_index(path: &Path, text: &[u8]) -> Result<BTreeMap<String, String>> {
    if text.len() as u64 > MAX_HEADER {
        let expected = format!("at most {MAX_HEADER}, the limit of a header");
        return Err(Error::damaged(path, "the index's length", text.len(), expected));
    }
    let index: Index = serde_json::from_slice(text).map_err(|error| {
        Error::damaged(path, "the index", shortened(&error.to_string()), "an object with `weight_map`")
    })?;
    for (name, file) in &index.weight_map {
        // A shard lies beside its index; anything else would let an index open files all over the machine.
        let mut parts = Path::new(file).components();
        let plain = matches!(parts.next(), Some(std::path::Component::Normal(_))) && parts.next().is_none();
        if !plain || file.contains(['/', '\\', ':', '\0']) {
            return Err(Error::tensor(path, name, "its file", format!("`{}`", shortened(file)), "a plain file name"));
        }
    }
    Ok(index.weight_map)
}

/// Writes a model into the folder `dir` as files of at most `max_bytes` of data each (a larger tensor gets a file of its own),
/// with an index when there are several. Tensors keep the order given. The index is written last, and each file whole or not
/// at all; a model that is replaced as a whole belongs into [`atomic::write_dir`].
///
/// # Errors
/// As [`save`].
pub fn save_shards(
    dir: impl AsRef<Path>,
    tensors: &[TensorBytes<'_>],
    metadata: &Metadata,
    max_bytes: usize,
) -> Result<()> {
    let dir = dir.as_ref();
    let mut groups: Vec<&[TensorBytes<'_>]> = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        if index > start && bytes + tensor.bytes.len() > max_bytes {
            groups.push(&tensors[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += tensor.bytes.len();
    }
    groups.push(&tensors[start..]);
    if let [all] = groups[..] {
        return save(dir.join(SINGLE_NAME), all, metadata);
    }
    let mut weight_map = BTreeMap::new();
    for (number, group) in groups.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", number + 1, groups.len());
        save(dir.join(&file), group, metadata)?;
        for tensor in *group {
            if weight_map.insert(tensor.name.to_owned(), file.clone()).is_some() {
                return Err(Error::Duplicate { path: dir.to_owned(), tensor: shortened(tensor.name) });
            }
        }
    }
    let total: usize = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    let index = NewIndex { metadata: TotalSize { total_size: total }, weight_map };
    let path = dir.join(INDEX_NAME);
    atomic::write_file(&path, |file| {
        serde_json::to_writer_pretty(file, &index).map_err(|error| Error::io(&path, "write")(error.into()))
    })
}

/// Drives the reader of an index over arbitrary bytes; for the tests with damaged files.
#[doc(hidden)]
pub fn fuzz_index(bytes: &[u8]) -> Result<usize> {
    let weight_map = read_index(Path::new("fuzz"), bytes)?;
    assert!(weight_map.values().all(|file| !file.contains('/') && file != ".."));
    Ok(weight_map.len())
}
