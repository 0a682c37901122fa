//! Configurations as they lie in public directories, with what older libraries and converters have left in them.
#![recursion_limit = "256"]

use cupola_models::spec::{PositionKind, RopeScaling};
use cupola_models::{ModelSpec, load_encoder, load_spec};
use serde_json::{Value, json};

/// What the reader says of this configuration.
fn read(config: &Value) -> Result<ModelSpec, String> {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("a writable folder");
    load_spec(dir.path()).map_err(|error| error.to_string())
}

#[track_caller]
fn accepted(config: &Value) -> ModelSpec {
    read(config).unwrap_or_else(|error| panic!("{error}"))
}

/// The configuration with other values; null takes a key away.
fn with(config: &Value, more: Value) -> Value {
    let mut all = config.as_object().cloned().expect("an object");
    for (key, value) in more.as_object().cloned().expect("an object") {
        if value.is_null() {
            all.remove(&key)
        } else {
            all.insert(key, value)
        };
    }
    Value::Object(all)
}

#[track_caller]
fn refused(config: &Value, more: Value, expected: &str) {
    let error = read(&with(config, more)).expect_err(expected);
    assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
}

/// As gpt2-medium.
fn gpt2() -> Value {
    json!({
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
        "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2",
        "n_ctx": 1024, "n_embd": 1024, "n_head": 16, "n_layer": 24, "n_positions": 1024, "n_special": 0,
        "predict_special_tokens": true, "resid_pdrop": 0.1, "summary_activation": null, "summary_first_dropout": 0.1,
        "summary_proj_to_labels": true, "summary_type": "cls_index", "summary_use_proj": true,
        "task_specific_params": { "text-generation": { "do_sample": true, "max_length": 50 } }, "vocab_size": 50257,
        // distilgpt2 and gpt2-xl have these beside them.
        "_num_labels": 1, "output_past": true, "id2label": { "0": "LABEL_0" }, "label2id": { "LABEL_0": 0 },
    })
}

/// As Llama-3.2-1B and the SmolLM family.
fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0",
        "use_cache": true, "vocab_size": 128256, "is_llama_config": true, "rope_interleaved": false,
        "transformers.js_config": { "dtype": "q4" }, "unsloth_fixed": true, "max_sequence_length": 131072,
    })
}

/// As Mistral-7B-v0.1.
fn mistral() -> Value {
    json!({
        "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
        "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "transformers_version": "4.34.0.dev0", "use_cache": true, "vocab_size": 32000,
    })
}

/// As Mixtral-8x7B-v0.1.
fn mixtral() -> Value {
    with(
        &mistral(),
        json!({
            "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_experts_per_tok": 2, "num_local_experts": 8,
            "output_router_logits": false, "router_aux_loss_coef": 0.02, "rope_theta": 1000000.0, "sliding_window": null,
            "attention_dropout": 0.0,
        }),
    )
}

/// As phi-2.
fn phi() -> Value {
    json!({
        "_name_or_path": "microsoft/phi-2", "architectures": ["PhiForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 50256,
        "embd_pdrop": 0.0, "eos_token_id": 50256, "hidden_act": "gelu_new", "hidden_size": 2560, "initializer_range": 0.02,
        "intermediate_size": 10240, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "phi",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "partial_rotary_factor": 0.4,
        "qk_layernorm": false, "resid_pdrop": 0.1, "rope_scaling": null, "rope_theta": 10000.0, "tie_word_embeddings": false,
        "torch_dtype": "float16", "transformers_version": "4.37.0", "use_cache": true, "vocab_size": 51200,
    })
}

/// As Qwen2.5-0.5B.
fn qwen2() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
        "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
        "use_cache": true, "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936,
    })
}

