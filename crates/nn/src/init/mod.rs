//! Initialisers: those of `torch.nn.init`, as values that a [`crate::Param`] keeps until it is given memory.
//!
//! Numbers come from the parameter's own random stream, computed in f64: the value at a position depends on seed, path and
//! position alone.

mod draw;
mod structured;

use std::ops::Range;

use cupola_core::{Buffer, DType, Element, Rng, Shape, bf16, f16};
use serde::{Deserialize, Serialize};

/// Which side of a weight `[out, in, ...]` Kaiming initialisation keeps the variance of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FanMode {
    /// Activations in the forward pass.
    FanIn,
    /// Gradients in the backward pass.
    FanOut,
}

/// The activation that follows a layer, for the gain that makes up for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nonlinearity {
    /// None, a convolution, or a sigmoid: gain 1.
    Linear,
    /// `tanh`: gain 5/3.
    Tanh,
    /// `relu`: gain sqrt(2).
    Relu,
    /// `leaky_relu` with this negative slope `a`: gain sqrt(2 / (1 + a^2)).
    LeakyRelu(f64),
    /// `selu`: gain 3/4.
    Selu,
}

impl Nonlinearity {
    /// The recommended gain, `torch.nn.init.calculate_gain`.
    ///
    /// ```
    /// use cupola_nn::init::Nonlinearity;
    /// assert_eq!(Nonlinearity::LeakyRelu(5f64.sqrt()).gain(), (1.0f64 / 3.0).sqrt());
    /// ```
    pub fn gain(self) -> f64 {
        match self {
            Nonlinearity::Linear => 1.0,
            Nonlinearity::Tanh => 5.0 / 3.0,
            Nonlinearity::Relu => 2f64.sqrt(),
            Nonlinearity::LeakyRelu(slope) => (2.0 / (1.0 + slope * slope)).sqrt(),
            Nonlinearity::Selu => 0.75,
        }
    }
}

/// How a parameter's first values are made. For a weight `[out, in, ...]` the fans are `in` and `out` times the number of
/// elements of the remaining dimensions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All one value.
    Constant(f64),
    /// Uniform in `[low, high)`.
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Its mean.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },
    /// Normal with everything outside of `[low, high]` drawn again.
    TruncNormal {
        /// Mean before truncation.
        mean: f64,
        /// Standard deviation before truncation.
        std: f64,
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// Uniform with variance `gain^2 * 2 / (fan_in + fan_out)` (Glorot and Bengio 2010).
    XavierUniform {
        /// See [`Nonlinearity::gain`].
        gain: f64,
    },
    /// Normal with that variance.
    XavierNormal {
        /// See [`Nonlinearity::gain`].
        gain: f64,
    },
    /// Uniform with variance `gain^2 / fan` (He et al. 2015).
    KaimingUniform {
        /// Which fan.
        mode: FanMode,
        /// What follows.
        nonlinearity: Nonlinearity,
    },
    /// Normal with that variance.
    KaimingNormal {
        /// Which fan.
        mode: FanMode,
        /// What follows.
        nonlinearity: Nonlinearity,
    },
    /// Rows (or columns, if these are fewer) orthogonal and of length `gain`, all dimensions after the first taken as one
    /// (Saxe et al. 2014).
    Orthogonal {
        /// Their length.
        gain: f64,
    },
    /// The identity of a matrix, cut or padded with zeros.
    Eye,
    /// The identity of a convolution `[out, in, ...]`: the first `in / groups` channels of each group pass through the kernel's
    /// centre.
    Dirac {
        /// Groups of the convolution.
        groups: usize,
    },
    /// The logarithms of 1, 2, 3, ... along the last dimension: decays of state-space models (Gu et al., "On the Parameterization and
    /// Initialization of Diagonal State Space Models", 2022).
    LogRange,
    /// The logarithm of a number that is uniform in `[low, high)`.
    LogUniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// What softplus turns into a number whose logarithm is uniform between those of `low` and `high`, and that is at least `floor`:
    /// biases of time steps (Gu and Dao, "Mamba", 2023).
    TimeStep {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
        /// The least that is given.
        floor: f64,
    },
    /// A matrix of normals with mean 0 in which `ceil(sparsity * rows)` entries of every column are 0 (Martens 2010).
    Sparse {
        /// Share of zeros.
        sparsity: f64,
        /// Standard deviation of the rest.
        std: f64,
    },
}

impl Init {
    /// What PyTorch gives the weights of `Linear` and convolutions: [`Init::KaimingUniform`] for `leaky_relu(sqrt(5))`, which is
    /// uniform within `1 / sqrt(fan_in)`.
    pub const LINEAR: Init = Init::KaimingUniform {
        mode: FanMode::FanIn,
        // sqrt(5), which is not a constant function yet.
        nonlinearity: Nonlinearity::LeakyRelu(2.236_067_977_499_79),
    };

