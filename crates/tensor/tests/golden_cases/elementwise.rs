//! Functions of one and two arguments, activations, gates.

use cupola_tensor::Tensor;
use cupola_tensor::ops::glu::Gate;

use super::{Case, Reader, one};

fn gelu_form(case: &Case) -> Gate {
    match case.text("approximate") {
        "none" => Gate::Gelu,
        "tanh" => Gate::GeluTanh,
        other => panic!("{}: {other} is no form of GELU", case.label),
    }
}

/// `ln(1 + e^(beta x)) / beta`, and x itself from the threshold on, as PyTorch shortens it.
fn softplus(case: &Case) -> Tensor {
    let scaled = case.x() * case.number("beta");
    let beyond = scaled.gt_scalar(case.number("threshold")).to_dtype(case.dtype);
    (&scaled * &beyond + scaled.softplus() * (1.0 - &beyond)) * (1.0 / case.number("beta"))
}

pub fn readers() -> Vec<Reader> {
    vec![
        Reader::new("abs", &["abs"], |case| one(case.x().abs())),
        Reader::new("exp", &["exp"], |case| one(case.x().exp())),
        Reader::new("log", &["log"], |case| one(case.x().log())),
        Reader::new("sqrt", &["sqrt"], |case| one(case.x().sqrt())),
        Reader::new("rsqrt", &["rsqrt"], |case| one(case.x().rsqrt())),
        Reader::new("square", &["square"], |case| one(case.x().square())),
        Reader::new("recip", &["recip"], |case| one(case.x().recip())),
        Reader::new("sin", &["sin"], |case| one(case.x().sin())),
        Reader::new("cos", &["cos"], |case| one(case.x().cos())),
        Reader::new("tanh", &["tanh"], |case| one(case.x().tanh())),
        Reader::new("sigmoid", &["sigmoid"], |case| one(case.x().sigmoid())),
        Reader::new("erf", &["erf"], |case| one(case.x().erf())),
        Reader::new("floor", &["floor"], |case| one(case.x().floor())),
        Reader::new("ceil", &["ceil"], |case| one(case.x().ceil())),
        Reader::new("round", &["round"], |case| one(case.x().round())),
        Reader::new("sign", &["sign"], |case| one(case.x().sign())),
        Reader::new("relu", &["relu"], |case| one(case.x().relu())),
        Reader::new("silu", &["silu"], |case| one(case.x().silu())),
        Reader::new("mish", &["mish"], |case| one(case.x().mish())),
        Reader::new("hardswish", &["hardswish"], |case| one(case.x().hardswish())),
        Reader::new("softplus", &["softplus"], |case| one(softplus(case))),
        Reader::new("elu", &["elu"], |case| one(case.x().elu(case.number("alpha")))),
        Reader::new("leaky_relu", &["leaky_relu"], |case| one(case.x().leaky_relu(case.number("negative_slope")))),
        Reader::new("gelu", &["gelu", "gelu_tanh"], |case| {
            one(match gelu_form(case) {
                Gate::GeluTanh => case.x().gelu_tanh(),
                _ => case.x().gelu(),
            })
        }),
        Reader::new("swiglu", &["glu"], |case| one(case.arg("gate").swiglu(case.arg("up")))),
        Reader::new("geglu", &["glu"], |case| one(case.arg("gate").glu(case.arg("up"), gelu_form(case)))),
        Reader::new("affine", &["affine"], |case| one(case.x().affine(case.number("scale"), case.number("shift")))),
        Reader::new("add", &["add"], |case| one(case.arg("a") + case.arg("b"))),
        Reader::new("sub", &["sub"], |case| one(case.arg("a") - case.arg("b"))),
        Reader::new("mul", &["mul"], |case| one(case.arg("a") * case.arg("b"))),
        Reader::new("div", &["div"], |case| one(case.arg("a") / case.arg("b"))),
        Reader::new("minimum", &["minimum"], |case| one(case.arg("a").minimum(case.arg("b")))),
        Reader::new("maximum", &["maximum"], |case| one(case.arg("a").maximum(case.arg("b")))),
        Reader::new("pow", &["pow"], |case| {
            one(match case.maybe("exponent") {
                Some(exponent) => case.x().pow(exponent),
                None => case.x().pow_scalar(case.number("exponent")),
            })
        }),
    ]
}
