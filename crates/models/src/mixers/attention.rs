//! Softmax attention over the tokens before (Vaswani et al., "Attention Is All You Need", 2017), with grouped heads (Ainslie et
//! al., "GQA", 2023).

use cupola_nn::layers::{Linear, RmsNorm};
use cupola_nn::training::is_training;
use cupola_nn::{Layer, Module};
use cupola_tensor::Tensor;
use cupola_tensor::ops::attention::{AttentionConfig, attention};
use cupola_tensor::ops::rotary::Pairing;

use super::past::{Past, attend};
use super::{Context, Differential};
use crate::channels::{projection, residual_projection};
use crate::positions::alibi_slopes;
use crate::spec::{AttentionSpec, ModelSpec, PositionKind};
use crate::state::{HeadLayout, MixerState};

/// `o_proj(concat over heads of softmax(scale q k^T) v)`, causal, with queries, keys and values from one product.
///
/// Queries and keys are normalised by head and turned by their position where the specification says so. Heads 2i and 2i + 1 can be
/// a pair whose attentions are subtracted (see [`Differential`]), with values twice as wide.
#[derive(Module, Clone)]
pub struct Attention {
    /// The projections to queries, keys and values under each other: `q_proj`, `k_proj`, `v_proj` in files.
    #[module(flatten)]
    pub qkv: Linear,
    /// Norm of each query head.
    pub q_norm: Option<RmsNorm>,
    /// Norm of each key head.
    pub k_norm: Option<RmsNorm>,
    /// What is subtracted, where heads come in pairs.
    #[module(flatten)]
    pub differential: Option<Differential>,
    /// The projection of the heads' results.
    pub o_proj: Linear,
    #[module(skip)]
    spec: AttentionSpec,
    head_dim: usize,
    #[module(skip)]
    slopes: Option<Vec<f64>>,
}

impl Attention {
    /// The attention of layer `layer` of this specification.
    ///
    /// # Panics
    /// When the specification has no attention.
    #[track_caller]
    pub fn new(spec: &ModelSpec, layer: usize) -> Self {
        let attention = spec.attention.clone().expect("a specification with attention layers has its table");
        let (heads, shared) = (attention.num_attention_heads, attention.key_value_heads());
        let (width, head_dim) = (spec.hidden_size, attention.head_width(spec.hidden_size));
        let parts = [("q_proj", heads * head_dim), ("k_proj", shared * head_dim), ("v_proj", shared * head_dim)];
        let norm = || attention.qk_norm.then(|| RmsNorm::new(head_dim).with_eps(spec.norm_eps));
        Self {
            qkv: projection(Linear::fused(width, &parts), attention.attention_bias, spec),
            q_norm: norm(),
            k_norm: norm(),
            differential: attention.differential.then(|| Differential::new(head_dim, layer)),
            o_proj: residual_projection(Linear::new(heads * head_dim, width), attention.output_bias, spec),
            head_dim,
            slopes: (spec.position == PositionKind::Alibi)
                .then(|| alibi_slopes(if attention.differential { heads / 2 } else { heads })),
            spec: attention,
        }
    }

    /// The heads that are kept of a token. Pairs share their values; the keys of first halves lie before those of second ones.
    pub fn layout(&self) -> HeadLayout {
        let (heads, width) = (self.spec.key_value_heads(), self.head_dim);
        let values = if self.differential.is_some() { [heads / 2, 2 * width] } else { [heads, width] };
        HeadLayout { keys: [heads, width], values, dtype: self.o_proj.weight.dtype() }
    }

    /// Bytes that the state grows by with each token.
    pub fn bytes_per_token(&self) -> usize {
        self.layout().token_bytes()
    }

    /// # Shapes
    /// `x [N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, context: &Context, states: Option<Vec<&mut MixerState>>) -> Tensor {
        let (tokens, heads, shared) = (x.dim(0), self.spec.num_attention_heads, self.spec.key_value_heads());
        let qkv = self.qkv.forward(x).reshape([tokens, heads + 2 * shared, self.head_dim]);
        // Splits, whose gradients are joined in one pass.
        let [both, v] = pair(&qkv, heads + shared);
        let [q, k] = self.queries_and_keys(&both, context);
        let config = AttentionConfig {
            causal: context.causal,
            window: self.spec.sliding_window,
            scale: self.spec.scale,
            soft_cap: self.spec.soft_cap,
            slopes: self.slopes.clone(),
            dropout: if self.spec.dropout > 0.0 && is_training("Attention") { self.spec.dropout } else { 0.0 },
            ..AttentionConfig::of(&context.segments)
        };
        let y = match states {
            None => self.attention([&q, &k, &v], &config),
            Some(states) => {
                let (k, v) = self.kept(&k, &v);
                attend(states, [&q, &k, &v], &config, |past, config| self.look_back(&q, past, config))
            }
        };
        self.o_proj.forward(&y.flatten_dims(1, 2))
    }

    /// Of heads, or of pairs of heads.
    fn attention(&self, [q, k, v]: [&Tensor; 3], config: &AttentionConfig) -> Tensor {
        let Some(differential) = &self.differential else { return attention(q, k, v, config) };
        let (q, k, v) = (pairs(q).split(2, &[1, 1]), pairs(k).split(2, &[1, 1]), pairs(v).flatten_dims(2, 3));
        let one = |half: usize| attention(&q[half].squeeze(2), &k[half].squeeze(2), &v, config);
        differential.forward(&one(0), &one(1))
    }

    /// Keys and values as states keep them.
    fn kept(&self, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
        match self.differential {
            Some(_) => (pairs(k).transpose(1, 2).reshape(*k.shape()), pairs(v).flatten_dims(2, 3)),
            None => (k.clone(), v.clone()),
        }
    }

    /// [`Attention::attention`] to what states have kept.
    fn look_back(&self, q: &Tensor, past: &Past<'_>, config: &AttentionConfig) -> Tensor {
        let heads = self.spec.key_value_heads();
        let Some(differential) = &self.differential else { return past.attention(q, 0..heads, None, config) };
        let (q, half) = (pairs(q).split(2, &[1, 1]), heads / 2);
        let one = |i: usize| past.attention(&q[i].squeeze(2), i * half..(i + 1) * half, None, config);
        differential.forward(&one(0), &one(1))
    }

    /// Normalised and turned: `[N, H + Hkv, Dh]` -> `[N, H, Dh]`, `[N, Hkv, Dh]`.
    fn queries_and_keys(&self, both: &Tensor, context: &Context) -> [Tensor; 2] {
        let heads = self.spec.num_attention_heads;
        let turn = |x: &Tensor| match &context.rotary {
            Some(tables) => tables.turn(x, &context.positions, Pairing::HalfSplit),
            None => x.clone(),
        };
        match (&self.q_norm, &self.k_norm) {
            (Some(q_norm), Some(k_norm)) => {
                let [q, k] = pair(both, heads);
                [turn(&q_norm.forward(&q)), turn(&k_norm.forward(&k))]
            }
            // Both are turned in one pass.
            _ => pair(&turn(both), heads),
        }
    }
}

/// Pairs of heads: `[N, H, Dh]` -> `[N, H / 2, 2, Dh]`.
fn pairs(x: &Tensor) -> Tensor {
    x.reshape([x.dim(0), x.dim(1) / 2, 2, x.dim(2)])
}

/// The first `heads` heads and the others.
fn pair(x: &Tensor, heads: usize) -> [Tensor; 2] {
    let mut parts = x.split(1, &[heads, x.dim(1) - heads]);
    let others = parts.pop().expect("a split in two has two parts");
    [parts.pop().expect("a split in two has two parts"), others]
}
