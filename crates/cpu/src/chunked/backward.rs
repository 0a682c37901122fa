//! Backward: a block of heads walks back over a sequence, chunk by chunk, from the saved state before each.

use std::ops::Range;

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, parallel_for};

use super::block::{Block, Factors, Scratch, product, row_dots, scale_columns, scale_rows};
use super::forward::{diagonals, half, parts};
use super::weights::{Triangle, weigh_back};
use super::{Chunked, Gradients, Inputs, delta};
use crate::gemm::{MatMut, MatRef};
use crate::lanes::sum_of;
use crate::multiply::Multiply;
use crate::scattered::Scattered;
use crate::{Isa, isa, kernel};

#[track_caller]
pub(super) fn run<T: Multiply>(
    chunked: &Chunked<'_>,
    inputs: &Inputs<'_, T>,
    borders: &[T],
    dy: &[T],
    dlast: Option<&[T]>,
    gradients: Gradients<'_, T>,
) {
    chunked.check(inputs);
    assert_eq!(borders.len(), chunked.borders_len(), "size of what was saved of {chunked:?}");
    assert_eq!(dy.len(), inputs.v.len(), "size of the gradient of y of {chunked:?}");
    assert!(dlast.is_none_or(|d| d.len() == chunked.state_len()), "size of the final state's gradient of {chunked:?}");
    let Gradients { dq, dk, dv, ddecay, dscale, ddiagonal, dbeta, dstate } = gradients;
    let small = |input: Option<&[T]>| input.map_or(0, <[T]>::len);
    let found = [dq.len(), dk.len(), dv.len(), ddecay.len(), dscale.len(), ddiagonal.len(), dbeta.len()];
    let factors = [inputs.scale, inputs.diagonal, inputs.beta].map(small);
    let [scale, diagonal, beta] = factors;
    let expected = [inputs.q.len(), inputs.k.len(), inputs.v.len(), inputs.decay.len(), scale, diagonal, beta];
    assert_eq!(found, expected, "sizes of the gradients of {chunked:?}");
    assert!(dstate.is_empty() || dstate.len() == chunked.state_len(), "size of the state's gradient of {chunked:?}");

    let (blocks, first_border, isa) = (Block::all(chunked), chunked.borders(), isa());
    let rows = chunked.tokens() * chunked.rank;
    // Blocks that share keys have sums of their own, [N, R, blocks, S], which are added in order.
    let shared = blocks.len() > chunked.groups;
    let room = if shared { rows * blocks.len() * chunked.keys } else { 0 };
    let mut of_blocks = [0; 2].map(|_| Buffer::uninit(T::DTYPE, room, Placement::Passing));
    {
        let [of_q, of_k] = &mut of_blocks;
        let results = Results {
            dq: Scattered::new(if shared { of_q.as_mut_slice::<T>() } else { &mut *dq }),
            dk: Scattered::new(if shared { of_k.as_mut_slice::<T>() } else { &mut *dk }),
            dv: Scattered::new(dv),
            ddecay: Scattered::new(ddecay),
            dscale: Scattered::new(dscale),
            ddiagonal: Scattered::new(ddiagonal),
            dbeta: Scattered::new(dbeta),
            dstate: Scattered::new(dstate),
            blocks: blocks.len(),
        };
        parallel_for(chunked.sequences() * blocks.len(), |piece| {
            let (sequence, block) = (piece / blocks.len(), &blocks[piece % blocks.len()]);
            let job = Job { isa, chunked, inputs, block, sequence, first_border: first_border[sequence], borders };
            // SAFETY: sequences and blocks differ between pieces.
            unsafe { job.run(dy, dlast, &results) }
        });
    }
    if shared {
        for (of_blocks, total) in of_blocks.iter().zip([dq, dk]) {
            let (keys, share) = (chunked.keys, blocks.len() / chunked.groups);
            let sums = of_blocks.as_slice::<T>().chunks_exact((share * keys).max(1));
            for (total, sums) in total.chunks_exact_mut(keys.max(1)).zip(sums) {
                total.copy_from_slice(&sums[..keys]);
                for sum in sums[keys..].chunks_exact(keys) {
                    total.iter_mut().zip(sum).for_each(|(total, &x)| *total = *total + x);
                }
            }
        }
    }
}

