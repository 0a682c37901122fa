//! Small specifications, one for every feature, that each test of the promises runs over.
#![allow(dead_code, reason = "each test file uses a part")]

use cupola_models::{Decoder, ModelSpec};
use cupola_nn::Module;
use cupola_tensor::{DType, Rng, Segments, Tensor};

/// Name and TOML of the fields that differ from a tiny model.
const ZOO: &[(&str, &str)] = &[
    ("llama", "attention = { num_attention_heads = 4, num_key_value_heads = 2 }"),
    (
        "gpt2",
        "channel = \"mlp_tanh\"\nmlp_bias = true\nnorm = \"layer_norm\"\nposition = \"learned\"\ntie_word_embeddings = true\n\
         scale_residual_init = true\nattention = { num_attention_heads = 4, attention_bias = true, output_bias = true }",
    ),
    ("mistral", "attention = { num_attention_heads = 4, num_key_value_heads = 1, sliding_window = 3 }"),
    (
        "phi",
        "channel = \"mlp_tanh\"\nmlp_bias = true\nnorm = \"layer_norm\"\nresidual = \"parallel\"\npartial_rotary_factor = 0.5\n\
         lm_head_bias = true\nattention = { num_attention_heads = 4, attention_bias = true, output_bias = true }",
    ),
    (
        "alibi with norms and caps",
        "channel = \"geglu\"\nposition = \"alibi\"\nattention = { num_attention_heads = 4, qk_norm = true, soft_cap = 5.0, scale = 0.3 }",
    ),
    ("sinusoidal", "channel = \"mlp_relu2\"\nposition = \"sinusoidal\"\nattention = { num_attention_heads = 2 }"),
    (
        "post-norm",
        "channel = \"mlp\"\nnorm = \"layer_norm\"\nresidual = \"post\"\nposition = \"none\"\nattention = { num_attention_heads = 2 }",
    ),
    (
        "no bias, no channel mixer in every other layer",
        "channel = \"mlp_silu\"\nnorm = \"layer_norm_without_bias\"\npattern = [\"attention\", \"attention+none\"]\n\
         attention = { num_attention_heads = 2, head_dim = 6 }",
    ),
    (
        "llama 3 rotary",
        "rope_scaling = { rope_type = \"llama3\", factor = 4.0, low_freq_factor = 1.0, high_freq_factor = 4.0, \
         original_max_position_embeddings = 16 }\nattention = { num_attention_heads = 2 }",
    ),
    (
        "two of four experts",
        "channel = \"moe\"\nattention = { num_attention_heads = 2 }\nmoe = { num_experts = 4, moe_intermediate_size = 12 }",
    ),
    (
        "one of three experts",
        "channel = \"moe\"\nattention = { num_attention_heads = 2 }\n\
         moe = { num_experts = 3, num_experts_per_tok = 1, router = \"sigmoid\" }",
    ),
    (
        "fine-grained experts in groups, with shared ones and a bias",
        "pattern = [\"attention+moe\", \"attention\"]\nattention = { num_attention_heads = 2 }\n\
         moe = { num_experts = 6, num_experts_per_tok = 3, num_shared_experts = 2, moe_intermediate_size = 8, router = \"sigmoid\", \
         norm_topk_prob = true, routed_scaling_factor = 1.5, n_group = 3, topk_group = 2, router_aux_loss_coef = 0.01, \
         seq_aux = true, router_z_loss_coef = 0.001, bias_update_speed = 0.01 }",
    ),
    ("differential", "attention = { num_attention_heads = 8, num_key_value_heads = 4, differential = true }"),
    (
        "differential with all else",
        "position = \"alibi\"\nattention = { num_attention_heads = 4, differential = true, qk_norm = true, sliding_window = 4, \
         soft_cap = 5.0, attention_bias = true, output_bias = true }",
    ),
    (
        "latent attention",
        "pattern = [\"mla\"]\nmla = { num_attention_heads = 3, q_lora_rank = 8, kv_lora_rank = 6, qk_nope_head_dim = 4, \
         qk_rope_head_dim = 2, v_head_dim = 5, attention_bias = true }",
    ),
    (
        "latent attention beside the other, yarn, a window",
        "pattern = [\"mla\", \"attention\"]\nattention = { num_attention_heads = 2 }\n\
         rope_scaling = { rope_type = \"yarn\", factor = 4.0, original_max_position_embeddings = 16 }\n\
         mla = { num_attention_heads = 2, kv_lora_rank = 6, qk_nope_head_dim = 4, qk_rope_head_dim = 4, v_head_dim = 3, \
         sliding_window = 5, mscale_all_dim = 0.7 }",
    ),
    (
        "weights of three values",
        "ternary = \"a16\"\nattention = { num_attention_heads = 4, num_key_value_heads = 2, attention_bias = true }",
    ),
    (
        "scans with weights of three values",
        "ternary = \"a16\"\npattern = [\"mamba\", \"mamba2+none\"]\nmamba = { state_size = 4 }\n\
         mamba2 = { state_size = 4, head_dim = 8 }",
    ),
    (
        "scans and attention in a window",
        "pattern = [\"mamba\", \"attention\"]\nmamba = { state_size = 4 }\n\
         attention = { num_attention_heads = 2, sliding_window = 4 }",
    ),
    (
        "weights of three values, 8-bit inputs, experts, latent attention",
        "ternary = \"a8\"\npattern = [\"mla+moe\", \"attention+mlp_relu2\"]\nattention = { num_attention_heads = 4 }\n\
         mla = { num_attention_heads = 2, kv_lora_rank = 6, qk_nope_head_dim = 4, qk_rope_head_dim = 4, v_head_dim = 3 }\n\
         moe = { num_experts = 4 }",
    ),
    (
        "yarn rotary",
        "rope_scaling = { rope_type = \"yarn\", factor = 4.0, original_max_position_embeddings = 16 }\n\
         attention = { num_attention_heads = 2 }",
    ),
    ("mamba", "pattern = [\"mamba+none\"]\nposition = \"none\"\nmamba = { state_size = 5 }"),
    (
        "mamba with biases and few taps",
        "pattern = [\"mamba\"]\nposition = \"none\"\nmamba = { state_size = 3, conv_kernel = 2, use_bias = true, use_conv_bias = false }",
    ),
    ("mamba2", "pattern = [\"mamba2+none\"]\nposition = \"none\"\nmamba2 = { state_size = 6, head_dim = 8 }"),
    (
        "mamba2 with groups",
        "pattern = [\"mamba2\"]\nposition = \"none\"\n\
         mamba2 = { state_size = 4, head_dim = 8, n_groups = 2, use_bias = true, time_step_limit = [0.0, 9.0] }",
    ),
    ("mamba3", "pattern = [\"mamba3\"]\nposition = \"none\"\nmamba3 = { state_size = 8, head_dim = 8 }"),
    (
        "mamba3 of rank 3 with groups",
        "pattern = [\"mamba3\"]\nposition = \"none\"\n\
         mamba3 = { state_size = 6, head_dim = 8, n_groups = 2, mimo_rank = 3, rope_fraction = 1.0 }",
    ),
    (
        "mamba3 with a norm before its gate",
        "pattern = [\"mamba3\"]\nposition = \"none\"\nmamba3 = { state_size = 4, head_dim = 8, is_outproj_norm = true }",
    ),
    (
        "mamba3 of rank 2 with a norm before its gates",
        "pattern = [\"mamba3\"]\nposition = \"none\"\n\
         mamba3 = { state_size = 4, head_dim = 8, mimo_rank = 2, is_outproj_norm = true }",
    ),
    ("linear attention", "pattern = [\"linear_attention\"]\nposition = \"none\"\nlinear_attention = { num_heads = 2 }"),
    ("gla", "pattern = [\"gla\"]\nposition = \"none\"\ngla = { num_heads = 2, gate_low_rank_dim = 3 }"),
    ("deltanet", "pattern = [\"deltanet\"]\nposition = \"none\"\ndeltanet = { num_heads = 2 }"),
    ("gated deltanet", "pattern = [\"gated_deltanet\"]\nposition = \"none\"\ngated_deltanet = { num_heads = 2 }"),
    (
        "mamba2 and attention in turn",
        "pattern = [\"mamba2\", \"attention\"]\nattention = { num_attention_heads = 2 }\nmamba2 = { state_size = 4, head_dim = 16 }",
    ),
];