/// As DeepSeek-V2-Lite.
fn deepseek() -> Value {
    json!({
        "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "auto_map": { "AutoConfig": "configuration_deepseek.DeepseekV2Config" }, "aux_loss_alpha": 0.001, "bos_token_id": 100000,
        "eos_token_id": 100001, "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 10944, "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v2",
        "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2,
        "norm_topk_prob": false, "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27,
        "num_key_value_heads": 16, "pretraining_tp": 1, "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {
            "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
            "original_max_position_embeddings": 4096, "type": "yarn",
        },
        "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "seq_aux": true,
        "tie_word_embeddings": false, "topk_group": 1, "topk_method": "greedy", "torch_dtype": "bfloat16",
        "transformers_version": "4.33.1", "use_cache": true, "v_head_dim": 128, "vocab_size": 102400, "ep_size": 1,
    })
}

/// As mamba-130m-hf.
fn mamba() -> Value {
    json!({
        "architectures": ["MambaForCausalLM"], "bos_token_id": 0, "conv_kernel": 4, "d_inner": 1536, "d_model": 768,
        "eos_token_id": 0, "expand": 2, "fused_add_norm": true, "hidden_act": "silu", "hidden_size": 768,
        "initializer_range": 0.1, "intermediate_size": 1536, "layer_norm_epsilon": 1e-05, "model_type": "mamba", "n_layer": 24,
        "num_hidden_layers": 24, "pad_token_id": 0, "pad_vocab_size_multiple": 8, "rescale_prenorm_residual": false,
        "residual_in_fp32": true, "rms_norm": true, "ssm_cfg": {}, "state_size": 16, "time_step_floor": 0.0001,
        "time_step_init_scheme": "random", "time_step_max": 0.1, "time_step_min": 0.001, "time_step_rank": 48,
        "time_step_scale": 1.0, "torch_dtype": "float32", "transformers_version": "4.39.0.dev0", "use_bias": false,
        "use_cache": true, "use_conv_bias": true, "vocab_size": 50280,
    })
}

/// As Mamba-Codestral-7B-v0.1.
fn mamba2() -> Value {
    json!({
        "architectures": ["Mamba2ForCausalLM"], "bos_token_id": 0, "chunk_size": 256, "conv_kernel": 4, "eos_token_id": 0,
        "expand": 2, "head_dim": 64, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.1,
        "intermediate_size": 8192, "layer_norm_epsilon": 1e-05, "model_type": "mamba2", "n_groups": 8, "norm_before_gate": true,
        "num_heads": 128, "num_hidden_layers": 64, "pad_token_id": 0, "rescale_prenorm_residual": false,
        "residual_in_fp32": true, "rms_norm": true, "state_size": 128, "tie_word_embeddings": false, "time_step_floor": 0.0001,
        "time_step_init_scheme": "random", "time_step_limit": [0.0, null], "time_step_max": 0.1, "time_step_min": 0.001,
        "time_step_rank": 256, "time_step_scale": 1.0, "torch_dtype": "bfloat16", "transformers_version": "4.44.0.dev0",
        "use_bias": false, "use_cache": true, "use_conv_bias": true, "vocab_size": 32768,
    })
}

#[test]
fn published_configurations_of_every_family_are_read_with_all_that_changes_nothing() {
    assert_eq!((accepted(&gpt2()).num_hidden_layers, accepted(&gpt2()).max_position_embeddings), (24, 1024));
    let spec = accepted(&llama());
    assert!(matches!(spec.rope_scaling, Some(RopeScaling::Llama3 { factor: 32.0, .. })) && spec.tie_word_embeddings);
    let window = |spec: &ModelSpec| spec.attention.as_ref().and_then(|attention| attention.sliding_window);
    assert_eq!(window(&accepted(&mistral())), Some(4096));
    assert_eq!(accepted(&mixtral()).moe.as_ref().map(|moe| moe.num_experts), Some(8));
    let spec = accepted(&phi());
    assert_eq!((spec.dropout, spec.embedding_dropout, spec.partial_rotary_factor), (0.1, Some(0.0), 0.4));
    assert_eq!((accepted(&qwen2()).hidden_size, window(&accepted(&qwen2()))), (896, None));
    assert_eq!(accepted(&deepseek()).mla.as_ref().map(|mla| (mla.q_lora_rank, mla.kv_lora_rank)), Some((None, 512)));
    let spec = accepted(&mamba());
    assert_eq!((spec.mamba.as_ref().and_then(|m| m.time_step_rank), spec.position), (Some(48), PositionKind::None));
    assert_eq!(accepted(&mamba2()).mamba2.as_ref().map(|m| (m.n_groups, m.time_step_limit)), Some((8, None)));
}