struct Results<'a, T> {
    dq: Scattered<'a, T>,
    dk: Scattered<'a, T>,
    dv: Scattered<'a, T>,
    ddecay: Scattered<'a, T>,
    dscale: Scattered<'a, T>,
    ddiagonal: Scattered<'a, T>,
    dbeta: Scattered<'a, T>,
    dstate: Scattered<'a, T>,
    /// Of how many blocks dq and dk have a part each.
    blocks: usize,
}

struct Job<'a, T> {
    isa: Isa,
    chunked: &'a Chunked<'a>,
    inputs: &'a Inputs<'a, T>,
    block: &'a Block,
    sequence: usize,
    first_border: usize,
    borders: &'a [T],
}

/// A chunk's matrices of rows by rows.
struct Squares<'a, T> {
    /// Products of queries and keys, and of keys.
    g: &'a mut [T],
    gk: &'a mut [T],
    dg: &'a mut [T],
    dgk: &'a mut [T],
    /// Weights, and their gradients.
    a: &'a mut [T],
    da: &'a mut [T],
    /// The delta rule's system.
    m: &'a mut [T],
}

/// A chunk's matrices of rows by the block's columns.
struct Tall<'a, T> {
    dy: &'a mut [T],
    x: &'a mut [T],
    dx: &'a mut [T],
    /// Products of queries, and of keys, with the state before.
    qs: &'a mut [T],
    ks: &'a mut [T],
    /// What the delta rule's right side holds before beta; then the gradient of ks.
    u: &'a mut [T],
}

/// Short vectors, one element for each row.
struct Short<'a, T> {
    dsums: &'a mut [T],
    dscales: &'a mut [T],
    ddiagonals: &'a mut [T],
    dbetas: &'a mut [T],
    betas: &'a mut [T],
    diagonals: &'a mut [T],
    dots: &'a mut [T],
    rows: [&'a mut [T]; 2],
}

/// What is known about a chunk.
struct Chunk<'a> {
    tokens: Range<usize>,
    rows: usize,
    /// Whether there is a state before it, and a gradient of that after it.
    before: bool,
    after: bool,
    columns: Range<usize>,
    head: usize,
    own: Range<usize>,
    width: usize,
    block: &'a Block,
}