/// Number of tokens in the vocabulary of every specification here.
pub const VOCABULARY: usize = 13;

/// All specifications by name.
pub fn zoo() -> Vec<(&'static str, ModelSpec)> {
    let spec = |fields: &str| {
        let head = "vocab_size = 13\nhidden_size = 16\nnum_hidden_layers = 2\nmax_position_embeddings = 64\nintermediate_size = 24\n";
        ModelSpec::from_toml(&format!("{head}{fields}"))
    };
    ZOO.iter().map(|(name, fields)| (*name, spec(fields).unwrap_or_else(|error| panic!("{name}: {error}")))).collect()
}

/// The model of a specification in f64, with larger weights than at the start of a training, so that every part of it counts.
pub fn model(spec: &ModelSpec, seed: u64) -> Decoder {
    let mut model = Decoder::new(spec).init(seed).to_dtype(DType::F64);
    for (path, param) in model.named_parameters_mut() {
        let noise = Tensor::randn(*param.shape(), Rng::seed(seed).named(&path)).to_dtype(DType::F64) * 0.2;
        let value = param.detach() + noise;
        param.set(&value);
    }
    model
}

/// Random tokens.
pub fn tokens(count: usize, seed: u64) -> Tensor {
    Tensor::randint(0, VOCABULARY as i64, [count], Rng::seed(seed))
}

/// Three sequences of 5, 0 and 7 tokens.
pub fn ragged() -> Segments {
    Segments::from_lengths(&[5, 0, 7])
}