#[test]
fn the_same_keys_with_values_that_change_something_are_refused() {
    refused(&gpt2(), json!({ "n_special": 3 }), "n_special = 3 is not modelled, only 0");
    refused(&gpt2(), json!({ "n_ctx": 512 }), "n_ctx = 512, expected 1024");
    refused(&llama(), json!({ "rope_interleaved": true }), "rope_interleaved = true is not modelled");
    refused(&llama(), json!({ "max_sequence_length": 2048 }), "max_sequence_length = 2048, expected 131072");
    refused(&qwen2(), json!({ "use_mrope": true }), "use_mrope = true is not modelled");
    refused(&qwen2(), json!({ "use_sliding_window": true }), "use_sliding_window = true is not modelled");
    refused(&mamba(), json!({ "rms_norm": false }), "rms_norm = false is not modelled");
    refused(&mamba(), json!({ "ssm_cfg": { "layer": "Mamba2" } }), "is not modelled, only {}");
    refused(&mamba(), json!({ "d_inner": 1535 }), "d_inner = 1535, expected 1536");
    refused(&mamba(), json!({ "d_model": 767 }), "d_model = 767, expected 768");
    refused(&mamba(), json!({ "n_layer": 25 }), "n_layer = 25, expected 24");
    refused(&mamba2(), json!({ "rms_norm": false }), "rms_norm = false is not modelled");
    refused(&mamba2(), json!({ "num_heads": 64 }), "num_heads = 64, expected 128");
    refused(&phi(), json!({ "qk_layernorm": true }), "qk_layernorm = true is not modelled");
    refused(&deepseek(), json!({ "scoring_func": "sigmoid" }), "scoring_func = \"sigmoid\" is not modelled");
    refused(&mixtral(), json!({ "router_jitter_noise": 0.1 }), "router_jitter_noise = 0.1 is not modelled");
}

#[test]
fn an_encoder_s_published_configuration_is_read_with_the_words_of_its_first_pooler() {
    let bert = json!({
        "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "directionality": "bidi",
        "gradient_checkpointing": false, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
        "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
        "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 12, "output_past": true, "pad_token_id": 0,
        "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3, "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform", "position_embedding_type": "absolute", "type_vocab_size": 2, "use_cache": true,
        "vocab_size": 21128,
    });
    let error = |config: &Value| {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("config.json"), config.to_string()).expect("a writable folder");
        load_encoder(dir.path()).err().expect("there are no tensors").to_string()
    };
    // It is read; what is missing is the tensors.
    assert!(error(&bert).contains("model.safetensors"), "{}", error(&bert));
    let other = with(&bert, json!({ "pooler_type": "mean" }));
    assert!(error(&other).contains("pooler_type = \"mean\" is not modelled"), "{}", error(&other));
}

