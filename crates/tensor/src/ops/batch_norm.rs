//! Batch normalisation.

use cupola_core::Shape;
use cupola_cpu::image_norm::{Images, batch};

use crate::compute::{compute_dtype, in_input_dtypes, prepare, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// With the statistics of the batch (Ioffe and Szegedy, "Batch normalization", 2015):
///
/// `y = (x - mean[c]) / sqrt(var[c] + eps) * weight[c] + bias[c]`
///
/// where mean and var, the second and third output, are those of channel c over all images and positions; var is biased
/// (divided by n). Gradients also flow through the statistics.
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f64,
    /// Whether a weight follows x among the inputs.
    pub weight: bool,
    /// Whether a bias is the last input.
    pub bias: bool,
}

/// With given statistics: the same formula, where mean and var are the second and third input.
pub struct BatchNormGiven {
    /// Added to the variance.
    pub eps: f64,
    /// Whether a weight follows the statistics among the inputs.
    pub weight: bool,
    /// Whether a bias is the last input.
    pub bias: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[BatchNorm::INFO, BatchNormGiven::INFO];

/// Sizes of `[N, C, ..]`; everything after x is `[C]`.
#[track_caller]
pub(super) fn images(op: &str, inputs: &[&Tensor]) -> Images {
    let x = inputs[0].shape();
    assert!(x.rank() >= 2, "{op}: shape {x} has no channels, expected [N, C, ..]");
    let fits = inputs[1..].iter().all(|p| p.shape().dims() == [x[1]] && p.dtype().is_float());
    let shapes: Vec<&Shape> = inputs[1..].iter().map(|p| p.shape()).collect();
    assert!(fits, "{op}: input {x} needs parameters of shape [{}] and a floating-point dtype, got {shapes:?}", x[1]);
    Images { batch: x[0], channels: x[1], inner: x[2..].iter().product() }
}

/// The parameters after the first `fixed` inputs: weight and bias, each if there is one.
pub(super) fn affine(inputs: &[Tensor], fixed: usize, weight: bool, bias: bool) -> (Option<&Tensor>, Option<&Tensor>) {
    (weight.then(|| &inputs[fixed]), bias.then(|| &inputs[fixed + usize::from(weight)]))
}

impl Op for BatchNorm {
    const NAME: &'static str = "batch_norm";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let (x, sizes) = (inputs[0], images(Self::NAME, inputs));
        let dtype = compute_dtype(Self::NAME, x);
        assert!(
            sizes.per_channel() > 1 || sizes.numel() == 0,
            "batch_norm: shape {} has one value per channel, which has no variance",
            x.shape()
        );
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        let (weight, bias) = affine(&wide, 1, self.weight, self.bias);
        let outputs = with_real!(dtype, T => {
            let values = wide[0].slice_of::<T>();
            let (mut mean, mut var) = (vec![0 as T; sizes.channels], vec![0 as T; sizes.channels]);
            batch::statistics(&sizes, values, &mut mean, &mut var);
            let rstd = batch::rstd(&var, self.eps);
            let (weight, bias) = (weight.map(Tensor::slice_of::<T>), bias.map(Tensor::slice_of::<T>));
            let y = Tensor::build::<T>(*x.shape(), |y| batch::forward(&sizes, values, (&mean, &rstd), (weight, bias), y));
            [y.to_dtype(x.dtype()), Tensor::from_vec(mean, [sizes.channels]), Tensor::from_vec(var, [sizes.channels])]
        });
        match weight {
            Some(_) => saved.keep([x, &outputs[1], &outputs[2], inputs[1]]),
            None => saved.keep([x, &outputs[1], &outputs[2]]),
        }
        outputs.into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let saved = cx.all_saved();
        let (x, sizes) = (&saved[0], images(Self::NAME, &[&saved[0]]));
        let dtype = compute_dtype(Self::NAME, x);
        let wide: Vec<Tensor> = saved.iter().map(|x| prepare(x, dtype)).collect();
        let dy = prepare(&cx.output_grad_or_zeros(0), dtype);
        let [dmean, dvar] = [1, 2].map(|i| cx.output_grad(i).map(|g| prepare(&g, dtype)));
        let mut grads = with_real!(dtype, T => {
            let (values, dy) = (wide[0].slice_of::<T>(), dy.slice_of::<T>());
            let (mean, rstd) = (wide[1].slice_of::<T>(), batch::rstd(wide[2].slice_of::<T>(), self.eps));
            let (plain, weighted) = batch::moments(&sizes, dy, values, mean);
            let weight = wide.get(3).map(Tensor::slice_of::<T>);
            let dx = cx.needs(0).then(|| Tensor::build::<T>(*x.shape(), |dx| {
                let statistics = (dmean.as_ref().map(Tensor::slice_of), dvar.as_ref().map(Tensor::slice_of));
                batch::backward(&sizes, (dy, values), (mean, &rstd), weight, (&plain, &weighted), statistics, dx);
            }));
            let dweight: Vec<T> = weighted.iter().zip(&rstd).map(|(sum, rstd)| sum * rstd).collect();
            vec![dx, Some(Tensor::from_vec(dweight, [sizes.channels])), Some(Tensor::from_vec(plain, [sizes.channels]))]
        });
        if !self.bias {
            grads.remove(2);
        }
        if !self.weight {
            grads.remove(1);
        }
        in_input_dtypes(cx, grads)
    }
}

