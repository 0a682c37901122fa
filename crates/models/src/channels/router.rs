//! Which experts a token is sent to, and how much each counts.

use cupola_nn::init::Init;
use cupola_nn::{Module, ModuleBuffer, Param};
use cupola_tensor::ops::linear::{Activation, linear};
use cupola_tensor::{DType, Segments, Tensor, mode};

use crate::spec::{ModelSpec, MoeSpec, RouterKind};

/// Weighs experts by a linear map of the token and chooses the heaviest.
#[derive(Module, Clone)]
pub struct Router {
    /// `[E, D]`.
    pub weight: Param,
    /// `[E]`, added to scores where experts are chosen, and only there.
    pub e_score_correction_bias: Option<ModuleBuffer>,
    #[module(skip)]
    spec: MoeSpec,
}

/// Where the tokens of a call go.
pub struct Routing {
    /// How many tokens there are, N.
    pub tokens: usize,
    /// The experts of each token in rising order, k for each.
    pub experts: Vec<usize>,
    /// What each of these counts, `[N, k]`.
    pub weights: Tensor,
    /// How many rows each expert is sent.
    pub counts: Vec<usize>,
    /// The router's logits, `[N, E]`.
    pub logits: Tensor,
    /// What experts are weighed by, `[N, E]`.
    pub scores: Tensor,
}

impl Router {
    pub(super) fn new(moe: &MoeSpec, spec: &ModelSpec) -> Self {
        let bias = moe.bias_update_speed.map(|_| ModuleBuffer::new([moe.num_experts], 0.0));
        Self {
            weight: Param::new([moe.num_experts, spec.hidden_size], Init::normal(spec.initializer_range)),
            e_score_correction_bias: bias,
            spec: moe.clone(),
        }
    }

    /// Chooses for each token. Logits are computed in f32 (f64 for f64), whatever products are computed in.
    ///
    /// # Shapes
    /// `x [N, D]`.
    #[track_caller]
    pub fn route(&self, x: &Tensor) -> Routing {
        let wide = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let logits = mode::autocast(DType::F32, || linear(&x.to_dtype(wide), &self.weight, None, Activation::None));
        let scores = match self.spec.router {
            RouterKind::Softmax => logits.softmax(-1),
            RouterKind::Sigmoid => logits.sigmoid(),
        };
        let bias = self.e_score_correction_bias.as_ref().map(|bias| bias.value().to_f64_vec());
        let experts = choose(&scores.detach().to_f64_vec(), bias.as_deref(), &self.spec);
        let (tokens, chosen) = (x.dim(0), self.spec.num_experts_per_tok);
        let mut counts = vec![0; self.spec.num_experts];
        experts.iter().for_each(|&e| counts[e] += 1);
        let index = Tensor::from_vec(experts.iter().map(|&e| e as i64).collect(), [tokens, chosen]);
        let mut weights = scores.gather(-1, &index);
        if self.spec.norm_topk_prob == Some(true) {
            weights = &weights / weights.sum_keepdim([-1]);
        }
        if self.spec.routed_scaling_factor != 1.0 {
            weights = weights * self.spec.routed_scaling_factor;
        }
        Routing { tokens, experts, weights, counts, logits, scores }
    }

    /// Counts the tokens of this call. The step ends with a bias that sends fewer to experts that had more than their share of all
    /// of its tokens, and more to those that had less: it moves once, into however many micro-batches the step is cut.
    pub(super) fn rebalance(&self, routing: &Routing) {
        if let (Some(bias), Some(speed)) = (&self.e_score_correction_bias, self.spec.bias_update_speed) {
            let counts: Vec<f64> = routing.counts.iter().map(|&count| count as f64).collect();
            let experts = counts.len();
            bias.tally(&Tensor::from_vec(counts, [experts]), move |bias, counts| {
                let counts = counts.to_f64_vec();
                let share = counts.iter().sum::<f64>() / experts as f64;
                let step = |count: f64| match count - share {
                    over if over > 0.0 => -speed,
                    over if over < 0.0 => speed,
                    _ => 0.0,
                };
                let moved = bias.to_f64_vec().into_iter().zip(counts).map(|(b, count)| b + step(count)).collect();
                Tensor::from_vec(moved, [experts])
            });
        }
    }
}

impl Routing {
    /// For each row that an expert is sent the token that it comes from: sorted by expert, then by token.
    pub fn rows(&self) -> Tensor {
        let chosen = self.weights.dim(1);
        let mut rows = vec![0i64; self.experts.len()];
        for (slot, place) in self.slots().enumerate() {
            rows[place] = (slot / chosen) as i64;
        }
        let count = rows.len();
        Tensor::from_vec(rows, [count])
    }

