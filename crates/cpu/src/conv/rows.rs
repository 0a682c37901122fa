//! Runs of neighbouring positions of a grid over many images, and copying them out of images.

use crate::isa::Isa;
use crate::multiply::Multiply;

/// Neighbouring positions in one row of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where the run stands in the sequence that was cut.
    pub at: usize,
    pub len: usize,
    pub image: usize,
    pub row: usize,
    pub column: usize,
}

/// Cuts positions `from..to` of all images' grids, one after the other in row-major order, at the ends of rows.
pub(super) fn runs(grid: [usize; 2], from: usize, to: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut position = from;
    while position < to {
        let (row, column) = (position / grid[1], position % grid[1]);
        let len = (grid[1] - column).min(to - position);
        runs.push(Run { at: position - from, len, image: row / grid[0], row: row % grid[0], column });
        position += len;
    }
    runs
}

/// Copies one run of each of some channels: lanes `low..high` from the image, the others zero.
#[derive(Clone, Copy)]
pub struct RowCopy<T> {
    /// Where lane 0 of channel 0 would be read; it may lie outside when lane 0 is not read.
    pub(crate) source: *const T,
    /// From one channel to the next.
    pub(crate) source_stride: usize,
    /// From one lane to the next.
    pub(crate) step: usize,
    /// Where lane 0 of channel 0 goes.
    pub(crate) target: *mut T,
    /// From one channel to the next.
    pub(crate) target_stride: usize,
    pub(crate) channels: usize,
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) len: usize,
}

impl<T> RowCopy<T> {
    /// The lanes of a run whose tap at `offset` lies inside a row of `size` elements; none when its row does not exist.
    pub(crate) fn inside(run: &Run, step: usize, offset: isize, size: usize, row_exists: bool) -> (usize, usize) {
        if !row_exists {
            return (0, 0);
        }
        let first = (run.column * step) as isize + offset;
        if step == 1 {
            // Most convolutions; a division each would cost as much as copying.
            let high = (size as isize - first).clamp(0, run.len as isize) as usize;
            return (((-first).max(0) as usize).min(high), high);
        }
        let low = if first < 0 { first.unsigned_abs().div_ceil(step) } else { 0 };
        let room = (size as isize - first).max(0) as usize;
        let high = room.div_ceil(step).min(run.len);
        (low.min(high), high)
    }
}

/// A copying routine.
///
/// # Safety
/// The processor must have the routine's instructions; lanes `low..high` must be readable and lanes `0..len` writable for all
/// channels.
pub type RowCopyFn<T> = unsafe fn(&RowCopy<T>);

/// A type that convolutions compute in.
pub trait Convolve: Multiply {
    /// The routine that copies rows.
    #[doc(hidden)]
    fn row_copy(isa: Isa, step: usize) -> RowCopyFn<Self>;
}

impl Convolve for f64 {
    fn row_copy(_: Isa, step: usize) -> RowCopyFn<f64> {
        portable_for(step)
    }
}

impl Convolve for f32 {
    fn row_copy(isa: Isa, step: usize) -> RowCopyFn<f32> {
        match (isa, step) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, 1) => avx512::one,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, 2) => avx512::two,
            _ => portable_for(step),
        }
    }
}

fn portable_for<T: Multiply>(step: usize) -> RowCopyFn<T> {
    if step == 1 { portable::<T, 1> } else { portable::<T, 0> }
}

