//! Instance normalisation.

use cupola_tensor::{Tensor, no_grad};

use super::batch_norm::Running;
use crate::init::Init;
use crate::training::is_training;
use crate::{Layer, Module, Param};

/// Every channel of every image by its own mean and variance, `torch.nn.InstanceNorm1d` and `2d` (Ulyanov et al., "Instance
/// Normalization", 2016).
///
/// With [running statistics](InstanceNorm::tracking) evaluation uses those instead; in training they move towards the mean over the
/// batch of the images' means and unbiased variances when the scope is finished.
///
/// ```
/// use cupola_nn::{Layer, layers::InstanceNorm};
/// use cupola_tensor::{Rng, Tensor};
/// let y = InstanceNorm::new().forward(&Tensor::randn([2, 3, 4, 4], Rng::seed(0)));
/// assert!(y.mean([2, 3]).abs().max([]).item() < 1e-6);
/// ```
#[derive(Module, Clone, Debug)]
pub struct InstanceNorm {
    /// `[C]`, ones at first; none unless asked for, as in PyTorch.
    pub weight: Option<Param>,
    /// `[C]`, zeros at first.
    pub bias: Option<Param>,
    #[module(flatten)]
    running: Option<Running>,
    /// Added to variances; 1e-5 unless set otherwise.
    pub eps: f64,
    /// Share of the batch in new running statistics; 0.1 unless set otherwise.
    pub momentum: f64,
}

impl InstanceNorm {
    /// A norm without weight and bias, which suits any number of channels.
    pub fn new() -> Self {
        Self { weight: None, bias: None, running: None, eps: 1e-5, momentum: 0.1 }
    }

    /// A norm of `channels` channels with weight and bias.
    #[track_caller]
    pub fn affine(channels: usize) -> Self {
        let param = |init| Some(Param::new([channels], init));
        Self { weight: param(Init::Ones), bias: param(Init::Zeros), ..Self::new() }
    }

    /// The same norm, which keeps running statistics of `channels` channels and evaluates with them, PyTorch's
    /// `track_running_stats`.
    #[must_use]
    #[track_caller]
    pub fn tracking(self, channels: usize) -> Self {
        Self { running: Some(Running::new(channels)), ..self }
    }

    /// The same norm with another `eps`.
    #[must_use]
    pub fn with_eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// The same norm with another `momentum`.
    #[must_use]
    pub fn with_momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    fn track(&self, running: &Running, x: &Tensor) {
        no_grad(|| {
            let x = x.detach();
            let pixels = x.reshape([x.shape()[0], x.shape()[1], x.shape()[2..].iter().product()]);
            let (mean, var) = (pixels.mean([0, 2]), pixels.var([2], 1.0).mean([0]));
            running.update(self.momentum, &mean, &var);
        });
    }
}

impl Default for InstanceNorm {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer for InstanceNorm {
    /// # Shapes
    /// `[N, C, ..]` -> `[N, C, ..]`.
    ///
    /// # Panics
    /// When the shape does not fit; and with running statistics, when recorded outside of a training scope.
    fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (self.weight.as_deref(), self.bias.as_deref());
        let Some(running) = &self.running else { return x.instance_norm(weight, bias, self.eps) };
        if !is_training("InstanceNorm") {
            return x.batch_norm_given(&running.mean(), &running.var(), weight, bias, self.eps);
        }
        let y = x.instance_norm(weight, bias, self.eps);
        self.track(running, x);
        y
    }
}
