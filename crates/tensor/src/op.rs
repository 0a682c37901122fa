//! What an operation is.
//!
//! An operation is a type that implements [`Op`]: its attributes are the fields, [`Op::forward`] computes, [`Op::backward`]
//! computes the gradients of the inputs from those of the outputs. Built-in operations and those of other crates are the same
//! thing.
//!
//! ```
//! use cupola_tensor::{Backward, InputGrads, Op, Outputs, Rng, Saved, Tensor, gradcheck};
//!
//! /// `y = x * sigmoid(beta * x)`
//! struct Swish {
//!     beta: f64,
//! }
//!
//! impl Op for Swish {
//!     const NAME: &'static str = "swish";
//!
//!     fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
//!         let [x] = inputs else { unreachable!("swish has one input") };
//!         let s = 1.0 / ((*x * -self.beta).exp() + 1.0);
//!         saved.keep([x, &s]);
//!         (*x * &s).into()
//!     }
//!
//!     fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
//!         let [x, s] = cx.saved();
//!         let dy = cx.dy();
//!         (dy * (s + x * s * (1.0 - s) * self.beta)).into()
//!     }
//! }
//!
//! let x = Tensor::randn([3, 5], Rng::seed(0)).to_dtype(cupola_tensor::DType::F64);
//! gradcheck(|x| Swish { beta: 1.5 }.apply(&[&x[0]]), &[&x])?;
//! # Ok::<(), cupola_tensor::GradcheckError>(())
//! ```

use std::sync::Arc;

use cupola_core::Shape;

use crate::autograd::backward::Uses;
use crate::autograd::gradients::Gradients;
use crate::autograd::graph::{Edge, Meta, Node, Rule};
use crate::mode;
use crate::tensor::Tensor;

/// Whether and how gradients pass through an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Differentiable {
    /// [`Op::backward`] computes the gradients.
    Yes,
    /// The derivative is zero wherever it exists (floor, round, sign): the result is a constant to everything before it.
    Zero,
    /// The results are integers or bools, which carry no gradient.
    Discrete,
    /// There is no backward rule; an input that needs a gradient is refused.
    No,
}

/// An operation as the registry lists it.
#[derive(Clone, Copy, Debug)]
pub struct OpInfo {
    /// The name used in messages, traces, benches and golden files.
    pub name: &'static str,
    /// Whether gradients pass.
    pub differentiable: Differentiable,
}

/// An operation. See the [module](self) for an example.
pub trait Op: Send + Sync + Sized + 'static {
    /// The name, as it stands in messages, traces and graphs.
    const NAME: &'static str;

    /// Whether gradients pass; an operation that does not say has a backward rule.
    const DIFFERENTIABLE: Differentiable = Differentiable::Yes;

    /// The entry of this operation in a registry.
    const INFO: OpInfo = OpInfo { name: Self::NAME, differentiable: Self::DIFFERENTIABLE };

    /// Computes the outputs, and keeps in `saved` what backward will read. Nothing that happens in here is recorded.
    ///
    /// # Panics
    /// When shapes or dtypes do not fit, with the operation's name and all shapes in the message.
    #[track_caller]
    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs;

    /// Computes the gradients of the inputs, of each one's shape and dtype; `None` for an input that needs none.
    fn backward(&self, context: &mut Backward<'_>) -> InputGrads {
        let _ = context;
        unreachable!("{}: nothing is recorded for an operation without a backward rule", Self::NAME)
    }

    /// For an operation of one input and one output that does the same whenever it is applied: a number that tells its attributes,
    /// as far as its shapes do not.
    ///
    /// What such operations make of a leaf counts as one in a pass: the gradients of all parts of a batch are added up first, and go
    /// through the operations once. So the sums of the parts are those of the whole batch to the last bit, as if the leaf itself were
    /// what is read.
    fn fixed(&self) -> Option<u64> {
        None
    }

    /// Whether [`Op::recompute`] can give the result again.
    fn recomputes(&self) -> bool {
        false
    }

    /// The first output again, from what forward saved: what was given to [`Saved::keep`], by position, `None` where that is itself
    /// to be computed again. For operations whose result is cheap to get again and large to keep; an operation that reads
    /// the result saves it with [`Saved::keep_or_recompute`].
    fn recompute(&self, saved: &[Option<Tensor>]) -> Tensor {
        let _ = saved;
        unreachable!("{}: its result is not computed again", Self::NAME)
    }

    /// Runs the operation, recording it when an input needs a gradient; the one output of an operation that has one.
    ///
    /// # Panics
    /// As [`Op::forward`]; and when an input needs a gradient that this operation cannot pass on.
    #[track_caller]
    fn apply(self, inputs: &[&Tensor]) -> Tensor {
        let mut outputs = self.apply_all(inputs);
        assert_eq!(outputs.len(), 1, "{}: apply returns one output, apply_all returns all", Self::NAME);
        outputs.swap_remove(0)
    }

    /// Like [`Op::apply`], with all outputs.
    ///
    /// # Panics
    /// As [`Op::apply`].
    #[track_caller]
    fn apply_all(self, inputs: &[&Tensor]) -> Vec<Tensor> {
        let needed = mode::is_recording() && inputs.iter().any(|x| x.needs_grad());
        if needed && Self::DIFFERENTIABLE == Differentiable::No {
            refuse::<Self>(inputs);
        }
        if !mode::is_recording() {
            inputs.iter().for_each(|x| mode::note_leaf(x));
        }
        let recorded = needed && Self::DIFFERENTIABLE == Differentiable::Yes;
        let mut saved = Saved { enabled: recorded, ..Saved::default() };
        let outputs = {
            let _paused = mode::pause_recording();
            self.forward(inputs, &mut saved).0
        };
        if !recorded {
            return outputs;
        }
        record(Box::new(Erased(self)), inputs, saved, outputs)
    }
}

