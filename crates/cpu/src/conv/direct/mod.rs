//! Convolutions of few channels, straight from the image.
//!
//! Where an output element sums few products, filling panels costs more than multiplying them. Here vectors run along the rows
//! of the image: the forward pass keeps some output channels by some columns in registers and walks over channels and taps. It
//! needs neighbouring windows to read neighbouring elements, so the stride across is one. The gradient of the weight keeps
//! some taps by some output channels in registers and walks over the image.
//!
//! | module | what it holds |
//! |---|---|
//! | `avx2` | images are copied into a frame of zeros; the gradient of the weight has output channels in its lanes |
//! | `avx512` | lanes outside of the image are masked; the gradient of the weight has columns in its lanes |

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::any::TypeId;
use std::ops::Range;

use super::Conv;
use super::gather::RowPanels;
use crate::isa::Isa;

/// The slice itself if its elements are f32.
pub(super) fn single<T: 'static>(slice: &[T]) -> Option<&[f32]> {
    // SAFETY: the element types are the same.
    (TypeId::of::<T>() == TypeId::of::<f32>())
        .then(|| unsafe { std::slice::from_raw_parts(slice.as_ptr().cast(), slice.len()) })
}

/// As [`single`], to be written.
pub(super) fn single_mut<T: 'static>(slice: &mut [T]) -> Option<&mut [f32]> {
    // SAFETY: the element types are the same.
    (TypeId::of::<T>() == TypeId::of::<f32>())
        .then(|| unsafe { std::slice::from_raw_parts_mut(slice.as_mut_ptr().cast(), slice.len()) })
}

/// Whether vectors of so many lanes along the rows of the output are filled well enough.
fn fills_vectors(conv: &Conv, lanes: usize) -> bool {
    conv.stride[1] == 1 && conv.output[1] * 8 >= conv.output[1].div_ceil(lanes) * lanes * 5
}

/// Whether [`forward`] is the faster way.
pub(super) fn serves_forward(isa: Isa, conv: &Conv) -> bool {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::serves(conv) && conv.group_in() <= 4,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::serves_forward(conv),
        _ => false,
    }
}

/// Whether [`forward`] is the faster way for the gradient of the input: where one panel of rows is all there is.
pub(super) fn serves_few_rows(isa: Isa, conv: &Conv) -> bool {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::serves(conv) && conv.group_out() <= 14,
        _ => serves_forward(isa, conv),
    }
}

/// Whether [`weight_gradient`] is the faster way.
pub(super) fn serves_weight(isa: Isa, conv: &Conv) -> bool {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::serves_weight(conv),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::serves_weight(conv),
        _ => false,
    }
}

/// As [`super::forward`], whose chain of sums this is.
///
/// # Safety
/// [`serves_forward`] or [`serves_few_rows`] said so for this tier, which the processor has; slices have the sizes of the
/// convolution.
pub(super) unsafe fn forward(
    isa: Isa,
    conv: &Conv,
    x: &[f32],
    panels: &RowPanels<f32>,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    // SAFETY: the caller's.
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::forward(conv, x, panels, bias, y) },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::forward(conv, x, panels, bias, y) },
        _ => unreachable!("no other tier serves: {:?}", (conv, x.len(), panels.count(), bias, y.len())),
    }
}

/// Adds the products of `images` to `dw`, `[Cout, Cin / groups, KH, KW]`.
///
/// # Safety
/// [`serves_weight`] said so for this tier, which the processor has; slices have the sizes of the convolution.
pub(super) unsafe fn weight_gradient(
    isa: Isa,
    conv: &Conv,
    x: &[f32],
    dy: &[f32],
    images: Range<usize>,
    dw: &mut [f32],
) {
    // SAFETY: the caller's.
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::weight_gradient(conv, x, dy, images, dw) },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::weight_gradient(conv, x, dy, images, dw) },
        _ => unreachable!("no other tier serves: {:?}", (conv, x.len(), dy.len(), images, dw.len())),
    }
}

/// Calls a function that is compiled for each of the given counts.
macro_rules! by_count {
    ($count:expr, $($n:literal)* => |$N:ident| $body:expr) => {
        match $count {
            $($n => { const $N: usize = $n; $body })*
            other => unreachable!("no kernel for {other}"),
        }
    };
}
use by_count;
