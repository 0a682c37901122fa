use super::*;

fn small() -> ModelFields {
    ModelFields { vocab_size: 11, hidden_size: 32, attention: Some(AttentionSpec::heads(4)), ..ModelFields::default() }
}

#[test]
fn defaults_are_filled_in() {
    let spec = ModelSpec::new(small()).expect("a valid specification");
    let attention = spec.attention.as_ref().expect("attention");
    assert_eq!((attention.num_key_value_heads, attention.head_dim), (Some(4), Some(8)));
    assert_eq!(spec.intermediate_size, Some(128));
    let mlp = ModelSpec::new(ModelFields { channel: ChannelKind::Mlp, ..small() }).expect("a valid specification");
    assert_eq!(mlp.intermediate_size, Some(128));
}

#[test]
fn a_broken_rule_is_named_with_its_numbers() {
    let attention = |a: AttentionSpec| ModelFields { attention: Some(a), ..small() };
    let cases = [
        (attention(AttentionSpec::heads(7)), "num_attention_heads = 7 does not divide hidden_size = 32"),
        (
            attention(AttentionSpec { num_key_value_heads: Some(3), ..AttentionSpec::heads(4) }),
            "num_key_value_heads = 3 does not divide num_attention_heads = 4",
        ),
        (attention(AttentionSpec::heads(0)), "num_attention_heads = 0"),
        (attention(AttentionSpec { sliding_window: Some(0), ..AttentionSpec::heads(4) }), "sliding_window = 0"),
        (attention(AttentionSpec { soft_cap: Some(-1.0), ..AttentionSpec::heads(4) }), "soft_cap = -1"),
        (attention(AttentionSpec { dropout: 1.0, ..AttentionSpec::heads(4) }), "attention.dropout = 1"),
        (ModelFields { vocab_size: 0, ..small() }, "vocab_size = 0 is not between 1"),
        (ModelFields { hidden_size: usize::MAX, ..small() }, "hidden_size = 18446744073709551615 is not between 1"),
        (ModelFields { dropout: f64::NAN, ..small() }, "dropout = NaN"),
        (ModelFields { rope_theta: 0.0, ..small() }, "rope_theta = 0 is not a positive number"),
        (ModelFields { partial_rotary_factor: 0.4, ..small() }, "partial_rotary_factor = 0.4 of head_dim = 8"),
        (
            attention(AttentionSpec { scale: Some(f64::NAN), ..AttentionSpec::heads(4) }),
            "attention.scale = NaN is not a positive number",
        ),
        (
            attention(AttentionSpec { scale: Some(-0.5), ..AttentionSpec::heads(4) }),
            "attention.scale = -0.5 is not a positive number",
        ),
        (
            ModelFields { hidden_size: 8192, ..attention(AttentionSpec::heads(8192)) },
            "num_attention_heads = 8192 is more than 4096",
        ),
        (ModelFields { num_hidden_layers: 4097, ..small() }, "num_hidden_layers = 4097 is not between 1 and 4096"),
        (
            ModelFields { embedding_dropout: Some(1.0), ..small() },
            "embedding_dropout = 1 is not at least 0 and below 1",
        ),
        (ModelFields { pattern: Vec::new(), ..small() }, "pattern is empty"),
        (ModelFields { attention: None, ..small() }, "the table `attention` is missing"),
        (
            ModelFields { residual: ResidualKind::Parallel, channel: ChannelKind::None, ..small() },
            "needs a channel mixer beside",
        ),
        (
            ModelFields { rope_scaling: Some(RopeScaling::Linear { factor: 0.5 }), ..small() },
            "rope_scaling factor = 0.5",
        ),
    ];
    for (fields, expected) in cases {
        let error = ModelSpec::new(fields).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
    }
}

