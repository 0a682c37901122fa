//! Backward: a tile of channels walks back over a sequence, chunk by chunk.

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, parallel_for};

use super::forward::{read_state, recompute, write_state};
use super::{CHUNK, Decay, GROUP, Gradients, Inputs, LANES, Scan, TILES, load};
use crate::lanes::fold;
use crate::real::Real;
use crate::scattered::Scattered;
use crate::{isa, kernel};

/// Consecutive sequences whose sums over tokens are one partial sum.
fn groups(scan: &Scan<'_>) -> Vec<std::ops::Range<usize>> {
    let (mut groups, mut first) = (Vec::new(), 0);
    for next in 1..=scan.sequences() {
        if next == scan.sequences() || scan.offsets[next] / GROUP != scan.offsets[first] / GROUP {
            groups.push(first..next);
            first = next;
        }
    }
    groups
}

#[track_caller]
pub(super) fn run<T: Decay>(
    scan: &Scan<'_>,
    inputs: &Inputs<'_, T>,
    borders: &[T],
    dy: &[T],
    dlast: Option<&[T]>,
    gradients: Gradients<'_, T>,
) {
    scan.check(inputs);
    assert_eq!(borders.len(), scan.borders_len(), "size of what was saved of {scan:?}");
    assert_eq!(dy.len(), inputs.x.len(), "size of the gradient of y of {scan:?}");
    assert!(dlast.is_none_or(|d| d.len() == scan.state_len()), "size of the final state's gradient of {scan:?}");
    let Gradients { dx, ddt, da, db, dc, dskip, dstate } = gradients;
    let found = [dx.len(), ddt.len(), da.len(), db.len(), dc.len(), dskip.len()];
    let expected = [inputs.x.len(), inputs.x.len(), inputs.a.len(), inputs.b.len(), inputs.c.len(), scan.channels];
    assert_eq!(found, expected, "sizes of the gradients of {scan:?}");
    assert!(dstate.is_empty() || dstate.len() == scan.state_len(), "size of the state's gradient of {scan:?}");

    let (isa, a, first_border, groups) = (isa(), scan.tiled(inputs.a), scan.borders(), groups(scan));
    let (tiles, size) = (scan.tiles(), scan.tile());
    let blocks = tiles.div_ceil(TILES);
    // Of each block of channels the sums over it, [blocks, N, 2 S]; of each group of sequences those over its tokens,
    // [groups, tiles, (S + 1) LANES], the last row for skip.
    let mut of_blocks = Buffer::uninit(T::DTYPE, blocks * scan.tokens() * 2 * scan.states, Placement::Passing);
    let mut of_groups = Buffer::uninit(T::DTYPE, groups.len() * tiles * (size + LANES), Placement::Passing);
    {
        let of_blocks = Scattered::new(of_blocks.as_mut_slice::<T>());
        let of_groups = Scattered::new(of_groups.as_mut_slice::<T>());
        let (dx, ddt, dstate) = (Scattered::new(dx), Scattered::new(ddt), Scattered::new(dstate));
        parallel_for(groups.len() * blocks, |piece| {
            let (group, block) = (piece / blocks, piece % blocks);
            let mut all = Buffer::uninit(T::DTYPE, (2 * CHUNK + 1) * size, Placement::Passing);
            let (all, decays) = all.as_mut_slice::<T>().split_at_mut((CHUNK + 1) * size);
            let mut dh = vec![T::ZERO; size];
            for tile in block * TILES..tiles.min((block + 1) * TILES) {
                // SAFETY: groups and tiles differ between pieces, as do groups and blocks below.
                let sums = unsafe { of_groups.part((group * tiles + tile) * (size + LANES), size + LANES) };
                sums.fill(T::ZERO);
                let a = &a[tile * size..(tile + 1) * size];
                for sequence in groups[group].clone() {
                    let (start, end) = (scan.offsets[sequence], scan.offsets[sequence + 1]);
                    read_state(scan, dlast, sequence, tile, &mut dh);
                    for chunk in (0..(end - start).div_ceil(CHUNK)).rev() {
                        let tokens = start + chunk * CHUNK..end.min(start + (chunk + 1) * CHUNK);
                        match chunk {
                            0 => read_state(scan, inputs.state, sequence, tile, &mut all[..size]),
                            _ => {
                                let border = (first_border[sequence] + chunk - 1) * tiles + tile;
                                all[..size].copy_from_slice(&borders[border * size..(border + 1) * size]);
                            }
                        }
                        recompute::<T>(isa, scan, inputs, a, tokens.clone(), tile, all, decays);
                        // SAFETY: as above; a group's tokens are its own.
                        let small = unsafe {
                            let row = 2 * scan.states;
                            of_blocks.part((block * scan.tokens() + tokens.start) * row, tokens.len() * row)
                        };
                        if tile == block * TILES {
                            small.fill(T::ZERO);
                        }
                        let job = Job { scan, inputs, a, dy, tile, tokens, all, decays, dx: &dx, ddt: &ddt };
                        walk_back::<T>(isa, job, &mut dh, small, sums);
                    }
                    if !dstate.is_empty() {
                        // SAFETY: as above.
                        unsafe { write_state(scan, &dstate, sequence, tile, &dh) };
                    }
                }
            }
        });
    }
    add_blocks(scan, of_blocks.as_slice::<T>(), db, dc);
    for group in of_groups.as_slice::<T>().chunks_exact((tiles * (size + LANES)).max(1)) {
        for (channel, row) in da.chunks_exact_mut(scan.states.max(1)).enumerate() {
            // A row for skip lies behind those of each tile's states.
            let sums = &group[channel / LANES * LANES..];
            for (state, da) in row.iter_mut().enumerate() {
                *da = *da + sums[scan.lane(channel, state)];
            }
        }
        for (channel, dskip) in dskip.iter_mut().enumerate() {
            *dskip = *dskip + group[(channel / LANES + 1) * (size + LANES) - LANES + channel % LANES];
        }
    }
}

