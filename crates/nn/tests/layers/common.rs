//! What the groups of layers share.

use cupola_tensor::{DType, Rng, Tensor};

use crate::support::{Case, Golden};

pub const TOLERANCE: f64 = 1e-10;

pub fn uniform(shape: &[usize], seed: u64) -> Tensor {
    (Tensor::rand(shape, Rng::seed(seed)) * 2.0 - 1.0).to_dtype(DType::F64)
}

pub fn all(file: &str, check: impl Fn(&Case)) {
    let golden = Golden::of_tensor(file);
    golden.cases.iter().for_each(check);
}
