//! Replacements: templates, literal text, closures.

use std::borrow::Cow;

use super::captures::Captures;
use super::haystack::Haystack;

/// What a match is replaced by.
///
/// Strings are templates, see [`Captures::expand`]; [`NoExpand`] makes them literal; closures get the groups and return
/// the text.
pub trait Replacer<H: Haystack + ?Sized> {
    /// Appends the replacement of one match.
    fn replace_append(&mut self, captures: &Captures<'_, H>, to: &mut H::Owned);

    /// The replacement, if it is the same for every match; groups are not searched for then.
    fn no_expansion(&mut self) -> Option<Cow<'_, H>> {
        None
    }

    /// The same replacement borrowed, to be used again afterwards.
    fn by_ref(&mut self) -> ReplacerRef<'_, Self> {
        ReplacerRef(self)
    }
}

/// A borrowed replacement. See [`Replacer::by_ref`].
#[derive(Debug)]
pub struct ReplacerRef<'r, R: ?Sized>(&'r mut R);

impl<H: Haystack + ?Sized, R: Replacer<H> + ?Sized> Replacer<H> for ReplacerRef<'_, R> {
    fn replace_append(&mut self, captures: &Captures<'_, H>, to: &mut H::Owned) {
        self.0.replace_append(captures, to);
    }

    fn no_expansion(&mut self) -> Option<Cow<'_, H>> {
        self.0.no_expansion()
    }
}

/// Text that replaces a match as it is, dollar signs and all.
#[derive(Debug, Clone, Copy)]
pub struct NoExpand<'s, H: Haystack + ?Sized = str>(pub &'s H);

impl<H: Haystack + ?Sized> Replacer<H> for NoExpand<'_, H> {
    fn replace_append(&mut self, _: &Captures<'_, H>, to: &mut H::Owned) {
        H::append(to, self.0);
    }

    fn no_expansion(&mut self) -> Option<Cow<'_, H>> {
        Some(Cow::Borrowed(self.0))
    }
}

/// `template`, if there is no reference in it.
fn literal<H: Haystack + ?Sized>(template: &H) -> Option<Cow<'_, H>> {
    memchr::memchr(b'$', template.raw()).is_none().then_some(Cow::Borrowed(template))
}

/// Types that hold a template.
macro_rules! templates {
    ($haystack:ty: $($type:ty),+) => {
        $(
            impl Replacer<$haystack> for $type {
                fn replace_append(&mut self, captures: &Captures<'_, $haystack>, to: &mut <$haystack as ToOwned>::Owned) {
                    captures.expand(<Self as AsRef<$haystack>>::as_ref(self), to);
                }

                fn no_expansion(&mut self) -> Option<Cow<'_, $haystack>> {
                    literal(<Self as AsRef<$haystack>>::as_ref(self))
                }
            }
        )+
    };
}

templates!(str: &str, String, &String, Cow<'_, str>, &Cow<'_, str>);
templates!([u8]: &[u8], Vec<u8>, &Vec<u8>, Cow<'_, [u8]>, &Cow<'_, [u8]>);

impl<const N: usize> Replacer<[u8]> for &[u8; N] {
    fn replace_append(&mut self, captures: &Captures<'_, [u8]>, to: &mut Vec<u8>) {
        captures.expand(&self[..], to);
    }

    fn no_expansion(&mut self) -> Option<Cow<'_, [u8]>> {
        literal(&self[..])
    }
}

impl<const N: usize> Replacer<[u8]> for [u8; N] {
    fn replace_append(&mut self, captures: &Captures<'_, [u8]>, to: &mut Vec<u8>) {
        captures.expand(&self[..], to);
    }

    fn no_expansion(&mut self) -> Option<Cow<'_, [u8]>> {
        literal(&self[..])
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
