//! What the recurrent operations share: their inputs and outputs, and the way to the kernels.

use std::sync::Arc;

use cupola_core::{DType, Shape};
use cupola_cpu::multiply::Multiply;
use cupola_cpu::rnn::cell::Cell;
use cupola_cpu::rnn::{self, Gradients, Results, Sequences, States, Upstream, Weights};

use crate::autograd::running::RunningSum;
use crate::compute::{compute_dtype, prepare, with_real};
use crate::op::{Backward, InputGrads, Outputs, Saved};
use crate::tensor::Tensor;

/// Which tokens of a batch are there, and in which order they are met.
///
/// ```
/// use cupola_tensor::ops::Order;
/// let ragged = Order { lengths: Some([3, 5].into()), ..Order::default() };
/// assert!(!ragged.reverse);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Steps of each sequence; all have the full length when not given. Behind its end a sequence's outputs are zero, and its
    /// final state is the one at its end.
    pub lengths: Option<Arc<[usize]>>,
    /// Whether time runs from each sequence's end to its start. Outputs stay at their tokens.
    pub reverse: bool,
}

/// The parameters of a recurrent cell with G gates, in PyTorch's order of gates.
#[derive(Clone, Copy)]
pub struct CellWeights<'a> {
    /// For the input, `[G H, D]`.
    pub w_ih: &'a Tensor,
    /// For the hidden state, `[G H, H]`.
    pub w_hh: &'a Tensor,
    /// Biases `[G H]` of the two products.
    pub bias: Option<(&'a Tensor, &'a Tensor)>,
}

/// The attributes of a recurrent operation: which inputs there are, and their order in time.
///
/// The inputs are x, w_ih, w_hh, then b_ih and b_hh if there are biases, then h and, for cells that have a memory, c.
#[derive(Clone, Debug)]
pub struct Recurrent {
    /// Lengths and direction.
    pub order: Order,
    /// Whether there are biases.
    pub bias: bool,
    /// Whether there is an initial state.
    pub state: bool,
}

impl Recurrent {
    /// The attributes for a call.
    pub(crate) fn new(weights: &CellWeights<'_>, state: bool, order: &Order) -> Self {
        let (order, bias) = (order.clone(), weights.bias.is_some());
        Self { order, bias, state }
    }

    fn first_state(&self) -> usize {
        if self.bias { 5 } else { 3 }
    }

    #[track_caller]
    fn check<C: Cell>(&self, op: &str, inputs: &[&Tensor]) {
        let shapes: Vec<&Shape> = inputs.iter().map(|x| x.shape()).collect();
        let (x, w_ih, w_hh) = (shapes[0], shapes[1], shapes[2]);
        let fits = x.rank() == 3
            && w_ih.rank() == 2
            && w_hh.rank() == 2
            && w_ih[1] == x[2]
            && w_hh.dims() == [C::GATES * w_hh[1], w_hh[1]]
            && w_ih[0] == w_hh[0]
            && shapes[3..self.first_state()].iter().all(|b| b.dims() == [w_hh[0]])
            && shapes[self.first_state()..].iter().all(|s| s.dims() == [x[0], w_hh[1]]);
        assert!(
            fits,
            "{op}: shapes {shapes:?}, expected x [B, T, D], w_ih [{0} H, D], w_hh [{0} H, H], biases [{0} H], states [B, H]",
            C::GATES
        );
        let lengths = self.order.lengths.as_deref();
        assert!(
            lengths.is_none_or(|l| l.len() == x[0] && l.iter().all(|&l| l <= x[1])),
            "{op}: lengths {lengths:?} do not fit input {x}"
        );
    }

