//! Gated linear units (Shazeer, "GLU variants improve transformer", 2020): y = f(a) b.
//!
//! da = dy b f'(a), db = dy f(a). Both halves are rows of `width` elements at a stride of their own, so that they may lie
//! side by side in one matrix `[N, 2 width]` or in two.

use cupola_core::pool::Parts;
use cupola_core::{bf16, f16};

use crate::real::{Number, Real};
use crate::rows::{loaded, scratch, stored};
use crate::unary::{Gelu, GeluTanh, Relu, Sigmoid, Silu, Unary};
use crate::work::{parallel_for, rows_per_piece};
use crate::{Isa, instantiate, isa, kernel};

/// The function on the gating half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// SwiGLU: a sigmoid(a).
    Silu,
    /// GEGLU: a times the normal distribution function of a.
    Gelu,
    /// GEGLU with the tanh form of GELU.
    GeluTanh,
    /// The gated linear unit of Dauphin et al. (2017).
    Sigmoid,
    /// ReGLU.
    Relu,
}

kernel! {
    fn forward_row[I; R: Real, F: Gating](a: &[R], b: &[R], y: &mut [R]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = F::OP.value::<I, R>(a) * b;
        }
    }
    fn backward_row[I; R: Real, F: Gating](a: &[R], b: &[R], dy: &[R], da: &mut [R], db: &mut [R]) {
        for ((((da, db), &a), &b), &dy) in da.iter_mut().zip(db).zip(a).zip(b).zip(dy) {
            let (value, slope) = F::both::<I, R>(a);
            *da = dy * b * slope;
            *db = dy * value;
        }
    }
}

/// A function as a gate: its value and slope, both from the input.
trait Gating: Unary {
    const OP: Self;
    fn both<I: crate::tier::Tier, R: Real>(a: R) -> (R, R);
}

macro_rules! gates {
    ([$tier:ident, $real:ident] $($name:ident: |$a:ident| $both:expr;)*) => {$(
        impl Gating for $name {
            const OP: Self = $name;
            #[inline(always)]
            fn both<$tier: crate::tier::Tier, $real: Real>($a: $real) -> ($real, $real) { $both }
        }
    )*};
}
gates! { [I, R]
    Silu: |a| {
        let s = a.sigmoid::<I>();
        (a * s, s * a.fma::<I>(R::ONE - s, R::ONE))
    };
    Gelu: |a| {
        let (distribution, density) = a.normal::<I>();
        (a * distribution, a.fma::<I>(density, distribution))
    };
    GeluTanh: |a| (GeluTanh.value::<I, R>(a), GeluTanh.slope::<I, R>(a));
    Sigmoid: |a| {
        let s = a.sigmoid::<I>();
        (s, s * (R::ONE - s))
    };
    Relu: |a| (Relu.value::<I, R>(a), Relu.slope::<I, R>(a));
}

/// `$kernel` compiled for the function that a gate names.
macro_rules! compiled {
    ($gate:expr, $kernel:ident, $real:ty) => {
        match $gate {
            Gate::Silu => $kernel::<$real, Silu>,
            Gate::Gelu => $kernel::<$real, Gelu>,
            Gate::GeluTanh => $kernel::<$real, GeluTanh>,
            Gate::Sigmoid => $kernel::<$real, Sigmoid>,
            Gate::Relu => $kernel::<$real, Relu>,
        }
    };
}

type Forward<R> = fn(Isa, &[R], &[R], &mut [R]);
type Backward<R> = fn(Isa, &[R], &[R], &[R], &mut [R], &mut [R]);

/// Row `row` of `width` elements of a half.
#[inline(always)]
fn row_of<T>(half: (&[T], usize), row: usize, width: usize) -> &[T] {
    &half.0[row * half.1..row * half.1 + width]
}

#[track_caller]
fn check<T>(what: &str, half: (&[T], usize), rows: usize, width: usize) {
    let fits = rows == 0 || half.0.len() >= (rows - 1) * half.1 + width;
    assert!(
        fits && half.1 >= width,
        "glu: {rows} rows of {width} at a stride of {} in {what} of {}",
        half.1,
        half.0.len()
    );
}

