//! What holds for many operations together.

mod network;

use cupola_core::pool::with_threads;
use cupola_tensor::ops::linear::{Activation, linear};
use cupola_tensor::{DType, Gradients, Rng, Tensor};
use network::Network;

fn trained(threads: usize) -> (Vec<f64>, Vec<Tensor>) {
    with_threads(threads, || {
        let mut network = Network::new(DType::F32);
        let losses = (0..5).map(|_| network.step(0.5)).collect();
        (losses, network.parameters)
    })
}

#[test]
fn training_has_the_same_bits_with_any_number_of_threads() {
    let (losses, expected) = trained(1);
    assert!(losses[4] < losses[0] - 0.1, "nothing was learnt: {losses:?}");
    for threads in [2, 4, 7] {
        let (found_losses, found) = trained(threads);
        assert_eq!(found_losses, losses, "{threads} threads");
        for ((name, a), b) in Network::NAMES.iter().zip(&found).zip(&expected) {
            assert!(a.same_bits(b), "{name} differs with {threads} threads");
        }
    }
}

#[test]
fn a_network_in_f32_has_the_loss_and_gradients_of_f64() {
    let (single, double) = (Network::new(DType::F32), Network::new(DType::F64));
    let (loss, expected) = (single.loss(), double.loss());
    assert!((loss.item() - expected.item()).abs() <= 1e-5 * expected.item());
    let (grads, expected): (Gradients, Gradients) = (loss.backward(), expected.backward());
    for ((name, a), b) in Network::NAMES.iter().zip(&single.parameters).zip(&double.parameters) {
        let (grad, expected) = (&grads[a], &expected[b]);
        let largest = expected.abs().max([]).item();
        let error = (grad.to_f64() - expected).abs().max([]).item();
        assert!(largest > 0.0 && error <= 1e-4 * largest, "{name}: {error:e} of {largest:e}");
    }
}

/// Views, broadcasting, products, reductions, sorting, gathering and elementary functions behind one another.
fn chain(x: &Tensor, w: &Tensor) -> Tensor {
    let y = linear(&x.flip(1).roll(3, 0), w, None, Activation::Silu);
    let y = &y - y.mean_keepdim([-1]);
    let y = &y / (y.var_keepdim([-1], 1.0) + 0.5).sqrt();
    let (best, order) = y.topk(5, -1, true);
    let y = Tensor::cat(&[&y.gather(-1, &order.flip(1)), &best.exp()], -1);
    let y = y.slice(0, 1, 31, 2).transpose(0, 1).contiguous();
    let y = Tensor::einsum("ij,kj->ik", &[&y, &y]).tril(0).cumsum(0) * 1e-3;
    let y = y.sigmoid().maximum(&y.tanh()).pad(1, 1, 0, 0.25);
    y.log_softmax(0).logsumexp([1]) * y.select(1, 2).softplus().norm_of([])
}

#[test]
fn a_chain_of_mixed_operations_equals_f64() {
    let (x, w) = (Tensor::randn([33, 17], Rng::seed(1)), Tensor::randn([65, 17], Rng::seed(2)));
    let run = |dtype| {
        let (x, w) = (x.to_dtype(dtype).requires_grad(), w.to_dtype(dtype).requires_grad());
        let y = chain(&x, &w);
        let grads = y.sum([]).backward();
        [y.detach(), grads[&x].clone(), grads[&w].clone()]
    };
    for (index, (found, expected)) in run(DType::F32).iter().zip(run(DType::F64)).enumerate() {
        let largest = expected.abs().max([]).item();
        let error = (found.to_f64() - expected).abs().max([]).item();
        assert!(largest > 1e-3 && error <= 1e-4 * largest, "result {index}: {error:e} of {largest:e}");
    }
}
