//! Losses against PyTorch, and their gradients against differences.

mod support;

use cupola_nn::losses::{
    BceLoss, BceWithLogitsLoss, CosineEmbeddingLoss, CrossEntropyLoss, FocalLoss, HuberLoss, KlDivLoss, KlDivReduction,
    L1Loss, LOSSES, MseLoss, NllLoss, Reduction, SmoothL1Loss, bce, focal, nll,
};
use cupola_tensor::{DType, Gradients, Rng, Tensor, gradcheck};
use support::{Case, Golden};

fn reduction(case: &Case) -> Reduction {
    match case.text("reduction") {
        "none" => Reduction::None,
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        other => panic!("{other} is no reduction"),
    }
}

/// The loss that `case` of the golden file `name` is about, as a function of its float inputs in the order given by `inputs`.
fn loss(name: &str, case: &Case, x: &Tensor, target: &Tensor, other: Option<&Tensor>) -> Tensor {
    let weight = case.get("in.weight").cloned();
    match name {
        "mse" => MseLoss { reduction: reduction(case) }.forward(x, target),
        "l1" => L1Loss { reduction: reduction(case) }.forward(x, target),
        "smooth_l1" => SmoothL1Loss { beta: case.number("beta"), reduction: reduction(case) }.forward(x, target),
        "huber" => HuberLoss { delta: case.number("delta"), reduction: reduction(case) }.forward(x, target),
        "cross_entropy" => {
            let ignore_index = case.attributes["ignore_index"].as_i64().expect("an index");
            let (label_smoothing, z_loss) = (case.number("label_smoothing"), case.number("z_loss"));
            let reduction = reduction(case);
            CrossEntropyLoss { weight, ignore_index, label_smoothing, z_loss, divisor: None, reduction }
                .forward(x, target)
        }
        "nll" => {
            let ignore_index = case.attributes["ignore_index"].as_i64().expect("an index");
            NllLoss { weight, ignore_index, reduction: reduction(case) }.forward(x, target)
        }
        "bce" => BceLoss { weight, reduction: reduction(case) }.forward(x, target),
        "bce_with_logits" => {
            let pos_weight = case.get("in.pos_weight").cloned();
            BceWithLogitsLoss { weight, pos_weight, reduction: reduction(case) }.forward(x, target)
        }
        "kl_div" => {
            let reduction = match case.text("reduction") {
                "batchmean" => KlDivReduction::BatchMean,
                "none" => KlDivReduction::None,
                "mean" => KlDivReduction::Mean,
                _ => KlDivReduction::Sum,
            };
            KlDivLoss { log_target: case.flag("log_target"), reduction }.forward(x, target)
        }
        "focal" => {
            let alpha = case.attributes["alpha"].as_f64();
            FocalLoss { alpha, gamma: case.number("gamma"), reduction: reduction(case) }.forward(x, target)
        }
        "cosine_embedding" => {
            let other = other.expect("two inputs");
            CosineEmbeddingLoss { margin: case.number("margin"), reduction: reduction(case) }.forward(x, other, target)
        }
        other => panic!("{other} has no golden case"),
    }
}

/// The golden file of a loss; that of the fused operation lies with the operations.
fn golden(name: &str) -> Golden {
    if name == "cross_entropy" { Golden::of_tensor(name) } else { Golden::open(name) }
}

#[test]
fn every_loss_has_pytorch_s_values_and_gradients() {
    for name in LOSSES {
        let golden = golden(name);
        assert!(golden.cases.len() >= 3, "{name}: a case for every reduction");
        for case in &golden.cases {
            let mut leaves: Vec<(&str, Tensor)> = Vec::new();
            for input in ["x", "other", "target"] {
                if let Some(tensor) = case.get(&format!("in.{input}")) {
                    let wanted = case.get(&format!("din.{input}")).is_some();
                    leaves.push((input, if wanted { tensor.requires_grad() } else { tensor.clone() }));
                }
            }
            let leaf = |name: &str| leaves.iter().find(|(input, _)| *input == name).map(|(_, tensor)| tensor);
            let (x, target) = (leaf("x").expect("an input"), leaf("target").expect("a target"));
            let y = loss(name, case, x, target, leaf("other"));
            case.close("out.y", &y, 1e-10);
            if let Some(dy) = case.get("dout.y") {
                let mut grads = Gradients::new();
                cupola_tensor::autograd::backward::backward_from(&[(&y, dy.clone())], &mut grads);
                for (input, tensor) in leaves.iter().filter(|(_, tensor)| tensor.is_leaf()) {
                    case.close(&format!("din.{input}"), &grads[tensor], 1e-10);
                }
            }
        }
    }
}