impl<T: Multiply> Job<'_, T> {
    /// # Safety
    /// No other thread may write this block's part of this sequence.
    unsafe fn run(&self, dy: &[T], dlast: Option<&[T]>, results: &Results<'_, T>) {
        let Job { isa, chunked, inputs, block, sequence, .. } = *self;
        let (start, end) = (chunked.offsets[sequence], chunked.offsets[sequence + 1]);
        let (chunk, width, keys, values) = (chunked.chunk(), block.width, chunked.keys, chunked.values);
        let delta = inputs.beta.is_some();
        let room = chunk.min(end - start) * chunked.rank;
        let only = |size: usize| if delta { size } else { 0 };
        let (square, tall) = (room * room, room * width);
        let of_states = [keys * width; 2];
        let of_squares = [square, only(square), square, only(square), square, square, only(square)];
        let of_tall = [tall, tall, tall, tall, only(tall), only(tall)];
        let of_short = [room; 9];
        let of_factors = Factors::<T>::sizes(chunked);
        let of_rows = [room * keys; 2];
        let sizes = [
            of_states.iter().sum(),
            of_squares.iter().sum(),
            of_tall.iter().sum(),
            of_short.iter().sum(),
            of_factors.iter().sum(),
            of_rows.iter().sum(),
        ];
        let mut memory = Scratch::new::<T>(&sizes);
        let [states, squares, tall, short, factors, of_keys] = memory.parts::<T, 6>(sizes);
        let [state, dstate] = parts(states, of_states);
        let [g, gk, dg, dgk, a, da, m] = parts(squares, of_squares);
        let squares = Squares { g, gk, dg, dgk, a, da, m };
        let [dy_rows, x, dx, qs, ks, u] = parts(tall, of_tall);
        let tall = Tall { dy: dy_rows, x, dx, qs, ks, u };
        let [dsums, dscales, ddiagonals, dbetas, betas, diagonals, dots, r0, r1] = parts(short, of_short);
        let mut short = Short { dsums, dscales, ddiagonals, dbetas, betas, diagonals, dots, rows: [r0, r1] };
        let mut factors = Factors::new(chunked, parts(factors, of_factors));
        let [dq, dk] = parts(of_keys, of_rows);
        match dlast {
            Some(dlast) => block.read_state(chunked, dlast, sequence, dstate),
            None => dstate.fill(T::ZERO),
        }
        let mut after = dlast.is_some();
        for index in (0..(end - start).div_ceil(chunk)).rev() {
            let from = start + index * chunk;
            let tokens = from..end.min(from + chunk);
            let rows = tokens.len() * chunked.rank;
            let before = index > 0 || inputs.state.is_some();
            match (index, inputs.state) {
                (0, Some(initial)) => block.read_state(chunked, initial, sequence, state),
                (0, None) => state.fill(T::ZERO),
                _ => {
                    let at = block.border(chunked, self.first_border + index - 1);
                    state.copy_from_slice(&self.borders[at..at + state.len()]);
                }
            }
            factors.fill(isa, chunked, inputs, block, &tokens);
            block.gather(chunked, dy, &tokens, tall.dy);
            block.gather(chunked, inputs.v, &tokens, tall.x);
            let (q, k) = (block.keys(chunked, inputs.q, &tokens), block.keys(chunked, inputs.k, &tokens));
            let of_state = MatRef::new(state, keys, width);
            // dx holds the products of keys with the later state's gradient until a head has used its columns.
            match after {
                true => product(k, MatRef::new(dstate, keys, width), MatMut::new(tall.dx, rows, width), false),
                false => tall.dx[..rows * width].fill(T::ZERO),
            }
            if before {
                product(q, of_state, MatMut::new(tall.qs, rows, width), false);
                if delta {
                    product(k, of_state, MatMut::new(tall.ks, rows, width), false);
                }
            }
            product(q, k.t(), MatMut::new(squares.g, rows, rows), false);
            squares.dg[..rows * rows].fill(T::ZERO);
            if delta {
                product(k, k.t(), MatMut::new(squares.gk, rows, rows), false);
                squares.dgk[..rows * rows].fill(T::ZERO);
            }
            let mut now =
                Chunk { tokens: tokens.clone(), rows, before, after, columns: 0..0, head: 0, own: 0..0, width, block };
            for head in 0..block.count {
                now.head = head;
                now.own = factors.of(head, rows);
                now.columns = head * values..(head + 1) * values;
                let squares = Squares {
                    g: &mut *squares.g,
                    gk: &mut *squares.gk,
                    dg: &mut *squares.dg,
                    dgk: &mut *squares.dgk,
                    a: &mut *squares.a,
                    da: &mut *squares.da,
                    m: &mut *squares.m,
                };
                let tall = Tall {
                    dy: &mut *tall.dy,
                    x: &mut *tall.x,
                    dx: &mut *tall.dx,
                    qs: &mut *tall.qs,
                    ks: &mut *tall.ks,
                    u: &mut *tall.u,
                };
                self.head(&now, &mut factors, squares, tall, &mut short, [state, dstate]);
                // SAFETY: the caller's.
                unsafe { self.write_factors(&now, &short, results) };
            }
            // SAFETY: the caller's.
            unsafe { block.scatter(chunked, tall.dx, &tokens, &results.dv) };
            self.of_keys(&now, &squares, &tall, [state, dstate], [&mut *dq, &mut *dk]);
            // SAFETY: the caller's.
            unsafe {
                self.write_keys(&tokens, dq, results, &results.dq);
                self.write_keys(&tokens, dk, results, &results.dk);
            }
            if index > 0 || !results.dstate.is_empty() {
                for head in 0..block.count {
                    let columns = head * values..(head + 1) * values;
                    scale_columns::<T>(isa, dstate, width, columns, factors.last[head]);
                }
                product(q.t(), MatRef::new(tall.dy, rows, width), MatMut::new(dstate, keys, width), after);
                if delta {
                    product(k.t(), MatRef::new(tall.u, rows, width), MatMut::new(dstate, keys, width), true);
                }
                after = true;
            }
        }
        if !results.dstate.is_empty() {
            // SAFETY: the caller's.
            unsafe { block.write_state(chunked, dstate, sequence, &results.dstate) };
        }
    }

    /// One head of a chunk. Afterwards its columns of dy are multiplied by what is left of the state, those of x by what is left at the
    /// end, dx holds the gradient of v, and u that of the products of keys and state.
    #[allow(clippy::needless_range_loop)]
    fn head(
        &self,
        now: &Chunk<'_>,
        factors: &mut Factors<'_, T>,
        squares: Squares<'_, T>,
        tall: Tall<'_, T>,
        short: &mut Short<'_, T>,
        [state, dstate]: [&[T]; 2],
    ) {
        let Job { isa, chunked, inputs, block, .. } = *self;
        let (rows, width, columns) = (now.rows, now.width, now.columns.clone());
        let used = rows * width;
        let (sums, left) = (&factors.sums[now.own.clone()], &factors.left[now.own.clone()]);
        let (scales, ends) = (&factors.scales[now.own.clone()], &mut factors.ends[now.own.clone()]);
        let Short { dsums, dscales, ddiagonals, dbetas, betas, diagonals: room, dots, rows: [r0, r1] } = short;
        for sum in [&mut *dsums, dscales, ddiagonals, dbetas] {
            sum[..rows].fill(T::ZERO);
        }
        if let Some(all) = inputs.beta {
            let tokens = now.tokens.clone();
            betas.iter_mut().zip(tokens).for_each(|(beta, t)| *beta = all[t * chunked.heads + block.first + now.head]);
            let (ks, beta) = (now.before.then_some(&tall.ks[..used]), &betas[..rows]);
            delta::right_side::<T>(isa, &mut tall.x[..used], ks, tall.u, width, columns.clone(), left, beta);
            delta::system::<T>(isa, rows, squares.gk, sums, beta, squares.m);
            delta::solve(isa, rows, squares.m, tall.x, rows, width, columns.clone());
        }
        // The triangle.
        lower_outer(half(chunked.rank), tall.dy, tall.x, rows, width, columns.clone(), squares.da);
        let diagonals = diagonals(chunked, inputs, block, now.head, &now.tokens, scales, &mut room[..rows]);
        let triangle = Triangle { rank: chunked.rank, stride: rows, sums, scales, diagonals };
        weigh_back::<T>(
            isa,
            &triangle,
            squares.g,
            squares.da,
            squares.a,
            squares.dg,
            &mut dsums[..rows],
            &mut dscales[..rows],
            &mut ddiagonals[..rows],
            r0,
        );
        // Without a diagonal of its own a token reads its write with the scale.
        if inputs.diagonal.is_none() {
            dscales[..rows].iter_mut().zip(&ddiagonals[..rows]).for_each(|(sum, &x)| *sum = *sum + x);
        }
        // The state after the chunk.
        let last = rows - 1;
        if now.after {
            row_dots::<T>(isa, &tall.dx[..used], &tall.x[..used], width, columns.clone(), &mut dots[..rows]);
            for row in 0..rows {
                let of_scale = ends[row] * dots[row];
                let of_sum = of_scale * scales[row];
                dscales[row] = dscales[row] + of_scale;
                dsums[row] = dsums[row] - of_sum;
                dsums[last] = dsums[last] + of_sum;
            }
            let whole = all_dots::<T>(isa, state, dstate, width, columns.clone());
            dsums[last] = factors.last[now.head].fma::<crate::tier::Portable>(whole, dsums[last]);
        }
        ends.iter_mut().zip(scales).for_each(|(end, &scale)| *end = *end * scale);
        scale_rows::<T>(isa, &mut tall.dx[..used], width, columns.clone(), ends);
        lower_transposed_times(half(chunked.rank), squares.a, rows, tall.dy, tall.dx, width, columns.clone());
        // The state before it.
        scale_rows::<T>(isa, &mut tall.dy[..used], width, columns.clone(), left);
        if now.before {
            row_dots::<T>(isa, &tall.dy[..used], &tall.qs[..used], width, columns.clone(), &mut dots[..rows]);
            dsums[..rows].iter_mut().zip(&dots[..rows]).for_each(|(sum, &x)| *sum = *sum + x);
        }
        if inputs.beta.is_some() {
            delta::solve_back(isa, rows, squares.m, tall.dx, rows, width, columns.clone());
            lower_outer(half(chunked.rank), tall.dx, tall.x, rows, width, columns.clone(), squares.da);
            row_dots::<T>(isa, &tall.dx[..used], &tall.u[..used], width, columns.clone(), &mut dbetas[..rows]);
            delta::system_back::<T>(
                isa,
                rows,
                squares.gk,
                sums,
                &betas[..rows],
                squares.da,
                squares.dgk,
                &mut dsums[..rows],
                &mut dbetas[..rows],
                [r0, r1],
            );
            scale_rows::<T>(isa, &mut tall.dx[..used], width, columns.clone(), &betas[..rows]);
            minus_scaled::<T>(isa, &tall.dx[..used], &mut tall.u[..used], width, columns.clone(), left);
            if now.before {
                row_dots::<T>(isa, &tall.u[..used], &tall.ks[..used], width, columns.clone(), &mut dots[..rows]);
                dsums[..rows].iter_mut().zip(&dots[..rows]).for_each(|(sum, &x)| *sum = *sum + x);
            }
        }
        scale_rows::<T>(isa, &mut tall.x[..used], width, columns, ends);
    }

    /// The gradients of queries and keys of a chunk.
    fn of_keys(
        &self,
        now: &Chunk<'_>,
        squares: &Squares<'_, T>,
        tall: &Tall<'_, T>,
        [state, dstate]: [&[T]; 2],
        [dq, dk]: [&mut [T]; 2],
    ) {
        let (chunked, inputs, rows, width) = (self.chunked, self.inputs, now.rows, now.width);
        let keys = chunked.keys;
        let (q, k) = (now.block.keys(chunked, inputs.q, &now.tokens), now.block.keys(chunked, inputs.k, &now.tokens));
        let (dg, dgk) = (MatRef::new(squares.dg, rows, rows), &squares.dgk);
        let (before, after) = (MatRef::new(state, keys, width).t(), MatRef::new(dstate, keys, width).t());
        product(dg, k, MatMut::new(dq, rows, keys), false);
        product(dg.t(), q, MatMut::new(dk, rows, keys), false);
        if now.before {
            product(MatRef::new(tall.dy, rows, width), before, MatMut::new(dq, rows, keys), true);
        }
        if now.after {
            product(MatRef::new(tall.x, rows, width), after, MatMut::new(dk, rows, keys), true);
        }
        if inputs.beta.is_some() {
            let dgk = MatRef::new(dgk, rows, rows);
            product(dgk, k, MatMut::new(dk, rows, keys), true);
            product(dgk.t(), k, MatMut::new(dk, rows, keys), true);
            if now.before {
                product(MatRef::new(tall.u, rows, width), before, MatMut::new(dk, rows, keys), true);
            }
        }
    }

    /// # Safety
    /// No other thread may write this block's part of these tokens.
    unsafe fn write_keys(&self, tokens: &Range<usize>, from: &[T], results: &Results<'_, T>, to: &Scattered<'_, T>) {
        let (keys, rank) = (self.chunked.keys, self.chunked.rank);
        if keys == 0 {
            return;
        }
        for (row, from) in from.chunks_exact(keys).take(tokens.len() * rank).enumerate() {
            let at = ((tokens.start * rank + row) * results.blocks + self.block.index) * keys;
            // SAFETY: the caller's.
            unsafe { to.part(at, keys) }.copy_from_slice(from);
        }
    }

    /// Writes the gradients of a head's factors: of sums of decays becomes of decays.
    ///
    /// # Safety
    /// As [`Job::write_keys`].
    unsafe fn write_factors(&self, now: &Chunk<'_>, short: &Short<'_, T>, results: &Results<'_, T>) {
        let (rank, heads) = (self.chunked.rank, self.chunked.heads);
        let mut later = T::ZERO;
        for (index, token) in now.tokens.clone().enumerate().rev() {
            let rows = index * rank..(index + 1) * rank;
            let of_token = |x: &[T]| x[rows.clone()].iter().fold(T::ZERO, |sum, &x| sum + x);
            later = later + of_token(short.dsums);
            let at = token * heads + now.block.first + now.head;
            // SAFETY: the caller's.
            unsafe {
                results.ddecay.part(at, 1)[0] = later;
                for (result, sums) in [
                    (&results.dscale, &short.dscales),
                    (&results.ddiagonal, &short.ddiagonals),
                    (&results.dbeta, &short.dbetas),
                ] {
                    if !result.is_empty() {
                        result.part(at, 1)[0] = of_token(sums);
                    }
                }
            }
        }
    }
}

