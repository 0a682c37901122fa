//! Forward: a tile of channels walks over a sequence.

use cupola_core::parallel_for;

use super::{CHUNK, Decay, Inputs, LANES, Scan, TILES, load};
use crate::real::Real;
use crate::scattered::Scattered;
use crate::tier::Tier;
use crate::{isa, kernel};

#[track_caller]
pub(super) fn run<T: Decay>(scan: &Scan<'_>, inputs: &Inputs<'_, T>, y: &mut [T], last: &mut [T], borders: &mut [T]) {
    scan.check(inputs);
    assert_eq!(y.len(), scan.tokens() * scan.channels, "size of y of {scan:?}");
    assert!(last.is_empty() || last.len() == scan.state_len(), "size of the final state of {scan:?}");
    assert!(borders.is_empty() || borders.len() == scan.borders_len(), "size of what is saved of {scan:?}");
    let (isa, a) = (isa(), scan.tiled(inputs.a));
    let first_border = scan.borders();
    let (y, last, borders) = (Scattered::new(y), Scattered::new(last), Scattered::new(borders));
    let blocks = scan.tiles().div_ceil(TILES);
    parallel_for(scan.sequences() * blocks, |piece| {
        let (sequence, block) = (piece / blocks, piece % blocks);
        let mut h = vec![T::ZERO; scan.tile()];
        for tile in block * TILES..scan.tiles().min((block + 1) * TILES) {
            read_state(scan, inputs.state, sequence, tile, &mut h);
            let job = Job {
                scan,
                inputs,
                a: &a[tile * scan.tile()..(tile + 1) * scan.tile()],
                y: &y,
                borders: &borders,
                first_border: first_border[sequence],
                sequence,
                tile,
            };
            walk::<T>(isa, job, &mut h);
            if !last.is_empty() {
                // SAFETY: tiles and sequences differ between pieces.
                unsafe { write_state(scan, &last, sequence, tile, &h) };
            }
        }
    });
}

/// A tile's states before a sequence.
pub(super) fn read_state<T: Real>(scan: &Scan<'_>, state: Option<&[T]>, sequence: usize, tile: usize, h: &mut [T]) {
    h.fill(T::ZERO);
    let Some(state) = state else { return };
    for (lane, channel) in (tile * LANES..scan.channels.min((tile + 1) * LANES)).enumerate() {
        let from = (sequence * scan.channels + channel) * scan.states;
        for (s, &value) in state[from..from + scan.states].iter().enumerate() {
            h[s * LANES + lane] = value;
        }
    }
}

/// Writes a tile's states of a sequence.
///
/// # Safety
/// No other thread may write the same tile and sequence.
pub(super) unsafe fn write_state<T: Real>(
    scan: &Scan<'_>,
    state: &Scattered<'_, T>,
    sequence: usize,
    tile: usize,
    h: &[T],
) {
    for (lane, channel) in (tile * LANES..scan.channels.min((tile + 1) * LANES)).enumerate() {
        // SAFETY: the caller's.
        let row = unsafe { state.part((sequence * scan.channels + channel) * scan.states, scan.states) };
        row.iter_mut().enumerate().for_each(|(s, value)| *value = h[s * LANES + lane]);
    }
}

struct Job<'a, T> {
    scan: &'a Scan<'a>,
    inputs: &'a Inputs<'a, T>,
    /// The tile's part of a, times log2(e).
    a: &'a [T],
    y: &'a Scattered<'a, T>,
    borders: &'a Scattered<'a, T>,
    /// The number of the sequence's first saved state.
    first_border: usize,
    sequence: usize,
    tile: usize,
}

/// One token: the states after it, in place, and its result.
#[inline(always)]
fn step<I: Tier, T: Decay>(
    [x, dt, skip]: &[[T; LANES]; 3],
    a: &[T],
    [b, c]: [&[T]; 2],
    h: &mut [T],
    mut keep: impl FnMut(usize, &[T; LANES]),
) -> [T; LANES] {
    let (mut y, mut u) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    for lane in 0..LANES {
        y[lane] = skip[lane] * x[lane];
        u[lane] = dt[lane] * x[lane];
    }
    let (a, _) = a.as_chunks::<LANES>();
    let (h, _) = h.as_chunks_mut::<LANES>();
    for (s, (((a, h), &b), &c)) in a.iter().zip(h).zip(b).zip(c).enumerate() {
        let mut decay = [T::ZERO; LANES];
        for lane in 0..LANES {
            decay[lane] = (dt[lane] * a[lane]).exp2::<I>();
        }
        for lane in 0..LANES {
            h[lane] = decay[lane].fma::<I>(h[lane], u[lane] * b);
            y[lane] = h[lane].fma::<I>(c, y[lane]);
        }
        keep(s, &decay);
    }
    y
}

kernel! {
    fn walk[I; T: Decay](job: Job<'_, T>, h: &mut [T]) {
        let Job { scan, inputs, tile, sequence, .. } = job;
        let (width, states) = (scan.channels, scan.states);
        let channel = tile * LANES;
        let lanes = (width - channel).min(LANES);
        let skip = inputs.skip.map_or([T::ZERO; LANES], |skip| load(skip, channel));
        let start = scan.offsets[sequence];
        for token in start..scan.offsets[sequence + 1] {
            let since = token - start;
            if since > 0 && since.is_multiple_of(CHUNK) && !job.borders.is_empty() {
                let border = (job.first_border + since / CHUNK - 1) * scan.tiles() + tile;
                // SAFETY: the tile and the sequence are this piece's alone.
                unsafe { job.borders.part(border * h.len(), h.len()) }.copy_from_slice(h);
            }
            let row = token * width..(token + 1) * width;
            let lanes_of = [load(&inputs.x[row.clone()], channel), load(&inputs.dt[row], channel), skip];
            let small = token * states..(token + 1) * states;
            let y = step::<I, T>(&lanes_of, job.a, [&inputs.b[small.clone()], &inputs.c[small]], h, |_, _| ());
            // SAFETY: as above.
            unsafe { job.y.part(token * width + channel, lanes) }.copy_from_slice(&y[..lanes]);
        }
    }

    /// Computes a chunk's states anew: `all` has those before each token and after the last, `decays` the factors between.
    pub(super) fn recompute[I; T: Decay](
        scan: &Scan<'_>,
        inputs: &Inputs<'_, T>,
        a: &[T],
        tokens: std::ops::Range<usize>,
        tile: usize,
        all: &mut [T],
        decays: &mut [T],
    ) {
        let (width, states, size) = (scan.channels, scan.states, scan.tile());
        for (index, token) in tokens.enumerate() {
            let row = token * width..(token + 1) * width;
            let lanes = [
                load(&inputs.x[row.clone()], tile * LANES),
                load(&inputs.dt[row], tile * LANES),
                [T::ZERO; LANES],
            ];
            let small = token * states..(token + 1) * states;
            let (before, after) = all[index * size..(index + 2) * size].split_at_mut(size);
            after.copy_from_slice(before);
            let (decays, _) = decays[index * size..(index + 1) * size].as_chunks_mut::<LANES>();
            step::<I, T>(&lanes, a, [&inputs.b[small.clone()], &inputs.c[small]], after, |s, decay| decays[s] = *decay);
        }
    }
}
