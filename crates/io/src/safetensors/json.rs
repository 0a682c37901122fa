//! The header's JSON, read by visitors that know what is being read and keep nothing but the result.
//!
//! The header is parsed twice: the first pass counts, the second fills vectors of exactly that size. So what a hostile header
//! makes us allocate stays below twice its own length, whatever it consists of.

use std::fmt;
use std::path::Path;

use cupola_core::DType;
use cupola_core::shape::MAX_RANK;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::NAMES;
use super::header::{Entry, Header, duplicate};
use crate::error::{Error, Result, shortened};
use crate::source::checked_shape;

pub(super) const METADATA: &str = "__metadata__";

/// Reads a header whose data have the given length, and checks every tensor for itself.
pub(super) fn read(path: &Path, text: &str, data: usize) -> Result<Header> {
    let mut parser = Parser::new(path, data);
    parser.run(text)?;
    let counted = parser.counts;
    parser.target = Some(Header {
        entries: Vec::with_capacity(counted.entries),
        names: String::with_capacity(counted.names),
        texts: String::with_capacity(counted.texts),
        dims: Vec::with_capacity(counted.dims),
        metadata: Vec::with_capacity(counted.metadata),
    });
    parser.run(text)?;
    Ok(parser.target.unwrap_or_default())
}

#[derive(Clone, Copy, Default)]
struct Counts {
    entries: usize,
    names: usize,
    texts: usize,
    dims: usize,
    metadata: usize,
}

/// What is being read, for errors of the JSON parser, which does not know.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Outside,
    Metadata,
    Tensor,
}

struct Parser<'a> {
    path: &'a Path,
    data: usize,
    counts: Counts,
    /// Where tensors go in the second pass.
    target: Option<Header>,
    place: Place,
    /// The name being read; kept to reuse its memory.
    name: String,
    /// The dtype or key being read, likewise.
    word: String,
    /// Set before a visitor returns an error of its own.
    problem: Option<Error>,
}

impl<'a> Parser<'a> {
    fn new(path: &'a Path, data: usize) -> Self {
        Self {
            path,
            data,
            counts: Counts::default(),
            target: None,
            place: Place::Outside,
            name: String::new(),
            word: String::new(),
            problem: None,
        }
    }

    fn run(&mut self, text: &str) -> Result<()> {
        self.counts = Counts::default();
        let mut json = serde_json::Deserializer::from_str(text);
        let outcome = json.deserialize_map(Top(self)).and_then(|()| json.end());
        let Err(error) = outcome else { return Ok(()) };
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        let found = shortened(&error.to_string());
        Err(match self.place {
            Place::Tensor => {
                let expected = "an object of dtype, shape and data_offsets";
                Error::tensor(self.path, &self.name, "its entry in the header", found, expected)
            }
            Place::Metadata => Error::damaged(self.path, METADATA, found, "an object of texts"),
            Place::Outside => Error::damaged(self.path, "the header", found, "a JSON object of tensors"),
        })
    }

    fn fail<T, E: serde::de::Error>(&mut self, problem: Error) -> Result<T, E> {
        self.problem = Some(problem);
        Err(E::custom("refused"))
    }

    fn tensor_error(&self, what: &'static str, found: impl ToString, expected: impl ToString) -> Error {
        Error::tensor(self.path, &self.name, what, found, expected)
    }

    /// Checks one tensor for itself and stores it.
    fn finish(&mut self, fields: &Fields) -> Result<()> {
        let missing = |name| self.tensor_error("its entry in the header", format!("without {name}"), name);
        let dtype = fields.dtype.ok_or_else(|| missing("dtype"))?;
        let dims = fields.shape.as_ref().ok_or_else(|| missing("shape"))?;
        let [begin, end] = fields.offsets.ok_or_else(|| missing("data_offsets"))?;
        let dims = &dims.sizes[..dims.rank];
        let (_, bytes) = checked_shape(dims, dtype)
            .map_err(|expected| self.tensor_error("its shape", format!("{dims:?}"), expected))?;
        if begin > end {
            return Err(self.tensor_error("data_offsets", format!("[{begin}, {end}]"), "a start before the end"));
        }
        if end > self.data as u64 {
            let expected = format!("at most {}, the length of the data", self.data);
            return Err(self.tensor_error("the end of its data", end, expected));
        }
        if end - begin != bytes as u64 {
            let expected = format!("{bytes} bytes for {dtype} {dims:?}");
            return Err(self.tensor_error("its data", format!("{} bytes long", end - begin), expected));
        }
        self.counts.entries += 1;
        self.counts.names += self.name.len();
        self.counts.dims += dims.len();
        if let Some(header) = &mut self.target {
            // Both are below MAX_HEADER, as everything comes from the header's text.
            header.entries.push(Entry {
                name: header.names.len() as u32,
                name_len: self.name.len() as u32,
                dims: header.dims.len() as u32,
                rank: dims.len() as u8,
                dtype,
                begin: begin as usize,
                end: end as usize,
            });
            header.names.push_str(&self.name);
            header.dims.extend_from_slice(dims);
        }
        Ok(())
    }
}

