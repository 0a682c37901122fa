//! Parameters.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, Range};

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, Element, Rng, Shape};
use cupola_tensor::{Tensor, no_grad};

use crate::init::Init;

thread_local! {
    static COPIED: Cell<usize> = const { Cell::new(0) };
    static ALIASING: Cell<bool> = const { Cell::new(false) };
}

/// A tensor that training changes, owned by the module it is a field of.
///
/// A new parameter knows its shape and how it will be initialised, and has no memory. [`crate::Module::init`] or a file gives it
/// values; from then on it stands for its tensor: `x.matmul(&self.weight)`. It is a leaf of every graph it takes part in, unless
/// it is frozen ([`Param::set_trainable`]).
///
/// Writing goes in place when nobody else holds the values, which is so between the end of backward and the next forward. When
/// somebody does (a snapshot for a checkpoint, a clone of the model), the new values are written beside the old ones, and
/// [`copied_parameter_bytes`] counts them.
pub struct Param {
    shape: Shape,
    dtype: DType,
    init: Init,
    trainable: bool,
    parts: Vec<(String, usize)>,
    value: Option<Tensor>,
}

/// Bytes of parameters that this thread has written out of place, because their old values were still held, since it started.
///
/// An ordinary training loop adds nothing to it.
pub fn copied_parameter_bytes() -> usize {
    COPIED.get()
}

/// A clone of `module` that has the very parameters of `module`: gradients for it are gradients for `module`, and updates that it
/// asks of its buffers reach those of `module`. Lives shorter than the next optimiser step, or that will write out of place.
///
/// This is what a closure that outlives the borrow of a model captures, such as that of a [`crate::checkpointed`] region.
pub fn alias<M: Clone>(module: &M) -> M {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALIASING.set(self.0);
        }
    }
    let _restore = Restore(ALIASING.replace(true));
    module.clone()
}

/// Whether a clone made now on this thread is to keep the identity of what it is made of.
pub(crate) fn is_aliasing() -> bool {
    ALIASING.get()
}

/// Where new values of a parameter go.
pub(crate) struct Target<'a, T> {
    /// The values before, where they are not those in `new` already.
    pub old: Option<Tensor>,
    /// All values, to be written.
    pub new: &'a mut [T],
}

impl Param {
    /// A parameter without values, in f32.
    #[track_caller]
    pub fn new(shape: impl Into<Shape>, init: Init) -> Self {
        Self { shape: shape.into(), dtype: DType::F32, init, trainable: true, parts: Vec::new(), value: None }
    }

    /// This parameter as a stack of named parts along the first dimension, of these sizes.
    ///
    /// In files, in the patterns of optimiser groups and in optimiser state each part is a parameter of its own, called as the
    /// whole but for the last name of its path: the parts `q_proj.weight` and `k_proj.weight` of `layers.0.weight` are
    /// `layers.0.q_proj.weight` and `layers.0.k_proj.weight`. Each is initialised by itself.
    ///
    /// # Panics
    /// When the sizes do not add up to the first dimension, or the parameter has values already.
    #[must_use]
    #[track_caller]
    pub fn with_parts<S: Into<String>>(mut self, parts: impl IntoIterator<Item = (S, usize)>) -> Self {
        assert!(self.value.is_none(), "with_parts: the parameter has values already");
        self.parts = parts.into_iter().map(|(name, rows)| (name.into(), rows)).collect();
        let rows: usize = self.parts.iter().map(|(_, rows)| rows).sum();
        assert!(
            self.shape.first() == Some(&rows),
            "with_parts: parts of {:?} rows do not make up shape {}",
            self.parts.iter().map(|(_, rows)| rows).collect::<Vec<_>>(),
            self.shape
        );
        self
    }

    /// The dimensions, known before there are values.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The element type that the values have or will have.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// How the values are drawn.
    pub fn initializer(&self) -> &Init {
        &self.init
    }

    /// Has values drawn another way from the next [`crate::Module::init`] on.
    pub fn set_initializer(&mut self, init: Init) {
        self.init = init;
    }

    /// Whether there are values.
    pub fn is_materialized(&self) -> bool {
        self.value.is_some()
    }

    /// The values, if there are any yet.
    pub fn value(&self) -> Option<&Tensor> {
        self.value.as_ref()
    }

    /// Whether gradients are wanted.
    pub fn is_trainable(&self) -> bool {
        self.trainable
    }

    /// Freezes or thaws the parameter. A frozen one is a constant: nothing is computed for its gradient and no optimiser touches
    /// it.
    pub fn set_trainable(&mut self, trainable: bool) {
        self.trainable = trainable;
        let current = self.value.take();
        self.value = current.map(|value| match (trainable, value.is_leaf()) {
            (true, true) => value,
            (true, false) => value.detach().requires_grad(),
            (false, _) => value.detach(),
        });
    }

    /// The names and rows under which files and optimisers see this parameter, when `path` is its own.
    pub fn parts(&self, path: &str) -> Vec<(String, Range<usize>)> {
        if self.parts.is_empty() {
            return vec![(path.to_string(), 0..self.shape.first().copied().unwrap_or(1))];
        }
        let owner = path.rfind('.').map_or("", |dot| &path[..=dot]);
        let mut row = 0;
        let name_part = |(name, rows): &(String, usize)| {
            row += rows;
            (format!("{owner}{name}"), row - rows..row)
        };
        self.parts.iter().map(name_part).collect()
    }

    /// The shape of a part with this many rows.
    pub fn part_shape(&self, rows: &Range<usize>) -> Shape {
        if self.parts.is_empty() { self.shape } else { self.shape.with_dim(0, rows.len()) }
    }

