//! The walk of an optimiser over a model.

use std::collections::{BTreeMap, HashMap};

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, Shape};
use cupola_cpu::real::Real;
use cupola_tensor::autograd::clip::clip_factor;
use cupola_tensor::{Gradients, Tensor, no_grad};

use super::pattern::matches;
use super::rule::{Job, Master, Rule};
use crate::module::Module;
use crate::param::{Param, Target};

/// Why an optimiser cannot update a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// A pattern of a group, or of the optimiser's own choice, names no parameter.
    #[error("the pattern `{pattern}` matches none of the {parameters} parameters; the first is `{example}`")]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// How many parameters there are.
        parameters: usize,
        /// The name of one.
        example: String,
    },
    /// The rule cannot update a parameter of this shape.
    #[error("{rule} cannot update `{name}` of shape {shape}: it expects {expected}; leave it out with except(..)")]
    Shape {
        /// The rule's name.
        rule: &'static str,
        /// The parameter's name.
        name: String,
        /// Its shape.
        shape: Box<Shape>,
        /// What the rule can update.
        expected: &'static str,
    },
    /// Optimisers update f32 and f64 parameters; lower precision belongs into autocast.
    #[error("`{name}` is {found}, and parameters are updated in f32 or f64")]
    DType {
        /// The parameter's name.
        name: String,
        /// Its dtype.
        found: DType,
    },
}

/// What is kept for one parameter.
#[derive(Clone, Debug)]
pub(super) struct ParamState {
    /// Updates so far.
    pub step: u64,
    /// One tensor for each of the rule's slots.
    pub slots: Vec<Tensor>,
}

/// An optimiser: an update rule, the groups of parameters that have other options, and the state kept for each parameter under
/// its path.
///
/// It borrows the model for the length of a step and holds no parameter. Parameters that are frozen or received no gradient are
/// left as they are.
#[derive(Clone)]
pub struct Optimizer<C> {
    /// Options of each group; the first is of those that no pattern claims.
    pub(super) groups: Vec<(String, C)>,
    pub(super) only: Vec<String>,
    pub(super) except: Vec<String>,
    pub(super) lr_factor: f64,
    pub(super) state: BTreeMap<String, ParamState>,
}

impl<C: Rule> Optimizer<C> {
    /// An optimiser of all parameters with these options.
    pub fn new(config: C) -> Self {
        Self {
            groups: vec![(String::from("*"), config)],
            only: Vec::new(),
            except: Vec::new(),
            lr_factor: 1.0,
            state: BTreeMap::new(),
        }
    }

    /// Gives the parameters whose names match `pattern` (see [`matches()`]) options of their own. Where several patterns match, the
    /// one added first holds.
    #[must_use]
    pub fn group(mut self, pattern: impl Into<String>, config: C) -> Self {
        self.groups.push((pattern.into(), config));
        self
    }

    /// Leaves all parameters alone but those that match `pattern`, or that of another call.
    #[must_use]
    pub fn only(mut self, pattern: impl Into<String>) -> Self {
        self.only.push(pattern.into());
        self
    }

    /// Leaves the parameters that match `pattern` alone.
    #[must_use]
    pub fn except(mut self, pattern: impl Into<String>) -> Self {
        self.except.push(pattern.into());
        self
    }

    /// The options of the parameters that no group claims.
    pub fn config(&self) -> &C {
        &self.groups[0].1
    }

    /// The learning rate now, of the parameters that no group claims.
    pub fn lr(&self) -> f64 {
        self.config().lr() * self.lr_factor
    }

    /// Sets the learning rate, as a schedule does before each step. Groups with another rate keep their ratio to it.
    ///
    /// # Panics
    /// When the configured rate is 0, to which nothing has a ratio.
    #[track_caller]
    pub fn set_lr(&mut self, lr: f64) {
        let configured = self.config().lr();
        assert!(configured != 0.0, "set_lr: the configured learning rate is 0, to which {lr} has no ratio");
        self.lr_factor = lr / configured;
    }

