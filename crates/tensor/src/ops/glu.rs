//! Gated linear units (Shazeer, "GLU Variants Improve Transformer", 2020, arXiv:2002.05202).

use cupola_core::{Element, Shape};
use cupola_cpu::glu;
pub use cupola_cpu::glu::Gate;

use crate::dispatch::with_float;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = f(a) * b`, element by element.
pub struct Glu {
    /// Which `f`.
    pub gate: Gate,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Glu::INFO];

/// A tensor as rows of its last dimension, `[N, D]`; copied only when elements of a row are apart or rows not evenly spaced.
fn rows(x: &Tensor) -> Tensor {
    let width = x.dim(-1);
    let shape = Shape::new(&[x.numel().checked_div(width).unwrap_or(0), width]);
    let layout = x.layout().reshape(shape).filter(|layout| {
        let strides = layout.strides();
        (width <= 1 || strides[1] == 1) && strides[0] >= width as isize
    });
    layout.map_or_else(|| x.contiguous().reshape(shape), |layout| x.view(layout))
}

/// The elements from the first one on, and the distance between rows, of a tensor that [`rows`] made.
fn strided<T: Element>(x: &Tensor) -> (&[T], usize) {
    (&x.buffer().as_slice::<T>()[x.layout().offset..], x.layout().strides()[0] as usize)
}

impl Op for Glu {
    const NAME: &'static str = "glu";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [a, b] = inputs else { unreachable!("glu has two inputs") };
        assert!(
            a.rank() > 0 && a.shape() == b.shape() && a.dtype() == b.dtype(),
            "glu: {} {} and {} {} differ",
            a.dtype(),
            a.shape(),
            b.dtype(),
            b.shape()
        );
        let (shape, width) = (*a.shape(), a.dim(-1));
        saved.keep([a, b]);
        let (a, b) = (rows(a), rows(b));
        with_float!(Self::NAME, a.dtype(), T => Tensor::build::<T>(shape, |y| {
            glu::forward(self.gate, strided::<T>(&a), strided(&b), width, y);
        }))
        .into()
    }

    fn recomputes(&self) -> bool {
        true
    }

    fn recompute(&self, saved: &[Option<Tensor>]) -> Tensor {
        let [Some(a), Some(b)] = saved else { unreachable!("glu keeps its inputs as they are") };
        self.forward(&[a, b], &mut Saved::default()).into_first()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([a, b], dy) = (cx.saved(), cx.take_dy().contiguous());
        let (shape, width) = (*a.shape(), a.dim(-1));
        let (a, b) = (rows(a), rows(b));
        with_float!(Self::NAME, a.dtype(), T => {
            let mut da = None;
            let db = Tensor::build::<T>(shape, |db| {
                da = Some(Tensor::build::<T>(shape, |da| {
                    glu::backward(self.gate, strided::<T>(&a), strided(&b), width, dy.slice_of(), da, db);
                }));
            });
            [da, Some(db)].into()
        })
    }
}

impl Tensor {
    /// `f(self) * other`, element by element: with [`Gate::Silu`] SwiGLU, with [`Gate::Gelu`] GEGLU. Computed in f32, of f64 in
    /// f64.
    ///
    /// # Shapes
    /// `[.., F]` and `[.., F]` -> `[.., F]`; halves of one projection (see [`Tensor::chunk`]) are read where they lie.
    ///
    /// # Panics
    /// When shapes or dtypes differ or the dtype is not floating-point.
    #[track_caller]
    pub fn glu(&self, other: &Tensor, gate: Gate) -> Tensor {
        Glu { gate }.apply(&[self, other])
    }

    /// `silu(self) * other`; see [`Tensor::glu`].
    ///
    /// # Panics
    /// As [`Tensor::glu`].
    #[track_caller]
    pub fn swiglu(&self, other: &Tensor) -> Tensor {
        self.glu(other, Gate::Silu)
    }

    /// `gelu(self) * other`; see [`Tensor::glu`].
    ///
    /// # Panics
    /// As [`Tensor::glu`].
    #[track_caller]
    pub fn geglu(&self, other: &Tensor) -> Tensor {
        self.glu(other, Gate::Gelu)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, erf, uniform};
    type Plain = fn(f64) -> f64;
    let gates: [(Gate, Plain); 5] = [
        (Gate::Silu, |x| x / (1.0 + (-x).exp())),
        (Gate::Gelu, |x| 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))),
        (Gate::GeluTanh, |x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }),
        (Gate::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Gate::Relu, |x| x.max(0.0)),
    ];
    let mut cases = Vec::new();
    for (gate, f) in gates {
        for width in [1, 33, 65] {
            let inputs = [uniform([2, 3, width], 1), uniform([2, 3, width], 2)];
            let reference = move |x: &[Array]| vec![Array::from_fn(&[2, 3, width], |i| f(x[0].at(i)) * x[1].at(i))];
            cases.push(
                Case::new(format!("{gate:?} {width}"), inputs, move |x| vec![x[0].glu(&x[1], gate)])
                    .reference(reference),
            );
        }
    }
    cases.push(
        Case::new("halves of one projection", [uniform([3, 10], 1)], |x| {
            let halves = x[0].chunk(-1, 2);
            vec![halves[0].swiglu(&halves[1])]
        })
        .reference(|x| {
            vec![Array::from_fn(&[3, 5], |i| {
                let a = x[0].at(i);
                a / (1.0 + (-a).exp()) * x[0].at(&[i[0], i[1] + 5])
            })]
        }),
    );
    cases
}
