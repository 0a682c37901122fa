//! What distinguishes one recurrent mixer from another.

use serde::{Deserialize, Serialize};

/// How long the first steps of a state-space model are: log-uniform between two bounds, and at least a third.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeSteps {
    /// Lower bound.
    pub min: f64,
    /// Upper bound.
    pub max: f64,
    /// The least.
    pub floor: f64,
}

macro_rules! table {
    (
        $(#[$doc:meta])* $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

table! {
    /// Mamba (Gu and Dao, 2023).
    MambaSpec {
        /// States of a channel.
        state_size: usize = 16,
        /// Inner width, in model widths.
        expand: usize = 2,
        /// Taps of the convolution.
        conv_kernel: usize = 4,
        /// Width that time steps are computed through; the model's over 16, rounded up, when left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        time_step_rank: Option<usize> = None,
        /// Whether the outer projections have biases.
        use_bias: bool = false,
        /// Whether the convolution has a bias.
        use_conv_bias: bool = true,
        /// The shortest first time step.
        time_step_min: f64 = 0.001,
        /// The longest first time step.
        time_step_max: f64 = 0.1,
        /// The least that a first time step is.
        time_step_floor: f64 = 1e-4,
    }
}

table! {
    /// Mamba-2 (Dao and Gu, 2024).
    Mamba2Spec {
        /// States of a channel.
        state_size: usize = 128,
        /// Width of a head.
        head_dim: usize = 64,
        /// Inner width, in model widths.
        expand: usize = 2,
        /// Groups of heads, each with one pair of input and output vectors.
        n_groups: usize = 1,
        /// Taps of the convolution.
        conv_kernel: usize = 4,
        /// Whether the outer projections have biases.
        use_bias: bool = false,
        /// Whether the convolution has a bias.
        use_conv_bias: bool = true,
        /// The shortest first time step.
        time_step_min: f64 = 0.001,
        /// The longest first time step.
        time_step_max: f64 = 0.1,
        /// The least that a first time step is.
        time_step_floor: f64 = 1e-4,
        /// Bounds that time steps are kept within.
        #[serde(skip_serializing_if = "Option::is_none")]
        time_step_limit: Option<[f64; 2]> = None,
    }
}

table! {
    /// Mamba-3 (2026, arXiv:2603.15569).
    Mamba3Spec {
        /// States of a channel.
        state_size: usize = 128,
        /// Width of a head.
        head_dim: usize = 64,
        /// Inner width, in model widths.
        expand: usize = 2,
        /// Groups of heads, each with one pair of input and output vectors before the heads' biases.
        n_groups: usize = 1,
        /// Inputs and outputs of a head at each token; more than 1 is the MIMO form.
        mimo_rank: usize = 1,
        /// The part of the states that turns.
        rope_fraction: f64 = 0.5,
        /// Whether each head's outputs are normalised by their root mean square before the gate is multiplied in.
        is_outproj_norm: bool = false,
        /// The least that states decay by, per unit of time.
        a_floor: f64 = 1e-4,
        /// The shortest first time step.
        time_step_min: f64 = 0.001,
        /// The longest first time step.
        time_step_max: f64 = 0.1,
        /// The least that a first time step is.
        time_step_floor: f64 = 1e-4,
    }
}

table! {
    /// Linear attention (Katharopoulos et al., 2020).
    LinearAttentionSpec {
        /// Heads.
        num_heads: usize = 4,
        /// Width of a head; the model's divided by the heads when left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        head_dim: Option<usize> = None,
    }
}

table! {
    /// Gated linear attention (Yang et al., 2023).
    GlaSpec {
        /// Heads.
        num_heads: usize = 4,
        /// Width of a head's keys; half of the model's divided by the heads when left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        head_dim: Option<usize> = None,
        /// Width of a head's values; the model's divided by the heads when left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        head_v_dim: Option<usize> = None,
        /// Width that decays are computed through.
        gate_low_rank_dim: usize = 16,
        /// What logarithms of decays are divided by.
        gate_logit_normalizer: f64 = 16.0,
    }
}

table! {
    /// DeltaNet (Yang et al., 2024, arXiv:2406.06484).
    DeltaNetSpec {
        /// Heads.
        num_heads: usize = 4,
        /// Width of a head; the model's divided by the heads when left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        head_dim: Option<usize> = None,
        /// Taps of the convolutions.
        conv_kernel: usize = 4,
    }
}

table! {
    /// Gated DeltaNet (Yang et al., 2024, arXiv:2412.06464).
    GatedDeltaNetSpec {
        /// Heads.
        num_heads: usize = 4,
        /// Width of a head's keys; three quarters of the model's divided by the heads when left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        head_dim: Option<usize> = None,
        /// Width of a head's values; twice that of its keys when left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        head_v_dim: Option<usize> = None,
        /// Taps of the convolutions.
        conv_kernel: usize = 4,
        /// The shortest first time step.
        time_step_min: f64 = 0.001,
        /// The longest first time step.
        time_step_max: f64 = 0.1,
        /// The least that a first time step is.
        time_step_floor: f64 = 1e-4,
    }
}

/// The first time steps of the tables that have some.
macro_rules! time_steps {
    ($($name:ident),*) => {$(
        impl $name {
            /// How long the first time steps are.
            pub fn time_steps(&self) -> TimeSteps {
                TimeSteps { min: self.time_step_min, max: self.time_step_max, floor: self.time_step_floor }
            }
        }
    )*};
}
time_steps!(MambaSpec, Mamba2Spec, Mamba3Spec, GatedDeltaNetSpec);

impl MambaSpec {
    /// Width that time steps are computed through, in a model of this width.
    pub fn rank(&self, hidden_size: usize) -> usize {
        self.time_step_rank.unwrap_or(hidden_size.div_ceil(16))
    }
}

impl Mamba3Spec {
    /// Pairs of states that turn.
    pub fn angles(&self) -> usize {
        (self.state_size as f64 * self.rope_fraction) as usize / 2
    }
}
