//! An affine map of the last dimension, with an activation behind it.

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType};
use cupola_cpu::gemm;

use super::sum::summed;
use crate::autograd::running::RunningSum;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::product::{Finish, Matrix, multiply, operand, product_dtype};
use crate::tensor::Tensor;

/// An activation that a product applies while its result is in registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `x * Phi(x)`
    Gelu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`
    GeluTanh,
    /// `x * sigmoid(x)`
    Silu,
}

impl Activation {
    /// The activation by itself, element by element.
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Activation::None => x.clone(),
            Activation::Relu => x.relu(),
            Activation::Gelu => x.gelu(),
            Activation::GeluTanh => x.gelu_tanh(),
            Activation::Silu => x.silu(),
        }
    }

    fn kernel(self) -> gemm::Activation {
        match self {
            Activation::None => gemm::Activation::None,
            Activation::Relu => gemm::Activation::Relu,
            Activation::Gelu => gemm::Activation::GeluErf,
            Activation::GeluTanh => gemm::Activation::GeluTanh,
            Activation::Silu => gemm::Activation::Silu,
        }
    }

    /// `dy * activation'(pre)`.
    fn backward(self, pre: &Tensor, dy: Tensor) -> Tensor {
        use cupola_cpu::unary::{Gelu, GeluTanh, Relu, Silu};
        match self {
            Activation::None => dy,
            Activation::Relu => super::unary_backward(Relu, pre, dy),
            Activation::Gelu => super::unary_backward(Gelu, pre, dy),
            Activation::GeluTanh => super::unary_backward(GeluTanh, pre, dy),
            Activation::Silu => super::unary_backward(Silu, pre, dy),
        }
    }
}

/// `y = activation(x W^T + b)`.
pub struct Linear {
    /// What the products are computed in; sums are kept in f32, or in f64 for f64.
    pub compute: DType,
    /// Applied to each element.
    pub activation: Activation,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Linear::INFO];

/// All dimensions but the last in one.
fn rows(x: &Tensor) -> Tensor {
    x.reshape([x.shape()[..x.rank() - 1].iter().product(), x.dim(-1)])
}

impl Op for Linear {
    const NAME: &'static str = "linear";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let (x, weight, bias) = (inputs[0], inputs[1], inputs.get(2).copied());
        let fits = x.rank() >= 1 && weight.rank() == 2 && x.dim(-1) == weight.dim(1);
        let bias_fits = bias.is_none_or(|b| b.rank() == 1 && b.dim(0) == weight.shape()[0]);
        assert!(
            fits && bias_fits,
            "linear: input {}, weight {} and bias {:?} do not fit",
            x.shape(),
            weight.shape(),
            bias.map(Tensor::shape)
        );
        let shape = x.shape().with_dim(x.rank() - 1, weight.shape()[0]);
        let again = saved.is_enabled() && Saved::recomputes(x);
        // In the product's own dtype the input is all that backward reads of it, and half the size under bf16 autocast.
        let input = x;
        let x = if saved.is_enabled() && !again { x.to_dtype(self.compute) } else { operand(x, self.compute) };
        let (x, weight) = (rows(&x), operand(weight, self.compute));
        let keeps_pre = saved.is_enabled() && self.activation != Activation::None;
        let mut out = Buffer::uninit(self.compute, shape.numel(), Placement::Passing);
        let mut pre = keeps_pre.then(|| Buffer::uninit(self.compute, shape.numel(), Placement::Passing));
        let finish = Finish {
            bias,
            activation: self.activation.kernel(),
            // While training the weight changes before the next product, so a packed form would only take memory.
            keep_packed: !saved.is_enabled() && weight.is_leaf(),
            ..Finish::default()
        };
        multiply(self.compute, Matrix::whole(&x), Matrix::whole(&weight).t(), &mut out, pre.as_mut(), &finish);
        if again {
            saved.keep_or_recompute(input);
        } else {
            saved.keep([&x]);
        }
        saved.keep([&weight]);
        if let Some(pre) = pre {
            saved.keep([&Tensor::from_buffer(pre, shape)]);
        }
        Tensor::from_buffer(out, shape).into()
    }

    fn recomputes(&self) -> bool {
        self.activation != Activation::None
    }

    fn recompute(&self, saved: &[Option<Tensor>]) -> Tensor {
        self.activate(saved[2].as_ref().expect("the argument of an activation is kept as it is"))
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let weight = &cx.all_saved()[1];
        let dy = cx.take_dy();
        let dy = match cx.all_saved().get(2) {
            Some(pre) => self.activation.backward(pre, dy),
            None => dy,
        };
        let dy = rows(&operand(&dy, self.compute)).contiguous();
        let dx = cx.needs(0).then(|| {
            let meta = cx.input(0);
            let mut out = Buffer::uninit(self.grad_dtype(meta.dtype), meta.shape.numel(), Placement::Passing);
            multiply(self.compute, Matrix::whole(&dy), Matrix::whole(weight), &mut out, None, &Finish::default());
            Tensor::from_buffer(out, meta.shape).to_dtype(meta.dtype)
        });
        let dweight = cx.needs(1).then(|| {
            let x = rows(&operand(&cx.all_saved()[0], self.compute));
            self.weight_gradient(cx, &x, &dy)
        });
        let mut grads = vec![dx, dweight];
        if cx.inputs() == 3 {
            grads.push(cx.needs(2).then(|| bias_gradient(cx, &dy)));
        }
        grads.into()
    }
}

