//! Attention with several heads.

use cupola_tensor::ops::attention::{AttentionConfig, attention};
use cupola_tensor::ops::linear::{Activation, linear};
use cupola_tensor::{Segments, Tensor};

use super::Linear;
use crate::init::Init;
use crate::training::is_training;
use crate::{Layer, Module, Param};

/// What distinguishes one attention layer from another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultiHeadAttentionConfig {
    /// Whether the projections have biases.
    pub bias: bool,
    /// The probability with which attention probabilities are dropped in training.
    pub dropout: f64,
}

impl Default for MultiHeadAttentionConfig {
    fn default() -> Self {
        Self { bias: true, dropout: 0.0 }
    }
}

/// Attention with several heads, `torch.nn.MultiheadAttention` (Vaswani et al., "Attention Is All You Need", 2017):
/// `out_proj(concat over heads of softmax(q k^T / sqrt(Dh)) v)`.
///
/// Parameters are called as there. Tokens come packed with their [`Segments`], or as a batch of equal lengths.
///
/// ```
/// use cupola_nn::{Module, layers::MultiHeadAttention};
/// use cupola_tensor::{Rng, Segments, Tensor};
/// let layer = MultiHeadAttention::new(8, 2).init(0);
/// let batch = Tensor::randn([2, 5, 8], Rng::seed(1));
/// let y = layer.forward(&batch, &Segments::uniform(2, 5), true);
/// // The same tokens packed, the second sequence cut short: what comes later has no influence.
/// let (packed, segments) = cupola_nn::layers::pack(&batch, &[5, 3]);
/// let cut = layer.forward(&packed, &segments, true);
/// assert!(cut.narrow(0, 5, 3).relative_error(&y.select(0, 1).narrow(0, 0, 3)) < 1e-6);
/// ```
#[derive(Module, Clone, Debug)]
pub struct MultiHeadAttention {
    /// The projections to queries, keys and values under each other, `[3 D, D]`, Xavier uniform at first.
    pub in_proj_weight: Param,
    /// `[3 D]`, zeros at first.
    pub in_proj_bias: Option<Param>,
    /// The projection of the heads' results.
    pub out_proj: Linear,
    heads: usize,
    dropout: f64,
}

impl MultiHeadAttention {
    /// Attention of width `width` with `heads` heads, with biases and without dropout.
    ///
    /// # Panics
    /// When the heads do not divide the width.
    #[track_caller]
    pub fn new(width: usize, heads: usize) -> Self {
        Self::with(width, heads, MultiHeadAttentionConfig::default())
    }

    /// Attention of width `width` with `heads` heads.
    ///
    /// # Panics
    /// When the heads do not divide the width or the dropout is not in 0..1.
    #[track_caller]
    pub fn with(width: usize, heads: usize, config: MultiHeadAttentionConfig) -> Self {
        assert!(
            heads > 0 && width.is_multiple_of(heads),
            "MultiHeadAttention: {heads} heads do not divide the width {width}"
        );
        assert!(
            (0.0..1.0).contains(&config.dropout),
            "MultiHeadAttention: a dropout of {} is not in 0..1",
            config.dropout
        );
        Self {
            in_proj_weight: Param::new([3 * width, width], Init::XavierUniform { gain: 1.0 }),
            in_proj_bias: config.bias.then(|| Param::new([3 * width], Init::Zeros)),
            out_proj: out_projection(width, width, config.bias),
            heads,
            dropout: config.dropout,
        }
    }

    /// Attention of a sequence to itself, causal or not.
    ///
    /// # Shapes
    /// `x [N, D]` or `[B, T, D]` -> the same; the segments cut its tokens.
    ///
    /// # Panics
    /// When the shapes do not fit, or dropout is recorded outside of a training scope.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, causal: bool) -> Tensor {
        let tokens = tokens("MultiHeadAttention", x, segments, self.width());
        let projected = linear(&tokens, &self.in_proj_weight, self.in_proj_bias.as_deref(), Activation::None);
        let qkv = projected.split(1, &[self.width(); 3]);
        let config = AttentionConfig { causal, ..AttentionConfig::of(segments) };
        self.attend(&qkv[0], &qkv[1], &qkv[2], config).reshape(x.shape())
    }

    /// Attention of queries to the keys and values of the segments with the same numbers.
    ///
    /// # Shapes
    /// `query [N, D]`, `key` and `value [M, D]`, each also as a batch -> the shape of `query`.
    ///
    /// # Panics
    /// As [`MultiHeadAttention::forward`].
    #[track_caller]
    pub fn forward_cross(
        &self,
        query: &Tensor,
        queries: &Segments,
        (key, value): (&Tensor, &Tensor),
        keys: &Segments,
    ) -> Tensor {
        let width = self.width();
        let project = |x: &Tensor, segments: &Segments, part: usize| {
            let weight = self.in_proj_weight.narrow(0, part * width, width);
            let bias = self.in_proj_bias.as_ref().map(|bias| bias.narrow(0, part * width, width));
            linear(&tokens("MultiHeadAttention", x, segments, width), &weight, bias.as_ref(), Activation::None)
        };
        let (q, k, v) = (project(query, queries, 0), project(key, keys, 1), project(value, keys, 2));
        self.attend(&q, &k, &v, AttentionConfig::cross(queries, keys)).reshape(query.shape())
    }

    fn width(&self) -> usize {
        self.in_proj_weight.shape()[1]
    }

    #[track_caller]
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, config: AttentionConfig) -> Tensor {
        self.out_proj.forward(&attend("MultiHeadAttention", self.heads, self.dropout, [q, k, v], config))
    }
}

/// Uniform within `1 / sqrt(in)`, biases zero at first.
pub(super) fn out_projection(inputs: usize, outputs: usize, bias: bool) -> Linear {
    let mut linear = Linear::new(inputs, outputs);
    if let Some(bias) = &mut linear.bias {
        bias.set_initializer(Init::Zeros);
    }
    if bias { linear } else { linear.without_bias() }
}

/// `x` as packed tokens `[N, D]`.
#[track_caller]
pub(super) fn tokens(name: &str, x: &Tensor, segments: &Segments, width: usize) -> Tensor {
    let count = x.numel().checked_div(width).unwrap_or(0);
    assert!(
        matches!(x.rank(), 2 | 3) && x.dim(-1) == width && count == segments.total(),
        "{name}: input {} for segments of {} tokens of width {width}",
        x.shape(),
        segments.total()
    );
    x.reshape([count, width])
}

/// The heads' results beside each other, `[N, D]`.
#[track_caller]
pub(super) fn attend(name: &str, heads: usize, dropout: f64, qkv: [&Tensor; 3], config: AttentionConfig) -> Tensor {
    let dropout = if dropout > 0.0 && is_training(name) { dropout } else { 0.0 };
    let split = |x: &Tensor| x.reshape([x.dim(0), heads, x.dim(1) / heads]);
    let [q, k, v] = qkv.map(split);
    attention(&q, &k, &v, &AttentionConfig { dropout, ..config }).flatten_dims(1, 2)
}