    /// Whether this optimiser suits the model: every pattern names a parameter, and every parameter it is to update can be.
    ///
    /// # Errors
    /// [`OptimizerError`] with the first thing that does not fit.
    pub fn check(&self, model: &impl Module) -> Result<(), OptimizerError> {
        let parameters = model.named_parameters();
        let parts = parameters.iter().flat_map(|(path, param)| {
            let parts = param.parts(path).into_iter();
            parts.map(move |(name, rows)| (name, param.part_shape(&rows), *param))
        });
        let parts: Vec<(String, Shape, &Param)> = parts.collect();
        let groups = self.groups[1..].iter().map(|(pattern, _)| pattern);
        for pattern in groups.chain(&self.only).chain(&self.except) {
            if !parts.iter().any(|(name, ..)| matches(pattern, name)) {
                return Err(OptimizerError::NoMatch {
                    pattern: pattern.clone(),
                    parameters: parts.len(),
                    example: parts.first().map(|(name, ..)| name.clone()).unwrap_or_default(),
                });
            }
        }
        for (name, shape, param) in
            parts.into_iter().filter(|(name, _, param)| param.is_trainable() && self.chooses(name))
        {
            if !matches!(param.dtype(), DType::F32 | DType::F64) {
                return Err(OptimizerError::DType { name, found: param.dtype() });
            }
            if let Err(expected) = self.rule_of(&name).accepts(&shape) {
                return Err(OptimizerError::Shape { rule: C::NAME, name, shape: Box::new(shape), expected });
            }
        }
        Ok(())
    }

    /// Changes every trainable parameter that has a gradient, in one pass.
    ///
    /// # Panics
    /// When [`Optimizer::check`] finds something, or when there are gradients and none is of a trainable parameter of this model,
    /// as happens when the model was replaced after its forward pass.
    #[track_caller]
    pub fn step(&mut self, model: &mut impl Module, grads: &Gradients) {
        self.apply(model, grads, 1.0);
    }

    /// [`Gradients::clip_norm`] and [`Optimizer::step`] in one pass less, with the same bits; returns the norm before clipping.
    ///
    /// # Panics
    /// As [`Optimizer::step`].
    #[track_caller]
    pub fn step_clipped(&mut self, model: &mut impl Module, grads: &Gradients, max_norm: f64) -> f64 {
        let norm = grads.norm();
        self.apply(model, grads, clip_factor(norm, max_norm));
        norm
    }

    /// [`Optimizer::step`] with all gradients multiplied by `scale` on the way: clipping by a norm that several optimisers share, which
    /// is computed once ([`clip_factor`]).
    ///
    /// # Panics
    /// As [`Optimizer::step`].
    #[track_caller]
    pub fn step_scaled(&mut self, model: &mut impl Module, grads: &Gradients, scale: f64) {
        self.apply(model, grads, scale);
    }

    #[track_caller]
    fn apply(&mut self, model: &mut impl Module, grads: &Gradients, grad_scale: f64) {
        if let Err(error) = self.check(model) {
            panic!("step: {error}");
        }
        let mut found = 0;
        let (mut single, mut double) = (Work::<f32>::default(), Work::<f64>::default());
        for (path, param) in model.named_parameters_mut() {
            let grad = param.value().and_then(Tensor::leaf_id).and_then(|id| grads.get_id(id));
            let Some(grad) = grad.filter(|_| param.is_trainable()) else {
                continue;
            };
            found += 1;
            let parts = param.parts(&path);
            let chosen: Vec<_> = parts.into_iter().filter(|(name, _)| self.chooses(name)).collect();
            if chosen.is_empty() {
                continue;
            }
            for (name, rows) in &chosen {
                self.prepare(name, param, rows.len());
            }
            let width = param.numel().checked_div(param.shape().first().copied().unwrap_or(1)).unwrap_or(0);
            let element = |(name, rows): (String, std::ops::Range<usize>)| Part {
                shape: param.part_shape(&rows),
                range: rows.start * width..rows.end * width,
                name,
            };
            let chosen = chosen.into_iter().map(element).collect();
            let grad = no_grad(|| grad.contiguous());
            match param.dtype() {
                DType::F64 => double.add(param, grad, chosen),
                _ => single.add(param, grad, chosen),
            }
        }
        assert!(
            found > 0 || grads.is_empty(),
            "step: none of the {} gradients belongs to a trainable parameter of this model; is it the one that computed the loss?",
            grads.len()
        );
        let Self { groups, state, lr_factor, .. } = self;
        let mut states: HashMap<&str, &mut ParamState> = state.iter_mut().map(|(name, s)| (name.as_str(), s)).collect();
        for work in [&mut single as &mut dyn Runs<C>, &mut double] {
            work.run(groups, &mut states, *lr_factor, grad_scale);
        }
    }

