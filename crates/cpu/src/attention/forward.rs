//! out = softmax(scores) V, one chunk of lanes at a time.
//!
//! Scores are computed transposed, `[keys, lanes]`: then keys and values are read where they lie, sums over keys run down the
//! lanes, and nothing crosses a vector. Blocks of keys follow each other with a running maximum and sum per lane (Milakov and
//! Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022).

use std::f64::consts::LN_2;
use std::ops::Range;

use crate::isa::Isa;
use crate::real::Real;

use super::blocks::{Forms, LaneSource, Readable, Source, padded, turn, turned_bytes};
use super::engine::{Engine, WIDTH};
use super::operand::HeadsMut;
use super::pages::Parts;
use super::plan::{KEYS, Lanes, Reach, Span, runs, seen};
use super::product::{self, Product, Start};
use super::scores::{self, Mask, Scoring};
use super::scratch::{self, Scratch};
use super::{Attributes, Problem};

/// Everything that pieces of the forward pass share.
pub struct Forward<'a, T, R> {
    pub problem: Problem<'a, T>,
    pub out: HeadsMut<'a, T>,
    /// `[rows, heads]`.
    pub lse: *mut R,
    pub isa: Isa,
}

// SAFETY: pieces write disjoint rows and heads.
unsafe impl<T: Sync + Send, R: Send> Sync for Forward<'_, T, R> {}

/// A piece of the forward pass: some lanes of a segment and a key head.
#[derive(Clone, Debug)]
pub struct Piece {
    pub segment: usize,
    pub head: usize,
    pub lanes: Range<usize>,
}

/// What is kept of a block of lanes from one block of keys to the next.
struct Block<T, R> {
    lanes: Lanes,
    queries: Forms<T>,
    maximum: [R; WIDTH],
    sum: [R; WIDTH],
    slopes: Option<[R; WIDTH]>,
    /// With dropout.
    rows: Option<[u32; WIDTH]>,
    /// `[width of values, WIDTH]`.
    out: *mut R,
    /// Whether there is something in `out`.
    begun: bool,
}

/// The slope of each lane, for scores in base 2.
pub fn slopes<R: Real>(attributes: &Attributes<'_>, head: usize, group: usize, first: usize) -> Option<[R; WIDTH]> {
    let slopes = attributes.slopes?;
    Some(std::array::from_fn(|lane| R::of(slopes[head * group + (first + lane) % group] * std::f64::consts::LOG2_E)))
}

/// The number of each lane's row among all rows and heads of its segment.
pub fn row_numbers(heads: usize, head: usize, group: usize, first: usize) -> [u32; WIDTH] {
    std::array::from_fn(|lane| {
        let lane = first + lane;
        (lane / group * heads + head * group + lane % group) as u32
    })
}

/// Runs a piece.
///
/// # Safety
/// The processor must have the engine's instructions; pieces that run at the same time are disjoint.
#[inline(always)]
pub unsafe fn piece<E: Engine, T: Readable<E>>(job: &Forward<'_, T, E::Acc>, piece: &Piece) {
    let problem = &job.problem;
    let (q, k, v) = (problem.q, problem.k, problem.v);
    let group = q.heads() / k.heads();
    let span = &problem.spans[piece.segment];
    let queries = LaneSource::new::<E>(q, span.queries.start, piece.head * group, group, job.isa);
    let keys = Source::new::<E>(k, piece.head, job.isa);
    let values = Source::new::<E>(v, piece.head, job.isa);
    let blocks = piece.lanes.len().div_ceil(WIDTH);
    let words = if E::GROUP == 1 { 0 } else { KEYS / E::GROUP * WIDTH };
    let factors = if problem.attributes.dropout.is_some() { KEYS * WIDTH } else { 0 };
    let per_block = queries.bytes::<E>(false) + scratch::bytes::<E::Acc>(v.width() * WIDTH);
    let bytes = blocks * per_block
        + keys.block_bytes::<E>()
        + values.block_bytes::<E>()
        + scratch::bytes::<E::Acc>(KEYS * WIDTH)
        + scratch::bytes::<E::Acc>(factors)
        + scratch::bytes::<u32>(words)
        + turned_bytes::<E::Acc>(v.width());
    let scratch = &mut Scratch::new(bytes);
    let shared = Shared {
        scores: scratch.take(KEYS * WIDTH),
        factors: scratch.take(factors),
        words: scratch.take(words),
        keys: scratch.take(keys.block_bytes::<E>()),
        values: scratch.take(values.block_bytes::<E>()),
        turned: scratch.take(WIDTH * padded(v.width())),
        scoring: Scoring::new(&problem.attributes),
        mask: problem.attributes.dropout.map(|dropout| Mask::new(&dropout, piece.segment)),
        depth: q.width().div_ceil(E::GROUP),
        width: v.width(),
        isa: job.isa,
    };
    let view = problem.attributes.view();
    let total = span.queries.len() * group;
    let mut blocks = Vec::with_capacity(piece.lanes.len().div_ceil(WIDTH));
    for first in piece.lanes.clone().step_by(WIDTH) {
        let block = Block::<T, E::Acc> {
            lanes: Lanes::new::<E>(view, span, group, first, total.min(piece.lanes.end)),
            queries: queries.forms::<E>(false, scratch),
            maximum: [-E::Acc::INFINITY; WIDTH],
            sum: [E::Acc::ZERO; WIDTH],
            slopes: slopes(&problem.attributes, piece.head, group, first),
            rows: shared.mask.as_ref().map(|_| row_numbers(q.heads(), piece.head, group, first)),
            out: scratch.take(v.width() * WIDTH),
            begun: false,
        };
        // SAFETY: the memory was taken for this.
        unsafe { queries.pack::<E>(first, block.lanes.count, &block.queries) };
        blocks.push(block);
    }
    let first = blocks.iter().map(|b| b.lanes.keys().start).min().unwrap_or(0) / KEYS * KEYS;
    let end = blocks.iter().map(|b| b.lanes.keys().end).max().unwrap_or(0);
    for key in (first..end).step_by(KEYS) {
        let count = KEYS.min(span.keys.len() - key);
        // SAFETY: the rows are within the operands, and the memory was taken for them.
        unsafe {
            let keys = keys.parts_along::<E>(span.keys.start + key, count, shared.keys);
            let values = values.parts_down::<E>(span.keys.start + key, count, shared.values);
            for block in &mut blocks {
                step::<E, T>(&shared, block, key, count, keys, values);
            }
        }
    }
    for (i, block) in blocks.iter().enumerate() {
        let first = piece.lanes.start + i * WIDTH;
        // SAFETY: the lanes are this piece's.
        unsafe { finish::<E, T>(job, &shared, block, span, piece.head, group, first) };
    }
}

