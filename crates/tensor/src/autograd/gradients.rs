//! Gradients of leaves.

use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::OnceLock;

use crate::autograd::backward::pass_through;
use crate::autograd::graph::{Edge, Meta};
use crate::autograd::rows::Rows;
use crate::mode;
use crate::tensor::Tensor;

/// The gradients that a backward pass found, one for each leaf it reached.
///
/// Iteration is in the order in which the leaves were made, so that sums over all gradients (a norm) have the same bits in
/// every run.
///
/// A leaf that a pass uses several times (a tied weight) has a sum of its own for each use, and its gradient is the sum of these:
/// so passes over the parts of a batch add up to the bits of one pass over all of it. The same holds for fixed functions of a leaf
/// ([`crate::Op::fixed`]), a view or an exponential: what has been collected goes through them once. All is put together when the
/// gradients are settled, first changed or taken out.
#[derive(Clone, Default)]
pub struct Gradients {
    by_leaf: BTreeMap<u64, Entry>,
}

/// What a leaf has collected.
#[derive(Clone, Default)]
struct Entry {
    /// By use; `None` while a rule adds to it.
    parts: Vec<Option<Part>>,
    /// The sum of several parts, once somebody has asked for it.
    sum: OnceLock<Tensor>,
}

/// What one use of a leaf has collected.
#[derive(Clone)]
struct Part {
    sum: Sum,
    /// Where it is not the leaf that was read but a fixed function of it: what leads there.
    through: Option<Edge>,
}

/// A gradient that more may be added to.
#[derive(Clone)]
enum Sum {
    Whole(Tensor),
    Rows(Rows),
}

impl Sum {
    fn into_whole(self) -> Tensor {
        match self {
            Sum::Whole(sum) => sum,
            Sum::Rows(rows) => rows.into_tensor(),
        }
    }

    fn plus(self, other: Sum) -> Sum {
        Sum::Whole(match (self, other) {
            (Sum::Whole(sum), Sum::Rows(rows)) | (Sum::Rows(rows), Sum::Whole(sum)) => rows.added_to(sum),
            (Sum::Rows(some), Sum::Rows(others)) => others.added_to(some.into_tensor()),
            (Sum::Whole(sum), Sum::Whole(other)) => sum.accumulate(&other),
        })
    }
}

impl Part {
    fn whole(sum: Tensor) -> Self {
        Self { sum: Sum::Whole(sum), through: None }
    }

    /// The gradient of the leaf itself.
    fn into_grad(self) -> Sum {
        match self.through {
            Some(edge) => Sum::Whole(pass_through(&edge, self.sum.into_whole())),
            None => self.sum,
        }
    }

    /// Whether more that comes by `edge` can be added to the sum as it is.
    fn takes(&self, edge: &Edge) -> bool {
        self.through.as_ref().map_or(edge.node.is_leaf(), |own| own.is_like(edge))
    }
}

impl Entry {
    fn of(grad: Tensor) -> Self {
        Self { parts: vec![Some(Part::whole(grad))], sum: OnceLock::new() }
    }

    /// What the use of this number has collected.
    fn part(&mut self, number: usize) -> &mut Option<Part> {
        if self.parts.len() <= number {
            self.parts.resize(number + 1, None);
        }
        &mut self.parts[number]
    }

    fn get(&self) -> Option<&Tensor> {
        let mut parts = self.parts.iter().flatten();
        let first = parts.next()?;
        if let (Part { sum: Sum::Whole(sum), through: None }, None) = (first, parts.next()) {
            return Some(sum);
        }
        Some(self.sum.get_or_init(|| {
            let _paused = mode::pause_recording();
            self.clone().into_sum().expect("there are parts")
        }))
    }

    fn into_sum(self) -> Option<Tensor> {
        if let Some(sum) = self.sum.into_inner() {
            return Some(sum);
        }
        self.parts.into_iter().flatten().map(Part::into_grad).reduce(Sum::plus).map(Sum::into_whole)
    }

    /// The gradient in one part.
    fn whole(&mut self) -> Option<&mut Tensor> {
        if !matches!(self.parts[..], [] | [None | Some(Part { sum: Sum::Whole(_), through: None })]) {
            let _paused = mode::pause_recording();
            self.parts = vec![std::mem::take(self).into_sum().map(Part::whole)];
        }
        match self.parts.first_mut()?.as_mut()? {
            Part { sum: Sum::Whole(sum), .. } => Some(sum),
            Part { sum: Sum::Rows(_), .. } => unreachable!("the parts were put together"),
        }
    }
}

impl Gradients {
    /// No gradients yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The gradient of `leaf`; `None` when it is no leaf or no gradient reached it.
    pub fn get(&self, leaf: &Tensor) -> Option<&Tensor> {
        self.get_id(leaf.leaf_id()?)
    }

