//! Scaled dot-product attention over packed segments, forward and backward.
//!
//! `out[n, h] = sum over j of softmax_j(score[n, h, j]) v[j, g]`, where j runs over the keys of n's segment that n sees, g is the
//! key head that h belongs to, and `score = cap(scale q[n, h] . k[j, g]) - slope[h] |p - j|`, with the position p of n.
//!
//! # Same bits
//! A row of the result and its log-sum-exp depend on the row's query, on the keys and values that it sees, and on where these
//! lie in their segment: keys are taken in blocks of 128 from the segment's begin. So a row has the same bits alone or with any
//! other rows, with its queries cut anywhere (a prompt in chunks, then token by token), in any batch and on any number of
//! threads. What a row does not see enters as a product with zero; it must be finite. With dropout, bits depend on the numbers
//! of segment, query, head and key. Gradients of queries have the same property; those of keys and values are sums over queries in
//! rising order. Tiers differ from each other.
//!
//! Sums are kept in f32 (f64 for f64). bf16 operands are multiplied as pairs where the processor can (probabilities and their
//! gradients are then rounded to bf16 for the second product, as on accelerators) and widened elsewhere; f16 is widened.
//!
//! # Reading order
//!
//! | module | what it holds |
//! |---|---|
//! | `operand` | [`Heads`] and [`HeadsMut`]: borrowed operands with strides |
//! | `plan` | which query sees which key; blocks, lanes and runs |
//! | `engine` | the vectors that a tier computes with |
//! | `product` | small matrix products on operands as they lie |
//! | `blocks` | bringing operands into words where they do not lie so |
//! | `pages` | keys and values in pages |
//! | `scores` | from products to probabilities: cap, bias, mask, softmax, dropout |
//! | `forward`, `backward` | the two passes, piece by piece |

mod backward;
mod blocks;
pub(crate) mod engine;
mod forward;
mod operand;
mod pages;
mod plan;
mod product;
mod scores;
mod scratch;

use cupola_core::{Rng, bf16, f16, parallel_for, pool};

use crate::isa::isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, extensions};
use crate::real::Number;

pub use operand::{Heads, HeadsMut};
pub use pages::PAGE;
pub use plan::Span;

use backward::Backward;
use forward::Forward;
use plan::{CHUNK, KEYS, View};

/// What distinguishes one attention from another.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Factor on the products of queries and keys.
    pub scale: f64,
    /// Whether a query sees only keys up to its own position. The last query of a segment has the position of the last key.
    pub causal: bool,
    /// A query at position p sees key j only if `|p - j| < window`.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)`.
    pub soft_cap: Option<f64>,
    /// For each head the factor of `-|p - j|` that is added to scores (Press et al., "Train Short, Test Long", 2021).
    pub slopes: Option<&'a [f64]>,
    /// Dropout on the probabilities.
    pub dropout: Option<Dropout>,
}

/// Dropout: a probability is kept with `1 - probability` and then divided by it.
///
/// The decision is a function of the stream, the sample (`first_sample` and the number of the segment), the query's number in its
/// segment, its head and the key's number.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// From 0 up to but without 1.
    pub probability: f64,
    /// Where random numbers come from.
    pub rng: Rng,
    /// The position of the first segment's sample in the global batch.
    pub first_sample: u64,
}

impl Attributes<'_> {
    fn view(&self) -> View {
        View { causal: self.causal, window: self.window }
    }
}

/// The inputs of an attention.
#[derive(Clone, Copy)]
#[doc(hidden)]
pub struct Problem<'a, T> {
    q: Heads<'a, T>,
    k: Heads<'a, T>,
    v: Heads<'a, T>,
    spans: &'a [Span],
    attributes: Attributes<'a>,
}

