//! Replacements: templates, literal text, closures.

use super::captures::Captures;
use super::haystack::Haystack;

/// What a match is replaced by.
///
/// Strings are templates, see [`Captures::expand`]; [`NoExpand`] makes them literal; closures get the groups and return
/// the text.
pub trait Replacer<H: Haystack + ?Sized> {
    /// Appends the replacement of one match.
    fn replace_append(&mut self, captures: &Captures<'_, H>, to: &mut H::Owned);
}

/// Text that replaces a match as it is, dollar signs and all.
#[derive(Debug, Clone, Copy)]
pub struct NoExpand<'s, H: Haystack + ?Sized = str>(pub &'s H);

impl<H: Haystack + ?Sized> Replacer<H> for NoExpand<'_, H> {
    fn replace_append(&mut self, _: &Captures<'_, H>, to: &mut H::Owned) {
        H::append(to, self.0);
    }
}

impl Replacer<str> for &str {
    fn replace_append(&mut self, captures: &Captures<'_>, to: &mut String) {
        captures.expand(self, to);
    }
}

impl Replacer<str> for String {
    fn replace_append(&mut self, captures: &Captures<'_>, to: &mut String) {
        captures.expand(self, to);
    }
}

impl Replacer<str> for &String {
    fn replace_append(&mut self, captures: &Captures<'_>, to: &mut String) {
        captures.expand(self, to);
    }
}

impl Replacer<[u8]> for &[u8] {
    fn replace_append(&mut self, captures: &Captures<'_, [u8]>, to: &mut Vec<u8>) {
        captures.expand(self, to);
    }
}

impl<const N: usize> Replacer<[u8]> for &[u8; N] {
    fn replace_append(&mut self, captures: &Captures<'_, [u8]>, to: &mut Vec<u8>) {
        captures.expand(&self[..], to);
    }
}

impl Replacer<[u8]> for Vec<u8> {
    fn replace_append(&mut self, captures: &Captures<'_, [u8]>, to: &mut Vec<u8>) {
        captures.expand(self, to);
    }
}

impl<H, F, T> Replacer<H> for F
where
    H: Haystack + ?Sized,
    F: FnMut(&Captures<'_, H>) -> T,
    T: AsRef<H>,
{
    fn replace_append(&mut self, captures: &Captures<'_, H>, to: &mut H::Owned) {
        H::append(to, self(captures).as_ref());
    }
}