#[track_caller]
fn forward_of<T: Number>(gate: Gate, a: (&[T], usize), b: (&[T], usize), width: usize, y: &mut [T]) {
    assert!(y.len().is_multiple_of(width.max(1)), "glu: {} elements are no rows of {width}", y.len());
    let rows = y.len() / width.max(1);
    check("a", a, rows, width);
    check("b", b, rows, width);
    if y.is_empty() {
        return;
    }
    let run: Forward<T::Real> = compiled!(gate, forward_row, T::Real);
    let isa = isa();
    crate::work::pieces(y, rows_per_piece(width) * width, |first, y| {
        let [mut wide_a, mut wide_b, mut result] = [(); 3].map(|()| scratch::<T>(width));
        for (k, y) in y.chunks_mut(width).enumerate() {
            let row = first / width + k;
            let a = loaded(isa, row_of(a, row, width), &mut wide_a);
            let b = loaded(isa, row_of(b, row, width), &mut wide_b);
            stored(isa, y, &mut result, |y| run(isa, a, b, y));
        }
    });
}

#[track_caller]
fn backward_of<T: Number>(
    gate: Gate,
    a: (&[T], usize),
    b: (&[T], usize),
    width: usize,
    dy: &[T],
    da: &mut [T],
    db: &mut [T],
) {
    assert!(dy.len().is_multiple_of(width.max(1)), "glu: {} elements are no rows of {width}", dy.len());
    assert_eq!((da.len(), db.len()), (dy.len(), dy.len()), "glu: lengths of the gradients");
    let rows = dy.len() / width.max(1);
    check("a", a, rows, width);
    check("b", b, rows, width);
    if dy.is_empty() {
        return;
    }
    let run: Backward<T::Real> = compiled!(gate, backward_row, T::Real);
    let isa = isa();
    let size = rows_per_piece(width) * width;
    crate::work::pieces2((da, size), (db, size), |first, da, db| {
        let [mut wide_a, mut wide_b, mut wide_dy, mut out_a, mut out_b] = [(); 5].map(|()| scratch::<T>(width));
        for (k, (da, db)) in da.chunks_mut(width).zip(db.chunks_mut(width)).enumerate() {
            let row = first / width + k;
            let a = loaded(isa, row_of(a, row, width), &mut wide_a);
            let b = loaded(isa, row_of(b, row, width), &mut wide_b);
            let dy = loaded(isa, &dy[row * width..(row + 1) * width], &mut wide_dy);
            stored(isa, da, &mut out_a, |da| stored(isa, db, &mut out_b, |db| run(isa, a, b, dy, da, db)));
        }
    });
}

#[track_caller]
fn backward_packed_of<T: Number>(gate: Gate, x: &[T], width: usize, dy: &[T], dx: &mut [T]) {
    assert!(dy.len().is_multiple_of(width.max(1)), "glu: {} elements are no rows of {width}", dy.len());
    assert_eq!((x.len(), dx.len()), (2 * dy.len(), 2 * dy.len()), "glu: lengths of x and dx");
    if dy.is_empty() {
        return;
    }
    let run: Backward<T::Real> = compiled!(gate, backward_row, T::Real);
    let isa = isa();
    let parts = Parts::new(dx, rows_per_piece(width) * 2 * width);
    let piece = |index: usize| {
        let (first, dx) = parts.take(index);
        let [mut wide_a, mut wide_b, mut wide_dy, mut out_a, mut out_b] = [(); 5].map(|()| scratch::<T>(width));
        for (k, dx) in dx.chunks_mut(2 * width).enumerate() {
            let row = first / (2 * width) + k;
            let (a, b) = x[row * 2 * width..(row + 1) * 2 * width].split_at(width);
            let (da, db) = dx.split_at_mut(width);
            let (a, b) = (loaded(isa, a, &mut wide_a), loaded(isa, b, &mut wide_b));
            let dy = loaded(isa, &dy[row * width..(row + 1) * width], &mut wide_dy);
            stored(isa, da, &mut out_a, |da| stored(isa, db, &mut out_b, |db| run(isa, a, b, dy, da, db)));
        }
    };
    if parts.len() <= 2 { (0..parts.len()).for_each(piece) } else { parallel_for(parts.len(), &piece) }
}

