//! The training scope: side effects of a forward pass, applied once.

use cupola_nn::init::Init;
use cupola_nn::{Module, ModuleBuffer, Param, checkpointed, evaluate, observe, training};
use cupola_tensor::mode::add_auxiliary_loss;
use cupola_tensor::{Tensor, no_grad};

/// Keeps the running mean of its input and asks for a penalty.
#[derive(Module, Clone)]
struct Tracker {
    weight: Param,
    mean: ModuleBuffer,
}

impl Tracker {
    fn new() -> Self {
        Self { weight: Param::new([1], Init::Constant(0.5)), mean: ModuleBuffer::new([1], 0.0) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let y = x * &self.weight;
        if cupola_nn::training::is_training("tracker") {
            let batch = no_grad(|| y.detach().sum([]).reshape([1]));
            self.mean.update(&(self.mean.latest() * 0.5 + batch * 0.5));
            add_auxiliary_loss("penalty", &(&self.weight * &*self.weight).sum([]));
            observe("activation", || y.detach());
        }
        y.exp()
    }
}

#[test]
fn updates_are_values_until_the_scope_is_finished() {
    let mut model = Tracker::new().init(0);
    let scope = training(0, 0);
    model.forward(&Tensor::ones([1]));
    assert_eq!(model.mean.value().item(), 0.0);
    assert_eq!(model.mean.latest().item(), 0.25);
    // The second micro-batch builds on the first.
    scope.micro_batch(1);
    model.forward(&Tensor::ones([1]));
    assert_eq!(scope.auxiliary_losses().len(), 2);
    scope.finish(&mut model);
    assert_eq!(model.mean.value().item(), 0.375);
    assert!(cupola_tensor::mode::training().is_none());
}

/// Counts what it is given, and rises or falls by one with the sign of the sum.
#[derive(Module, Clone)]
struct Counter {
    weight: Param,
    level: ModuleBuffer,
}

impl Counter {
    fn new() -> Self {
        Self { weight: Param::new([1], Init::Ones), level: ModuleBuffer::new([2], 3.0) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        if cupola_nn::training::is_training("counter") {
            self.level.tally(&x.detach(), |level, sum| level + sum.clamp(-1.0, 1.0));
        }
        x * &self.weight
    }
}

#[test]
fn a_buffer_changes_once_by_what_all_of_a_step_has_counted() {
    let mut model = Counter::new().init(0);
    let counted = |values: [f32; 2]| Tensor::from_vec(values.to_vec(), [2]);
    let scope = training(0, 0);
    for (sample, values) in [[1.0, -5.0], [1.0, 2.0], [-4.0, 1.0]].into_iter().enumerate() {
        scope.micro_batch(sample as u64);
        model.forward(&counted(values));
    }
    assert_eq!(model.level.value().to_vec::<f32>(), [3.0, 3.0]);
    scope.finish(&mut model);
    assert_eq!(model.level.value().to_vec::<f32>(), [2.0, 2.0]);
    // A region that is computed again for its activations counts once.
    let scope = training(0, 1);
    let x = counted([7.0, -1.0]);
    let y = checkpointed(&model, &[&x], |model, x| vec![model.forward(&x[0])]).swap_remove(0);
    model.forward(&counted([-4.0, -4.0]));
    y.sum([]).backward();
    scope.finish(&mut model);
    assert_eq!(model.level.value().to_vec::<f32>(), [3.0, 1.0]);
}

#[test]
#[should_panic(expected = "buffers of shapes [[2]] that were to change are not in this model")]
fn a_count_is_not_lost_in_silence() {
    let (model, mut other) = (Counter::new().init(0), Counter::new().init(0));
    let scope = training(0, 0);
    model.forward(&Tensor::ones([2]));
    scope.finish(&mut other);
}

#[test]
fn a_scope_that_is_dropped_applies_nothing() {
    let mut model = Tracker::new().init(0);
    let scope = training(0, 0);
    model.forward(&Tensor::ones([1]));
    drop(scope);
    let scope = training(0, 1);
    scope.finish(&mut model);
    assert_eq!(model.mean.value().item(), 0.0);
}

#[test]
fn checkpointing_changes_neither_gradients_nor_effects() {
    let run = |checkpoint: bool| {
        let mut model = Tracker::new().init(0);
        let scope = training(0, 0);
        let x = Tensor::full([1], 1.5);
        let y = match checkpoint {
            true => checkpointed(&model, &[&x], |model, x| vec![model.forward(&x[0])]).swap_remove(0),
            false => model.forward(&x),
        };
        let auxiliary = scope.auxiliary_losses();
        assert_eq!(auxiliary[0].0, "penalty");
        let grads = (y.sum([]) + &auxiliary[0].1).backward();
        scope.finish(&mut model);
        (grads[&*model.weight].item(), model.mean.value().item())
    };
    let plain = run(false);
    // d/dw exp(1.5 w) + w^2 at 0.5
    assert!((plain.0 - (1.5 * 0.75f64.exp() + 1.0)).abs() < 1e-5);
    assert_eq!(run(true), plain);
}

#[test]
#[should_panic(
    expected = "tracker was met while recording outside of a training scope: open one with training(seed, step)"
)]
fn a_layer_that_trains_differently_refuses_to_be_recorded_outside_a_scope() {
    Tracker::new().init(0).forward(&Tensor::ones([1]));
}

