//! Matrix products: `C = A B`, `C += A B`, and what usually follows, in one pass over C.
//!
//! ```
//! use cupola_cpu::gemm::{Epilogue, F32, MatMut, MatRef, Product};
//!
//! let a = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]; // [2, 3]
//! let b = [1.0f32, 0.0, 0.0, 1.0, 1.0, 1.0]; // [3, 2]
//! let mut c = [0.0f32; 4];
//! let bias = [10.0, 20.0];
//! let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
//! F32::matmul(MatRef::new(&a, 2, 3), MatRef::new(&b, 3, 2), MatMut::new(&mut c, 2, 2), epilogue);
//! assert_eq!(c, [14.0, 25.0, 20.0, 31.0]);
//! ```
//!
//! # Order of summation
//! An element of C is **one chain** of multiply-adds over K, in rising order, which starts from zero or, when accumulating,
//! from what C held. The chain is the same for every number of rows, columns and threads, for packed and unpacked operands,
//! alone or in a group. So cutting a product anywhere along M or N, or along K with accumulation into an exact C (bf16: at
//! even positions), leaves every bit alone. Tiers differ from each other where their instructions do. On targets without a
//! fused multiply-add a step of the chain rounds twice.
//!
//! # Reading order
//!
//! | module | what it holds |
//! |---|---|
//! | `matrix` | [`MatRef`] and [`MatMut`]: borrowed matrices with strides |
//! | `product` | [`F32`], [`F64`], [`Bf16`], [`Int8`]: which types go in and come out |
//! | `epilogue` | [`Epilogue`]: bias, activation, residual and the rest |
//! | `grid` | how a product is cut into tasks, and a task into blocks |
//! | `driver` | running them, on threads |
//! | `tile` | running a kernel on tiles, between where their sums come from and where they go |
//! | `kernel` | the innermost loops, in registers, for each instruction set |
//! | `pack` | bringing operands into the order that kernels read |
//! | `packed` | [`Packed`]: right operands packed once, for weights |

mod driver;
mod epilogue;
mod grid;
pub(crate) mod kernel;
mod matrix;
pub(crate) mod pack;
mod packed;
mod product;
#[cfg(test)]
mod tests;
mod tile;

/// The innermost loops, for products whose operands are not matrices in memory: convolutions, recurrences.
pub(crate) mod tiles {
    pub use super::kernel::{Kernels, PANEL_BYTES, Tile};
    pub use super::pack::{OVERRUN, View};
    pub use super::packed::Shared;
    pub use super::product::Arithmetic;
}

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType};

pub use epilogue::Epilogue;
pub use matrix::{MatMut, MatRef};
pub use pack::{Lhs, Rhs};
pub use packed::Packed;
pub use product::{Accumulator, Activation, Bf16, F32, F64, Int8, NoActivation, Output};

use crate::isa::isa;
use driver::{Call, Group, Place, Right};
use epilogue::{Finish, Target};
use kernel::PANEL_BYTES;
use pack::View;
use product::Arithmetic;

/// Words of depth of a right operand that are packed at a time.
const CHUNK_WORDS: usize = 4096;
/// Bytes of a right operand that are packed at a time.
const CHUNK_BYTES: usize = 16 << 20;

/// A matrix product over certain element types: [`F32`], [`F64`], [`Bf16`] or [`Int8`].
///
/// # Shapes
/// A is [M, K], B [K, N], C [M, N]; any of them may be zero. With K = 0 the sums are zero, or C.
///
/// # Panics
/// All functions panic when sizes do not fit together.
pub trait Product: Arithmetic {
    /// `C = epilogue(A B)`.
    #[track_caller]
    fn matmul<A: Lhs<Self>, B: Rhs<Self>, C: Output<Self::Acc>>(
        a: MatRef<'_, A>,
        b: MatRef<'_, B>,
        mut c: MatMut<'_, C>,
        epilogue: Epilogue<'_, Self::Acc, C>,
    ) {
        check("matmul", (a.rows(), a.cols()), (b.rows(), b.cols()), (c.rows(), c.cols()));
        let call = Prepared::<Self, A, C>::new(a, &mut c, epilogue);
        call.strided(b);
    }

