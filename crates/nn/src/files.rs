//! Modules in files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cupola_io::safetensors::{Metadata, SafeTensors, TensorBytes, save, save_shards};
use cupola_tensor::Tensor;

use crate::module::Module;
use crate::state_dict::{LoadError, StateDict};

/// Why a module could not be read from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read or breaks its format.
    #[error(transparent)]
    File(#[from] cupola_io::Error),
    /// The file's tensors are not the module's.
    #[error("{}: {error}", path.display())]
    Fit {
        /// The file.
        path: PathBuf,
        /// All that is wrong.
        #[source]
        error: LoadError,
    },
}

/// Saving to and loading from safetensors files, for every module.
pub trait Files: Module {
    /// Writes all parameters and buffers to a safetensors file, whole or not at all. Equal values give equal bytes.
    ///
    /// # Errors
    /// When the system refuses.
    ///
    /// # Panics
    /// When a parameter has no values yet.
    #[track_caller]
    fn save(&self, path: impl AsRef<Path>) -> Result<(), cupola_io::Error> {
        // The word by which PyTorch's tools know that tensors are row-major.
        let metadata = Metadata::from([("format".to_string(), "pt".to_string())]);
        save_tensors(path, &self.state_dict(), &metadata)
    }

    /// Gives every parameter and buffer the value that the file has under its name. Memory is shared with the mapped file as
    /// long as nothing is written.
    ///
    /// # Errors
    /// When the file breaks its format, or with all names that are missing, unexpected or unsuitable. The module is unchanged
    /// then.
    fn load(&mut self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let values = load_tensors(&path)?;
        self.load_state_dict(&values).map_err(|error| FileError::Fit { path: path.as_ref().to_owned(), error })
    }
}

impl<M: Module + ?Sized> Files for M {}

/// Writes tensors by name to a safetensors file, whole or not at all.
///
/// # Errors
/// When the system refuses.
pub fn save_tensors(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
) -> Result<(), cupola_io::Error> {
    let contiguous: Vec<(&str, Tensor)> =
        tensors.iter().map(|(name, x)| (name.as_str(), x.detach().contiguous())).collect();
    let entries: Vec<TensorBytes<'_>> = contiguous.iter().map(|(name, x)| entry(name, x)).collect();
    save(path, &entries, metadata)
}

/// Writes tensors by name into the folder `dir` as `model.safetensors`, or as several files of at most `max_bytes` each (a larger
/// tensor has a file of its own) with an index.
///
/// # Errors
/// When the system refuses.
pub fn save_tensors_in(
    dir: impl AsRef<Path>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
    max_bytes: usize,
) -> Result<(), cupola_io::Error> {
    let contiguous: Vec<(&str, Tensor)> =
        tensors.iter().map(|(name, x)| (name.as_str(), x.detach().contiguous())).collect();
    let entries: Vec<TensorBytes<'_>> = contiguous.iter().map(|(name, x)| entry(name, x)).collect();
    save_shards(dir, &entries, metadata, max_bytes)
}

/// All tensors of a safetensors file by name, sharing the memory of the mapped file.
///
/// # Errors
/// When the file cannot be read or breaks the format.
pub fn load_tensors(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>, cupola_io::Error> {
    let file = SafeTensors::open(path)?;
    let tensor = |view: cupola_io::safetensors::TensorView<'_>| {
        Ok((view.name().to_string(), Tensor::from_buffer(view.buffer()?, view.shape())))
    };
    file.iter().map(tensor).collect()
}

fn entry<'a>(name: &'a str, x: &'a Tensor) -> TensorBytes<'a> {
    let size = x.dtype().size();
    let start = x.layout().offset * size;
    let mut bytes = Cow::Borrowed(&x.buffer().bytes()[start..start + x.numel() * size]);
    if cfg!(target_endian = "big") {
        bytes.to_mut().chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    TensorBytes { name, dtype: x.dtype(), shape: *x.shape(), bytes }
}
