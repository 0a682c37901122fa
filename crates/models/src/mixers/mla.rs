//! Multi-head latent attention (DeepSeek-AI, "DeepSeek-V2", 2024, arXiv:2405.04434).

use cupola_nn::layers::{Linear, RmsNorm};
use cupola_nn::training::is_training;
use cupola_nn::{Layer, Module};
use cupola_tensor::Tensor;
use cupola_tensor::ops::attention::{AttentionConfig, attention};
use cupola_tensor::ops::rotary::Pairing;

use super::Context;
use super::past::attend;
use crate::channels::{projection, residual_projection};
use crate::spec::{MlaSpec, ModelSpec};
use crate::state::{HeadLayout, MixerState};

/// Added to mean squares in the norms of latent vectors, whatever the model's own is (as in DeepSeek's code).
const EPS: f64 = 1e-6;

/// Attention whose keys and values are linear maps of a latent vector c of each token:
/// `k[h] = (K[h] c, turn(r))` and `v[h] = V[h] c`, with one rotary key r for all heads.
///
/// Without states keys and values are computed for every head. With states only `(c, r)` of each token is kept, and the maps are
/// absorbed: queries become `(K[h]^T q[h], turn(q_r[h]))`, all heads attend to the same `(c, r)`, and V follows the sums.
#[derive(Module, Clone)]
pub struct Mla {
    /// From the stream to queries, where these have no latent vector.
    pub q_proj: Option<Linear>,
    /// From the stream to the queries' latent vector.
    pub q_a_proj: Option<Linear>,
    /// Its norm.
    pub q_a_layernorm: Option<RmsNorm>,
    /// From the latent vector to queries.
    pub q_b_proj: Option<Linear>,
    /// From the stream to `(c, r)`.
    pub kv_a_proj_with_mqa: Linear,
    /// The norm of c.
    pub kv_a_layernorm: RmsNorm,
    /// K and V of each head below each other, `[H (Dn + Dv), R]`.
    pub kv_b_proj: Linear,
    /// The projection of the heads' results.
    pub o_proj: Linear,
    #[module(skip)]
    spec: MlaSpec,
    scale: f64,
}

impl Mla {
    /// The latent attention of this specification's layers.
    ///
    /// # Panics
    /// When the specification has none.
    #[track_caller]
    pub fn new(spec: &ModelSpec) -> Self {
        let mla = spec.mla.clone().expect("a specification with layers of latent attention has its table");
        let (width, heads, bias) = (spec.hidden_size, mla.num_attention_heads, mla.attention_bias);
        let map = |inputs, outputs, bias| projection(Linear::new(inputs, outputs), bias, spec);
        let queries = heads * mla.qk_head_dim();
        let (rank, turned) = (mla.kv_lora_rank, mla.qk_rope_head_dim);
        Self {
            q_proj: mla.q_lora_rank.is_none().then(|| map(width, queries, false)),
            q_a_proj: mla.q_lora_rank.map(|rank| map(width, rank, bias)),
            q_a_layernorm: mla.q_lora_rank.map(|rank| RmsNorm::new(rank).with_eps(EPS)),
            q_b_proj: mla.q_lora_rank.map(|rank| map(rank, queries, false)),
            kv_a_proj_with_mqa: map(width, rank + turned, bias),
            kv_a_layernorm: RmsNorm::new(rank).with_eps(EPS),
            kv_b_proj: map(rank, heads * (mla.qk_nope_head_dim + mla.v_head_dim), false),
            o_proj: residual_projection(Linear::new(heads * mla.v_head_dim, width), bias, spec),
            scale: mla.scale(spec.rope_scaling.as_ref()),
            spec: mla,
        }
    }

    /// What is kept of a token: its latent vector and rotary key, as one head of keys.
    pub fn layout(&self) -> HeadLayout {
        let width = self.spec.kv_lora_rank + self.spec.qk_rope_head_dim;
        HeadLayout { keys: [1, width], values: [1, 0], dtype: self.o_proj.weight.dtype() }
    }

