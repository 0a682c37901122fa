//! Affine maps.

use cupola_tensor::Tensor;
use cupola_tensor::ops::linear::{Activation, linear};

use super::Ternary;
use crate::init::Init;
use crate::lora::{self, Adapter};
use crate::module::{Field, Path, Visitor, VisitorMut};
use crate::{Layer, Module, Param};

/// `y = x W^T + b`, `torch.nn.Linear`.
///
/// ```
/// use cupola_nn::{Layer, Module, layers::Linear};
/// use cupola_tensor::Tensor;
/// let layer = Linear::new(3, 2).init(0);
/// assert_eq!(layer.forward(&Tensor::ones([5, 3])).shape().dims(), [5, 2]);
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    /// `W [out, in]`, uniform within `1 / sqrt(in)` at first.
    pub weight: Param,
    /// `b [out]`, likewise.
    pub bias: Option<Param>,
    /// Whether and how the weight counts as one of three values.
    pub ternary: Option<Ternary>,
    /// Low-rank additions to the weight, see [`crate::lora`]; none at first.
    pub adapters: Vec<Adapter>,
}

// Written out, because visitors may ask for the layer itself, and a fused layer's additions stand below the names of its parts.
impl Field for Linear {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        visitor.enter(path, "Linear");
        path.push("weight");
        self.weight.visit(path, visitor);
        path.pop();
        path.push("bias");
        self.bias.visit(path, visitor);
        path.pop();
        for adapter in &self.adapters {
            let named = !adapter.part.is_empty();
            if named {
                path.push(&adapter.part);
            }
            adapter.visit(path, visitor);
            if named {
                path.pop();
            }
        }
        visitor.leave(path);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        let Some(layer) = visitor.linear(path, self) else { return };
        path.push("weight");
        layer.weight.visit_mut(path, visitor);
        path.pop();
        path.push("bias");
        layer.bias.visit_mut(path, visitor);
        path.pop();
        for adapter in &mut layer.adapters {
            let part = adapter.part.clone();
            if !part.is_empty() {
                path.push(&part);
            }
            adapter.visit_mut(path, visitor);
            if !part.is_empty() {
                path.pop();
            }
        }
    }
}

impl Module for Linear {}

impl Linear {
    /// A map from `inputs` to `outputs` values, with a bias.
    #[track_caller]
    pub fn new(inputs: usize, outputs: usize) -> Self {
        let bound = 1.0 / (inputs.max(1) as f64).sqrt();
        Self {
            weight: Param::new([outputs, inputs], Init::uniform_within(bound)),
            bias: Some(Param::new([outputs], Init::uniform_within(bound))),
            ternary: None,
            adapters: Vec::new(),
        }
    }

    /// The same map without a bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    /// The same map with a weight of three values.
    #[must_use]
    pub fn with_ternary(self, ternary: Ternary) -> Self {
        Self { ternary: Some(ternary), ..self }
    }

    /// Several maps of one input as a single product: the outputs of each stand beside each other, and files and optimisers see
    /// `NAME.weight` and `NAME.bias` for every name (see [`Param::with_parts`]). Belongs into a field that is
    /// `#[module(flatten)]`.
    #[track_caller]
    pub fn fused(inputs: usize, outputs: &[(&str, usize)]) -> Self {
        let Self { weight, bias, ternary, adapters } = Self::new(inputs, outputs.iter().map(|(_, size)| size).sum());
        let parts =
            |what: &str| outputs.iter().map(|(name, size)| (format!("{name}.{what}"), *size)).collect::<Vec<_>>();
        let bias = bias.map(|bias| bias.with_parts(parts("bias")));
        Self { weight: weight.with_parts(parts("weight")), bias, ternary, adapters }
    }

    /// What the layer multiplies in place of `x`.
    #[track_caller]
    pub fn effective_input(&self, x: &Tensor) -> Tensor {
        self.ternary.map_or_else(|| x.clone(), |ternary| ternary.input(x))
    }

    /// The weight that the layer computes with, additions added in. Their dropout has no part in it.
    #[track_caller]
    pub fn effective_weight(&self) -> Tensor {
        if !self.adapters.is_empty() {
            return lora::merged(&self.weight, &self.adapters);
        }
        self.ternary.map_or_else(|| Tensor::clone(&self.weight), |ternary| ternary.weight(&self.weight))
    }

    /// `activation(x W^T + b)` in one pass; see [`Layer::forward`].
    ///
    /// # Shapes
    /// `[.., in]` -> `[.., out]`.
    #[track_caller]
    pub fn forward_activated(&self, x: &Tensor, activation: Activation) -> Tensor {
        if !self.adapters.is_empty() {
            let y = linear(x, &self.weight, self.bias.as_deref(), Activation::None);
            return activation.apply(&lora::add(y, x, &self.adapters));
        }
        match self.ternary {
            None => linear(x, &self.weight, self.bias.as_deref(), activation),
            Some(ternary) => {
                let (x, weight) = (ternary.input(x), ternary.weight(&self.weight));
                linear(&x, &weight, self.bias.as_deref(), activation)
            }
        }
    }
}

impl Layer for Linear {
    /// # Shapes
    /// `[.., in]` -> `[.., out]`; sums are kept in f32 (f64 for f64).
    fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_activated(x, Activation::None)
    }
}
