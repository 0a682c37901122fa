//! The graph as a user meets it: who gets a gradient, when memory goes, what is refused.

use std::sync::Arc;

use cupola_tensor::autograd::inspect;
use cupola_tensor::ops::cross_entropy::CrossEntropyConfig;
use cupola_tensor::ops::linear::{Activation, linear};
use cupola_tensor::{
    Backward, Differentiable, Gradients, InputGrads, Op, Outputs, Rng, Saved, Tensor, checkpoint, no_grad,
};

fn leaf(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, [values.len()]).requires_grad()
}

#[test]
fn a_tensor_used_twice_gets_both_gradients() {
    let x = leaf(&[2.0, 3.0]);
    let grads = (&x * &x + &x * 5.0).sum([]).backward();
    assert_eq!(grads[&x].to_vec::<f32>(), [9.0, 11.0]);
    assert_eq!(grads[&x.clone()].to_vec::<f32>(), [9.0, 11.0]);
}

#[test]
fn detached_and_unrecorded_values_pass_no_gradient() {
    let x = leaf(&[2.0]);
    let y = &x * &x.detach() + no_grad(|| &x * 100.0);
    assert_eq!(y.sum([]).backward()[&x].item(), 2.0);
}

#[test]
fn gradients_add_up_over_passes_and_report_when_ready() {
    let (x, w) = (leaf(&[1.0]), leaf(&[3.0]));
    let mut grads = Gradients::new();
    (&x * &w).sum([]).backward_into(&mut grads);
    let mut order = Vec::new();
    (&x * &w + &x).sum([]).backward_with(&mut grads, |id, grad| order.push((id, grad.item())));
    assert_eq!((grads[&x].item(), grads[&w].item()), (7.0, 2.0));
    assert_eq!(order.len(), 2);
    assert!(
        order.contains(&(x.leaf_id().expect("a leaf"), 7.0)) && order.contains(&(w.leaf_id().expect("a leaf"), 2.0))
    );
}

#[test]
fn a_graph_of_200_000_nodes_is_built_walked_and_dropped() {
    for walk in [true, false] {
        let x = leaf(&[1.0]);
        let mut y = x.clone();
        for _ in 0..200_000 {
            y = y.affine(1.0, 0.5);
        }
        if walk {
            assert_eq!(inspect::summary(&y).depth, 200_000);
            assert_eq!(y.sum([]).backward()[&x].item(), 1.0);
        }
        drop(y);
    }
}

#[test]
fn backward_releases_what_was_saved_and_says_so_when_asked_again() {
    let x = leaf(&[2.0]);
    let y = (&x * 2.0).exp();
    let held = Arc::downgrade(y.buffer());
    let loss = y.sum([]);
    drop(y);
    assert!(held.upgrade().is_some(), "exp saves its result");
    let first = loss.backward_retain();
    assert!(held.upgrade().is_some(), "a retained graph keeps it");
    assert_eq!(first[&x].item(), loss.backward()[&x].item());
    assert!(held.upgrade().is_none(), "backward lets it go while the loss is still held");
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loss.backward()));
    let message = again.err().and_then(|payload| payload.downcast::<&str>().ok());
    assert!(message.is_some_and(|text| text.contains("used up")));
}

struct Shout;

impl Op for Shout {
    const NAME: &'static str = "shout";
    const DIFFERENTIABLE: Differentiable = Differentiable::No;
    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        inputs[0].affine(10.0, 0.0).into()
    }
}

#[test]
fn an_operation_without_backward_serves_inputs_that_need_none() {
    assert_eq!(Shout.apply(&[&Tensor::ones([1])]).item(), 10.0);
    let x = leaf(&[1.0]);
    assert_eq!(no_grad(|| Shout.apply(&[&x])).item(), 10.0);
}

#[test]
#[should_panic(expected = "shout: input 0 of shapes [[2]] needs a gradient, and this operation has no backward rule")]
fn an_operation_without_backward_refuses_an_input_that_needs_a_gradient() {
    Shout.apply(&[&leaf(&[1.0, 2.0])]);
}