impl Op for BatchNormGiven {
    const NAME: &'static str = "batch_norm_given";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let (x, sizes) = (inputs[0], images(Self::NAME, inputs));
        let dtype = compute_dtype(Self::NAME, x);
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        let (weight, bias) = affine(&wide, 3, self.weight, self.bias);
        match weight {
            Some(_) => saved.keep([x, inputs[1], inputs[2], inputs[3]]),
            None => saved.keep([x, inputs[1], inputs[2]]),
        }
        let y = with_real!(dtype, T => {
            let (mean, rstd) = (wide[1].slice_of::<T>(), batch::rstd(wide[2].slice_of::<T>(), self.eps));
            let (weight, bias) = (weight.map(Tensor::slice_of::<T>), bias.map(Tensor::slice_of::<T>));
            Tensor::build::<T>(*x.shape(), |y| batch::forward(&sizes, wide[0].slice_of(), (mean, &rstd), (weight, bias), y))
        });
        y.to_dtype(x.dtype()).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let saved = cx.all_saved();
        let (x, sizes) = (&saved[0], images(Self::NAME, &[&saved[0]]));
        let dtype = compute_dtype(Self::NAME, x);
        let wide: Vec<Tensor> = saved.iter().map(|x| prepare(x, dtype)).collect();
        let dy = prepare(&cx.dy(), dtype);
        let channels = sizes.channels;
        let mut grads = with_real!(dtype, T => {
            let dy = dy.slice_of::<T>();
            let (mean, rstd) = (wide[1].slice_of::<T>(), batch::rstd(wide[2].slice_of::<T>(), self.eps));
            let weight = wide.get(3).map(Tensor::slice_of::<T>);
            let dx = cx.needs(0).then(|| {
                Tensor::build::<T>(*x.shape(), |dx| batch::backward_given(&sizes, dy, &rstd, weight, dx))
            });
            let (plain, weighted) = if (1..cx.inputs()).any(|i| cx.needs(i)) {
                batch::moments(&sizes, dy, wide[0].slice_of::<T>(), mean)
            } else {
                (Vec::new(), Vec::new())
            };
            let each = |f: &dyn Fn(usize) -> T| Some(Tensor::from_vec((0..channels).map(f).collect(), [channels]));
            let scale = |c: usize| weight.map_or(rstd[c], |w| w[c] * rstd[c]);
            match plain.is_empty() {
                true => vec![dx, None, None, None, None],
                false => vec![
                    dx,
                    each(&|c| -plain[c] * scale(c)),
                    each(&|c| -0.5 * weighted[c] * scale(c) * rstd[c] * rstd[c]),
                    each(&|c| weighted[c] * rstd[c]),
                    each(&|c| plain[c]),
                ],
            }
        });
        if !self.bias {
            grads.remove(4);
        }
        if !self.weight {
            grads.remove(3);
        }
        in_input_dtypes(cx, grads)
    }
}

impl Tensor {
    /// Batch normalisation with the statistics of this batch; see [`BatchNorm`]. Returns the result and the mean and biased
    /// variance of each channel, in f32 (f64 for f64), the dtype that sums are kept in.
    ///
    /// # Shapes
    /// `[N, C, ..]`, weight and bias `[C]` -> `[N, C, ..]`, `[C]`, `[C]`.
    ///
    /// # Panics
    /// When shapes do not fit, a channel has only one value, or a dtype is not floating-point.
    #[track_caller]
    pub fn batch_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> (Tensor, Tensor, Tensor) {
        let inputs: Vec<&Tensor> = [Some(self), weight, bias].into_iter().flatten().collect();
        let op = BatchNorm { eps, weight: weight.is_some(), bias: bias.is_some() };
        let [y, mean, var] = <[Tensor; 3]>::try_from(op.apply_all(&inputs)).expect("batch_norm has three outputs");
        (y, mean, var)
    }