#[test]
#[should_panic(expected = "tracker was met while recording outside of a training scope")]
fn a_checkpointed_region_refuses_in_its_first_pass() {
    let model = Tracker::new().init(0);
    checkpointed(&model, &[&Tensor::ones([1])], |model, x| vec![model.forward(&x[0])]);
}

#[test]
fn evaluation_inside_a_scope_leaves_no_trace() {
    let mut model = Tracker::new().init(0);
    let scope = training(0, 0);
    let y = evaluate(|| model.forward(&Tensor::ones([1])));
    assert!(!y.needs_grad());
    assert!(scope.auxiliary_losses().is_empty());
    scope.finish(&mut model);
    assert_eq!(model.mean.value().item(), 0.0);
}

#[test]
#[should_panic(expected = "nobody took the auxiliary losses [\"penalty\"]")]
fn an_auxiliary_loss_is_not_lost_in_silence() {
    let mut model = Tracker::new().init(0);
    let scope = training(0, 0);
    model.forward(&Tensor::ones([1]));
    scope.finish(&mut model);
}

#[test]
#[should_panic(expected = "buffers of shapes [[1]] that were to change are not in this model")]
fn an_update_is_not_lost_in_silence() {
    let (model, mut other) = (Tracker::new().init(0), Tracker::new().init(0));
    let scope = training(0, 0);
    model.forward(&Tensor::ones([1]));
    scope.auxiliary_losses();
    scope.finish(&mut other);
}

#[test]
fn two_models_finish_one_scope() {
    let (mut a, mut b) = (Tracker::new().init(0), Tracker::new().init(1));
    let scope = training(0, 0);
    a.forward(&Tensor::ones([1]));
    b.forward(&Tensor::ones([1]));
    scope.auxiliary_losses();
    scope.finish(&mut (&mut a, &mut b));
    assert_eq!((a.mean.value().item(), b.mean.value().item()), (0.25, 0.25));
}

#[test]
#[should_panic(expected = "a scope is open on this thread already")]
fn scopes_do_not_nest() {
    let _first = training(0, 0);
    let _second = training(0, 1);
}

#[test]
fn observations_are_made_when_somebody_watches() {
    let mut model = Tracker::new().init(0);
    let scope = training(0, 0);
    model.forward(&Tensor::ones([1]));
    assert!(scope.observed().is_empty());
    scope.watch();
    model.forward(&Tensor::ones([1]));
    let observed = scope.observed();
    assert_eq!((observed.len(), observed[0].0.as_str(), observed[0].1.item()), (1, "activation", 0.5));
    scope.auxiliary_losses();
    scope.finish(&mut model);
}
