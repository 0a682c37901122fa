//! Bringing operands into the form that products read, where they do not lie so already.

use crate::gemm::pack::{Lhs, OVERRUN, Packer, View};
use crate::isa::Isa;
use crate::real::Number;

use super::engine::{Engine, WIDTH, packer};
use super::operand::Heads;
use super::pages::PAGE;
use super::plan::KEYS;
use super::scratch::{self, Scratch};

/// An element that engine `E` reads.
pub trait Readable<E: Engine>: Number<Real = E::Acc> + Lhs<E::Product> {}
impl<E: Engine, T: Number<Real = E::Acc> + Lhs<E::Product>> Readable<E> for T {}

/// Rows of an operand of a product: address of the first and bytes from one to the next.
#[derive(Clone, Copy)]
pub struct Rows {
    pub ptr: *const u8,
    pub step: isize,
}

/// Words that hold `width` elements, in rows that are a whole number of vectors of any engine.
pub const fn padded(width: usize) -> usize {
    width.next_multiple_of(16)
}

/// Keys or values of one head, by blocks of rows.
pub struct Source<'a, T> {
    operand: Heads<'a, T>,
    head: usize,
    packer: Packer,
}

impl<'a, T: Copy> Source<'a, T> {
    pub fn new<E: Engine>(operand: Heads<'a, T>, head: usize, isa: Isa) -> Self
    where
        T: Readable<E>,
    {
        Self { operand, head, packer: packer::<E, T>(isa) }
    }

    /// Whether rows lie in pages.
    pub fn is_paged(&self) -> bool {
        self.operand.is_paged()
    }

    /// Whether elements are parts of words as they lie.
    fn is_native<E: Engine>(&self) -> bool {
        self.packer.size * E::GROUP == E::WORD && (self.operand.strides[2] == 1 || self.operand.width() == 1)
    }

    fn at(&self, row: usize) -> *const u8 {
        self.operand.at(row, self.head).cast()
    }

    fn step(&self) -> isize {
        self.operand.strides[0] * self.packer.size as isize
    }

    /// Bytes of scratch for `count` rows in either form.
    pub fn bytes<E: Engine>(&self, count: usize) -> usize {
        let words = count.div_ceil(E::GROUP) * padded(self.operand.width());
        scratch::bytes::<u8>(words * E::WORD * E::GROUP + OVERRUN)
    }

    /// Bytes of scratch for a block of keys in either form.
    pub fn block_bytes<E: Engine>(&self) -> usize {
        if self.is_paged() { KEYS / PAGE * self.bytes::<E>(PAGE) } else { self.bytes::<E>(KEYS) }
    }

    /// `count` rows from `first`, with words along the width.
    ///
    /// # Safety
    /// `memory` must have the room that [`Source::bytes`] says; the processor must have the packer's instructions.
    #[inline(always)]
    pub unsafe fn along<E: Engine>(&self, first: usize, count: usize, memory: *mut u8) -> Rows {
        let width = self.operand.width();
        if self.is_native::<E>() && width.is_multiple_of(E::GROUP) {
            return Rows { ptr: self.at(first), step: self.step() };
        }
        if E::GROUP == 1 {
            // SAFETY: the caller's.
            return unsafe { self.down::<E>(first, count, memory) };
        }
        let row_bytes = width.div_ceil(E::GROUP) * E::WORD;
        for row in 0..count {
            let source = View { ptr: self.at(first + row), lane_stride: 0, depth_stride: self.operand.strides[2] };
            // SAFETY: the row is within the operand, and rows of words follow each other in memory with room for an overrun.
            unsafe { (self.packer.run)(source, 1, width, 1, memory.add(row * row_bytes)) };
        }
        Rows { ptr: memory, step: row_bytes as isize }
    }

    /// `count` rows from `first`, with words down the rows: a row of the result holds GROUP rows of the operand.
    ///
    /// # Safety
    /// As [`Source::along`].
    #[inline(always)]
    pub unsafe fn down<E: Engine>(&self, first: usize, count: usize, memory: *mut u8) -> Rows {
        if self.is_native::<E>() && E::GROUP == 1 {
            return Rows { ptr: self.at(first), step: self.step() };
        }
        let width = self.operand.width();
        let source =
            View { ptr: self.at(first), lane_stride: self.operand.strides[2], depth_stride: self.operand.strides[0] };
        // SAFETY: the caller's.
        unsafe { (self.packer.run)(source, width, count, padded(width), memory) };
        Rows { ptr: memory, step: (padded(width) * E::WORD) as isize }
    }
}

/// Rows of queries, their outputs or gradients, as lanes: lane `first + i` is head `(first + i) % group` of the key head's
/// group, of query `(first + i) / group`.
pub struct LaneSource<'a, T> {
    pub operand: Heads<'a, T>,
    /// The first row of the segment.
    pub row: usize,
    /// The first head of the group.
    pub head: usize,
    pub group: usize,
    packer: Packer,
}

