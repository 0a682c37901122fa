//! What distinguishes one mixture of experts from another.

use serde::{Deserialize, Serialize};

use super::{ModelFields, RouterKind, SpecError};

/// The mixture of experts of a model: the layers whose channel mixer is `moe`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoeSpec {
    /// Experts that are chosen from.
    pub num_experts: usize,
    /// Experts that each token is sent to.
    pub num_experts_per_tok: usize,
    /// Width of an expert; the model's `intermediate_size` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moe_intermediate_size: Option<usize>,
    /// Experts beside these that every token is sent to.
    pub num_shared_experts: usize,
    /// From the router's logits to the weights of experts.
    pub router: RouterKind,
    /// Whether the weights of a token's experts are divided by their sum; as it is for more than one expert when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_topk_prob: Option<bool>,
    /// Factor of the weights.
    pub routed_scaling_factor: f64,
    /// Into how many groups the experts are cut; a token's experts are looked for in its best `topk_group` groups alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_group: Option<usize>,
    /// How many groups a token's experts may come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topk_group: Option<usize>,
    /// Factor of the loss that asks for balance, 1 where experts are used alike.
    pub router_aux_loss_coef: f64,
    /// Whether that loss is taken over each sequence by itself (DeepSeek-AI, "DeepSeek-V2", 2024) and not over all of a batch.
    pub seq_aux: bool,
    /// Factor of the mean square of the router's log-sum-exp (Zoph et al., "ST-MoE", 2022).
    pub router_z_loss_coef: f64,
    /// By how much a step of the optimiser moves the number that is added to an expert's score when experts are chosen: down where
    /// it had more than its share of the step's tokens, up where it had less (Wang et al., "Auxiliary-Loss-Free Load Balancing",
    /// 2024). There is no such number when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias_update_speed: Option<f64>,
}

impl Default for MoeSpec {
    fn default() -> Self {
        Self {
            num_experts: 0,
            num_experts_per_tok: 2,
            moe_intermediate_size: None,
            num_shared_experts: 0,
            router: RouterKind::Softmax,
            norm_topk_prob: None,
            routed_scaling_factor: 1.0,
            n_group: None,
            topk_group: None,
            router_aux_loss_coef: 0.0,
            seq_aux: false,
            router_z_loss_coef: 0.0,
            bias_update_speed: None,
        }
    }
}

/// More than any layer has.
const MOST_EXPERTS: usize = 1 << 14;

/// More than any model has; each expert of each layer has names of its own.
const MOST_IN_ALL: usize = 1 << 18;

impl MoeSpec {
    /// Fills in what is left out.
    pub(super) fn complete(&mut self, intermediate_size: Option<usize>) {
        self.moe_intermediate_size = self.moe_intermediate_size.or(intermediate_size);
        self.norm_topk_prob.get_or_insert(self.num_experts_per_tok > 1);
    }

    /// The first rule that is broken.
    pub(super) fn check(&self, fields: &ModelFields, most: usize) -> Result<(), SpecError> {
        let broken = |rule: String| Err(SpecError::Rule(rule));
        let (experts, chosen) = (self.num_experts, self.num_experts_per_tok);
        let width = self.moe_intermediate_size.unwrap_or(0);
        if experts > MOST_EXPERTS {
            return broken(format!("num_experts = {experts} is more than {MOST_EXPERTS}"));
        }
        let layers = fields.num_hidden_layers;
        if experts.saturating_mul(layers) > MOST_IN_ALL {
            return broken(format!(
                "num_experts = {experts} in each of num_hidden_layers = {layers} are more than {MOST_IN_ALL} in all"
            ));
        }
        if experts == 0 || chosen == 0 || chosen > experts {
            return broken(format!(
                "num_experts_per_tok = {chosen} of num_experts = {experts} is no choice of experts"
            ));
        }
        let shared = self.num_shared_experts.saturating_mul(width);
        if width == 0 || experts.saturating_mul(width) > most || shared > most {
            return broken(format!(
                "moe_intermediate_size = {width} with num_experts = {experts} and num_shared_experts = {} is not between 1 and \
                 {most} in all",
                self.num_shared_experts
            ));
        }
        if chosen == 1 && self.norm_topk_prob == Some(true) {
            return broken(
                "norm_topk_prob = true with num_experts_per_tok = 1: a weight that is always 1 teaches the router nothing"
                    .to_string(),
            );
        }
        match (self.n_group, self.topk_group) {
            (None, None) => {}
            (Some(groups), Some(kept))
                if groups > 0
                    && experts.is_multiple_of(groups)
                    && (1..=groups).contains(&kept)
                    && kept * (experts / groups) >= chosen => {}
            (groups, kept) => {
                return broken(format!(
                    "n_group = {groups:?} and topk_group = {kept:?} do not leave num_experts_per_tok = {chosen} of num_experts = \
                     {experts} in groups of equal size"
                ));
            }
        }
        let numbers = [
            ("routed_scaling_factor", self.routed_scaling_factor, self.routed_scaling_factor > 0.0),
            ("router_aux_loss_coef", self.router_aux_loss_coef, self.router_aux_loss_coef >= 0.0),
            ("router_z_loss_coef", self.router_z_loss_coef, self.router_z_loss_coef >= 0.0),
            ("bias_update_speed", self.bias_update_speed.unwrap_or(1.0), self.bias_update_speed.unwrap_or(1.0) > 0.0),
        ];
        for (name, value, holds) in numbers {
            if !holds || !value.is_finite() {
                return broken(format!("moe.{name} = {value} is not a number that it can be"));
            }
        }
        if fields.mlp_bias {
            return broken("mlp_bias = true with a mixture of experts: experts have no biases".to_string());
        }
        Ok(())
    }
}