/// Memory and numbers that all blocks of a piece use.
struct Shared<R> {
    scores: *mut R,
    factors: *mut R,
    words: *mut u32,
    keys: *mut u8,
    values: *mut u8,
    turned: *mut R,
    scoring: Scoring<R>,
    mask: Option<Mask<R>>,
    /// Words of the width of queries and keys.
    depth: usize,
    /// Width of the values.
    width: usize,
    isa: Isa,
}

/// A block of lanes meets a block of keys.
#[inline(always)]
unsafe fn step<E: Engine, T>(
    shared: &Shared<E::Acc>,
    block: &mut Block<T, E::Acc>,
    key: usize,
    count: usize,
    keys: Parts,
    values: Parts,
) {
    let reach = block.lanes.within::<E>(key, count);
    let reach = &reach[..block.lanes.vectors];
    if reach.iter().all(|r| r.any.is_empty()) {
        return;
    }
    // SAFETY: the caller's; blocks have room for `KEYS` keys, and operands have `count` rows.
    unsafe {
        score::<E>(keys, count, shared.depth, block.queries.across, reach, shared.scoring.scale, shared.scores);
        scores::adjust::<E>(shared.scores, None, &shared.scoring, block.slopes.as_ref(), &block.lanes, reach, key);
        for (vector, reach) in reach.iter().enumerate().filter(|(_, r)| !r.any.is_empty()) {
            let lane = vector * E::LANES;
            let scores = shared.scores.add(lane);
            let (maximum, sum) = (block.maximum.as_mut_ptr().add(lane), block.sum.as_mut_ptr().add(lane));
            let factor = scores::softmax::<E>(scores, reach.any.clone(), maximum, sum);
            if let Some(factor) = factor.filter(|_| block.begun) {
                for d in 0..shared.width {
                    let at = block.out.add(d * WIDTH + lane);
                    E::store(at, E::mul(E::load(at), factor));
                }
            }
            if let (Some(mask), Some(rows)) = (&shared.mask, &block.rows) {
                let factors = shared.factors.add(lane);
                mask.write::<E>(factors, reach.any.clone(), key, &rows[lane..]);
                scores::multiply::<E>(scores, factors, reach.any.clone());
            }
        }
        if !block.begun {
            block.out.write_bytes(0, shared.width * WIDTH);
            block.begun = true;
        }
        let mut b = shared.scores.cast::<u8>();
        if E::GROUP > 1 {
            b = shared.words.cast();
            pair::<E>(shared.scores, seen(reach), b, shared.isa);
        }
        gather::<E>(values, shared.width, b, reach, block.out);
    }
}

