//! What a module is: a value whose parameters and buffers have names.
//!
//! [`Field`] is the walk, which [`derive(Module)`](macro@crate::Module) writes; [`Module`] is what that gives the user. A walk
//! meets every [`Param`] and [`ModuleBuffer`] once, in the order of the fields, with its path: the names of the fields that
//! lead to it, joined by dots.
//!
//! ```
//! use cupola_nn::{Module, Param, init::Init};
//!
//! #[derive(Module)]
//! struct Affine { weight: Param, bias: Option<Param>, scale: f64 }
//!
//! #[derive(Module)]
//! struct Tower { #[module(rename = "layers")] stack: Vec<Affine> }
//!
//! let layer = || Affine { weight: Param::new([2, 3], Init::Ones), bias: Some(Param::new([2], Init::Zeros)), scale: 0.5 };
//! let tower = Tower { stack: vec![layer(), layer()] }.init(7);
//! let names: Vec<String> = tower.named_parameters().into_iter().map(|(name, _)| name).collect();
//! assert_eq!(names, ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]);
//! ```
//!
//! Nothing can hide: a field that the walk does not know does not compile.
//!
//! ```compile_fail,E0277
//! use cupola_nn::Module;
//! #[derive(Module)]
//! struct Hidden { weight: cupola_tensor::Tensor }
//! ```
//!
//! Nor does a parameter behind a type that is a module only sometimes, or an attribute that does not exist:
//!
//! ```compile_fail,E0277
//! use cupola_nn::Module;
//! struct Plain { weight: cupola_nn::Param }
//! #[derive(Module)]
//! struct Outer { inner: Vec<Plain> }
//! ```
//!
//! ```compile_fail
//! use cupola_nn::{Module, Param};
//! #[derive(Module)]
//! struct Misspelt { #[module(renam = "w")] weight: Param }
//! ```
//!
//! Unless it says so itself:
//!
//! ```
//! use cupola_nn::Module;
//! #[derive(Module)]
//! struct Table { #[module(skip)] cosines: cupola_tensor::Tensor }
//! ```

use std::collections::BTreeSet;

use cupola_core::{DType, Rng};

use crate::buffer::ModuleBuffer;
use crate::layers::Linear;
use crate::param::Param;

/// Names on the way from the model to where a walk is.
#[derive(Clone, Debug, Default)]
pub struct Path {
    text: String,
    /// Lengths of `text` before each push.
    marks: Vec<usize>,
}

impl Path {
    /// The model itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// Steps into the field `name`.
    pub fn push(&mut self, name: &str) {
        self.marks.push(self.text.len());
        if !self.text.is_empty() {
            self.text.push('.');
        }
        self.text.push_str(name);
    }

    /// Steps back out of what was pushed last.
    pub fn pop(&mut self) {
        let mark = self.marks.pop().unwrap_or_default();
        self.text.truncate(mark);
    }

    /// The names joined by dots.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The last name, empty for the model itself.
    pub fn last(&self) -> &str {
        self.text.rsplit('.').next().unwrap_or_default()
    }
}

/// What a walk over a module's fields is told.
pub trait Visitor<'a> {
    /// A parameter.
    fn param(&mut self, path: &Path, param: &'a Param);

    /// A buffer.
    fn buffer(&mut self, path: &Path, buffer: &'a ModuleBuffer) {
        let _ = (path, buffer);
    }

    /// The walk enters a module of a type with this name.
    fn enter(&mut self, path: &Path, type_name: &'static str) {
        let _ = (path, type_name);
    }

    /// The walk leaves that module.
    fn leave(&mut self, path: &Path) {
        let _ = path;
    }
}

/// What a walk that may change a module's fields is told.
pub trait VisitorMut<'a> {
    /// A parameter.
    fn param(&mut self, path: &Path, param: &'a mut Param);

    /// A buffer.
    fn buffer(&mut self, path: &Path, buffer: &'a mut ModuleBuffer) {
        let _ = (path, buffer);
    }

    /// A linear layer as a whole. A visitor that keeps it returns nothing; else the walk goes on inside.
    fn linear(&mut self, path: &Path, layer: &'a mut Linear) -> Option<&'a mut Linear> {
        let _ = path;
        Some(layer)
    }
}

/// What may stand in a field of a module: parameters, buffers, modules, plain values, and containers of these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` may not stand in a field of a module",
    label = "no Module, Param, ModuleBuffer or plain value",
    note = "derive `Module` for `{Self}`, or mark the field `#[module(skip)]` if it holds no parameters"
)]
pub trait Field {
    /// Shows every parameter and buffer inside to `visitor`.
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>);

    /// As [`Field::visit`], for changing them, in the same order.
    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>);
}

/// A part of a model: what `#[derive(Module)]` makes of a struct or enum. See the [module documentation](self).
///
/// Everything here walks the fields; what a module computes is its own `forward` (see [`crate::Layer`]).
pub trait Module: Field {
    /// All parameters with their paths, in the order of the fields.
    fn named_parameters(&self) -> Vec<(String, &Param)> {
        let mut all = Parameters(Vec::new());
        self.visit(&mut Path::new(), &mut all);
        all.0
    }

