//! The selective scan of Mamba.

use cupola_core::Shape;
use cupola_cpu::selective_scan::{self as kernel, Gradients, Inputs, Scan, Scanned};

use crate::autograd::running::RunningSum;
use crate::compute::{compute_dtype, in_input_dtypes, prepare, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::segments::Segments;
use crate::tensor::Tensor;

/// A linear recurrence for each channel whose coefficients depend on the token (Gu and Dao, "Mamba", 2023):
///
/// ```text
/// h[t, d, s] = exp(dt[t, d] a[d, s]) h[t - 1, d, s] + dt[t, d] x[t, d] b[t, s]
/// y[t, d]    = sum over s of c[t, s] h[t, d, s] + skip[d] x[t, d]
/// ```
///
/// h before a sequence's first token is its initial state, or zero. A second output, if asked for, is h after its last token.
/// What is kept for backward besides the inputs are the states at every 32nd token.
pub struct SelectiveScan {
    /// Where sequences begin and end.
    pub segments: Segments,
    /// Whether skip follows x, dt, a, b and c among the inputs.
    pub skip: bool,
    /// Whether an initial state is the last input.
    pub state: bool,
    /// Whether the final state is a second output.
    pub final_state: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[SelectiveScan::INFO];

impl SelectiveScan {
    #[track_caller]
    fn check(&self, inputs: &[&Tensor]) {
        let shapes: Vec<&Shape> = inputs.iter().map(|x| x.shape()).collect();
        let [x, dt, a, b, c] = [shapes[0], shapes[1], shapes[2], shapes[3], shapes[4]];
        let fits = x.rank() == 2 && dt == x && a.rank() == 2 && a[0] == x[1] && b.dims() == [x[0], a[1]] && c == b;
        assert!(fits, "selective_scan: shapes {shapes:?}, expected x, dt [N, D], a [D, S] and b, c [N, S]");
        assert!(
            x[0] == self.segments.total(),
            "selective_scan: input {x} for segments of {} tokens in all",
            self.segments.total()
        );
        let state = [self.segments.count(), x[1], a[1]];
        assert!(
            (!self.skip || shapes[5].dims() == [x[1]]) && (!self.state || shapes[shapes.len() - 1].dims() == state),
            "selective_scan: shapes {shapes:?}, expected skip [{}] and initial state {state:?}",
            x[1]
        );
    }

    fn scan<'a>(&self, offsets: &'a [usize], a: &Shape) -> Scan<'a> {
        Scan { offsets, channels: a[0], states: a[1] }
    }

    fn operands<'a, T: Scanned<T>>(&self, wide: &'a [Tensor]) -> Inputs<'a, T> {
        let slice = |index: usize| wide[index].slice_of::<T>();
        Inputs {
            x: slice(0),
            dt: slice(1),
            a: slice(2),
            b: slice(3),
            c: slice(4),
            skip: self.skip.then(|| slice(5)),
            state: self.state.then(|| slice(5 + usize::from(self.skip))),
        }
    }
}

impl Op for SelectiveScan {
    const NAME: &'static str = "selective_scan";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        self.check(inputs);
        let dtype = compute_dtype(Self::NAME, inputs[0]);
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        inputs.iter().for_each(|input| saved.keep([input]));
        let offsets = self.segments.offsets();
        let scan = self.scan(&offsets, inputs[2].shape());
        with_real!(dtype, T => {
            let operands = self.operands::<T>(&wide);
            let state = [self.segments.count(), scan.channels, scan.states];
            let state = if self.final_state { state } else { [0; 3] };
            let kept = if saved.is_enabled() { scan.borders_len() } else { 0 };
            let mut y = Tensor::build::<T>(*inputs[0].shape(), |_| ());
            let (mut last, mut borders) = (Tensor::build::<T>(state, |_| ()), Tensor::build::<T>([kept], |_| ()));
            kernel::forward(&scan, &operands, writable(&mut y), writable(&mut last), writable(&mut borders));
            saved.keep([&borders]);
            let mut outputs = vec![y.to_dtype(inputs[0].dtype())];
            if self.final_state {
                outputs.push(last);
            }
            outputs.into()
        })
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let saved = cx.all_saved();
        let dtype = compute_dtype(Self::NAME, &saved[0]);
        let (borders, inputs) = saved.split_last().expect("forward keeps the borders last");
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        let dy = prepare(&cx.output_grad_or_zeros(0), dtype);
        let dlast = self.final_state.then(|| cx.output_grad(1)).flatten().map(|d| prepare(&d, dtype));
        let offsets = self.segments.offsets();
        let scan = self.scan(&offsets, inputs[2].shape());
        with_real!(dtype, T => {
            let (a, channels) = (*wide[2].shape(), Shape::new(&[scan.channels]));
            let mut da = RunningSum::wanted(cx, Some(2), a, dtype);
            let mut dskip = RunningSum::wanted(cx, self.skip.then_some(5), channels, dtype);
            let like = |index: usize| Tensor::build::<T>(*wide[index].shape(), |_| ());
            let [mut dx, mut ddt, mut db, mut dc] = [0, 1, 3, 4].map(like);
            let mut dstate = self.state.then(|| like(wide.len() - 1));
            {
                let gradients = Gradients {
                    dx: writable(&mut dx),
                    ddt: writable(&mut ddt),
                    da: da.slice(),
                    db: writable(&mut db),
                    dc: writable(&mut dc),
                    dskip: dskip.slice(),
                    dstate: dstate.as_mut().map_or(&mut [], writable),
                };
                let dlast = dlast.as_ref().map(Tensor::slice_of::<T>);
                kernel::backward(&scan, &self.operands::<T>(&wide), borders.slice_of(), dy.slice_of(), dlast, gradients);
            }
            let mut grads = vec![dx, ddt, da.finish(), db, dc];
            grads.extend(self.skip.then(|| dskip.finish()));
            grads.extend(dstate);
            in_input_dtypes(cx, grads.into_iter().map(Some).collect())
        })
    }
}

