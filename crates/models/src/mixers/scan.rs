//! What the recurrent mixers share: their states, the short convolution before a scan, first values.

use std::ops::Range;

use cupola_nn::init::Init;
use cupola_nn::{Module, Param};
use cupola_tensor::ops::{CausalConvConfig, causal_conv1d};
use cupola_tensor::{DType, Segments, Tensor};

use crate::spec::TimeSteps;
use crate::state::MixerState;

/// Runs a mixer's scan over rows of its inputs, from the states if there are any, which get what it returns besides its result.
///
/// Where a state is followed, its tokens are read one by one, as they are when they are written one by one; the others' as always.
#[track_caller]
pub(super) fn with_states<const K: usize>(
    states: Option<Vec<&mut MixerState>>,
    segments: &Segments,
    inputs: [&Tensor; K],
    run: impl Fn([&Tensor; K], &Segments, Option<&[Tensor]>) -> (Tensor, Vec<Tensor>),
) -> Tensor {
    let Some(mut states) = states.filter(|states| !states.is_empty()) else { return run(inputs, segments, None).0 };
    let followed = states.iter().zip(segments.iter()).map(|(state, range)| state.is_followed() && !range.is_empty());
    let followed: Vec<bool> = followed.collect();
    if !followed.contains(&true) {
        let all: Vec<usize> = (0..states.len()).collect();
        let before = MixerState::gather(&states, &all);
        let (y, after) = run(inputs, segments, Some(&before));
        MixerState::scatter(&mut states, &all, after, segments, false);
        return y;
    }
    let mut rows: Vec<Vec<Tensor>> = vec![Vec::new(); states.len()];
    for round in 0.. {
        let part = |(index, range): (usize, Range<usize>)| {
            let range = if followed[index] {
                let row = range.start + round;
                row..(row + 1).min(range.end)
            } else {
                range.start..if round == 0 { range.end } else { range.start }
            };
            (!range.is_empty()).then_some((index, range))
        };
        let (which, ranges): (Vec<usize>, Vec<Range<usize>>) = segments.iter().enumerate().filter_map(part).unzip();
        if which.is_empty() {
            break;
        }
        let own = inputs.map(|x| join(ranges.iter().map(|range| x.narrow(0, range.start, range.len())).collect()));
        let segments = Segments::from_lengths(&ranges.iter().map(Range::len).collect::<Vec<_>>());
        let before = MixerState::gather(&states, &which);
        let (y, after) = run(own.each_ref(), &segments, Some(&before));
        MixerState::scatter(&mut states, &which, after, &segments, true);
        which
            .iter()
            .zip(segments.iter())
            .for_each(|(&index, range)| rows[index].push(y.narrow(0, range.start, range.len())));
    }
    join(rows.into_iter().flatten().collect())
}

/// Tensors one after the other along their first dimension.
pub(super) fn join(all: Vec<Tensor>) -> Tensor {
    match &all[..] {
        [only] => only.clone(),
        _ => Tensor::cat(&all.iter().collect::<Vec<_>>(), 0),
    }
}

/// The dtype that scans keep their states in, of a model with parameters of this one.
pub(super) fn state_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// A causal convolution of each channel with a kernel of its own, and SiLU: `conv1d` in Mamba's files.
#[derive(Module, Clone)]
pub struct ShortConv {
    /// `[C, 1, K]`.
    pub weight: Param,
    /// `[C]`.
    pub bias: Option<Param>,
}

impl ShortConv {
    /// A convolution of so many channels with so many taps.
    pub fn new(channels: usize, taps: usize, bias: bool) -> Self {
        let bound = 1.0 / (taps.max(1) as f64).sqrt();
        Self {
            weight: Param::new([channels, 1, taps], Init::uniform_within(bound)),
            bias: bias.then(|| Param::new([channels], Init::uniform_within(bound))),
        }
    }

    /// The state of a sequence that has not begun.
    pub fn state(&self) -> Tensor {
        let shape = self.weight.shape();
        Tensor::zeros_of([1, shape[2] - 1, shape[0]], self.weight.dtype())
    }

    /// `x [N, C]` -> `[N, C]`, and the state after each segment, if there is one before.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, state: Option<&Tensor>) -> (Tensor, Option<Tensor>) {
        let weight = self.weight.squeeze(1);
        let config = CausalConvConfig { silu: true, final_state: state.is_some() };
        causal_conv1d(x, &weight, self.bias.as_deref(), state, segments, config)
    }
}

/// The bias of time steps, one for each of `count`.
pub(super) fn time_step_bias(count: usize, steps: TimeSteps) -> Param {
    Param::new([count], Init::TimeStep { low: steps.min, high: steps.max, floor: steps.floor })
}

/// Each head divided by its length: `[N, H, S]`, times `factor`.
#[track_caller]
pub(super) fn unit_length(x: &Tensor, factor: f64) -> Tensor {
    // The norm by the root mean square, whose epsilon is that of the sum of squares divided by the width.
    let width = x.dim(-1) as f64;
    x.rms_norm(None, 1e-6 / width) * (factor / width.sqrt())
}