/// The header's outermost object.
struct Top<'p, 'a>(&'p mut Parser<'a>);

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let parser = self.0;
        let mut seen_metadata = false;
        while map.next_key_seed(Text(&mut parser.name))?.is_some() {
            if parser.name == METADATA {
                if std::mem::replace(&mut seen_metadata, true) {
                    return parser.fail(duplicate(parser.path, METADATA));
                }
                parser.place = Place::Metadata;
                map.next_value_seed(MetadataSeed(parser))?;
            } else {
                parser.place = Place::Tensor;
                map.next_value_seed(EntrySeed(parser))?;
            }
            parser.place = Place::Outside;
        }
        Ok(())
    }
}

/// The object of texts under `__metadata__`.
struct MetadataSeed<'p, 'a>(&'p mut Parser<'a>);

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let parser = self.0;
        while map.next_key_seed(Text(&mut parser.name))?.is_some() {
            map.next_value_seed(Text(&mut parser.word))?;
            parser.counts.texts += parser.name.len() + parser.word.len();
            parser.counts.metadata += 1;
            if let Some(header) = &mut parser.target {
                header.texts.push_str(&parser.name);
                let key = header.texts.len() as u32;
                header.texts.push_str(&parser.word);
                header.metadata.push([key, header.texts.len() as u32]);
            }
        }
        Ok(())
    }
}

/// The members of a tensor's entry.
#[derive(Default)]
struct Fields {
    dtype: Option<DType>,
    shape: Option<Dims>,
    offsets: Option<[u64; 2]>,
}

/// One tensor's entry.
struct EntrySeed<'p, 'a>(&'p mut Parser<'a>);

impl<'de> DeserializeSeed<'de> for EntrySeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let parser = self.0;
        let mut fields = Fields::default();
        while map.next_key_seed(Text(&mut parser.word))?.is_some() {
            let repeated = match parser.word.as_str() {
                "dtype" => {
                    map.next_value_seed(Text(&mut parser.word))?;
                    let Some((dtype, _)) = NAMES.iter().find(|(_, name)| *name == parser.word) else {
                        let problem = Error::UnsupportedDType {
                            path: parser.path.to_owned(),
                            tensor: shortened(&parser.name),
                            found: shortened(&parser.word),
                            expected: "F64 F32 BF16 F16 I64 I32 U32 I8 U8 BOOL",
                        };
                        return parser.fail(problem);
                    };
                    fields.dtype.replace(*dtype).is_some()
                }
                "shape" => fields.shape.replace(map.next_value_seed(Dims::default())?).is_some(),
                "data_offsets" => fields.offsets.replace(map.next_value()?).is_some(),
                unknown => {
                    let found = format!("with `{}`", shortened(unknown));
                    let expected = "only dtype, shape and data_offsets";
                    let problem = parser.tensor_error("its entry in the header", found, expected);
                    return parser.fail(problem);
                }
            };
            if repeated {
                let problem = parser.tensor_error("its entry in the header", "with a member twice", "each once");
                return parser.fail(problem);
            }
        }
        parser.finish(&fields).or_else(|problem| parser.fail(problem))
    }
}

/// Reads a text into memory that is there already.
struct Text<'s>(&'s mut String);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.clear();
        // Exactly: the doubling of `push_str` alone would allow a long name to cost twice its length.
        self.0.reserve_exact(text.len());
        self.0.push_str(text);
        Ok(())
    }
}

/// A shape as it is read: a fixed array, so that a list of a million sizes costs nothing before it is refused.
#[derive(Clone, Copy, Default)]
struct Dims {
    sizes: [usize; MAX_RANK],
    rank: usize,
}

impl<'de> DeserializeSeed<'de> for Dims {
    type Value = Self;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Dims {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a shape of at most {MAX_RANK} dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(size) = list.next_element()? {
            if self.rank == MAX_RANK {
                return Err(A::Error::invalid_length(MAX_RANK + 1, &self));
            }
            self.sizes[self.rank] = size;
            self.rank += 1;
        }
        Ok(self)
    }
}
