//! The operations, one file each: what it computes, its forward, its backward, its reference, its test cases.

pub mod activations;
pub mod adaptive_avg_pool;
pub mod affine;
pub mod angles;
pub mod arg_extreme;
pub mod arithmetic;
pub mod attention;
pub mod avg_pool;
pub mod batch_norm;
pub mod cast;
pub mod causal_conv;
pub mod choose;
pub mod clamp;
pub mod comparison;
pub mod concat;
pub mod contiguous;
pub mod conv;
pub mod conv_transpose;
pub mod cross_entropy;
pub mod cumsum;
pub mod dropout;
pub mod einsum;
pub mod embedding;
pub mod expand;
pub mod functions;
pub mod gated_delta_rule;
pub mod gated_linear_attention;
pub mod gather;
pub mod glu;
pub mod group_norm;
pub mod grouped_linear;
pub mod gru;
pub mod layer_norm;
pub mod linear;
pub mod linear_cross_entropy;
pub mod lstm;
pub mod matmul;
pub mod max_pool;
pub mod permute;
pub mod reduction;
pub mod reshape;
pub mod rms_norm;
pub mod rnn;
pub mod rotary;
mod row_norm;
pub mod selective_scan;
pub mod slice;
pub mod softmax;
pub mod sort;
pub mod split;
pub mod ssd;
pub mod sum;
pub mod triangle;
pub mod unary;

pub use crate::chunked::MatrixState;
pub use crate::compute::Window;
pub use crate::recurrent::{CellWeights, Order, Recurrent};
use crate::tensor::Tensor;
pub use causal_conv::{CausalConvConfig, causal_conv1d};
pub use conv::ConvConfig;
pub use gated_delta_rule::{DeltaRuleConfig, gated_delta_rule};
pub use gated_linear_attention::gated_linear_attention;
pub use grouped_linear::grouped_linear;
pub use gru::gru;
pub use linear_cross_entropy::linear_cross_entropy;
pub use lstm::lstm;
pub use rnn::{Nonlinearity, rnn};
pub use selective_scan::{SelectiveScanConfig, selective_scan};
pub use ssd::{SsdConfig, ssd};

/// Lists the files that hold operations: their registry, and the test that runs every case of every file. The files themselves
/// are declared above, where the formatter finds them.
macro_rules! registry {
    ($($module:ident),* $(,)?) => {
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

registry! {
    activations,
    adaptive_avg_pool,
    affine,
    angles,
    arg_extreme,
    arithmetic,
    attention,
    avg_pool,
    batch_norm,
    cast,
    causal_conv,
    choose,
    clamp,
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
    gru,
    layer_norm,
    linear,
    linear_cross_entropy,
    lstm,
    matmul,
    max_pool,
    permute,
    reduction,
    reshape,
    rms_norm,
    rnn,
    rotary,
    selective_scan,
    slice,
    softmax,
    sort,
    split,
    ssd,
    sum,
    triangle,
}

/// `dy * f'(x)` for a function whose derivative is taken from its input; over `dy` where nobody else holds it.
pub(crate) fn unary_backward<F: cupola_cpu::unary::UnaryKernel>(function: F, x: &Tensor, dy: Tensor) -> Tensor {
    let (x, mut dy) = (x.contiguous(), dy.contiguous());
    crate::dispatch::with_float!(F::NAME, x.dtype(), T => {
        if let Some(slope) = dy.as_mut_slice::<T>() {
            cupola_cpu::unary::backward_in_place(function, x.slice_of::<T>(), slope);
            return dy;
        }
        Tensor::build::<T>(*x.shape(), |dx| {
            cupola_cpu::unary::backward(function, x.slice_of::<T>(), dy.slice_of::<T>(), dx);
        })
    })
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
    fn every_file_that_offers_operations_is_in_the_registry() {
        let folder = format!("{}/src/ops", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(folder).expect("the folder of this file") {
            let path = entry.expect("an entry of that folder").path();
            let Some(source) = path.is_file().then(|| std::fs::read_to_string(&path).expect("a source file")) else {
                continue;
            };
            let name = path.file_stem().expect("a file has a name").to_string_lossy();
            let listed = REGISTRY.iter().any(|(file, _)| *file == name);
            let offers = name != "mod" && source.contains("\npub const OPS");
            assert!(listed || !offers, "{name}.rs offers operations and is not listed");
        }
    }

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