    /// Draws the values that belong to this path in the stream `rng` of the seed.
    pub fn initialize(&mut self, path: &str, rng: Rng) {
        let mut buffer = Buffer::uninit(self.dtype, self.shape.numel(), Placement::Lasting);
        let width = self.shape.numel().checked_div(self.shape.first().copied().unwrap_or(1)).unwrap_or(0);
        for (name, rows) in self.parts(path) {
            let range = rows.start * width..rows.end * width;
            self.init.fill(&mut buffer, range, &self.part_shape(&rows), rng.named(&name));
        }
        self.install(Tensor::from_buffer(buffer, self.shape));
    }

    /// Gives the parameter these values, without a copy when they have its dtype and are contiguous; others are converted. The
    /// parameter stays the same leaf.
    ///
    /// # Panics
    /// When the shape is another.
    #[track_caller]
    pub fn set(&mut self, value: &Tensor) {
        assert_eq!(
            *value.shape(),
            self.shape,
            "set: a parameter of shape {} cannot have values of shape {}",
            self.shape,
            value.shape()
        );
        let value = no_grad(|| value.detach().to_dtype(self.dtype).contiguous());
        self.install(value);
    }

    /// Lets this very tensor, with the graph behind it, stand for the parameter until the next [`Param::set`]: to check a gradient,
    /// or to compute with weights that were themselves computed.
    ///
    /// # Panics
    /// When the shape is another.
    #[track_caller]
    pub fn bind(&mut self, value: &Tensor) {
        assert_eq!(
            *value.shape(),
            self.shape,
            "bind: a parameter of shape {} cannot be a tensor of shape {}",
            self.shape,
            value.shape()
        );
        self.dtype = value.dtype();
        self.value = Some(value.clone());
    }

    /// Converts the values, or lets them be of this dtype once there are some.
    ///
    /// # Panics
    /// When `dtype` is not floating-point.
    #[track_caller]
    pub fn set_dtype(&mut self, dtype: DType) {
        assert!(dtype.is_float(), "a parameter of {dtype} has no gradient");
        if dtype != self.dtype {
            self.dtype = dtype;
            if let Some(value) = self.value.take() {
                self.install(no_grad(|| value.detach().to_dtype(dtype)));
            }
        }
    }

    /// Changes the values with a function of all of them in row-major order; copies them first when somebody else holds them.
    ///
    /// # Panics
    /// When there are no values yet or `T` is not the dtype.
    #[track_caller]
    pub fn modify<T: Element>(&mut self, change: impl FnOnce(&mut [T])) {
        let target = self.target::<T>();
        if let Some(old) = &target.old {
            target.new.copy_from_slice(old.slice_of::<T>());
        }
        change(target.new);
    }

    /// Where new values go: in place for a sole owner, else beside the old ones.
    #[track_caller]
    pub(crate) fn target<T: Element>(&mut self) -> Target<'_, T> {
        let mut old = None;
        let current = self.value.as_mut().unwrap_or_else(|| panic!("{}", missing(&self.shape)));
        if current.as_mut_slice::<T>().is_none() {
            let buffer = Buffer::uninit(self.dtype, self.shape.numel(), Placement::Lasting);
            let fresh = Tensor::from_buffer(buffer, self.shape);
            let fresh = if current.is_leaf() { fresh.as_leaf(current) } else { fresh };
            old = Some(std::mem::replace(current, fresh).detach());
            COPIED.set(COPIED.get() + self.shape.numel() * self.dtype.size());
        }
        let new = current.as_mut_slice::<T>();
        Target { old, new: new.expect("the buffer was found unshared or has just been made") }
    }

    fn install(&mut self, value: Tensor) {
        let former = self.value.take().filter(|former| former.is_leaf() && former.dtype() == value.dtype());
        self.value = Some(match (self.trainable, former) {
            (false, _) => value,
            (true, Some(former)) => value.as_leaf(&former),
            (true, None) => value.requires_grad(),
        });
    }
}

fn missing(shape: &Shape) -> String {
    format!("a parameter of shape {shape} has no values yet: give the model some with init(seed) or from a file")
}

impl Deref for Param {
    type Target = Tensor;

    /// # Panics
    /// When there are no values yet.
    #[track_caller]
    fn deref(&self) -> &Tensor {
        match &self.value {
            Some(value) => value,
            None => panic!("{}", missing(&self.shape)),
        }
    }
}

impl Clone for Param {
    /// A parameter with the same values, which share memory until either is written, and with a gradient of its own; see
    /// [`alias`] for one without.
    fn clone(&self) -> Self {
        let value = self.value.as_ref().map(|value| match value.is_leaf() {
            true if !is_aliasing() => value.detach().requires_grad(),
            _ => value.clone(),
        });
        Self {
            shape: self.shape,
            dtype: self.dtype,
            init: self.init.clone(),
            trainable: self.trainable,
            parts: self.parts.clone(),
            value,
        }
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frozen = if self.trainable { "" } else { ", frozen" };
        let empty = if self.is_materialized() { "" } else { ", no values" };
        write!(f, "Param({} {}{frozen}{empty})", self.dtype, self.shape)
    }
}

/// `tensor op param` and `param op tensor`, so that a layer need not write `&*self.weight`.
macro_rules! operators {
    ($($trait:ident $method:ident),*) => {$(
        impl std::ops::$trait<&Param> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Param) -> Tensor {
                std::ops::$trait::$method(self, &**other)
            }
        }
        impl std::ops::$trait<&Param> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Param) -> Tensor {
                std::ops::$trait::$method(self, &**other)
            }
        }
        impl std::ops::$trait<&Tensor> for &Param {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                std::ops::$trait::$method(&**self, other)
            }
        }
    )*};
}

operators!(Add add, Sub sub, Mul mul, Div div);
