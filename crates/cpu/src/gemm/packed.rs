//! Right operands packed once and used for many products.

use std::marker::PhantomData;

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, parallel_for, pool};

use super::grid::cut;
use super::kernel::Tile;
use super::matrix::MatRef;
use super::pack::{Packer, Rhs, View};
use super::product::{Arithmetic, Int8};
use crate::fetch;
use crate::isa::{Isa, isa};
use crate::stream;

/// Bytes of a word of depth across all panels that a task packs at most: where their lanes lie side by side, it reads so much of each
/// row in one go.
const TASK_BYTES: usize = 4096;
/// Bytes of panels from which they are written past the caches: before the first one is used, the last would have driven it out.
const PAST: usize = 2 << 20;

/// A right operand [K, N] in the form that the kernels of product `P` read: panels of columns, each with its whole depth in
/// one piece of memory.
///
/// Any number of rows can be multiplied with it, and the result has the same bits as with the operand it was made from. The
/// form is that of the tier it was made in. It takes as much memory as the operand in the product's own element type, with N rounded
/// up to 32 columns at most.
pub struct Packed<P> {
    panels: Buffer,
    /// Bytes of a panel's word of depth.
    line: usize,
    /// Of byte products: -128 times the sum of each column.
    shifts: Option<Buffer>,
    depth: usize,
    cols: usize,
    product: PhantomData<P>,
}

/// A packed operand as the driver sees it.
pub struct Panels<'a> {
    pub start: *const u8,
    /// Bytes of a word of depth.
    pub line: usize,
    /// From one panel to the next.
    pub stride: usize,
    pub shifts: Option<&'a [i32]>,
}

impl<P: Arithmetic> Packed<P> {
    /// Packs `b`.
    pub fn new<B: Rhs<P>>(b: MatRef<'_, B>) -> Self {
        Self::placed(b, Placement::Lasting)
    }

    pub(super) fn placed<B: Rhs<P>>(b: MatRef<'_, B>, placement: Placement) -> Self {
        let line = P::kernels(P::tier(isa())).for_matrices().line;
        let panels = b.cols().div_ceil(line / P::WORD);
        let bytes = panels * panel_bytes::<P>(b.rows(), line);
        let mut packed = Self {
            panels: Buffer::uninit(DType::U8, bytes, placement),
            line,
            shifts: P::SHIFTS.then(|| Buffer::uninit(DType::I32, panels * line / P::WORD, placement)),
            depth: b.rows(),
            cols: b.cols(),
            product: PhantomData,
        };
        packed.fill(b);
        packed
    }

    /// Packs another operand of the same sizes into the same memory, as an optimiser does after its step.
    ///
    /// # Panics
    /// When the sizes differ.
    #[track_caller]
    pub fn refill<B: Rhs<P>>(&mut self, b: MatRef<'_, B>) {
        assert!(
            (self.depth, self.cols) == (b.rows(), b.cols()),
            "refill: a packed [{}, {}] cannot take a [{}, {}]",
            self.depth,
            self.cols,
            b.rows(),
            b.cols()
        );
        self.fill(b);
    }

    fn fill<B: Rhs<P>>(&mut self, b: MatRef<'_, B>) {
        let tier = P::tier(isa());
        let (panel, each) = (panel_bytes::<P>(self.depth, self.line), self.line / P::WORD);
        assert_eq!(self.line, P::kernels(tier).for_matrices().line, "refill: packed for other instructions");
        let target = Shared(self.panels.as_mut_slice::<u8>().as_mut_ptr());
        let shifts =
            Shared(self.shifts.as_mut().map_or(std::ptr::null_mut(), |s| s.as_mut_slice::<i32>().as_mut_ptr()));
        let source = columns(b);
        let count = self.cols.div_ceil(each);
        let small = self.depth * self.cols < 1 << 16;
        // As many tasks for each thread.
        let threads = if small { 1 } else { pool::threads() };
        let pack = B::packer(tier);
        let whole_panels = Packer { run: pack.past.filter(|_| count * panel >= PAST).unwrap_or(pack.run), ..pack };
        let tasks = count.div_ceil(TASK_BYTES / self.line * threads) * threads;
        let task = |index: usize| {
            let panels = cut(count, 1, tasks, index);
            let first = panels.start;
            let cols = self.cols.min(panels.end * each).saturating_sub(first * each);
            let target = target.get().wrapping_add(first * panel);
            // SAFETY: every task writes its own panels, which the buffer has room for; the view was checked when it was made.
            unsafe {
                let source = moved(source.get(), first * each, 0, pack.size);
                let whole = cols / each;
                pack_panels::<P>(whole_panels, source, whole * each, (each, true), self.depth, target, panel);
                stream::finish();
                let (rest, to) = (moved(source, whole * each, 0, pack.size), target.wrapping_add(whole * panel));
                pack_panels::<P>(pack, rest, cols - whole * each, (each, true), self.depth, to, panel);
                if P::SHIFTS {
                    for i in 0..cols.div_ceil(each) {
                        let shifts = shifts.get().add((first + i) * each);
                        column_shifts(tier, (target.add(i * panel), self.line), self.depth.div_ceil(P::GROUP), shifts);
                    }
                }
            }
        };
        if small {
            (0..tasks).for_each(task);
        } else {
            parallel_for(tasks, task);
        }
    }

    /// Number of rows, K.
    pub fn rows(&self) -> usize {
        self.depth
    }

