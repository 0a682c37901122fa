//! Borrowed operands: rows of heads, with strides, in one piece or in pages.

use std::marker::PhantomData;

use super::pages::PAGE;

/// An operand `[rows, heads, width]` that is read: element (n, h, d) lies at `offset + n s0 + h s1 + d s2` of a slice, or, with n
/// counted in its page, of the slice of that page.
///
/// Strides are in elements and may have any sign; queries, keys and values are usually three views of one projection.
#[derive(Debug)]
pub struct Heads<'a, T> {
    /// The first element; in pages the address of nothing.
    pub(super) ptr: *const T,
    pages: Option<&'a [&'a [T]]>,
    /// Of the first element, in a page.
    offset: usize,
    pub(super) shape: [usize; 3],
    pub(super) strides: [isize; 3],
    data: PhantomData<&'a [T]>,
}

impl<T> Clone for Heads<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Heads<'_, T> {}

// SAFETY: a `Heads` is a shared borrow of a slice.
unsafe impl<T: Sync> Send for Heads<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Heads<'_, T> {}

/// First and last position that a strided operand touches; `None` when it has no elements.
fn extent(offset: usize, shape: [usize; 3], strides: [isize; 3]) -> Option<(i128, i128)> {
    if shape.contains(&0) {
        return None;
    }
    let (mut first, mut last) = (offset as i128, offset as i128);
    for (size, stride) in shape.into_iter().zip(strides) {
        let far = (size as i128 - 1) * stride as i128;
        first += far.min(0);
        last += far.max(0);
    }
    Some((first, last))
}

#[track_caller]
fn check(offset: usize, shape: [usize; 3], strides: [isize; 3], len: usize) {
    if let Some((first, last)) = extent(offset, shape, strides) {
        assert!(
            first >= 0 && last < len as i128,
            "attention: an operand of shape {shape:?} with strides {strides:?} from element {offset} reaches from {first} \
             to {last}, outside of a slice of {len}"
        );
    }
}

impl<'a, T> Heads<'a, T> {
    /// An operand of shape `[rows, heads, width]` in `data`.
    ///
    /// # Panics
    /// When an element lies outside of `data`.
    #[track_caller]
    pub fn new(data: &'a [T], offset: usize, shape: [usize; 3], strides: [isize; 3]) -> Self {
        check(offset, shape, strides, data.len());
        Self { ptr: data.as_ptr().wrapping_add(offset), pages: None, offset, shape, strides, data: PhantomData }
    }

    /// An operand that fills `data`, row after row.
    ///
    /// # Panics
    /// When `data` is shorter than that.
    #[track_caller]
    pub fn contiguous(data: &'a [T], shape: [usize; 3]) -> Self {
        Self::new(data, 0, shape, [(shape[1] * shape[2]) as isize, shape[2] as isize, 1])
    }

    /// Keys or values in pages: row n is row `n % PAGE` of page `n / PAGE`. A head's elements lie side by side; `strides` are those
    /// of rows and heads in a page.
    ///
    /// # Panics
    /// When an element lies outside of its page.
    #[track_caller]
    pub fn paged(pages: &'a [&'a [T]], offset: usize, [heads, width]: [usize; 2], strides: [usize; 2]) -> Self {
        let strides = [strides[0] as isize, strides[1] as isize, 1];
        pages.iter().for_each(|page| check(offset, [PAGE, heads, width], strides, page.len()));
        let shape = [pages.len() * PAGE, heads, width];
        Self { ptr: std::ptr::null(), pages: Some(pages), offset, shape, strides, data: PhantomData }
    }

    /// Whether rows lie in pages.
    pub(super) fn is_paged(&self) -> bool {
        self.pages.is_some()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.shape[1]
    }

    /// Width of a head.
    pub fn width(&self) -> usize {
        self.shape[2]
    }

    /// Address of the first element of a head of a row.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, head: usize) -> *const T {
        let (start, row) = match self.pages {
            None => (self.ptr, row),
            Some(pages) => (pages[row / PAGE].as_ptr().wrapping_add(self.offset), row % PAGE),
        };
        start.wrapping_offset(row as isize * self.strides[0] + head as isize * self.strides[1])
    }
}

/// An operand `[rows, heads, width]` that is written: unit stride along the width, and no two elements in one place.
#[derive(Debug)]
pub struct HeadsMut<'a, T> {
    pub(super) ptr: *mut T,
    pub(super) shape: [usize; 3],
    pub(super) strides: [usize; 2],
    data: PhantomData<&'a mut [T]>,
}

// SAFETY: a `HeadsMut` is a unique borrow of a slice.
unsafe impl<T: Send> Send for HeadsMut<'_, T> {}
// SAFETY: shared use hands out addresses only; pieces of work write disjoint rows and heads.
unsafe impl<T: Send> Sync for HeadsMut<'_, T> {}

