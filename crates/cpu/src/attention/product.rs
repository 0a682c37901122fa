//! Small matrix products with the left operand read where it lies.
//!
//! `C[i][j] = sum over k of A[i][k] B[k][j]`. Lanes run along j. The left operand is broadcast word by word, so it may lie in
//! memory as it is: with k contiguous (*along*: rows of keys against transposed queries) or with i contiguous (*down*: the
//! values of a key are a column of A). An element is one chain over k in rising order, wherever the product is cut.

use super::engine::Engine;

/// Operands and result of a product; steps of operands are in bytes, that of the result in elements.
#[derive(Clone, Copy)]
pub struct Product<Acc> {
    /// Words of depth.
    pub depth: usize,
    /// The left operand.
    pub a: *const u8,
    /// From one row of the left operand to the next (along), or from one word of depth to the next (down).
    pub a_step: isize,
    /// The right operand.
    pub b: *const u8,
    /// From one word of depth of the right operand to the next.
    pub b_step: isize,
    /// The result.
    pub c: *mut Acc,
    /// From one row of the result to the next.
    pub c_step: usize,
    /// What sums do with the result.
    pub start: Start<Acc>,
}

/// What the sums of a product do with what the result holds.
#[derive(Clone, Copy)]
pub enum Start<Acc> {
    /// Go on from it.
    Add,
    /// Replace it, multiplied by a factor.
    Scaled(Acc),
}

/// A product of fixed sizes.
///
/// # Safety
/// The processor must have the function's instructions, and pointers must be valid for its rows, lanes and the depth.
pub type ProductFn<Acc> = unsafe fn(&Product<Acc>);

/// Tiles: `along[v - 1][r - 1]` takes r rows and v vectors of lanes, with k contiguous in the left operand, `down` with i.
#[derive(Clone, Copy)]
pub struct Products<Acc: 'static> {
    pub along: [&'static [ProductFn<Acc>]; 2],
    pub down: [&'static [ProductFn<Acc>]; 2],
}

/// One tile of R rows and V vectors.
///
/// # Safety
/// As [`ProductFn`].
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub unsafe fn tile<E: Engine, const R: usize, const V: usize, const DOWN: bool>(job: &Product<E::Acc>) {
    // SAFETY: the caller vouches for the pointers; offsets stay within rows, lanes and depth.
    unsafe {
        let mut sums = [[E::zero(); V]; R];
        // Loops over sums have constant bounds and indices throughout: with anything else the compiler keeps them in memory.
        if let Start::Add = job.start {
            for i in 0..R {
                for j in 0..V {
                    sums[i][j] = E::load(job.c.add(i * job.c_step + j * E::LANES));
                }
            }
        }
        let (mut a, mut b) = (job.a, job.b);
        for _ in 0..job.depth {
            let mut columns = [E::words(b); V];
            for j in 1..V {
                columns[j] = E::words(b.add(j * E::LANES * E::WORD));
            }
            for i in 0..R {
                let word =
                    if DOWN { E::splat(a.add(i * E::WORD)) } else { E::splat(a.offset(i as isize * job.a_step)) };
                for j in 0..V {
                    sums[i][j] = E::mac(sums[i][j], word, columns[j]);
                }
            }
            a = a.wrapping_offset(if DOWN { job.a_step } else { E::WORD as isize });
            b = b.wrapping_offset(job.b_step);
        }
        if let Start::Scaled(scale) = job.start {
            let scale = E::all(scale);
            for i in 0..R {
                for j in 0..V {
                    sums[i][j] = E::mul(sums[i][j], scale);
                }
            }
        }
        for i in 0..R {
            for j in 0..V {
                E::store(job.c.add(i * job.c_step + j * E::LANES), sums[i][j]);
            }
        }
    }
}

/// A product of any number of rows and of `vectors` vectors of lanes.
///
/// # Safety
/// As [`ProductFn`].
#[inline(always)]
pub unsafe fn run<E: Engine, const DOWN: bool>(job: &Product<E::Acc>, rows: usize, vectors: usize) {
    if rows == 0 {
        return;
    }
    // Tiles of about equal height: a low last one would leave the pipelines waiting.
    let tiles = rows.div_ceil(E::ROWS);
    let kernels = if DOWN { E::PRODUCTS.down } else { E::PRODUCTS.along };
    let row_step = if DOWN { E::WORD as isize } else { job.a_step };
    let mut lane = 0;
    while lane < vectors {
        let width = (vectors - lane).min(2);
        for index in 0..tiles {
            let (first, end) = (rows * index / tiles, rows * (index + 1) / tiles);
            let part = Product {
                a: job.a.wrapping_offset(first as isize * row_step),
                b: job.b.wrapping_add(lane * E::LANES * E::WORD),
                c: job.c.wrapping_add(first * job.c_step + lane * E::LANES),
                ..*job
            };
            // SAFETY: the caller's, for a part of the product.
            unsafe { kernels[width - 1][end - first - 1](&part) };
        }
        lane += width;
    }
}