#[test]
fn stretched_rotary_angles_are_numbers() {
    let yarn = |beta_fast, beta_slow, attention_factor, theta| ModelFields {
        rope_theta: theta,
        rope_scaling: Some(RopeScaling::Yarn {
            factor: 4.0,
            original_max_position_embeddings: 64,
            beta_fast,
            beta_slow,
            attention_factor,
        }),
        ..small()
    };
    let llama3 = |factor, low_freq_factor, high_freq_factor| ModelFields {
        rope_scaling: Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: 64,
        }),
        ..small()
    };
    let cases = [
        (yarn(0.0, 1.0, None, 1e4), "beta_slow = 1 and beta_fast = 0 are not positive numbers in this order"),
        (yarn(f64::NAN, 1.0, None, 1e4), "beta_slow = 1 and beta_fast = NaN"),
        (yarn(f64::INFINITY, 1.0, None, 1e4), "beta_slow = 1 and beta_fast = inf"),
        (yarn(32.0, -1.0, None, 1e4), "beta_slow = -1 and beta_fast = 32"),
        (yarn(32.0, 1.0, Some(f64::NAN), 1e4), "attention_factor = NaN is not a positive number"),
        (yarn(32.0, 1.0, None, 1.0), "rope_theta = 1 with rope_type = \"yarn\" is not above 1"),
        (llama3(8.0, f64::NAN, 4.0), "low_freq_factor = NaN and high_freq_factor = 4"),
        (llama3(8.0, 0.0, 4.0), "low_freq_factor = 0 and high_freq_factor = 4"),
        (llama3(8.0, 4.0, 4.0), "low_freq_factor = 4 and high_freq_factor = 4 are not positive numbers in this order"),
        (llama3(f64::NAN, 1.0, 4.0), "rope_scaling factor = NaN is not a number from 1 to 16777216"),
        (llama3(1e9, 1.0, 4.0), "rope_scaling factor = 1000000000 is not a number from 1"),
    ];
    for (fields, expected) in cases {
        let error = ModelSpec::new(fields).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
    }
    ModelSpec::new(yarn(32.0, 1.0, Some(1.2), 1e4)).expect("as published");
    ModelSpec::new(llama3(8.0, 1.0, 4.0)).expect("as published");
}

#[test]
fn a_sequence_ends_where_a_layer_asks_for_positions_that_do() {
    let longest = |text: &str| {
        let head = "vocab_size = 5\nhidden_size = 32\nmax_position_embeddings = 40\n";
        ModelSpec::from_toml(&format!("{head}{text}")).expect("valid").longest()
    };
    let attention = "attention = { num_attention_heads = 2 }";
    assert_eq!(longest(attention), Some(40));
    assert_eq!(longest(&format!("position = \"learned\"\n{attention}")), Some(40));
    assert_eq!(longest("position = \"sinusoidal\"\npattern = [\"mamba\"]"), Some(40));
    assert_eq!(longest(&format!("pattern = [\"mamba\", \"attention\"]\nnum_hidden_layers = 2\n{attention}")), Some(40));
    assert_eq!(longest(&format!("position = \"alibi\"\n{attention}")), None);
    assert_eq!(longest(&format!("position = \"none\"\n{attention}")), None);
    assert_eq!(longest("pattern = [\"gla\"]"), None);
}

