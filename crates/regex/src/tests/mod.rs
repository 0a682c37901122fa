//! Tests that look inside: every engine against the definition.

mod differential;
mod growth;
pub mod splitting;
