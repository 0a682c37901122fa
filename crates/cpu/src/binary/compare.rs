//! Comparisons.

use cupola_core::{Layout, Shape, bf16, f16};

use super::{BLOCK, Lane, Stream, advance};
use crate::strided::Plan;
use crate::work::{PIECE, pieces};
use crate::{instantiate, isa};

/// A comparison of two numbers; every one but [`Comparison::Ne`] is false for NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// a = b.
    Eq,
    /// a differs from b.
    Ne,
    /// a < b.
    Lt,
    /// a <= b.
    Le,
    /// a > b.
    Gt,
    /// a >= b.
    Ge,
}

impl Comparison {
    /// The operation's name.
    pub const fn name(self) -> &'static str {
        match self {
            Comparison::Eq => "eq",
            Comparison::Ne => "ne",
            Comparison::Lt => "lt",
            Comparison::Le => "le",
            Comparison::Gt => "gt",
            Comparison::Ge => "ge",
        }
    }
}

fn block<C: Copy + PartialOrd>(op: Comparison, a: &[C], b: &[C], y: &mut [bool]) {
    #[inline(always)]
    fn each<C: Copy>(a: &[C], b: &[C], y: &mut [bool], test: impl Fn(C, C) -> bool) {
        y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = test(a, b));
    }
    match op {
        Comparison::Eq => each(a, b, y, |a, b| a == b),
        Comparison::Ne => each(a, b, y, |a, b| a != b),
        Comparison::Lt => each(a, b, y, |a, b| a < b),
        Comparison::Le => each(a, b, y, |a, b| a <= b),
        Comparison::Gt => each(a, b, y, |a, b| a > b),
        Comparison::Ge => each(a, b, y, |a, b| a >= b),
    }
}

#[track_caller]
fn compare_of<T: Lane>(
    op: Comparison,
    shape: Shape,
    (a, a_layout): (&[T], &Layout),
    (b, b_layout): (&[T], &Layout),
    y: &mut [bool],
) {
    let plan = Plan::new(shape, [a_layout, b_layout], op.name());
    assert_eq!(y.len(), shape.numel(), "{}: length of the result of shape {shape}", op.name());
    let isa = isa();
    let strides = plan.inner();
    pieces(y, PIECE, |first, y| {
        let (mut a, mut b) = (Stream::new(a, strides[0]), Stream::new(b, strides[1]));
        plan.runs(first, y.len(), |positions, at, count| {
            for step in (0..count).step_by(BLOCK) {
                let len = BLOCK.min(count - step);
                let [pa, pb] = advance(positions, strides, step);
                block(op, a.block(isa, pa, len), b.block(isa, pb, len), &mut y[at + step..][..len]);
            }
        });
    });
}

instantiate! {
    /// Element types that can be compared.
    Comparable: Lane, for [f64, f32, bf16, f16, i64, i32, u32, i8, u8] {
        /// y = op(a, b), element by element, where both operands broadcast to `shape`.
        ///
        /// # Panics
        /// When an operand does not broadcast to `shape`.
        fn compare(op: Comparison, shape: Shape, a: (&[T], &Layout), b: (&[T], &Layout), y: &mut [bool]) = compare_of;
    }
}
