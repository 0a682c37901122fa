//! Attention to keys and values in pages.

use cupola_core::{Buffer, DType, alloc::Placement};
use cupola_cpu::attention::{self as kernel, Heads, HeadsMut, PAGE, Span};

use super::{AttentionConfig, heads_of};
use crate::dispatch::with_float;
use crate::mode;
use crate::tensor::Tensor;

/// Where the heads of a page's keys or values lie, in elements from the page's begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeads {
    /// The first element of the first head of the first token.
    pub offset: usize,
    /// How many heads.
    pub heads: usize,
    /// Elements of a head, which lie side by side.
    pub width: usize,
    /// From a token to the next.
    pub token_stride: usize,
    /// From a head to the next.
    pub head_stride: usize,
}

impl PageHeads {
    /// `heads` heads of `width` elements, each with its tokens of a page one behind the other, from `offset` on.
    pub fn by_head(offset: usize, heads: usize, width: usize) -> Self {
        Self { offset, heads, width, token_stride: width, head_stride: PAGE * width }
    }

    /// Elements from the page's begin to the end of these heads.
    pub fn end(&self) -> usize {
        self.offset + self.heads * self.head_stride
    }

    fn of<'a, T>(&self, pages: &'a [&'a [T]]) -> Heads<'a, T> {
        Heads::paged(pages, self.offset, [self.heads, self.width], [self.token_stride, self.head_stride])
    }
}

/// The dtype that attention of these operands computes in, which is also that of its result.
pub fn attention_dtype(operands: [&Tensor; 3]) -> DType {
    let [q, k, v] = operands.map(Tensor::dtype);
    let dtype = q.promote(k).promote(v);
    mode::autocast_dtype().filter(|_| dtype == DType::F32).unwrap_or(dtype)
}

/// [`attention`](super::attention) with keys and values in pages of [`PAGE`] tokens, for sequences that grow: it reads them where they
/// lie. `pages` are those of the first sequence, then those of the next; each sequence begins with a page of its own, and what its
/// last page has room for is not read. Keys and values may share elements.
///
/// A row has the bits that [`attention`](super::attention) gives it.
///
/// # Shapes
/// q `[N, H, Dh]`, keys `[Hkv, Dh]` and values `[Hkv, Dv]` of each token give `[N, H, Dv]`. The segments of `config` are the sequences.
///
/// # Panics
/// When shapes, dtypes, segments or attributes do not fit, when `q` needs a gradient (there is none through pages), or with dropout.
#[track_caller]
pub fn paged_attention(
    q: &Tensor,
    pages: &[&Buffer],
    keys: PageHeads,
    values: PageHeads,
    config: &AttentionConfig,
) -> Tensor {
    assert!(!q.needs_grad(), "paged_attention: q {} needs a gradient, and keys in pages have none", q.shape());
    assert!(config.dropout == 0.0, "paged_attention: dropout {}, expected 0", config.dropout);
    assert!(
        q.rank() == 3 && q.dim(2) == keys.width && config.queries.total() == q.dim(0),
        "paged_attention: q {} with {:?} of queries and keys of width {}",
        q.shape(),
        config.queries,
        keys.width
    );
    let mut begin = 0;
    let spans = config.queries.iter().zip(config.keys.iter()).map(|(queries, range)| {
        let keys = begin..begin + range.len();
        begin = keys.end.next_multiple_of(PAGE);
        Span { queries, keys }
    });
    let spans: Vec<Span> = spans.collect();
    assert!(
        config.queries.count() == config.keys.count() && begin == pages.len() * PAGE,
        "paged_attention: {} pages for {:?} of queries and {:?} of keys",
        pages.len(),
        config.queries,
        config.keys
    );
    let shape = [q.dim(0), q.dim(1), values.width];
    with_float!("paged_attention", q.dtype(), T => {
        type R = <T as cupola_cpu::real::Number>::Real;
        let pages: Vec<&[T]> = pages.iter().map(|page| page.as_slice::<T>()).collect();
        let mut out = Buffer::uninit(q.dtype(), shape.iter().product(), Placement::Passing);
        // Only a backward pass would need the sums.
        Tensor::build::<R>([shape[0], shape[1]], |lse| {
            let out = HeadsMut::contiguous(out.as_mut_slice::<T>(), shape);
            let attributes = config.attributes(q.dim(2), None);
            kernel::forward(heads_of::<T>(q), keys.of(&pages), values.of(&pages), &spans, attributes, out, lse);
        });
        Tensor::from_buffer(out, shape)
    })
}