#[track_caller]
fn refuse<O: Op>(inputs: &[&Tensor]) -> ! {
    let shapes: Vec<_> = inputs.iter().map(|x| x.shape()).collect();
    let index = inputs.iter().position(|x| x.needs_grad());
    panic!(
        "{}: input {} of shapes {shapes:?} needs a gradient, and this operation has no backward rule; detach the input or \
         compute under no_grad",
        O::NAME,
        index.unwrap_or_default()
    )
}

/// Makes the node of a recorded operation and hangs its floating-point outputs on it.
pub(crate) fn record(rule: Box<dyn Rule>, inputs: &[&Tensor], saved: Saved, outputs: Vec<Tensor>) -> Vec<Tensor> {
    let edges = inputs.iter().map(|x| x.edge().cloned()).collect();
    let metas = |tensors: &mut dyn Iterator<Item = &Tensor>| tensors.map(Meta::of).collect();
    let inputs = metas(&mut inputs.iter().copied());
    let node = Node::new(Some(rule), edges, saved, inputs, metas(&mut outputs.iter()));
    let on_node = |(output, tensor): (usize, Tensor)| {
        let edge = tensor.dtype().is_float().then(|| Edge { node: node.clone(), output });
        tensor.with_edge(edge)
    };
    outputs.into_iter().enumerate().map(on_node).collect()
}

struct Erased<O>(O);

impl<O: Op> Rule for Erased<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }
    fn backward(&self, context: &mut Backward<'_>) -> InputGrads {
        self.0.backward(context)
    }
    fn fixed(&self) -> Option<u64> {
        self.0.fixed()
    }
    fn recomputes(&self) -> bool {
        self.0.recomputes()
    }
    fn recompute(&self, saved: &[Option<Tensor>]) -> Tensor {
        self.0.recompute(saved)
    }
}

/// The results of an operation.
pub struct Outputs(pub(crate) Vec<Tensor>);

impl Outputs {
    /// The first output alone.
    pub(crate) fn into_first(mut self) -> Tensor {
        self.0.swap_remove(0)
    }
}

impl From<Tensor> for Outputs {
    fn from(output: Tensor) -> Self {
        Self(vec![output])
    }
}
impl<const N: usize> From<[Tensor; N]> for Outputs {
    fn from(outputs: [Tensor; N]) -> Self {
        Self(outputs.into())
    }
}
impl From<Vec<Tensor>> for Outputs {
    fn from(outputs: Vec<Tensor>) -> Self {
        Self(outputs)
    }
}