impl<'a, T> Problem<'a, T> {
    #[track_caller]
    fn new(q: Heads<'a, T>, k: Heads<'a, T>, v: Heads<'a, T>, spans: &'a [Span], attributes: Attributes<'a>) -> Self {
        let ([_, heads, width], keys, values) = (q.shape, k.shape, v.shape);
        assert!(
            keys[2] == width
                && keys[..2] == values[..2]
                && (heads == 0 || keys[1] > 0 && heads.is_multiple_of(keys[1])),
            "attention: queries of shape {:?}, keys of {keys:?} and values of {values:?} do not fit",
            q.shape
        );
        let (mut queries, mut rows) = (0, 0);
        assert!(
            k.is_paged() == v.is_paged() && !q.is_paged(),
            "attention: keys lie in pages ({}), values ({}), queries ({})",
            k.is_paged(),
            v.is_paged(),
            q.is_paged()
        );
        // A page has keys of one segment.
        let unit = if k.is_paged() { PAGE } else { 1 };
        for (index, span) in spans.iter().enumerate() {
            let next = span.queries.start == queries && span.keys.start == rows;
            let lengths = [span.queries.len(), span.keys.len()];
            // Positions, row numbers and limits are 32-bit numbers.
            let fits = lengths.iter().all(|&length| length.saturating_mul(heads.max(1)) < i32::MAX as usize);
            assert!(
                next && fits && span.queries.start <= span.queries.end && span.keys.start <= span.keys.end,
                "attention: segment {index} has queries {:?} and keys {:?} after {queries} and {rows}",
                span.queries,
                span.keys
            );
            (queries, rows) = (span.queries.end, span.keys.end.next_multiple_of(unit));
        }
        assert!(
            queries == q.rows() && rows == k.rows(),
            "attention: segments of {queries} queries and {rows} keys for {} and {} rows",
            q.rows(),
            k.rows()
        );
        assert!(attributes.window != Some(0), "attention: a window of 0 shows nothing");
        assert!(
            attributes.soft_cap.is_none_or(|cap| cap > 0.0),
            "attention: the soft cap is {:?}, expected a positive number",
            attributes.soft_cap
        );
        assert!(
            attributes.slopes.is_none_or(|slopes| slopes.len() == heads),
            "attention: {:?} slopes for {heads} heads",
            attributes.slopes.map(<[f64]>::len)
        );
        assert!(
            attributes.dropout.is_none_or(|dropout| (0.0..1.0).contains(&dropout.probability)),
            "attention: the dropout is {:?}, expected a probability below 1",
            attributes.dropout
        );
        Self { q, k, v, spans, attributes }
    }

    /// How many pairs of lanes and keys see each other, about.
    fn cost(&self, span: &Span, lanes: &std::ops::Range<usize>) -> usize {
        let group = self.q.heads() / self.k.heads();
        let middle = (lanes.start + lanes.end) / 2 / group;
        let position = middle as isize + View::shift(span);
        self.attributes.view().of(position, span.keys.len()).len() * lanes.len()
    }
}

/// The pieces with the longest first, so that the last to finish are short.
fn longest_first<P>(pieces: &mut [(usize, P)]) {
    pieces.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
}

/// `0..total` in steps of `size`.
fn cut(total: usize, size: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..total).step_by(size).map(move |first| first..total.min(first + size))
}

fn run_forward<T>(job: &Forward<'_, T, T::Real>, run: unsafe fn(&Forward<'_, T, T::Real>, &forward::Piece))
where
    T: Number,
{
    let problem = &job.problem;
    if problem.q.heads() == 0 {
        return;
    }
    let group = problem.q.heads() / problem.k.heads();
    let mut pieces = Vec::new();
    for (segment, span) in problem.spans.iter().enumerate() {
        for head in 0..problem.k.heads() {
            for lanes in cut(span.queries.len() * group, CHUNK) {
                let piece = forward::Piece { segment, head, lanes };
                pieces.push((problem.cost(span, &piece.lanes), piece));
            }
        }
    }
    longest_first(&mut pieces);
    // SAFETY: `run` was chosen for this processor; no two pieces have a row and head in common.
    parallel_for(pieces.len(), |index| unsafe { run(job, &pieces[index].1) });
}

