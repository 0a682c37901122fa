//! What can be searched.

use std::borrow::Borrow;

/// A text to search in: `str` or `[u8]`. Sealed.
pub trait Haystack: ToOwned<Owned: Borrow<Self> + Default> + sealed::Sealed + 'static {
    /// Whether the bytes need not be UTF-8.
    #[doc(hidden)]
    const BYTES: bool;
    #[doc(hidden)]
    fn raw(&self) -> &[u8];
    #[doc(hidden)]
    fn part(&self, start: usize, end: usize) -> &Self;
    #[doc(hidden)]
    fn append(to: &mut Self::Owned, part: &Self);
}

impl Haystack for str {
    const BYTES: bool = false;

    #[inline]
    fn raw(&self) -> &[u8] {
        self.as_bytes()
    }

    #[inline]
    #[track_caller]
    fn part(&self, start: usize, end: usize) -> &str {
        &self[start..end]
    }

    fn append(to: &mut String, part: &str) {
        to.push_str(part);
    }
}

impl Haystack for [u8] {
    const BYTES: bool = true;

    #[inline]
    fn raw(&self) -> &[u8] {
        self
    }

    #[inline]
    #[track_caller]
    fn part(&self, start: usize, end: usize) -> &[u8] {
        &self[start..end]
    }

    fn append(to: &mut Vec<u8>, part: &[u8]) {
        to.extend_from_slice(part);
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for str {}
    impl Sealed for [u8] {}
}