    /// Uniform within `bound` of 0.
    pub const fn uniform_within(bound: f64) -> Init {
        Init::Uniform { low: -bound, high: bound }
    }

    /// Normal with mean 0.
    pub const fn normal(std: f64) -> Init {
        Init::Normal { mean: 0.0, std }
    }

    /// Normal with mean 0, truncated at two standard deviations as `torch.nn.init.trunc_normal_` is for `std` 1.
    pub const fn trunc_normal(std: f64) -> Init {
        Init::TruncNormal { mean: 0.0, std, low: -2.0, high: 2.0 }
    }

    /// Kaiming's uniform for a layer that a rectifier follows.
    pub const KAIMING_UNIFORM: Init = Init::KaimingUniform { mode: FanMode::FanIn, nonlinearity: Nonlinearity::Relu };

    /// Kaiming's normal for a layer that a rectifier follows.
    pub const KAIMING_NORMAL: Init = Init::KaimingNormal { mode: FanMode::FanIn, nonlinearity: Nonlinearity::Relu };

    /// Writes the values of a parameter of `shape` to positions `range` of `buffer`.
    ///
    /// # Panics
    /// When the initialiser asks for more dimensions than `shape` has, or the buffer is not floating-point.
    #[track_caller]
    pub(crate) fn fill(&self, buffer: &mut Buffer, range: Range<usize>, shape: &Shape, rng: Rng) {
        match buffer.dtype() {
            DType::F64 => self.fill_slice(&mut buffer.as_mut_slice::<f64>()[range], shape, rng),
            DType::F32 => self.fill_slice(&mut buffer.as_mut_slice::<f32>()[range], shape, rng),
            DType::BF16 => self.fill_slice(&mut buffer.as_mut_slice::<bf16>()[range], shape, rng),
            DType::F16 => self.fill_slice(&mut buffer.as_mut_slice::<f16>()[range], shape, rng),
            other => panic!("init: a parameter of {other} cannot be initialised"),
        }
    }

    #[track_caller]
    fn fill_slice<T: Element>(&self, out: &mut [T], shape: &Shape, rng: Rng) {
        match *self {
            Init::Zeros => out.fill(T::from_f64(0.0)),
            Init::Ones => out.fill(T::from_f64(1.0)),
            Init::Constant(value) => out.fill(T::from_f64(value)),
            Init::Uniform { low, high } => draw::uniform(out, low, high, rng),
            Init::Normal { mean, std } => draw::normal(out, mean, std, rng),
            Init::TruncNormal { mean, std, low, high } => draw::trunc_normal(out, mean, std, low, high, rng),
            Init::XavierUniform { gain } => {
                let bound = gain * (3.0f64 * 2.0 / self.fans_sum(shape)).sqrt();
                draw::uniform(out, -bound, bound, rng);
            }
            Init::XavierNormal { gain } => draw::normal(out, 0.0, gain * (2.0 / self.fans_sum(shape)).sqrt(), rng),
            Init::KaimingUniform { mode, nonlinearity } => {
                let bound = nonlinearity.gain() * (3.0 / fan(shape, mode)).sqrt();
                draw::uniform(out, -bound, bound, rng);
            }
            Init::KaimingNormal { mode, nonlinearity } => {
                draw::normal(out, 0.0, nonlinearity.gain() / fan(shape, mode).sqrt(), rng);
            }
            Init::Orthogonal { gain } => structured::orthogonal(out, shape, gain, rng),
            Init::Eye => structured::eye(out, shape),
            Init::Dirac { groups } => structured::dirac(out, shape, groups),
            Init::LogRange => structured::log_range(out, shape),
            Init::LogUniform { low, high } => draw::mapped(out, rng, |u| (low + u * (high - low)).ln()),
            Init::TimeStep { low, high, floor } => draw::mapped(out, rng, |u| {
                let step = (low.ln() + u * (high.ln() - low.ln())).exp().max(floor);
                // The inverse of softplus, exact for small steps.
                step + (-(-step).exp_m1()).ln()
            }),
            Init::Sparse { sparsity, std } => structured::sparse(out, shape, sparsity, std, rng),
        }
    }

    #[track_caller]
    fn fans_sum(&self, shape: &Shape) -> f64 {
        fan(shape, FanMode::FanIn) + fan(shape, FanMode::FanOut)
    }
}

/// `fan_in` or `fan_out` of a weight `[out, in, ...]`.
#[track_caller]
fn fan(shape: &Shape, mode: FanMode) -> f64 {
    let [outputs, inputs, field @ ..] = shape.dims() else {
        panic!("init: shape {shape} has no fans; a weight has at least two dimensions")
    };
    let channels = match mode {
        FanMode::FanIn => inputs,
        FanMode::FanOut => outputs,
    };
    (channels * field.iter().product::<usize>()) as f64
}
