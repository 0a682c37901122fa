//! Scaled dot-product attention over packed segments.

use cupola_core::{Buffer, alloc::Placement};
use cupola_cpu::attention::{self as kernel, Attend, Attributes, Heads, HeadsMut, Span};

use crate::dispatch::with_float;
use crate::mode;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::segments::Segments;
use crate::tensor::Tensor;

mod masked;
mod paged;

pub use cupola_cpu::attention::{Dropout, PAGE};
pub use masked::scaled_dot_product_attention;
pub use paged::{PageHeads, attention_dtype, paged_attention};

/// What distinguishes one attention from another.
///
/// ```
/// use cupola_tensor::{Rng, Segments, Tensor, ops::attention::{AttentionConfig, attention}};
///
/// // Two sequences of 3 and 2 tokens, 4 heads that share 2 key heads, 8 wide.
/// let q = Tensor::randn([5, 4, 8], Rng::seed(0));
/// let kv = Tensor::randn([5, 2, 16], Rng::seed(1));
/// let segments = Segments::from_lengths(&[3, 2]);
/// let config = AttentionConfig { causal: true, ..AttentionConfig::of(&segments) };
/// let y = attention(&q, &kv.narrow(2, 0, 8), &kv.narrow(2, 8, 8), &config);
/// assert_eq!(y.shape().dims(), [5, 4, 8]);
/// ```
#[derive(Clone, Debug)]
pub struct AttentionConfig {
    /// Sequences of the queries.
    pub queries: Segments,
    /// Sequences of keys and values: queries of a segment look at the keys of the segment with the same number.
    pub keys: Segments,
    /// Whether a query sees only keys up to its own position. Positions are aligned at the segments' ends: query i of n has
    /// position p = m - n + i among m keys.
    pub causal: bool,
    /// A query at position p sees key j only if `|p - j| < window`.
    pub window: Option<usize>,
    /// Factor on the products of queries and keys; `1 / sqrt(Dh)` if not given.
    pub scale: Option<f64>,
    /// Scores become `cap * tanh(score / cap)` (Gemma Team, "Gemma 2", 2024).
    pub soft_cap: Option<f64>,
    /// For each head the factor of `-|p - j|` that is added to scores (Press et al., "Train Short, Test Long", 2021).
    pub slopes: Option<Vec<f64>>,
    /// The probability with which a probability is dropped while a training scope is open; the others are divided by what is
    /// left to 1.
    pub dropout: f64,
}

impl AttentionConfig {
    /// Every query of a segment sees every key of it.
    pub fn of(segments: &Segments) -> Self {
        Self::cross(segments, segments)
    }

    /// Every query of a segment sees every key of the segment with the same number.
    pub fn cross(queries: &Segments, keys: &Segments) -> Self {
        Self {
            queries: queries.clone(),
            keys: keys.clone(),
            causal: false,
            window: None,
            scale: None,
            soft_cap: None,
            slopes: None,
            dropout: 0.0,
        }
    }

    fn spans(&self) -> Vec<Span> {
        let pairs = self.queries.iter().zip(self.keys.iter());
        pairs.map(|(queries, keys)| Span { queries, keys }).collect()
    }

    fn attributes(&self, width: usize, dropout: Option<Dropout>) -> Attributes<'_> {
        Attributes {
            scale: self.scale.unwrap_or(1.0 / (width.max(1) as f64).sqrt()),
            causal: self.causal,
            window: self.window,
            soft_cap: self.soft_cap,
            slopes: self.slopes.as_deref(),
            dropout,
        }
    }
}

/// `out[n, h] = sum over j of softmax_j(score[n, h, j]) v[j, h / (H / Hkv)]`, where j runs over the keys of n's segment that n
/// sees, and `score = cap(scale q[n, h] . k[j, h / (H / Hkv)]) - slope[h] |p - j|`. A row that sees no key is zero.
pub struct Attention {
    /// Segments, mask, scale and the rest.
    pub config: AttentionConfig,
    /// The stream of a training step's dropout; `None` drops nothing.
    pub dropout: Option<Dropout>,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Attention::INFO];

fn heads_of<T: Attend>(x: &Tensor) -> Heads<'_, T> {
    let (shape, strides) = (x.shape(), x.layout().strides());
    Heads::new(
        x.buffer().as_slice::<T>(),
        x.layout().offset,
        [shape[0], shape[1], shape[2]],
        [strides[0], strides[1], strides[2]],
    )
}

