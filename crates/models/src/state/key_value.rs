//! Keys and values of the tokens so far.

use std::ops::Range;

use cupola_core::{Buffer, DType, Element};
use cupola_tensor::ops::attention::{PAGE, PageHeads, attention_dtype};
use cupola_tensor::{Tensor, bf16, f16};

use super::pool::{Page, PagePool};

/// The heads of a token's keys and values. Latent attention has one head of keys and no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLayout {
    /// Heads of keys and their width.
    pub keys: [usize; 2],
    /// Heads of values and their width.
    pub values: [usize; 2],
    /// The type of the elements.
    pub dtype: DType,
}

impl HeadLayout {
    fn token_len(&self) -> usize {
        self.keys[0] * self.keys[1] + self.values[0] * self.values[1]
    }

    /// Bytes of one token.
    pub fn token_bytes(&self) -> usize {
        self.token_len() * self.dtype.size()
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        PAGE * self.token_bytes()
    }

    /// Where these heads of keys lie in a page.
    pub(crate) fn page_keys(&self, heads: Range<usize>) -> PageHeads {
        let all = PageHeads::by_head(0, self.keys[0], self.keys[1]);
        PageHeads { offset: heads.start * all.head_stride, heads: heads.len(), ..all }
    }

    /// Where the values lie in a page.
    pub(crate) fn page_values(&self) -> PageHeads {
        PageHeads::by_head(self.page_keys(0..self.keys[0]).end(), self.values[0], self.values[1])
    }
}

/// Keys `[T, Hk, Dk]` and values `[T, Hv, Dv]` of the T tokens that a sequence has, in pages of [`PAGE`] tokens.
///
/// New tokens are written behind the old ones, where attention reads them. A clone shares the pages; of two that go on from there
/// each writes into pages of its own, and only the last one, when it is partly filled, is copied. What is recorded
/// for a gradient lies in tensors instead.
#[derive(Clone)]
pub struct KeyValue {
    layout: HeadLayout,
    pool: PagePool,
    len: usize,
    kept: Kept,
}

#[derive(Clone)]
enum Kept {
    /// Room for at least `len` tokens.
    Pages(Vec<Page>),
    /// Keys and values.
    Recorded(Box<[Tensor; 2]>),
}

impl KeyValue {
    pub(super) fn new(layout: HeadLayout, pool: PagePool) -> Self {
        Self { layout, pool, len: 0, kept: Kept::Pages(Vec::new()) }
    }