impl<'a, T> HeadsMut<'a, T> {
    /// An operand of shape `[rows, heads, width]` in `data`; `strides` are those of rows and heads.
    ///
    /// # Panics
    /// When an element lies outside of `data`, or two may lie in one place.
    #[track_caller]
    pub fn new(data: &'a mut [T], offset: usize, shape: [usize; 3], strides: [usize; 2]) -> Self {
        check(offset, shape, [strides[0] as isize, strides[1] as isize, 1], data.len());
        let [rows, heads, width] = shape;
        let apart = |inner: (usize, usize), outer: usize, size: usize| {
            let span = (inner.0.max(1) - 1) * inner.1 + width;
            (inner.1 >= width || inner.0 <= 1) && (outer >= span || size <= 1)
        };
        assert!(
            apart((heads, strides[1]), strides[0], rows) || apart((rows, strides[0]), strides[1], heads),
            "attention: elements of a result of shape {shape:?} overlap with strides {strides:?}"
        );
        Self { ptr: data.as_mut_ptr().wrapping_add(offset), shape, strides, data: PhantomData }
    }

    /// An operand that fills `data`, row after row.
    ///
    /// # Panics
    /// When `data` is shorter than that.
    #[track_caller]
    pub fn contiguous(data: &'a mut [T], shape: [usize; 3]) -> Self {
        Self::new(data, 0, shape, [shape[1] * shape[2], shape[2]])
    }

    /// Three operands whose heads lie behind each other in each row: the gradients of queries, keys and values that are views of one
    /// projection.
    ///
    /// # Panics
    /// When `data` is not as long as all of them together.
    #[track_caller]
    pub fn side_by_side(data: &'a mut [T], rows: usize, heads: [usize; 3], width: usize) -> [Self; 3] {
        let stride = heads.iter().sum::<usize>() * width;
        assert_eq!(
            data.len(),
            rows * stride,
            "attention: {rows} rows of {heads:?} heads of width {width} side by side"
        );
        let mut start = 0;
        let start_of = data.as_mut_ptr();
        heads.map(|heads| {
            // Each element of a row belongs to the heads of one operand alone, so the three borrow disjoint parts of `data`.
            let ptr = start_of.wrapping_add(start);
            start += heads * width;
            Self { ptr, shape: [rows, heads, width], strides: [stride, width], data: PhantomData }
        })
    }

    /// Address of the first element of a head of a row.
    pub(super) fn at(&self, row: usize, head: usize) -> *mut T {
        self.ptr.wrapping_add(row * self.strides[0] + head * self.strides[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "outside of a slice of 23")]
    fn an_operand_past_the_end_panics() {
        Heads::contiguous(&[0f32; 23], [2, 3, 4]);
    }

    #[test]
    #[should_panic(expected = "overlap with strides [8, 4]")]
    fn results_that_overlap_panic() {
        HeadsMut::new(&mut [0f32; 40], 0, [2, 3, 4], [8, 4]);
    }

    #[test]
    fn operands_side_by_side_share_no_element() {
        let mut data = [0f32; 2 * 7 * 3];
        let operands = HeadsMut::side_by_side(&mut data, 2, [4, 2, 1], 3);
        let mut starts = Vec::new();
        for operand in &operands {
            for row in 0..2 {
                starts.extend((0..operand.shape[1]).map(|head| operand.at(row, head) as usize));
            }
        }
        starts.sort_unstable();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 3 * size_of::<f32>()));
        assert_eq!(starts.len(), 14);
    }

    #[test]
    #[should_panic(expected = "outside of a slice of 511")]
    fn a_page_that_is_too_short_panics() {
        Heads::paged(&[&[0f32; 512][..], &[0f32; 511][..]], 0, [2, 4], [8, 4]);
    }

    #[test]
    fn rows_of_pages_lie_where_their_page_is() {
        let (a, b) = ([0f32; 600], [0f32; 600]);
        let pages = [&a[..], &b[..]];
        let heads = Heads::paged(&pages, 5, [2, 4], [4, 4 * PAGE]);
        assert_eq!((heads.rows(), heads.heads(), heads.width()), (2 * PAGE, 2, 4));
        assert_eq!(heads.at(0, 0), &raw const a[5]);
        assert_eq!(heads.at(PAGE - 1, 1), &raw const a[5 + 4 * (PAGE - 1) + 4 * PAGE]);
        assert_eq!(heads.at(PAGE, 0), &raw const b[5]);
    }

    #[test]
    fn heads_may_lie_before_or_behind_rows() {
        HeadsMut::new(&mut [0f32; 24], 0, [2, 3, 4], [12, 4]);
        HeadsMut::new(&mut [0f32; 24], 0, [2, 3, 4], [4, 8]);
        let flipped = [1f32; 24];
        assert_eq!(Heads::new(&flipped, 23, [2, 3, 4], [-12, -4, -1]).rows(), 2);
    }
}
