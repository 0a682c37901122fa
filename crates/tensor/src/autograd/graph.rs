//! The graph that operations record.
//!
//! Every recorded operation is one [`Node`] with edges to the nodes of its inputs. Nodes are numbered as they are made, so a
//! node's number is larger than those of all nodes it depends on: descending numbers are a topological order, and no walk
//! over a graph needs recursion. That holds for dropping too: a chain of 200,000 nodes is taken apart in a loop.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cupola_core::{DType, Shape};

use crate::op::{Backward, InputGrads, Kept, Saved};
use crate::tensor::Tensor;

/// Shape and dtype of a tensor, without its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The dimensions.
    pub shape: Shape,
    /// The element type.
    pub dtype: DType,
}

impl Meta {
    /// Of this tensor.
    pub fn of(tensor: &Tensor) -> Self {
        Self { shape: *tensor.shape(), dtype: tensor.dtype() }
    }
}

/// The backward rule of one recorded operation, with its type erased.
pub(crate) trait Rule: Send + Sync {
    fn name(&self) -> &'static str;
    fn backward(&self, context: &mut Backward<'_>) -> InputGrads;
    /// See [`crate::Op::fixed`].
    fn fixed(&self) -> Option<u64> {
        None
    }
    fn recomputes(&self) -> bool {
        false
    }
    fn recompute(&self, saved: &[Option<Tensor>]) -> Tensor {
        let _ = saved;
        unreachable!("{}: its result is not computed again", self.name())
    }
}

/// An output of a node.
#[derive(Clone)]
pub(crate) struct Edge {
    pub node: Arc<Node>,
    pub output: usize,
}

impl Edge {
    pub fn leaf(tensor: &Tensor) -> Self {
        let node = Node::new(None, Vec::new(), Saved::default(), Vec::new(), vec![Meta::of(tensor)]);
        Self { node, output: 0 }
    }

    /// Whether both lead to the same leaf through the same functions of it, which have the same derivatives: the leaf may have got other
    /// values in between.
    pub fn is_like(&self, other: &Edge) -> bool {
        let (mut a, mut b) = (self.node.clone(), other.node.clone());
        while !Arc::ptr_eq(&a, &b) {
            let (Some(left), Some(right)) = (a.rule(), b.rule()) else { return false };
            let same = (left.name(), left.fixed(), &a.outputs) == (right.name(), right.fixed(), &b.outputs);
            if !same || !a.has_saved_what(&b) {
                return false;
            }
            let (Some(next), Some(other)) = (a.only_parent(), b.only_parent()) else { return false };
            (a, b) = (next, other);
        }
        true
    }
}

/// One recorded operation, or a leaf.
pub struct Node {
    id: u64,
    rule: Option<Box<dyn Rule>>,
    body: Mutex<Body>,
    pub(crate) inputs: Vec<Meta>,
    pub(crate) outputs: Vec<Meta>,
}

/// What backward uses up: the edges to the inputs (`None` where no gradient is needed) and the saved tensors.
#[derive(Default)]
pub(crate) struct Body {
    pub edges: Vec<Option<Edge>>,
    pub saved: Saved,
    pub released: bool,
    /// The result, computed again, until the node's own backward.
    pub again: Option<Tensor>,
}

/// Fixed functions one after the other that count as one use of a leaf at most.
const MOST_FUNCTIONS: usize = 6;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Node {
    pub(crate) fn new(
        rule: Option<Box<dyn Rule>>,
        edges: Vec<Option<Edge>>,
        saved: Saved,
        inputs: Vec<Meta>,
        outputs: Vec<Meta>,
    ) -> Arc<Self> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let body = Mutex::new(Body { edges, saved, released: false, again: None });
        Arc::new(Self { id, rule, body, inputs, outputs })
    }

    /// The node's number; larger than those of the nodes it depends on.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether this is a tensor that gradients are wanted for, not an operation.
    pub fn is_leaf(&self) -> bool {
        self.rule.is_none()
    }

    /// The leaf that this is, or is a fixed function of: of a few steps at most, so that asking costs little in any graph.
    pub(crate) fn leaf(&self) -> Option<u64> {
        let Some(rule) = &self.rule else { return Some(self.id) };
        rule.fixed()?;
        let mut node = self.only_parent()?;
        for _ in 1..MOST_FUNCTIONS {
            let Some(rule) = node.rule() else { break };
            rule.fixed()?;
            let next = node.only_parent()?;
            node = next;
        }
        node.is_leaf().then_some(node.id)
    }

    /// Whether this and another node keep tensors of the same bits.
    fn has_saved_what(&self, other: &Self) -> bool {
        let kept = |node: &Self| node.body().saved.kept().iter().map(Kept::share).collect::<Vec<_>>();
        let (own, others) = (kept(self), kept(other));
        let same = |(a, b): (&Kept, &Kept)| matches!((a, b), (Kept::Tensor(a), Kept::Tensor(b)) if a.same_bits(b));
        own.len() == others.len() && own.iter().zip(&others).all(same)
    }

    fn only_parent(&self) -> Option<Arc<Node>> {
        match &self.body().edges[..] {
            [Some(edge)] => Some(edge.node.clone()),
            _ => None,
        }
    }

    /// The operation's name, `"leaf"` for leaves.
    pub fn name(&self) -> &'static str {
        self.rule.as_ref().map_or("leaf", |rule| rule.name())
    }

    /// The nodes that this one needs gradients passed on to.
    pub fn parents(&self) -> Vec<Arc<Node>> {
        self.body().edges.iter().flatten().map(|edge| edge.node.clone()).collect()
    }

    /// Bytes of the tensors saved for backward, as far as this node is concerned: a buffer saved twice counts twice.
    pub fn saved_bytes(&self) -> usize {
        self.body().saved.tensors().map(|t| t.numel() * t.dtype().size()).sum()
    }

    /// The tensors saved for backward, without those that will be computed again.
    pub fn saved(&self) -> Vec<Tensor> {
        self.body().saved.tensors().cloned().collect()
    }

    /// The only output, computed again from what was saved, the first time it is asked for.
    pub(crate) fn recomputed(&self) -> Tensor {
        let rule = self.rule().expect("only an operation's result is computed again");
        let saved = {
            let body = self.body();
            if let Some(again) = &body.again {
                return again.clone();
            }
            body.saved.by_position()
        };
        let again = rule.recompute(&saved);
        self.body().again = Some(again.clone());
        again
    }

    /// Every node that this one keeps alive.
    fn take_nodes(&mut self) -> Vec<Arc<Node>> {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        let edges = std::mem::take(&mut body.edges).into_iter().flatten().map(|edge| edge.node);
        edges.chain(body.saved.take_nodes()).collect()
    }

    pub(crate) fn rule(&self) -> Option<&dyn Rule> {
        self.rule.as_deref()
    }

    pub(crate) fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name(), self.id)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut doomed = self.take_nodes();
        while let Some(node) = doomed.pop() {
            // The last holder takes over what the node holds itself, so that dropping it recurses no further.
            if let Some(mut node) = Arc::into_inner(node) {
                doomed.append(&mut node.take_nodes());
            }
        }
    }
}