struct WrongShape;

impl Op for WrongShape {
    const NAME: &'static str = "wrong_shape";
    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        inputs[0].affine(1.0, 0.0).into()
    }
    fn backward(&self, _cx: &mut Backward<'_>) -> InputGrads {
        Tensor::ones([7]).into()
    }
}

#[test]
#[should_panic(expected = "wrong_shape: the gradient of input 0 is f32 [7], expected f32 [2]")]
fn a_gradient_of_the_wrong_shape_is_caught_where_it_arises() {
    WrongShape.apply(&[&leaf(&[1.0, 2.0])]).sum([]).backward();
}

#[test]
fn a_panic_names_the_caller_s_line() {
    let line = Arc::new(std::sync::Mutex::new(None));
    let seen = line.clone();
    let former = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let (Some(at), Ok(mut seen)) = (info.location(), seen.lock()) {
            *seen = Some((at.file().to_string(), at.line()));
        }
    }));
    let expected = line!() + 1;
    let result = std::panic::catch_unwind(|| Tensor::zeros([2, 3]) + Tensor::zeros([4]));
    std::panic::set_hook(former);
    assert!(result.is_err());
    let at = line.lock().expect("no panic holds it").clone();
    assert_eq!(at, Some((file!().to_string(), expected)));
}

#[test]
fn a_checkpointed_region_has_the_gradients_of_the_plain_one_and_keeps_less() {
    let w = leaf(&[0.3; 64]);
    let body = |x: &Tensor, w: &Tensor| (((x * w).exp() * w).exp() * w).exp();
    // No input needs a gradient: the captured parameter gets its own all the same.
    for needs in [false, true] {
        let x = Tensor::full([64], 0.1);
        let x = if needs { x.requires_grad() } else { x };
        let plain = body(&x, &w).sum([]);
        let weight = w.clone();
        let kept = checkpoint(&[&x], move |inputs| vec![body(&inputs[0], &weight)])[0].sum([]);
        let (all, few) = (inspect::summary(&plain).saved_bytes, inspect::summary(&kept).saved_bytes);
        assert_eq!(few, 64 * 4, "only the input is kept");
        assert_eq!(all, 5 * 64 * 4, "the plain graph keeps both inputs and three exponentials");
        let (expected, found) = (plain.backward(), kept.backward());
        assert!(found[&w].same_bits(&expected[&w]));
        assert_eq!(found.get(&x).is_some(), needs);
        assert!(!needs || found[&x].same_bits(&expected[&x]));
    }
}

#[test]
fn the_graph_can_be_drawn() {
    let x = leaf(&[1.0]);
    let text = inspect::dot(&(&x * &x).exp());
    assert!(text.contains("mul [1]") && text.contains("exp [1]") && text.contains("leaf [1]") && text.contains("->"));
}

#[test]
fn a_tied_weight_adds_up_over_micro_batches_to_the_bits_of_one_batch() {
    let (vocabulary, width, tokens) = (37, 8, 1024);
    let weight = (Tensor::randn([vocabulary, width], Rng::seed(0)) * 0.3).requires_grad();
    let ids = Tensor::randint(0, vocabulary as i64, [tokens], Rng::seed(1));
    let targets = Tensor::randint(0, vocabulary as i64, [tokens], Rng::seed(2));
    let config = CrossEntropyConfig { divisor: Some(tokens as f64), ..CrossEntropyConfig::default() };
    let loss = |start: usize, count: usize| {
        let hidden = weight.embedding(&ids.narrow(0, start, count)).gelu();
        let logits = linear(&hidden, &weight, None, Activation::None);
        logits.cross_entropy(&targets.narrow(0, start, count), &config)
    };
    let whole = loss(0, tokens).backward();
    let mut grads = Gradients::new();
    let mut heard = Vec::new();
    for (start, count) in [(0, 256), (256, 512), (768, 256)] {
        loss(start, count).backward_with(&mut grads, |leaf, grad| heard.push((leaf, grad.clone())));
    }
    assert!(grads[&weight].same_bits(&whole[&weight]));
    // Each pass reports the leaf once, with all that it has collected by then.
    assert!(heard.len() == 3 && heard[2].1.same_bits(&whole[&weight]));
    assert!(!heard[0].1.same_bits(&whole[&weight]));
    // Put together by a change, they go on from there.
    grads.scale(2.0);
    assert!(grads[&weight].same_bits(&(&whole[&weight] * 2.0)));
    loss(0, tokens).backward_into(&mut grads);
    assert!(grads[&weight].relative_error(&(&whole[&weight] * 3.0)) < 1e-6);
    assert!(grads.remove(&weight).is_some() && grads.is_empty());
}