    /// `C = epilogue(A B)` with a packed B; the same bits as [`Product::matmul`].
    #[track_caller]
    fn matmul_packed<A: Lhs<Self>, C: Output<Self::Acc>>(
        a: MatRef<'_, A>,
        b: &Packed<Self>,
        mut c: MatMut<'_, C>,
        epilogue: Epilogue<'_, Self::Acc, C>,
    ) {
        check("matmul_packed", (a.rows(), a.cols()), (b.rows(), b.cols()), (c.rows(), c.cols()));
        let rows = 0..a.rows();
        let call = Prepared::<Self, A, C>::new(a, &mut c, epilogue);
        call.groups(&[Group { rows, right: Right::Packed(b.panels()) }]);
    }

    /// For each group of consecutive rows the product with a right operand of its own, as one list of tasks: experts.
    ///
    /// `groups` gives the number of rows of each group and its right operand, in order of rows; together they cover A.
    #[track_caller]
    fn matmul_grouped<A: Lhs<Self>, C: Output<Self::Acc>>(
        a: MatRef<'_, A>,
        groups: &[(usize, &Packed<Self>)],
        mut c: MatMut<'_, C>,
        epilogue: Epilogue<'_, Self::Acc, C>,
    ) {
        let mut next = 0;
        let groups: Vec<_> = groups
            .iter()
            .map(|&(rows, b)| {
                check("matmul_grouped", (rows, a.cols()), (b.rows(), b.cols()), (rows, c.cols()));
                let rows = next..next + rows;
                next = rows.end;
                Group { rows, right: Right::Packed(b.panels()) }
            })
            .collect();
        assert!(
            next == a.rows() && next == c.rows(),
            "matmul_grouped: groups of {next} rows in all for an A of {} and a C of {} rows",
            a.rows(),
            c.rows()
        );
        let call = Prepared::<Self, A, C>::new(a, &mut c, epilogue);
        call.groups(&groups);
    }

    /// As [`Product::matmul_grouped`] with right operands as they lie in memory; the same bits. Those of large groups are packed
    /// for this product.
    #[track_caller]
    fn matmul_grouped_strided<A: Lhs<Self>, B: Rhs<Self>, C: Output<Self::Acc>>(
        a: MatRef<'_, A>,
        groups: &[(usize, MatRef<'_, B>)],
        mut c: MatMut<'_, C>,
        epilogue: Epilogue<'_, Self::Acc, C>,
    ) {
        let name = "matmul_grouped_strided";
        groups.iter().for_each(|&(rows, b)| check(name, (rows, a.cols()), (b.rows(), b.cols()), (rows, c.cols())));
        let rows: usize = groups.iter().map(|(rows, _)| rows).sum();
        assert!(
            rows == a.rows() && rows == c.rows(),
            "{name}: groups of {rows} rows in all for an A of {} and a C of {} rows",
            a.rows(),
            c.rows()
        );
        let call = Prepared::<Self, A, C>::new(a, &mut c, epilogue);
        call.strided_groups(groups);
    }
}

impl Product for F32 {}
impl Product for F64 {}
impl Product for Bf16 {}
impl Product for Int8 {}

#[track_caller]
fn check(name: &str, a: (usize, usize), b: (usize, usize), c: (usize, usize)) {
    assert!(
        a.1 == b.0 && c == (a.0, b.1),
        "{name}: A [{}, {}] by B [{}, {}] into C [{}, {}]",
        a.0,
        a.1,
        b.0,
        b.1,
        c.0,
        c.1
    );
}

/// A product whose right operand is still to come.
struct Prepared<'a, P: Product, A, C> {
    a: MatRef<'a, A>,
    cols: usize,
    target: Target<'a, P::Acc, C>,
    accumulate: bool,
}

impl<'a, P: Product, A: Lhs<P>, C: Output<P::Acc>> Prepared<'a, P, A, C> {
    #[track_caller]
    fn new(a: MatRef<'a, A>, c: &mut MatMut<'_, C>, epilogue: Epilogue<'a, P::Acc, C>) -> Self {
        let accumulate = epilogue.accumulate;
        let cols = c.cols();
        let target = Target::new(c, epilogue, isa());
        Self { a, cols, target, accumulate }
    }