    /// The same in this pool, of a sequence that has not begun.
    pub(super) fn in_pool(self, pool: &PagePool) -> Self {
        Self::new(self.layout, pool.clone())
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The heads of a token.
    pub fn layout(&self) -> &HeadLayout {
        &self.layout
    }

    /// Bytes of all keys and values, of memory kept for later ones and of pages shared with others included.
    pub fn bytes(&self) -> usize {
        match &self.kept {
            Kept::Pages(pages) => pages.len() * self.layout.page_bytes(),
            Kept::Recorded(both) => both.iter().map(|x| x.numel() * x.dtype().size()).sum(),
        }
    }

    /// The pages that hold tokens; none when these lie in tensors.
    pub(crate) fn pages(&self) -> Option<impl Iterator<Item = &Buffer>> {
        match &self.kept {
            Kept::Pages(pages) => Some(pages[..self.len.div_ceil(PAGE)].iter().map(Page::buffer)),
            Kept::Recorded(_) => None,
        }
    }

    /// All keys, `[T, Hk, Dk]`: a copy, where they lie in pages.
    pub fn keys(&self) -> Tensor {
        match &self.kept {
            Kept::Pages(_) => self.copied(self.layout.page_keys(0..self.layout.keys[0])),
            Kept::Recorded(both) => both[0].clone(),
        }
    }

    /// All values, `[T, Hv, Dv]`, as [`KeyValue::keys`].
    pub fn values(&self) -> Tensor {
        match &self.kept {
            Kept::Pages(_) => self.copied(self.layout.page_values()),
            Kept::Recorded(both) => both[1].clone(),
        }
    }

    fn copied(&self, at: PageHeads) -> Tensor {
        match self.layout.dtype {
            DType::F64 => self.copied_as::<f64>(at),
            DType::BF16 => self.copied_as::<bf16>(at),
            DType::F16 => self.copied_as::<f16>(at),
            _ => self.copied_as::<f32>(at),
        }
    }

    fn copied_as<T: Element>(&self, at: PageHeads) -> Tensor {
        Tensor::build::<T>([self.len, at.heads, at.width], |to| {
            if to.is_empty() {
                return;
            }
            let Kept::Pages(pages) = &self.kept else { unreachable!("asked for where tokens lie in pages") };
            for (index, to) in to.chunks_exact_mut(at.width).enumerate() {
                let (row, head) = (index / at.heads, index % at.heads);
                let page = pages[row / PAGE].buffer().as_slice::<T>();
                let from = at.offset + (row % PAGE) * at.token_stride + head * at.head_stride;
                to.copy_from_slice(&page[from..from + at.width]);
            }
        })
    }

    /// Appends the tokens `rows` of k and v.
    #[track_caller]
    pub(crate) fn extend(&mut self, k: &Tensor, v: &Tensor, rows: Range<usize>) {
        let count = rows.len();
        let before = match &self.kept {
            Kept::Recorded(both) => both.iter().any(Tensor::needs_grad),
            Kept::Pages(_) => false,
        };
        if before || k.needs_grad() || v.needs_grad() {
            let own = |x: &Tensor| x.narrow(0, rows.start, count);
            let joined = |old: Tensor, new: Tensor| {
                if self.len == 0 { new } else { Tensor::cat(&[&old, &new], 0) }
            };
            let both = [joined(self.keys(), own(k)), joined(self.values(), own(v))];
            self.kept = Kept::Recorded(Box::new(both));
            self.len += count;
            return;
        }
        if let Kept::Recorded(both) = &self.kept {
            // Their gradients were given up; from here on they lie in pages.
            let ([keys, values], len) = ((**both).clone(), self.len);
            *self = Self::new(self.layout, self.pool.clone());
            self.layout.dtype = keys.dtype();
            self.write(&keys, &values, 0..len);
        }
        let dtype = attention_dtype([k, k, v]);
        if self.len == 0 && dtype != self.layout.dtype {
            self.kept = Kept::Pages(Vec::new());
            self.layout.dtype = dtype;
        }
        self.write(&k.to_dtype(self.layout.dtype), &v.to_dtype(self.layout.dtype), rows);
    }

    #[track_caller]
    fn write(&mut self, k: &Tensor, v: &Tensor, rows: Range<usize>) {
        let found = [k, v].map(|x| [x.dim(1), x.dim(2)]);
        let (keys, values) = (self.layout.keys, self.layout.values);
        assert!(
            found == [keys, values],
            "attention: keys and values of heads {found:?} for a state with {keys:?} and {values:?}"
        );
        if let Err(full) = self.reserve(rows.len(), false) {
            panic!("attention: {full}");
        }
        match self.layout.dtype {
            DType::F64 => self.write_as::<f64>(k, v, rows),
            DType::BF16 => self.write_as::<bf16>(k, v, rows),
            DType::F16 => self.write_as::<f16>(k, v, rows),
            _ => self.write_as::<f32>(k, v, rows),
        }
    }

    fn write_as<T: Element>(&mut self, k: &Tensor, v: &Tensor, rows: Range<usize>) {
        let at = [self.layout.page_keys(0..self.layout.keys[0]), self.layout.page_values()];
        let Kept::Pages(pages) = &mut self.kept else { unreachable!("room was just reserved in pages") };
        let mut next = rows.start;
        while next < rows.end {
            let slot = self.len % PAGE;
            let count = (PAGE - slot).min(rows.end - next);
            let page = pages[self.len / PAGE].as_mut_slice::<T>();
            let page = page.expect("pages behind the last token are held by this sequence alone");
            for (x, at) in [(k, at[0]), (v, at[1])] {
                put::<T>(x, next..next + count, page, at, slot);
            }
            next += count;
            self.len += count;
        }
    }

    /// Bytes that have to be taken from the pool for so many more tokens.
    pub(super) fn missing(&self, tokens: usize) -> usize {
        let Kept::Pages(pages) = &self.kept else { return 0 };
        if tokens == 0 {
            return 0;
        }
        let behind = pages.get(self.len / PAGE..).unwrap_or_default();
        let shared = behind.iter().filter(|page| page.is_shared()).count();
        let new = (self.len + tokens).div_ceil(PAGE).saturating_sub(pages.len());
        (new + shared) * self.layout.page_bytes()
    }

    /// Takes the pages for so many more tokens, beyond the pool's bound when asked to.
    pub(super) fn reserve(&mut self, tokens: usize, beyond: bool) -> Result<(), super::PoolFull> {
        let missing = self.missing(tokens);
        if missing == 0 {
            return Ok(());
        }
        if !beyond {
            self.pool.check(missing)?;
        }
        let (len, layout) = (self.len, self.layout);
        let Kept::Pages(pages) = &mut self.kept else { return Ok(()) };
        let fresh = || self.pool.take(layout.dtype, PAGE * layout.token_len());
        for (index, page) in pages.iter_mut().enumerate().skip(len / PAGE).filter(|(_, page)| page.is_shared()) {
            let mut own = fresh();
            if index == len / PAGE {
                let at = [layout.page_keys(0..layout.keys[0]), layout.page_values()];
                match layout.dtype {
                    DType::F64 => copy::<f64>(page, &mut own, at, len % PAGE),
                    DType::BF16 => copy::<bf16>(page, &mut own, at, len % PAGE),
                    DType::F16 => copy::<f16>(page, &mut own, at, len % PAGE),
                    _ => copy::<f32>(page, &mut own, at, len % PAGE),
                }
            }
            *page = own;
        }
        while pages.len() < (len + tokens).div_ceil(PAGE) {
            pages.push(fresh());
        }
        Ok(())
    }

    /// Forgets all tokens but the first `len`, and keeps the pages that held others for the same call again.
    pub(super) fn rewind(&mut self, len: usize) {
        self.len = self.len.min(len);
        if let Kept::Recorded(both) = &mut self.kept {
            **both = both.each_ref().map(|x| x.narrow(0, 0, self.len));
        }
    }

    /// Forgets all tokens but the first `len`, and gives back the pages that held others.
    pub(super) fn truncate(&mut self, len: usize) {
        self.rewind(len);
        if let Kept::Pages(pages) = &mut self.kept {
            pages.truncate(self.len.div_ceil(PAGE));
        }
    }

    /// Forgets all tokens and gives all pages back.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.layout, self.pool.clone());
    }

