//! Matrix products of integers, modulo the range of their type.

use crate::binary::Integer;
use crate::instantiate;
use crate::work::{PIECE, pieces};

/// A matrix of integers inside a slice.
#[derive(Clone, Copy, Debug)]
pub struct Integers<'a, T> {
    /// What the matrix lies in.
    pub data: &'a [T],
    /// Where its first element is.
    pub offset: usize,
    /// Sizes.
    pub shape: [usize; 2],
    /// From one row, and from one column, to the next.
    pub strides: [isize; 2],
}

impl<T: Copy> Integers<'_, T> {
    fn at(&self, row: usize, col: usize) -> T {
        let step = row as isize * self.strides[0] + col as isize * self.strides[1];
        self.data[(self.offset as isize + step) as usize]
    }
}

#[track_caller]
fn matmul_of<T: Integer>(a: Integers<'_, T>, b: Integers<'_, T>, out: &mut [T]) {
    let ([rows, depth], [inner, cols]) = (a.shape, b.shape);
    assert!(
        depth == inner && out.len() == rows * cols,
        "matmul: integers of shapes {:?} and {:?} into {} elements",
        a.shape,
        b.shape,
        out.len()
    );
    if out.is_empty() {
        return;
    }
    // Rows of b as they are needed: the inner loop then runs along memory whatever b's strides are.
    let packed: Vec<T> = (0..depth * cols).map(|i| b.at(i / cols, i % cols)).collect();
    let step = (PIECE / (depth * cols).max(1)).max(1);
    pieces(out, step * cols, |first, out| {
        for (i, out) in out.chunks_mut(cols).enumerate() {
            out.fill(T::default());
            for (k, b) in packed.chunks(cols).enumerate() {
                let a = a.at(first / cols + i, k);
                out.iter_mut().zip(b).for_each(|(y, &b)| *y = y.add(a.mul(b)));
            }
        }
    });
}

instantiate! {
    /// Integers that matrices are multiplied in.
    IntegerProduct: Integer, for [i64, i32, u32, i8, u8] {
        /// `out = a b`, row-major, modulo the range of the type.
        ///
        /// # Panics
        /// When the sizes do not fit.
        fn matmul(a: Integers<'_, T>, b: Integers<'_, T>, out: &mut [T]) = matmul_of;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_strided_matrices_wrap_as_the_type_does() {
        // a is read backwards, b transposed.
        let (a, b): (Vec<i8>, Vec<i8>) = ((0..12).map(|i| i * 9 - 40).collect(), (0..20).map(|i| 50 - i * 5).collect());
        let left = Integers { data: &a, offset: 11, shape: [3, 4], strides: [-4, -1] };
        let right = Integers { data: &b, offset: 0, shape: [4, 5], strides: [1, 4] };
        let mut out = [0i8; 15];
        matmul(left, right, &mut out);
        for i in 0..3 {
            for j in 0..5 {
                let sum: i64 = (0..4).map(|k| i64::from(a[11 - 4 * i - k]) * i64::from(b[k + 4 * j])).sum();
                assert_eq!(out[i * 5 + j], sum as i8);
            }
        }
    }
}
