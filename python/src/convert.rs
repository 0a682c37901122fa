//! Between Python's values and ours.

use cupola_tokenizer::{AllowedSpecial, Error};
use pyo3::exceptions::{PyKeyError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyString};
use std::borrow::Cow;

pyo3::create_exception!(
    cupola,
    TokenizerError,
    PyValueError,
    "A file, a pattern, a setting or a text that cannot be followed."
);

/// The Python exception of an error: `OSError` for files, `KeyError` for ids that are not there, else `TokenizerError`.
pub fn error(error: Error) -> PyErr {
    match &error {
        Error::File { .. } => PyOSError::new_err(error.to_string()),
        Error::UnknownId { .. } => PyKeyError::new_err(error.to_string()),
        _ => TokenizerError::new_err(error.to_string()),
    }
}

/// The text of a Python string. A lone surrogate, which Python's strings may hold and UTF-8 may not, becomes U+FFFD.
pub fn text<'a>(string: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, str>> {
    if let Ok(text) = string.to_str() {
        return Ok(Cow::Borrowed(text));
    }
    let pairs = string.call_method1("encode", ("utf-16", "surrogatepass"))?;
    let whole: String = pairs.call_method1("decode", ("utf-16", "replace"))?.extract()?;
    Ok(Cow::Owned(whole))
}

/// The texts of a list of strings, owned so that threads can read them while Python runs on.
pub fn texts(strings: &[Bound<'_, PyString>]) -> PyResult<Vec<String>> {
    strings.iter().map(|string| Ok(text(string)?.into_owned())).collect()
}

/// `None`, `"all"` or a collection of tokens.
pub fn allowed(value: Option<&Bound<'_, PyAny>>) -> PyResult<AllowedSpecial> {
    let Some(value) = value else {
        return Ok(AllowedSpecial::None);
    };
    if let Ok(word) = value.cast::<PyString>() {
        return match word.to_str()? {
            "all" => Ok(AllowedSpecial::All),
            other => {
                Err(PyValueError::new_err(format!("allowed_special is {other:?}; \"all\" or a collection is expected")))
            }
        };
    }
    let list: Vec<String> = value.try_iter()?.map(|item| item?.extract()).collect::<PyResult<_>>()?;
    Ok(if list.is_empty() { AllowedSpecial::None } else { AllowedSpecial::Only(list) })
}

/// Numbers as a writable NumPy array of `dtype`.
fn array<'py>(py: Python<'py>, bytes: &Bound<'py, PyByteArray>, dtype: &str) -> PyResult<Bound<'py, PyAny>> {
    let numpy = py.import("numpy")?;
    numpy.call_method1("frombuffer", (bytes, numpy.getattr(dtype)?))
}

/// Ids as a NumPy array of `uint32`.
pub fn ids_array<'py>(py: Python<'py>, ids: &[u32]) -> PyResult<Bound<'py, PyAny>> {
    let bytes = PyByteArray::new(py, bytemuck::cast_slice(ids));
    array(py, &bytes, "uint32")
}

/// All ids after one another, and where each sequence begins and the last one ends, as `uint32` and `int64`.
pub fn flat_arrays<'py>(py: Python<'py>, all: &[Vec<u32>]) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let ids = ids_array(py, &all.concat())?;
    let bytes = PyByteArray::new_with(py, (all.len() + 1) * 8, |bytes| {
        let mut end = 0i64;
        let (first, rest) = bytes.split_at_mut(8);
        first.copy_from_slice(&end.to_ne_bytes());
        for (chunk, ids) in rest.chunks_exact_mut(8).zip(all) {
            end += ids.len() as i64;
            chunk.copy_from_slice(&end.to_ne_bytes());
        }
        Ok(())
    })?;
    Ok((ids, array(py, &bytes, "int64")?))
}

/// Any value that `json.dumps` accepts.
pub fn json(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<serde_json::Value> {
    let text: String = py.import("json")?.call_method1("dumps", (value,))?.extract()?;
    serde_json::from_str(&text).map_err(|e| PyValueError::new_err(e.to_string()))
}