fn run_backward<T>(job: &Backward<'_, T, T::Real>, run: unsafe fn(&Backward<'_, T, T::Real>, &backward::Piece))
where
    T: Number,
{
    let problem = &job.problem;
    if problem.q.heads() == 0 {
        return;
    }
    let group = problem.q.heads() / problem.k.heads();
    let (dq, dkv) = (job.dq.is_some(), job.dk.is_some() || job.dv.is_some());
    // Fewer products when a piece computes everything; more pieces when queries and keys are cut apart. Bits are the same.
    let whole = problem.spans.len() * problem.k.heads() >= 2 * pool::threads()
        || problem.spans.iter().all(|span| span.keys.len() <= 2 * KEYS && span.queries.len() * group <= CHUNK);
    let mut pieces = Vec::new();
    for (segment, span) in problem.spans.iter().enumerate() {
        let (lanes, keys) = (0..span.queries.len() * group, 0..span.keys.len());
        for head in 0..problem.k.heads() {
            let mut add = |lanes: std::ops::Range<usize>, keys: std::ops::Range<usize>, dq, dkv| {
                let cost = problem.cost(span, &lanes) * keys.len() / span.keys.len().max(1);
                pieces.push((cost, backward::Piece { segment, head, lanes, keys, dq, dkv }));
            };
            if whole {
                add(lanes.clone(), keys.clone(), dq, dkv);
                continue;
            }
            if dkv {
                cut(keys.end, KEYS).for_each(|keys| add(lanes.clone(), keys, false, true));
            }
            if dq {
                cut(lanes.end, CHUNK).for_each(|lanes| add(lanes, keys.clone(), true, false));
            }
        }
    }
    longest_first(&mut pieces);
    // SAFETY: `run` was chosen for this processor; no two pieces write a gradient of one row and head.
    parallel_for(pieces.len(), |index| unsafe { run(job, &pieces[index].1) });
}

