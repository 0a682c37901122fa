//! Mamba-3 (2026, arXiv:2603.15569).

use std::f64::consts::PI;

use cupola_nn::init::Init;
use cupola_nn::layers::{Linear, RmsNorm};
use cupola_nn::{Layer, Module, Param};
use cupola_tensor::ops::{SsdConfig, ssd};
use cupola_tensor::{Segments, Tensor};

use super::mamba::{last, outer};
use super::scan::{state_dtype, time_step_bias, with_states};
use crate::spec::ModelSpec;
use crate::state::MixerState;

/// A state-space mixer by the trapezoidal rule, whose states turn and decay as the tokens say, with R inputs and outputs of a head:
///
/// ```text
/// z, x, b, c, dt, a, t, w = in_proj(u)
/// dt = softplus(dt + dt_bias);  a = -max(f(a), floor);  l = sigmoid(t);  angle += dt pi tanh(w)
/// b, c = turn(norm(b) + B_bias, angle), turn(norm(c) + C_bias, angle);  v^r = x mimo_x^r
/// S[t] = e S[t-1] + (1 - l) dt e sum of b[t-1]^r v[t-1]^r + l dt sum of b[t]^r v[t]^r,  e = exp(dt a)
/// y^r = (c^r S + D v^r) silu(z mimo_z^r);  out_proj(sum of y^r mimo_o^r)
/// ```
///
/// with `f(a) = 1 + a` from 0 on and `1 / (1 - a)` below. With R = 1 (SISO) there are no `mimo` factors. With `is_outproj_norm`
/// each head's `c^r S + D v^r` is normalised by its root mean square before the gate.
#[derive(Module, Clone)]
pub struct Mamba3 {
    /// To gate, x, b, c, time steps, decays, the rule's weights and angles, `[2 Di + 2 R G S + 3 H + K, D]`.
    pub in_proj: Linear,
    /// `[H]`.
    pub dt_bias: Param,
    /// Of b, over states.
    #[module(rename = "B_norm")]
    pub b_norm: RmsNorm,
    /// Of c, over states.
    #[module(rename = "C_norm")]
    pub c_norm: RmsNorm,
    /// `[H, R, S]`.
    #[module(rename = "B_bias")]
    pub b_bias: Param,
    /// `[H, R, S]`.
    #[module(rename = "C_bias")]
    pub c_bias: Param,
    /// What of the inputs passes by the scan, `[H]`.
    #[module(rename = "D")]
    pub d: Param,
    /// From x to R inputs, `[H, R, P]`.
    pub mimo_x: Option<Param>,
    /// From z to R gates, `[H, R, P]`.
    pub mimo_z: Option<Param>,
    /// From R outputs to one, `[H, R, P]`.
    pub mimo_o: Option<Param>,
    /// Of each head's outputs before the gate, where there is such a norm: `norm.weight [Di]`.
    pub norm: Option<RmsNorm>,
    /// Back, `[D, Di]`.
    pub out_proj: Linear,
    heads: usize,
    head_dim: usize,
    groups: usize,
    states: usize,
    rank: usize,
    angles: usize,
    floor: f64,
}

/// Tokens that are scanned at a time where a sequence goes on from a state.
const CHUNK: usize = 64;

/// What the scan reads: `[N, H]` each, and `[N, R, H, ..]`.
struct Scan {
    dt: Tensor,
    log_decay: Tensor,
    /// The rule's weight of a token's own input.
    own: Tensor,
    turns: Tensor,
    b: Tensor,
    c: Tensor,
    v: Tensor,
}

impl Scan {
    fn inputs(&self) -> [&Tensor; 7] {
        [&self.dt, &self.log_decay, &self.own, &self.turns, &self.b, &self.c, &self.v]
    }

    /// From what [`Scan::inputs`] gives.
    fn of(inputs: [&Tensor; 7]) -> Self {
        let [dt, log_decay, own, turns, b, c, v] = inputs.map(Tensor::clone);
        Self { dt, log_decay, own, turns, b, c, v }
    }

    /// Some tokens of it.
    fn rows(&self, start: usize, length: usize) -> Self {
        let rows = |x: &Tensor| x.narrow(0, start, length);
        Self {
            dt: rows(&self.dt),
            log_decay: rows(&self.log_decay),
            own: rows(&self.own),
            turns: rows(&self.turns),
            b: rows(&self.b),
            c: rows(&self.c),
            v: rows(&self.v),
        }
    }
}

