//! What happens to a finished sum on its way into C, applied tile by tile while the tile is in the first cache.

use super::kernel::{MAX_PANELS, PANEL_BYTES};
use super::matrix::{MatMut, MatRef};
use super::product::{Accumulator, Output};
use crate::fetch::LINE;
use crate::isa::Isa;

/// From the sum of an element to what is stored:
///
/// ```text
/// sum = accumulate ? C : 0, then the chain over K
/// pre = sum * scale + bias[column]              (rounded after each step; stored if pre_activation is given)
/// C   = activation(pre) + residual[row][column]
/// ```
///
/// All of it is computed in the accumulator's type and rounded to the result's type once, when stored. The default stores the
/// sum. Sizes that do not match C panic.
#[derive(Debug)]
pub struct Epilogue<'a, Acc: Accumulator, C> {
    /// Start the sums from C instead of zero.
    pub accumulate: bool,
    /// Factor on the whole sum, what C held included.
    pub scale: Acc,
    /// `[N]`, added to each row.
    pub bias: Option<&'a [Acc]>,
    /// `[M, N]`, receives the argument of the activation.
    pub pre_activation: Option<MatMut<'a, C>>,
    /// Applied to each element.
    pub activation: Acc::Activation,
    /// `[M, N]`, added last.
    pub residual: Option<MatRef<'a, C>>,
}

impl<Acc: Accumulator, C> Default for Epilogue<'_, Acc, C> {
    fn default() -> Self {
        Self {
            accumulate: false,
            scale: Acc::ONE,
            bias: None,
            pre_activation: None,
            activation: Acc::Activation::default(),
            residual: None,
        }
    }
}

impl<Acc: Accumulator, C> Epilogue<'_, Acc, C> {
    /// Adds the product to C: `C += A B`.
    pub fn accumulate() -> Self {
        Self { accumulate: true, ..Self::default() }
    }
}

/// Moves tiles of accumulators from and to the result.
pub trait Finish<Acc>: Sync {
    /// Reads what C holds into a tile.
    ///
    /// # Safety
    /// The part must lie in C and no other thread may write it; the tile must have room.
    unsafe fn load(&self, part: Part, tile: *mut Acc, stride: usize);
    /// Writes a tile of sums through the epilogue.
    ///
    /// # Safety
    /// As [`Finish::load`]; the processor must have the tier's instructions.
    unsafe fn store(&self, part: Part, tile: *const Acc, stride: usize);
}

/// A part of C: at most as many columns as one kernel call covers.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub row: usize,
    pub col: usize,
    pub rows: usize,
    pub cols: usize,
}

/// C and its epilogue.
pub struct Target<'a, Acc: Accumulator, C> {
    c: *mut C,
    c_stride: usize,
    scale: Acc,
    bias: Option<&'a [Acc]>,
    pre: Option<(*mut C, usize)>,
    activation: Acc::Activation,
    residual: Option<MatRef<'a, C>>,
    tier: Isa,
}

// SAFETY: tasks of one product use disjoint parts of the matrices behind the pointers.
unsafe impl<Acc: Accumulator, C: Sync> Sync for Target<'_, Acc, C> {}

impl<'a, Acc: Accumulator, C: Output<Acc>> Target<'a, Acc, C> {
    #[track_caller]
    pub fn new(c: &mut MatMut<'_, C>, epilogue: Epilogue<'a, Acc, C>, tier: Isa) -> Self {
        let sizes = (c.rows(), c.cols());
        if let Some(bias) = epilogue.bias {
            assert!(bias.len() == sizes.1, "matmul: a bias of {} for {} columns", bias.len(), sizes.1);
        }
        let check = |name: &str, rows: usize, cols: usize| {
            assert!(
                (rows, cols) == sizes,
                "matmul: a {name} of [{rows}, {cols}] for a result of [{}, {}]",
                sizes.0,
                sizes.1
            );
        };
        if let Some(pre) = &epilogue.pre_activation {
            check("pre-activation", pre.rows(), pre.cols());
        }
        if let Some(residual) = &epilogue.residual {
            check("residual", residual.rows(), residual.cols());
        }
        Self {
            c: c.ptr,
            c_stride: c.row_stride(),
            scale: epilogue.scale,
            bias: epilogue.bias,
            pre: epilogue.pre_activation.map(|pre| (pre.ptr, pre.row_stride())),
            activation: epilogue.activation,
            residual: epilogue.residual,
            tier,
        }
    }

