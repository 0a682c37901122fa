//! A mixture of experts (Shazeer et al., "Outrageously Large Neural Networks", 2017; Fedus et al., "Switch Transformers", 2021;
//! Jiang et al., "Mixtral of Experts", 2024; Dai et al., "DeepSeekMoE", 2024).

use cupola_nn::init::Init;
use cupola_nn::layers::Ternary;
use cupola_nn::{Layer, Module, Param, observe};
use cupola_tensor::mode::{self, add_auxiliary_loss};
use cupola_tensor::ops::glu::Gate;
use cupola_tensor::ops::grouped_linear::grouped_linear;
use cupola_tensor::{DType, Segments, Tensor};

use super::{GatedMlp, residual_std, ternary};
use crate::channels::router::{Router, Routing};
use crate::spec::{ChannelKind, ModelSpec, MoeSpec};

/// `sum over a token's experts e of weight_e expert_e(x) + shared(x)`.
///
/// No token is dropped: tokens are sorted by expert, and each expert multiplies exactly the rows that were sent to it. A token's
/// result depends on itself alone and is summed in the order of the experts' numbers, so that it has the same bits in any batch.
///
/// In a training scope the layer hands in its losses of balance, each the mean over the tokens of the call (see
/// [`cupola_nn::TrainingScope::auxiliary_losses`]).
#[derive(Module, Clone)]
pub struct Moe {
    /// Chooses experts.
    pub gate: Router,
    /// What is chosen from.
    pub experts: Experts,
    /// Experts that every token is sent to, as one.
    pub shared_experts: Option<GatedMlp>,
    #[module(skip)]
    spec: MoeSpec,
}

/// Gated projections as in [`GatedMlp`], once for each expert: `N.gate_proj`, `N.up_proj` and `N.down_proj` in files.
#[derive(Module, Clone)]
pub struct Experts {
    /// `[E 2 F, D]`.
    pub gate_up: Param,
    /// `[E D, F]`.
    pub down: Param,
    #[module(skip)]
    ternary: Option<Ternary>,
}

impl Experts {
    fn new(experts: usize, inner: usize, spec: &ModelSpec) -> Self {
        let width = spec.hidden_size;
        let both = |e: usize| [(format!("{e}.gate_proj.weight"), inner), (format!("{e}.up_proj.weight"), inner)];
        let gate_up = Param::new([experts * 2 * inner, width], Init::normal(spec.initializer_range));
        let down = Param::new([experts * width, inner], Init::normal(residual_std(spec)));
        Self {
            gate_up: gate_up.with_parts((0..experts).flat_map(both)),
            down: down.with_parts((0..experts).map(|e| (format!("{e}.down_proj.weight"), width))),
            ternary: ternary(spec),
        }
    }

    /// Rows sorted by expert, `counts[e]` of them for expert e.
    ///
    /// # Shapes
    /// `[M, D]` -> `[M, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, counts: &[usize]) -> Tensor {
        let apply = |x: &Tensor, weight: &Param| match self.ternary {
            None => grouped_linear(x, weight, counts),
            Some(ternary) => grouped_linear(&ternary.input(x), &ternary.weight(weight), counts),
        };
        let both = apply(x, &self.gate_up).chunk(1, 2);
        apply(&both[0].glu(&both[1], Gate::Silu), &self.down)
    }
}

impl Moe {
    /// The mixture of this specification's layers.
    ///
    /// # Panics
    /// When the specification has none.
    #[track_caller]
    pub fn new(spec: &ModelSpec) -> Self {
        let moe = spec.moe.clone().expect("a specification with layers of experts has its table");
        let inner = moe.moe_intermediate_size.unwrap_or(spec.hidden_size);
        let shared = |count: usize| GatedMlp::sized(ChannelKind::Swiglu, count * inner, spec);
        Self {
            gate: Router::new(&moe, spec),
            experts: Experts::new(moe.num_experts, inner, spec),
            shared_experts: (moe.num_shared_experts > 0).then(|| shared(moe.num_shared_experts)),
            spec: moe,
        }
    }

    /// What balance costs, where the training scope asks for it.
    fn hand_in(&self, routing: &Routing, segments: &Segments) {
        if mode::training().is_none() || routing.tokens == 0 {
            return;
        }
        observe("moe.load", || routing.load());
        let (balance, z) = (self.spec.router_aux_loss_coef, self.spec.router_z_loss_coef);
        if balance > 0.0 {
            let loss = if self.spec.seq_aux { routing.sequence_balance_loss(segments) } else { routing.balance_loss() };
            add_auxiliary_loss("moe.balance", &(loss * balance));
        }
        if z > 0.0 {
            add_auxiliary_loss("moe.z", &(routing.z_loss() * z));
        }
        self.gate.rebalance(routing);
    }
}

impl Layer for Moe {
    /// As [`Moe::forward_sequences`] of one sequence.
    ///
    /// # Shapes
    /// `[N, D]` -> `[N, D]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_sequences(x, &Segments::one(x.dim(0)))
    }
}

impl Moe {
    /// The layer, of tokens that are cut into these sequences: only what balance costs can depend on them.
    ///
    /// # Shapes
    /// `[N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward_sequences(&self, x: &Tensor, segments: &Segments) -> Tensor {
        let routing = self.gate.route(x);
        self.hand_in(&routing, segments);
        let sent = x.embedding(&routing.rows());
        let results = self.experts.forward(&sent, &routing.counts);
        // Each token's results beside each other, in the order of experts, times its weights.
        let chosen = routing.weights.dim(1);
        let own = results.embedding(&routing.places()).reshape([routing.tokens, chosen, x.dim(1)]);
        let weights = routing.weights.unsqueeze(1);
        let y = mode::autocast(DType::F32, || weights.matmul(&own)).squeeze(1).to_dtype(results.dtype());
        match &self.shared_experts {
            Some(shared) => y + shared.forward(x),
            None => y,
        }
    }
}
