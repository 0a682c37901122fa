//! `cupola.Tokenizer`: every kind of tokenizer.

use crate::convert::{allowed, error, flat_arrays, json, text, texts};
use crate::train;
use cupola_tokenizer::chat::ChatOptions;
use cupola_tokenizer::{
    DecodeOptions, EncodeOptions, Encoding, Input, Padding, PaddingLength, Side, Truncation, TruncationStrategy, agent,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

/// A tokenizer of any kind: it never changes, and may be used from many threads at once.
#[pyclass(frozen, module = "cupola")]
pub struct Tokenizer {
    pub inner: cupola_tokenizer::Tokenizer,
}

/// Ids with everything that is known about them.
#[pyclass(frozen, get_all, module = "cupola")]
pub struct Tokens {
    ids: Vec<u32>,
    tokens: Vec<String>,
    offsets: Vec<(usize, usize)>,
    type_ids: Vec<u32>,
    sequence_ids: Vec<Option<u8>>,
    special_tokens_mask: Vec<u32>,
    attention_mask: Vec<u32>,
    overflow: Vec<Py<Tokens>>,
}

#[pymethods]
impl Tokens {
    fn __len__(&self) -> usize {
        self.ids.len()
    }

    fn __repr__(&self) -> String {
        format!("Tokens({} ids)", self.ids.len())
    }
}

fn side(name: &str) -> PyResult<Side> {
    match name {
        "left" => Ok(Side::Left),
        "right" => Ok(Side::Right),
        _ => Err(PyValueError::new_err(format!("the side is {name:?}; \"left\" or \"right\" is expected"))),
    }
}

impl Tokenizer {
    fn tokens(&self, py: Python<'_>, encoding: Encoding) -> PyResult<Tokens> {
        let name = |&id: &u32| self.inner.id_to_token(id).unwrap_or_default().into_owned();
        let overflow = encoding.overflow.into_iter().map(|part| Py::new(py, self.tokens(py, part)?));
        Ok(Tokens {
            tokens: encoding.ids.iter().map(name).collect(),
            overflow: overflow.collect::<PyResult<_>>()?,
            ids: encoding.ids,
            offsets: encoding.offsets,
            type_ids: encoding.type_ids,
            sequence_ids: encoding.sequence_ids,
            // Bytes would become `bytes` in Python.
            special_tokens_mask: encoding.special_tokens_mask.into_iter().map(u32::from).collect(),
            attention_mask: encoding.attention_mask.into_iter().map(u32::from).collect(),
        })
    }
}

#[pymethods]
impl Tokenizer {
    /// A named vocabulary.
    #[staticmethod]
    fn named(py: Python<'_>, name: &str) -> PyResult<Self> {
        py.detach(|| cupola_tokenizer::Tokenizer::named(name)).map(|inner| Self { inner }).map_err(error)
    }

    /// A file of any format that tells itself, or a model directory.
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| cupola_tokenizer::Tokenizer::from_path(path)).map(|inner| Self { inner }).map_err(error)
    }

    /// The same from memory.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        py.detach(|| cupola_tokenizer::Tokenizer::from_bytes(data)).map(|inner| Self { inner }).map_err(error)
    }

    /// A `.tiktoken` file with the pattern (or the name of the vocabulary whose pattern it is) that belongs to it.
    #[staticmethod]
    #[pyo3(signature = (path, pattern, special_tokens = HashMap::new()))]
    fn from_tiktoken(
        py: Python<'_>,
        path: PathBuf,
        pattern: &str,
        special_tokens: HashMap<String, u32>,
    ) -> PyResult<Self> {
        py.detach(|| {
            let special = special_tokens.iter().map(|(text, id)| (&text[..], *id));
            cupola_tokenizer::Tokenizer::from_tiktoken_file(path, pattern, special)
        })
        .map(|inner| Self { inner })
        .map_err(error)
    }

    #[staticmethod]
    #[pyo3(signature = (texts, **settings))]
    fn train_bpe(texts: &Bound<'_, PyAny>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        train::bpe(texts, settings).map(|inner| Self { inner })
    }

    #[staticmethod]
    #[pyo3(signature = (texts, **settings))]
    fn train_unigram(texts: &Bound<'_, PyAny>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        train::unigram(texts, settings).map(|inner| Self { inner })
    }

    #[staticmethod]
    #[pyo3(signature = (texts, **settings))]
    fn train_wordpiece(texts: &Bound<'_, PyAny>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        train::wordpiece(texts, settings).map(|inner| Self { inner })
    }

    #[pyo3(signature = (text, *, allowed_special = None, template = false))]
    fn encode(
        &self,
        py: Python<'_>,
        text: &Bound<'_, PyString>,
        allowed_special: Option<&Bound<'_, PyAny>>,
        template: bool,
    ) -> PyResult<Vec<u32>> {
        let text = crate::convert::text(text)?;
        let options =
            EncodeOptions { allowed_special: allowed(allowed_special)?, template, ..EncodeOptions::default() };
        py.detach(|| self.inner.encode_with(&text, &options)).map_err(error)
    }

    #[allow(clippy::too_many_arguments, reason = "each is a keyword argument in Python")]
    #[pyo3(signature = (text, pair = None, *, allowed_special = None, template = false, max_length = None, stride = 0,
        truncation = "longest_first", truncation_side = "right", pad_to = None, pad_id = 0, pad_side = "right",
        dropout = 0.0, sample_alpha = None, seed = 0))]
    fn tokenize(
        &self,
        py: Python<'_>,
        text: &Bound<'_, PyString>,
        pair: Option<&Bound<'_, PyString>>,
        allowed_special: Option<&Bound<'_, PyAny>>,
        template: bool,
        max_length: Option<usize>,
        stride: usize,
        truncation: &str,
        truncation_side: &str,
        pad_to: Option<usize>,
        pad_id: u32,
        pad_side: &str,
        dropout: f32,
        sample_alpha: Option<f32>,
        seed: u64,
    ) -> PyResult<Tokens> {
        let strategy = match truncation {
            "longest_first" => TruncationStrategy::LongestFirst,
            "only_first" => TruncationStrategy::OnlyFirst,
            "only_second" => TruncationStrategy::OnlySecond,
            other => return Err(PyValueError::new_err(format!("truncation = {other:?} is not known"))),
        };
        let cut_side = side(truncation_side)?;
        let fill_side = side(pad_side)?;
        let token = || self.inner.id_to_token(pad_id).unwrap_or_default().into_owned();
        let options = EncodeOptions {
            allowed_special: allowed(allowed_special)?,
            template,
            truncation: max_length.map(|max_length| Truncation { max_length, stride, strategy, side: cut_side }),
            padding: pad_to.map(|length| Padding {
                length: PaddingLength::Fixed(length),
                side: fill_side,
                ..Padding::longest(pad_id, token())
            }),
            dropout,
            sample_alpha,
            seed,
            threads: None,
        };
        let first = crate::convert::text(text)?;
        let second = pair.map(crate::convert::text).transpose()?;
        let input = match &second {
            None => Input::Single(&first),
            Some(second) => Input::Pair(&first, second),
        };
        let encoding = py.detach(|| self.inner.encoding(input, &options)).map_err(error)?;
        self.tokens(py, encoding)
    }

    #[pyo3(signature = (texts, *, allowed_special = None, template = false, threads = None))]
    fn encode_batch(
        &self,
        py: Python<'_>,
        texts: Vec<Bound<'_, PyString>>,
        allowed_special: Option<&Bound<'_, PyAny>>,
        template: bool,
        threads: Option<usize>,
    ) -> PyResult<Vec<Vec<u32>>> {
        let texts = crate::convert::texts(&texts)?;
        let options =
            EncodeOptions { allowed_special: allowed(allowed_special)?, template, threads, ..EncodeOptions::default() };
        py.detach(|| self.inner.encode_batch(&texts, &options)).map_err(error)
    }

    #[pyo3(signature = (strings, *, allowed_special = None, template = false, threads = None))]
    fn encode_batch_to_numpy<'py>(
        &self,
        py: Python<'py>,
        strings: Vec<Bound<'py, PyString>>,
        allowed_special: Option<&Bound<'py, PyAny>>,
        template: bool,
        threads: Option<usize>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        flat_arrays(py, &self.encode_batch(py, strings, allowed_special, template, threads)?)
    }

    fn count(&self, py: Python<'_>, string: &Bound<'_, PyString>) -> PyResult<usize> {
        let text = text(string)?;
        py.detach(|| self.inner.count(&text)).map_err(error)
    }

    #[pyo3(signature = (strings, *, threads = None))]
    fn count_batch(
        &self,
        py: Python<'_>,
        strings: Vec<Bound<'_, PyString>>,
        threads: Option<usize>,
    ) -> PyResult<Vec<usize>> {
        let texts = texts(&strings)?;
        let options = EncodeOptions { threads, ..EncodeOptions::default() };
        py.detach(|| self.inner.count_batch(&texts, &options)).map_err(error)
    }

    /// The ids that fit, the part of the text that they stand for, and whether that is all of it.
    fn cut(&self, string: &Bound<'_, PyString>, limit: usize) -> PyResult<(Vec<u32>, String, bool)> {
        let text = text(string)?;
        let cut = self.inner.cut(&text, limit).map_err(error)?;
        Ok((cut.ids, text[..cut.bytes].to_owned(), cut.complete))
    }

    fn pieces(&self, string: &Bound<'_, PyString>) -> PyResult<Vec<String>> {
        self.inner.pieces(&text(string)?).map_err(error)
    }

    #[pyo3(signature = (ids, *, skip_special = false, errors = "replace"))]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        ids: Vec<u32>,
        skip_special: bool,
        errors: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.decode_bytes(py, ids, skip_special)?.call_method1("decode", ("utf-8", errors))
    }

    #[pyo3(signature = (ids, *, skip_special = false))]
    fn decode_bytes<'py>(&self, py: Python<'py>, ids: Vec<u32>, skip_special: bool) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.inner.decode_bytes_with(&ids, DecodeOptions { skip_special })).map_err(error)?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[pyo3(signature = (batch, *, skip_special = false, threads = None))]
    fn decode_batch(
        &self,
        py: Python<'_>,
        batch: Vec<Vec<u32>>,
        skip_special: bool,
        threads: Option<usize>,
    ) -> PyResult<Vec<String>> {
        let decode = || self.inner.decode_bytes_batch(&batch, DecodeOptions { skip_special }, threads);
        let all = py.detach(decode).map_err(error)?;
        Ok(all.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect())
    }

    #[pyo3(signature = (*, skip_special = false))]
    fn stream_decoder(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder(Mutex::new(self.inner.stream_decoder_with(DecodeOptions { skip_special })))
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id).map(|token| token.into_owned())
    }

    fn token_bytes<'py>(&self, py: Python<'py>, id: u32) -> Option<Bound<'py, PyBytes>> {
        self.inner.token_bytes(id).map(|bytes| PyBytes::new(py, bytes))
    }

    fn is_special(&self, id: u32) -> bool {
        self.inner.is_special(id)
    }

    fn special_tokens(&self) -> HashMap<String, u32> {
        self.inner.added_tokens().filter(|t| t.special).map(|t| (t.content.clone(), t.id)).collect()
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    #[getter]
    fn bos(&self) -> Option<u32> {
        self.inner.bos()
    }

    #[getter]
    fn eos(&self) -> Option<u32> {
        self.inner.eos()
    }

    /// A copy with the 54 agent tokens, from `base` on or above all ids.
    #[pyo3(signature = (base = None))]
    fn with_agent_tokens(&self, base: Option<u32>) -> PyResult<Self> {
        let base = base.unwrap_or(self.inner.vocab_size() as u32);
        self.inner.with_agent_tokens(base).map(|inner| Self { inner }).map_err(error)
    }

    /// The names of the agent tokens in order of their offsets.
    #[staticmethod]
    fn agent_token_names() -> Vec<String> {
        agent::tokens(0).map(|token| token.content).collect()
    }

    fn with_chat_template(&self, template: String) -> Self {
        Self { inner: self.inner.with_chat_template(template) }
    }

    #[pyo3(signature = (messages, *, tools = None, add_generation_prompt = true, **extra))]
    fn chat_text(
        &self,
        py: Python<'_>,
        messages: &Bound<'_, PyAny>,
        tools: Option<&Bound<'_, PyAny>>,
        add_generation_prompt: bool,
        extra: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<String> {
        let (messages, options) = chat(py, messages, tools, add_generation_prompt, extra)?;
        self.inner.chat_template().and_then(|template| template.render(&messages, &options)).map_err(error)
    }

    #[pyo3(signature = (messages, *, tools = None, add_generation_prompt = true, **extra))]
    fn encode_chat(
        &self,
        py: Python<'_>,
        messages: &Bound<'_, PyAny>,
        tools: Option<&Bound<'_, PyAny>>,
        add_generation_prompt: bool,
        extra: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<u32>> {
        let (messages, options) = chat(py, messages, tools, add_generation_prompt, extra)?;
        self.inner.encode_chat(&messages, &options).map_err(error)
    }

    fn to_json(&self) -> PyResult<String> {
        self.inner.to_json().map_err(error)
    }

    /// A path that ends in `.json` becomes a file, any other a model directory.
    fn save(&self, path: PathBuf) -> PyResult<()> {
        let is_file = path.extension().is_some_and(|extension| extension == "json");
        if is_file { self.inner.save_json(path) } else { self.inner.save_dir(path) }.map_err(error)
    }

    fn __repr__(&self) -> String {
        format!("<Tokenizer of {} ids>", self.inner.vocab_size())
    }
}

fn chat(
    py: Python<'_>,
    messages: &Bound<'_, PyAny>,
    tools: Option<&Bound<'_, PyAny>>,
    add_generation_prompt: bool,
    extra: Option<&Bound<'_, PyDict>>,
) -> PyResult<(Vec<serde_json::Value>, ChatOptions)> {
    let serde_json::Value::Array(messages) = json(py, messages)? else {
        return Err(PyValueError::new_err("messages is not a list"));
    };
    let extra = match extra.map(|extra| json(py, extra)).transpose()? {
        Some(serde_json::Value::Object(extra)) => extra,
        _ => serde_json::Map::new(),
    };
    let tools = tools.map(|tools| json(py, tools)).transpose()?;
    Ok((messages, ChatOptions { add_generation_prompt, tools, extra, now: None }))
}

/// Takes ids one by one and gives out whole characters.
#[pyclass(frozen, module = "cupola")]
pub struct StreamDecoder(Mutex<cupola_tokenizer::StreamDecoder>);

impl StreamDecoder {
    fn with<T>(&self, work: impl FnOnce(&mut cupola_tokenizer::StreamDecoder) -> T) -> T {
        // A panic cannot leave a half-written state: every call replaces what it changes at its end.
        work(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[pymethods]
impl StreamDecoder {
    /// The text that is complete with this id.
    fn push(&self, id: u32) -> PyResult<String> {
        self.with(|decoder| decoder.push(id)).map_err(error)
    }

    /// The text that is complete with these ids.
    fn push_all(&self, ids: Vec<u32>) -> PyResult<String> {
        self.with(|decoder| decoder.push_all(&ids)).map_err(error)
    }

    /// What is left at the end.
    fn finish(&self) -> String {
        self.with(cupola_tokenizer::StreamDecoder::finish)
    }
}
