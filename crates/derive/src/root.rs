//! Under which name the user's crate knows `cupola-nn`.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

/// The path of `cupola-nn`: that crate where the manifest depends on it, else the module `nn` of `cupola`.
pub fn root() -> TokenStream {
    match crate_name("cupola-nn") {
        Ok(FoundCrate::Name(name)) => path(&name),
        // Inside of cupola-nn, whose tests and documentation know it by its own name.
        Ok(FoundCrate::Itself) => path("cupola_nn"),
        Err(_) => match crate_name("cupola") {
            Ok(FoundCrate::Name(name)) => {
                let cupola = path(&name);
                quote! { #cupola::nn }
            }
            Ok(FoundCrate::Itself) => quote! { ::cupola::nn },
            Err(_) => path("cupola_nn"),
        },
    }
}

fn path(name: &str) -> TokenStream {
    let ident = Ident::new(name, Span::call_site());
    quote! { ::#ident }
}
