//! Angles that add up along sequences, and pairs of channels that are turned by them: the complex states of Mamba-3 (2026,
//! arXiv:2603.15569).

use cupola_core::parallel_for;

use crate::real::Real;
use crate::scattered::Scattered;
use crate::{instantiate, isa, kernel};

/// Columns of angles in a piece of work.
const COLUMNS: usize = 256;

/// Sizes of what is turned.
#[derive(Clone, Copy, Debug)]
pub struct Turned {
    /// Tokens, N.
    pub tokens: usize,
    /// Rows of a token, R, that are turned alike.
    pub rank: usize,
    /// Heads, H.
    pub heads: usize,
    /// Channels of a head, S.
    pub width: usize,
    /// Pairs of a head that are turned, K; channels from 2 K on stay as they are.
    pub pairs: usize,
}

fn sum_of<T: Real>(
    offsets: &[usize],
    width: usize,
    delta: &[T],
    state: Option<&[T]>,
    angles: &mut [T],
    last: &mut [T],
) {
    let sequences = offsets.len() - 1;
    assert!(offsets.is_sorted() && delta.len() == offsets[sequences] * width && angles.len() == delta.len());
    assert!(state.is_none_or(|s| s.len() == sequences * width) && (last.is_empty() || last.len() == sequences * width));
    let (isa, blocks) = (isa(), width.div_ceil(COLUMNS));
    let (angles, last) = (Scattered::new(angles), Scattered::new(last));
    parallel_for(sequences * blocks, |piece| {
        let (sequence, first) = (piece / blocks, piece % blocks * COLUMNS);
        let count = COLUMNS.min(width - first);
        let mut angle = vec![T::ZERO; count];
        if let Some(state) = state {
            angle.copy_from_slice(&state[sequence * width + first..][..count]);
        }
        for token in offsets[sequence]..offsets[sequence + 1] {
            let at = token * width + first;
            add_wrapped::<T>(isa, &mut angle, &delta[at..at + count]);
            // SAFETY: sequences and columns differ between pieces.
            unsafe { angles.part(at, count) }.copy_from_slice(&angle);
        }
        if !last.is_empty() {
            // SAFETY: as above.
            unsafe { last.part(sequence * width + first, count) }.copy_from_slice(&angle);
        }
    });
}

fn sum_backward_of<T: Real>(
    offsets: &[usize],
    width: usize,
    dangles: &[T],
    dlast: Option<&[T]>,
    ddelta: &mut [T],
    dstate: &mut [T],
) {
    let sequences = offsets.len() - 1;
    assert!(offsets.is_sorted() && ddelta.len() == offsets[sequences] * width && dangles.len() == ddelta.len());
    let sized = |len: usize| len == sequences * width;
    assert!(dlast.is_none_or(|d| sized(d.len())) && (dstate.is_empty() || sized(dstate.len())));
    let (ddelta, dstate) = (Scattered::new(ddelta), Scattered::new(dstate));
    parallel_for(sequences, |sequence| {
        let mut sum = vec![T::ZERO; width];
        if let Some(dlast) = dlast {
            sum.copy_from_slice(&dlast[sequence * width..][..width]);
        }
        for token in (offsets[sequence]..offsets[sequence + 1]).rev() {
            let at = token * width;
            sum.iter_mut().zip(&dangles[at..at + width]).for_each(|(sum, &d)| *sum = *sum + d);
            // SAFETY: sequences differ between pieces.
            unsafe { ddelta.part(at, width) }.copy_from_slice(&sum);
        }
        if !dstate.is_empty() {
            // SAFETY: as above.
            unsafe { dstate.part(sequence * width, width) }.copy_from_slice(&sum);
        }
    });
}

fn check(sizes: &Turned, x: usize, angles: usize) {
    let Turned { tokens, rank, heads, width, pairs } = *sizes;
    assert!(2 * pairs <= width, "{sizes:?}");
    assert_eq!((x, angles), (tokens * rank * heads * width, tokens * heads * pairs), "{sizes:?}");
}

fn rotate_of<T: Real>(sizes: &Turned, x: &[T], angles: &[T], y: &mut [T]) {
    check(sizes, x.len(), angles.len());
    assert_eq!(y.len(), x.len());
    let (isa, y) = (isa(), Scattered::new(y));
    let Turned { tokens, rank, heads, width, pairs } = *sizes;
    parallel_for(tokens, |token| {
        let size = rank * heads * width;
        // SAFETY: tokens differ between pieces.
        let y = unsafe { y.part(token * size, size) };
        let angles = &angles[token * heads * pairs..][..heads * pairs];
        rotate_token::<T>(isa, sizes, &x[token * size..][..size], angles, y);
    });
}

fn rotate_backward_of<T: Real>(sizes: &Turned, x: &[T], angles: &[T], dy: &[T], dx: &mut [T], dangles: &mut [T]) {
    check(sizes, x.len(), angles.len());
    assert_eq!((dy.len(), dx.len(), dangles.len()), (x.len(), x.len(), angles.len()));
    let (isa, dx, dangles) = (isa(), Scattered::new(dx), Scattered::new(dangles));
    let Turned { tokens, rank, heads, width, pairs } = *sizes;
    parallel_for(tokens, |token| {
        let (size, turned) = (rank * heads * width, heads * pairs);
        // SAFETY: tokens differ between pieces.
        let (dx, dangles) = unsafe { (dx.part(token * size, size), dangles.part(token * turned, turned)) };
        let angles = &angles[token * turned..][..turned];
        let (x, dy) = (&x[token * size..][..size], &dy[token * size..][..size]);
        rotate_token_back::<T>(isa, sizes, x, angles, dy, dx, dangles);
    });
}