#[test]
fn absent_keys_mean_what_transformers_takes_them_for() {
    let bare = |config: &Value| {
        let absent = ["num_key_value_heads", "rms_norm_eps", "rope_theta", "rope_scaling", "max_position_embeddings"];
        let mut all = config.as_object().cloned().expect("an object");
        for key in absent.iter().chain(&["sliding_window", "max_sequence_length", "tie_word_embeddings", "head_dim"]) {
            all.remove(*key);
        }
        all.insert("num_attention_heads".to_string(), json!(32));
        all.insert("hidden_size".to_string(), json!(2048));
        accepted(&Value::Object(all))
    };
    let facts = |spec: ModelSpec| {
        let attention = spec.attention.clone().expect("attention");
        let shared = attention.num_key_value_heads.expect("filled in");
        (shared, spec.norm_eps, spec.rope_theta, spec.max_position_embeddings, attention.sliding_window)
    };
    assert_eq!(facts(bare(&llama())), (32, 1e-6, 1e4, 2048, None));
    assert_eq!(facts(bare(&mistral())), (8, 1e-6, 1e4, 131_072, Some(4096)));
    assert_eq!(facts(bare(&mixtral())), (8, 1e-5, 1e6, 131_072, None));
    assert_eq!(facts(bare(&qwen2())), (32, 1e-6, 1e4, 32_768, None));
    // A null is no default: a window that is none, heads that are not shared.
    let nulls = |config: &Value, key: &str| {
        let mut config = config.clone();
        config[key] = Value::Null;
        facts(accepted(&config))
    };
    assert_eq!(nulls(&mistral(), "sliding_window").4, None);
    assert_eq!(nulls(&mistral(), "num_key_value_heads").0, 32);
    let latent = |key: &str| {
        let mut all = deepseek().as_object().cloned().expect("an object");
        all.remove(key);
        let spec = accepted(&Value::Object(all));
        (spec.mla.as_ref().and_then(|mla| mla.q_lora_rank), spec.moe.as_ref().map(|moe| moe.num_shared_experts))
    };
    assert_eq!(latent("q_lora_rank"), (Some(1536), Some(2)));
    assert_eq!(latent("n_shared_experts"), (None, Some(2)));
    let mut all = phi().as_object().cloned().expect("an object");
    ["partial_rotary_factor", "rope_theta", "resid_pdrop", "embd_pdrop"].iter().for_each(|key| drop(all.remove(*key)));
    all.insert("hidden_size".to_string(), json!(2048));
    let spec = accepted(&Value::Object(all));
    assert_eq!((spec.partial_rotary_factor, spec.dropout, spec.embedding_dropout), (0.5, 0.0, None));
}

#[test]
fn a_part_of_a_head_that_is_turned_is_refused_wherever_a_family_does_not_have_it() {
    for config in [llama(), mistral(), mixtral(), qwen2(), deepseek()] {
        let rope = |part: f64| json!({ "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": part });
        for key in ["rope_parameters", "rope_scaling"] {
            let mut more = json!({});
            more[key] = rope(0.5);
            refused(&config, more, "partial_rotary_factor = 0.5 is not modelled, only 1");
        }
        refused(&config, json!({ "partial_rotary_factor": 0.25 }), "partial_rotary_factor = 0.25 is not modelled");
        let whole = accepted(&with(&config, json!({ "rope_parameters": rope(1.0), "rope_scaling": null })));
        assert_eq!((whole.rope_theta, whole.rope_scaling.clone()), (1e4, None));
    }
    let inside = json!({ "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25 });
    let spec = accepted(&with(&phi(), json!({ "rope_parameters": inside, "hidden_size": 2048 })));
    assert_eq!(spec.partial_rotary_factor, 0.25);
    refused(&llama(), json!({ "rope_scaling": { "rope_theta": "big" } }), "rope_theta = \"big\", expected a number");
}

#[test]
fn a_configuration_cannot_ask_for_tables_without_end_or_without_numbers() {
    // Nothing is made for positions before they are used.
    let far = with(&llama(), json!({ "max_position_embeddings": 1 << 24, "max_sequence_length": null }));
    assert_eq!(accepted(&far).max_position_embeddings, 1 << 24);
    refused(&llama(), json!({ "num_hidden_layers": 1 << 20 }), "num_hidden_layers = 1048576 is not between 1 and 4096");
    let experts = json!({ "num_local_experts": 4096, "num_hidden_layers": 4096, "intermediate_size": 64 });
    refused(&mixtral(), experts, "num_experts = 4096 in each of num_hidden_layers = 4096 are more than 262144 in all");
    let rope = |more: Value| {
        let yarn = json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096 });
        json!({ "rope_scaling": with(&yarn, more) })
    };
    refused(&llama(), rope(json!({ "beta_fast": 0.0 })), "beta_slow = 1 and beta_fast = 0 are not positive numbers in");
    refused(&llama(), rope(json!({ "attention_factor": -1.0 })), "attention_factor = -1 is not a positive number");
    refused(&llama(), rope(json!({ "factor": 1e300 })), "rope_scaling factor = 1000");
    let mut flat = rope(json!({}));
    flat["rope_theta"] = json!(1.0);
    refused(&llama(), flat, "rope_theta = 1 with rope_type = \"yarn\" is not above 1");
}
