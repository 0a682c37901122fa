//! Gradients of queries, keys and values, with the probabilities computed anew from the saved log-sum-exp (Dao et al.,
//! "FlashAttention", 2022).
//!
//! With P the probabilities, M the dropout factors (1 without dropout), D = rowsum(dout * out):
//!
//! ```text
//! dV = (P * M)^T dout
//! dS = P * (M * (dout V^T) - D) * scale
//! dQ = dS K,    dK = dS^T Q
//! ```
//!
//! An element of dQ is one chain over the keys, one of dK and dV over the lanes, both in rising order. So a piece may compute
//! all three gradients of a segment, or keys and queries may be cut into pieces of their own, with the same bits.

use std::f64::consts::LOG2_E;
use std::ops::Range;

use cupola_core::Element;

use crate::gemm::pack::View;
use crate::isa::Isa;
use crate::real::Real;

use super::Problem;
use super::blocks::{Forms, LaneSource, Readable, Rows, Source, padded, turn, turned_bytes};
use super::engine::{Engine, WIDTH};
use super::forward::{gather, pair, row_numbers, score, slopes};
use super::operand::{Heads, HeadsMut};
use super::plan::{KEYS, Lanes, Reach, runs, seen};
use super::product::{self, Product, Start};
use super::scores::{self, Mask, Scoring};
use super::scratch::{self, Scratch};

/// Everything that pieces of the backward pass share.
pub struct Backward<'a, T, R> {
    pub problem: Problem<'a, T>,
    pub dout: Heads<'a, T>,
    pub out: Heads<'a, T>,
    /// `[rows, heads]`.
    pub lse: &'a [R],
    pub dq: Option<HeadsMut<'a, T>>,
    pub dk: Option<HeadsMut<'a, T>>,
    pub dv: Option<HeadsMut<'a, T>>,
    pub isa: Isa,
}

/// A piece of the backward pass: the lanes and keys of a segment and key head that meet, and which gradients are written.
/// Those of queries need all keys, those of keys and values all lanes.
#[derive(Clone, Debug)]
pub struct Piece {
    pub segment: usize,
    pub head: usize,
    pub lanes: Range<usize>,
    pub keys: Range<usize>,
    pub dq: bool,
    pub dkv: bool,
}

/// Memory and numbers of a piece.
struct Work<'a, T, E: Engine> {
    queries: LaneSource<'a, T>,
    douts: LaneSource<'a, T>,
    outs: LaneSource<'a, T>,
    query_forms: Forms<T>,
    dout_forms: Forms<T>,
    scores: *mut E::Acc,
    slopes: *mut E::Acc,
    factors: *mut E::Acc,
    tangents: *mut E::Acc,
    words: *mut u8,
    /// Room for the gradients of a block of keys and values.
    dk: *mut E::Acc,
    dv: *mut E::Acc,
    scoring: Scoring<E::Acc>,
    mask: Option<Mask<E::Acc>>,
    dq: bool,
    dkv: bool,
    isa: Isa,
}

/// A block of keys in the forms that products read.
struct Keys {
    first: usize,
    count: usize,
    /// Keys along and down, values along.
    along: Rows,
    down: Rows,
    values: Rows,
}

