//! Element-wise functions of two arguments with broadcasting.
//!
//! Operands are slices with a [`Layout`] that broadcasts to the shape of the result, which is contiguous. Floats compute as
//! [`crate::real`] says, integers modulo their range. Blocks of an operand that are not contiguous (a broadcast element, a
//! transposed row) are laid out in a block in the first-level cache, so that one compiled loop serves every layout.

pub mod compare;
mod lane;
#[cfg(test)]
mod tests;

pub use compare::{Comparison, compare};
pub(crate) use lane::{BLOCK, Stream, written};
pub use lane::{Integer, Lane};

use cupola_core::{Layout, Shape, bf16, f16};

use crate::real::Real;
use crate::strided::Plan;
use crate::tier::{Portable, Tier};
use crate::work::{PIECE, pieces};
use crate::{Isa, instantiate, isa, kernel, stream};

/// A function of two arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// a b.
    Mul,
    /// a / b; towards zero for integers.
    Div,
    /// a to the power b.
    Pow,
    /// The smaller; NaN when either is. At ties each side gets half of the gradient.
    Min,
    /// The larger; NaN when either is. At ties each side gets half of the gradient.
    Max,
}

impl Binary {
    /// The operation's name.
    pub const fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Pow => "pow",
            Binary::Min => "minimum",
            Binary::Max => "maximum",
        }
    }
}

/// Which operand a gradient belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    Left,
    /// The second.
    Right,
}

/// The compiled form of a function: what happens to one pair of elements.
#[doc(hidden)]
pub trait Pairwise: Copy + Send + Sync + 'static {
    fn real<I: Tier, R: Real>(a: R, b: R) -> R;
    fn integer<N: Integer>(a: N, b: N) -> N;
    /// dy times the derivative by a.
    fn left<I: Tier, R: Real>(dy: R, a: R, b: R) -> R;
    /// dy times the derivative by b.
    fn right<I: Tier, R: Real>(dy: R, a: R, b: R) -> R;
}

macro_rules! pairwise {
    ([$tier:ident, $real:ident] $(
        $name:ident: |$a:ident, $b:ident| $value:expr, |$m:ident, $n:ident| $integer:expr,
        |$dy:ident, $la:ident, $lb:ident| $left:expr, |$dz:ident, $ra:ident, $rb:ident| $right:expr;
    )*) => {$(
        #[derive(Clone, Copy)]
        struct $name;
        impl Pairwise for $name {
            #[inline(always)]
            fn real<$tier: Tier, $real: Real>($a: $real, $b: $real) -> $real { $value }
            #[inline(always)]
            fn integer<N: Integer>($m: N, $n: N) -> N { $integer }
            #[inline(always)]
            fn left<$tier: Tier, $real: Real>($dy: $real, $la: $real, $lb: $real) -> $real { $left }
            #[inline(always)]
            fn right<$tier: Tier, $real: Real>($dz: $real, $ra: $real, $rb: $real) -> $real { $right }
        }
    )*};
}

pairwise! { [I, R]
    Add: |a, b| a + b, |a, b| a.add(b), |dy, _a, _b| dy, |dy, _a, _b| dy;
    Sub: |a, b| a - b, |a, b| a.sub(b), |dy, _a, _b| dy, |dy, _a, _b| -dy;
    Mul: |a, b| a * b, |a, b| a.mul(b), |dy, _a, b| dy * b, |dy, a, _b| dy * a;
    Div: |a, b| a / b, |a, b| a.div(b), |dy, _a, b| dy / b, |dy, a, b| -(dy / b) * (a / b);
    Pow: |a, b| a.pow::<I>(b), |a, b| a.pow(b),
        |dy, a, b| {
            let slope = b * a.pow::<I>(b - R::ONE);
            dy * if b == R::ZERO { R::ZERO } else { slope }
        },
        |dy, a, b| {
            let slope = a.pow::<I>(b) * a.ln::<I>();
            // The limit at zero, where the product is 0 times infinity.
            dy * if a == R::ZERO && b >= R::ZERO { R::ZERO } else { slope }
        };
    Min: |a, b| a.smaller(b), |a, b| Ord::min(a, b),
        |dy, a, b| dy * share(a < b, a == b), |dy, a, b| dy * share(b < a, a == b);
    Max: |a, b| a.larger(b), |a, b| Ord::max(a, b),
        |dy, a, b| dy * share(a > b, a == b), |dy, a, b| dy * share(b > a, a == b);
}

#[inline(always)]
fn share<R: Real>(chosen: bool, tie: bool) -> R {
    let half = if tie { R::of(0.5) } else { R::ZERO };
    if chosen { R::ONE } else { half }
}

