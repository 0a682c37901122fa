//! Gated linear attention (Yang et al., "Gated Linear Attention Transformers with Hardware-Efficient Training", 2023,
//! arXiv:2312.06635).

use cupola_nn::layers::{Linear, RmsNorm};
use cupola_nn::{Layer, Module};
use cupola_tensor::ops::gated_linear_attention;
use cupola_tensor::{Segments, Tensor};

use super::scan::{state_dtype, with_states};
use crate::channels::{projection, residual_projection};
use crate::spec::ModelSpec;
use crate::state::MixerState;

/// Linear attention with a decay for each key channel, a norm of each head and an output gate:
///
/// ```text
/// decay = sigmoid(gk_proj(u))^(1 / normalizer)
/// S[t] = diag(decay[t]) S[t - 1] + k[t] v[t]^T;  y[t] = q[t] S[t] / sqrt(keys)
/// o_proj(norm(y) silu(g_proj(u)))
/// ```
#[derive(Module, Clone)]
pub struct Gla {
    /// `q_proj`, `k_proj`, `v_proj`, `g_proj` and `gk_down_proj` under each other.
    #[module(flatten)]
    pub proj: Linear,
    /// The second half of the decays' projection, `[H S, low rank]`.
    pub gk_proj: Linear,
    /// Of each head's result.
    pub g_norm: RmsNorm,
    /// The projection of the heads' results.
    pub o_proj: Linear,
    heads: usize,
    keys: usize,
    values: usize,
    low_rank: usize,
    normalizer: f64,
}

impl Gla {
    /// The gated linear attention of this specification's layers.
    ///
    /// # Panics
    /// When the specification has none.
    #[track_caller]
    pub fn new(spec: &ModelSpec) -> Self {
        let gla = spec.gla.as_ref().expect("a specification with gated linear attention has its table");
        let width = |width: Option<usize>| width.expect("a valid specification has all widths");
        let (heads, keys, values) = (gla.num_heads, width(gla.head_dim), width(gla.head_v_dim));
        let (of_keys, of_values, low_rank) = (heads * keys, heads * values, gla.gate_low_rank_dim);
        let parts = [
            ("q_proj", of_keys),
            ("k_proj", of_keys),
            ("v_proj", of_values),
            ("g_proj", of_values),
            ("gk_down_proj", low_rank),
        ];
        Self {
            proj: projection(Linear::fused(spec.hidden_size, &parts), false, spec),
            gk_proj: projection(Linear::new(low_rank, of_keys), true, spec),
            g_norm: RmsNorm::new(values).with_eps(spec.norm_eps),
            o_proj: residual_projection(Linear::new(of_values, spec.hidden_size), false, spec),
            heads,
            keys,
            values,
            low_rank,
            normalizer: gla.gate_logit_normalizer,
        }
    }

    /// What is kept of a sequence that has not begun: the heads' states.
    pub fn state(&self) -> MixerState {
        let shape = [1, self.heads, self.keys, self.values];
        MixerState::recurrent(vec![Tensor::zeros_of(shape, state_dtype(self.o_proj.weight.dtype()))])
    }

    /// # Shapes
    /// `x [N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, states: Option<Vec<&mut MixerState>>) -> Tensor {
        let (tokens, heads) = (x.dim(0), self.heads);
        let (of_keys, of_values) = (heads * self.keys, heads * self.values);
        let parts = self.proj.forward(x).split(-1, &[of_keys, of_keys, of_values, of_values, self.low_rank]);
        let keyed = |x: &Tensor| x.reshape([tokens, heads, self.keys]);
        let valued = |x: &Tensor| x.reshape([tokens, heads, self.values]);
        let q = keyed(&parts[0]) * (1.0 / (self.keys as f64).sqrt());
        let (k, v) = (keyed(&parts[1]), valued(&parts[2]));
        // The logarithm of a sigmoid is minus the softplus of minus the argument.
        let decay = (-self.gk_proj.forward(&parts[4])).softplus() * (-1.0 / self.normalizer);
        let decay = keyed(&decay);
        let y = with_states(states, segments, [&q, &k, &v, &decay], |[q, k, v, decay], segments, states| {
            let (state, wanted) = (states.map(|s| &s[0]), states.is_some());
            let (y, last) = gated_linear_attention(q, k, v, decay, segments, state, wanted);
            (y, last.into_iter().collect())
        });
        let y = valued(&parts[3]).swiglu(&self.g_norm.forward(&y));
        self.o_proj.forward(&y.reshape([tokens, of_values]))
    }
}