/// The gradients of an operation's inputs, in order.
pub struct InputGrads(pub(crate) Vec<Option<Tensor>>);

impl From<Tensor> for InputGrads {
    fn from(grad: Tensor) -> Self {
        Self(vec![Some(grad)])
    }
}
impl<const N: usize> From<[Option<Tensor>; N]> for InputGrads {
    fn from(grads: [Option<Tensor>; N]) -> Self {
        Self(grads.into())
    }
}
impl<const N: usize> From<[Tensor; N]> for InputGrads {
    fn from(grads: [Tensor; N]) -> Self {
        Self(grads.into_iter().map(Some).collect())
    }
}
impl From<Vec<Option<Tensor>>> for InputGrads {
    fn from(grads: Vec<Option<Tensor>>) -> Self {
        Self(grads)
    }
}

/// Results of fewer bytes than this are kept rather than computed again: they are cheap to keep.
const RECOMPUTED_FROM: usize = 4 << 20;

/// A tensor that backward will read.
pub(crate) enum Kept {
    /// As it is.
    Tensor(Tensor),
    /// As the node that made it will compute it again.
    Again(Arc<Node>),
}

impl Kept {
    pub fn share(&self) -> Self {
        match self {
            Kept::Tensor(tensor) => Kept::Tensor(tensor.clone()),
            Kept::Again(node) => Kept::Again(node.clone()),
        }
    }

    pub fn into_tensor(self) -> Tensor {
        match self {
            Kept::Tensor(tensor) => tensor,
            Kept::Again(node) => node.recomputed(),
        }
    }
}

/// The tensors an operation keeps for its backward pass.
#[derive(Default)]
pub struct Saved {
    enabled: bool,
    kept: Vec<Kept>,
}

impl Saved {
    /// Keeps these tensors (sharing their buffers), in this order. Does nothing when nothing is recorded.
    pub fn keep<const N: usize>(&mut self, tensors: [&Tensor; N]) {
        if self.enabled {
            // Detached: a saved output that pointed back at its own node would keep the graph alive for ever.
            self.kept.extend(tensors.map(|x| Kept::Tensor(x.detach())));
        }
    }

    /// Keeps this input, or, where the operation that made it offers that and it is large, only the right to have it computed
    /// again when backward asks: what is between two layers then takes no memory of its own.
    pub fn keep_or_recompute(&mut self, x: &Tensor) {
        if !self.enabled {
            return;
        }
        let again = x.edge().filter(|_| Self::recomputes(x));
        self.kept.push(again.map_or_else(|| Kept::Tensor(x.detach()), |edge| Kept::Again(edge.node.clone())));
    }

    /// Whether [`Saved::keep_or_recompute`] would not keep this tensor itself.
    pub fn recomputes(x: &Tensor) -> bool {
        let first = x.edge().filter(|edge| edge.output == 0);
        let offered = first.and_then(|edge| edge.node.rule()).is_some_and(|rule| rule.recomputes());
        offered && x.numel() * x.dtype().size() >= RECOMPUTED_FROM && x.is_contiguous()
    }

    /// Whether a backward pass can follow. Forward may then compute what only backward needs.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub(crate) fn enabled() -> Self {
        Self { enabled: true, kept: Vec::new() }
    }

    /// All that was kept, what is to be computed again left out.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.kept.iter().filter_map(|kept| match kept {
            Kept::Tensor(tensor) => Some(tensor),
            Kept::Again(_) => None,
        })
    }

    /// By position, `None` for what is to be computed again.
    pub(crate) fn by_position(&self) -> Vec<Option<Tensor>> {
        let tensor = |kept: &Kept| match kept {
            Kept::Tensor(tensor) => Some(tensor.clone()),
            Kept::Again(_) => None,
        };
        self.kept.iter().map(tensor).collect()
    }

    pub(crate) fn kept(&self) -> &[Kept] {
        &self.kept
    }

    pub(crate) fn into_kept(self) -> Vec<Kept> {
        self.kept
    }

    /// The nodes that hold what is to be computed again; taken out where a graph is dropped, so that nothing recurses.
    pub(crate) fn take_nodes(&mut self) -> impl Iterator<Item = Arc<Node>> {
        std::mem::take(&mut self.kept).into_iter().filter_map(|kept| match kept {
            Kept::Tensor(_) => None,
            Kept::Again(node) => Some(node),
        })
    }
}