kernel! {
    fn apply_f32[I; O: Pairwise](a: &[f32], b: &[f32], y: &mut [f32], streams: bool) {
        let block = |at: usize, y: &mut [f32]| {
            for ((y, &a), &b) in y.iter_mut().zip(&a[at..]).zip(&b[at..]) {
                *y = O::real::<I, f32>(a, b);
            }
        };
        if streams { stream::computed::<I>(y, block) } else { block(0, y) }
    }
    fn left_f32[I; O: Pairwise](dy: &[f32], a: &[f32], b: &[f32], da: &mut [f32]) {
        for (((da, &dy), &a), &b) in da.iter_mut().zip(dy).zip(a).zip(b) {
            *da = O::left::<I, f32>(dy, a, b);
        }
    }
    fn right_f32[I; O: Pairwise](dy: &[f32], a: &[f32], b: &[f32], db: &mut [f32]) {
        for (((db, &dy), &a), &b) in db.iter_mut().zip(dy).zip(a).zip(b) {
            *db = O::right::<I, f32>(dy, a, b);
        }
    }
}

/// A compiled function of two blocks; whether its results are larger than the caches.
type Apply<C> = fn(Isa, &[C], &[C], &mut [C], bool);
/// A compiled gradient of two blocks.
type Slope<C> = fn(Isa, Side, &[C], &[C], &[C], &mut [C]);

/// A type that functions of two arguments are computed in.
trait Compute: Copy + Default {
    fn apply<O: Pairwise>(isa: Isa, a: &[Self], b: &[Self], y: &mut [Self], streams: bool);
}

impl Compute for f32 {
    fn apply<O: Pairwise>(isa: Isa, a: &[f32], b: &[f32], y: &mut [f32], streams: bool) {
        apply_f32::<O>(isa, a, b, y, streams)
    }
}

impl Compute for f64 {
    fn apply<O: Pairwise>(_: Isa, a: &[f64], b: &[f64], y: &mut [f64], _: bool) {
        y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = O::real::<Portable, f64>(a, b));
    }
}

macro_rules! integer_compute {
    ($($type:ty),*) => {$(
        impl Compute for $type {
            fn apply<O: Pairwise>(_: Isa, a: &[$type], b: &[$type], y: &mut [$type], _: bool) {
                y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = O::integer(a, b));
            }
        }
    )*};
}
integer_compute!(i64, i32, u32, i8, u8);

/// As [`Compute`], for gradients.
trait Slopes: Compute {
    fn slope<O: Pairwise>(isa: Isa, side: Side, dy: &[Self], a: &[Self], b: &[Self], out: &mut [Self]);
}

impl Slopes for f32 {
    fn slope<O: Pairwise>(isa: Isa, side: Side, dy: &[f32], a: &[f32], b: &[f32], out: &mut [f32]) {
        match side {
            Side::Left => left_f32::<O>(isa, dy, a, b, out),
            Side::Right => right_f32::<O>(isa, dy, a, b, out),
        }
    }
}

impl Slopes for f64 {
    fn slope<O: Pairwise>(_: Isa, side: Side, dy: &[f64], a: &[f64], b: &[f64], out: &mut [f64]) {
        for (((out, &dy), &a), &b) in out.iter_mut().zip(dy).zip(a).zip(b) {
            *out = match side {
                Side::Left => O::left::<Portable, f64>(dy, a, b),
                Side::Right => O::right::<Portable, f64>(dy, a, b),
            };
        }
    }
}

/// `$type::$method::<Function>` of the function that `op` names.
macro_rules! compiled {
    ($op:expr, $type:ty, $method:ident) => {
        match $op {
            Binary::Add => <$type>::$method::<Add>,
            Binary::Sub => <$type>::$method::<Sub>,
            Binary::Mul => <$type>::$method::<Mul>,
            Binary::Div => <$type>::$method::<Div>,
            Binary::Pow => <$type>::$method::<Pow>,
            Binary::Min => <$type>::$method::<Min>,
            Binary::Max => <$type>::$method::<Max>,
        }
    };
}

#[track_caller]
fn forward_of<T: Lane<Compute: Compute>>(
    op: Binary,
    shape: Shape,
    (a, a_layout): (&[T], &Layout),
    (b, b_layout): (&[T], &Layout),
    y: &mut [T],
) {
    let plan = Plan::new(shape, [a_layout, b_layout], op.name());
    assert_eq!(y.len(), shape.numel(), "{}: length of the result of shape {shape}", op.name());
    let apply: Apply<T::Compute> = compiled!(op, T::Compute, apply);
    forward_loop(&plan, apply, a, b, y)
}

fn forward_loop<T: Lane>(plan: &Plan<2>, apply: Apply<T::Compute>, a: &[T], b: &[T], y: &mut [T]) {
    let isa = isa();
    let strides = plan.inner();
    // Only results that are not narrowed afterwards are stored by the function itself.
    let streams = stream::streams(y) && T::direct(&[]).is_some();
    pieces(y, PIECE, |first, y| {
        let (mut a, mut b) = (Stream::new(a, strides[0]), Stream::new(b, strides[1]));
        let mut buffer = [T::Compute::default(); BLOCK];
        plan.runs(first, y.len(), |positions, at, count| {
            for step in (0..count).step_by(BLOCK) {
                let len = BLOCK.min(count - step);
                let [pa, pb] = advance(positions, strides, step);
                let (a, b) = (a.block(isa, pa, len), b.block(isa, pb, len));
                written(isa, &mut y[at + step..][..len], &mut buffer, |y| apply(isa, a, b, y, streams));
            }
        });
        if streams {
            stream::finish();
        }
    });
}