    /// For each token and expert of it, in order, the row that it was sent as.
    pub fn places(&self) -> Tensor {
        let places: Vec<i64> = self.slots().map(|place| place as i64).collect();
        let count = places.len();
        Tensor::from_vec(places, [count])
    }

    fn slots(&self) -> impl Iterator<Item = usize> {
        let mut next: Vec<usize> = self.counts.clone();
        let mut begin = 0;
        for place in &mut next {
            begin += std::mem::replace(place, begin);
        }
        self.experts.iter().map(move |&e| {
            next[e] += 1;
            next[e] - 1
        })
    }

    /// The part of all rows that each expert is sent, times the number of experts: 1 where experts are used alike.
    pub fn load(&self) -> Tensor {
        let share = self.experts.len().max(1) as f64 / self.counts.len() as f64;
        let load = self.counts.iter().map(|&count| count as f64 / share).collect();
        Tensor::from_vec(load, [self.counts.len()]).to_dtype(self.scores.dtype())
    }

    /// `E sum over e of f_e P_e`, where f is the part of all rows that expert e was sent and P the mean of its score, scores of a
    /// token adding up to 1 (Fedus et al. 2021, with f divided by k): 1 where experts are used alike. Its gradient goes
    /// through P.
    pub fn balance_loss(&self) -> Tensor {
        (self.shares().mean([0]) * self.load()).sum([])
    }

    /// The same over each sequence by itself, and of that the mean over the tokens (DeepSeek-AI, "DeepSeek-V2", 2024,
    /// arXiv:2405.04434, whose sequences have one length, and "DeepSeek-V3", 2024, arXiv:2412.19437). It does not depend on which
    /// sequences are in the call together.
    ///
    /// # Panics
    /// When the segments are not those of the call's tokens.
    #[track_caller]
    pub fn sequence_balance_loss(&self, segments: &Segments) -> Tensor {
        let (tokens, experts) = (self.tokens, self.counts.len());
        assert_eq!(
            segments.total(),
            tokens,
            "sequence_balance_loss: the number of the segments' tokens is not the call's"
        );
        let chosen = self.weights.dim(1);
        let mut loads = Vec::with_capacity(tokens * experts);
        for range in segments.iter() {
            let mut load = vec![0.0; experts];
            let share = (range.len() * chosen) as f64 / experts as f64;
            self.experts[range.start * chosen..range.end * chosen].iter().for_each(|&e| load[e] += 1.0 / share);
            range.for_each(|_| loads.extend_from_slice(&load));
        }
        let loads = Tensor::from_vec(loads, [tokens, experts]).to_dtype(self.scores.dtype());
        (self.shares() * loads).sum([-1]).mean([])
    }

    /// Scores of which a token's add up to 1. The softmax's do by themselves, so that this only corrects the sigmoid's.
    fn shares(&self) -> Tensor {
        &self.scores / self.scores.sum_keepdim([-1])
    }

    /// The mean square of the log-sum-exp of the logits.
    pub fn z_loss(&self) -> Tensor {
        self.logits.logsumexp([-1]).square().mean([])
    }
}

/// The `k` experts of the highest score for each row of E, in rising order; of equal ones the first.
fn choose(scores: &[f64], bias: Option<&[f64]>, spec: &MoeSpec) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(scores.len() / spec.num_experts * spec.num_experts_per_tok);
    let mut all = vec![0.0; spec.num_experts];
    for row in scores.chunks(spec.num_experts) {
        for (e, (value, score)) in all.iter_mut().zip(row).enumerate() {
            *value = score + bias.map_or(0.0, |bias| bias[e]);
        }
        let mut open = vec![true; spec.num_experts];
        if let (Some(groups), Some(kept)) = (spec.n_group, spec.topk_group) {
            let size = spec.num_experts / groups;
            let best: Vec<f64> =
                all.chunks(size).map(|g| g.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect();
            let kept = largest(&best, &mut vec![true; groups], kept);
            open.iter_mut().enumerate().for_each(|(e, open)| *open = kept.contains(&(e / size)));
        }
        chosen.extend(largest(&all, &mut open, spec.num_experts_per_tok));
    }
    chosen
}

/// The places of the `count` largest of those values that are open, in rising order.
fn largest(values: &[f64], open: &mut [bool], count: usize) -> Vec<usize> {
    let mut found: Vec<usize> = (0..count)
        .filter_map(|_| {
            let candidates = (0..values.len()).filter(|&i| open[i]);
            // Against a NaN the first candidate stays, so that there always is one.
            let best = candidates.reduce(|best, i| if values[i] > values[best] { i } else { best })?;
            open[best] = false;
            Some(best)
        })
        .collect();
    found.sort_unstable();
    found
}