    /// Batch normalisation with given statistics, as in evaluation; see [`BatchNormGiven`].
    ///
    /// # Shapes
    /// `[N, C, ..]`, all others `[C]` -> `[N, C, ..]`.
    ///
    /// # Panics
    /// When shapes do not fit or a dtype is not floating-point.
    #[track_caller]
    pub fn batch_norm_given(
        &self,
        mean: &Tensor,
        var: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Tensor {
        let inputs: Vec<&Tensor> = [Some(self), Some(mean), Some(var), weight, bias].into_iter().flatten().collect();
        BatchNormGiven { eps, weight: weight.is_some(), bias: bias.is_some() }.apply(&inputs)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, between, uniform};
    let reference = |x: &Array, mean: &Array, var: &Array, weight: Option<&Array>, bias: Option<&Array>| {
        Array::from_fn(&x.shape, |i| {
            let c = i[1];
            let normal = (x.at(i) - mean.data[c]) / (var.data[c] + 0.1).sqrt();
            normal * weight.map_or(1.0, |w| w.data[c]) + bias.map_or(0.0, |b| b.data[c])
        })
    };
    let statistics = |x: &Array| {
        let of = |c: usize| {
            let mut values = Vec::new();
            Array::from_fn(&x.shape, |i| {
                if i[1] == c {
                    values.push(x.at(i));
                }
                0.0
            });
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
        };
        let all: Vec<(f64, f64)> = (0..x.shape[1]).map(of).collect();
        let [mean, var] =
            [0, 1].map(|k| Array::new(&[all.len()], all.iter().map(|p| if k == 0 { p.0 } else { p.1 }).collect()));
        (mean, var)
    };
    let shapes: [&[usize]; 5] = [&[5, 3], &[3, 2, 3], &[2, 3, 5, 7], &[3, 2, 33], &[2, 1, 9, 9]];
    let mut cases = Vec::new();
    for shape in shapes {
        let c = shape[1];
        let parameters = || [between(0.5, 1.5, [c], 2), uniform([c], 3), uniform([c], 4), between(0.5, 1.5, [c], 5)];
        let [w, b, m, v] = parameters();
        let affine = Case::new(format!("{shape:?}"), [uniform(shape, 1), w.clone(), b.clone()], |x| {
            let (y, mean, var) = x[0].batch_norm(Some(&x[1]), Some(&x[2]), 0.1);
            vec![y, mean, var]
        });
        cases.push(affine.reference(move |x| {
            let (mean, var) = statistics(&x[0]);
            vec![reference(&x[0], &mean, &var, Some(&x[1]), Some(&x[2])), mean, var]
        }));
        let plain =
            Case::new(format!("{shape:?} plain"), [uniform(shape, 1)], |x| vec![x[0].batch_norm(None, None, 0.1).0]);
        cases.push(plain.reference(move |x| {
            let (mean, var) = statistics(&x[0]);
            vec![reference(&x[0], &mean, &var, None, None)]
        }));
        let given = Case::new(format!("{shape:?} given"), [uniform(shape, 1), m.clone(), v.clone(), w, b], |x| {
            vec![x[0].batch_norm_given(&x[1], &x[2], Some(&x[3]), Some(&x[4]), 0.1)]
        });
        cases.push(given.reference(move |x| vec![reference(&x[0], &x[1], &x[2], Some(&x[3]), Some(&x[4]))]));
        let bare = Case::new(format!("{shape:?} given, no weight"), [uniform(shape, 1), m, v], |x| {
            vec![x[0].batch_norm_given(&x[1], &x[2], None, None, 0.1)]
        });
        cases.push(bare.reference(move |x| vec![reference(&x[0], &x[1], &x[2], None, None)]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use cupola_core::DType;

    #[test]
    fn a_large_mean_leaves_the_variance_its_digits() {
        let x = Tensor::randn([4, 3, 16, 16], cupola_core::Rng::seed(1)) + 1000.0;
        let (_, _, var) = x.batch_norm(None, None, 1e-5);
        let (_, _, exact) = x.to_dtype(DType::F64).batch_norm(None, None, 1e-5);
        assert!(var.to_f64().relative_error(&exact) < 1e-5);
    }

    #[test]
    #[should_panic(expected = "batch_norm: input [2, 3, 4] needs parameters of shape [3]")]
    fn a_weight_of_another_size_is_refused() {
        let _ = Tensor::zeros([2, 3, 4]).batch_norm(Some(&Tensor::ones([4])), None, 1e-5);
    }
}