/// `STEP` is the copy's step where it is known, otherwise 0.
unsafe fn portable<T: Multiply, const STEP: usize>(copy: &RowCopy<T>) {
    let step = if STEP > 0 { STEP } else { copy.step };
    for channel in 0..copy.channels {
        let source = copy.source.wrapping_add(channel * copy.source_stride);
        let target = copy.target.wrapping_add(channel * copy.target_stride);
        // SAFETY: the caller vouches for all lanes of the target, and for those inside the limits of the source.
        unsafe {
            let target = std::slice::from_raw_parts_mut(target, copy.len);
            target[..copy.low].fill(T::ZERO);
            target[copy.high..].fill(T::ZERO);
            let source = source.wrapping_add(copy.low * step);
            for (lane, target) in target[copy.low..copy.high].iter_mut().enumerate() {
                *target = source.wrapping_add(lane * step).read();
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::RowCopy;

    const LANES: usize = 16;

    /// The lowest `count` bits.
    fn bits(count: usize) -> u32 {
        if count >= 32 { u32::MAX } else { (1 << count) - 1 }
    }

    /// Bit 2 i for bit i of the lower 16.
    fn spread(bits: u32) -> u32 {
        let bits = (bits | bits << 8) & 0x00ff_00ff;
        let bits = (bits | bits << 4) & 0x0f0f_0f0f;
        let bits = (bits | bits << 2) & 0x3333_3333;
        (bits | bits << 1) & 0x5555_5555
    }

    /// Lanes `low..high` of the 16 that start at `start`, each as `step` bits of which the first counts.
    fn mask(start: usize, low: usize, high: usize) -> u32 {
        let (low, high) = (low.saturating_sub(start), high.saturating_sub(start).min(LANES));
        bits(high) & !bits(low.min(high))
    }

    /// Neighbouring elements: masked vectors, so that neither borders nor odd lengths cost a branch for each element.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub unsafe fn one(copy: &RowCopy<f32>) {
        for start in (0..copy.len).step_by(LANES) {
            let read = mask(start, copy.low, copy.high) as __mmask16;
            let written = mask(start, 0, copy.len) as __mmask16;
            let (mut source, mut target) = (copy.source.wrapping_add(start), copy.target.wrapping_add(start));
            for _ in 0..copy.channels {
                // SAFETY: masked lanes are neither read nor written; the caller vouches for the others.
                unsafe { _mm512_mask_storeu_ps(target, written, _mm512_maskz_loadu_ps(read, source)) };
                source = source.wrapping_add(copy.source_stride);
                target = target.wrapping_add(copy.target_stride);
            }
        }
    }

    /// Every other element: two vectors are read and their even lanes put side by side.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub unsafe fn two(copy: &RowCopy<f32>) {
        let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        for start in (0..copy.len).step_by(LANES) {
            let lanes = mask(start, copy.low, copy.high);
            let written = mask(start, 0, copy.len) as __mmask16;
            // Only the elements that lanes stand for are read.
            let read = spread(lanes);
            let (mut source, mut target) = (copy.source.wrapping_add(2 * start), copy.target.wrapping_add(start));
            for _ in 0..copy.channels {
                // SAFETY: masked lanes are neither read nor written; the caller vouches for the others.
                unsafe {
                    let first = _mm512_maskz_loadu_ps(read as __mmask16, source);
                    let second = _mm512_maskz_loadu_ps((read >> 16) as __mmask16, source.wrapping_add(LANES));
                    let lanes = _mm512_permutex2var_ps(first, even, second);
                    _mm512_mask_storeu_ps(target, written, lanes);
                }
                source = source.wrapping_add(copy.source_stride);
                target = target.wrapping_add(copy.target_stride);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::each_tier;

    #[test]
    fn runs_end_with_rows_and_images() {
        let cut = runs([2, 3], 4, 14);
        let parts: Vec<_> = cut.iter().map(|r| (r.at, r.len, r.image, r.row, r.column)).collect();
        assert_eq!(parts, [(0, 2, 0, 1, 1), (2, 3, 1, 0, 0), (5, 3, 1, 1, 0), (8, 2, 2, 0, 0)]);
    }

    #[test]
    fn every_tier_copies_the_same_lanes() {
        let source: Vec<f32> = (1..200).map(|i| i as f32).collect();
        each_tier(|isa| {
            for step in 1..4 {
                for (low, high, len) in [(0, 5, 5), (3, 20, 33), (0, 33, 33), (17, 17, 20), (1, 16, 16), (0, 0, 40)] {
                    let mut target = vec![-1.0f32; 100];
                    let copy = RowCopy {
                        source: source.as_ptr().wrapping_sub(low * step),
                        source_stride: 7,
                        step,
                        target: target.as_mut_ptr(),
                        target_stride: 50,
                        channels: 2,
                        low,
                        high,
                        len,
                    };
                    // SAFETY: source and target have room for two channels of these lengths.
                    unsafe { f32::row_copy(isa, step)(&copy) };
                    for channel in 0..2 {
                        for lane in 0..50 {
                            let value = match lane {
                                _ if lane >= len => -1.0,
                                _ if (low..high).contains(&lane) => source[channel * 7 + (lane - low) * step],
                                _ => 0.0,
                            };
                            assert_eq!(
                                target[channel * 50 + lane],
                                value,
                                "step {step}, lane {lane} of {low}..{high} of {len}"
                            );
                        }
                    }
                }
            }
        });
    }
}