    /// Number of columns, N.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.panels.len() + self.shifts.as_ref().map_or(0, |s| s.len() * size_of::<i32>())
    }

    pub(super) fn panels(&self) -> Panels<'_> {
        Panels {
            start: self.panels.as_slice::<u8>().as_ptr(),
            line: self.line,
            stride: panel_bytes::<P>(self.depth, self.line),
            shifts: self.shifts.as_ref().map(|s| s.as_slice()),
        }
    }
}

impl<P: Arithmetic> std::fmt::Debug for Packed<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({} x {}, {} bytes)", self.depth, self.cols, self.bytes())
    }
}

/// A pointer or view that several threads use on parts of their own.
#[derive(Clone, Copy)]
pub struct Shared<T>(pub T);

// SAFETY: whoever makes one sees to it that threads use disjoint parts, or only read.
unsafe impl<T> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// Through a method, so that closures capture the whole and not the field.
    pub fn get(&self) -> T {
        self.0
    }
}

/// Bytes of a column panel of `depth` elements of depth, with `line` of them to a word.
pub fn panel_bytes<P: Arithmetic>(depth: usize, line: usize) -> usize {
    depth.div_ceil(P::GROUP) * line
}

/// A right operand as packers see it.
pub fn columns<B>(b: MatRef<'_, B>) -> Shared<View> {
    Shared(View { ptr: b.ptr.cast(), lane_stride: b.col_stride(), depth_stride: b.row_stride() })
}

/// The view moved on by `lanes` lanes and `depths` elements of depth of `size` bytes each.
pub fn moved(view: View, lanes: usize, depths: usize, size: usize) -> View {
    let elements = lanes as isize * view.lane_stride + depths as isize * view.depth_stride;
    View { ptr: view.ptr.wrapping_offset(elements * size as isize), ..view }
}

/// Packs `lanes` lanes into panels of `width` of them that start `stride` bytes apart. The last panel is narrower, or, if
/// `whole`, filled up with lanes of zeros.
///
/// # Safety
/// As [`super::pack::PackFn`] for each panel.
pub unsafe fn pack_panels<P: Arithmetic>(
    pack: Packer,
    source: View,
    lanes: usize,
    (width, whole): (usize, bool),
    depth: usize,
    target: *mut u8,
    stride: usize,
) {
    // Where lanes lie side by side, all panels take their part of some rows before the next rows come. Short pieces of far rows are
    // fetched meanwhile: the processor does not guess them by itself.
    let across = source.lane_stride == 1 && source.depth_stride != 1;
    let mut packed = 0;
    if let Some(pack_across) = pack.across.filter(|_| across && width <= 8 && depth.is_multiple_of(P::GROUP)) {
        let panels = lanes / width;
        packed = panels * width;
        // SAFETY: the caller's.
        unsafe { pack_across(source, panels, lanes, depth / P::GROUP, width, target, stride) };
    }
    let short = across && lanes * pack.size < 1024;
    let step = match () {
        () if short => 64 * P::GROUP,
        () if across => 16 * P::GROUP,
        () => depth.max(1),
    };
    for from in (0..depth).step_by(step) {
        for first in (packed..lanes).step_by(width) {
            let here = (lanes - first).min(width);
            if short {
                let share = |lane: usize| (from + step + step * lane / lanes).min(depth);
                for k in share(first)..share(first + here) {
                    let row = moved(source, 0, k, pack.size).ptr;
                    fetch::far_bytes(row, lanes * pack.size);
                }
            }
            // The pieces of rows of which the next row panel is made; column panels are wide enough for the processor to see.
            let next = first + here;
            if !across && source.depth_stride == 1 && !whole {
                for lane in next..lanes.min(next + width) {
                    let row = moved(source, lane, from, pack.size).ptr;
                    fetch::far_bytes(row, step.min(depth - from) * pack.size);
                }
            }
            let words = if whole { width } else { here };
            let to = target.wrapping_add(first / width * stride + from / P::GROUP * words * P::WORD);
            // SAFETY: the caller's.
            unsafe { (pack.run)(moved(source, first, from, pack.size), here, step.min(depth - from), words, to) };
        }
    }
}

/// -128 times the sum of each column of a packed panel of bytes, wrapping: what the shift of the left operand added.
unsafe fn column_shifts(tier: Isa, (panel, line): (*const u8, usize), words: usize, shifts: *mut i32) {
    const STEP: usize = 256;
    static ONES: [u8; STEP * 4] = [1; STEP * 4];
    let kernel = Int8::kernels(tier).for_matrices().single[0];
    for word in (0..words).step_by(STEP) {
        let tile = Tile {
            depth: STEP.min(words - word),
            a: ONES.as_ptr(),
            b: panel.wrapping_add(word * line),
            b_step: line,
            b_panel: 0,
            start: if word == 0 { std::ptr::null() } else { shifts.cast_const() },
            start_stride: 0,
            end: shifts,
            end_stride: 0,
            bias: std::ptr::null(),
            next: std::ptr::null(),
            next_stride: 0,
            far: std::ptr::null(),
            far_step: 0,
        };
        // SAFETY: the caller vouches for the panel and for a panel's width of shifts.
        unsafe { kernel(&tile) };
    }
    for column in 0..line / Int8::WORD {
        // SAFETY: as above.
        unsafe {
            let shift = shifts.add(column);
            shift.write(if words == 0 { 0 } else { shift.read().wrapping_mul(-128) });
        }
    }
}