/// Runs a piece.
///
/// # Safety
/// The processor must have the engine's instructions; pieces that run at the same time are disjoint.
#[inline(always)]
pub unsafe fn piece<E: Engine, T: Readable<E>>(job: &Backward<'_, T, E::Acc>, piece: &Piece) {
    let problem = &job.problem;
    let (q, k, v) = (problem.q, problem.k, problem.v);
    let group = q.heads() / k.heads();
    let span = &problem.spans[piece.segment];
    let lane_source = |operand| LaneSource::new::<E>(operand, span.queries.start, piece.head * group, group, job.isa);
    let (queries, douts, outs) = (lane_source(q), lane_source(job.dout), lane_source(job.out));
    let key_source = Source::new::<E>(k, piece.head, job.isa);
    let value_source = Source::new::<E>(v, piece.head, job.isa);
    let (depth, width) = (q.width(), v.width());
    let block = scratch::bytes::<E::Acc>(KEYS * WIDTH);
    let blocks = piece.lanes.len().div_ceil(WIDTH);
    let dq_size = if piece.dq { blocks * depth * WIDTH } else { 0 };
    let bytes = queries.bytes::<E>(true)
        + douts.bytes::<E>(true)
        + 2 * key_source.bytes::<E>(KEYS)
        + value_source.bytes::<E>(KEYS)
        + 4 * block
        + scratch::bytes::<u8>(KEYS * WIDTH * E::WORD)
        + scratch::bytes::<E::Acc>(KEYS * padded(depth))
        + scratch::bytes::<E::Acc>(KEYS * padded(width))
        + turned_bytes::<E::Acc>(depth)
        + scratch::bytes::<E::Acc>(dq_size);
    let scratch = &mut Scratch::new(bytes);
    let work = Work::<T, E> {
        query_forms: queries.forms::<E>(true, scratch),
        dout_forms: douts.forms::<E>(true, scratch),
        queries,
        douts,
        outs,
        scores: scratch.take(KEYS * WIDTH),
        slopes: scratch.take(KEYS * WIDTH),
        factors: scratch.take(KEYS * WIDTH),
        tangents: scratch.take(KEYS * WIDTH),
        words: scratch.take(KEYS * WIDTH * E::WORD),
        dk: scratch.take(KEYS * padded(depth)),
        dv: scratch.take(KEYS * padded(width)),
        scoring: Scoring::new(&problem.attributes),
        mask: problem.attributes.dropout.map(|dropout| Mask::new(&dropout, piece.segment)),
        dq: piece.dq,
        dkv: piece.dkv,
        isa: job.isa,
    };
    let (keys_along, keys_down) =
        (scratch.take(key_source.bytes::<E>(KEYS)), scratch.take(key_source.bytes::<E>(KEYS)));
    let values_along = scratch.take(value_source.bytes::<E>(KEYS));
    let turned = scratch.take::<E::Acc>(WIDTH * padded(depth));
    let dq = scratch.take::<E::Acc>(dq_size);
    let view = problem.attributes.view();
    let total = span.queries.len() * group;
    // SAFETY: the memory was taken with these sizes, and rows are within the operands.
    unsafe {
        dq.write_bytes(0, dq_size);
        for first in piece.keys.clone().step_by(KEYS) {
            let count = KEYS.min(piece.keys.end - first);
            let row = span.keys.start + first;
            let along = key_source.along::<E>(row, count, keys_along);
            let keys = Keys {
                first,
                count,
                along,
                down: if E::GROUP == 1 || !piece.dq { along } else { key_source.down::<E>(row, count, keys_down) },
                values: value_source.along::<E>(row, count, values_along),
            };
            let dk = KeySums::new::<E, T>(job.dk.as_ref(), row, piece.head, depth, work.dk);
            let dv = KeySums::new::<E, T>(job.dv.as_ref(), row, piece.head, width, work.dv);
            if piece.dkv {
                dk.clear(count);
                dv.clear(count);
            }
            for index in 0..blocks {
                let lane = piece.lanes.start + index * WIDTH;
                let lanes = Lanes::new::<E>(view, span, group, lane, total.min(piece.lanes.end));
                let reach = lanes.within::<E>(first, count);
                let reach = &reach[..lanes.vectors];
                if reach.iter().any(|r| !r.any.is_empty()) {
                    let dq = dq.wrapping_add(if piece.dq { index * depth * WIDTH } else { 0 });
                    step::<E, T>(job, piece, &work, &keys, &lanes, reach, lane, dq, [&dk, &dv]);
                }
            }
            if piece.dkv {
                dk.finish::<E, T>(job.dk.as_ref(), row, piece.head, count);
                dv.finish::<E, T>(job.dv.as_ref(), row, piece.head, count);
            }
        }
        if piece.dq {
            for index in 0..blocks {
                let lane = piece.lanes.start + index * WIDTH;
                let count = (piece.lanes.end - lane).min(WIDTH);
                turn::<E>(dq.add(index * depth * WIDTH), count, depth, turned, job.isa);
                for l in 0..count {
                    let (row, head) =
                        (span.queries.start + (lane + l) / group, piece.head * group + (lane + l) % group);
                    write::<E, T>(job.dq.as_ref(), row, head, turned.add(l * padded(depth)));
                }
            }
        }
    }
}

/// Where the gradient of a block of keys or values adds up: in the gradient itself where that holds sums in whole vectors, or
/// beside it.
struct KeySums<R> {
    ptr: *mut R,
    step: usize,
    width: usize,
    direct: bool,
}

impl<R: Element> KeySums<R> {
    #[inline(always)]
    fn new<E: Engine<Acc = R>, T: Readable<E>>(
        grad: Option<&HeadsMut<'_, T>>,
        row: usize,
        head: usize,
        width: usize,
        memory: *mut R,
    ) -> Self {
        if let Some(grad) = grad
            && T::DTYPE == R::DTYPE
            && width.is_multiple_of(E::LANES)
        {
            return Self { ptr: grad.at(row, head).cast(), step: grad.strides[0], width, direct: true };
        }
        Self { ptr: memory, step: padded(width), width, direct: false }
    }