    fn chooses(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        (self.only.is_empty() || any(&self.only)) && !any(&self.except)
    }

    fn rule_of(&self, name: &str) -> &C {
        rule_of(&self.groups, name)
    }

    /// Makes the state of a parameter that is updated for the first time.
    fn prepare(&mut self, name: &str, param: &Param, rows: usize) {
        let slots = self.rule_of(name).slots().len();
        let shape = param.part_shape(&(0..rows));
        let dtype = param.dtype();
        let zeros = || Tensor::from_buffer(Buffer::zeroed(dtype, shape.numel(), Placement::Lasting), shape);
        self.state
            .entry(name.to_string())
            .or_insert_with(|| ParamState { step: 0, slots: (0..slots).map(|_| zeros()).collect() });
    }
}

pub(super) fn rule_of<'g, C>(groups: &'g [(String, C)], name: &str) -> &'g C {
    let claimed = groups[1..].iter().find(|(pattern, _)| matches(pattern, name));
    &claimed.unwrap_or(&groups[0]).1
}

/// A part of a parameter: its name, shape, and elements in the whole.
struct Part {
    name: String,
    shape: Shape,
    range: std::ops::Range<usize>,
}

/// The parameters of one dtype that are to be updated, with their gradients.
struct Work<'m, R> {
    params: Vec<(Target<'m, R>, Tensor, Vec<Part>)>,
}

impl<R> Default for Work<'_, R> {
    fn default() -> Self {
        Self { params: Vec::new() }
    }
}

impl<'m, R: Real> Work<'m, R> {
    #[track_caller]
    fn add(&mut self, param: &'m mut Param, grad: Tensor, parts: Vec<Part>) {
        let mut target = param.target::<R>();
        if let Some(old) = target.old.take() {
            target.new.copy_from_slice(old.slice_of::<R>());
        }
        self.params.push((target, grad, parts));
    }
}

/// [`Work`] with its dtype erased.
trait Runs<C> {
    fn run(
        &mut self,
        groups: &[(String, C)],
        states: &mut HashMap<&str, &mut ParamState>,
        lr_factor: f64,
        grad_scale: f64,
    );
}

impl<C: Rule, R: Master> Runs<C> for Work<'_, R> {
    fn run(
        &mut self,
        groups: &[(String, C)],
        states: &mut HashMap<&str, &mut ParamState>,
        lr_factor: f64,
        grad_scale: f64,
    ) {
        let mut jobs: Vec<Job<'_, C, R>> = Vec::new();
        let Self { params } = self;
        for (target, grad, parts) in params {
            let (mut rest, mut position) = (&mut *target.new, 0);
            for Part { name, shape, range } in parts {
                let (_, after) = std::mem::take(&mut rest).split_at_mut(range.start - position);
                let (param, after) = after.split_at_mut(range.len());
                (rest, position) = (after, range.end);
                let rule = rule_of(groups, name);
                let state = states.remove(name.as_str()).expect("every chosen part was prepared, and names are unique");
                state.step += 1;
                jobs.push(Job {
                    rule,
                    lr: rule.lr() * lr_factor,
                    step: state.step,
                    grad_scale,
                    shape: *shape,
                    param,
                    grad: &grad.slice_of::<R>()[range.clone()],
                    slots: state.slots.iter_mut().map(own::<R>).collect(),
                });
            }
        }
        if !jobs.is_empty() {
            C::update(jobs);
        }
    }
}

/// The elements of a tensor for writing; copied first when somebody else (a saved state) holds them.
pub(super) fn own<R: Real>(tensor: &mut Tensor) -> &mut [R] {
    if tensor.as_mut_slice::<R>().is_none() {
        *tensor = lasting_copy::<R>(tensor);
    }
    tensor.as_mut_slice::<R>().expect("the buffer was found unshared or has just been made")
}

/// A copy that shares no memory and lives as long as a model.
pub(super) fn lasting_copy<R: Real>(tensor: &Tensor) -> Tensor {
    let mut buffer = Buffer::uninit(R::DTYPE, tensor.numel(), Placement::Lasting);
    buffer.as_mut_slice::<R>().copy_from_slice(no_grad(|| tensor.contiguous()).slice_of::<R>());
    Tensor::from_buffer(buffer, *tensor.shape())
}
