//! Norms over rows, batches, groups and instances.

use cupola_tensor::Tensor;

use super::{Case, Reader, Results, named, one};

/// Over the last dimensions, which are made one.
fn layer_norm(case: &Case) -> Results {
    let dims = case.sizes("normalized_shape").expect("sizes").len() as isize;
    let row = |x: &Tensor| x.flatten_dims(-dims, -1);
    let (weight, bias) = (case.maybe("weight").map(row), case.maybe("bias").map(row));
    let norm = |x: &Tensor| row(x).layer_norm(weight.as_ref(), bias.as_ref(), case.number("eps")).reshape(x.shape());
    match case.maybe("residual") {
        Some(residual) => {
            let eps = case.number("eps");
            let (y, sum) = row(case.x()).layer_norm_residual(&row(residual), weight.as_ref(), bias.as_ref(), eps);
            named([("y", y.reshape(case.x().shape())), ("sum", sum.reshape(case.x().shape()))])
        }
        None => one(norm(case.x())),
    }
}

fn rms_norm(case: &Case) -> Results {
    let (weight, eps) = (case.maybe("weight"), case.number("eps"));
    match case.maybe("residual") {
        Some(residual) => {
            let (y, sum) = case.x().rms_norm_residual(residual, weight, eps);
            named([("y", y), ("sum", sum)])
        }
        None => one(case.x().rms_norm(weight, eps)),
    }
}

/// With the running statistics as PyTorch keeps them: of the unbiased variance.
fn batch_norm(case: &Case) -> Results {
    let (weight, bias, eps) = (case.maybe("weight"), case.maybe("bias"), case.number("eps"));
    let (mean, var, momentum) = (case.arg("running_mean"), case.arg("running_var"), case.number("momentum"));
    if !case.flag("training") {
        let y = case.x().batch_norm_given(mean, var, weight, bias, eps);
        return named([("y", y), ("running_mean", mean.clone()), ("running_var", var.clone())]);
    }
    let (y, batch_mean, batch_var) = case.x().batch_norm(weight, bias, eps);
    let count = (case.x().numel() / mean.numel()) as f64;
    let unbiased = batch_var.detach() * (count / (count - 1.0));
    let moved = |old: &Tensor, new: &Tensor| old * (1.0 - momentum) + new * momentum;
    let (mean, var) = (moved(mean, &batch_mean.detach()), moved(var, &unbiased));
    named([("y", y), ("running_mean", mean), ("running_var", var)])
}

pub fn readers() -> Vec<Reader> {
    vec![
        Reader::new("layer_norm", &["layer_norm"], layer_norm),
        Reader::new("rms_norm", &["rms_norm"], rms_norm),
        Reader::new("batch_norm", &["batch_norm", "batch_norm_given"], batch_norm),
        Reader::new("group_norm", &["group_norm"], |case| {
            let (weight, bias) = (case.maybe("weight"), case.maybe("bias"));
            one(case.x().group_norm(case.size("num_groups"), weight, bias, case.number("eps")))
        }),
        Reader::new("instance_norm", &["group_norm"], |case| {
            one(case.x().instance_norm(case.maybe("weight"), case.maybe("bias"), case.number("eps")))
        }),
    ]
}
