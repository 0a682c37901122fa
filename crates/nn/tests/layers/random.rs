//! Layers that draw, and layers made of layers.

use cupola_nn::layers::*;
use cupola_nn::{Layer, Module, gradcheck_module, training};
use cupola_tensor::{DType, Tensor, no_grad};

use crate::common::uniform;

/// Layers whose numbers are random: their gradients, and their formula on the mask that they drew.
pub fn dropped(layer: impl Layer + Clone, name: &str) {
    let x = uniform(&[3, 4, 5], 1);
    gradcheck_module(&layer, &[&x], |layer, x| {
        let _scope = training(5, 2);
        layer.forward(&x[0])
    })
    .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(no_grad(|| layer.forward(&x)).equals(&x), "{name}: nothing is dropped outside of training");
    let draw = |seed: u64, step: u64, first: u64, x: &Tensor| {
        let scope = training(seed, step);
        scope.micro_batch(first);
        layer.forward(x)
    };
    let y = draw(5, 2, 0, &x);
    assert!(y.equals(&draw(5, 2, 0, &x)), "{name}: the same address gives the same mask");
    assert!(!y.equals(&draw(5, 3, 0, &x)) && !y.equals(&draw(6, 2, 0, &x)), "{name}: another address another");
    let second = draw(5, 2, 1, &x.narrow(0, 1, 2));
    assert!(
        second.equals(&y.narrow(0, 1, 2).contiguous()),
        "{name}: a sample's mask does not depend on its micro-batch"
    );
    let (x, y) = (x.to_f64_vec(), y.to_f64_vec());
    let alpha = -1.7580993408473766;
    let scale = (0.5f64 * (1.0 + 0.5 * alpha * alpha)).sqrt().recip();
    let kept = |index: usize| match name {
        "AlphaDropout" => {
            let (kept, dropped) = (scale * x[index], scale * alpha);
            let shift = -scale * 0.5 * alpha;
            assert!((y[index] - kept - shift).abs() < 1e-9 || (y[index] - dropped - shift).abs() < 1e-9);
            (y[index] - kept - shift).abs() < 1e-9
        }
        _ => {
            assert!(y[index] == 0.0 || (y[index] - 2.0 * x[index]).abs() < 1e-12);
            y[index] != 0.0
        }
    };
    let mask: Vec<bool> = (0..x.len()).map(kept).collect();
    assert!(mask.iter().any(|kept| *kept) && mask.iter().any(|kept| !kept), "{name}");
    if name == "Dropout2d" {
        assert!(mask.chunks(5).all(|channel| channel.iter().all(|kept| *kept == channel[0])));
    }
}

pub fn containers() {
    let net = || Sequential::new().then(Linear::new(4, 6)).then(Function(Tensor::tanh)).then(Linear::new(6, 4));
    let x = uniform(&[3, 4], 1);
    gradcheck_module(&net().init(1), &[&x], |net, x| net.forward(&x[0])).expect("its gradients");
    let residual = Residual { inner: net() }.init(1);
    gradcheck_module(&residual, &[&x], |net, x| net.forward(&x[0])).expect("its gradients");
    let residual = residual.to_dtype(DType::F64);
    assert!(no_grad(|| residual.forward(&x) - residual.inner.forward(&x)).relative_error(&x) < 1e-12);
}
