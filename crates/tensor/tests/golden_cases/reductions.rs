//! Reductions over dimensions, softmax and its kin, cumulative sums.

use cupola_tensor::Tensor;

use super::{Case, Reader, one};

/// Calls one of two methods over the dimensions that a case names.
macro_rules! over {
    ($case:expr, $x:expr, $method:ident, $keepdim:ident $(, $extra:expr)*) => {{
        let (axes, x) = ($case.axes("dim").unwrap_or_default(), $x);
        let keepdim = $case.flag("keepdim");
        match (&axes[..], keepdim) {
            (&[], false) => x.$method([] $(, $extra)*),
            (&[], true) => x.$keepdim([] $(, $extra)*),
            (&[a], false) => x.$method([a] $(, $extra)*),
            (&[a], true) => x.$keepdim([a] $(, $extra)*),
            (&[a, b], false) => x.$method([a, b] $(, $extra)*),
            (&[a, b], true) => x.$keepdim([a, b] $(, $extra)*),
            (axes, _) => panic!("{}: dimensions {axes:?}", $case.label),
        }
    }};
}

/// `(sum of |x|^p)^(1/p)`.
fn norm(case: &Case) -> Tensor {
    let p = case.number("p");
    if p == 2.0 {
        return over!(case, case.x(), norm_of, norm_keepdim);
    }
    over!(case, case.x().abs().pow_scalar(p), sum, sum_keepdim).pow_scalar(1.0 / p)
}

pub fn readers() -> Vec<Reader> {
    vec![
        Reader::new("sum", &["sum"], |case| one(over!(case, case.x(), sum, sum_keepdim))),
        Reader::new("mean", &["mean"], |case| one(over!(case, case.x(), mean, mean_keepdim))),
        Reader::new("max", &["max"], |case| one(over!(case, case.x(), max, max_keepdim))),
        Reader::new("min", &["min"], |case| one(over!(case, case.x(), min, min_keepdim))),
        Reader::new("prod", &["prod"], |case| one(over!(case, case.x(), prod, prod_keepdim))),
        Reader::new("var", &["var"], |case| one(over!(case, case.x(), var, var_keepdim, case.number("correction")))),
        Reader::new("std", &["var", "sqrt"], |case| {
            one(over!(case, case.x(), std, std_keepdim, case.number("correction")))
        }),
        Reader::new("norm", &["norm"], |case| one(norm(case))),
        // The arguments of the case `large` are near 1000, where f32 is 6e-5 wide.
        Reader::new("logsumexp", &["logsumexp"], |case| one(over!(case, case.x(), logsumexp, logsumexp_keepdim)))
            .chain(),
        Reader::new("softmax", &["softmax"], |case| one(case.x().softmax(case.axis("dim")))).chain(),
        Reader::new("log_softmax", &["log_softmax"], |case| one(case.x().log_softmax(case.axis("dim")))).chain(),
        Reader::new("cumsum", &["cumsum"], |case| one(case.x().cumsum(case.axis("dim")))),
    ]
}
