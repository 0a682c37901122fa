//! What [`super::layer_norm`] and [`super::rms_norm`] have in common: normalisation of rows, with an optional residual.

use cupola_core::{DType, Shape};
use cupola_cpu::norm::{Gradient, Input, Output, Saved as Kept};
use cupola_cpu::norm::{layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};
use cupola_cpu::real::Number;

use crate::autograd::running::RunningSum;
use crate::dispatch::with_float;
use crate::op::Backward;
use crate::tensor::Tensor;

/// Which normalisation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Mean and variance.
    Layer,
    /// The mean of squares alone.
    Rms,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Layer => "layer_norm",
            Kind::Rms => "rms_norm",
        }
    }
}

/// The results of a normalisation.
pub(crate) struct Normalised {
    /// What was asked for, of the input's shape.
    pub y: Tensor,
    /// `x + residual`, when there is a residual.
    pub sum: Option<Tensor>,
    /// `[N]`; empty for the RMS form.
    pub mean: Tensor,
    /// `[N]`
    pub rstd: Tensor,
}

/// The dtype that statistics and weights are computed in.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Both operands of a sum in the dtype that holds them: under autocast a part comes in a narrow one, the stream in f32.
pub(crate) fn of_one_dtype(x: &Tensor, residual: &Tensor) -> [Tensor; 2] {
    let dtype = x.dtype().promote(residual.dtype());
    [x.to_dtype(dtype), residual.to_dtype(dtype)]
}

#[track_caller]
pub(crate) fn forward(
    kind: Kind,
    x: &Tensor,
    residual: Option<&Tensor>,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Normalised {
    let name = kind.name();
    let width = if x.rank() > 0 { x.dim(-1) } else { 0 };
    let parameter_fits = |p: Option<&Tensor>| p.is_none_or(|p| p.shape().dims() == [width]);
    let residual_fits = residual.is_none_or(|r| r.shape() == x.shape() && r.dtype() == x.dtype());
    assert!(
        x.rank() > 0 && parameter_fits(weight) && parameter_fits(bias) && residual_fits,
        "{name}: input {} {}, residual {:?}, weight {:?} and bias {:?} do not fit",
        x.dtype(),
        x.shape(),
        residual.map(|r| (r.dtype(), r.shape())),
        weight.map(Tensor::shape),
        bias.map(Tensor::shape)
    );
    let dtype = wide(x.dtype());
    let (x, residual) = (x.contiguous(), residual.map(Tensor::contiguous));
    let parameter = |p: Option<&Tensor>| p.map(|p| p.to_dtype(dtype).contiguous());
    let (weight, bias) = (parameter(weight), parameter(bias));
    let rows = x.numel().checked_div(width).unwrap_or(0);
    with_float!(name, x.dtype(), T => {
        type R = <T as Number>::Real;
        let (mut mean, mut rstd) = (vec![0.0 as R; if kind == Kind::Layer { rows } else { 0 }], vec![0.0 as R; rows]);
        let mut sum = None;
        let y = Tensor::build::<T>(*x.shape(), |y| {
            let mut run = |h: Option<&mut [T]>| {
                let input = Input {
                    x: x.slice_of::<T>(),
                    residual: residual.as_ref().map(|r| r.slice_of::<T>()),
                    weight: weight.as_ref().map(|w| w.slice_of::<R>()),
                    bias: bias.as_ref().map(|b| b.slice_of::<R>()),
                    eps,
                    width,
                };
                let output = Output { y: &mut *y, sum: h, mean: &mut mean, rstd: &mut rstd };
                match kind {
                    Kind::Layer => layer_norm(input, output),
                    Kind::Rms => rms_norm(input, output),
                }
            };
            if residual.is_some() {
                sum = Some(Tensor::build::<T>(*x.shape(), |h| run(Some(h))));
            } else {
                run(None);
            }
        });
        let column = |values: Vec<R>| { let n = values.len(); Tensor::from_vec(values, [n]) };
        Normalised { y, sum, mean: column(mean), rstd: column(rstd) }
    })
}

/// The gradients of a normalisation: of what was normalised, and of weight and bias where asked for.
pub(crate) struct Grads {
    pub dx: Tensor,
    pub dweight: Option<RunningSum>,
    pub dbias: Option<RunningSum>,
}

/// `dx`, with the parameters' gradients added to what is given.
#[allow(clippy::too_many_arguments)]
pub(crate) fn backward(
    kind: Kind,
    h: &Tensor,
    weight: Option<&Tensor>,
    (mean, rstd): (&Tensor, &Tensor),
    dy: &Tensor,
    dh: Option<&Tensor>,
    mut dweight: Option<RunningSum>,
    mut dbias: Option<RunningSum>,
) -> Grads {
    let (width, dtype) = (h.dim(-1), wide(h.dtype()));
    let weight = weight.map(|w| w.to_dtype(dtype).contiguous());
    let (h, dy, dh) = (h.contiguous(), dy.contiguous(), dh.map(Tensor::contiguous));
    let dx = with_float!(kind.name(), h.dtype(), T => {
        type R = <T as Number>::Real;
        Tensor::build::<T>(*h.shape(), |dx| {
            let saved = Kept {
                h: h.slice_of::<T>(),
                weight: weight.as_ref().map(|w| w.slice_of::<R>()),
                mean: mean.slice_of::<R>(),
                rstd: rstd.slice_of::<R>(),
                dh: dh.as_ref().map(|d| d.slice_of::<T>()),
                width,
            };
            let gradient = Gradient {
                dx,
                dweight: dweight.as_mut().map(RunningSum::slice::<R>),
                dbias: dbias.as_mut().map(RunningSum::slice::<R>),
            };
            match kind {
                Kind::Layer => layer_norm_backward(saved, dy.slice_of::<T>(), gradient),
                Kind::Rms => rms_norm_backward(saved, dy.slice_of::<T>(), gradient),
            }
        })
    });
    Grads { dx, dweight, dbias }
}

/// The sum for a parameter's gradient, when that is wanted.
pub(crate) fn running(cx: &mut Backward<'_>, index: Option<usize>, dtype: DType) -> Option<RunningSum> {
    let index = index.filter(|&index| cx.needs(index))?;
    Some(RunningSum::new(cx, index, dtype))
}

/// A sum that starts from zero, for the explicit form.
pub(crate) fn fresh(parameter: Option<&Tensor>, width: usize, dtype: DType) -> Option<RunningSum> {
    parameter.map(|p| RunningSum::fresh(Shape::new(&[width]), p.dtype(), dtype))
}

#[cfg(test)]
mod tests {
    use cupola_core::DType;

    use crate::testing::normal;

    #[test]
    fn a_narrow_part_joins_a_wide_residual() {
        let (x, residual) = (normal([5, 9], 1).to_dtype(DType::BF16), normal([5, 9], 2).to_dtype(DType::F32));
        let sum = &x.to_dtype(DType::F32) + &residual;
        let (y, h) = x.rms_norm_residual(&residual, None, 1e-5);
        assert!(h.equals(&sum) && y.equals(&sum.rms_norm(None, 1e-5)));
        let (y, h) = residual.layer_norm_residual(&x, None, None, 1e-5);
        assert!(h.equals(&sum) && y.equals(&sum.layer_norm(None, None, 1e-5)));
        let (x, residual) = (x.requires_grad(), residual.requires_grad());
        let grads = x.layer_norm_residual(&residual, None, None, 1e-5).0.sum([]).backward();
        assert_eq!((grads[&x].dtype(), grads[&residual].dtype()), (DType::BF16, DType::F32));
    }
}
