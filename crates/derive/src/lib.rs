//! `#[derive(Module)]`, which `cupola-nn` re-exports and documents with its trait `Module`.

mod attributes;
mod expand;
mod root;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Field` and `Module` by walking the fields, each under its own name.
///
/// * A struct's fields are named as they are written, those of a tuple struct `0`, `1`, ...; the one field of a newtype takes the
///   name of the newtype itself. An enum walks the fields of the variant it is, under the names of those fields alone.
/// * `#[module(rename = "name")]` on a field gives it another name in paths and files.
/// * `#[module(flatten)]` leaves the field's own name out: what is inside appears beside its neighbours.
/// * `#[module(skip)]` leaves the field out altogether; it may then be of any type.
///
/// A field of a type that is no `Field` (module, parameter, buffer, plain value, or a container of these) does not compile
/// unless it is skipped. A type parameter that a walked field mentions must be a `Module`.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::module(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
