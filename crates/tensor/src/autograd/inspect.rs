//! Looking at a graph: how large, how deep, made of what.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use crate::autograd::graph::Node;
use crate::tensor::Tensor;

/// A summary of the graph behind a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphSummary {
    /// Recorded operations and leaves.
    pub nodes: usize,
    /// Leaves alone.
    pub leaves: usize,
    /// Operations on the longest path from the tensor to a leaf.
    pub depth: usize,
    /// How often each operation occurs, leaves left out.
    pub operations: BTreeMap<&'static str, usize>,
    /// Bytes kept for backward; a buffer that several operations saved counts once.
    pub saved_bytes: usize,
}

/// Every node behind `tensor`, newest first.
pub fn nodes(tensor: &Tensor) -> Vec<Arc<Node>> {
    let mut found: BTreeMap<u64, Arc<Node>> = BTreeMap::new();
    let mut open: Vec<Arc<Node>> = tensor.node().cloned().into_iter().collect();
    while let Some(node) = open.pop() {
        if let Entry::Vacant(place) = found.entry(node.id()) {
            open.extend(node.parents());
            place.insert(node);
        }
    }
    found.into_values().rev().collect()
}

/// Counts the graph behind `tensor`.
///
/// ```
/// use cupola_tensor::{Tensor, autograd::inspect};
/// let w = Tensor::ones([2]).requires_grad();
/// let summary = inspect::summary(&(&w * &w).exp().sum([]));
/// assert_eq!((summary.nodes, summary.leaves, summary.depth), (4, 1, 3));
/// assert_eq!(summary.operations["mul"], 1);
/// ```
pub fn summary(tensor: &Tensor) -> GraphSummary {
    let nodes = nodes(tensor);
    let mut depth: HashMap<u64, usize> = HashMap::new();
    let mut operations = BTreeMap::new();
    let mut buffers = HashMap::new();
    for node in nodes.iter().rev() {
        let below = node.parents().iter().map(|parent| depth[&parent.id()]).max().unwrap_or(0);
        depth.insert(node.id(), if node.is_leaf() { 0 } else { below + 1 });
        if !node.is_leaf() {
            *operations.entry(node.name()).or_insert(0) += 1;
        }
        for saved in node.saved() {
            buffers.insert(Arc::as_ptr(saved.buffer()), saved.buffer().len() * saved.dtype().size());
        }
    }
    GraphSummary {
        nodes: nodes.len(),
        leaves: nodes.iter().filter(|node| node.is_leaf()).count(),
        depth: depth.values().copied().max().unwrap_or(0),
        operations,
        saved_bytes: buffers.values().sum(),
    }
}

/// The graph in the DOT language, an arrow from each operation to the ones it passes gradients to.
pub fn dot(tensor: &Tensor) -> String {
    let mut text = String::from("digraph {\n");
    for node in nodes(tensor) {
        let shape = node.outputs.first().map(|meta| meta.shape.to_string()).unwrap_or_default();
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  n{} [label=\"{} {shape}\"];", node.id(), node.name());
        for parent in node.parents() {
            let _ = writeln!(text, "  n{} -> n{};", node.id(), parent.id());
        }
    }
    text.push_str("}\n");
    text
}
