//! The walk from a result back to its leaves.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::autograd::gradients::Gradients;
use crate::autograd::graph::{Edge, Node};
use crate::mode;
use crate::op::{Backward, Kept};
use crate::tensor::Tensor;

/// Whether nodes keep what they saved, for another pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    Everything,
}

impl Tensor {
    /// The gradients of this scalar with respect to every leaf it was computed from.
    ///
    /// The graph is used up on the way: each node drops what it saved as soon as it has been passed, so that afterwards
    /// nothing shares a parameter's memory.
    ///
    /// # Panics
    /// When the tensor is not a scalar, needs no gradient, or its graph was used up before.
    #[track_caller]
    pub fn backward(&self) -> Gradients {
        let mut grads = Gradients::new();
        self.backward_into(&mut grads);
        grads.settle();
        grads
    }

    /// Like [`Tensor::backward`], and the graph can be walked again.
    ///
    /// # Panics
    /// As [`Tensor::backward`].
    #[track_caller]
    pub fn backward_retain(&self) -> Gradients {
        let mut grads = Gradients::new();
        run(vec![(self, seed(self))], &mut grads, &mut Uses::default(), Keep::Everything, None);
        grads.settle();
        grads
    }

    /// Like [`Tensor::backward`], adding to gradients of earlier passes.
    ///
    /// # Panics
    /// As [`Tensor::backward`].
    #[track_caller]
    pub fn backward_into(&self, grads: &mut Gradients) {
        run(vec![(self, seed(self))], grads, &mut Uses::default(), Keep::Nothing, None);
    }

    /// Like [`Tensor::backward_into`]; calls `ready` with a leaf's identity and gradient as soon as nothing more will be added
    /// to it in this pass, in the same order in every run.
    ///
    /// # Panics
    /// As [`Tensor::backward`].
    #[track_caller]
    pub fn backward_with(&self, grads: &mut Gradients, mut ready: impl FnMut(u64, &Tensor)) {
        run(vec![(self, seed(self))], grads, &mut Uses::default(), Keep::Nothing, Some(&mut ready));
    }
}

/// Backward from several results with given gradients, adding to `grads`: the chain rule's general form.
///
/// # Panics
/// When a result needs no gradient, a gradient has another shape than its result, or the graph was used up before.
#[track_caller]
pub fn backward_from(results: &[(&Tensor, Tensor)], grads: &mut Gradients) {
    let results = results.iter().map(|(tensor, grad)| (*tensor, grad.clone())).collect();
    run(results, grads, &mut Uses::default(), Keep::Nothing, None);
}

/// Backward inside the rule of a node: the same pass goes on through a graph that the node has made just now, adding to the same sums.
#[track_caller]
pub(crate) fn backward_within(results: Vec<(&Tensor, Tensor)>, context: &mut Backward<'_>) {
    run(results, context.sink, context.uses, Keep::Nothing, None);
}

#[track_caller]
fn seed(result: &Tensor) -> Tensor {
    assert!(result.numel() == 1, "backward: the result has shape {}, expected one element", result.shape());
    Tensor::ones_of(*result.shape(), result.dtype())
}

/// Everything reachable from the results, by number, and how many edges lead to each leaf.
struct Reach {
    nodes: BTreeMap<u64, Arc<Node>>,
    leaf_uses: HashMap<u64, usize>,
}

#[track_caller]
fn reach(roots: impl Iterator<Item = Edge>) -> Reach {
    let mut reach = Reach { nodes: BTreeMap::new(), leaf_uses: HashMap::new() };
    let mut open: Vec<Edge> = roots.collect();
    while let Some(Edge { node, .. }) = open.pop() {
        if let Some(leaf) = node.leaf() {
            *reach.leaf_uses.entry(leaf).or_default() += 1;
        } else if let Entry::Vacant(place) = reach.nodes.entry(node.id()) {
            let body = node.body();
            assert!(
                !body.released,
                "backward: the graph of this result was used up by an earlier pass; use backward_retain to walk it again"
            );
            open.extend(body.edges.iter().flatten().cloned());
            drop(body);
            place.insert(node);
        }
    }
    reach
}

/// The uses of leaves that a pass has met.
#[derive(Default)]
pub(crate) struct Uses {
    /// How many of each leaf.
    met: HashMap<u64, usize>,
    /// Of each fixed function of a leaf that was met the number of its use of the leaf.
    functions: HashMap<u64, usize>,
}

impl Uses {
    /// The leaf that an edge leads to, directly or through fixed functions of it alone, and the number of this use of it.
    fn next(&mut self, edge: &Edge) -> Option<(u64, usize)> {
        let (id, leaf) = (edge.node.id(), edge.node.leaf()?);
        if let Some(&number) = self.functions.get(&id) {
            return Some((leaf, number));
        }
        let count = self.met.entry(leaf).or_default();
        *count += 1;
        if id != leaf {
            self.functions.insert(id, *count - 1);
        }
        Some((leaf, *count - 1))
    }

    /// Lets the next use of a leaf have this number.
    pub(crate) fn go_on_from(&mut self, leaf: u64, number: usize) {
        self.met.insert(leaf, number);
    }
}

