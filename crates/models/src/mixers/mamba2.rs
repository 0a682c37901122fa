//! Mamba-2 (Dao and Gu, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality",
//! 2024, arXiv:2405.21060).

use cupola_nn::init::Init;
use cupola_nn::layers::{Linear, RmsNorm};
use cupola_nn::{Layer, Module, Param};
use cupola_tensor::ops::{SsdConfig, ssd};
use cupola_tensor::{Segments, Tensor};

use super::mamba::{last, outer};
use super::scan::{ShortConv, state_dtype, time_step_bias, with_states};
use crate::spec::ModelSpec;
use crate::state::MixerState;

/// State-space duality between two projections:
///
/// ```text
/// z, xbc, dt = in_proj(u);  x, b, c = silu(conv1d(xbc));  dt = softplus(dt + dt_bias)
/// y = ssd(c, b, x, decay exp(-dt exp(A_log)), scale dt) + D x
/// out_proj(norm(y silu(z)))
/// ```
///
/// The norm is taken over each group's channels.
#[derive(Module, Clone)]
pub struct Mamba2 {
    /// To gate, x, b, c and time steps, `[2 Di + 2 G S + H, D]`.
    pub in_proj: Linear,
    /// Over x, b and c.
    pub conv1d: ShortConv,
    /// `[H]`.
    pub dt_bias: Param,
    /// Logarithm of minus the decays, `[H]`.
    #[module(rename = "A_log")]
    pub a_log: Param,
    /// What of x passes by the scan, `[H]`.
    #[module(rename = "D")]
    pub d: Param,
    /// Of the gated result, `[Di]`.
    pub norm: RmsNorm,
    /// Back, `[D, Di]`.
    pub out_proj: Linear,
    heads: usize,
    head_dim: usize,
    groups: usize,
    states: usize,
    #[module(skip)]
    limit: Option<[f64; 2]>,
}

impl Mamba2 {
    /// The Mamba-2 of this specification's layers.
    ///
    /// # Panics
    /// When the specification has none.
    #[track_caller]
    pub fn new(spec: &ModelSpec) -> Self {
        let mamba = spec.mamba2.as_ref().expect("a specification with Mamba-2 layers has their table");
        let (width, inner) = (spec.hidden_size, spec.hidden_size * mamba.expand);
        let (heads, shared) = (inner / mamba.head_dim, 2 * mamba.n_groups * mamba.state_size);
        Self {
            in_proj: outer(width, 2 * inner + shared + heads, mamba.use_bias, spec),
            conv1d: ShortConv::new(inner + shared, mamba.conv_kernel, mamba.use_conv_bias),
            dt_bias: time_step_bias(heads, mamba.time_steps()),
            a_log: Param::new([heads], Init::LogUniform { low: 1.0, high: 16.0 }),
            d: Param::new([heads], Init::Ones),
            norm: RmsNorm::new(inner).with_eps(spec.norm_eps),
            out_proj: last(inner, width, mamba.use_bias, spec),
            heads,
            head_dim: mamba.head_dim,
            groups: mamba.n_groups,
            states: mamba.state_size,
            limit: mamba.time_step_limit,
        }
    }

    /// What is kept of a sequence that has not begun: the convolution's inputs, the heads' states.
    pub fn state(&self) -> MixerState {
        let dtype = state_dtype(self.out_proj.weight.dtype());
        let states = Tensor::zeros_of([1, self.heads, self.states, self.head_dim], dtype);
        MixerState::recurrent(vec![self.conv1d.state(), states])
    }

    /// # Shapes
    /// `x [N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, states: Option<Vec<&mut MixerState>>) -> Tensor {
        let (inner, shared) = (self.heads * self.head_dim, self.groups * self.states);
        let parts = self.in_proj.forward(x).split(-1, &[inner, inner + 2 * shared, self.heads]);
        let (z, mixed, dt) = (&parts[0], &parts[1], (&parts[2] + &*self.dt_bias).softplus());
        let dt = match self.limit {
            Some([low, high]) => dt.clamp(low, high),
            None => dt,
        };
        let log_decay = &dt * -self.a_log.exp();
        let inputs = [mixed, &dt, &log_decay];
        let y = with_states(states, segments, inputs, |[mixed, dt, log_decay], segments, states| {
            let tokens = mixed.dim(0);
            let (mixed, taps) = self.conv1d.forward(mixed, segments, states.map(|s| &s[0]));
            let parts = mixed.split(-1, &[inner, shared, shared]);
            let x = parts[0].reshape([tokens, self.heads, self.head_dim]);
            let [b, c] = [1, 2].map(|part: usize| parts[part].reshape([tokens, self.groups, self.states]));
            let config = SsdConfig {
                log_decay: Some(log_decay),
                scale: Some(dt),
                state: states.map(|s| &s[1]),
                final_state: states.is_some(),
                ..SsdConfig::default()
            };
            let (y, last) = ssd(&c, &b, &x, segments, config);
            let y = y + x * self.d.unsqueeze(-1);
            (y.reshape([tokens, inner]), taps.into_iter().chain(last).collect())
        });
        // D is kept in f32 under autocast, and what is added to it with it.
        self.out_proj.forward(&self.grouped_norm(&z.swiglu(&y.to_dtype(z.dtype()))))
    }

    fn grouped_norm(&self, x: &Tensor) -> Tensor {
        if self.groups == 1 {
            return self.norm.forward(x);
        }
        let (tokens, inner) = (x.dim(0), x.dim(1));
        let groups = x.reshape([tokens, self.groups, inner / self.groups]).rms_norm(None, self.norm.eps);
        groups.reshape([tokens, inner]) * &*self.norm.weight
    }
}