#[inline(always)]
pub(crate) fn advance<const N: usize>(positions: [usize; N], strides: [isize; N], steps: usize) -> [usize; N] {
    std::array::from_fn(|k| (positions[k] as isize + strides[k] * steps as isize) as usize)
}

#[track_caller]
fn assign_of<T: Lane<Compute: Compute>>(
    op: Binary,
    a: &mut [T],
    shape: Shape,
    (b, b_layout): (&[T], &Layout),
    swapped: bool,
) {
    let plan = Plan::new(shape, [&Layout::contiguous(shape), b_layout], op.name());
    assert_eq!(a.len(), shape.numel(), "{}: length of the operand of shape {shape}", op.name());
    let apply: Apply<T::Compute> = compiled!(op, T::Compute, apply);
    assign_loop(&plan, apply, a, b, swapped)
}

fn assign_loop<T: Lane>(plan: &Plan<2>, apply: Apply<T::Compute>, a: &mut [T], b: &[T], swapped: bool) {
    let isa = isa();
    let strides = plan.inner();
    pieces(a, PIECE, |first, a| {
        let mut b = Stream::new(b, strides[1]);
        let (mut old, mut buffer) = ([T::Compute::default(); BLOCK], [T::Compute::default(); BLOCK]);
        plan.runs(first, a.len(), |positions, at, count| {
            for step in (0..count).step_by(BLOCK) {
                let a = &mut a[at + step..][..BLOCK.min(count - step)];
                let old = &mut old[..a.len()];
                T::up_all(isa, a, old);
                let b = b.block(isa, advance(positions, strides, step)[1], a.len());
                let (left, right) = if swapped { (b, &*old) } else { (&*old, b) };
                written(isa, a, &mut buffer, |a| apply(isa, left, right, a, false));
            }
        });
    });
}

#[track_caller]
fn backward_of<T: Lane<Compute: Slopes>>(
    op: Binary,
    side: Side,
    shape: Shape,
    dy: &[T],
    (a, a_layout): (&[T], &Layout),
    (b, b_layout): (&[T], &Layout),
    out: &mut [T],
) {
    let plan = Plan::new(shape, [&Layout::contiguous(shape), a_layout, b_layout], op.name());
    assert_eq!(dy.len(), shape.numel(), "{}: length of dy of shape {shape}", op.name());
    assert_eq!(out.len(), shape.numel(), "{}: length of the gradient of shape {shape}", op.name());
    let slope: Slope<T::Compute> = compiled!(op, T::Compute, slope);
    backward_loop(&plan, slope, side, dy, a, b, out)
}

fn backward_loop<T: Lane>(
    plan: &Plan<3>,
    slope: Slope<T::Compute>,
    side: Side,
    dy: &[T],
    a: &[T],
    b: &[T],
    out: &mut [T],
) {
    let isa = isa();
    let strides = plan.inner();
    pieces(out, PIECE, |first, out| {
        let (mut dy, mut a, mut b) = (Stream::new(dy, 1), Stream::new(a, strides[1]), Stream::new(b, strides[2]));
        let mut buffer = [T::Compute::default(); BLOCK];
        plan.runs(first, out.len(), |positions, at, count| {
            for step in (0..count).step_by(BLOCK) {
                let len = BLOCK.min(count - step);
                let [_, pa, pb] = advance(positions, strides, step);
                let dy = dy.block(isa, first + at + step, len);
                let (a, b) = (a.block(isa, pa, len), b.block(isa, pb, len));
                let out = &mut out[at + step..][..len];
                written(isa, out, &mut buffer, |out| slope(isa, side, dy, a, b, out));
            }
        });
    });
}

instantiate! {
    /// Element types with arithmetic.
    Arithmetic: Lane, for [f64, f32, bf16, f16, i64, i32, u32, i8, u8] {
        /// y = op(a, b), element by element, where both operands broadcast to `shape`.
        ///
        /// # Panics
        /// When an operand does not broadcast to `shape`, or an integer is divided by zero.
        fn forward(op: Binary, shape: Shape, a: (&[T], &Layout), b: (&[T], &Layout), y: &mut [T]) = forward_of;
        /// a = op(a, b), or op(b, a) when `swapped`; `a` is contiguous of the shape `shape`, to which b broadcasts.
        ///
        /// # Panics
        /// As [`forward`].
        fn assign(op: Binary, a: &mut [T], shape: Shape, b: (&[T], &Layout), swapped: bool) = assign_of;
    }
}

instantiate! {
    /// Element types that carry gradients.
    Differentiable: Lane, for [f64, f32, bf16, f16] {
        /// The gradient of `side`'s operand before it is summed over broadcast dimensions: dy times the derivative of
        /// op(a, b), in the shape of the result.
        ///
        /// # Panics
        /// When an operand does not broadcast to `shape`.
        fn backward(
            op: Binary,
            side: Side,
            shape: Shape,
            dy: &[T],
            a: (&[T], &Layout),
            b: (&[T], &Layout),
            out: &mut [T],
        ) = backward_of;
    }
}