    /// Sets the sums of `count` keys to zero.
    #[inline(always)]
    unsafe fn clear(&self, count: usize) {
        let width = if self.direct { self.width } else { self.step };
        for key in 0..count {
            // SAFETY: the caller vouches for as many rows.
            unsafe { self.ptr.add(key * self.step).write_bytes(0, width) };
        }
    }

    /// Writes the sums of `count` keys where they are not yet in place.
    #[inline(always)]
    unsafe fn finish<E: Engine<Acc = R>, T: Readable<E>>(
        &self,
        grad: Option<&HeadsMut<'_, T>>,
        row: usize,
        head: usize,
        count: usize,
    ) {
        for key in 0..if self.direct { 0 } else { count } {
            // SAFETY: the caller vouches for as many rows.
            unsafe { write::<E, T>(grad, row + key, head, self.ptr.add(key * self.step)) };
        }
    }
}

/// Writes one head of one row of a gradient.
#[inline(always)]
unsafe fn write<E: Engine, T: Readable<E>>(to: Option<&HeadsMut<'_, T>>, row: usize, head: usize, from: *const E::Acc) {
    let Some(to) = to else { return };
    // SAFETY: the row is within the gradient and this piece's alone; the source has its width.
    unsafe {
        let from = std::slice::from_raw_parts(from, to.shape[2]);
        let to = std::slice::from_raw_parts_mut(to.at(row, head), to.shape[2]);
        for (to, &from) in to.iter_mut().zip(from) {
            *to = T::store(from);
        }
    }
}