/// Whether queries, keys and values are views of one projection `[N, (H + 2 Hkv) Dh]`, in this order and nothing else in it.
fn are_side_by_side([q, k, v]: [&Tensor; 3]) -> bool {
    let width = q.dim(2);
    let stride = (q.dim(1) + k.dim(1) + v.dim(1)) * width;
    let placed = |x: &Tensor, start: usize| {
        std::sync::Arc::ptr_eq(x.buffer(), q.buffer())
            && x.dim(2) == width
            && x.layout().strides() == [stride as isize, width as isize, 1]
            && x.layout().offset == q.layout().offset + start
    };
    placed(q, 0) && placed(k, q.dim(1) * width) && placed(v, (q.dim(1) + k.dim(1)) * width)
}

#[track_caller]
fn check(q: &Tensor, k: &Tensor, v: &Tensor, config: &AttentionConfig) {
    let fits = q.rank() == 3
        && k.rank() == 3
        && v.rank() == 3
        && q.dim(2) == k.dim(2)
        && k.shape()[..2] == v.shape()[..2]
        && (q.dim(1) == k.dim(1) || k.dim(1) > 0 && q.dim(1).is_multiple_of(k.dim(1)));
    assert!(
        fits,
        "attention: q {}, k {} and v {} do not fit, expected [N, H, Dh], [M, Hkv, Dh], [M, Hkv, Dv] with H a multiple of Hkv",
        q.shape(),
        k.shape(),
        v.shape()
    );
    assert!(
        q.dtype() == k.dtype() && k.dtype() == v.dtype() && q.dtype().is_float(),
        "attention: q {}, k {} and v {} are {}, {} and {}, expected one floating-point dtype",
        q.shape(),
        k.shape(),
        v.shape(),
        q.dtype(),
        k.dtype(),
        v.dtype()
    );
    let segments = config.queries.count() == config.keys.count();
    assert!(
        segments && config.queries.total() == q.dim(0) && config.keys.total() == k.dim(0),
        "attention: q {}, k {} and v {} with {:?} of queries and {:?} of keys",
        q.shape(),
        k.shape(),
        v.shape(),
        config.queries,
        config.keys
    );
    assert!(
        config.window != Some(0) && config.soft_cap.is_none_or(|cap| cap > 0.0) && (0.0..1.0).contains(&config.dropout),
        "attention: window {:?}, soft cap {:?} and dropout {} must be positive, positive, and from 0 up to but without 1",
        config.window,
        config.soft_cap,
        config.dropout
    );
    assert!(
        config.slopes.as_ref().is_none_or(|slopes| slopes.len() == q.dim(1)),
        "attention: {} slopes for q {}",
        config.slopes.as_ref().map_or(0, Vec::len),
        q.shape()
    );
}

/// The output `[N, H, Dv]` and the log-sum-exp of each row's scores `[N, H]` (f32, or f64 for f64; `-inf` for a row that sees no
/// key). Not recorded.
///
/// # Shapes
/// As [`attention`].
///
/// # Panics
/// As [`attention`].
#[track_caller]
pub fn forward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    config: &AttentionConfig,
    dropout: Option<Dropout>,
) -> (Tensor, Tensor) {
    check(q, k, v, config);
    let (spans, attributes) = (config.spans(), config.attributes(q.dim(2), dropout));
    let shape = [q.dim(0), q.dim(1), v.dim(2)];
    with_float!("attention", q.dtype(), T => {
        type R = <T as cupola_cpu::real::Number>::Real;
        let mut out = Buffer::uninit(q.dtype(), shape.iter().product(), Placement::Passing);
        let lse = Tensor::build::<R>([shape[0], shape[1]], |lse| {
            let out = HeadsMut::contiguous(out.as_mut_slice::<T>(), shape);
            kernel::forward(heads_of::<T>(q), heads_of::<T>(k), heads_of::<T>(v), &spans, attributes, out, lse);
        });
        (Tensor::from_buffer(out, shape), lse)
    })
}

