//! Mamba (Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, arXiv:2312.00752).

use cupola_nn::init::Init;
use cupola_nn::layers::Linear;
use cupola_nn::{Layer, Module, Param};
use cupola_tensor::ops::{SelectiveScanConfig, selective_scan};
use cupola_tensor::{Segments, Tensor};

use super::scan::{ShortConv, state_dtype, time_step_bias, with_states};
use crate::channels::{residuals, ternary};
use crate::spec::ModelSpec;
use crate::state::MixerState;

/// A selective scan between two projections:
///
/// ```text
/// x, z = in_proj(u);  x = silu(conv1d(x))
/// dt, b, c = x_proj(x);  dt = softplus(dt_proj(dt))
/// y = scan(x, dt, -exp(A_log), b, c) + D x
/// out_proj(y silu(z))
/// ```
#[derive(Module, Clone)]
pub struct Mamba {
    /// To x and its gate, `[2 Di, D]`.
    pub in_proj: Linear,
    /// Over x.
    pub conv1d: ShortConv,
    /// To time steps of low rank, b and c, `[R + 2 S, Di]`.
    pub x_proj: Linear,
    /// To time steps, `[Di, R]`.
    pub dt_proj: Linear,
    /// Logarithm of minus the decays, `[Di, S]`.
    #[module(rename = "A_log")]
    pub a_log: Param,
    /// What of x passes by the scan, `[Di]`.
    #[module(rename = "D")]
    pub d: Param,
    /// Back, `[D, Di]`.
    pub out_proj: Linear,
    inner: usize,
    rank: usize,
    states: usize,
}

impl Mamba {
    /// The Mamba of this specification's layers.
    ///
    /// # Panics
    /// When the specification has none.
    #[track_caller]
    pub fn new(spec: &ModelSpec) -> Self {
        let mamba = spec.mamba.as_ref().expect("a specification with Mamba layers has their table");
        let (width, inner, rank) = (spec.hidden_size, spec.hidden_size * mamba.expand, mamba.rank(spec.hidden_size));
        let mut dt_proj = Linear::new(rank, inner);
        dt_proj.weight.set_initializer(Init::uniform_within(1.0 / (rank as f64).sqrt()));
        dt_proj.bias = Some(time_step_bias(inner, mamba.time_steps()));
        Self {
            in_proj: outer(width, 2 * inner, mamba.use_bias, spec),
            conv1d: ShortConv::new(inner, mamba.conv_kernel, mamba.use_conv_bias),
            x_proj: Linear::new(inner, rank + 2 * mamba.state_size).without_bias(),
            dt_proj,
            a_log: Param::new([inner, mamba.state_size], Init::LogRange),
            d: Param::new([inner], Init::Ones),
            out_proj: last(inner, width, mamba.use_bias, spec),
            inner,
            rank,
            states: mamba.state_size,
        }
    }

    /// What is kept of a sequence that has not begun: the convolution's inputs, the scan's states.
    pub fn state(&self) -> MixerState {
        let dtype = state_dtype(self.out_proj.weight.dtype());
        let states = Tensor::zeros_of([1, self.inner, self.states], dtype);
        MixerState::recurrent(vec![self.conv1d.state(), states])
    }

    /// # Shapes
    /// `x [N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, states: Option<Vec<&mut MixerState>>) -> Tensor {
        let [x, z] = two(&self.in_proj.forward(x), self.inner);
        let y = with_states(states, segments, [&x], |[x], segments, states| {
            let (x, taps) = self.conv1d.forward(x, segments, states.map(|s| &s[0]));
            let parts = self.x_proj.forward(&x).split(-1, &[self.rank, self.states, self.states]);
            let dt = self.dt_proj.forward(&parts[0]).softplus();
            let config = SelectiveScanConfig {
                skip: Some(&self.d),
                state: states.map(|s| &s[1]),
                final_state: states.is_some(),
            };
            let (y, last) = selective_scan(&x, &dt, &-self.a_log.exp(), &parts[1], &parts[2], segments, config);
            (y, taps.into_iter().chain(last).collect())
        });
        self.out_proj.forward(&z.swiglu(&y))
    }
}

/// The first `width` columns and the others.
pub(super) fn two(x: &Tensor, width: usize) -> [Tensor; 2] {
    let mut parts = x.split(-1, &[width, x.dim(-1) - width]);
    let others = parts.pop().expect("a split in two has two parts");
    [parts.pop().expect("a split in two has two parts"), others]
}

/// A projection into a state-space mixer, which begins as PyTorch's do; biases at zero.
pub(super) fn outer(inputs: usize, outputs: usize, bias: bool, spec: &ModelSpec) -> Linear {
    let mut linear = Linear { ternary: ternary(spec), ..Linear::new(inputs, outputs) };
    if let Some(bias) = &mut linear.bias {
        bias.set_initializer(Init::Zeros);
    }
    if bias { linear } else { linear.without_bias() }
}

/// The projection out of it, smaller by the square root of the number of parts that are added to the stream where the specification
/// asks for that: the authors' `n_residuals_per_layer * n_layer`.
pub(super) fn last(inputs: usize, outputs: usize, bias: bool, spec: &ModelSpec) -> Linear {
    let mut linear = outer(inputs, outputs, bias, spec);
    if spec.scale_residual_init {
        let bound = 1.0 / (inputs as f64 * residuals(spec)).sqrt();
        linear.weight.set_initializer(Init::uniform_within(bound));
    }
    linear
}
