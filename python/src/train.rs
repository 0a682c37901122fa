//! Training from any iterable of strings.

use crate::convert::{TokenizerError, error, text};
use cupola_tokenizer::Tokenizer;
use cupola_tokenizer::model::bpe::Alphabet;
use cupola_tokenizer::split::{PreTokenizer, Step};
use cupola_tokenizer::train::{BpeTrainer, TieBreak, UnigramTrainer, WordPieceTrainer};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// Keyword arguments, taken one by one; what is left over is refused.
struct Settings<'py>(Option<Bound<'py, PyDict>>);

impl<'py> Settings<'py> {
    fn new(settings: Option<&Bound<'py, PyDict>>) -> PyResult<Self> {
        Ok(Self(settings.map(|settings| settings.copy()).transpose()?))
    }

    /// Puts the argument `name` into `place`, if it was given.
    fn take<T>(&self, name: &str, place: &mut T) -> PyResult<()>
    where
        T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
    {
        if let Some(settings) = &self.0
            && let Some(value) = settings.get_item(name)?
        {
            settings.del_item(name)?;
            *place = value.extract().map_err(Into::into)?;
        }
        Ok(())
    }

    fn alphabet(&self, place: &mut Vec<char>) -> PyResult<()> {
        let mut alphabet = String::new();
        self.take("initial_alphabet", &mut alphabet)?;
        place.extend(alphabet.chars());
        Ok(())
    }

    fn pre_tokenizer(&self, place: &mut PreTokenizer) -> PyResult<()> {
        let (mut pattern, mut syllables) = (None::<String>, false);
        self.take("pattern", &mut pattern)?;
        self.take("syllables", &mut syllables)?;
        if let Some(pattern) = pattern {
            *place = PreTokenizer::named(&pattern).map_err(error)?;
        }
        if syllables {
            *place = PreTokenizer::new(place.steps().iter().cloned().chain([Step::Syllables]));
        }
        Ok(())
    }

    fn end(self) -> PyResult<()> {
        let left = self.0.filter(|settings| !settings.is_empty());
        match left {
            None => Ok(()),
            Some(left) => Err(PyTypeError::new_err(format!("unexpected keyword arguments {}", left.keys()))),
        }
    }
}

/// All strings of an iterable. They are kept, so that threads can count without asking Python.
fn collect(iterable: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if iterable.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("texts is one string; an iterable of strings is expected"));
    }
    iterable.try_iter()?.map(|item| Ok(text(item?.cast::<PyString>()?)?.into_owned())).collect()
}

pub fn bpe(texts: &Bound<'_, PyAny>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Tokenizer> {
    let settings = Settings::new(settings)?;
    let mut trainer = BpeTrainer::byte_level(4096).map_err(error)?;
    settings.take("vocab_size", &mut trainer.vocab_size)?;
    settings.take("min_frequency", &mut trainer.min_frequency)?;
    settings.take("special_tokens", &mut trainer.special_tokens)?;
    settings.take("limit_alphabet", &mut trainer.limit_alphabet)?;
    settings.take("unknown_token", &mut trainer.unknown_token)?;
    settings.take("max_token_length", &mut trainer.max_token_length)?;
    settings.alphabet(&mut trainer.initial_alphabet)?;
    settings.pre_tokenizer(&mut trainer.pre_tokenizer)?;
    let (mut characters, mut tie_break) = (false, "hugging_face".to_owned());
    settings.take("characters", &mut characters)?;
    settings.take("tie_break", &mut tie_break)?;
    if characters {
        trainer.alphabet = Alphabet::Chars;
    }
    trainer.tie_break = match &tie_break[..] {
        "hugging_face" => TieBreak::HuggingFace,
        "byte_value" => TieBreak::ByteValue,
        other => return Err(TokenizerError::new_err(format!("tie_break = {other:?} is not known"))),
    };
    settings.end()?;
    let all = collect(texts)?;
    texts.py().detach(|| trainer.train(all)).map_err(error)
}

pub fn unigram(texts: &Bound<'_, PyAny>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Tokenizer> {
    let settings = Settings::new(settings)?;
    let mut trainer = UnigramTrainer::new(4096);
    settings.take("vocab_size", &mut trainer.vocab_size)?;
    settings.take("min_frequency", &mut trainer.min_frequency)?;
    settings.take("special_tokens", &mut trainer.special_tokens)?;
    settings.take("unknown_token", &mut trainer.unknown_token)?;
    settings.take("max_piece_length", &mut trainer.max_piece_length)?;
    settings.take("split_by_script", &mut trainer.split_by_script)?;
    settings.alphabet(&mut trainer.initial_alphabet)?;
    settings.pre_tokenizer(&mut trainer.pre_tokenizer)?;
    settings.end()?;
    let all = collect(texts)?;
    texts.py().detach(|| trainer.train(all)).map_err(error)
}

pub fn wordpiece(texts: &Bound<'_, PyAny>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Tokenizer> {
    let settings = Settings::new(settings)?;
    let mut trainer = WordPieceTrainer::bert(4096);
    settings.take("vocab_size", &mut trainer.vocab_size)?;
    settings.take("min_frequency", &mut trainer.min_frequency)?;
    settings.take("special_tokens", &mut trainer.special_tokens)?;
    settings.take("limit_alphabet", &mut trainer.limit_alphabet)?;
    settings.alphabet(&mut trainer.initial_alphabet)?;
    settings.pre_tokenizer(&mut trainer.pre_tokenizer)?;
    settings.end()?;
    let all = collect(texts)?;
    texts.py().detach(|| trainer.train(all)).map_err(error)
}