/// The gradient of the leaf that `edge` leads to through fixed functions, from that of the last function's result.
pub(crate) fn pass_through(edge: &Edge, grad: Tensor) -> Tensor {
    let _paused = mode::pause_recording();
    let _autocast = mode::set_autocast(None);
    let (mut node, mut grad) = (edge.node.clone(), grad);
    while let Some(rule) = node.rule() {
        let (next, saved) = {
            let mut body = node.body();
            body.again = None;
            let saved: Vec<Kept> = body.saved.kept().iter().map(Kept::share).collect();
            let next = body.edges[0].as_ref().expect("a function of a leaf has an edge to it").node.clone();
            (next, saved)
        };
        let saved: Vec<Tensor> = saved.into_iter().map(Kept::into_tensor).collect();
        let mut context = Backward {
            saved: &saved,
            grads: vec![Some(grad)],
            inputs: &node.inputs,
            outputs: &node.outputs,
            needs: &[true],
            edges: &[None],
            leaves: &[None],
            sink: &mut Gradients::new(),
            uses: &mut Uses::default(),
            added: Vec::new(),
        };
        let mut grads = rule.backward(&mut context).0;
        grad = grads.swap_remove(0).expect("the gradient of the only input was asked for");
        node = next;
    }
    grad
}

/// Told of a leaf and its gradient as soon as nothing more comes in this pass.
type Ready<'a> = &'a mut dyn FnMut(u64, &Tensor);

#[track_caller]
fn run(
    results: Vec<(&Tensor, Tensor)>,
    grads: &mut Gradients,
    uses: &mut Uses,
    keep: Keep,
    mut ready: Option<Ready<'_>>,
) {
    for (result, grad) in &results {
        assert!(result.needs_grad(), "backward: the result of shape {} does not depend on any leaf", result.shape());
        assert_eq!(result.shape(), grad.shape(), "backward: a result and its gradient have different shapes");
    }
    let Reach { mut nodes, mut leaf_uses } = reach(results.iter().filter_map(|(tensor, _)| tensor.edge().cloned()));
    let _paused = mode::pause_recording();
    // The backward of an autocast forward computes in the dtypes that forward saved, not in those of a scope around it.
    let _autocast = mode::set_autocast(None);
    let mut arrived: HashMap<u64, Vec<Option<Tensor>>> = HashMap::new();
    // Without a gradient: the node's rule has added it itself.
    let mut deliver = |edge: &Edge,
                       leaf: Option<(u64, usize)>,
                       grad: Option<Tensor>,
                       arrived: &mut HashMap<u64, Vec<Option<Tensor>>>,
                       grads: &mut Gradients| {
        let id = edge.node.id();
        if let Some((leaf, number)) = leaf {
            if let Some(grad) = grad {
                grads.add(leaf, number, grad, edge);
            }
            let left = leaf_uses.entry(leaf).or_default();
            *left = left.saturating_sub(1);
            if *left == 0
                && let Some(ready) = &mut ready
                && let Some(sum) = grads.get_id(leaf)
            {
                ready(leaf, sum);
            }
            return;
        }
        let grad = grad.expect("only the gradients of leaves are added by rules");
        let slots = arrived.entry(id).or_insert_with(|| vec![None; edge.node.outputs.len()]);
        let slot = &mut slots[edge.output];
        *slot = Some(match slot.take() {
            None => grad,
            Some(sum) => sum.accumulate(&grad),
        });
    };
    for (tensor, grad) in results {
        if let Some(edge) = tensor.edge() {
            let leaf = uses.next(edge);
            deliver(edge, leaf, Some(grad), &mut arrived, grads);
        }
    }
    while let Some((id, node)) = nodes.pop_last() {
        let Some(rule) = node.rule() else { continue };
        let Some(output_grads) = arrived.remove(&id) else {
            continue;
        };
        let (edges, saved) = {
            let mut body = node.body();
            // Whoever read this node's result has been passed.
            body.again = None;
            if keep == Keep::Everything {
                let saved: Vec<Kept> = body.saved.kept().iter().map(Kept::share).collect();
                (body.edges.clone(), saved)
            } else {
                body.released = true;
                (std::mem::take(&mut body.edges), std::mem::take(&mut body.saved).into_kept())
            }
        };
        let saved: Vec<Tensor> = saved.into_iter().map(Kept::into_tensor).collect();
        let needs: Vec<bool> = edges.iter().map(Option::is_some).collect();
        let leaf = |edge: &Option<Edge>| edge.as_ref().and_then(|edge| uses.next(edge));
        let leaves: Vec<Option<(u64, usize)>> = edges.iter().map(leaf).collect();
        let mut context = Backward {
            saved: &saved,
            grads: output_grads,
            inputs: &node.inputs,
            outputs: &node.outputs,
            needs: &needs,
            edges: &edges,
            leaves: &leaves,
            sink: grads,
            uses,
            added: Vec::new(),
        };
        let input_grads = rule.backward(&mut context).0;
        let added = context.added;
        drop(saved);
        let name = rule.name();
        assert_eq!(input_grads.len(), edges.len(), "{name}: backward returned gradients for another number of inputs");
        for (index, (edge, grad)) in edges.into_iter().zip(input_grads).enumerate() {
            let Some(edge) = edge else { continue };
            if added.contains(&index) {
                deliver(&edge, leaves[index], None, &mut arrived, grads);
                continue;
            }
            let meta = node.inputs[index];
            let grad = grad.unwrap_or_else(|| panic!("{name}: backward returned no gradient for input {index}"));
            assert!(
                *grad.shape() == meta.shape && grad.dtype() == meta.dtype,
                "{name}: the gradient of input {index} is {} {}, expected {} {}",
                grad.dtype(),
                grad.shape(),
                meta.dtype,
                meta.shape
            );
            deliver(&edge, leaves[index], Some(grad), &mut arrived, grads);
        }
    }
}
