//! `#[module(...)]` on a field.

use syn::spanned::Spanned;
use syn::{Error, Field, LitStr};

/// How a field takes part in the walk.
pub enum Walk {
    /// Under this name.
    Named(String),
    /// Under its owner's name.
    Flatten,
    /// Not at all.
    Skip,
}

/// What the attributes of `field` say; `name` is the one it has without any.
pub fn walk(field: &Field, name: Option<String>) -> Result<Walk, Error> {
    let (mut rename, mut flatten, mut skip) = (None, false, false);
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("module")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") {
                let name: LitStr = meta.value()?.parse()?;
                if name.value().is_empty() {
                    return Err(Error::new(name.span(), "a name cannot be empty; `flatten` leaves it out"));
                }
                rename = Some(name.value());
            } else if meta.path.is_ident("flatten") {
                flatten = true;
            } else if meta.path.is_ident("skip") {
                skip = true;
            } else {
                return Err(meta.error("expected `rename = \"...\"`, `flatten` or `skip`"));
            }
            Ok(())
        })?;
    }
    if usize::from(rename.is_some()) + usize::from(flatten) + usize::from(skip) > 1 {
        return Err(Error::new(field.span(), "`rename`, `flatten` and `skip` exclude each other"));
    }
    Ok(match (skip, flatten, rename.or(name)) {
        (true, ..) => Walk::Skip,
        (_, false, Some(name)) => Walk::Named(name),
        _ => Walk::Flatten,
    })
}