/// The elements of a tensor that was made just now.
fn writable<T: cupola_core::Element>(x: &mut Tensor) -> &mut [T] {
    x.as_mut_slice().expect("a fresh tensor has no other holder")
}

/// What [`selective_scan`] does besides scanning.
#[derive(Clone, Copy, Debug, Default)]
pub struct SelectiveScanConfig<'a> {
    /// The factor of x that is added to the result, `[D]`.
    pub skip: Option<&'a Tensor>,
    /// The states before the sequences, `[sequences, D, S]`.
    pub state: Option<&'a Tensor>,
    /// Whether the final states are returned.
    pub final_state: bool,
}

/// The selective scan; see [`SelectiveScan`] for the formula. Computed in f32 (f64 for f64), in which the final states are returned,
/// so that a sequence that is cut into pieces loses nothing. Where a sequence is cut changes no bit of the result.
///
/// # Shapes
/// `x, dt [N, D]`, `a [D, S]`, `b, c [N, S]` -> `[N, D]`, `[sequences, D, S]`.
///
/// # Panics
/// When the shapes do not fit or a dtype is not floating-point.
#[track_caller]
pub fn selective_scan(
    x: &Tensor,
    dt: &Tensor,
    a: &Tensor,
    b: &Tensor,
    c: &Tensor,
    segments: &Segments,
    config: SelectiveScanConfig<'_>,
) -> (Tensor, Option<Tensor>) {
    let inputs: Vec<&Tensor> =
        [Some(x), Some(dt), Some(a), Some(b), Some(c), config.skip, config.state].into_iter().flatten().collect();
    let op = SelectiveScan {
        segments: segments.clone(),
        skip: config.skip.is_some(),
        state: config.state.is_some(),
        final_state: config.final_state,
    };
    let mut outputs = op.apply_all(&inputs).into_iter();
    let y = outputs.next().expect("selective_scan has at least one output");
    (y, outputs.next())
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, between, uniform};
    let all: [(&[usize], usize, usize); 7] = [
        (&[5], 3, 4),
        (&[4, 0, 7, 1], 5, 3),
        (&[33, 2], 2, 1),
        (&[1, 1, 1], 2, 16),
        (&[3], 33, 2),
        (&[65, 1], 1, 2),
        (&[0, 0], 2, 3),
    ];
    let mut cases = Vec::new();
    for (lengths, channels, states) in all {
        let segments = Segments::from_lengths(lengths);
        let (n, count) = (segments.total(), segments.count());
        let known = segments.clone();
        let reference = move |x: &[Array], skip: bool, state: bool| {
            let mut y = vec![0.0; n * channels];
            let mut last = vec![0.0; count * channels * states];
            for (sequence, range) in known.iter().enumerate() {
                for d in 0..channels {
                    let mut h: Vec<f64> = (0..states)
                        .map(|s| if state { x[5 + usize::from(skip)].at(&[sequence, d, s]) } else { 0.0 })
                        .collect();
                    for t in range.clone() {
                        let (value, dt) = (x[0].at(&[t, d]), x[1].at(&[t, d]));
                        let mut sum = if skip { x[5].data[d] * value } else { 0.0 };
                        for (s, h) in h.iter_mut().enumerate() {
                            *h = (dt * x[2].at(&[d, s])).exp() * *h + dt * value * x[3].at(&[t, s]);
                            sum += x[4].at(&[t, s]) * *h;
                        }
                        y[t * channels + d] = sum;
                    }
                    let at = (sequence * channels + d) * states;
                    last[at..at + states].copy_from_slice(&h);
                }
            }
            (Array::new(&[n, channels], y), Array::new(&[count, channels, states], last))
        };
        let inputs = [
            uniform([n, channels], 1),
            between(0.01, 0.7, [n, channels], 2),
            between(-2.0, -0.1, [channels, states], 3),
            uniform([n, states], 4),
            uniform([n, states], 5),
        ];
        let [x, dt, a, b, c] = inputs.clone();
        let (skip, state) = (uniform([channels], 6), uniform([count, channels, states], 7));
        let (parts, full) = (segments.clone(), reference.clone());
        let case =
            Case::new(format!("{lengths:?} by {channels}, {states} states"), [x, dt, a, b, c, skip, state], move |x| {
                let config = SelectiveScanConfig { skip: Some(&x[5]), state: Some(&x[6]), final_state: true };
                let (y, last) = selective_scan(&x[0], &x[1], &x[2], &x[3], &x[4], &parts, config);
                vec![y, last.expect("the final state was asked for")]
            });
        cases.push(case.reference(move |x| {
            let (y, last) = full(x, true, true);
            vec![y, last]
        }));
        let run = move |x: &[Tensor]| {
            vec![selective_scan(&x[0], &x[1], &x[2], &x[3], &x[4], &segments, SelectiveScanConfig::default()).0]
        };
        let case = Case::new(format!("{lengths:?} by {channels}, {states} states, from nothing"), inputs, run);
        cases.push(case.reference(move |x| vec![reference(x, false, false).0]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scans::{self, Scanner};
    use crate::testing::{between, uniform};

    /// A scan over 40 channels with 5 states.
    struct Channels;

    impl Scanner for Channels {
        fn inputs(&self, tokens: usize) -> Vec<Tensor> {
            vec![
                uniform([tokens, 40], 1),
                between(0.01, 0.7, [tokens, 40], 2),
                uniform([tokens, 5], 4),
                uniform([tokens, 5], 5),
            ]
        }
        fn state(&self, sequences: usize) -> Tensor {
            uniform([sequences, 40, 5], 7)
        }
        fn run(&self, x: &[Tensor], state: Option<&Tensor>, segments: &Segments) -> (Tensor, Tensor) {
            let a = between(-2.0, -0.1, [40, 5], 3).to_dtype(x[0].dtype());
            let config = SelectiveScanConfig { skip: None, state, final_state: true };
            let (y, last) = selective_scan(&x[0], &x[1], &a, &x[2], &x[3], segments, config);
            (y, last.expect("the final state was asked for"))
        }
    }

    #[test]
    fn whole_chunks_and_single_tokens_are_the_same() {
        scans::whole_equals_pieces(&Channels);
        scans::cutting_keeps_bits(&Channels, 1);
    }

    #[test]
    fn gradients_pass_through_a_carried_state() {
        scans::carried_state_has_gradients(&Channels);
    }

    #[test]
    fn a_later_token_and_another_sequence_leave_a_result_alone() {
        scans::causal_and_apart(&Channels);
    }

    #[test]
    fn threads_change_no_bit() {
        scans::threads_change_nothing(&Channels);
    }

    #[test]
    fn parts_of_whole_blocks_add_up_to_the_bits_of_one_batch() {
        let f32 = |x: Tensor| x.to_dtype(crate::DType::F32);
        let inputs: Vec<Tensor> = Channels.inputs(1280).into_iter().map(f32).collect();
        let a_log = f32(between(-2.0, 1.0, [40, 5], 3)).requires_grad();
        let skip = f32(uniform([40], 6)).requires_grad();
        // Sequences that begin in the middle of blocks, and one longer than a block.
        let lengths = [100, 300, 112, 256, 10, 246, 256];
        let loss = |first: usize, lengths: &[usize]| {
            let segments = Segments::from_lengths(lengths);
            let part: Vec<Tensor> = inputs.iter().map(|x| x.narrow(0, first, segments.total())).collect();
            let config = SelectiveScanConfig { skip: Some(&skip), ..SelectiveScanConfig::default() };
            // As models keep it: the sum is that of what the exponential makes.
            let a = -a_log.exp();
            selective_scan(&part[0], &part[1], &a, &part[2], &part[3], &segments, config).0.exp().sum([])
        };
        let whole = loss(0, &lengths).backward();
        let mut grads = crate::Gradients::new();
        for (first, part) in [(0, &lengths[..4]), (768, &lengths[4..])] {
            loss(first, part).backward_into(&mut grads);
        }
        assert!(grads[&a_log].same_bits(&whole[&a_log]) && grads[&skip].same_bits(&whole[&skip]));
    }
}
