//! Borrowed matrices: a slice, two sizes and two strides.

use std::marker::PhantomData;
use std::ops::Range;

/// A matrix that is read: element (i, j) lies at `offset + i * row_stride + j * col_stride` of a slice.
///
/// Strides are in elements and may be zero (a broadcast dimension) or negative (a flipped one). The constructors check that
/// every element lies inside the slice.
#[derive(Debug)]
pub struct MatRef<'a, T> {
    pub(super) ptr: *const T,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
    data: PhantomData<&'a [T]>,
}

impl<T> Clone for MatRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MatRef<'_, T> {}

// SAFETY: a `MatRef` is a shared borrow of a slice.
unsafe impl<T: Sync> Send for MatRef<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for MatRef<'_, T> {}

impl<'a, T> MatRef<'a, T> {
    /// The first `rows * cols` elements of `data`, row after row.
    ///
    /// # Panics
    /// When `data` is shorter than that.
    #[track_caller]
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, 0, rows, cols, stride(cols), 1)
    }

    /// Element (i, j) at `data[offset + i * row_stride + j * col_stride]`.
    ///
    /// # Panics
    /// When an element lies outside of `data`.
    #[track_caller]
    pub fn strided(
        data: &'a [T],
        offset: usize,
        rows: usize,
        cols: usize,
        row_stride: isize,
        col_stride: isize,
    ) -> Self {
        if rows > 0 && cols > 0 {
            let far = |count: usize, stride: isize| (count as i128 - 1) * stride as i128;
            let (down, across) = (far(rows, row_stride), far(cols, col_stride));
            let first = offset as i128 + down.min(0) + across.min(0);
            let last = offset as i128 + down.max(0) + across.max(0);
            assert!(
                first >= 0 && last < data.len() as i128,
                "a {rows} x {cols} matrix with strides {row_stride} and {col_stride} from element {offset} reaches \
                 from {first} to {last}, outside of a slice of {}",
                data.len()
            );
        }
        let offset = offset.min(data.len());
        Self { ptr: data[offset..].as_ptr(), rows, cols, row_stride, col_stride, data: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next.
    pub fn row_stride(&self) -> isize {
        self.row_stride
    }

    /// Elements from one column to the next.
    pub fn col_stride(&self) -> isize {
        self.col_stride
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// The rows of `range`.
    ///
    /// # Panics
    /// When the range reaches past the last row.
    #[track_caller]
    pub fn row_range(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.rows,
            "rows {range:?} of a matrix with {} rows",
            self.rows
        );
        Self { ptr: self.ptr.wrapping_offset(self.row_stride * range.start as isize), rows: range.len(), ..self }
    }

    /// The columns of `range`.
    ///
    /// # Panics
    /// When the range reaches past the last column.
    #[track_caller]
    pub fn col_range(self, range: Range<usize>) -> Self {
        self.t().row_range(range).t()
    }
}

/// A matrix that is written: unit column stride, any row stride that keeps rows apart.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    pub(super) ptr: *mut T,
    rows: usize,
    cols: usize,
    row_stride: usize,
    data: PhantomData<&'a mut [T]>,
}

// SAFETY: a `MatMut` is a unique borrow of a slice.
unsafe impl<T: Send> Send for MatMut<'_, T> {}

impl<'a, T> MatMut<'a, T> {
    /// The first `rows * cols` elements of `data`, row after row.
    ///
    /// # Panics
    /// When `data` is shorter than that.
    #[track_caller]
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, 0, rows, cols, cols)
    }

    /// Element (i, j) at `data[offset + i * row_stride + j]`.
    ///
    /// # Panics
    /// When an element lies outside of `data` or rows overlap.
    #[track_caller]
    pub fn strided(data: &'a mut [T], offset: usize, rows: usize, cols: usize, row_stride: usize) -> Self {
        let view = MatRef::strided(data, offset, rows, cols, stride(row_stride), 1);
        assert!(row_stride >= cols || rows <= 1, "rows of {cols} columns overlap with a row stride of {row_stride}");
        let offset = view.ptr.addr() - data.as_ptr().addr();
        Self { ptr: data.as_mut_ptr().wrapping_byte_add(offset), rows, cols, row_stride, data: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// The same matrix, borrowed for a shorter time.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { data: PhantomData, ..*self }
    }

    /// The rows of `range`.
    ///
    /// # Panics
    /// When the range reaches past the last row.
    #[track_caller]
    pub fn row_range(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.rows,
            "rows {range:?} of a matrix with {} rows",
            self.rows
        );
        Self { ptr: self.ptr.wrapping_add(self.row_stride * range.start), rows: range.len(), ..self }
    }

    /// The columns of `range`.
    ///
    /// # Panics
    /// When the range reaches past the last column.
    #[track_caller]
    pub fn col_range(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.cols,
            "columns {range:?} of a matrix with {} columns",
            self.cols
        );
        Self { ptr: self.ptr.wrapping_add(range.start), cols: range.len(), ..self }
    }
}

fn stride(elements: usize) -> isize {
    isize::try_from(elements).expect("no slice has more than isize::MAX elements")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_stay_inside_their_slice() {
        let data: Vec<i32> = (0..12).collect();
        let view = MatRef::new(&data, 3, 4);
        let at = |m: MatRef<i32>, i: isize, j: isize| {
            // SAFETY: the tests ask for elements inside the view.
            unsafe { *m.ptr.offset(i * m.row_stride() + j * m.col_stride()) }
        };
        assert_eq!(at(view.t(), 3, 2), 11);
        assert_eq!(at(view.row_range(1..3).col_range(2..4), 1, 1), 11);
        assert_eq!(at(MatRef::strided(&data, 11, 3, 4, -4, -1), 2, 3), 0);
        assert_eq!(at(MatRef::strided(&data, 5, 100, 100, 0, 0), 99, 99), 5);
        assert_eq!(MatRef::new(&data[..0], 0, 7).cols(), 7);
    }

    #[test]
    #[should_panic(expected = "outside of a slice of 12")]
    fn a_view_past_the_end_panics() {
        MatRef::strided(&[0u8; 12], 1, 3, 4, 4, 1);
    }

    #[test]
    #[should_panic(expected = "rows of 4 columns overlap with a row stride of 3")]
    fn overlapping_rows_panic() {
        MatMut::strided(&mut [0u8; 12], 0, 3, 4, 3);
    }
}
