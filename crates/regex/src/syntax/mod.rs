//! From the text of a pattern to its meaning.
//!
//! - [`ast`]: what was written.
//! - `parser`, `escape`, `class`: text to [`ast::Ast`].
//! - `lower`, `sets`, `conjuncts`: [`ast::Ast`] to [`crate::hir::Hir`], with flags, Unicode and case folding resolved.

pub mod ast;
mod class;
mod conjuncts;
mod escape;
mod lower;
mod parser;
mod sets;

pub use lower::lower;
pub use parser::parse;