/// `to = scale * rows across`, `[keys, WIDTH]`, where some vector sees it: `rows` are those of `count` keys, `across` the
/// lanes' words, `[depth, WIDTH]`.
///
/// # Safety
/// As [`Engine`]; operands and the block must have these sizes.
#[inline(always)]
pub unsafe fn score<E: Engine>(
    rows: Parts,
    count: usize,
    depth: usize,
    across: *const u8,
    reach: &[Reach],
    scale: E::Acc,
    to: *mut E::Acc,
) {
    for (keys, vectors) in runs(reach) {
        let lane = vectors.start * E::LANES;
        let (mut key, last) = (keys.start, keys.end.min(count));
        while key < last {
            let (end, a, a_step) = rows.run(key, last);
            let job = Product {
                depth,
                a,
                a_step,
                b: across.wrapping_add(lane * E::WORD),
                b_step: (WIDTH * E::WORD) as isize,
                c: to.wrapping_add(key * WIDTH + lane),
                c_step: WIDTH,
                start: Start::Scaled(scale),
            };
            // SAFETY: the caller's.
            unsafe { product::run::<E, false>(&job, end - key, vectors.len()) };
            key = end;
        }
    }
}

/// `to += values^T probabilities`, `[width, WIDTH]`: `rows` are those of keys in words down the keys, `block` the words of the
/// probabilities, `[words of keys, WIDTH]`.
///
/// # Safety
/// As [`score`].
#[inline(always)]
pub unsafe fn gather<E: Engine>(rows: Parts, width: usize, block: *const u8, reach: &[Reach], to: *mut E::Acc) {
    for (keys, vectors) in runs(reach) {
        let lane = vectors.start * E::LANES;
        let (mut word, last) = (keys.start / E::GROUP, keys.end.div_ceil(E::GROUP));
        while word < last {
            let (end, a, a_step) = rows.run(word, last);
            let job = Product {
                depth: end - word,
                a,
                a_step,
                b: block.wrapping_add((word * WIDTH + lane) * E::WORD),
                b_step: (WIDTH * E::WORD) as isize,
                c: to.wrapping_add(lane),
                c_step: WIDTH,
                start: Start::Add,
            };
            // SAFETY: the caller's.
            unsafe { product::run::<E, true>(&job, width, vectors.len()) };
            word = end;
        }
    }
}

/// Packs the rows `keys` of a block into words down the keys.
///
/// # Safety
/// As [`Engine`]; `to` has as many words as the block.
#[inline(always)]
pub unsafe fn pair<E: Engine>(block: *const E::Acc, keys: Range<usize>, to: *mut u8, isa: Isa) {
    let view = crate::gemm::pack::View {
        ptr: block.wrapping_add(keys.start * WIDTH).cast(),
        lane_stride: 1,
        depth_stride: WIDTH as isize,
    };
    let to = to.wrapping_add(keys.start / E::GROUP * WIDTH * E::WORD);
    // SAFETY: the caller's.
    unsafe { (E::words_of_sums(isa).run)(view, WIDTH, keys.len(), WIDTH, to) };
}

/// Divides by the sums and writes the results.
#[inline(always)]
unsafe fn finish<E: Engine, T: Readable<E>>(
    job: &Forward<'_, T, E::Acc>,
    shared: &Shared<E::Acc>,
    block: &Block<T, E::Acc>,
    span: &Span,
    head: usize,
    group: usize,
    first: usize,
) {
    let width = shared.width;
    // SAFETY: the block and the memory have these sizes; the lanes' rows are this piece's.
    unsafe {
        if block.begun {
            turn::<E>(block.out, block.lanes.count, width, shared.turned, shared.isa);
        }
        // All lanes at once: as a loop of its own this becomes vector code.
        let mut lse = [E::Acc::ZERO; WIDTH];
        for (lane, lse) in lse.iter_mut().enumerate() {
            *lse = block.maximum[lane] * E::Acc::of(LN_2) + block.sum[lane].ln::<E::Tier>();
        }
        let (mut row, mut member) = (span.queries.start + first / group, first % group);
        for lane in 0..block.lanes.count {
            let at = head * group + member;
            let to = std::slice::from_raw_parts_mut(job.out.at(row, at), width);
            let sum = block.sum[lane];
            // A row that sees nothing is zero, and so is e to its log-sum-exp.
            let nothing = sum == E::Acc::ZERO;
            let lse = if nothing { -E::Acc::INFINITY } else { lse[lane] };
            job.lse.add(row * job.problem.q.heads() + at).write(lse);
            member += 1;
            if member == group {
                (row, member) = (row + 1, 0);
            }
            if nothing {
                to.fill(T::store(E::Acc::ZERO));
            } else {
                let from = std::slice::from_raw_parts(shared.turned.add(lane * padded(width)), width);
                let inverse = E::Acc::ONE / sum;
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = T::store(from * inverse);
                }
            }
        }
    }
}
