//! Softmax attention over the tokens before (Vaswani et al., "Attention Is All You Need", 2017), with grouped heads (Ainslie et
//! al., "GQA", 2023).

use cupola_nn::layers::{Linear, RmsNorm};
use cupola_nn::training::is_training;
use cupola_nn::{Layer, Module};
use cupola_tensor::ops::attention::{AttentionConfig, attention};
use cupola_tensor::ops::rotary::Pairing;
use cupola_tensor::{Segments, Tensor};

use super::{Context, Differential};
use crate::channels::{projection, residual_projection};
use crate::positions::alibi_slopes;
use crate::spec::{AttentionSpec, ModelSpec, PositionKind};
use crate::state::MixerState;

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

    /// Bytes that the state grows by with each token.
    pub fn bytes_per_token(&self) -> usize {
        2 * self.spec.key_value_heads() * self.head_dim * self.o_proj.weight.dtype().size()
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
            Some(states) => attend(states, [&q, &k, &v], &config, |all, config| self.attention(all, config)),
        };
        self.o_proj.forward(&y.flatten_dims(1, 2))
    }

    /// Of heads, or of pairs of heads.
    fn attention(&self, [q, k, v]: [&Tensor; 3], config: &AttentionConfig) -> Tensor {
        let Some(differential) = &self.differential else { return attention(q, k, v, config) };
        let pairs = |x: &Tensor| x.reshape([x.dim(0), x.dim(1) / 2, 2, x.dim(2)]);
        let (q, k, v) = (pairs(q).split(2, &[1, 1]), pairs(k).split(2, &[1, 1]), pairs(v).flatten_dims(2, 3));
        let one = |half: usize| attention(&q[half].squeeze(2), &k[half].squeeze(2), &v, config);
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

/// Attention of each segment's tokens to all that its state has, which they are added to first: `of` computes it from the
/// segment's queries and from all keys and values.
///
/// Each sequence's keys are read where they lie. A row's bits do not depend on which sequences are computed together.
#[track_caller]
pub(super) fn attend(
    states: Vec<&mut MixerState>,
    [q, k, v]: [&Tensor; 3],
    config: &AttentionConfig,
    of: impl Fn([&Tensor; 3], &AttentionConfig) -> Tensor,
) -> Tensor {
    let rows = states.into_iter().zip(config.queries.iter()).map(|(state, range)| {
        let [q, k, v] = [q, k, v].map(|x| x.narrow(0, range.start, range.len()));
        let all = state.extend(&k, &v);
        let (queries, keys) = (Segments::one(range.len()), Segments::one(all.len()));
        of([&q, &all.keys(), &all.values()], &AttentionConfig { queries, keys, ..config.clone() })
    });
    let rows: Vec<Tensor> = rows.collect();
    match &rows[..] {
        [only] => only.clone(),
        _ => Tensor::cat(&rows.iter().collect::<Vec<_>>(), 0),
    }
}

/// The first `heads` heads and the others.
fn pair(x: &Tensor, heads: usize) -> [Tensor; 2] {
    let mut parts = x.split(1, &[heads, x.dim(1) - heads]);
    let others = parts.pop().expect("a split in two has two parts");
    [parts.pop().expect("a split in two has two parts"), others]
}