    /// All parameters with their paths, for changing them.
    fn named_parameters_mut(&mut self) -> Vec<(String, &mut Param)> {
        let mut all = ParametersMut(Vec::new());
        self.visit_mut(&mut Path::new(), &mut all);
        all.0
    }

    /// All buffers with their paths, in the order of the fields.
    fn named_buffers(&self) -> Vec<(String, &ModuleBuffer)> {
        let mut all = Buffers(Vec::new());
        self.visit(&mut Path::new(), &mut all);
        all.0
    }

    /// All buffers with their paths, for changing them.
    fn named_buffers_mut(&mut self) -> Vec<(String, &mut ModuleBuffer)> {
        let mut all = BuffersMut(Vec::new());
        self.visit_mut(&mut Path::new(), &mut all);
        all.0
    }

    /// The parameter at `path`.
    fn parameter(&self, path: &str) -> Option<&Param> {
        self.named_parameters().into_iter().find(|(name, _)| name == path).map(|(_, param)| param)
    }

    /// The parameter at `path`, for changing it.
    fn parameter_mut(&mut self, path: &str) -> Option<&mut Param> {
        let all = self.named_parameters_mut();
        all.into_iter().find(|(name, _)| name == path).map(|(_, param)| param)
    }

    /// How many numbers the parameters hold together, trainable or not. Needs no memory for them.
    fn parameter_count(&self) -> usize {
        self.named_parameters().iter().map(|(_, param)| param.shape().numel()).sum()
    }

    /// As [`Module::parameter_count`], trainable parameters alone.
    fn trainable_count(&self) -> usize {
        let all = self.named_parameters();
        all.iter().filter(|(_, param)| param.is_trainable()).map(|(_, param)| param.shape().numel()).sum()
    }

    /// Gives every parameter the numbers that its initialiser draws from `seed` and the parameter's path. The order of the
    /// fields has no part in them.
    ///
    /// # Panics
    /// When two parameters or buffers have the same path.
    #[must_use]
    #[track_caller]
    fn init(mut self, seed: u64) -> Self
    where
        Self: Sized,
    {
        initialise(&mut self, seed, |_| true);
        self
    }

    /// As [`Module::init`] for the parameters that have no values yet, such as a new head on a loaded body.
    #[must_use]
    #[track_caller]
    fn init_missing(mut self, seed: u64) -> Self
    where
        Self: Sized,
    {
        initialise(&mut self, seed, |param| !param.is_materialized());
        self
    }

    /// The same module with parameters and floating-point buffers of another dtype.
    ///
    /// # Panics
    /// When `dtype` is not floating-point.
    #[must_use]
    #[track_caller]
    fn to_dtype(mut self, dtype: DType) -> Self
    where
        Self: Sized,
    {
        self.named_parameters_mut().into_iter().for_each(|(_, param)| param.set_dtype(dtype));
        self.named_buffers_mut().into_iter().for_each(|(_, buffer)| buffer.set_dtype(dtype));
        self
    }

    /// Decides for every parameter whose path `choose` accepts whether it is trained from now on; returns how many those are.
    fn set_trainable(&mut self, trainable: bool, choose: impl Fn(&str) -> bool) -> usize
    where
        Self: Sized,
    {
        let all = self.named_parameters_mut();
        let chosen = all.into_iter().filter(|(name, _)| choose(name));
        chosen.map(|(_, param)| param.set_trainable(trainable)).count()
    }
}

#[track_caller]
fn initialise(module: &mut dyn Field, seed: u64, choose: impl Fn(&Param) -> bool) {
    let mut all = ParametersMut(Vec::new());
    module.visit_mut(&mut Path::new(), &mut all);
    let mut seen = BTreeSet::new();
    for (name, param) in all.0 {
        if choose(param) {
            param.initialize(&name, Rng::seed(seed));
        }
        assert!(seen.insert(name.clone()), "init: two parameters are called {name}");
    }
}

struct Parameters<'a>(Vec<(String, &'a Param)>);

impl<'a> Visitor<'a> for Parameters<'a> {
    fn param(&mut self, path: &Path, param: &'a Param) {
        self.0.push((path.as_str().to_string(), param));
    }
}

struct ParametersMut<'a>(Vec<(String, &'a mut Param)>);

impl<'a> VisitorMut<'a> for ParametersMut<'a> {
    fn param(&mut self, path: &Path, param: &'a mut Param) {
        self.0.push((path.as_str().to_string(), param));
    }
}

struct Buffers<'a>(Vec<(String, &'a ModuleBuffer)>);

impl<'a> Visitor<'a> for Buffers<'a> {
    fn param(&mut self, _path: &Path, _param: &'a Param) {}

    fn buffer(&mut self, path: &Path, buffer: &'a ModuleBuffer) {
        self.0.push((path.as_str().to_string(), buffer));
    }
}

struct BuffersMut<'a>(Vec<(String, &'a mut ModuleBuffer)>);

impl<'a> VisitorMut<'a> for BuffersMut<'a> {
    fn param(&mut self, _path: &Path, _param: &'a mut Param) {}

    fn buffer(&mut self, path: &Path, buffer: &'a mut ModuleBuffer) {
        self.0.push((path.as_str().to_string(), buffer));
    }
}