#[test]
fn recurrent_mixers_have_rules_of_their_own() {
    let head = "vocab_size = 5\nhidden_size = 32\nposition = \"none\"\n";
    let cases = [
        ("mamba = { state_size = 0 }", "mamba.state_size = 0 is not between 1"),
        ("mamba = { time_step_min = 0.5 }", "mamba: time_step_min = 0.5, time_step_max = 0.1"),
        ("mamba2 = { head_dim = 7 }", "mamba2.head_dim = 7 does not divide expand * hidden_size = 64"),
        ("mamba2 = { head_dim = 16, n_groups = 3 }", "mamba2.n_groups = 3 does not divide 4 heads"),
        ("mamba2 = { head_dim = 16, time_step_limit = [2.0, 1.0] }", "mamba2.time_step_limit = [2, 1]"),
        ("mamba3 = { mimo_rank = 0 }", "mamba3.mimo_rank = 0"),
        ("mamba3 = { rope_fraction = 1.5 }", "mamba3.rope_fraction = 1.5"),
        ("mamba3 = { state_size = 2 }", "mamba3.rope_fraction = 0.5 of state_size = 2 turns no pair"),
        ("linear_attention = { num_heads = 5 }", "linear_attention.num_heads = 5 does not divide hidden_size = 32"),
        ("gla = { num_heads = 3 }", "gla.num_heads = 3 does not divide hidden_size / 2 = 16"),
        ("gla = { gate_logit_normalizer = 0.0 }", "gla.gate_logit_normalizer = 0"),
        ("deltanet = { conv_kernel = 0 }", "deltanet.conv_kernel = 0"),
        ("gated_deltanet = { num_heads = 5 }", "gated_deltanet.num_heads = 5 does not divide 3 / 4 hidden_size = 24"),
        ("mamba = { states = 3 }", "unknown field `states`"),
    ];
    for (table, expected) in cases {
        let kind = table.split(' ').next().expect("the name of a table");
        let text = format!("{head}pattern = [\"{kind}\"]\n{table}");
        let error = ModelSpec::from_toml(&text).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
    }
    // Without a table a mixer has its paper's.
    let spec = ModelSpec::from_toml(&format!("{head}num_hidden_layers = 2\npattern = [\"mamba\", \"gated_deltanet\"]"))
        .expect("valid");
    assert_eq!(spec.mamba.as_ref().map(|mamba| (mamba.state_size, mamba.time_step_rank)), Some((16, Some(2))));
    assert_eq!(spec.gated_deltanet.as_ref().map(|d| (d.head_dim, d.head_v_dim)), Some((Some(6), Some(12))));
    assert!(spec.mamba2.is_none());
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let error = ModelSpec::from_toml("vocab_size = 5\nhiden_size = 8").expect_err("a misspelt key").to_string();
    assert!(error.contains("hiden_size") && error.contains("did you mean `hidden_size`?"), "{error}");
    let error = ModelSpec::from_json(r#"{"attention": {"heads": 3}}"#).expect_err("an unknown key").to_string();
    assert!(error.contains("unknown field `heads`"), "{error}");
    let error = ModelSpec::from_toml("pattern = [\"atention\"]").expect_err("a misspelt kind").to_string();
    assert!(error.contains("unknown MixerKind `atention`"), "{error}");
}

#[test]
fn a_pattern_is_repeated_after_the_prologue() {
    let fields = ModelFields {
        num_hidden_layers: 4,
        prologue: vec!["attention+mlp".parse().expect("a kind")],
        pattern: vec!["attention".parse().expect("a kind"), "attention+none".parse().expect("a kind")],
        ..small()
    };
    let spec = ModelSpec::new(fields).expect("a valid specification");
    let channels: Vec<ChannelKind> = (0..4).map(|layer| spec.layer(layer).1).collect();
    assert_eq!(channels, [ChannelKind::Mlp, ChannelKind::Swiglu, ChannelKind::None, ChannelKind::Swiglu]);
}

#[test]
fn every_preset_is_valid_and_survives_both_notations() {
    for name in preset_names() {
        let spec = ModelSpec::preset(&name, 300).unwrap_or_else(|error| panic!("{name}: {error}"));
        let json = serde_json::to_string(&spec).expect("plain data");
        assert_eq!(ModelSpec::from_json(&json).as_ref(), Ok(&spec), "{name}");
        let toml = toml_text(&spec);
        assert_eq!(ModelSpec::from_toml(&toml).as_ref(), Ok(&spec), "{name}");
    }
}

/// The specification as TOML, from its JSON form.
fn toml_text(spec: &ModelSpec) -> String {
    let value = serde_json::to_value(spec).expect("plain data");
    let inline = |value: &serde_json::Value| match value {
        serde_json::Value::Object(all) => {
            let pairs: Vec<String> = all.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    };
    let all = value.as_object().expect("an object");
    all.iter().map(|(key, value)| format!("{key} = {}\n", inline(value))).collect()
}

#[test]
fn an_unknown_preset_names_what_there_is() {
    let error = ModelSpec::preset("llama-nan", 65).expect_err("no such preset").to_string();
    assert!(error.contains("did you mean `llama-nano`?") && error.contains("gpt2 llama"), "{error}");
}

#[test]
fn broken_rules_of_experts_and_latent_attention_are_named() {
    let moe = |moe: MoeSpec| ModelFields { channel: ChannelKind::Moe, moe: Some(moe), ..small() };
    let experts = |num_experts| MoeSpec { num_experts, ..MoeSpec::default() };
    let latent = MlaSpec {
        num_attention_heads: 2,
        kv_lora_rank: 4,
        qk_nope_head_dim: 4,
        qk_rope_head_dim: 2,
        v_head_dim: 3,
        ..MlaSpec::default()
    };
    let mla = |mla: MlaSpec| ModelFields { pattern: vec![MixerKind::Mla.into()], mla: Some(mla), ..small() };
    let differential = |heads, shared| ModelFields {
        attention: Some(AttentionSpec {
            differential: true,
            num_key_value_heads: Some(shared),
            ..AttentionSpec::heads(heads)
        }),
        ..small()
    };
    let cases = [
        (ModelFields { channel: ChannelKind::Moe, ..small() }, "the table `moe` is missing"),
        (moe(experts(1)), "num_experts_per_tok = 2 of num_experts = 1"),
        (moe(experts(usize::MAX)), "num_experts = 18446744073709551615 is more than 16384"),
        (
            moe(MoeSpec { moe_intermediate_size: Some(1 << 23), ..experts(4) }),
            "moe_intermediate_size = 8388608 with num_experts = 4",
        ),
        (
            moe(MoeSpec { num_experts_per_tok: 1, norm_topk_prob: Some(true), ..experts(4) }),
            "a weight that is always 1 teaches the router nothing",
        ),
        (moe(MoeSpec { n_group: Some(3), topk_group: Some(1), ..experts(4) }), "n_group = Some(3)"),
        (moe(MoeSpec { n_group: Some(4), topk_group: Some(1), ..experts(4) }), "topk_group = Some(1) do not leave"),
        (moe(MoeSpec { router_z_loss_coef: f64::NAN, ..experts(4) }), "moe.router_z_loss_coef = NaN"),
        (moe(MoeSpec { bias_update_speed: Some(0.0), ..experts(4) }), "moe.bias_update_speed = 0"),
        (ModelFields { mlp_bias: true, ..moe(experts(4)) }, "mlp_bias = true with a mixture of experts"),
        (ModelFields { mla: None, ..mla(latent.clone()) }, "the table `mla` is missing"),
        (mla(MlaSpec { kv_lora_rank: 0, ..latent.clone() }), "kv_lora_rank = 0"),
        (mla(MlaSpec { qk_rope_head_dim: 3, ..latent.clone() }), "qk_rope_head_dim = 3 is no number of pairs"),
        (mla(MlaSpec { mscale_all_dim: Some(1.0), ..latent.clone() }), "belongs to rope_type = \"yarn\""),
        (
            ModelFields {
                rope_scaling: Some(RopeScaling::Yarn {
                    factor: 4.0,
                    original_max_position_embeddings: 64,
                    beta_fast: 32.0,
                    beta_slow: 1.0,
                    attention_factor: None,
                }),
                ..mla(MlaSpec { mscale_all_dim: Some(1e300), ..latent.clone() })
            },
            "makes the factor of scores inf, which is not a positive number",
        ),
        (
            ModelFields { num_hidden_layers: 4096, ..moe(experts(128)) },
            "num_experts = 128 in each of num_hidden_layers = 4096 are more than 262144 in all",
        ),
        (ModelFields { position: PositionKind::Alibi, ..mla(latent) }, "position = \"alibi\" is not modelled"),
        (differential(4, 1), "num_attention_heads = 4 and num_key_value_heads = 1 are not both even"),
    ];
    for (fields, expected) in cases {
        let error = ModelSpec::new(fields).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
    }
}
