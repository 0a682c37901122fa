//! The native half of the Python package `cupola`.
//!
//! - `encoding`: what `cupola.Encoding` stands on
//! - `tokenizer`: `cupola.Tokenizer`, `Tokens` and `StreamDecoder`
//! - `train`: training
//! - `convert`: between Python's values and ours, and errors

mod convert;
mod encoding;
mod tokenizer;
mod train;

use pyo3::prelude::*;

#[pymodule]
fn _cupola(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("TokenizerError", module.py().get_type::<convert::TokenizerError>())?;
    module.add_class::<encoding::CoreEncoding>()?;
    module.add_class::<tokenizer::Tokenizer>()?;
    module.add_class::<tokenizer::Tokens>()?;
    module.add_class::<tokenizer::StreamDecoder>()?;
    module.add_function(wrap_pyfunction!(encoding::names, module)?)?;
    Ok(())
}
