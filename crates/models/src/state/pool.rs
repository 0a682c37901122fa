//! Where the memory of states comes from, and how much of it there is.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cupola_core::{Buffer, DType, Element, alloc::Placement};

/// The memory of the states of many sequences: pages of keys and values, and an account of what scans keep.
///
/// All pages of a layer's kind have one size. They come from the large regions of [`cupola_core::alloc`], and one that nobody holds
/// any more waits here for the next sequence: however sequences come and go, memory does not fall to pieces. Pages that are
/// shared count once. A bound counts pages and what scans keep; [`State::reserve`](super::State::reserve) is refused beyond it.
#[derive(Clone)]
pub struct PagePool(Arc<Inner>);

struct Inner {
    limit: Option<usize>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    usage: Usage,
    /// Pages that wait, by dtype and elements: a model has one or two kinds.
    free: Vec<(DType, usize, Vec<Buffer>)>,
    free_bytes: usize,
}

/// What is handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of pages and of what scans keep.
    pub bytes: usize,
    /// Pages.
    pub pages: usize,
}

/// There is no room for what a sequence needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("states of {used} bytes leave no room for {needed} more in a pool of {limit}")]
pub struct PoolFull {
    /// Bytes that were asked for.
    pub needed: usize,
    /// Bytes handed out already.
    pub used: usize,
    /// The bound.
    pub limit: usize,
}

impl Default for PagePool {
    fn default() -> Self {
        Self::unbounded()
    }
}

impl PagePool {
    /// A pool that takes from the system whatever is asked of it.
    pub fn unbounded() -> Self {
        Self(Arc::new(Inner { limit: None, held: Mutex::default() }))
    }

    /// A pool for states of at most so many bytes.
    pub fn bounded(bytes: usize) -> Self {
        Self(Arc::new(Inner { limit: Some(bytes), held: Mutex::default() }))
    }

    /// What is handed out now.
    pub fn usage(&self) -> Usage {
        self.held().usage
    }

    /// The bound in bytes, if there is one.
    pub fn limit(&self) -> Option<usize> {
        self.0.limit
    }

    /// Bytes that may still be handed out.
    pub fn room(&self) -> usize {
        self.0.limit.map_or(usize::MAX, |limit| limit.saturating_sub(self.usage().bytes))
    }

    /// Gives the pages that wait for their next use back.
    pub fn trim(&self) {
        self.held().trim();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // The account changes by whole entries only.
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error when so many bytes more do not fit.
    pub(super) fn check(&self, needed: usize) -> Result<(), PoolFull> {
        let (used, limit) = (self.usage().bytes, self.0.limit.unwrap_or(usize::MAX));
        if used.saturating_add(needed) > limit { Err(PoolFull { needed, used, limit }) } else { Ok(()) }
    }

    /// A page of `len` elements with arbitrary contents. The bound is the caller's to check.
    pub(super) fn take(&self, dtype: DType, len: usize) -> Page {
        let bytes = len * dtype.size();
        let mut held = self.held();
        let waiting = held.free.iter_mut().find(|(d, l, _)| (*d, *l) == (dtype, len)).and_then(|(.., all)| all.pop());
        if waiting.is_some() {
            held.free_bytes -= bytes;
        }
        held.count(bytes, 1, self.0.limit);
        drop(held);
        let buffer = waiting.unwrap_or_else(|| Buffer::uninit(dtype, len, Placement::Lasting));
        Page(Arc::new(Owned { buffer: Some(buffer), pool: self.clone() }))
    }

    /// Counts bytes that are not in pages for as long as the result lives.
    pub(super) fn hold(&self, bytes: usize) -> Hold {
        self.held().count(bytes, 0, self.0.limit);
        Hold(Arc::new(Counted { bytes, pool: self.clone() }))
    }
}

impl fmt::Debug for PagePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PagePool({:?}, at most {:?} bytes)", self.usage(), self.0.limit)
    }
}

impl Held {
    fn count(&mut self, bytes: usize, pages: usize, limit: Option<usize>) {
        self.usage.bytes += bytes;
        self.usage.pages += pages;
        // What waits is memory as well: it goes before the bound is passed.
        if limit.is_some_and(|limit| self.usage.bytes.saturating_add(self.free_bytes) > limit) {
            self.trim();
        }
    }

    fn trim(&mut self) {
        self.free.clear();
        self.free_bytes = 0;
    }
}

/// [`PAGE`](super::PAGE) tokens' keys and values of one layer. A clone shares it.
#[derive(Clone)]
pub(super) struct Page(Arc<Owned>);

struct Owned {
    /// Always there, until it goes back.
    buffer: Option<Buffer>,
    pool: PagePool,
}

impl Page {
    pub(super) fn buffer(&self) -> &Buffer {
        self.0.buffer.as_ref().expect("a page has its memory as long as somebody holds it")
    }

    /// The elements for writing, when nobody else holds the page.
    pub(super) fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        Some(Arc::get_mut(&mut self.0)?.buffer.as_mut()?.as_mut_slice::<T>())
    }

    /// Whether somebody else holds the page.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    pub(super) fn bytes(&self) -> usize {
        self.buffer().bytes().len()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Some(buffer) = self.buffer.take() else { return };
        let (dtype, len, bytes) = (buffer.dtype(), buffer.len(), buffer.bytes().len());
        let mut held = self.pool.held();
        held.usage.bytes -= bytes;
        held.usage.pages -= 1;
        held.free_bytes += bytes;
        match held.free.iter_mut().find(|(d, l, _)| (*d, *l) == (dtype, len)) {
            Some((.., all)) => all.push(buffer),
            None => held.free.push((dtype, len, vec![buffer])),
        }
    }
}

/// Bytes in the account of a pool until the last clone is gone.
#[derive(Clone)]
pub(super) struct Hold(Arc<Counted>);

struct Counted {
    bytes: usize,
    pool: PagePool,
}

impl Hold {
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes
    }

    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.pool.held().usage.bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_back_when_its_last_holder_goes_and_is_handed_out_again() {
        let pool = PagePool::bounded(1000);
        let first = pool.take(DType::F32, 100);
        let address = first.buffer().bytes().as_ptr();
        let second = first.clone();
        assert!(first.is_shared());
        drop(first);
        assert_eq!(pool.usage(), Usage { bytes: 400, pages: 1 });
        assert!(!second.is_shared());
        drop(second);
        assert_eq!((pool.usage(), pool.room()), (Usage::default(), 1000));
        assert_eq!(pool.take(DType::F32, 100).buffer().bytes().as_ptr(), address);
    }

    #[test]
    fn the_bound_counts_pages_and_what_scans_keep() {
        let pool = PagePool::bounded(1000);
        let page = pool.take(DType::F64, 50);
        let hold = pool.hold(300);
        let again = hold.clone();
        assert_eq!(pool.check(300), Ok(()));
        assert_eq!(pool.check(301), Err(PoolFull { needed: 301, used: 700, limit: 1000 }));
        drop(hold);
        assert_eq!(pool.room(), 300, "a clone still holds it");
        drop((again, page));
        assert_eq!(pool.room(), 1000);
        assert_eq!(PagePool::unbounded().check(usize::MAX), Ok(()));
    }

    #[test]
    fn pages_that_wait_make_room_for_scans() {
        let pool = PagePool::bounded(1000);
        drop(pool.take(DType::U8, 800));
        assert_eq!(pool.held().free_bytes, 800);
        let _hold = pool.hold(300);
        assert_eq!(pool.held().free_bytes, 0);
    }
}
