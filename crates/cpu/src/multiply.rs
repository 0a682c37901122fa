//! Which matrix product serves a type that kernels compute in.

use crate::gemm::{Accumulator, F32, F64, Lhs, Output, Product, Rhs};
use crate::real::Real;

/// A type that kernels compute in and that is multiplied by a [`Product`] of its own.
pub trait Multiply: Real + Accumulator + Output<Self> + Lhs<Self::Product> + Rhs<Self::Product> {
    /// The product whose operands and sums are of this type.
    type Product: Product<Acc = Self>;
}

impl Multiply for f32 {
    type Product = F32;
}

impl Multiply for f64 {
    type Product = F64;
}
