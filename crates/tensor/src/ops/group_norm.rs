//! Group and instance normalisation.

use cupola_cpu::image_norm::group;

use super::batch_norm::{affine, images};
use crate::compute::{compute_dtype, in_input_dtypes, prepare, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = (x - mean) / sqrt(var + eps) * weight[c] + bias[c]`, where mean and (biased) var are those of one image's group of
/// channels over all positions (Wu and He, "Group normalization", 2018). As many groups as channels make it instance
/// normalisation (Ulyanov et al., "Instance normalization", 2016).
pub struct GroupNorm {
    /// How many groups the channels are divided into.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether a weight follows x among the inputs.
    pub weight: bool,
    /// Whether a bias is the last input.
    pub bias: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[GroupNorm::INFO];

impl Op for GroupNorm {
    const NAME: &'static str = "group_norm";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let (x, sizes) = (inputs[0], images(Self::NAME, inputs));
        assert!(
            self.groups > 0 && sizes.channels.is_multiple_of(self.groups),
            "group_norm: {} groups do not divide the channels of shape {}",
            self.groups,
            x.shape()
        );
        let dtype = compute_dtype(Self::NAME, x);
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        let (weight, bias) = affine(&wide, 1, self.weight, self.bias);
        let (y, statistics) = with_real!(dtype, T => {
            let mut statistics = vec![0 as T; 2 * sizes.batch * self.groups];
            let parameters = (weight.map(Tensor::slice_of::<T>), bias.map(Tensor::slice_of::<T>));
            let y = Tensor::build::<T>(*x.shape(), |y| {
                group::forward(&sizes, self.groups, self.eps, wide[0].slice_of(), parameters, y, &mut statistics);
            });
            (y, Tensor::from_vec(statistics, [sizes.batch, self.groups, 2]))
        });
        match weight {
            Some(_) => saved.keep([x, &statistics, inputs[1]]),
            None => saved.keep([x, &statistics]),
        }
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
            let mut partial = vec![0 as T; 2 * sizes.batch * channels];
            let weight = wide.get(2).map(Tensor::slice_of::<T>);
            let dx = Tensor::build::<T>(*x.shape(), |dx| {
                let values = (dy.slice_of(), wide[0].slice_of());
                group::backward(&sizes, self.groups, values, wide[1].slice_of(), weight, dx, &mut partial);
            });
            let (mut dweight, mut dbias) = (vec![0 as T; channels], vec![0 as T; channels]);
            group::sum_partials(&sizes, &partial, &mut dweight, &mut dbias);
            vec![Some(dx), Some(Tensor::from_vec(dweight, [channels])), Some(Tensor::from_vec(dbias, [channels]))]
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

impl Tensor {
    /// Group normalisation; see [`GroupNorm`]. Sums are kept in f32 (f64 for f64).
    ///
    /// # Shapes
    /// `[N, C, ..]`, weight and bias `[C]` -> `[N, C, ..]`.
    ///
    /// # Panics
    /// When shapes do not fit, the groups do not divide the channels, or a dtype is not floating-point.
    #[track_caller]
    pub fn group_norm(&self, groups: usize, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Tensor {
        let inputs: Vec<&Tensor> = [Some(self), weight, bias].into_iter().flatten().collect();
        GroupNorm { groups, eps, weight: weight.is_some(), bias: bias.is_some() }.apply(&inputs)
    }

    /// Instance normalisation: every channel of every image by its own statistics; see [`GroupNorm`].
    ///
    /// # Shapes
    /// `[N, C, ..]`, weight and bias `[C]` -> `[N, C, ..]`.
    ///
    /// # Panics
    /// When shapes do not fit, a channel of an image has only one value, or a dtype is not floating-point.
    #[track_caller]
    pub fn instance_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Tensor {
        let shape = self.shape();
        assert!(
            shape.rank() >= 3 && shape[2..].iter().product::<usize>() != 1,
            "instance_norm: shape {shape} has one value per channel, which has no variance; expected [N, C, ..]"
        );
        if shape[1] == 0 {
            return self.clone();
        }
        self.group_norm(shape[1], weight, bias, eps)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, between, uniform};
    let reference = |x: &Array, groups: usize, weight: Option<&Array>, bias: Option<&Array>| {
        let width = x.shape[1] / groups;
        let mut members = vec![Vec::new(); x.shape[0] * groups];
        Array::from_fn(&x.shape, |i| {
            members[i[0] * groups + i[1] / width].push(x.at(i));
            0.0
        });
        Array::from_fn(&x.shape, |i| {
            let values = &members[i[0] * groups + i[1] / width];
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let var = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
            let normal = (x.at(i) - mean) / (var + 0.1).sqrt();
            normal * weight.map_or(1.0, |w| w.data[i[1]]) + bias.map_or(0.0, |b| b.data[i[1]])
        })
    };
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize); 5] =
        [(&[3, 6], 2), (&[2, 4, 5], 1), (&[2, 6, 3, 5], 3), (&[1, 3, 65], 3), (&[0, 4, 3], 2)];
    for (shape, groups) in shapes {
        let c = shape[1];
        let inputs = [uniform(shape, 1), between(0.5, 1.5, [c], 2), uniform([c], 3)];
        let run = move |x: &[Tensor]| vec![x[0].group_norm(groups, Some(&x[1]), Some(&x[2]), 0.1)];
        let case = Case::new(format!("{shape:?} in {groups}"), inputs.clone(), run);
        cases.push(case.reference(move |x| vec![reference(&x[0], groups, Some(&x[1]), Some(&x[2]))]));
        let [x, w, _] = inputs;
        let case = Case::new(format!("{shape:?} in {groups}, weight only"), [x, w], move |x| {
            vec![x[0].group_norm(groups, Some(&x[1]), None, 0.1)]
        });
        cases.push(case.reference(move |x| vec![reference(&x[0], groups, Some(&x[1]), None)]));
    }
    let instance = Case::new("instance", [uniform([2, 3, 4, 9], 1)], |x| vec![x[0].instance_norm(None, None, 0.1)]);
    cases.push(instance.reference(move |x| vec![reference(&x[0], 3, None, None)]));
    cases
}
