//! Attention from one sequence to another of another width.

use cupola_tensor::ops::attention::AttentionConfig;
use cupola_tensor::{Segments, Tensor};

use super::multi_head_attention::{attend, out_projection, tokens};
use super::{Linear, MultiHeadAttentionConfig};
use crate::init::Init;
use crate::{Layer, Module};

/// Attention of queries to a context whose tokens may have another width: [`super::MultiHeadAttention::forward_cross`] with
/// projections of their own.
///
/// ```
/// use cupola_nn::{Module, layers::CrossAttention};
/// use cupola_tensor::{Rng, Segments, Tensor};
/// let layer = CrossAttention::new(8, 12, 2).init(0);
/// let (x, context) = (Tensor::randn([5, 8], Rng::seed(1)), Tensor::randn([7, 12], Rng::seed(2)));
/// let y = layer.forward(&x, &Segments::from_lengths(&[3, 2]), &context, &Segments::from_lengths(&[4, 3]));
/// assert_eq!(y.shape().dims(), [5, 8]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct CrossAttention {
    /// To queries, `[D, D]`, Xavier uniform at first.
    pub q_proj: Linear,
    /// From the context to keys, `[D, Dc]`.
    pub k_proj: Linear,
    /// From the context to values, `[D, Dc]`.
    pub v_proj: Linear,
    /// Of the heads' results, `[D, D]`.
    pub out_proj: Linear,
    heads: usize,
    dropout: f64,
}

impl CrossAttention {
    /// Attention of width `width` to a context of width `context`, with biases and without dropout.
    ///
    /// # Panics
    /// When the heads do not divide the width.
    #[track_caller]
    pub fn new(width: usize, context: usize, heads: usize) -> Self {
        Self::with(width, context, heads, MultiHeadAttentionConfig::default())
    }

    /// Attention of width `width` to a context of width `context`.
    ///
    /// # Panics
    /// When the heads do not divide the width or the dropout is not in 0..1.
    #[track_caller]
    pub fn with(width: usize, context: usize, heads: usize, config: MultiHeadAttentionConfig) -> Self {
        assert!(
            heads > 0 && width.is_multiple_of(heads),
            "CrossAttention: {heads} heads do not divide the width {width}"
        );
        assert!((0.0..1.0).contains(&config.dropout), "CrossAttention: a dropout of {} is not in 0..1", config.dropout);
        let projection = |inputs: usize| {
            let mut layer = out_projection(inputs, width, config.bias);
            layer.weight.set_initializer(Init::XavierUniform { gain: 1.0 });
            layer
        };
        Self {
            q_proj: projection(width),
            k_proj: projection(context),
            v_proj: projection(context),
            out_proj: out_projection(width, width, config.bias),
            heads,
            dropout: config.dropout,
        }
    }

    /// Every query sees all of the context's segment with the same number.
    ///
    /// # Shapes
    /// `x [N, D]` or `[B, T, D]`, `context [M, Dc]` or `[B, S, Dc]` -> the shape of `x`.
    ///
    /// # Panics
    /// When the shapes do not fit, or dropout is recorded outside of a training scope.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, queries: &Segments, context: &Tensor, keys: &Segments) -> Tensor {
        let rows = tokens("CrossAttention", x, queries, self.q_proj.weight.shape()[1]);
        let context = tokens("CrossAttention", context, keys, self.k_proj.weight.shape()[1]);
        let (q, k, v) = (self.q_proj.forward(&rows), self.k_proj.forward(&context), self.v_proj.forward(&context));
        let config = AttentionConfig::cross(queries, keys);
        let y = attend("CrossAttention", self.heads, self.dropout, [&q, &k, &v], config);
        self.out_proj.forward(&y).reshape(x.shape())
    }
}