impl Linear {
    /// `activation(pre)`; in the dtype of the product, so that of a bf16 product the argument has been rounded.
    fn activate(&self, pre: &Tensor) -> Tensor {
        self.activation.apply(pre)
    }

    /// The dtype in which a gradient for an input of dtype `input` is computed.
    fn grad_dtype(&self, input: DType) -> DType {
        if self.compute == DType::BF16 && input == DType::F32 { DType::F32 } else { self.compute }
    }

    /// `dW = dy^T x`, one chain of sums over the tokens that goes on from what the weight's gradient holds already.
    fn weight_gradient(&self, cx: &mut Backward<'_>, x: &Tensor, dy: &Tensor) -> Tensor {
        let meta = cx.input(1);
        let dtype = self.grad_dtype(meta.dtype);
        let mut sum = RunningSum::unwritten(cx, 1, dtype);
        let finish = Finish { accumulate: sum.continues(), ..Finish::default() };
        multiply(self.compute, Matrix::whole(dy).t(), Matrix::whole(x), sum.buffer(), None, &finish);
        sum.finish()
    }
}

/// The sum of `dy` over the tokens.
fn bias_gradient(cx: &mut Backward<'_>, dy: &Tensor) -> Tensor {
    let dtype = cx.input(2).dtype;
    summed(cx, 2, &dy.to_dtype(dtype))
}

