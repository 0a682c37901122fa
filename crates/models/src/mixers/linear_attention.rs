//! Linear attention (Katharopoulos et al., "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention", 2020,
//! arXiv:2006.16236).

use cupola_nn::layers::Linear;
use cupola_nn::{Layer, Module};
use cupola_tensor::ops::{SsdConfig, ssd};
use cupola_tensor::{Segments, Tensor};

use super::scan::{state_dtype, with_states};
use crate::channels::{projection, residual_projection};
use crate::spec::ModelSpec;
use crate::state::MixerState;

/// Added to the sum of weights, as in the paper's code.
const EPS: f64 = 1e-6;

/// `y[t] = sum over s <= t of (f(q[t]) . f(k[s])) v[s] / sum over s <= t of f(q[t]) . f(k[s])` with `f(x) = elu(x) + 1`.
#[derive(Module, Clone)]
pub struct LinearAttention {
    /// The projections to queries, keys and values under each other: `q_proj`, `k_proj`, `v_proj` in files.
    #[module(flatten)]
    pub qkv: Linear,
    /// The projection of the heads' results.
    pub o_proj: Linear,
    heads: usize,
    head_dim: usize,
}

impl LinearAttention {
    /// The linear attention of this specification's layers.
    ///
    /// # Panics
    /// When the specification has none.
    #[track_caller]
    pub fn new(spec: &ModelSpec) -> Self {
        let linear = spec.linear_attention.as_ref().expect("a specification with linear attention has its table");
        let (heads, width) = (linear.num_heads, spec.hidden_size);
        let head_dim = linear.head_dim.expect("a valid specification has all widths");
        let inner = heads * head_dim;
        Self {
            qkv: projection(
                Linear::fused(width, &[("q_proj", inner), ("k_proj", inner), ("v_proj", inner)]),
                false,
                spec,
            ),
            o_proj: residual_projection(Linear::new(inner, width), false, spec),
            heads,
            head_dim,
        }
    }

    /// What is kept of a sequence that has not begun: the sums of keys with values, and of keys.
    pub fn state(&self) -> MixerState {
        let shape = [1, self.heads, self.head_dim, self.head_dim + 1];
        MixerState::recurrent(vec![Tensor::zeros_of(shape, state_dtype(self.o_proj.weight.dtype()))])
    }

    /// # Shapes
    /// `x [N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, states: Option<Vec<&mut MixerState>>) -> Tensor {
        let (tokens, heads, width) = (x.dim(0), self.heads, self.head_dim);
        let parts = self.qkv.forward(x).chunk(-1, 3);
        let [q, k, v] = [0, 1, 2].map(|part: usize| parts[part].reshape([tokens, heads, width]));
        let feature = |x: Tensor| x.elu(1.0) + 1.0;
        let (q, k) = (feature(q), feature(k));
        // A value of 1 behind the others sums up the weights.
        let v = v.pad(-1, 0, 1, 1.0);
        let y = with_states(states, segments, [&q, &k, &v], |[q, k, v], segments, states| {
            let config =
                SsdConfig { state: states.map(|s| &s[0]), final_state: states.is_some(), ..SsdConfig::default() };
            let (y, last) = ssd(q, k, v, segments, config);
            (y, last.into_iter().collect())
        });
        let parts = y.split(-1, &[width, 1]);
        let y = &parts[0] / (&parts[1] + EPS);
        self.o_proj.forward(&y.reshape([tokens, heads * width]))
    }
}
