//! Running a kernel on tiles between where their sums come from and where they go.

use super::driver::{Place, Task};
use super::epilogue::Part;
use super::kernel::{MAX_ROWS, PANEL_BYTES, Strip, StripFn, Tile, TileFn};
use super::product::{Accumulator, Arithmetic};

/// Accumulators of one kernel call.
#[repr(align(64))]
struct Sums<Acc>([Acc; MAX_ROWS * PANEL_BYTES / 4]);

/// Where a tile lies and what becomes of it.
pub struct Spot<Acc> {
    pub part: Part,
    /// Columns of the kernel, of which C may have fewer.
    pub width: usize,
    pub start: Place,
    pub end: Place,
    /// The tile's place in the scratch.
    pub sums: *mut Acc,
    pub shifts: *const Acc,
}

impl<P: Arithmetic> Task<'_, P> {
    /// Runs a kernel between where its sums come from and where they go, or, where sums are kept as the kernel gives them, one for
    /// a strip, whose steps are those of the scratch; returns the number of tiles.
    ///
    /// # Safety
    /// As [`super::driver::run`].
    pub unsafe fn tile(
        &self,
        kernel: TileFn<P::Acc>,
        strip: Option<(StripFn<P::Acc>, Strip)>,
        mut tile: Tile<P::Acc>,
        spot: &Spot<P::Acc>,
    ) -> usize {
        let call = self.call;
        let &Spot { part, width, .. } = spot;
        let whole = part.cols == width;
        let in_c = |place: Option<(*mut P::Acc, usize)>| {
            place.map(|(start, stride)| (start.wrapping_add(part.row * stride + part.col), stride))
        };
        let resting = || {
            let place = call.resting.expect("calls that share sums say where these rest");
            (place.0.wrapping_add(part.row * place.1 + part.col - call.cols.start), place.1)
        };
        let mut own = std::mem::MaybeUninit::<Sums<P::Acc>>::uninit();
        let own = own.as_mut_ptr().cast::<P::Acc>();
        // SAFETY: the caller's; a tile has at most as many elements as `Sums`. Memory of C is touched within the part only.
        unsafe {
            let place = match spot.start {
                Place::Zero => {
                    tile.start = spot.shifts;
                    None
                }
                Place::Scratch => {
                    (tile.start, tile.start_stride) = (spot.sums, width);
                    None
                }
                Place::Result => Some(in_c(call.exact)),
                Place::Resting => Some(Some(resting())),
            };
            match place {
                None => {}
                Some(Some(place)) if whole && spot.shifts.is_null() => {
                    (tile.start, tile.start_stride) = (place.0, place.1)
                }
                Some(place) => {
                    if !whole {
                        own.write_bytes(0, part.rows * width);
                    }
                    match place {
                        Some((from, stride)) => copy(from, stride, own, width, part),
                        None => call.finish.load(part, own, width),
                    }
                    if !spot.shifts.is_null() {
                        add(own, width, spot.shifts, part);
                    }
                    (tile.start, tile.start_stride) = (own, width);
                }
            }
            let place = match spot.end {
                Place::Scratch => Some((spot.sums, width)),
                Place::Resting => Some(resting()),
                Place::Result => in_c(call.exact).filter(|_| call.plain && (whole || call.bias.is_none())),
                Place::Zero => unreachable!("sums go somewhere"),
            };
            if let Some(bias) = call.bias.filter(|_| spot.end == Place::Result && place.is_some()) {
                tile.bias = bias[part.col..].as_ptr();
            }
            (tile.end, tile.end_stride) = match place {
                Some(place) if whole || spot.end == Place::Scratch => place,
                _ => (own, width),
            };
            if let Some((c, stride)) = in_c(call.exact).filter(|_| spot.end == Place::Result) {
                (tile.next, tile.next_stride) = (c.wrapping_add(call.kernels.rows() * stride), stride);
            }
            let kept = place.is_some() && tile.end != own && !std::ptr::eq(tile.start, own);
            if let Some((kernel, mut strip)) = strip.filter(|_| kept) {
                match spot.start {
                    Place::Zero => strip.start = 0,
                    Place::Scratch => {}
                    Place::Result | Place::Resting => strip.start = part.rows * tile.start_stride,
                }
                if spot.end != Place::Scratch {
                    strip.end = part.rows * tile.end_stride;
                }
                strip.next = part.rows * tile.next_stride;
                kernel(&tile, strip);
                return strip.tiles;
            }
            kernel(&tile);
            match place {
                None => call.finish.store(part, own, width),
                Some(place) if tile.end == own => copy(own, width, place.0, place.1, part),
                Some(_) => {}
            }
        }
        1
    }
}

/// Copies the part's rows and columns.
unsafe fn copy<Acc: Copy>(from: *const Acc, from_stride: usize, to: *mut Acc, to_stride: usize, part: Part) {
    for row in 0..part.rows {
        // SAFETY: the caller vouches for both sides.
        unsafe { to.add(row * to_stride).copy_from_nonoverlapping(from.add(row * from_stride), part.cols) };
    }
}

/// Adds one row to each row of a tile.
unsafe fn add<Acc: Accumulator>(sums: *mut Acc, stride: usize, row: *const Acc, part: Part) {
    for i in 0..part.rows {
        for j in 0..part.cols {
            // SAFETY: the caller vouches for the tile and the row.
            unsafe {
                let sum = sums.add(i * stride + j);
                sum.write(sum.read().plus(row.add(j).read()));
            }
        }
    }
}