#[test]
fn what_is_made_of_a_parameter_adds_up_over_parts_of_a_batch_to_the_bits_of_the_whole() {
    let tokens = 2048;
    let drawn = |shape: &[usize], seed| Tensor::randn(shape, Rng::seed(seed));
    let (x, target) = (drawn(&[tokens, 6], 1), drawn(&[tokens, 6], 2));
    let parameter = |shape: &[usize], seed| (drawn(shape, seed) * 0.3).requires_grad();
    let leaves =
        [parameter(&[6, 6], 3), parameter(&[6], 4), parameter(&[6], 5), parameter(&[3, 2], 6), parameter(&[1], 7)];
    let body = |x: &Tensor, [weight, bias, rate, table, factor]: &[Tensor; 5]| {
        let y = linear(x, weight, Some(bias), Activation::None) * -rate.exp();
        let y = y.reshape([x.dim(0), 2, 3]) * table.transpose(0, 1) + factor;
        y.reshape([x.dim(0), 6]).sigmoid()
    };
    let loss = |start: usize, count: usize, again: bool| {
        let (x, target) = (x.narrow(0, start, count), target.narrow(0, start, count));
        let y = match again {
            true => {
                let leaves = leaves.clone();
                checkpoint(&[&x], move |x| vec![body(&x[0], &leaves)]).swap_remove(0)
            }
            false => body(&x, &leaves),
        };
        (y * target).sum([])
    };
    let whole = loss(0, tokens, false).backward();
    for again in [false, true] {
        for part in [256, 512, 1024, 2048] {
            let mut grads = Gradients::new();
            (0..tokens).step_by(part).for_each(|start| loss(start, part, again).backward_into(&mut grads));
            for (index, leaf) in leaves.iter().enumerate() {
                assert!(grads[leaf].same_bits(&whole[leaf]), "parameter {index} by {part}, computed again: {again}");
            }
            grads.settle();
            assert!(leaves.iter().all(|leaf| grads[leaf].same_bits(&whole[leaf])));
        }
    }
}

#[test]
fn passes_that_read_a_parameter_in_different_ways_add_up() {
    let w = leaf(&[0.5, -1.0]);
    let ways: [fn(&Tensor) -> Tensor; 4] = [|w| w.exp(), |w| w * 3.0, |w| w.clone(), |w| w.reshape([2, 1]) * 2.0];
    let mut grads = Gradients::new();
    for way in ways.iter().chain(&ways) {
        // The factor is no parameter, so that each way is the first use of it.
        (way(&w).flatten() * Tensor::from_vec(vec![1.0f32, 10.0], [2])).sum([]).backward_into(&mut grads);
    }
    let expected = [0.5f32, -1.0].map(|w| 2.0 * (w.exp() + 6.0));
    let found = grads[&w].to_vec::<f32>();
    assert!((found[0] - expected[0]).abs() < 1e-5 && (found[1] - 10.0 * expected[1]).abs() < 1e-4, "{found:?}");
    assert!(grads.remove(&w).is_some_and(|grad| grad.to_vec::<f32>() == found));
}