    /// C as accumulators, when it holds such.
    pub fn exact(&self) -> Option<(*mut Acc, usize)> {
        C::EXACT.then(|| (self.c.cast(), self.c_stride))
    }

    /// What is added to each row.
    pub fn bias(&self) -> Option<&'a [Acc]> {
        self.bias
    }

    /// Whether sums are stored as they are, or with nothing but the bias added.
    pub fn is_plain(&self) -> bool {
        self.scale.is_one()
            && self.pre.is_none()
            && self.activation == Acc::Activation::default()
            && self.residual.is_none()
            && C::EXACT
    }

    /// Columns of a whole panel of 32-bit words, wide or narrow, are a number that the compiler knows: no copy calls, and vectors all
    /// through.
    #[inline(always)]
    unsafe fn store_rows<const FUSED: bool>(&self, part: Part, tile: *const Acc, stride: usize) {
        const WHOLE: usize = PANEL_BYTES / 4;
        const NARROW: usize = LINE / 4;
        // SAFETY: the caller's.
        unsafe {
            match part.cols {
                WHOLE => self.store_cols::<FUSED>(Part { cols: WHOLE, ..part }, tile, stride),
                NARROW => self.store_cols::<FUSED>(Part { cols: NARROW, ..part }, tile, stride),
                _ => self.store_cols::<FUSED>(part, tile, stride),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_cols<const FUSED: bool>(&self, part: Part, tile: *const Acc, stride: usize) {
        const WIDEST: usize = MAX_PANELS * PANEL_BYTES / 4;
        let mut buffer = [Acc::default(); WIDEST];
        for i in 0..part.rows {
            let row = &mut buffer[..part.cols];
            // SAFETY: the caller vouches for the tile and for the part's place in C, whose sizes the other matrices share.
            unsafe {
                for (j, x) in row.iter_mut().enumerate() {
                    *x = tile.add(i * stride + j).read();
                }
                if !self.scale.is_one() {
                    row.iter_mut().for_each(|x| *x = x.times(self.scale));
                }
                if let Some(bias) = self.bias {
                    let bias = &bias[part.col..part.col + part.cols];
                    row.iter_mut().zip(bias).for_each(|(x, b)| *x = x.plus(*b));
                }
                if let Some((pre, pre_stride)) = self.pre {
                    let to = pre.add((part.row + i) * pre_stride + part.col);
                    for (j, x) in row.iter().enumerate() {
                        to.add(j).write(C::narrow(*x));
                    }
                }
                Acc::activate::<FUSED>(self.activation, row);
                if let Some(residual) = &self.residual {
                    let (down, across) = (residual.row_stride(), residual.col_stride());
                    let offset = (part.row + i) as isize * down + part.col as isize * across;
                    let from = residual.ptr.offset(offset);
                    if across == 1 {
                        for (j, x) in row.iter_mut().enumerate() {
                            *x = x.plus(from.add(j).read().widen());
                        }
                    } else {
                        for (j, x) in row.iter_mut().enumerate() {
                            *x = x.plus(from.offset(j as isize * across).read().widen());
                        }
                    }
                }
                let to = self.c.add((part.row + i) * self.c_stride + part.col);
                for (j, x) in row.iter().enumerate() {
                    to.add(j).write(C::narrow(*x));
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn store_avx512(&self, part: Part, tile: *const Acc, stride: usize) {
        // SAFETY: the caller's.
        unsafe { self.store_rows::<true>(part, tile, stride) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store_avx2(&self, part: Part, tile: *const Acc, stride: usize) {
        // SAFETY: the caller's.
        unsafe { self.store_rows::<true>(part, tile, stride) }
    }
}

impl<Acc: Accumulator, C: Output<Acc>> Finish<Acc> for Target<'_, Acc, C> {
    unsafe fn load(&self, part: Part, tile: *mut Acc, stride: usize) {
        for i in 0..part.rows {
            for j in 0..part.cols {
                // SAFETY: the caller vouches for the part and the tile.
                unsafe {
                    let from = self.c.add((part.row + i) * self.c_stride + part.col + j);
                    tile.add(i * stride + j).write(from.read().widen());
                }
            }
        }
    }

    unsafe fn store(&self, part: Part, tile: *const Acc, stride: usize) {
        // SAFETY: the caller's; the tier was found on this processor.
        unsafe {
            match self.tier {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => self.store_avx512(part, tile, stride),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => self.store_avx2(part, tile, stride),
                _ => self
                    .store_rows::<{ cfg!(any(target_feature = "fma", target_arch = "aarch64")) }>(part, tile, stride),
            }
        }
    }
}
