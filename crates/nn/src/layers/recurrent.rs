//! What the recurrent layers share: a stack of layers, each in one or two directions.

use std::sync::Arc;

use cupola_tensor::Tensor;
use cupola_tensor::ops::{CellWeights, Order};

use crate::Param;
use crate::init::Init;
use crate::module::{Field, Path, Visitor, VisitorMut};
use crate::training::is_training;

/// How recurrent layers are stacked; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrentConfig {
    /// Layers, each of which takes the outputs of the one before.
    pub num_layers: usize,
    /// Whether each layer also runs from the end to the start; outputs of both directions stand beside each other.
    pub bidirectional: bool,
    /// Whether there are biases.
    pub bias: bool,
    /// The probability with which outputs between layers are dropped in training.
    pub dropout: f64,
}

impl Default for RecurrentConfig {
    fn default() -> Self {
        Self { num_layers: 1, bidirectional: false, bias: true, dropout: 0.0 }
    }
}

/// The weights of one layer in one direction.
#[derive(Clone, Debug)]
struct Direction {
    weight_ih: Param,
    weight_hh: Param,
    bias: Option<[Param; 2]>,
    /// What stands behind the names: `_l0`, `_l0_reverse`.
    suffix: String,
}

impl Direction {
    fn weights(&self) -> CellWeights<'_> {
        CellWeights {
            w_ih: &self.weight_ih,
            w_hh: &self.weight_hh,
            bias: self.bias.as_ref().map(|[input, hidden]| (&**input, &**hidden)),
        }
    }
}

impl Field for Direction {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        let biases = self.bias.iter().flatten();
        for (name, param) in NAMES.iter().zip([&self.weight_ih, &self.weight_hh].into_iter().chain(biases)) {
            path.push(&format!("{name}{}", self.suffix));
            visitor.param(path, param);
            path.pop();
        }
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        let biases = self.bias.iter_mut().flatten();
        for (name, param) in NAMES.iter().zip([&mut self.weight_ih, &mut self.weight_hh].into_iter().chain(biases)) {
            path.push(&format!("{name}{}", self.suffix));
            visitor.param(path, param);
            path.pop();
        }
    }
}

const NAMES: [&str; 4] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];

/// A layer's weights, `gates` gates high.
fn direction(inputs: usize, hidden: usize, gates: usize, bias: bool, suffix: String) -> Direction {
    let init = Init::uniform_within(1.0 / (hidden.max(1) as f64).sqrt());
    let param = |shape: &[usize]| Param::new(shape, init.clone());
    Direction {
        weight_ih: param(&[gates * hidden, inputs]),
        weight_hh: param(&[gates * hidden, hidden]),
        bias: bias.then(|| [param(&[gates * hidden]), param(&[gates * hidden])]),
        suffix,
    }
}

/// The layers of a recurrent module.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    directions: Vec<Direction>,
    hidden: usize,
    both: bool,
    dropout: f64,
}

impl Field for Stack {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        self.directions.iter().for_each(|direction| direction.visit(path, visitor));
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        self.directions.iter_mut().for_each(|direction| direction.visit_mut(path, visitor));
    }
}

/// The final states of all layers and directions, each `[layers * directions, B, H]`.
pub(super) type Finals = Vec<Tensor>;

impl Stack {
    #[track_caller]
    pub fn new(name: &str, inputs: usize, hidden: usize, gates: usize, config: RecurrentConfig) -> Self {
        let RecurrentConfig { num_layers, bidirectional, bias, dropout } = config;
        assert!(num_layers > 0, "{name}: there are no layers");
        assert!((0.0..1.0).contains(&dropout), "{name}: a dropout of {dropout} is not in 0..1");
        let mut directions = Vec::new();
        for layer in 0..num_layers {
            let width = if layer == 0 { inputs } else { hidden * (1 + usize::from(bidirectional)) };
            directions.push(direction(width, hidden, gates, bias, format!("_l{layer}")));
            if bidirectional {
                directions.push(direction(width, hidden, gates, bias, format!("_l{layer}_reverse")));
            }
        }
        Self { directions, hidden, both: bidirectional, dropout }
    }

    /// Runs all layers. `states` are the initial states in `[layers * directions, B, H]`, or none; `cell` computes one layer in one
    /// direction and returns outputs and final states.
    #[track_caller]
    pub fn run(
        &self,
        name: &str,
        x: &Tensor,
        states: &[&Tensor],
        lengths: Option<&[usize]>,
        cell: impl Fn(&Tensor, CellWeights<'_>, &[Tensor], &Order) -> (Tensor, Vec<Tensor>),
    ) -> (Tensor, Finals) {
        assert_eq!(x.rank(), 3, "{name}: input {}, expected [B, T, D]", x.shape());
        let expected = [self.directions.len(), x.shape()[0], self.hidden];
        for state in states {
            assert!(state.shape().dims() == expected, "{name}: a state of {}, expected {expected:?}", state.shape());
        }
        let lengths: Option<Arc<[usize]>> = lengths.map(Into::into);
        let per_layer = 1 + usize::from(self.both);
        let mut x = x.clone();
        let mut finals: Vec<Vec<Tensor>> = Vec::new();
        for (layer, directions) in self.directions.chunks(per_layer).enumerate() {
            if layer > 0 && self.dropout > 0.0 && is_training(name) {
                x = x.dropout(self.dropout);
            }
            let mut outputs = Vec::new();
            for (way, direction) in directions.iter().enumerate() {
                let index = layer * per_layer + way;
                let first: Vec<Tensor> = states.iter().map(|state| state.select(0, index)).collect();
                let order = Order { lengths: lengths.clone(), reverse: way == 1 };
                let (y, last) = cell(&x, direction.weights(), &first, &order);
                outputs.push(y);
                finals.push(last);
            }
            x = match &outputs[..] {
                [one] => one.clone(),
                both => Tensor::cat(&both.iter().collect::<Vec<_>>(), -1),
            };
        }
        let kinds = finals.first().map_or(0, Vec::len);
        let stacked = |kind: usize| Tensor::stack(&finals.iter().map(|last| &last[kind]).collect::<Vec<_>>(), 0);
        (x, (0..kinds).map(stacked).collect())
    }
}

/// The weights of a single step.
#[derive(Clone, Debug)]
pub(super) struct CellParams(Direction);

impl CellParams {
    #[track_caller]
    pub fn new(inputs: usize, hidden: usize, gates: usize, bias: bool) -> Self {
        Self(direction(inputs, hidden, gates, bias, String::new()))
    }

    /// One step: the cell over a sequence of one token.
    #[track_caller]
    pub fn step(
        &self,
        name: &str,
        x: &Tensor,
        cell: impl FnOnce(&Tensor, CellWeights<'_>) -> Vec<Tensor>,
    ) -> Vec<Tensor> {
        assert_eq!(x.rank(), 2, "{name}: input {}, expected [B, D]", x.shape());
        cell(&x.unsqueeze(1), self.0.weights())
    }
}

impl Field for CellParams {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        self.0.visit(path, visitor);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        self.0.visit_mut(path, visitor);
    }
}
