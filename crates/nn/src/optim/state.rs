//! An optimiser's state, out of it and into it.

use std::collections::BTreeMap;

use cupola_core::Shape;
use cupola_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::optimizer::{Optimizer, ParamState};
use super::rule::Rule;

/// The part of an optimiser's state that is text; its tensors travel beside it, as [`Optimizer::state`] returns both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerState<C> {
    /// The rule's name.
    pub rule: String,
    /// Pattern and options of each group.
    pub groups: Vec<(String, C)>,
    /// Patterns of [`Optimizer::only`].
    pub only: Vec<String>,
    /// Patterns of [`Optimizer::except`].
    pub except: Vec<String>,
    /// The learning rate now, relative to the configured one.
    pub lr_factor: f64,
    /// How many updates each parameter has had.
    pub steps: BTreeMap<String, u64>,
}

/// Why a saved state cannot be taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It belongs to another optimiser.
    #[error("the state is of `{found}`, expected `{expected}`")]
    Rule {
        /// The rule it names.
        found: String,
        /// The rule of this optimiser.
        expected: &'static str,
    },
    /// It has no group for the parameters that no pattern claims.
    #[error("the state has no groups, expected at least one")]
    NoGroups,
    /// A tensor is not there.
    #[error("the state has no tensor `{name}`")]
    Missing {
        /// Its name.
        name: String,
    },
    /// Tensors that belong to no parameter.
    #[error("the state has tensors of no parameter: {}", names.join(", "))]
    Unexpected {
        /// Their names.
        names: Vec<String>,
    },
    /// The tensors of one parameter have different shapes or dtypes.
    #[error("tensor `{name}` has shape {found}, expected {expected} and the dtype of its neighbours")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Box<Shape>,
        /// The shape of the parameter's first tensor.
        expected: Box<Shape>,
    },
}

impl<C: Rule> Optimizer<C> {
    /// All that is needed to go on later: options, counters, and the tensors, called `PATH.SLOT`. The tensors share memory with the
    /// optimiser until its next step.
    pub fn state(&self) -> (OptimizerState<C>, BTreeMap<String, Tensor>) {
        let mut tensors = BTreeMap::new();
        for (path, state) in &self.state {
            let slots = super::optimizer::rule_of(&self.groups, path).slots();
            for (slot, tensor) in slots.iter().zip(&state.slots) {
                tensors.insert(format!("{path}.{slot}"), tensor.clone());
            }
        }
        let text = OptimizerState {
            rule: C::NAME.to_string(),
            groups: self.groups.clone(),
            only: self.only.clone(),
            except: self.except.clone(),
            lr_factor: self.lr_factor,
            steps: self.state.iter().map(|(path, state)| (path.clone(), state.step)).collect(),
        };
        (text, tensors)
    }

    /// The optimiser whose state this is; its next step has the bits that the former one's would have had.
    ///
    /// # Errors
    /// [`StateError`] when text and tensors do not belong together.
    pub fn from_state(text: OptimizerState<C>, mut tensors: BTreeMap<String, Tensor>) -> Result<Self, StateError> {
        if text.rule != C::NAME {
            return Err(StateError::Rule { found: text.rule, expected: C::NAME });
        }
        if text.groups.is_empty() {
            return Err(StateError::NoGroups);
        }
        let mut state = BTreeMap::new();
        for (path, step) in text.steps {
            let names = super::optimizer::rule_of(&text.groups, &path).slots();
            let mut slots: Vec<Tensor> = Vec::with_capacity(names.len());
            for slot in names {
                let name = format!("{path}.{slot}");
                let Some(tensor) = tensors.remove(&name) else {
                    return Err(StateError::Missing { name });
                };
                if let Some(first) = slots.first()
                    && (first.shape() != tensor.shape() || first.dtype() != tensor.dtype())
                {
                    return Err(StateError::Shape {
                        name,
                        found: Box::new(*tensor.shape()),
                        expected: Box::new(*first.shape()),
                    });
                }
                slots.push(tensor.detach());
            }
            state.insert(path, ParamState { step, slots });
        }
        if !tensors.is_empty() {
            return Err(StateError::Unexpected { names: tensors.into_keys().collect() });
        }
        Ok(Self { groups: text.groups, only: text.only, except: text.except, lr_factor: text.lr_factor, state })
    }
}