/// The sums over blocks of channels, in order.
fn add_blocks<T: Real>(scan: &Scan<'_>, of_blocks: &[T], db: &mut [T], dc: &mut [T]) {
    let states = scan.states;
    db.fill(T::ZERO);
    dc.fill(T::ZERO);
    if of_blocks.is_empty() {
        return;
    }
    for block in of_blocks.chunks_exact(scan.tokens() * 2 * states) {
        let rows = block.chunks_exact(2 * states);
        for ((row, db), dc) in rows.zip(db.chunks_exact_mut(states)).zip(dc.chunks_exact_mut(states)) {
            db.iter_mut().zip(&row[..states]).for_each(|(sum, &x)| *sum = *sum + x);
            dc.iter_mut().zip(&row[states..]).for_each(|(sum, &x)| *sum = *sum + x);
        }
    }
}

struct Job<'a, T> {
    scan: &'a Scan<'a>,
    inputs: &'a Inputs<'a, T>,
    a: &'a [T],
    dy: &'a [T],
    tile: usize,
    tokens: std::ops::Range<usize>,
    /// The states before each token, and after the last.
    all: &'a [T],
    decays: &'a [T],
    dx: &'a Scattered<'a, T>,
    ddt: &'a Scattered<'a, T>,
}

kernel! {
    /// `dh` is the gradient of the states after the chunk, and becomes that of those before it. `small` collects the sums over
    /// channels, b's then c's for each token, `sums` those over tokens, a's then skip's.
    fn walk_back[I; T: Real](job: Job<'_, T>, dh: &mut [T], small: &mut [T], sums: &mut [T]) {
        let Job { scan, inputs, tile, .. } = job;
        let (width, states, size) = (scan.channels, scan.states, scan.tile());
        let channel = tile * LANES;
        let lanes = (width - channel).min(LANES);
        let skip = inputs.skip.map_or([T::ZERO; LANES], |skip| load(skip, channel));
        let (a, _) = job.a.as_chunks::<LANES>();
        let ln2 = T::of(std::f64::consts::LN_2);
        let (dh, _) = dh.as_chunks_mut::<LANES>();
        let (da, dskip) = sums.split_at_mut(size);
        let (da, _) = da.as_chunks_mut::<LANES>();
        for (index, token) in job.tokens.clone().enumerate().rev() {
            let row = token * width..(token + 1) * width;
            let (x, dt) = (load(&inputs.x[row.clone()], channel), load(&inputs.dt[row.clone()], channel));
            let dy = load(&job.dy[row], channel);
            let (b, c) = (&inputs.b[token * states..(token + 1) * states], &inputs.c[token * states..(token + 1) * states]);
            let (db, dc) = small[index * 2 * states..(index + 1) * 2 * states].split_at_mut(states);
            let (before, _) = job.all[index * size..(index + 1) * size].as_chunks::<LANES>();
            let (after, _) = job.all[(index + 1) * size..(index + 2) * size].as_chunks::<LANES>();
            let (decays, _) = job.decays[index * size..(index + 1) * size].as_chunks::<LANES>();
            // The gradients of dt a, summed with a, and of u = dt x.
            let (mut ddt, mut du, mut u) = ([T::ZERO; LANES], [T::ZERO; LANES], [T::ZERO; LANES]);
            for lane in 0..LANES {
                u[lane] = dt[lane] * x[lane];
                dskip[lane] = dy[lane].fma::<I>(x[lane], dskip[lane]);
            }
            for s in 0..states {
                let (a, dh, da) = (&a[s], &mut dh[s], &mut da[s]);
                let (before, after, decay) = (&before[s], &after[s], &decays[s]);
                let (mut of_b, mut of_c) = ([T::ZERO; LANES], [T::ZERO; LANES]);
                for lane in 0..LANES {
                    let g = dy[lane].fma::<I>(c[s], dh[lane]);
                    of_c[lane] = dy[lane] * after[lane];
                    of_b[lane] = g * u[lane];
                    du[lane] = g.fma::<I>(b[s], du[lane]);
                    let carried = g * decay[lane];
                    let exponent = carried * before[lane];
                    ddt[lane] = exponent.fma::<I>(a[lane], ddt[lane]);
                    da[lane] = exponent.fma::<I>(dt[lane], da[lane]);
                    dh[lane] = carried;
                }
                db[s] = db[s] + fold(of_b);
                dc[s] = dc[s] + fold(of_c);
            }
            let mut dx = [T::ZERO; LANES];
            for lane in 0..LANES {
                dx[lane] = du[lane].fma::<I>(dt[lane], dy[lane] * skip[lane]);
                // a has been multiplied by log2(e).
                ddt[lane] = du[lane].fma::<I>(x[lane], ddt[lane] * ln2);
            }
            // SAFETY: the tile and the sequence are this piece's alone.
            unsafe {
                job.dx.part(token * width + channel, lanes).copy_from_slice(&dx[..lanes]);
                job.ddt.part(token * width + channel, lanes).copy_from_slice(&ddt[..lanes]);
            }
        }
    }
}
