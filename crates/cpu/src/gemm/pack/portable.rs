//! Packing on any target, and the edges of blocks on AVX2.

use super::{Form, View};

/// See [`super::PackFn`].
///
/// # Safety
/// As [`super::PackFn`].
pub unsafe fn pack<F: Form>(source: View, lanes: usize, depth: usize, width: usize, target: *mut u8) {
    // SAFETY: the whole panel is one block.
    unsafe { block::<F>(source, lanes, depth, width, width, target) }
}

/// Packs into the first `columns` words of each row of a panel of `width` words.
///
/// # Safety
/// As [`super::PackFn`], for `columns` of `width` words.
#[inline(always)]
pub unsafe fn block<F: Form>(source: View, lanes: usize, depth: usize, columns: usize, width: usize, target: *mut u8) {
    let from = source.ptr.cast::<F::Source>();
    let to = target.cast::<F::Word>();
    let bits = (size_of::<F::Word>() * 8 / F::GROUP) as u32;
    for word in 0..depth.div_ceil(F::GROUP) {
        let depths = word * F::GROUP..depth.min((word + 1) * F::GROUP);
        for lane in 0..columns {
            let mut value = F::Word::default();
            if lane < lanes {
                for (part, k) in depths.clone().enumerate() {
                    let offset = lane as isize * source.lane_stride + k as isize * source.depth_stride;
                    // SAFETY: the caller vouches for all lanes and depths of the view.
                    value = value | F::bits(unsafe { from.offset(offset).read() }) << (bits * part as u32);
                }
            }
            // SAFETY: inside the panel.
            unsafe { to.add(word * width + lane).write_unaligned(value) };
        }
    }
}