/// `da = dy x^T` for columns `columns`, the lower triangle and some of the rest.
fn lower_outer<T: Multiply>(
    half: usize,
    dy: &[T],
    x: &[T],
    rows: usize,
    width: usize,
    columns: Range<usize>,
    da: &mut [T],
) {
    for first in (0..rows).step_by(half) {
        let end = rows.min(first + half);
        product(
            MatRef::strided(dy, first * width + columns.start, end - first, columns.len(), width as isize, 1),
            MatRef::strided(x, columns.start, end, columns.len(), width as isize, 1).t(),
            MatMut::strided(da, first * rows, end - first, end, rows),
            false,
        );
    }
}

/// `x += a^T y` for columns `columns`, where a is lower triangular.
fn lower_transposed_times<T: Multiply>(
    half: usize,
    a: &[T],
    rows: usize,
    y: &[T],
    x: &mut [T],
    width: usize,
    columns: Range<usize>,
) {
    for first in (0..rows).step_by(half) {
        let end = rows.min(first + half);
        product(
            MatRef::strided(a, first * rows + first, rows - first, end - first, rows as isize, 1).t(),
            MatRef::strided(y, first * width + columns.start, rows - first, columns.len(), width as isize, 1),
            MatMut::strided(x, first * width + columns.start, end - first, columns.len(), width),
            true,
        );
    }
}

kernel! {
    /// The sum of products over some columns of all rows.
    fn all_dots[I; T: crate::real::Real](x: &[T], y: &[T], width: usize, columns: Range<usize>) -> T {
        let mut total = T::ZERO;
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact(width)) {
            let (x, y) = (&x[columns.clone()], &y[columns.clone()]);
            total = total + sum_of(x.len(), |i| x[i] * y[i]);
        }
        total
    }

    /// `y[i] = -left[i] x[i]` over some columns.
    fn minus_scaled[_I; T: crate::real::Real](x: &[T], y: &mut [T], width: usize, columns: Range<usize>, left: &[T]) {
        for ((x, y), &left) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(left) {
            for (x, y) in x[columns.clone()].iter().zip(&mut y[columns.clone()]) {
                *y = -(*x * left);
            }
        }
    }
}
