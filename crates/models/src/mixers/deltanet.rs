//! DeltaNet (Yang et al., "Parallelizing Linear Transformers with the Delta Rule over Sequence Length", 2024, arXiv:2406.06484).

use cupola_nn::layers::{Linear, RmsNorm};
use cupola_nn::{Layer, Module};
use cupola_tensor::ops::{DeltaRuleConfig, gated_delta_rule};
use cupola_tensor::{Segments, Tensor};

use super::mamba::two;
use super::scan::{ShortConv, state_dtype, unit_length, with_states};
use crate::channels::{projection, residual_projection};
use crate::spec::ModelSpec;
use crate::state::MixerState;

/// The delta rule over queries, keys and values from short convolutions, with queries and keys of length 1:
///
/// ```text
/// q, k, v = silu(conv1d(qkv_proj(u)));  beta = sigmoid(b_proj(u))
/// S[t] = S[t - 1] + k[t] beta[t] (v[t] - S[t - 1]^T k[t])^T;  y[t] = q[t] S[t] / sqrt(keys)
/// o_proj(norm(y))
/// ```
#[derive(Module, Clone)]
pub struct DeltaNet {
    /// `q_proj`, `k_proj`, `v_proj` and `b_proj` under each other.
    #[module(flatten)]
    pub proj: Linear,
    /// Over queries, keys and values.
    pub conv1d: ShortConv,
    /// Of each head's result.
    pub o_norm: RmsNorm,
    /// The projection of the heads' results.
    pub o_proj: Linear,
    heads: usize,
    head_dim: usize,
}

impl DeltaNet {
    /// The DeltaNet of this specification's layers.
    ///
    /// # Panics
    /// When the specification has none.
    #[track_caller]
    pub fn new(spec: &ModelSpec) -> Self {
        let delta = spec.deltanet.as_ref().expect("a specification with DeltaNet layers has their table");
        let (heads, head_dim) = (delta.num_heads, delta.head_dim.expect("a valid specification has all widths"));
        let inner = heads * head_dim;
        let parts = [("q_proj", inner), ("k_proj", inner), ("v_proj", inner), ("b_proj", heads)];
        Self {
            proj: projection(Linear::fused(spec.hidden_size, &parts), false, spec),
            conv1d: ShortConv::new(3 * inner, delta.conv_kernel, false),
            o_norm: RmsNorm::new(head_dim).with_eps(spec.norm_eps),
            o_proj: residual_projection(Linear::new(inner, spec.hidden_size), false, spec),
            heads,
            head_dim,
        }
    }

    /// What is kept of a sequence that has not begun: the convolution's inputs, the heads' states.
    pub fn state(&self) -> MixerState {
        let shape = [1, self.heads, self.head_dim, self.head_dim];
        let states = Tensor::zeros_of(shape, state_dtype(self.o_proj.weight.dtype()));
        MixerState::recurrent(vec![self.conv1d.state(), states])
    }

    /// # Shapes
    /// `x [N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, states: Option<Vec<&mut MixerState>>) -> Tensor {
        let (tokens, heads, width) = (x.dim(0), self.heads, self.head_dim);
        let [qkv, beta] = two(&self.proj.forward(x), 3 * heads * width);
        let beta = beta.sigmoid();
        let y = with_states(states, segments, [&qkv, &beta], |[qkv, beta], segments, states| {
            let tokens = qkv.dim(0);
            let (qkv, taps) = self.conv1d.forward(qkv, segments, states.map(|s| &s[0]));
            let parts = qkv.chunk(-1, 3);
            let [q, k, v] = [0, 1, 2].map(|part: usize| parts[part].reshape([tokens, heads, width]));
            let q = unit_length(&q, 1.0 / (width as f64).sqrt());
            let state = states.map(|s| &s[1]);
            let config = DeltaRuleConfig { log_decay: None, state, final_state: states.is_some() };
            let (y, last) = gated_delta_rule(&q, &unit_length(&k, 1.0), &v, beta, segments, config);
            (y, taps.into_iter().chain(last).collect())
        });
        self.o_proj.forward(&self.o_norm.forward(&y).reshape([tokens, heads * width]))
    }
}