    fn sequences(&self, x: &Shape, w_hh: &Shape) -> Sequences<'_> {
        Sequences {
            batch: x[0],
            steps: x[1],
            inputs: x[2],
            hidden: w_hh[1],
            lengths: self.order.lengths.as_deref(),
            reverse: self.order.reverse,
        }
    }

    /// The outputs: y `[B, T, H]`, the final h `[B, H]` and, for cells that have one, c `[B, H]`.
    #[track_caller]
    pub(crate) fn forward<C: Cell>(&self, op: &str, cell: C, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        self.check::<C>(op, inputs);
        let dtype = compute_dtype(op, inputs[0]);
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        let sequences = self.sequences(inputs[0].shape(), inputs[2].shape());
        let (b, t, h) = (sequences.batch, sequences.steps, sequences.hidden);
        let memory = if C::MEMORY { h } else { 0 };
        let (outputs, gates) = with_real!(dtype, T => {
            let (weights, first) = self.operands::<T>(&wide);
            let mut gates = saved.is_enabled().then(|| Tensor::build::<T>([b, t, C::SAVED * h], |_| ()));
            let (mut y, mut last, mut c) = (
                Tensor::build::<T>([b, t, h], |_| ()),
                Tensor::build::<T>([b, h], |_| ()),
                Tensor::build::<T>([b, memory], |_| ()),
            );
            let results = Results {
                y: writable(&mut y),
                saved: gates.as_mut().map(writable),
                h: writable(&mut last),
                c: writable(&mut c),
            };
            rnn::forward(cell, &sequences, &weights, wide[0].slice_of::<T>(), first, results);
            ([y, last, c], gates)
        });
        if let Some(gates) = gates {
            saved.keep([inputs[0], inputs[1], inputs[2], &outputs[0], &gates]);
            inputs[self.first_state()..].iter().for_each(|state| saved.keep([state]));
        }
        let count = if C::MEMORY { 3 } else { 2 };
        let outputs: Vec<Tensor> = outputs.into_iter().take(count).map(|y| y.to_dtype(inputs[0].dtype())).collect();
        outputs.into()
    }

    fn operands<'a, T: Multiply>(&self, wide: &'a [Tensor]) -> (Weights<'a, T>, States<'a, T>) {
        let bias = |index: usize| self.bias.then(|| wide[index].slice_of::<T>());
        let weights = Weights {
            input: wide[1].slice_of::<T>(),
            hidden: wide[2].slice_of::<T>(),
            input_bias: bias(3),
            hidden_bias: bias(4),
        };
        let state = |index: usize| wide.get(self.first_state() + index).map(Tensor::slice_of::<T>);
        (weights, States { h: state(0), c: state(1) })
    }

    pub(crate) fn backward<C: Cell>(&self, op: &str, cell: C, cx: &mut Backward<'_>) -> InputGrads {
        let saved = cx.all_saved();
        let dtype = compute_dtype(op, &saved[0]);
        let wide: Vec<Tensor> = saved.iter().map(|x| prepare(x, dtype)).collect();
        let sequences = self.sequences(saved[0].shape(), saved[2].shape());
        let (h, rows) = (sequences.hidden, C::GATES * sequences.hidden);
        let memory = if C::MEMORY { h } else { 0 };
        let arrived: Vec<Option<Tensor>> =
            (0..if C::MEMORY { 3 } else { 2 }).map(|i| cx.output_grad(i).map(|g| prepare(&g, dtype))).collect();
        let mut w_ih = cx.needs(1).then(|| RunningSum::unwritten(cx, 1, dtype));
        let mut w_hh = cx.needs(2).then(|| RunningSum::unwritten(cx, 2, dtype));
        let small = |shape: &[usize], dtype: DType| with_real!(dtype, T => Tensor::build::<T>(shape, |_| ()));
        let mut dx = cx.needs(0).then(|| small(saved[0].shape(), dtype));
        let [mut b_ih, mut b_hh] = [0, 1].map(|_| small(&[rows], dtype));
        let (mut dh, mut dc) = (small(&[sequences.batch, h], dtype), small(&[sequences.batch, memory], dtype));
        with_real!(dtype, T => {
            let weights = Weights {
                input: wide[1].slice_of::<T>(),
                hidden: wide[2].slice_of::<T>(),
                input_bias: None,
                hidden_bias: None,
            };
            let slice = |index: usize| arrived.get(index).and_then(Option::as_ref).map(Tensor::slice_of::<T>);
            let upstream = Upstream {
                dy: slice(0),
                last: States { h: slice(1), c: slice(2) },
            };
            let first = States {
                h: wide.get(5).map(Tensor::slice_of::<T>),
                c: wide.get(6).map(Tensor::slice_of::<T>),
            };
            fn target<T: Multiply>(sum: &mut RunningSum) -> (&mut [T], bool) {
                let add = sum.continues();
                (sum.slice::<T>(), add)
            }
            let gradients = Gradients {
                dx: dx.as_mut().map(writable),
                dinput: w_ih.as_mut().map(target),
                dhidden: w_hh.as_mut().map(target),
                dinput_bias: writable(&mut b_ih),
                dhidden_bias: writable(&mut b_hh),
                dh: writable(&mut dh),
                dc: writable(&mut dc),
            };
            let kept = (wide[3].slice_of::<T>(), wide[4].slice_of::<T>());
            rnn::backward(cell, &sequences, &weights, wide[0].slice_of(), first, kept, upstream, gradients);
        });
        let mut grads = vec![dx, w_ih.map(RunningSum::finish), w_hh.map(RunningSum::finish)];
        if self.bias {
            grads.extend([Some(b_ih), Some(b_hh)]);
        }
        if self.state {
            grads.push(Some(dh));
            grads.extend(C::MEMORY.then_some(Some(dc)));
        }
        crate::compute::in_input_dtypes(cx, grads)
    }
}

/// The elements of a tensor that was made just now.
fn writable<T: Multiply>(x: &mut Tensor) -> &mut [T] {
    x.as_mut_slice().expect("a fresh tensor has no other holder")
}