impl Mamba3 {
    /// The Mamba-3 of this specification's layers.
    ///
    /// # Panics
    /// When the specification has none.
    #[track_caller]
    pub fn new(spec: &ModelSpec) -> Self {
        let mamba = spec.mamba3.as_ref().expect("a specification with Mamba-3 layers has their table");
        let (width, inner, rank) = (spec.hidden_size, spec.hidden_size * mamba.expand, mamba.mimo_rank);
        let (heads, shared) = (inner / mamba.head_dim, 2 * rank * mamba.n_groups * mamba.state_size);
        let factor = |value: f64| (rank > 1).then(|| Param::new([heads, rank, mamba.head_dim], Init::Constant(value)));
        let bias = || Param::new([heads, rank, mamba.state_size], Init::Ones);
        let norm = || RmsNorm::new(mamba.state_size).with_eps(spec.norm_eps);
        Self {
            in_proj: outer(width, 2 * inner + shared + 3 * heads + mamba.angles(), false, spec),
            dt_bias: time_step_bias(heads, mamba.time_steps()),
            b_norm: norm(),
            c_norm: norm(),
            b_bias: bias(),
            c_bias: bias(),
            d: Param::new([heads], Init::Ones),
            mimo_x: factor(1.0 / rank as f64),
            mimo_z: factor(1.0),
            mimo_o: factor(1.0 / rank as f64),
            norm: mamba.is_outproj_norm.then(|| RmsNorm::new(inner).with_eps(spec.norm_eps)),
            out_proj: last(inner, width, false, spec),
            heads,
            head_dim: mamba.head_dim,
            groups: mamba.n_groups,
            states: mamba.state_size,
            rank,
            angles: mamba.angles(),
            floor: mamba.a_floor,
        }
    }

    /// What is kept of a sequence that has not begun: angles, the heads' states, b and v of the last token.
    pub fn state(&self) -> MixerState {
        let dtype = state_dtype(self.out_proj.weight.dtype());
        let zeros = |shape: &[usize]| Tensor::zeros_of(shape, dtype);
        let (heads, rank) = (self.heads, self.rank);
        MixerState::recurrent(vec![
            zeros(&[1, heads, self.angles]),
            zeros(&[1, heads, self.states, self.head_dim]),
            zeros(&[1, rank, heads, self.states]),
            zeros(&[1, rank, heads, self.head_dim]),
        ])
    }

    /// # Shapes
    /// `x [N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, states: Option<Vec<&mut MixerState>>) -> Tensor {
        let (tokens, heads, width) = (x.dim(0), self.heads, self.head_dim);
        let inner = heads * width;
        let shared = self.rank * self.groups * self.states;
        let sizes = [inner, inner, shared, shared, heads, heads, heads, self.angles];
        let parts = self.in_proj.forward(x).split(-1, &sizes);
        let (z, x) = (&parts[0], parts[1].reshape([tokens, 1, heads, width]));
        let dt = (&parts[4] + &*self.dt_bias).softplus();
        let scan = Scan {
            log_decay: &dt * -decays(&parts[5]).clamp(self.floor, f64::INFINITY),
            own: parts[6].sigmoid(),
            turns: dt.unsqueeze(-1) * (parts[7].tanh() * PI).unsqueeze(1),
            b: self.inputs(&parts[2], &self.b_norm, &self.b_bias),
            c: self.inputs(&parts[3], &self.c_norm, &self.c_bias),
            v: match &self.mimo_x {
                Some(factors) => &x * by_row(factors),
                None => x,
            },
            dt,
        };
        let y = with_states(states, segments, scan.inputs(), |inputs, segments, states| {
            let scan = Scan::of(inputs);
            match states {
                Some(states) if segments.longest() > CHUNK => self.scan_by_chunks(&scan, segments, states),
                _ => self.scan(&scan, segments, states),
            }
        });
        let y = y + scan.v * self.d.unsqueeze(-1);
        let y = match &self.norm {
            Some(norm) => y.rms_norm(None, norm.eps) * norm.weight.reshape([heads, width]),
            None => y,
        };
        let z = z.reshape([tokens, 1, heads, width]);
        let y = match (&self.mimo_z, &self.mimo_o) {
            (Some(gates), Some(outputs)) => {
                let gate = z * by_row(gates);
                (gate.swiglu(&y.to_dtype(gate.dtype())) * by_row(outputs)).sum([1])
            }
            // D is kept in f32 under autocast, and what is added to it with it.
            _ => z.swiglu(&y.to_dtype(z.dtype())),
        };
        self.out_proj.forward(&y.reshape([tokens, inner]))
    }

    /// Normalised, one for each head, with its bias: `[N, R G S]` -> `[N, R, H, S]`.
    fn inputs(&self, x: &Tensor, norm: &RmsNorm, bias: &Param) -> Tensor {
        let (tokens, share) = (x.dim(0), self.heads / self.groups);
        let x = norm.forward(&x.reshape([tokens, self.rank, self.groups, 1, self.states]));
        let x = x.expand([tokens, self.rank, self.groups, share, self.states]);
        x.reshape([tokens, self.rank, self.heads, self.states]) + by_row(bias)
    }

    /// As [`Mamba3::scan`], 64 tokens of a sequence at a time. What a token's input counts at the next token is then added to a state
    /// at the same places wherever a prompt is cut at multiples of 64, so that bits do not depend on where that is.
    fn scan_by_chunks(&self, scan: &Scan, segments: &Segments, states: &[Tensor]) -> (Tensor, Vec<Tensor>) {
        let (mut ys, mut after) = (Vec::new(), vec![Vec::new(); states.len()]);
        for (index, range) in segments.iter().enumerate() {
            let mut own: Vec<Tensor> = states.iter().map(|state| state.narrow(0, index, 1)).collect();
            for start in range.clone().step_by(CHUNK) {
                let length = CHUNK.min(range.end - start);
                let (y, next) = self.scan(&scan.rows(start, length), &Segments::one(length), Some(&own));
                ys.push(y);
                own = next;
            }
            after.iter_mut().zip(own).for_each(|(all, state)| all.push(state));
        }
        let join = |all: &Vec<Tensor>| Tensor::cat(&all.iter().collect::<Vec<_>>(), 0);
        (join(&ys), after.iter().map(join).collect())
    }

    /// `c S` for all rows, `[N, R, H, P]`, and the states afterwards, if there are some before.
    fn scan(&self, scan: &Scan, segments: &Segments, states: Option<&[Tensor]>) -> (Tensor, Vec<Tensor>) {
        let Scan { dt, log_decay, own, turns, b, c, v } = scan;
        let (angles, last_angles) = turns.angle_sum(segments, states.map(|s| &s[0]), states.is_some());
        let (b, c) = (b.rotate_pairs(&angles), c.rotate_pairs(&angles));
        // Each token's input counts for itself, and once more at the next token, whose step says how much.
        let now = dt * own;
        let before = dt - &now;
        let scale = &now + shifted(&before, segments);
        let initial = states.map(|s| {
            let first = rows(&before, segments, |range| range.start);
            // R outer products of keys and values, [sequences, H, S, P].
            let (keys, values) = (s[2].permute(&[0, 2, 3, 1]), s[3].permute(&[0, 2, 1, 3]));
            &s[1] + keys.matmul(&values) * first.reshape([segments.count(), self.heads, 1, 1])
        });
        let config = SsdConfig {
            log_decay: Some(log_decay),
            scale: Some(&scale),
            diagonal: Some(&now),
            state: initial.as_ref(),
            final_state: states.is_some(),
        };
        let single = |x: &Tensor| if self.rank == 1 { x.squeeze(1) } else { x.clone() };
        let (y, last) = ssd(&single(&c), &single(&b), &single(v), segments, config);
        let y = if self.rank == 1 { y.unsqueeze(1) } else { y };
        let Some(states) = states else { return (y, Vec::new()) };
        let end = |x: &Tensor, old: &Tensor| {
            let new = rows(x, segments, |range| range.end - 1).to_dtype(old.dtype());
            new + old * begun(segments, old.rank(), old, false)
        };
        let after = [last_angles, last, Some(end(&b, &states[2])), Some(end(v, &states[3]))];
        (y, after.into_iter().flatten().collect())
    }
}

