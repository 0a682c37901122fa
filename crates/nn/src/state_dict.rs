//! A module's values by name, out of it and into it.

use std::collections::BTreeMap;
use std::fmt;

use cupola_core::{DType, Shape};
use cupola_tensor::{Tensor, no_grad};

use crate::buffer::ModuleBuffer;
use crate::module::{Field, Module, Path, Visitor};
use crate::param::Param;

/// A tensor that does not suit the place its name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuitable {
    /// Its name.
    pub name: String,
    /// Shape and dtype that were found.
    pub found: (Shape, DType),
    /// Shape and dtype that the module has there. A floating-point dtype accepts any other.
    pub expected: (Shape, DType),
}

/// Values that do not fit a module, all of what is wrong with them at once. The module is unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct LoadError {
    /// Names the module has and the values have not.
    pub missing: Vec<String>,
    /// Names the values have and the module has not.
    pub unexpected: Vec<String>,
    /// Names that both have, with another shape or kind of dtype.
    pub unsuitable: Vec<Unsuitable>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the values do not fit the module")?;
        for (what, names) in [("missing", &self.missing), ("unexpected", &self.unexpected)] {
            if !names.is_empty() {
                write!(f, "; {what}: {}", names.join(", "))?;
            }
        }
        for Unsuitable { name, found, expected } in &self.unsuitable {
            write!(f, "; {name} is {} {}, expected {} {}", found.1, found.0, expected.1, expected.0)?;
        }
        Ok(())
    }
}

/// One named tensor of a module: a parameter, a part of one, or a buffer.
enum Place<'a> {
    Param(&'a Param, std::ops::Range<usize>),
    Buffer(&'a ModuleBuffer),
}

impl Place<'_> {
    fn meta(&self) -> (Shape, DType) {
        match self {
            Place::Param(param, rows) => (param.part_shape(rows), param.dtype()),
            Place::Buffer(buffer) => (*buffer.shape(), buffer.dtype()),
        }
    }
}

#[derive(Default)]
struct Places<'a>(Vec<(String, Place<'a>)>);

impl<'a> Visitor<'a> for Places<'a> {
    fn param(&mut self, path: &Path, param: &'a Param) {
        let parts = param.parts(path.as_str());
        self.0.extend(parts.into_iter().map(|(name, rows)| (name, Place::Param(param, rows))));
    }

    fn buffer(&mut self, path: &Path, buffer: &'a ModuleBuffer) {
        self.0.push((path.as_str().to_string(), Place::Buffer(buffer)));
    }
}

fn places(module: &(impl Field + ?Sized)) -> Vec<(String, Place<'_>)> {
    let mut all = Places::default();
    module.visit(&mut Path::new(), &mut all);
    all.0
}

/// Values by name: what goes into a file and comes out of one.
pub trait StateDict: Module {
    /// All parameters and buffers by name, parts of parameters by their own names. The tensors share memory with the module; the
    /// next optimiser step writes beside what is still held then.
    ///
    /// # Panics
    /// When a parameter has no values yet, or two have the same name.
    #[track_caller]
    fn state_dict(&self) -> BTreeMap<String, Tensor> {
        let mut all = BTreeMap::new();
        for (name, place) in places(self) {
            let tensor = match place {
                Place::Param(param, rows) if param.value().is_none() => {
                    panic!("state_dict: {name} of shape {} has no values yet", param.part_shape(&rows))
                }
                Place::Param(param, rows) if rows.len() == param.shape().first().copied().unwrap_or(1) => {
                    param.detach()
                }
                Place::Param(param, rows) => no_grad(|| param.narrow(0, rows.start, rows.len())),
                Place::Buffer(buffer) => buffer.value(),
            };
            let former = all.insert(name.clone(), tensor);
            assert!(former.is_none(), "state_dict: two values are called {name}");
        }
        all
    }

    /// Names, shapes and dtypes of what [`StateDict::state_dict`] returns; needs no values.
    fn state_shapes(&self) -> BTreeMap<String, (Shape, DType)> {
        places(self).into_iter().map(|(name, place)| (name, place.meta())).collect()
    }

    /// Gives every parameter and buffer the value of its name. Floats are converted to the module's dtype.
    ///
    /// # Errors
    /// [`LoadError`] lists every name that is missing, unexpected or unsuitable; nothing has changed then.
    fn load_state_dict(&mut self, values: &BTreeMap<String, Tensor>) -> Result<(), LoadError> {
        let expected = self.state_shapes();
        let suits = |found: &Tensor, (shape, dtype): &(Shape, DType)| {
            found.shape() == shape && (found.dtype() == *dtype || (found.dtype().is_float() && dtype.is_float()))
        };
        let mut error = LoadError::default();
        for (name, expected) in &expected {
            match values.get(name) {
                None => error.missing.push(name.clone()),
                Some(found) if !suits(found, expected) => error.unsuitable.push(Unsuitable {
                    name: name.clone(),
                    found: (*found.shape(), found.dtype()),
                    expected: *expected,
                }),
                Some(_) => {}
            }
        }
        error.unexpected = values.keys().filter(|name| !expected.contains_key(*name)).cloned().collect();
        if error != LoadError::default() {
            return Err(error);
        }
        for (name, param) in self.named_parameters_mut() {
            let parts: Vec<&Tensor> = param.parts(&name).iter().map(|(name, _)| &values[name]).collect();
            match parts[..] {
                [whole] => param.set(whole),
                _ => param.set(&no_grad(|| {
                    let parts: Vec<Tensor> = parts.iter().map(|part| part.to_dtype(param.dtype())).collect();
                    Tensor::cat(&parts.iter().collect::<Vec<_>>(), 0)
                })),
            }
        }
        for (name, buffer) in self.named_buffers_mut() {
            buffer.set(&values[&name]);
        }
        Ok(())
    }
}

impl<M: Module + ?Sized> StateDict for M {}