instantiate! {
    /// Elements that gated units work on.
    Glu: Number, for [f64, f32, bf16, f16] {
        /// y = f(a) b, where a and b are (elements, stride of rows) and y is contiguous `[N, width]`.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn forward(gate: Gate, a: (&[T], usize), b: (&[T], usize), width: usize, y: &mut [T]) = forward_of;
        /// da and db, both contiguous `[N, width]`.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn backward(
            gate: Gate,
            a: (&[T], usize),
            b: (&[T], usize),
            width: usize,
            dy: &[T],
            da: &mut [T],
            db: &mut [T],
        ) = backward_of;
        /// dx of `x [N, 2 width]` that holds a and b side by side.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn backward_packed(gate: Gate, x: &[T], width: usize, dy: &[T], dx: &mut [T]) = backward_packed_of;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, each_tier_same_on_threads, normal, tolerance};

    fn formula(gate: Gate, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match gate {
            Gate::Silu => x * sigmoid(x),
            Gate::Gelu => 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
            Gate::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Gate::Sigmoid => sigmoid(x),
            Gate::Relu => x.max(0.0),
        }
    }

    fn check_type<T: Glu<T>>() {
        for (rows, width) in [(0, 3), (3, 1), (70, 31), (5, 33), (2, 65), (600, 257)] {
            let x: Vec<T> = normal(rows * 2 * width, 1.5, 1);
            let dy: Vec<T> = normal(rows * width, 1.0, 2);
            for gate in [Gate::Silu, Gate::Gelu, Gate::GeluTanh, Gate::Sigmoid, Gate::Relu] {
                let (mut y, mut da, mut db) = (vec![], vec![], vec![]);
                for (row, dy) in x.chunks(2 * width).zip(dy.chunks(width)) {
                    for ((a, b), dy) in row[..width].iter().zip(&row[width..]).zip(dy) {
                        let (a, b, dy) = (a.to_f64(), b.to_f64(), dy.to_f64());
                        let slope = (formula(gate, a + 1e-6) - formula(gate, a - 1e-6)) / 2e-6;
                        y.push(formula(gate, a) * b);
                        da.push(dy * b * slope);
                        db.push(dy * formula(gate, a));
                    }
                }
                for (value, ga, gb, packed) in each_tier_same_on_threads(|| {
                    let mut out = [(); 3].map(|()| vec![T::default(); dy.len()]);
                    let mut packed = vec![T::default(); x.len()];
                    let [value, ga, gb] = &mut out;
                    let (a, b) = ((&x[..], 2 * width), (&x[width.min(x.len())..], 2 * width));
                    forward(gate, a, b, width, value);
                    backward(gate, a, b, width, &dy, ga, gb);
                    backward_packed(gate, &x, width, &dy, &mut packed);
                    let [value, ga, gb] = out;
                    (value, ga, gb, packed)
                }) {
                    let bound = tolerance::<T>();
                    let what = format!("{gate:?} {} {rows}x{width}", T::DTYPE);
                    close(&value, &y, bound, &what);
                    close(&ga, &da, bound.max(1e-8), &format!("{what} da"));
                    close(&gb, &db, bound, &format!("{what} db"));
                    for (row, packed) in packed.chunks(2 * width).enumerate() {
                        assert!(packed[..width] == ga[row * width..(row + 1) * width]);
                        assert!(packed[width..] == gb[row * width..(row + 1) * width]);
                    }
                }
            }
        }
    }

    #[test]
    fn gates_agree_with_formulas_and_differences() {
        check_type::<f64>();
        check_type::<f32>();
        check_type::<bf16>();
        check_type::<f16>();
    }
}