    /// The page with the tokens up to `end`, which is full.
    pub(super) fn page(&self, end: usize) -> Option<Page> {
        match &self.kept {
            Kept::Pages(pages) if end <= self.len && end.is_multiple_of(PAGE) => {
                pages.get((end / PAGE).checked_sub(1)?).cloned()
            }
            _ => None,
        }
    }

    /// Goes on behind a full page.
    #[track_caller]
    pub(super) fn push(&mut self, page: &Page) {
        self.truncate(self.len);
        assert!(self.len.is_multiple_of(PAGE), "a page behind {} tokens", self.len);
        let Kept::Pages(pages) = &mut self.kept else { panic!("a page behind recorded tokens") };
        self.layout.dtype = page.buffer().dtype();
        pages.push(page.clone());
        self.len += PAGE;
    }

    pub(super) fn detach(&mut self) {
        if let Kept::Recorded(both) = &mut self.kept {
            **both = both.each_ref().map(Tensor::detach);
        }
    }
}

/// Writes the heads of the rows of x into a page, from `slot` on.
fn put<T: Element>(x: &Tensor, rows: Range<usize>, page: &mut [T], at: PageHeads, slot: usize) {
    if at.width == 0 {
        return;
    }
    let (all, layout) = (x.buffer().as_slice::<T>(), x.layout());
    let strides = layout.strides();
    for (index, row) in rows.enumerate() {
        for head in 0..at.heads {
            let to = at.offset + (slot + index) * at.token_stride + head * at.head_stride;
            let to = &mut page[to..to + at.width];
            let from = layout.offset as isize + row as isize * strides[0] + head as isize * strides[1];
            if strides[2] == 1 {
                to.copy_from_slice(&all[from as usize..from as usize + at.width]);
            } else {
                let element = |d: usize| all[(from + d as isize * strides[2]) as usize];
                to.iter_mut().enumerate().for_each(|(d, to)| *to = element(d));
            }
        }
    }
}

/// Copies the first tokens of a page into another.
fn copy<T: Element>(from: &Page, to: &mut Page, at: [PageHeads; 2], tokens: usize) {
    let from = from.buffer().as_slice::<T>();
    let to = to.as_mut_slice::<T>().expect("a page that was just taken has one holder");
    for at in at {
        for head in 0..at.heads {
            let begin = at.offset + head * at.head_stride;
            let run = begin..begin + tokens * at.width;
            to[run.clone()].copy_from_slice(&from[run]);
        }
    }
}
