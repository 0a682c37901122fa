//! The implementation that the derive writes.

use std::collections::BTreeSet;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Member, Type, parse_quote};

use crate::attributes::{Walk, walk};
use crate::root::root;

/// Which of the two walks is being written.
#[derive(Clone, Copy)]
enum Kind {
    Shared,
    Mutable,
}

impl Kind {
    fn method(self) -> Ident {
        Ident::new(if matches!(self, Kind::Shared) { "visit" } else { "visit_mut" }, Span::call_site())
    }
}

pub fn module(input: &DeriveInput) -> Result<TokenStream, Error> {
    let (name, root) = (&input.ident, root());
    let (shared, mutable) = (body(input, Kind::Shared)?, body(input, Kind::Mutable)?);
    let mut generics = input.generics.clone();
    let used = walked_parameters(input)?;
    let predicates = &mut generics.make_where_clause().predicates;
    for parameter in used {
        predicates.push(parse_quote!(#parameter: #root::Module));
    }
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let text = name.to_string();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics #root::module::Field for #name #type_generics #where_clause {
            fn visit<'visit>(
                &'visit self,
                path: &mut #root::module::Path,
                visitor: &mut dyn #root::module::Visitor<'visit>,
            ) {
                visitor.enter(path, #text);
                #shared
                visitor.leave(path);
            }

            fn visit_mut<'visit>(
                &'visit mut self,
                path: &mut #root::module::Path,
                visitor: &mut dyn #root::module::VisitorMut<'visit>,
            ) {
                #mutable
            }
        }

        #[automatically_derived]
        impl #impl_generics #root::Module for #name #type_generics #where_clause {}
    })
}

fn body(input: &DeriveInput, kind: Kind) -> Result<TokenStream, Error> {
    match &input.data {
        Data::Struct(data) => {
            let visits = visits(&data.fields, kind)?;
            let pattern = pattern(&data.fields)?;
            Ok(quote! { let Self #pattern = self; #visits })
        }
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                let ident = &variant.ident;
                let (pattern, visits) = (pattern(&variant.fields)?, visits(&variant.fields, kind)?);
                Ok(quote! { Self::#ident #pattern => { #visits } })
            });
            let arms = arms.collect::<Result<Vec<_>, Error>>()?;
            if arms.is_empty() {
                return Ok(quote! { match *self {} });
            }
            Ok(quote! { match self { #(#arms)* } })
        }
        Data::Union(data) => Err(Error::new(data.union_token.span, "a union cannot be a module")),
    }
}

fn members(fields: &Fields) -> impl Iterator<Item = (Member, Ident, Option<String>, &syn::Field)> {
    let newtype = matches!(fields, Fields::Unnamed(all) if all.unnamed.len() == 1);
    fields.iter().enumerate().map(move |(index, field)| {
        let member = field.ident.clone().map_or_else(|| Member::from(index), Member::Named);
        let name = match &field.ident {
            // `r#type` is called `type` in files.
            Some(ident) => Some(ident.to_string().trim_start_matches("r#").to_string()),
            None if newtype => None,
            None => Some(index.to_string()),
        };
        (member, format_ident!("field_{}", index), name, field)
    })
}

fn pattern(fields: &Fields) -> Result<TokenStream, Error> {
    let bindings = members(fields).map(|(member, binding, name, field)| {
        Ok(match walk(field, name)? {
            Walk::Skip => quote! { #member: _ },
            _ => quote! { #member: #binding },
        })
    });
    let bindings = bindings.collect::<Result<Vec<_>, Error>>()?;
    Ok(quote! { { #(#bindings),* } })
}

fn visits(fields: &Fields, kind: Kind) -> Result<TokenStream, Error> {
    let (method, root) = (kind.method(), root());
    let mut all = TokenStream::new();
    for (_, binding, name, field) in members(fields) {
        let ty = &field.ty;
        // The field's own span, so that "is not a Field" points at the type that is not.
        let visit = quote_spanned! { ty.span() =>
            <#ty as #root::module::Field>::#method(#binding, path, visitor);
        };
        all.extend(match walk(field, name)? {
            Walk::Skip => TokenStream::new(),
            Walk::Flatten => visit,
            Walk::Named(name) => quote! { path.push(#name); #visit path.pop(); },
        });
    }
    Ok(all)
}

/// The type parameters that walked fields mention; those of skipped fields and of `PhantomData` need not be modules.
fn walked_parameters(input: &DeriveInput) -> Result<Vec<Ident>, Error> {
    let all: Vec<&Fields> = match &input.data {
        Data::Struct(data) => vec![&data.fields],
        Data::Enum(data) => data.variants.iter().map(|v| &v.fields).collect(),
        Data::Union(_) => Vec::new(),
    };
    let mut mentioned = BTreeSet::new();
    for fields in all {
        for (_, _, name, field) in members(fields) {
            if !matches!(walk(field, name)?, Walk::Skip) && !is_phantom(&field.ty) {
                idents(field.ty.to_token_stream(), &mut mentioned);
            }
        }
    }
    Ok(input
        .generics
        .type_params()
        .map(|p| p.ident.clone())
        .filter(|ident| mentioned.contains(&ident.to_string()))
        .collect())
}

fn is_phantom(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|s| s.ident == "PhantomData"))
}

fn idents(tokens: TokenStream, found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                found.insert(ident.to_string());
            }
            TokenTree::Group(group) => idents(group.stream(), found),
            _ => {}
        }
    }
}