    /// Bytes that the state grows by with each token.
    pub fn bytes_per_token(&self) -> usize {
        self.layout().token_bytes()
    }

    /// # Shapes
    /// `x [N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, context: &Context, states: Option<Vec<&mut MixerState>>) -> Tensor {
        let (plain, turned) = (self.spec.qk_nope_head_dim, self.spec.qk_rope_head_dim);
        let tokens = x.dim(0);
        let q =
            self.queries(x).reshape([tokens, self.spec.num_attention_heads, plain + turned]).split(2, &[plain, turned]);
        let latent = self.kv_a_proj_with_mqa.forward(x).split(1, &[self.spec.kv_lora_rank, turned]);
        let c = self.kv_a_layernorm.forward(&latent[0]);
        let (q_r, r) = (turn(&q[1], context), turn(&latent[1].unsqueeze(1), context));
        let config = AttentionConfig {
            causal: context.causal,
            window: self.spec.sliding_window,
            scale: Some(self.scale),
            dropout: if self.spec.dropout > 0.0 && is_training("Mla") { self.spec.dropout } else { 0.0 },
            ..AttentionConfig::of(&context.segments)
        };
        let y = match states {
            None => self.plain([&q[0], &q_r, &c, &r], &config),
            Some(states) => self.absorbed([&q[0], &q_r, &c, &r], states, &config),
        };
        self.o_proj.forward(&y.flatten_dims(1, 2))
    }

    fn queries(&self, x: &Tensor) -> Tensor {
        match (&self.q_proj, &self.q_a_proj, &self.q_a_layernorm, &self.q_b_proj) {
            (Some(q), ..) => q.forward(x),
            (_, Some(a), Some(norm), Some(b)) => b.forward(&norm.forward(&a.forward(x))),
            _ => unreachable!("queries come from the stream or from a latent vector"),
        }
    }

    /// Keys and values of every head.
    fn plain(&self, [q, q_r, c, r]: [&Tensor; 4], config: &AttentionConfig) -> Tensor {
        let (heads, plain) = (self.spec.num_attention_heads, self.spec.qk_nope_head_dim);
        let both = self.kv_b_proj.forward(c).reshape([c.dim(0), heads, plain + self.spec.v_head_dim]);
        let both = both.split(2, &[plain, self.spec.v_head_dim]);
        let shared = r.expand([r.dim(0), heads, r.dim(2)]);
        let (q, k) = (Tensor::cat(&[q, q_r], 2), Tensor::cat(&[&both[0], &shared], 2));
        attention(&q, &k, &both[1], config)
    }

    /// Every head attends to the latent vectors themselves.
    fn absorbed(&self, [q, q_r, c, r]: [&Tensor; 4], states: Vec<&mut MixerState>, config: &AttentionConfig) -> Tensor {
        let (heads, plain, rank) = (self.spec.num_attention_heads, self.spec.qk_nope_head_dim, self.spec.kv_lora_rank);
        let maps = self.kv_b_proj.effective_weight();
        let maps = maps.reshape([heads, plain + self.spec.v_head_dim, rank]).split(1, &[plain, self.spec.v_head_dim]);
        // [H, N, Dn] by [H, Dn, R].
        let q = q.transpose(0, 1).matmul(&maps[0]).transpose(0, 1);
        let q = Tensor::cat(&[&q, q_r], 2);
        let c = self.kv_b_proj.effective_input(c).unsqueeze(1);
        let kept = Tensor::cat(&[&c, r], 2);
        // The values are the first part of the keys: nothing is kept for them.
        let nothing = kept.narrow(2, 0, 0);
        let sums =
            attend(states, [&q, &kept, &nothing], config, |past, config| past.attention(&q, 0..1, Some(rank), config));
        sums.transpose(0, 1).matmul(&maps[1].transpose(1, 2)).transpose(0, 1)
    }
}

/// Each head turned by its token's position, in pairs of neighbours.
fn turn(x: &Tensor, context: &Context) -> Tensor {
    match &context.latent_rotary {
        Some(tables) => tables.turn(x, &context.positions, Pairing::Interleaved),
        None => x.clone(),
    }
}