#[test]
fn every_loss_passes_a_gradient_check() {
    for name in LOSSES {
        for case in &golden(name).cases {
            // Certain probabilities sit on the bound of the logarithm.
            if case.name == "certain" {
                continue;
            }
            let (x, target) = (case.tensor("in.x"), case.tensor("in.target"));
            let others: Vec<&Tensor> = case.get("in.other").into_iter().collect();
            let inputs: Vec<&Tensor> = [x].into_iter().chain(others).collect();
            let result = gradcheck(|given| loss(name, case, &given[0], target, given.get(1)), &inputs);
            result.unwrap_or_else(|error| panic!("{name} {}: {error}", case.name));
        }
    }
}

#[test]
fn gradients_stay_finite_where_probabilities_are_certain() {
    let x = Tensor::from_vec(vec![0.0f32, 1.0, 0.0, 1.0], [4]).requires_grad();
    let target = Tensor::from_vec(vec![0.0f32, 1.0, 1.0, 0.0], [4]);
    let y = bce(&x, &target);
    assert!((y.item() - 50.0).abs() < 1e-3);
    assert!(y.backward()[&x].to_f64_vec().iter().all(|g| g.is_finite()));
    let x = Tensor::from_vec(vec![200.0f32, -200.0], [2]).requires_grad();
    let loss = FocalLoss { gamma: 0.5, ..FocalLoss::default() }.forward(&x, &Tensor::from_vec(vec![1.0f32, 1.0], [2]));
    assert!((loss.item() - 25.0).abs() < 1e-3);
    assert!(loss.backward()[&x].to_f64_vec().iter().all(|g| g.is_finite()));
}

#[test]
fn half_precision_probabilities_are_computed_in_single() {
    let x = Tensor::rand([16], Rng::seed(1)).to_dtype(DType::F16);
    let target = Tensor::rand([16], Rng::seed(2)).to_dtype(DType::F16);
    let (narrow, wide) = (bce(&x, &target), bce(&x.to_dtype(DType::F32), &target.to_dtype(DType::F32)));
    assert!(narrow.equals(&wide));
}

#[test]
#[should_panic(expected = "nll: target 7 is not one of 5 classes")]
fn a_target_outside_the_classes_is_refused() {
    nll(&Tensor::zeros([2, 5]), &Tensor::from_vec(vec![1i64, 7], [2]));
}

#[test]
#[should_panic(expected = "focal: input and target have different shapes")]
fn shapes_that_would_broadcast_are_refused() {
    focal(&Tensor::zeros([2, 5]), &Tensor::zeros([5]));
}

#[test]
fn the_cross_entropy_is_the_likelihood_of_the_log_softmax_in_any_shape() {
    let x = Tensor::randn([2, 3, 7], Rng::seed(1)).to_dtype(DType::F64);
    let target = Tensor::from_vec(vec![0i64, 6, -100, 3, 3, 1], [2, 3]);
    for reduction in [Reduction::None, Reduction::Mean, Reduction::Sum] {
        let fused = CrossEntropyLoss { reduction, ..CrossEntropyLoss::default() }.forward(&x, &target);
        let composed = NllLoss { reduction, ..NllLoss::default() }.forward(&x.log_softmax(-1), &target);
        assert!(fused.relative_error(&composed) < 1e-12);
    }
    let part = CrossEntropyLoss { divisor: Some(20.0), ..CrossEntropyLoss::default() }.forward(&x, &target);
    let sum = CrossEntropyLoss { reduction: Reduction::Sum, ..CrossEntropyLoss::default() }.forward(&x, &target);
    assert!((part.item() - sum.item() / 20.0).abs() < 1e-12);
}
