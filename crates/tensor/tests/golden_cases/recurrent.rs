//! LSTM, GRU and simple recurrence: stacked layers in one or both directions, written from single ones, and single steps.

use cupola_tensor::Tensor;
use cupola_tensor::ops::{CellWeights, Nonlinearity, Order, gru, lstm, rnn};

use super::{Case, Reader, Results, named};

/// What a direction of a layer gives: y, then its final states.
type Layer = fn(&Case, &Tensor, CellWeights<'_>, Option<Vec<Tensor>>, &Order) -> Vec<Tensor>;

fn lstm_layer(
    _: &Case,
    x: &Tensor,
    weights: CellWeights<'_>,
    state: Option<Vec<Tensor>>,
    order: &Order,
) -> Vec<Tensor> {
    let (y, h, c) = lstm(x, weights, state.as_ref().map(|state| (&state[0], &state[1])), order);
    vec![y, h, c]
}

fn gru_layer(_: &Case, x: &Tensor, weights: CellWeights<'_>, state: Option<Vec<Tensor>>, order: &Order) -> Vec<Tensor> {
    let (y, h) = gru(x, weights, state.as_ref().map(|state| &state[0]), order);
    vec![y, h]
}

fn rnn_layer(
    case: &Case,
    x: &Tensor,
    weights: CellWeights<'_>,
    state: Option<Vec<Tensor>>,
    order: &Order,
) -> Vec<Tensor> {
    let nonlinearity = match case.maybe_text("nonlinearity") {
        Some("relu") => Nonlinearity::Relu,
        _ => Nonlinearity::Tanh,
    };
    let (y, h) = rnn(x, weights, state.as_ref().map(|state| &state[0]), nonlinearity, order);
    vec![y, h]
}

fn weights<'a>(case: &'a Case, bias: bool, place: &str) -> CellWeights<'a> {
    let param = |name: &str| case.param(&format!("{name}{place}"));
    CellWeights {
        w_ih: param("weight_ih"),
        w_hh: param("weight_hh"),
        bias: bias.then(|| (param("bias_ih"), param("bias_hh"))),
    }
}

fn stack(case: &Case, layer: Layer) -> Results {
    let lengths = case.maybe("lengths").map(|lengths| lengths.to_indices().iter().map(|&n| n as usize).collect());
    let states: Vec<&Tensor> = [case.maybe("h0"), case.maybe("c0")].into_iter().flatten().collect();
    let directions: &[bool] = if case.flag("bidirectional") { &[false, true] } else { &[false] };
    let bias = case.flag("bias");
    let mut x = case.x().clone();
    let mut last: Vec<Vec<Tensor>> = Vec::new();
    for number in 0..case.size("num_layers") {
        let mut ys = Vec::new();
        for &reverse in directions {
            let place = format!("_l{number}{}", if reverse { "_reverse" } else { "" });
            let state = (!states.is_empty()).then(|| states.iter().map(|all| all.select(0, last.len())).collect());
            let order = Order { lengths: lengths.clone(), reverse };
            let mut results = layer(case, &x, weights(case, bias, &place), state, &order);
            ys.push(results.remove(0));
            last.push(results);
        }
        x = Tensor::cat(&ys.iter().collect::<Vec<_>>(), -1);
    }
    let of_all = |index: usize| Tensor::stack(&last.iter().map(|states| &states[index]).collect::<Vec<_>>(), 0);
    let mut results = named([("y", x), ("h", of_all(0))]);
    if last[0].len() == 2 {
        results.extend(named([("c", of_all(1))]));
    }
    results
}

/// One step is a sequence of length one.
fn cell(case: &Case) -> Results {
    let x = case.x().unsqueeze(1);
    let states: Vec<Tensor> = [case.maybe("h"), case.maybe("c")].into_iter().flatten().cloned().collect();
    let layer: Layer = match case.param("weight_ih").dim(0) / states[0].dim(1) {
        4 => lstm_layer,
        3 => gru_layer,
        _ => rnn_layer,
    };
    let mut results = layer(case, &x, weights(case, true, ""), Some(states), &Order::default()).into_iter().skip(1);
    let names = ["h", "c"].map(str::to_owned).into_iter();
    names.zip(&mut results).collect()
}

pub fn readers() -> Vec<Reader> {
    vec![
        Reader::new("lstm", &["lstm"], |case| stack(case, lstm_layer)),
        Reader::new("gru", &["gru"], |case| stack(case, gru_layer)),
        Reader::new("rnn", &["rnn"], |case| stack(case, rnn_layer)),
        Reader::new("recurrent_cells", &["lstm", "gru", "rnn"], cell),
    ]
}