kernel! {
    /// `angle += delta`, brought back to within half a turn of zero.
    fn add_wrapped[I; T: Real](angle: &mut [T], delta: &[T]) {
        // A turn in two parts: products of the first with small whole numbers are exact.
        let (high, low) = (T::of(6.28125), T::of(std::f64::consts::TAU - 6.28125));
        let per_turn = T::of(1.0 / std::f64::consts::TAU);
        for (angle, &delta) in angle.iter_mut().zip(delta) {
            let sum = *angle + delta;
            let turns = (sum * per_turn).round();
            *angle = (-turns).fma::<I>(low, (-turns).fma::<I>(high, sum));
        }
    }

    fn rotate_token[I; T: Real](sizes: &Turned, x: &[T], angles: &[T], y: &mut [T]) {
        let Turned { rank, heads, width, pairs, .. } = *sizes;
        let (mut cos, mut sin) = (vec![T::ZERO; pairs], vec![T::ZERO; pairs]);
        for head in 0..heads {
            for (k, &angle) in angles[head * pairs..(head + 1) * pairs].iter().enumerate() {
                cos[k] = angle.cos::<I>();
                sin[k] = angle.sin::<I>();
            }
            for row in 0..rank {
                let at = (row * heads + head) * width;
                let (x, y) = (&x[at..at + width], &mut y[at..at + width]);
                let (turned, same) = y.split_at_mut(2 * pairs);
                let couples = turned.as_chunks_mut::<2>().0.iter_mut().zip(x.as_chunks::<2>().0);
                for (([p, q], &[a, b]), (&cos, &sin)) in couples.zip(cos.iter().zip(&sin)) {
                    *p = a.fma::<I>(cos, -(b * sin));
                    *q = a.fma::<I>(sin, b * cos);
                }
                same.copy_from_slice(&x[2 * pairs..]);
            }
        }
    }

    fn rotate_token_back[I; T: Real](
        sizes: &Turned,
        x: &[T],
        angles: &[T],
        dy: &[T],
        dx: &mut [T],
        dangles: &mut [T],
    ) {
        let Turned { rank, heads, width, pairs, .. } = *sizes;
        let (mut cos, mut sin) = (vec![T::ZERO; pairs], vec![T::ZERO; pairs]);
        for head in 0..heads {
            for (k, &angle) in angles[head * pairs..(head + 1) * pairs].iter().enumerate() {
                cos[k] = angle.cos::<I>();
                sin[k] = angle.sin::<I>();
            }
            let dangles = &mut dangles[head * pairs..(head + 1) * pairs];
            dangles.fill(T::ZERO);
            for row in 0..rank {
                let at = (row * heads + head) * width;
                let (x, dy, dx) = (&x[at..at + width], &dy[at..at + width], &mut dx[at..at + width]);
                for k in 0..pairs {
                    let (a, b, p, q) = (x[2 * k], x[2 * k + 1], dy[2 * k], dy[2 * k + 1]);
                    dx[2 * k] = p.fma::<I>(cos[k], q * sin[k]);
                    dx[2 * k + 1] = q.fma::<I>(cos[k], -(p * sin[k]));
                    // Turning further moves the first of a pair by minus the second, and the second by the first.
                    let (y0, y1) = (a.fma::<I>(cos[k], -(b * sin[k])), a.fma::<I>(sin[k], b * cos[k]));
                    dangles[k] = dangles[k] + (q * y0 - p * y1);
                }
                dx[2 * pairs..].copy_from_slice(&dy[2 * pairs..]);
            }
        }
    }
}

instantiate! {
    /// Types that angles are computed in.
    Angular: Real, for [f64, f32] {
        /// The sums of `delta [N, W]` since each sequence's begin, or since its `state [sequences, W]`, brought back to within half a turn of
        /// zero at every token, and those after each sequence unless `last` is empty.
        ///
        /// # Panics
        /// When a slice has another length.
        fn sum(
            offsets: &[usize],
            width: usize,
            delta: &[T],
            state: Option<&[T]>,
            angles: &mut [T],
            last: &mut [T],
        ) = sum_of;

        /// The gradients of `delta` and, unless that is empty, of the state.
        ///
        /// # Panics
        /// When a slice has another length.
        fn sum_backward(
            offsets: &[usize],
            width: usize,
            dangles: &[T],
            dlast: Option<&[T]>,
            ddelta: &mut [T],
            dstate: &mut [T],
        ) = sum_backward_of;

        /// `x [N, R, H, S]` with pair k of each head (channels 2 k and 2 k + 1) turned by `angles [N, H, K]`.
        ///
        /// # Panics
        /// When a slice has another length.
        fn rotate(sizes: &Turned, x: &[T], angles: &[T], y: &mut [T]) = rotate_of;

        /// The gradients of x and of the angles.
        ///
        /// # Panics
        /// When a slice has another length.
        fn rotate_backward(
            sizes: &Turned,
            x: &[T],
            angles: &[T],
            dy: &[T],
            dx: &mut [T],
            dangles: &mut [T],
        ) = rotate_backward_of;
    }
}