#[cfg(test)]
pub(crate) mod testing {
    //! Cases that every recurrent cell goes through, with a reference built from the cell's formula for one step.

    use super::{CellWeights, Order};
    use crate::tensor::Tensor;
    use crate::testing::{Array, Case, uniform};

    /// Calls the operation.
    pub(crate) type Run = fn(&Tensor, CellWeights<'_>, Option<&[Tensor]>, &Order) -> Vec<Tensor>;
    /// From the products with input and hidden state (`[G H]`) and the states to the next states.
    pub(crate) type OneStep = fn(&[f64], &[f64], &[f64], &[f64]) -> (Vec<f64>, Vec<f64>);

    /// Sizes: B, T, D, H, the lengths, and whether it is reversed.
    type Sizes = (usize, usize, usize, usize, Option<&'static [usize]>, bool);

    pub(crate) fn cases(gates: usize, memory: bool, run: Run, one: OneStep) -> Vec<Case> {
        let sizes: [Sizes; 7] = [
            (2, 3, 2, 3, None, false),
            (3, 4, 3, 2, Some(&[4, 1, 3]), false),
            (3, 4, 1, 2, Some(&[2, 0, 4]), true),
            (9, 2, 2, 1, None, true),
            (1, 3, 2, 33, None, false),
            (17, 2, 1, 2, None, false),
            (2, 0, 2, 2, None, false),
        ];
        let mut cases = Vec::new();
        for (b, t, d, h, lengths, reverse) in sizes {
            let order = Order { lengths: lengths.map(Into::into), reverse };
            let name = format!("B {b}, T {t}, D {d}, H {h}, lengths {lengths:?}, reverse {reverse}");
            let rows = gates * h;
            let reference = move |x: &[Array], bias: bool, state: bool| {
                let states = if bias { 5 } else { 3 };
                let product = |w: &Array, v: &[f64], b: Option<&Array>| -> Vec<f64> {
                    (0..rows)
                        .map(|r| {
                            v.iter().enumerate().map(|(k, v)| w.at(&[r, k]) * v).sum::<f64>()
                                + b.map_or(0.0, |b| b.data[r])
                        })
                        .collect()
                };
                let mut y = vec![0.0; b * t * h];
                let (mut last_h, mut last_c) = (Vec::new(), Vec::new());
                for s in 0..b {
                    let initial = |k: usize| match state {
                        true => x[states + k].data[s * h..(s + 1) * h].to_vec(),
                        false => vec![0.0; h],
                    };
                    let (mut hidden, mut c) = (initial(0), if memory { initial(1) } else { Vec::new() });
                    let length = lengths.map_or(t, |l| l[s]);
                    for now in 0..length {
                        let time = if reverse { length - 1 - now } else { now };
                        let token = &x[0].data[(s * t + time) * d..(s * t + time + 1) * d];
                        let of_input = product(&x[1], token, bias.then(|| &x[3]));
                        let of_hidden = product(&x[2], &hidden, bias.then(|| &x[4]));
                        (hidden, c) = one(&of_input, &of_hidden, &hidden, &c);
                        y[(s * t + time) * h..(s * t + time + 1) * h].copy_from_slice(&hidden);
                    }
                    last_h.extend(hidden);
                    last_c.extend(c);
                }
                let mut outputs = vec![Array::new(&[b, t, h], y), Array::new(&[b, h], last_h)];
                if memory {
                    outputs.push(Array::new(&[b, h], last_c));
                }
                outputs
            };
            let [x, w_ih, w_hh] = [uniform([b, t, d], 1), uniform([rows, d], 2), uniform([rows, h], 3)];
            let [b_ih, b_hh] = [4, 5].map(|seed| uniform([rows], seed));
            let [h0, c0] = [6, 7].map(|seed| uniform([b, h], seed));
            let (forward, plain) = (order.clone(), order.clone());
            let full = move |x: &[Tensor]| {
                let weights = CellWeights { w_ih: &x[1], w_hh: &x[2], bias: Some((&x[3], &x[4])) };
                run(&x[0], weights, Some(&x[5..]), &forward)
            };
            let inputs = [x.clone(), w_ih.clone(), w_hh.clone(), b_ih, b_hh, h0];
            let case = if memory {
                let [a, b, c, d, e, f] = inputs;
                Case::new(name.clone(), [a, b, c, d, e, f, c0], full)
            } else {
                Case::new(name.clone(), inputs, full)
            };
            cases.push(case.reference(move |x| reference(x, true, true)));
            if t > 0 {
                let bare =
                    move |x: &[Tensor]| run(&x[0], CellWeights { w_ih: &x[1], w_hh: &x[2], bias: None }, None, &plain);
                let case = Case::new(format!("{name}, plain"), [x, w_ih, w_hh], bare);
                cases.push(case.reference(move |x| reference(x, false, false)));
            }
        }
        cases
    }
}