impl<'a, T: Copy> LaneSource<'a, T> {
    pub fn new<E: Engine>(operand: Heads<'a, T>, row: usize, head: usize, group: usize, isa: Isa) -> Self
    where
        T: Readable<E>,
    {
        Self { operand, row, head, group, packer: packer::<E, T>(isa) }
    }

    /// The address of a lane's row.
    #[inline(always)]
    pub fn at(&self, lane: usize) -> *const T {
        self.operand.at(self.row + lane / self.group, self.head + lane % self.group)
    }

    /// Rows that lie evenly, gathered if they do not: a view with the rows as lanes and the width as depth.
    #[inline(always)]
    unsafe fn even(&self, first: usize, count: usize, scratch: &mut [T]) -> View {
        let width = self.operand.width();
        if self.group == 1 || count == 1 {
            return View {
                ptr: self.at(first).cast(),
                lane_stride: self.operand.strides[0],
                depth_stride: self.operand.strides[2],
            };
        }
        for lane in 0..count {
            let (from, step) = (self.at(first + lane), self.operand.strides[2]);
            for (d, to) in scratch[lane * width..][..width].iter_mut().enumerate() {
                // SAFETY: within the operand, which covers all lanes.
                *to = unsafe { *from.offset(d as isize * step) };
            }
        }
        View { ptr: scratch.as_ptr().cast(), lane_stride: width as isize, depth_stride: 1 }
    }

    /// Bytes of scratch that [`LaneSource::pack`] needs.
    pub fn bytes<E: Engine>(&self, rows: bool) -> usize {
        let width = self.operand.width();
        let words = width.div_ceil(E::GROUP);
        let across = scratch::bytes::<u8>(words * WIDTH * E::WORD + OVERRUN);
        let down = scratch::bytes::<u8>(WIDTH / E::GROUP * padded(width) * E::WORD + OVERRUN);
        let gathered = if self.group == 1 { 0 } else { scratch::bytes::<T>(WIDTH * width) };
        across + gathered + if rows { down } else { 0 }
    }

    /// Takes the memory for [`LaneSource::pack`].
    pub fn forms<E: Engine>(&self, rows: bool, scratch: &mut Scratch) -> Forms<T> {
        let width = self.operand.width();
        Forms {
            across: scratch.take(width.div_ceil(E::GROUP) * WIDTH * E::WORD + OVERRUN),
            down: rows.then(|| scratch.take(WIDTH / E::GROUP * padded(width) * E::WORD + OVERRUN)),
            gathered: scratch.take(if self.group == 1 { 0 } else { WIDTH * width }),
        }
    }

    /// Packs `count` lanes from `first`: across as `[words of width, WIDTH]`, and down, when its memory is there, as
    /// `[words of lanes, padded width]`. Gives the rows of the second, which are the operand's own where they can be.
    ///
    /// # Safety
    /// `forms` must come from [`LaneSource::forms`]; the processor must have the packer's instructions.
    #[inline(always)]
    pub unsafe fn pack<E: Engine>(&self, first: usize, count: usize, forms: &Forms<T>) -> Rows {
        let width = self.operand.width();
        let room = if self.group == 1 { 0 } else { WIDTH * width };
        let size = size_of::<T>();
        let mut rows = Rows { ptr: forms.across, step: 0 };
        // SAFETY: the caller's.
        unsafe {
            let view = self.even(first, count, std::slice::from_raw_parts_mut(forms.gathered, room));
            (self.packer.run)(view, count, width, WIDTH, forms.across);
            let Some(down) = forms.down else { return rows };
            if size == E::WORD && view.depth_stride == 1 && width.is_multiple_of(E::LANES) {
                rows.ptr = view.ptr;
                rows.step = view.lane_stride * size as isize;
                return rows;
            }
            let turned = View { lane_stride: view.depth_stride, depth_stride: view.lane_stride, ..view };
            (self.packer.run)(turned, width, count, padded(width), down);
            rows.ptr = down;
            rows.step = (padded(width) * E::WORD) as isize;
        }
        rows
    }
}

/// Memory for packed lanes.
#[derive(Clone, Copy)]
pub struct Forms<T> {
    pub across: *mut u8,
    pub down: Option<*mut u8>,
    gathered: *mut T,
}

/// Bytes of scratch that [`turn`] needs.
pub fn turned_bytes<R>(width: usize) -> usize {
    scratch::bytes::<R>(WIDTH * padded(width))
}

/// Turns a block `[width, WIDTH]` of sums into `[WIDTH, padded width]`.
///
/// # Safety
/// Both blocks must have their sizes; the processor must have the tier's instructions.
#[inline(always)]
pub unsafe fn turn<E: Engine>(block: *const E::Acc, count: usize, width: usize, to: *mut E::Acc, isa: Isa) {
    let view = View { ptr: block.cast(), lane_stride: WIDTH as isize, depth_stride: 1 };
    // SAFETY: the caller's.
    unsafe { (E::plain(isa).run)(view, width, count, padded(width), to.cast()) };
}
