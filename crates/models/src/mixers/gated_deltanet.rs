//! Gated DeltaNet (Yang et al., "Gated Delta Networks: Improving Mamba2 with Delta Rule", 2024, arXiv:2412.06464).

use cupola_nn::init::Init;
use cupola_nn::layers::{Linear, RmsNorm};
use cupola_nn::{Layer, Module, Param};
use cupola_tensor::ops::{DeltaRuleConfig, gated_delta_rule};
use cupola_tensor::{Segments, Tensor};

use super::scan::{ShortConv, state_dtype, time_step_bias, unit_length, with_states};
use crate::channels::{projection, residual_projection};
use crate::spec::ModelSpec;
use crate::state::MixerState;

/// The delta rule with a decay as in Mamba-2, a norm of each head and an output gate:
///
/// ```text
/// q, k, v = silu(conv1d(qkv_proj(u)));  beta = sigmoid(b_proj(u))
/// decay = exp(-exp(A_log) softplus(a_proj(u) + dt_bias))
/// P = decay[t] S[t - 1];  S[t] = P + k[t] beta[t] (v[t] - P^T k[t])^T;  y[t] = q[t] S[t] / sqrt(keys)
/// o_proj(norm(y) silu(g_proj(u)))
/// ```
///
/// with queries and keys of length 1.
#[derive(Module, Clone)]
pub struct GatedDeltaNet {
    /// `q_proj`, `k_proj`, `v_proj`, `g_proj`, `b_proj` and `a_proj` under each other.
    #[module(flatten)]
    pub proj: Linear,
    /// Over queries, keys and values.
    pub conv1d: ShortConv,
    /// Logarithm of minus the decays, `[H]`.
    #[module(rename = "A_log")]
    pub a_log: Param,
    /// `[H]`.
    pub dt_bias: Param,
    /// Of each head's result.
    pub o_norm: RmsNorm,
    /// The projection of the heads' results.
    pub o_proj: Linear,
    heads: usize,
    keys: usize,
    values: usize,
}

impl GatedDeltaNet {
    /// The Gated DeltaNet of this specification's layers.
    ///
    /// # Panics
    /// When the specification has none.
    #[track_caller]
    pub fn new(spec: &ModelSpec) -> Self {
        let delta = spec.gated_deltanet.as_ref().expect("a specification with Gated DeltaNet layers has their table");
        let width = |width: Option<usize>| width.expect("a valid specification has all widths");
        let (heads, keys, values) = (delta.num_heads, width(delta.head_dim), width(delta.head_v_dim));
        let (of_keys, of_values) = (heads * keys, heads * values);
        let parts = [
            ("q_proj", of_keys),
            ("k_proj", of_keys),
            ("v_proj", of_values),
            ("g_proj", of_values),
            ("b_proj", heads),
            ("a_proj", heads),
        ];
        Self {
            proj: projection(Linear::fused(spec.hidden_size, &parts), false, spec),
            conv1d: ShortConv::new(2 * of_keys + of_values, delta.conv_kernel, false),
            a_log: Param::new([heads], Init::LogUniform { low: 1e-3, high: 16.0 }),
            dt_bias: time_step_bias(heads, delta.time_steps()),
            o_norm: RmsNorm::new(values).with_eps(spec.norm_eps),
            o_proj: residual_projection(Linear::new(of_values, spec.hidden_size), false, spec),
            heads,
            keys,
            values,
        }
    }

    /// What is kept of a sequence that has not begun: the convolution's inputs, the heads' states.
    pub fn state(&self) -> MixerState {
        let shape = [1, self.heads, self.keys, self.values];
        let states = Tensor::zeros_of(shape, state_dtype(self.o_proj.weight.dtype()));
        MixerState::recurrent(vec![self.conv1d.state(), states])
    }

    /// # Shapes
    /// `x [N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, states: Option<Vec<&mut MixerState>>) -> Tensor {
        let (tokens, heads) = (x.dim(0), self.heads);
        let (of_keys, of_values) = (heads * self.keys, heads * self.values);
        let parts = self.proj.forward(x).split(-1, &[2 * of_keys + of_values, of_values, heads, heads]);
        let beta = parts[2].sigmoid();
        let log_decay = (&parts[3] + &*self.dt_bias).softplus() * -self.a_log.exp();
        let inputs = [&parts[0], &beta, &log_decay];
        let y = with_states(states, segments, inputs, |[qkv, beta, log_decay], segments, states| {
            let tokens = qkv.dim(0);
            let (qkv, taps) = self.conv1d.forward(qkv, segments, states.map(|s| &s[0]));
            let all = qkv.split(-1, &[of_keys, of_keys, of_values]);
            let [q, k] = [0, 1].map(|part: usize| all[part].reshape([tokens, heads, self.keys]));
            let v = all[2].reshape([tokens, heads, self.values]);
            let q = unit_length(&q, 1.0 / (self.keys as f64).sqrt());
            let (log_decay, state) = (Some(log_decay), states.map(|s| &s[1]));
            let config = DeltaRuleConfig { log_decay, state, final_state: states.is_some() };
            let (y, last) = gated_delta_rule(&q, &unit_length(&k, 1.0), &v, beta, segments, config);
            (y, taps.into_iter().chain(last).collect())
        });
        let gate = parts[1].reshape([tokens, heads, self.values]);
        let y = gate.swiglu(&self.o_norm.forward(&y));
        self.o_proj.forward(&y.reshape([tokens, of_values]))
    }
}