/// The gradients of q, k and v, those that are asked for, from the gradient `dy` of the output; `out` and `lse` are
/// [`forward`]'s, `config` and `dropout` what it was given.
///
/// # Panics
/// As [`attention`], and when `dy`, `out` and `lse` have other shapes than they should.
#[track_caller]
#[allow(clippy::too_many_arguments)]
pub fn backward(
    dy: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    out: &Tensor,
    lse: &Tensor,
    config: &AttentionConfig,
    dropout: Option<Dropout>,
    needs: [bool; 3],
) -> [Option<Tensor>; 3] {
    check(q, k, v, config);
    let expected = [q.dim(0), q.dim(1), v.dim(2)];
    assert!(
        dy.shape().dims() == expected && out.shape().dims() == expected && lse.shape().dims() == &expected[..2],
        "attention: gradient {}, output {} and sums {}, expected {expected:?}",
        dy.shape(),
        out.shape(),
        lse.shape()
    );
    let (spans, attributes) = (config.spans(), config.attributes(q.dim(2), dropout));
    let inputs = [q, k, v];
    let lse = lse.contiguous();
    if needs == [true; 3] && are_side_by_side(inputs) {
        // The gradients then lie as the inputs do, and become the projection's gradient without being copied.
        let (rows, heads, width) = (q.dim(0), inputs.map(|x| x.dim(1)), q.dim(2));
        let all = heads.iter().sum::<usize>();
        let grad = with_float!("attention", q.dtype(), T => {
            type R = <T as cupola_cpu::real::Number>::Real;
            Tensor::build::<T>([rows, all, width], |grad| {
                let [dq, dk, dv] = HeadsMut::side_by_side(grad, rows, heads, width).map(Some);
                let (lse, [dy, out]) = (lse.slice_of::<R>(), [dy, out].map(heads_of::<T>));
                let [q, k, v] = inputs.map(heads_of::<T>);
                kernel::backward(dy, q, k, v, out, lse, &spans, attributes, dq, dk, dv);
            })
        });
        let mut start = 0;
        return heads.map(|heads| {
            start += heads;
            Some(grad.narrow(1, start - heads, heads))
        });
    }
    with_float!("attention", q.dtype(), T => {
        type R = <T as cupola_cpu::real::Number>::Real;
        let new = |i: usize| needs[i].then(|| Buffer::uninit(q.dtype(), inputs[i].numel(), Placement::Passing));
        let mut grads = [new(0), new(1), new(2)];
        {
            let mut views = grads.iter_mut().zip(inputs).map(|(grad, x)| {
                let shape = [x.shape()[0], x.shape()[1], x.shape()[2]];
                grad.as_mut().map(|grad| HeadsMut::contiguous(grad.as_mut_slice::<T>(), shape))
            });
            let [dq, dk, dv] = std::array::from_fn(|_| views.next().flatten());
            kernel::backward(
                heads_of::<T>(dy),
                heads_of::<T>(q),
                heads_of::<T>(k),
                heads_of::<T>(v),
                heads_of::<T>(out),
                lse.slice_of::<R>(),
                &spans,
                attributes,
                dq,
                dk,
                dv,
            );
        }
        let mut grads = grads.into_iter().zip(inputs).map(|(grad, x)| grad.map(|grad| Tensor::from_buffer(grad, *x.shape())));
        std::array::from_fn(|_| grads.next().flatten())
    })
}

impl Op for Attention {
    const NAME: &'static str = "attention";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [q, k, v] = inputs else { unreachable!("attention has three inputs") };
        let (out, lse) = forward(q, k, v, &self.config, self.dropout);
        saved.keep([q, k, v, &out, &lse]);
        out.into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [q, k, v, out, lse] = cx.saved();
        let needs = [cx.needs(0), cx.needs(1), cx.needs(2)];
        backward(&cx.dy(), q, k, v, out, lse, &self.config, self.dropout, needs).into()
    }
}

/// Attention of queries to the keys of their own segment; see [`Attention`] for the formula.
///
/// Strides are free: q, k and v are usually views of one projection. Under [`crate::autocast`] f32 inputs are converted. Sums are
/// kept in f32 (f64 for f64); bf16 probabilities are rounded to bf16 where the processor multiplies pairs. Memory is
/// proportional to N + M: probabilities are computed anew in backward. Within one instruction-set tier a row's bits depend on what it
/// sees and where that lies in its segment, and on nothing else: not on other rows or segments, not on where the queries of a segment
/// are cut, not on the number of threads.
///
/// Dropout takes one random call of the training scope, and like [`Tensor::dropout`] drops nothing outside of one; what is dropped is a function of the call, the sample, the query's
/// number in its segment, its head and the key's number.
///
/// # Shapes
/// q `[N, H, Dh]`, k `[M, Hkv, Dh]`, v `[M, Hkv, Dv]` give `[N, H, Dv]`; H is a multiple of Hkv, and head h looks at key head
/// `h / (H / Hkv)`. The segments of `config` cut N and M.
///
/// # Panics
/// When shapes, dtypes, segments or attributes do not fit.
#[track_caller]
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, config: &AttentionConfig) -> Tensor {
    let dtype = attention_dtype([q, k, v]);
    let (q, k, v) = (q.to_dtype(dtype), k.to_dtype(dtype), v.to_dtype(dtype));
    let dropout = if config.dropout > 0.0 { random_call(config.dropout) } else { None };
    let config = config.clone();
    Attention { config, dropout }.apply(&[&q, &k, &v])
}

/// The dropout of a new random call of the training scope; `None` outside of one.
fn random_call(probability: f64) -> Option<Dropout> {
    mode::next_random_call().map(|(rng, first_sample)| Dropout { probability, rng, first_sample })
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    tests::cases()
}