/// An element type that attention computes with.
pub trait Attend: Number {
    #[doc(hidden)]
    fn run_forward(job: &Forward<'_, Self, Self::Real>);
    #[doc(hidden)]
    fn run_backward(job: &Backward<'_, Self, Self::Real>);
}

/// Stamps the pieces of both passes for an engine.
macro_rules! stamp {
    ($module:ident, $engine:ty $(, $features:literal)?) => {
        mod $module {
            use super::{Backward, Forward, backward, forward};
            use crate::attention::blocks::Readable;
            type Engine = $engine;
            type Acc = <Engine as crate::gemm::kernel::Lanes>::Acc;

            $(#[target_feature(enable = $features)])?
            pub unsafe fn run_forward<T: Readable<Engine>>(job: &Forward<'_, T, Acc>, piece: &forward::Piece) {
                // SAFETY: the caller's; this function enables the instructions.
                unsafe { forward::piece::<Engine, T>(job, piece) }
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn run_backward<T: Readable<Engine>>(job: &Backward<'_, T, Acc>, piece: &backward::Piece) {
                // SAFETY: as above.
                unsafe { backward::piece::<Engine, T>(job, piece) }
            }
        }
    };
}
stamp!(portable_f32, crate::gemm::kernel::portable::F32);
stamp!(portable_f64, crate::gemm::kernel::portable::F64);
#[cfg(target_arch = "x86_64")]
stamp!(avx2_f32, crate::gemm::kernel::avx2::F32, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
stamp!(avx2_f64, crate::gemm::kernel::avx2::F64, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
stamp!(avx512_f32, crate::gemm::kernel::avx512::F32, "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
stamp!(avx512_f64, crate::gemm::kernel::avx512::F64, "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
stamp!(
    avx512_bf16,
    crate::gemm::kernel::avx512::Bf16,
    "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"
);

macro_rules! attend {
    ($type:ty: $portable:ident, $avx2:ident, $avx512:ident $(, $pairs:ident)?) => {
        impl Attend for $type {
            fn run_forward(job: &Forward<'_, Self, Self::Real>) {
                $(
                    #[cfg(target_arch = "x86_64")]
                    if extensions().bf16 {
                        return run_forward(job, $pairs::run_forward);
                    }
                )?
                match job.isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => run_forward(job, $avx512::run_forward),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => run_forward(job, $avx2::run_forward),
                    _ => run_forward(job, $portable::run_forward),
                }
            }
            fn run_backward(job: &Backward<'_, Self, Self::Real>) {
                $(
                    #[cfg(target_arch = "x86_64")]
                    if extensions().bf16 {
                        return run_backward(job, $pairs::run_backward);
                    }
                )?
                match job.isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => run_backward(job, $avx512::run_backward),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => run_backward(job, $avx2::run_backward),
                    _ => run_backward(job, $portable::run_backward),
                }
            }
        }
    };
}
attend!(f32: portable_f32, avx2_f32, avx512_f32);
attend!(f16: portable_f32, avx2_f32, avx512_f32);
attend!(bf16: portable_f32, avx2_f32, avx512_f32, avx512_bf16);
attend!(f64: portable_f64, avx2_f64, avx512_f64);

/// `out` and `lse`, the natural logarithm of the sum of the exponentials of each row's scores (`-inf` for a row that sees no
/// key, whose result is zero).
///
/// # Shapes
/// `q`: `[N, H, Dh]`, `k`: `[M, Hkv, Dh]`, `v`: `[M, Hkv, Dv]`, `out`: `[N, H, Dv]`, `lse`: `[N, H]`, row after row. `spans` cut N and M;
/// where keys and values lie in pages ([`Heads::paged`]), each span's keys begin with a page of their own, and what is left of the
/// last page is not read.
///
/// # Panics
/// When sizes do not fit together.
#[track_caller]
pub fn forward<'a, T: Attend>(
    q: Heads<'a, T>,
    k: Heads<'a, T>,
    v: Heads<'a, T>,
    spans: &'a [Span],
    attributes: Attributes<'a>,
    out: HeadsMut<'a, T>,
    lse: &'a mut [T::Real],
) {
    let problem = Problem::new(q, k, v, spans, attributes);
    let expected = [q.rows(), q.heads(), v.width()];
    assert!(
        out.shape == expected && lse.len() == q.rows() * q.heads(),
        "attention: a result of shape {:?} and {} sums, expected {expected:?}",
        out.shape,
        lse.len()
    );
    let lse = lse.as_mut_ptr();
    T::run_forward(&Forward { problem, out, lse, isa: isa() });
}

/// The gradients of q, k and v, those that are given, from the gradient `dout` of `out`; `out` and `lse` are [`forward`]'s.
///
/// # Panics
/// When sizes do not fit together.
#[track_caller]
#[allow(clippy::too_many_arguments)]
pub fn backward<'a, T: Attend>(
    dout: Heads<'a, T>,
    q: Heads<'a, T>,
    k: Heads<'a, T>,
    v: Heads<'a, T>,
    out: Heads<'a, T>,
    lse: &'a [T::Real],
    spans: &'a [Span],
    attributes: Attributes<'a>,
    dq: Option<HeadsMut<'a, T>>,
    dk: Option<HeadsMut<'a, T>>,
    dv: Option<HeadsMut<'a, T>>,
) {
    assert!(!k.is_paged(), "attention: keys and values in pages have no gradients");
    let problem = Problem::new(q, k, v, spans, attributes);
    let expected = [q.rows(), q.heads(), v.width()];
    let fits = |grad: &Option<HeadsMut<'a, T>>, shape| grad.as_ref().is_none_or(|grad| grad.shape == shape);
    assert!(
        dout.shape == expected && out.shape == expected && lse.len() == q.rows() * q.heads(),
        "attention: a result of shape {:?}, its gradient of {:?} and {} sums, expected {expected:?}",
        out.shape,
        dout.shape,
        lse.len()
    );
    assert!(
        fits(&dq, q.shape) && fits(&dk, k.shape) && fits(&dv, v.shape),
        "attention: gradients have other shapes than {:?}, {:?} and {:?}",
        q.shape,
        k.shape,
        v.shape
    );
    T::run_backward(&Backward { problem, dout, out, lse, dq, dk, dv, isa: isa() });
}
