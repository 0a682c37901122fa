//! Batch normalisation.

use cupola_tensor::{DType, Tensor, no_grad};

use crate::init::Init;
use crate::training::is_training;
use crate::{Layer, Module, ModuleBuffer, Param};

/// Batch normalisation of vectors `[N, C]` and sequences `[N, C, L]`, `torch.nn.BatchNorm1d`.
pub type BatchNorm1d = BatchNorm<1>;

/// Batch normalisation of images `[N, C, H, W]`, `torch.nn.BatchNorm2d`.
pub type BatchNorm2d = BatchNorm<2>;

/// What a batch norm does beside normalising; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormConfig {
    /// Added to variances.
    pub eps: f64,
    /// Share of the batch in new running statistics; `None` averages over all batches equally.
    pub momentum: Option<f64>,
    /// Whether there are weight and bias.
    pub affine: bool,
    /// Whether running statistics are kept; without them evaluation uses those of the batch.
    pub track_running_stats: bool,
}

impl Default for BatchNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, momentum: Some(0.1), affine: true, track_running_stats: true }
    }
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` for each channel (Ioffe and Szegedy, "Batch Normalization", 2015).
///
/// Inside a training scope mean and biased variance are those of the batch, and the running ones (with the unbiased variance)
/// move towards them when the scope is finished; outside, the running ones are used.
///
/// ```
/// use cupola_nn::{Layer, Module, layers::BatchNorm2d, training};
/// use cupola_tensor::{Rng, Tensor, no_grad};
/// let mut norm = BatchNorm2d::new(3).init(0);
/// let x = Tensor::randn([4, 3, 5, 5], Rng::seed(1)) + 2.0;
/// let scope = training(0, 0);
/// assert!(norm.forward(&x).mean([]).item().abs() < 1e-5);
/// scope.finish(&mut norm);
/// assert!((norm.running_mean().mean([]).item() - 0.2).abs() < 0.05);
/// no_grad(|| norm.forward(&x));
/// ```
#[derive(Module, Clone, Debug)]
pub struct BatchNorm<const D: usize> {
    /// `[C]`, ones at first.
    pub weight: Option<Param>,
    /// `[C]`, zeros at first.
    pub bias: Option<Param>,
    #[module(flatten)]
    running: Option<Running>,
    eps: f64,
    momentum: Option<f64>,
}

/// The statistics that a norm keeps for evaluation.
#[derive(Module, Clone, Debug)]
pub(super) struct Running {
    running_mean: ModuleBuffer,
    running_var: ModuleBuffer,
    num_batches_tracked: ModuleBuffer,
}

impl Running {
    #[track_caller]
    pub fn new(channels: usize) -> Self {
        Self {
            running_mean: ModuleBuffer::new([channels], 0.0),
            running_var: ModuleBuffer::new([channels], 1.0),
            num_batches_tracked: ModuleBuffer::of([], 0.0, DType::I64),
        }
    }

    pub fn mean(&self) -> Tensor {
        self.running_mean.value()
    }

    pub fn var(&self) -> Tensor {
        self.running_var.value()
    }

    /// How many batches there will be with the one that is about to be counted.
    fn seen(&self) -> Tensor {
        &self.num_batches_tracked.latest() + &Tensor::full_of([], 1.0, DType::I64)
    }

    /// Asks the training scope to move the statistics by `share` of the way to those of a batch.
    pub fn update(&self, share: f64, mean: &Tensor, var: &Tensor) {
        for (buffer, batch) in [(&self.running_mean, mean), (&self.running_var, var)] {
            let moved = buffer.latest() * (1.0 - share) + batch.detach().to_dtype(buffer.dtype()) * share;
            buffer.update(&moved);
        }
    }
}

impl<const D: usize> BatchNorm<D> {
    const NAME: &'static str = if D == 1 { "BatchNorm1d" } else { "BatchNorm2d" };

    /// A norm of `channels` channels with PyTorch's defaults.
    #[track_caller]
    pub fn new(channels: usize) -> Self {
        Self::with(channels, BatchNormConfig::default())
    }

    /// A norm of `channels` channels.
    #[track_caller]
    pub fn with(channels: usize, config: BatchNormConfig) -> Self {
        Self {
            weight: config.affine.then(|| Param::new([channels], Init::Ones)),
            bias: config.affine.then(|| Param::new([channels], Init::Zeros)),
            running: config.track_running_stats.then(|| Running::new(channels)),
            eps: config.eps,
            momentum: config.momentum,
        }
    }

    /// The running mean `[C]`.
    ///
    /// # Panics
    /// When none is kept.
    #[track_caller]
    pub fn running_mean(&self) -> Tensor {
        self.running.as_ref().expect("this norm keeps no running statistics").mean()
    }

    /// The running variance `[C]`.
    ///
    /// # Panics
    /// When none is kept.
    #[track_caller]
    pub fn running_var(&self) -> Tensor {
        self.running.as_ref().expect("this norm keeps no running statistics").var()
    }

    fn track(&self, running: &Running, x: &Tensor, mean: &Tensor, var: &Tensor) {
        no_grad(|| {
            let seen = running.seen();
            let share = self.momentum.unwrap_or_else(|| 1.0 / seen.item());
            let count = (x.numel() / x.dim(1)) as f64;
            running.update(share, mean, &(var.detach() * (count / (count - 1.0))));
            running.num_batches_tracked.update(&seen);
        });
    }
}

impl<const D: usize> Layer for BatchNorm<D> {
    /// # Shapes
    /// `[N, C]` or `[N, C, L]` of [`BatchNorm1d`], `[N, C, H, W]` of [`BatchNorm2d`], to the same.
    ///
    /// # Panics
    /// When the shape is another, a channel has one value in training, or the layer is recorded outside of a training scope.
    fn forward(&self, x: &Tensor) -> Tensor {
        let fits = if D == 1 { matches!(x.rank(), 2 | 3) } else { x.rank() == D + 2 };
        assert!(fits, "{}: shape {} has another number of dimensions than expected", Self::NAME, x.shape());
        let (weight, bias) = (self.weight.as_deref(), self.bias.as_deref());
        let training = is_training(Self::NAME);
        match &self.running {
            Some(running) if !training => x.batch_norm_given(&running.mean(), &running.var(), weight, bias, self.eps),
            running => {
                let (y, mean, var) = x.batch_norm(weight, bias, self.eps);
                if let Some(running) = running {
                    self.track(running, x, &mean, &var);
                }
                y
            }
        }
    }
}
