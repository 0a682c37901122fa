//! What holds for every scan over sequences: the tests of the recurrent mixers.

use cupola_core::DType;
use cupola_core::pool::with_threads;

use crate::segments::Segments;
use crate::tensor::Tensor;

/// A scan as these tests see it.
pub(crate) trait Scanner {
    /// Inputs in f64 whose first dimension are the tokens.
    fn inputs(&self, tokens: usize) -> Vec<Tensor>;
    /// States in f64 whose first dimension are the sequences.
    fn state(&self, sequences: usize) -> Tensor;
    /// The result and the final states.
    fn run(&self, x: &[Tensor], state: Option<&Tensor>, segments: &Segments) -> (Tensor, Tensor);
}

fn converted(x: &[Tensor], dtype: DType) -> Vec<Tensor> {
    x.iter().map(|x| x.to_dtype(dtype)).collect()
}

fn rows(x: &[Tensor], start: usize, length: usize) -> Vec<Tensor> {
    x.iter().map(|x| x.narrow(0, start, length)).collect()
}

/// One sequence, cut into pieces of these lengths.
fn in_pieces(scan: &impl Scanner, x: &[Tensor], state: &Tensor, lengths: &[usize]) -> (Tensor, Tensor) {
    let (mut state, mut start, mut pieces) = (state.clone(), 0, Vec::new());
    for &length in lengths {
        let (y, next) = scan.run(&rows(x, start, length), Some(&state), &Segments::one(length));
        (state, start) = (next, start + length);
        pieces.push(y);
    }
    (Tensor::cat(&pieces.iter().collect::<Vec<_>>(), 0), state)
}

/// In f64 a sequence of odd length has the same result whole, in pieces of any size, and token by token.
pub(crate) fn whole_equals_pieces(scan: &impl Scanner) {
    let tokens = 201;
    let (x, state) = (scan.inputs(tokens), scan.state(1));
    let (whole, last) = scan.run(&x, Some(&state), &Segments::one(tokens));
    for lengths in [vec![1; tokens], vec![0, 64, 64, 64, 9], vec![100, 101], vec![3, 32, 1, 65, 0, 100], vec![200, 1]] {
        let (y, end) = in_pieces(scan, &x, &state, &lengths);
        let errors = [y.relative_error(&whole), end.relative_error(&last)];
        assert!(errors.iter().all(|&error| error < 1e-10), "{lengths:?}: {errors:?}");
    }
}

/// In f32 a sequence has the same bits whole and in pieces whose lengths are multiples of `multiple`, but for the last.
pub(crate) fn cutting_keeps_bits(scan: &impl Scanner, multiple: usize) {
    let tokens = 3 * 64 + 9;
    let (x, state) = (converted(&scan.inputs(tokens), DType::F32), scan.state(1).to_dtype(DType::F32));
    let (whole, last) = scan.run(&x, Some(&state), &Segments::one(tokens));
    let cuts: &[&[usize]] = if multiple == 1 {
        &[&[1, 5, 63, 132], &[33, 31, 137]]
    } else {
        &[&[64, 128, 9], &[128, 73], &[64, 64, 64, 9]]
    };
    for lengths in cuts {
        let (y, end) = in_pieces(scan, &x, &state, lengths);
        assert!(y.equals(&whole) && end.equals(&last), "{lengths:?}");
    }
}

/// Gradients of a sequence in two pieces, through the state between them, are those of the whole.
pub(crate) fn carried_state_has_gradients(scan: &impl Scanner) {
    let tokens = 70;
    let grads = |lengths: &[usize]| {
        let x: Vec<Tensor> = scan.inputs(tokens).iter().map(Tensor::requires_grad).collect();
        let state = scan.state(1).requires_grad();
        let (y, end) = in_pieces(scan, &x, &state, lengths);
        let loss = (&y * &y).sum([]) + end.sum([]);
        let grads = loss.backward();
        x.iter().chain([&state]).map(|x| grads[x].clone()).collect::<Vec<_>>()
    };
    let whole = grads(&[tokens]);
    for lengths in [&[40, 30][..], &[64, 6], &[1, 68, 1]] {
        for (index, (grad, expected)) in grads(lengths).iter().zip(&whole).enumerate() {
            let error = grad.relative_error(expected);
            assert!(error < 1e-9, "{lengths:?}: gradient {index} is off by {error:e}");
            assert!(grad.to_f64_vec().iter().any(|&g| g != 0.0), "{lengths:?}: gradient {index} is zero");
        }
    }
}

/// Changing a later token, or any other sequence, leaves a result's bits alone.
pub(crate) fn causal_and_apart(scan: &impl Scanner) {
    let segments = Segments::from_lengths(&[70, 0, 81]);
    let run = |x: &[Tensor]| scan.run(x, None, &segments).0;
    let x = converted(&scan.inputs(151), DType::F32);
    let before = run(&x);
    // Tokens of the first sequence, and of the last from its 41st on.
    let moved: Vec<Tensor> = x
        .iter()
        .map(|x| {
            let parts = [x.narrow(0, 0, 70) * 0.5, x.narrow(0, 70, 40), x.narrow(0, 110, 41) * 0.5];
            Tensor::cat(&parts.iter().collect::<Vec<_>>(), 0)
        })
        .collect();
    let after = run(&moved);
    assert!(before.narrow(0, 70, 40).equals(&after.narrow(0, 70, 40)));
    assert!(!before.narrow(0, 110, 1).equals(&after.narrow(0, 110, 1)));
    assert!(!before.narrow(0, 0, 70).equals(&after.narrow(0, 0, 70)));
    // The last sequence alone.
    let alone = scan.run(&rows(&x, 70, 81), None, &Segments::one(81)).0;
    assert!(before.narrow(0, 70, 81).equals(&alone));
}

/// Results and gradients have the same bits on 1, 2 and 5 threads.
pub(crate) fn threads_change_nothing(scan: &impl Scanner) {
    let lengths = [70, 0, 200, 1, 150];
    let segments = Segments::from_lengths(&lengths);
    let step = || {
        let x: Vec<Tensor> =
            converted(&scan.inputs(segments.total()), DType::F32).iter().map(Tensor::requires_grad).collect();
        let state = scan.state(lengths.len()).to_dtype(DType::F32).requires_grad();
        let (y, end) = scan.run(&x, Some(&state), &segments);
        let grads = ((&y * &y).sum([]) + (&end * &end).sum([])).backward();
        let mut all: Vec<Tensor> = x.iter().chain([&state]).map(|x| grads[x].clone()).collect();
        all.extend([y.detach(), end.detach()]);
        all
    };
    let one = with_threads(1, step);
    for threads in [2, 5] {
        let several = with_threads(threads, step);
        assert!(one.iter().zip(&several).all(|(a, b)| a.equals(b)), "{threads} threads");
    }
}