    fn call(&self) -> Call<'_, P> {
        let tier = P::tier(isa());
        Call {
            kernels: P::kernels(tier).for_matrices(),
            widened: P::widened(tier),
            left: View { ptr: self.a.ptr.cast(), lane_stride: self.a.row_stride(), depth_stride: self.a.col_stride() },
            pack_left: A::packer(tier),
            shifted: A::SHIFTED,
            depth: self.a.cols(),
            cols: 0..self.cols,
            start: if self.accumulate { Place::Result } else { Place::Zero },
            end: Place::Result,
            finish: &self.target as &dyn Finish<P::Acc>,
            exact: self.target.exact(),
            plain: self.target.is_plain(),
            bias: self.target.bias(),
            resting: None,
        }
    }

    fn groups(&self, groups: &[Group<'_>]) {
        // SAFETY: sizes were checked against each other, and views against their slices; C is borrowed uniquely.
        unsafe { driver::run(&self.call(), groups) }
    }

    /// Large groups wait until as much of their right operands is packed as may be at a time, and then run as one list of tasks
    /// together with the small ones, which pack what they need for themselves.
    fn strided_groups<B: Rhs<P>>(&self, groups: &[(usize, MatRef<'_, B>)]) {
        let few = if P::SHIFTS { 0 } else { driver::block_rows::<P>(self.call().kernels) };
        let mut rest = groups;
        let mut next = 0;
        while !rest.is_empty() {
            let mut packed: Vec<Option<Packed<P>>> = Vec::new();
            let mut bytes = 0;
            while packed.len() < rest.len() && bytes < CHUNK_BYTES {
                let (rows, b) = rest[packed.len()];
                let large = (rows > few).then(|| Packed::<P>::placed(b, Placement::Passing));
                bytes += large.as_ref().map_or(0, Packed::bytes);
                packed.push(large);
            }
            let (now, later) = rest.split_at(packed.len());
            let mut tasks: Vec<Group<'_>> = Vec::with_capacity(now.len());
            for (&(rows, b), packed) in now.iter().zip(&packed) {
                let right = match packed {
                    Some(packed) => Right::Packed(packed.panels()),
                    None => Right::Strided(packed::columns(b).get(), B::packer(P::tier(isa()))),
                };
                tasks.push(Group { rows: next..next + rows, right });
                next += rows;
            }
            self.groups(&tasks);
            rest = later;
        }
    }

    fn strided<B: Rhs<P>>(&self, b: MatRef<'_, B>) {
        let call = self.call();
        let rows = 0..self.a.rows();
        if rows.len() <= driver::block_rows::<P>(call.kernels) && !P::SHIFTS {
            let right = Right::Strided(packed::columns(b).get(), B::packer(P::tier(isa())));
            return self.groups(&[Group { rows, right }]);
        }
        let depth = b.rows();
        let chunk_depth = if depth <= CHUNK_WORDS * P::GROUP { depth.max(1) } else { CHUNK_WORDS * P::GROUP };
        let chunk_cols = CHUNK_BYTES / (chunk_depth.div_ceil(P::GROUP) * PANEL_BYTES) * P::COLS;
        for col in (0..self.cols).step_by(chunk_cols) {
            let cols = col..self.cols.min(col + chunk_cols);
            let mut beside = (depth > chunk_depth && call.exact.is_none())
                // Only f32 accumulators have results that are not accumulators.
                .then(|| Buffer::uninit(DType::F32, rows.len() * cols.len(), Placement::Passing));
            let resting = match (&mut beside, call.exact) {
                (Some(sums), _) => Some((sums.as_mut_slice::<f32>().as_mut_ptr().cast(), cols.len())),
                (None, c) => c.map(|(c, stride)| (c.wrapping_add(col), stride)),
            };
            for from in (0..depth.max(1)).step_by(chunk_depth) {
                let to = depth.min(from + chunk_depth);
                let chunk = Packed::<P>::placed(b.row_range(from..to).col_range(cols.clone()), Placement::Passing);
                let part = Call {
                    left: packed::moved(call.left, 0, from, size_of::<A>()),
                    depth: to - from,
                    cols: cols.clone(),
                    start: if from == 0 { call.start } else { Place::Resting },
                    end: if to == depth { Place::Result } else { Place::Resting },
                    resting,
                    ..self.call()
                };
                let right = Right::Packed(chunk.panels());
                // SAFETY: as in `groups`.
                unsafe { driver::run(&part, &[Group { rows: rows.clone(), right }]) };
            }
        }
    }
}