/// `activation(x W^T + b)` over the last dimension of `x`. Sums are kept in f32, of f64 in f64; under autocast the factors are
/// rounded to its dtype first, and the result has it.
///
/// # Shapes
/// `x [.., K]`, `weight [N, K]`, `bias [N]` -> `[.., N]`.
///
/// # Panics
/// When the shapes do not fit or a dtype is not floating-point.
#[track_caller]
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Tensor {
    let compute = product_dtype(x.dtype(), weight.dtype());
    assert!(compute.is_float(), "linear: input is {} and weight {}, expected floats", x.dtype(), weight.dtype());
    let op = Linear { compute, activation };
    match bias {
        Some(bias) => op.apply(&[x, weight, bias]),
        None => op.apply(&[x, weight]),
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    type Plain = fn(f64) -> f64;
    let activations: [(Activation, Plain); 5] = [
        (Activation::None, |x| x),
        (Activation::Relu, |x| x.max(0.0)),
        (Activation::Silu, |x| x / (1.0 + (-x).exp())),
        (Activation::GeluTanh, |x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }),
        (Activation::Gelu, |x| 0.5 * x * (1.0 + crate::testing::erf(x / std::f64::consts::SQRT_2))),
    ];
    let mut cases = Vec::new();
    for (activation, f) in activations {
        for (shape, out) in [(vec![33, 17], 9), (vec![2, 3, 5], 4), (vec![0, 3], 2), (vec![4], 31)] {
            let depth = shape[shape.len() - 1];
            let inputs = [uniform(shape.clone(), 1), uniform([out, depth], 2), uniform([out], 3)];
            let mut result = shape.clone();
            result[shape.len() - 1] = out;
            let reference = move |x: &[Array]| {
                let cell = |index: &[usize]| -> f64 {
                    let (head, n) = index.split_at(index.len() - 1);
                    let element = |k: usize| {
                        let at: Vec<usize> = head.iter().copied().chain([k]).collect();
                        x[0].at(&at) * x[1].at(&[n[0], k])
                    };
                    f((0..depth).map(element).sum::<f64>() + x[2].at(&[n[0]]))
                };
                vec![Array::from_fn(&result, cell)]
            };
            let run = move |x: &[Tensor]| vec![linear(&x[0], &x[1], Some(&x[2]), activation)];
            cases.push(Case::new(format!("{activation:?} {shape:?}"), inputs, run).reference(reference));
        }
    }
    cases.push(
        Case::new("without bias", [uniform([3, 5], 1), uniform([4, 5], 2)], |x| {
            vec![linear(&x[0], &x[1], None, Activation::None)]
        })
        .reference(|x| {
            vec![Array::from_fn(&[3, 4], |i| (0..5).map(|k| x[0].at(&[i[0], k]) * x[1].at(&[i[1], k])).sum())]
        }),
    );
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradients::Gradients;
    use crate::mode::autocast;
    use crate::testing::uniform;

    #[test]
    fn accumulating_micro_batches_has_the_bits_of_one_batch() {
        let x = uniform([1024, 12], 1).to_dtype(DType::F32);
        let w = uniform([7, 12], 2).to_dtype(DType::F32).requires_grad();
        let whole = linear(&x, &w, None, Activation::None).sum([]).backward();
        let mut grads = Gradients::new();
        for part in x.split(0, &[256; 4]) {
            linear(&part, &w, None, Activation::None).sum([]).backward_into(&mut grads);
        }
        assert!(grads[&w].same_bits(&whole[&w]));
    }

    #[test]
    fn large_results_of_norms_and_activations_are_computed_again_instead_of_kept() {
        let (tokens, width) = (4096, 384);
        let leaf = |shape: [usize; 2], seed| (uniform(shape, seed) * 0.05).to_dtype(DType::F32).requires_grad();
        let (up, down) = (leaf([2 * width, width], 1), leaf([width, 2 * width], 2));
        let gain = Tensor::full([width], 0.5).requires_grad();
        let x = uniform([tokens, width], 3).to_dtype(DType::F32).requires_grad();
        // An operation in between whose result is not offered again makes the next one keep it.
        let run = |keep: bool| {
            let plain = |x: Tensor| if keep { x.affine(1.0, 0.0) } else { x };
            let normed = plain(x.layer_norm(Some(&gain), None, 1e-5));
            let y = linear(&plain(linear(&normed, &up, None, Activation::Gelu)), &down, None, Activation::None);
            let loss = (&y * &y).sum([]);
            let saved = crate::autograd::inspect::summary(&loss).saved_bytes;
            (saved, loss.backward())
        };
        let ((kept, expected), (again, grads)) = (run(true), run(false));
        // Two f32 tensors less: the norm's, and the activation's of twice the width.
        assert_eq!(kept - again, 3 * tokens * width * 4);
        for leaf in [&x, &gain, &up, &down] {
            assert!(grads[leaf].same_bits(&expected[leaf]));
        }
        // The graph can be walked twice, and dropped without having been walked.
        let loss = || linear(&x.layer_norm(Some(&gain), None, 1e-5), &up, None, Activation::None).sum([]);
        let graph = loss();
        assert!(graph.backward_retain()[&up].same_bits(&graph.backward()[&up]));
        drop(loss());
    }

    #[test]
    fn autocast_halves_what_is_saved() {
        let x = uniform([64, 32], 1).to_dtype(DType::F32);
        let w = uniform([32, 32], 2).to_dtype(DType::F32).requires_grad();
        let net = || linear(&linear(&x, &w, None, Activation::Gelu), &w, None, Activation::None);
        let saved = |y: &Tensor| crate::autograd::inspect::summary(y).saved_bytes - 32 * 32 * 4;
        let (full, half) = (saved(&net()), saved(&autocast(DType::BF16, net)));
        assert_eq!(half * 2, full);
    }
}