/// `[H, R, S]` -> `[R, H, S]`, as rows of tokens lie.
fn by_row(x: &Param) -> Tensor {
    x.transpose(0, 1)
}

/// 1 + a from 0 on and 1 / (1 - a) below: positive, and smooth at 0.
fn decays(a: &Tensor) -> Tensor {
    let up = a.relu();
    let down = (-a).relu();
    &up + 1.0 / (down + 1.0)
}

/// 1 for each segment that has tokens and 0 for others, or the reverse, `[sequences, 1, ..]` of a rank.
fn begun(segments: &Segments, rank: usize, like: &Tensor, begun: bool) -> Tensor {
    let values: Vec<f64> = segments.iter().map(|range| f64::from(u8::from(range.is_empty() != begun))).collect();
    let mut shape = vec![1; rank];
    shape[0] = values.len();
    Tensor::from_vec(values, shape).to_dtype(like.dtype())
}

/// One row of each segment, zero for those without tokens.
fn rows(x: &Tensor, segments: &Segments, pick: impl Fn(std::ops::Range<usize>) -> usize) -> Tensor {
    if x.dim(0) == 0 {
        return Tensor::zeros_of(x.shape().with_dim(0, segments.count()), x.dtype());
    }
    let index: Vec<i64> = segments.iter().map(|range| if range.is_empty() { 0 } else { pick(range) as i64 }).collect();
    let count = index.len();
    x.index_select(0, &Tensor::from_vec(index, [count])) * begun(segments, x.rank(), x, true)
}

/// Each row's successor in its segment, zero at the ends: `[N, H]`.
fn shifted(x: &Tensor, segments: &Segments) -> Tensor {
    let tokens = x.dim(0);
    if tokens == 0 {
        return x.clone();
    }
    let mut inside = vec![1.0; tokens];
    segments.iter().filter(|range| !range.is_empty()).for_each(|range| inside[range.end - 1] = 0.0);
    let next = x.narrow(0, 1, tokens - 1).pad(0, 0, 1, 0.0);
    next * Tensor::from_vec(inside, [tokens, 1]).to_dtype(x.dtype())
}