/// The sum of products of two rows, in 16 chains that are added in pairs.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn dot<E: Engine, T: Readable<E>>(
    a: *const T,
    a_step: isize,
    b: *const T,
    b_step: isize,
    width: usize,
) -> E::Acc {
    let mut sums = [E::Acc::ZERO; 16];
    // SAFETY: the caller vouches for `width` elements of both rows.
    unsafe {
        if a_step == 1 && b_step == 1 {
            let (a, b) = (std::slice::from_raw_parts(a, width), std::slice::from_raw_parts(b, width));
            let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
            let (a_rest, b_rest) = (a.remainder(), b.remainder());
            for (a, b) in a.zip(b) {
                for i in 0..16 {
                    sums[i] = a[i].load().fma::<E::Tier>(b[i].load(), sums[i]);
                }
            }
            for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
                *sum = a.load().fma::<E::Tier>(b.load(), *sum);
            }
        } else {
            for d in 0..width {
                let (a, b) = (*a.offset(d as isize * a_step), *b.offset(d as isize * b_step));
                sums[d % 16] = a.load().fma::<E::Tier>(b.load(), sums[d % 16]);
            }
        }
    }
    let mut half = 8;
    while half > 0 {
        for i in 0..half {
            sums[i] = sums[i] + sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// A block of lanes meets a block of keys.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn step<E: Engine, T: Readable<E>>(
    job: &Backward<'_, T, E::Acc>,
    piece: &Piece,
    work: &Work<'_, T, E>,
    keys: &Keys,
    lanes: &Lanes,
    reach: &[Reach],
    lane: usize,
    dq: *mut E::Acc,
    [dk, dv]: [&KeySums<E::Acc>; 2],
) {
    let problem = &job.problem;
    let (depth, width) = (problem.q.width(), problem.v.width());
    let (heads, group) = (problem.q.heads(), work.queries.group);
    let mut lse = [E::Acc::INFINITY; WIDTH];
    let mut mean = [E::Acc::ZERO; WIDTH];
    // SAFETY: the caller's; lanes are within the operands, and blocks have room for `KEYS` keys.
    unsafe {
        let query_rows = work.queries.pack::<E>(lane, lanes.count, &work.query_forms);
        let dout_rows = work.douts.pack::<E>(lane, lanes.count, &work.dout_forms);
        for l in 0..lanes.count {
            let row = work.queries.row + (lane + l) / group;
            let saved = job.lse[row * heads + work.queries.head + (lane + l) % group];
            // With an infinite one every probability is zero, as it should be for a row that sees nothing.
            lse[l] = if saved == -E::Acc::INFINITY { E::Acc::INFINITY } else { saved * E::Acc::of(LOG2_E) };
            let (a, b) = (work.douts.at(lane + l), work.outs.at(lane + l));
            mean[l] = dot::<E, T>(a, work.douts.operand.strides[2], b, work.outs.operand.strides[2], width);
        }
        let (across, scale) = (work.query_forms.across, work.scoring.scale);
        score::<E>(keys.along.into(), keys.count, depth.div_ceil(E::GROUP), across, reach, scale, work.scores);
        let across = work.dout_forms.across;
        score::<E>(keys.values.into(), keys.count, width.div_ceil(E::GROUP), across, reach, E::Acc::ONE, work.slopes);
        let lane_slopes = slopes(&problem.attributes, piece.head, group, lane);
        let tangents = work.scoring.cap.is_some().then_some(work.tangents);
        scores::adjust::<E>(work.scores, tangents, &work.scoring, lane_slopes.as_ref(), lanes, reach, keys.first);
        let rows = work.mask.as_ref().map(|_| row_numbers(heads, piece.head, group, lane));
        for (vector, reach) in reach.iter().enumerate().filter(|(_, r)| !r.any.is_empty()) {
            let at = vector * E::LANES;
            let (scores, slopes) = (work.scores.add(at), work.slopes.add(at));
            let mut factors = None;
            if let (Some(mask), Some(rows)) = (&work.mask, &rows) {
                mask.write::<E>(work.factors.add(at), reach.any.clone(), keys.first, &rows[at..]);
                factors = Some(work.factors.add(at).cast_const());
            }
            scores::probabilities::<E>(scores, reach.any.clone(), lse.as_ptr().add(at));
            if let Some(factors) = factors {
                scores::multiply::<E>(slopes, factors, reach.any.clone());
            }
            let scale = E::all(E::Acc::of(problem.attributes.scale));
            let mean = E::load(mean.as_ptr().add(at));
            for key in reach.any.clone() {
                let slope = slopes.add(key * WIDTH);
                let p = E::mul(E::load(scores.add(key * WIDTH)), scale);
                // Keys past the end, in the last word, have no slope: theirs is not read.
                let ds = E::mul(p, E::sub(E::load(slope), mean));
                E::store(slope, if key < keys.count { ds } else { E::zero() });
            }
            if let Some(tangents) = tangents {
                let tangents = tangents.add(at);
                for key in reach.any.clone() {
                    let (slope, t) = (slopes.add(key * WIDTH), E::load(tangents.add(key * WIDTH)));
                    let derivative = E::sub(E::all(E::Acc::ONE), E::mul(t, t));
                    E::store(slope, E::mul(E::load(slope), derivative));
                }
            }
            if let Some(factors) = factors {
                scores::multiply::<E>(scores, factors, reach.any.clone());
            }
        }
        if work.dkv {
            into_keys::<E, T>(work, work.scores, dout_rows, dv, lanes, reach, keys.count);
            into_keys::<E, T>(work, work.slopes, query_rows, dk, lanes, reach, keys.count);
        }
        if work.dq {
            let mut b = work.slopes.cast::<u8>();
            if E::GROUP > 1 {
                b = work.words;
                pair::<E>(work.slopes, seen(reach), b, work.isa);
            }
            gather::<E>(keys.down.into(), depth, b, reach, dq);
        }
    }
}

/// Adds `block` times the lanes' rows to the gradient of keys or values.
#[inline(always)]
unsafe fn into_keys<E: Engine, T>(
    work: &Work<'_, T, E>,
    block: *mut E::Acc,
    rows: Rows,
    to: &KeySums<E::Acc>,
    lanes: &Lanes,
    reach: &[Reach],
    count: usize,
) {
    let mut a = block.cast::<u8>();
    let bytes = WIDTH * E::WORD / E::GROUP;
    // SAFETY: the caller's.
    unsafe {
        if E::GROUP > 1 {
            a = work.words;
            let keys = seen(reach);
            let view = View { ptr: block.add(keys.start * WIDTH).cast(), lane_stride: 0, depth_stride: 1 };
            let to = a.add(keys.start * bytes);
            (E::words_of_sums(work.isa).run)(view, 1, keys.len() * WIDTH, 1, to);
        }
        for (keys, vectors) in runs(reach) {
            let first = vectors.start * E::LANES;
            let end = lanes.count.min(vectors.end * E::LANES);
            let product = Product {
                depth: (end - first).div_ceil(E::GROUP),
                a: a.add(keys.start * bytes + first / E::GROUP * E::WORD),
                a_step: bytes as isize,
                b: rows.ptr.wrapping_offset((first / E::GROUP) as isize * rows.step),
                b_step: rows.step,
                c: to.ptr.wrapping_add(keys.start * to.step),
                c_step: to.step,
                start: Start::Add,
            };
            let vectors = to.width.div_ceil(E::LANES);
            product::run::<E, false>(&product, keys.end.min(count) - keys.start, vectors);
        }
    }
}
