//! The operations, one file each: what it computes, its forward, its backward, its reference, its test cases.

pub use crate::chunked::MatrixState;
pub use crate::compute::Window;
pub use crate::recurrent::{CellWeights, Order, Recurrent};
use crate::tensor::Tensor;
pub use causal_conv::{CausalConvConfig, causal_conv1d};
pub use conv::ConvConfig;
pub use gated_delta_rule::{DeltaRuleConfig, gated_delta_rule};
pub use gated_linear_attention::gated_linear_attention;
pub use gru::gru;
pub use lstm::lstm;
pub use rnn::{Nonlinearity, rnn};
pub use selective_scan::{SelectiveScanConfig, selective_scan};
pub use ssd::{SsdConfig, ssd};

/// Declares the operation files, their registry, and the test that runs every case of every file.
macro_rules! operations {
    ($($module:ident),* $(,)?) => {
        $(pub mod $module;)*

        /// Every operation of this crate, by file.
        pub const REGISTRY: &[(&str, &[crate::op::OpInfo])] = &[$((stringify!($module), $module::OPS)),*];

        #[cfg(test)]
        mod cases {
            $(
                #[test]
                fn $module() {
                    super::check_cases(stringify!($module), super::$module::OPS, super::$module::cases());
                }
            )*
        }
    };
}

mod row_norm;
pub mod unary;

/// Composites, written from operations alone.
pub mod einsum;

operations! {
    activations,
    adaptive_avg_pool,
    affine,
    angles,
    arithmetic,
    attention,
    avg_pool,
    batch_norm,
    cast,
    causal_conv,
    choose,
    comparison,
    concat,
    contiguous,
    conv,
    conv_transpose,
    cross_entropy,
    cumsum,
    dropout,
    embedding,
    expand,
    functions,
    gated_delta_rule,
    gated_linear_attention,
    gather,
    glu,
    group_norm,
    grouped_linear,
    layer_norm,
    gru,
    linear,
    lstm,
    matmul,
    max_pool,
    permute,
    reduction,
    reshape,
    rms_norm,
    rotary,
    rnn,
    selective_scan,
    slice,
    softmax,
    sort,
    split,
    ssd,
    sum,
    triangle,
}

/// `dy * f'(x)` for a function whose derivative is taken from its input.
pub(crate) fn unary_backward<F: cupola_cpu::unary::UnaryKernel>(function: F, x: &Tensor, dy: &Tensor) -> Tensor {
    let (x, dy) = (x.contiguous(), dy.contiguous());
    crate::dispatch::with_float!(F::NAME, x.dtype(), T => Tensor::build::<T>(*x.shape(), |dx| {
        cupola_cpu::unary::backward(function, x.slice_of::<T>(), dy.slice_of::<T>(), dx);
    }))
}

#[cfg(test)]
fn check_cases(file: &str, ops: &[crate::op::OpInfo], cases: Vec<crate::testing::Case>) {
    use crate::op::Differentiable;
    assert!(!cases.is_empty(), "{file}: there are no cases");
    let checked = cases.iter().any(crate::testing::Case::is_gradient_check);
    let differentiable = ops.iter().any(|op| op.differentiable == Differentiable::Yes);
    assert_eq!(checked, differentiable, "{file}: gradient checks and declared differentiability disagree");
    cases.iter().for_each(|case| case.check(file));
}

#[cfg(test)]
mod tests {
    use super::REGISTRY;

    #[test]
    fn names_are_unique_and_every_operation_in_a_file_is_listed() {
        let mut names = std::collections::BTreeSet::new();
        for (file, ops) in REGISTRY {
            assert!(ops.iter().all(|op| names.insert(op.name)), "{file}: a name is taken twice");
            let path = format!("{}/src/ops/{file}.rs", env!("CARGO_MANIFEST_DIR"));
            let source = std::fs::read_to_string(&path).expect("the file that declares the module");
            let implemented =
                source.lines().filter(|line| line.starts_with("impl") && line.contains("Op for ")).count();
            // A list that a macro of the file turns into operations.
            let implemented = implemented + source.matches("\nreduction!(").count();
            let implemented = implemented
                + source
                    .lines()
                    .filter(|line| {
                        *file == "arithmetic" && line.contains(" => ") && line.ends_with(';') && !line.contains("$")
                    })
                    .count();
            // A line of an `elementwise!` list declares its operation by method and kernel.
            let declared = source.lines().filter(|line| line.contains(") => ") && line.contains(", on ")).count();
            assert_eq!(implemented + declared, ops.len(), "{file}: operations implemented and listed");
        }
    }
}