    /// The gradient of the leaf with this [`Tensor::leaf_id`].
    pub fn get_id(&self, leaf: u64) -> Option<&Tensor> {
        self.by_leaf.get(&leaf)?.get()
    }

    /// Sets the gradient of `leaf`, returning the former one.
    ///
    /// # Panics
    /// When `leaf` is not a leaf or the shapes differ.
    #[track_caller]
    pub fn insert(&mut self, leaf: &Tensor, grad: Tensor) -> Option<Tensor> {
        let id = leaf.leaf_id().expect("gradients are kept for tensors made by requires_grad");
        assert_eq!(leaf.shape(), grad.shape(), "a gradient has its leaf's shape");
        self.by_leaf.insert(id, Entry::of(grad)).and_then(Entry::into_sum)
    }

    /// Takes the gradient of `leaf` out.
    pub fn remove(&mut self, leaf: &Tensor) -> Option<Tensor> {
        self.take(leaf.leaf_id()?)
    }

    /// How many leaves have a gradient.
    pub fn len(&self) -> usize {
        self.by_leaf.len()
    }

    /// Whether no leaf has a gradient.
    pub fn is_empty(&self) -> bool {
        self.by_leaf.is_empty()
    }

    /// All gradients with their leaf's identity, in the order in which the leaves were made.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Tensor)> {
        self.by_leaf.iter().filter_map(|(&id, entry)| Some((id, entry.get()?)))
    }

    /// All gradients, for changing them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Tensor)> {
        self.by_leaf.iter_mut().filter_map(|(&id, entry)| Some((id, entry.whole()?)))
    }

    /// Adds `grad`, which comes by `edge`, to what leaf `id` has collected by its use of this number, in place where possible.
    pub(crate) fn add(&mut self, id: u64, number: usize, grad: Tensor, edge: &Edge) {
        let entry = self.by_leaf.entry(id).or_default();
        entry.sum.take();
        let place = entry.part(number);
        let new = Part { sum: Sum::Whole(grad), through: (!edge.node.is_leaf()).then(|| edge.clone()) };
        *place = Some(match place.take() {
            None => new,
            Some(part) if part.takes(edge) => Part { sum: part.sum.plus(new.sum), through: part.through },
            // This pass reads the leaf in another way than an earlier one.
            Some(part) => Part { sum: part.into_grad().plus(new.into_grad()), through: None },
        });
    }

    /// Adds rows of a gradient to what leaf `id`, a table, has collected by its use of this number: row k of `dy` to row `indices[k]`.
    /// `false` where that cannot be kept by rows.
    pub(crate) fn add_rows(&mut self, id: u64, number: usize, table: Meta, dy: &Tensor, indices: &[i64]) -> bool {
        if !Rows::suit(table) {
            return false;
        }
        let entry = self.by_leaf.entry(id).or_default();
        let place = entry.part(number);
        let rows = match place.take() {
            None => Rows::new(table),
            Some(Part { sum: Sum::Rows(rows), through: None }) => rows,
            whole => {
                *place = whole;
                return false;
            }
        };
        *place = Some(Part { sum: Sum::Rows(rows.add(dy, indices)), through: None });
        entry.sum.take();
        true
    }

    /// Takes out what leaf `id` has collected by its use of this number, to be added to in place and given back to [`Gradients::add`]
    /// with the same edge.
    pub(crate) fn lend(&mut self, id: u64, number: usize, edge: &Edge) -> Option<Tensor> {
        let entry = self.by_leaf.get_mut(&id)?;
        entry.sum.take();
        let part = entry.parts.get_mut(number)?.take_if(|part| part.takes(edge))?;
        Some(part.sum.into_whole())
    }

    /// Takes the gradient of leaf `id` out.
    pub(crate) fn take(&mut self, id: u64) -> Option<Tensor> {
        self.by_leaf.remove(&id)?.into_sum()
    }

    /// Puts the sums of each leaf's uses together, which frees their memory: what comes behind the last pass need not wait for it.
    pub fn settle(&mut self) {
        self.by_leaf.values_mut().for_each(|entry| {
            entry.whole();
        });
    }
}

impl Index<&Tensor> for Gradients {
    type Output = Tensor;

    /// # Panics
    /// When `leaf` has no gradient.
    fn index(&self, leaf: &Tensor) -> &Tensor {
        let shape = leaf.shape();
        match self.get(leaf) {
            Some(grad) => grad,
            None if leaf.is_leaf() => panic!("no gradient reached the leaf of shape {shape}"),
            None => panic!(
                "the tensor of shape {shape} is not a leaf; gradients are kept for tensors made by requires_grad"
            ),
        }
    }
}
