//! What the recurrent mixers share: their states, the short convolution before a scan, first values.

use cupola_nn::init::Init;
use cupola_nn::{Module, Param};
use cupola_tensor::ops::{CausalConvConfig, causal_conv1d};
use cupola_tensor::{DType, Segments, Tensor};

use crate::spec::TimeSteps;
use crate::state::MixerState;

/// Runs a mixer from the states, if there are any, and gives them what it returns besides its result.
#[track_caller]
pub(super) fn with_states(
    states: Option<Vec<&mut MixerState>>,
    run: impl FnOnce(Option<&[Tensor]>) -> (Tensor, Vec<Tensor>),
) -> Tensor {
    match states {
        Some(states) if !states.is_empty() => {
            let before = MixerState::gather(&states);
            let (y, after) = run(Some(&before));
            MixerState::scatter(states, &after);
            y
        }
        _ => run(None).0,
    }
}

/// The dtype that scans keep their states in, of a model with parameters of this one.
pub(super) fn state_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// A causal convolution of each channel with a kernel of its own, and SiLU: `conv1d` in Mamba's files.
#[derive(Module, Clone)]
pub struct ShortConv {
    /// `[C, 1, K]`.
    pub weight: Param,
    /// `[C]`.
    pub bias: Option<Param>,
}

impl ShortConv {
    /// A convolution of so many channels with so many taps.
    pub fn new(channels: usize, taps: usize, bias: bool) -> Self {
        let bound = 1.0 / (taps.max(1) as f64).sqrt();
        Self {
            weight: Param::new([channels, 1, taps], Init::uniform_within(bound)),
            bias: bias.then(|| Param::new([channels], Init::uniform_within(bound))),
        }
    }

    /// The state of a sequence that has not begun.
    pub fn state(&self) -> Tensor {
        let shape = self.weight.shape();
        Tensor::zeros_of([1, shape[2] - 1, shape[0]], self.weight.dtype())
    }

    /// `x [N, C]` -> `[N, C]`, and the state after each segment, if there is one before.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, state: Option<&Tensor>) -> (Tensor, Option<Tensor>) {
        let weight = self.weight.squeeze(1);
        let config = CausalConvConfig { silu: true, final_state: state.is_some() };
        causal_conv1d(x, &weight, self.bias.as_deref(), state, segments, config)
    }
}

/// The bias of time steps, one for each of `count`.
pub(super) fn time_step_bias(count: usize, steps: TimeSteps) -> Param {
    Param::new([count], Init::TimeStep { low: steps.min, high: steps.max, floor: steps.floor })
}

/// Each head divided by its length: `[N, H, S]`, times `factor`.
#[track_caller]
pub(super) fn unit_length(x: &Tensor, factor: f64) -> Tensor {
    // The norm by the root mean square, whose epsilon is that of the sum of squares divided by the width.
    let width = x.dim(-1) as f64;
    x.rms_norm(None, 1e-6 / width) * (factor / width.sqrt())
}
