//! Tests that look inside: every engine against the definition.

mod differential;
mod reference;
mod splitting;
