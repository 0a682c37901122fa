//! Recurrent layers and positions.

use cupola_nn::layers::*;
use cupola_nn::{Module, gradcheck_module};
use cupola_tensor::ops::Nonlinearity;
use cupola_tensor::{DType, Segments, Tensor, no_grad};

use crate::common::{TOLERANCE, all, uniform};
use crate::support::{Case, Golden};

fn recurrent_config(case: &Case) -> RecurrentConfig {
    RecurrentConfig {
        num_layers: case.size("num_layers"),
        bidirectional: case.flag("bidirectional"),
        bias: case.flag("bias"),
        dropout: 0.0,
    }
}

/// The inputs of a recurrent case: x, the states, the lengths.
fn sequence(case: &Case) -> (Tensor, Option<Tensor>, Option<Tensor>, Option<Vec<usize>>) {
    let leaf = |name: &str| case.get(&format!("in.{name}")).map(Tensor::requires_grad);
    let lengths = case.get("in.lengths").map(|l| l.to_indices().into_iter().map(|l| l as usize).collect());
    (case.leaf("x"), leaf("h0"), leaf("c0"), lengths)
}

pub fn lstm() {
    all("lstm", |case| {
        let (x, h0, c0, lengths) = sequence(case);
        let layer = case.load(Lstm::with(3, 3, recurrent_config(case)));
        let (y, (h, c)) = layer.forward(&x, h0.as_ref().zip(c0.as_ref()), lengths.as_deref());
        let mut inputs = vec![("x", &x)];
        inputs.extend(h0.as_ref().map(|h0| ("h0", h0)).into_iter().chain(c0.as_ref().map(|c0| ("c0", c0))));
        case.check(&layer, &inputs, &[("y", &y), ("h", &h), ("c", &c)], TOLERANCE);
    });
}

pub fn gru() {
    all("gru", |case| {
        let (x, h0, _, lengths) = sequence(case);
        let layer = case.load(Gru::with(3, 3, recurrent_config(case)));
        let (y, h) = layer.forward(&x, h0.as_ref(), lengths.as_deref());
        let inputs: Vec<_> = [("x", &x)].into_iter().chain(h0.as_ref().map(|h0| ("h0", h0))).collect();
        case.check(&layer, &inputs, &[("y", &y), ("h", &h)], TOLERANCE);
    });
}

pub fn rnn() {
    all("rnn", |case| {
        let (x, h0, _, lengths) = sequence(case);
        let nonlinearity = if case.text("nonlinearity") == "relu" { Nonlinearity::Relu } else { Nonlinearity::Tanh };
        let layer = case.load(Rnn::with(3, 3, recurrent_config(case)).with_nonlinearity(nonlinearity));
        let (y, h) = layer.forward(&x, h0.as_ref(), lengths.as_deref());
        let inputs: Vec<_> = [("x", &x)].into_iter().chain(h0.as_ref().map(|h0| ("h0", h0))).collect();
        case.check(&layer, &inputs, &[("y", &y), ("h", &h)], TOLERANCE);
    });
}

pub fn cell(name: &str) {
    all("recurrent_cells", |case| {
        if case.name != name {
            return;
        }
        let (x, h) = (case.leaf("x"), case.leaf("h"));
        match name {
            "lstm_cell" => {
                let (layer, c) = (case.load(LstmCell::new(3, 3)), case.leaf("c"));
                let (h1, c1) = layer.forward(&x, Some((&h, &c)));
                case.check(&layer, &[("x", &x), ("h", &h), ("c", &c)], &[("h", &h1), ("c", &c1)], TOLERANCE);
            }
            "gru_cell" => {
                let layer = case.load(GruCell::new(3, 3));
                let y = layer.forward(&x, Some(&h));
                case.check(&layer, &[("x", &x), ("h", &h)], &[("h", &y)], TOLERANCE);
            }
            _ => {
                let layer = case.load(RnnCell::new(3, 3));
                let y = layer.forward(&x, Some(&h));
                case.check(&layer, &[("x", &x), ("h", &h)], &[("h", &y)], TOLERANCE);
            }
        }
    });
}

pub fn sinusoidal_positions() {
    for case in &Golden::open("sinusoidal_positions").cases {
        let layer = SinusoidalPositions::new(case.size("max_len"), case.size("d_model"));
        case.close("out.y", layer.table(), 1e-12);
        let ragged = Segments::from_lengths(&[3, 0, 2]);
        let y = layer.forward(&Tensor::zeros_of([5, case.size("d_model")], DType::F64), &ragged);
        assert!(
            y.narrow(0, 3, 2).equals(&layer.table().narrow(0, 0, 2))
                && y.narrow(0, 0, 3).equals(&layer.table().narrow(0, 0, 3))
        );
        let x = Tensor::zeros_of([2, 3, case.size("d_model")], DType::F64);
        assert!(layer.forward(&x, &Segments::uniform(2, 3)).select(0, 1).equals(&layer.table().narrow(0, 0, 3)));
    }
}

pub fn learned_positions() {
    let layer = LearnedPositions::new(5, 4).init(3);
    for (shape, segments) in [(&[5, 4][..], Segments::from_lengths(&[2, 3])), (&[2, 3, 4], Segments::uniform(2, 3))] {
        let x = uniform(shape, 1);
        gradcheck_module(&layer, &[&x], |layer, x| layer.forward(&x[0], &segments)).expect("its gradients");
        let added = no_grad(|| layer.clone().to_dtype(DType::F64).forward(&x, &segments) - &x);
        let expected = no_grad(|| layer.weight.to_f64().embedding(&positions(&segments)).reshape(shape));
        assert!(added.relative_error(&expected) < 1e-12);
    }
}
