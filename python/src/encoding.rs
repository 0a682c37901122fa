//! What `cupola.Encoding` stands on.

use crate::convert::{allowed, error, flat_arrays, ids_array, text, texts};
use cupola_tokenizer::split::PreTokenizer;
use cupola_tokenizer::{DecodeOptions, EncodeOptions, Tokenizer, vocabularies};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::collections::HashMap;

/// Texts below this length are encoded without letting go of the interpreter's lock, which costs as much.
const SHORT: usize = 2048;

/// The names of the vocabularies of this build.
#[pyfunction]
pub fn names() -> Vec<&'static str> {
    let there = |name: &&str| vocabularies::feature(name).is_some_and(|(_, there)| there);
    vocabularies::NAMES.into_iter().filter(there).collect()
}

/// A byte-level encoding with tiktoken's view of it.
#[pyclass(frozen, module = "cupola._cupola")]
pub struct CoreEncoding {
    tokenizer: Tokenizer,
}

impl CoreEncoding {
    fn run(&self, py: Python<'_>, string: &Bound<'_, PyString>, options: &EncodeOptions) -> PyResult<Vec<u32>> {
        let text = text(string)?;
        let encode = || self.tokenizer.encode_with(&text, options);
        if text.len() < SHORT { encode() } else { py.detach(encode) }.map_err(error)
    }

    fn known(&self, id: u32) -> PyResult<&[u8]> {
        self.tokenizer.token_bytes(id).ok_or_else(|| PyKeyError::new_err(id))
    }
}

fn options(special: Option<&Bound<'_, PyAny>>, threads: Option<usize>) -> PyResult<EncodeOptions> {
    Ok(EncodeOptions { allowed_special: allowed(special)?, threads, ..EncodeOptions::default() })
}

#[pymethods]
impl CoreEncoding {
    #[new]
    fn new(
        py: Python<'_>,
        pattern: &str,
        ranks: HashMap<Vec<u8>, u32>,
        special: HashMap<String, u32>,
    ) -> PyResult<Self> {
        py.detach(|| {
            let special = special.iter().map(|(text, id)| (&text[..], *id));
            let tokenizer = Tokenizer::from_ranks(ranks, PreTokenizer::pattern(pattern)?, special)?;
            Ok(Self { tokenizer })
        })
        .map_err(error)
    }

    #[staticmethod]
    fn named(py: Python<'_>, name: &str) -> PyResult<Self> {
        py.detach(|| Tokenizer::named(name)).map(|tokenizer| Self { tokenizer }).map_err(error)
    }

    fn encode_ordinary(&self, py: Python<'_>, string: &Bound<'_, PyString>) -> PyResult<Vec<u32>> {
        let text = text(string)?;
        let encode = || self.tokenizer.encode(&text);
        if text.len() < SHORT { encode() } else { py.detach(encode) }.map_err(error)
    }

    fn encode(&self, py: Python<'_>, string: &Bound<'_, PyString>, special: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        self.run(py, string, &options(Some(special), None)?)
    }

    fn encode_to_numpy<'py>(
        &self,
        py: Python<'py>,
        string: &Bound<'py, PyString>,
        special: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ids_array(py, &self.run(py, string, &options(Some(special), None)?)?)
    }

    fn encode_batch(
        &self,
        py: Python<'_>,
        strings: Vec<Bound<'_, PyString>>,
        special: &Bound<'_, PyAny>,
        threads: usize,
    ) -> PyResult<Vec<Vec<u32>>> {
        let (texts, options) = (texts(&strings)?, options(Some(special), Some(threads))?);
        py.detach(|| self.tokenizer.encode_batch(&texts, &options)).map_err(error)
    }

    fn encode_batch_to_numpy<'py>(
        &self,
        py: Python<'py>,
        strings: Vec<Bound<'py, PyString>>,
        special: &Bound<'py, PyAny>,
        threads: usize,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (texts, options) = (texts(&strings)?, options(Some(special), Some(threads))?);
        flat_arrays(py, &py.detach(|| self.tokenizer.encode_batch(&texts, &options)).map_err(error)?)
    }

    fn encode_bytes(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Vec<u32>> {
        py.detach(|| self.tokenizer.encode_bytes(bytes)).map_err(error)
    }

    fn encode_single_piece(&self, bytes: &[u8]) -> PyResult<Vec<u32>> {
        self.tokenizer.encode_single_piece(bytes).map_err(error)
    }

    fn encode_single_token(&self, token: &[u8]) -> PyResult<u32> {
        let special = || std::str::from_utf8(token).ok().and_then(|text| self.tokenizer.token_to_id(text));
        let id = self.tokenizer.model().vocab().id(token).or_else(special);
        id.ok_or_else(|| PyKeyError::new_err(token.to_vec()))
    }

    /// The pieces that tokens do not cross.
    fn pieces(&self, string: &Bound<'_, PyString>) -> PyResult<Vec<String>> {
        self.tokenizer.pieces(&text(string)?).map_err(error)
    }

    fn decode_bytes<'py>(&self, py: Python<'py>, ids: Vec<u32>) -> PyResult<Bound<'py, PyBytes>> {
        let decode = || self.tokenizer.decode_bytes(&ids);
        let bytes = if ids.len() < SHORT { decode() } else { py.detach(decode) }.map_err(error)?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn decode_bytes_batch<'py>(
        &self,
        py: Python<'py>,
        batch: Vec<Vec<u32>>,
        threads: usize,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let decode = || self.tokenizer.decode_bytes_batch(&batch, DecodeOptions::default(), Some(threads));
        Ok(py.detach(decode).map_err(error)?.iter().map(|bytes| PyBytes::new(py, bytes)).collect())
    }

    fn token_bytes<'py>(&self, py: Python<'py>, id: u32) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.known(id)?))
    }

    /// All tokens of the model and their ids.
    fn ranks<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, u32)> {
        self.tokenizer.model().vocab().iter().map(|(id, bytes)| (PyBytes::new(py, bytes), id)).collect()
    }

    fn special_tokens(&self) -> HashMap<String, u32> {
        self.tokenizer.added_tokens().filter(|t| t.special).map(|t| (t.content.clone(), t.id)).collect()
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }
}