/// What a backward rule is given.
pub struct Backward<'a> {
    pub(crate) saved: &'a [Tensor],
    pub(crate) grads: Vec<Option<Tensor>>,
    pub(crate) inputs: &'a [Meta],
    pub(crate) outputs: &'a [Meta],
    pub(crate) needs: &'a [bool],
    pub(crate) edges: &'a [Option<Edge>],
    /// For each input the identity of the leaf that it is, or is a fixed function of, and which of the leaf's uses in this pass
    /// this is.
    pub(crate) leaves: &'a [Option<(u64, usize)>],
    pub(crate) sink: &'a mut Gradients,
    pub(crate) uses: &'a mut Uses,
    /// Inputs, leaves, whose gradients the rule has itself added to what the pass collects.
    pub(crate) added: Vec<usize>,
}

impl<'a> Backward<'a> {
    /// The tensors kept by forward.
    ///
    /// # Panics
    /// When forward kept another number of tensors.
    #[track_caller]
    pub fn saved<const N: usize>(&self) -> [&'a Tensor; N] {
        assert_eq!(self.saved.len(), N, "forward saved {} tensors, backward asks for {N}", self.saved.len());
        std::array::from_fn(|index| &self.saved[index])
    }

    /// The tensors kept by forward, however many.
    pub fn all_saved(&self) -> &'a [Tensor] {
        self.saved
    }

    /// The gradient of the only output. A cheap clone: it shares the buffer.
    pub fn dy(&self) -> Tensor {
        self.output_grad(0).expect("a node with one output is visited only when that output has a gradient")
    }

    /// The gradient of the only output, taken out, so that its memory can be reused when nobody else holds it.
    pub fn take_dy(&mut self) -> Tensor {
        self.grads[0].take().expect("a node with one output is visited only when that output has a gradient")
    }

    /// The gradient of output `index`, `None` when the result did not influence what is differentiated.
    pub fn output_grad(&self, index: usize) -> Option<Tensor> {
        self.grads[index].clone()
    }

    /// The gradient of output `index`, zeros where it had no influence.
    pub fn output_grad_or_zeros(&self, index: usize) -> Tensor {
        let meta = self.outputs[index];
        self.output_grad(index).unwrap_or_else(|| Tensor::zeros_of(meta.shape, meta.dtype))
    }

    /// Whether input `index` needs its gradient.
    pub fn needs(&self, index: usize) -> bool {
        self.needs[index]
    }

    /// How many inputs there are.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The shape of input `index`.
    pub fn input_shape(&self, index: usize) -> Shape {
        self.inputs[index].shape
    }

    /// Shape and dtype of input `index`.
    pub fn input(&self, index: usize) -> Meta {
        self.inputs[index]
    }

    /// The gradient that input `index`, a leaf or a fixed function of one ([`Op::fixed`]), has collected so far by this use of it, for
    /// a rule that can add to it in place. Whoever takes it returns the sum as that input's gradient. `None` when there is nothing to add to.
    pub fn take_accumulator(&mut self, index: usize) -> Option<Tensor> {
        let ((leaf, number), edge) = (self.leaves[index]?, self.edges[index].as_ref()?);
        self.sink.lend(leaf, number, edge)
    }

    /// Adds rows of a gradient to what input `index`, a large table, collects: row k of `dy` to row `indices[k]`. `false` where this
    /// cannot be done without all other rows.
    pub(crate) fn add_rows(&mut self, index: usize, dy: &Tensor, indices: &[i64]) -> bool {
        let (Some((leaf, number)), Some(edge)) = (self.leaves[index], &self.edges[index]) else { return false };
        let added = edge.node.is_leaf() && self.sink.add_rows(leaf, number, self.inputs[index], dy, indices);
        self.added.extend(added.then_some(index));
        added
    }

    /// Whether what input `index` collects goes on from one pass to the next: it is a leaf, or a fixed function of one.
    pub fn collects(&self, index: usize) -> bool {
        self.leaves[index].is_some()
    }
}
