//! BERT (Devlin et al., 2018, arXiv:1810.04805): directories of encoders.

use std::collections::BTreeMap;
use std::path::Path;

use cupola_nn::StateDict;
use cupola_tensor::Tensor;
use serde_json::{Value, json};

use super::names::{self, Entry, Form::Same, Names};
use super::settings::Settings;
use crate::encoder::Encoder;
use crate::error::ModelError;
use crate::spec::{ChannelKind, EncoderFields, EncoderHead, EncoderSpec};

const fn entry(ours: &'static str, theirs: &'static str) -> Entry {
    Entry { ours, theirs, form: Same }
}

const NAMES: Names = Names {
    entries: &[
        entry("embed_tokens.weight", "bert.embeddings.word_embeddings.weight"),
        entry("embed_positions.weight", "bert.embeddings.position_embeddings.weight"),
        entry("embed_token_types.weight", "bert.embeddings.token_type_embeddings.weight"),
        entry("embed_norm.weight", "bert.embeddings.LayerNorm.weight"),
        entry("embed_norm.bias", "bert.embeddings.LayerNorm.bias"),
        entry("layers.*.self_attn.q_proj.weight", "bert.encoder.layer.*.attention.self.query.weight"),
        entry("layers.*.self_attn.q_proj.bias", "bert.encoder.layer.*.attention.self.query.bias"),
        entry("layers.*.self_attn.k_proj.weight", "bert.encoder.layer.*.attention.self.key.weight"),
        entry("layers.*.self_attn.k_proj.bias", "bert.encoder.layer.*.attention.self.key.bias"),
        entry("layers.*.self_attn.v_proj.weight", "bert.encoder.layer.*.attention.self.value.weight"),
        entry("layers.*.self_attn.v_proj.bias", "bert.encoder.layer.*.attention.self.value.bias"),
        entry("layers.*.self_attn.o_proj.weight", "bert.encoder.layer.*.attention.output.dense.weight"),
        entry("layers.*.self_attn.o_proj.bias", "bert.encoder.layer.*.attention.output.dense.bias"),
        entry("layers.*.input_layernorm.weight", "bert.encoder.layer.*.attention.output.LayerNorm.weight"),
        entry("layers.*.input_layernorm.bias", "bert.encoder.layer.*.attention.output.LayerNorm.bias"),
        entry("layers.*.mlp.up_proj.weight", "bert.encoder.layer.*.intermediate.dense.weight"),
        entry("layers.*.mlp.up_proj.bias", "bert.encoder.layer.*.intermediate.dense.bias"),
        entry("layers.*.mlp.down_proj.weight", "bert.encoder.layer.*.output.dense.weight"),
        entry("layers.*.mlp.down_proj.bias", "bert.encoder.layer.*.output.dense.bias"),
        entry("layers.*.post_attention_layernorm.weight", "bert.encoder.layer.*.output.LayerNorm.weight"),
        entry("layers.*.post_attention_layernorm.bias", "bert.encoder.layer.*.output.LayerNorm.bias"),
        entry("pooler.weight", "bert.pooler.dense.weight"),
        entry("pooler.bias", "bert.pooler.dense.bias"),
        entry("mlm_head.dense.weight", "cls.predictions.transform.dense.weight"),
        entry("mlm_head.dense.bias", "cls.predictions.transform.dense.bias"),
        entry("mlm_head.norm.weight", "cls.predictions.transform.LayerNorm.weight"),
        entry("mlm_head.norm.bias", "cls.predictions.transform.LayerNorm.bias"),
        entry("mlm_head.bias", "cls.predictions.bias"),
        entry("classifier.weight", "classifier.weight"),
        entry("classifier.bias", "classifier.bias"),
    ],
    prefix: "",
    // Copies of the embedding and of the bias; and the guess whether two sentences follow each other, which files of the first
    // training carry along.
    ignored: &[
        "bert.embeddings.position_ids",
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
    ],
};

/// What the classes of the library are called that have these heads.
const CLASSES: &[(EncoderHead, &[&str])] = &[
    (EncoderHead::None, &["BertModel"]),
    (EncoderHead::MaskedLm, &["BertForMaskedLM", "BertForPreTraining"]),
    (EncoderHead::Classification, &["BertForSequenceClassification"]),
];

fn activation(settings: &Settings<'_>) -> Result<ChannelKind, String> {
    Ok(match settings.word("hidden_act", "gelu")?.as_str() {
        "gelu" => ChannelKind::Mlp,
        "gelu_new" | "gelu_pytorch_tanh" => ChannelKind::MlpTanh,
        "relu" => ChannelKind::MlpRelu,
        "silu" => ChannelKind::MlpSilu,
        other => return Err(format!("hidden_act = {other} is not modelled")),
    })
}

fn read(config: &Value) -> Result<EncoderFields, String> {
    let settings = Settings::new(config)?;
    settings.only("model_type", &[json!("bert")])?;
    let class = settings.get("architectures").and_then(|all| all.get(0)).and_then(Value::as_str).unwrap_or("BertModel");
    let found = CLASSES.iter().find(|(_, names)| names.contains(&class));
    let head = found.ok_or_else(|| format!("architectures = [\"{class}\"] is not modelled"))?.0;
    settings.only("tie_word_embeddings", &[json!(true)])?;
    settings.only("is_decoder", &[json!(false)])?;
    settings.only("position_embedding_type", &[json!("absolute")])?;
    // What the first files say of a pooler that is one dense layer over the first token, whatever its numbers are.
    settings.only("directionality", &[json!("bidi")])?;
    settings.only("pooler_type", &[json!("first_token_transform")])?;
    for key in ["pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head"] {
        settings.get(key);
    }
    let classes = settings.get("id2label").and_then(Value::as_object).map_or(2, serde_json::Map::len);
    let classifier_dropout =
        settings.get("classifier_dropout").map(|_| settings.number("classifier_dropout", 0.0)).transpose()?;
    let fields = EncoderFields {
        vocab_size: settings.required("vocab_size")?,
        hidden_size: settings.required("hidden_size")?,
        num_hidden_layers: settings.required("num_hidden_layers")?,
        num_attention_heads: settings.required("num_attention_heads")?,
        intermediate_size: Some(settings.required("intermediate_size")?),
        channel: activation(&settings)?,
        max_position_embeddings: settings.size("max_position_embeddings")?.unwrap_or(512),
        type_vocab_size: settings.size("type_vocab_size")?.unwrap_or(2),
        norm_eps: settings.number("layer_norm_eps", 1e-12)?,
        initializer_range: settings.number("initializer_range", 0.02)?,
        dropout: settings.number("hidden_dropout_prob", 0.1)?,
        attention_dropout: settings.number("attention_probs_dropout_prob", 0.1)?,
        classifier_dropout,
        head,
        num_labels: settings.size("num_labels")?.unwrap_or(classes),
    };
    settings.finish()?;
    Ok(fields)
}

fn write(spec: &EncoderSpec) -> Value {
    let class = CLASSES.iter().find(|(head, _)| *head == spec.head).map_or("BertModel", |(_, names)| names[0]);
    let activation = match spec.channel {
        ChannelKind::MlpTanh => "gelu_new",
        ChannelKind::MlpRelu => "relu",
        ChannelKind::MlpSilu => "silu",
        _ => "gelu",
    };
    let labels: Vec<String> = (0..spec.num_labels).map(|label| format!("LABEL_{label}")).collect();
    let by_number: BTreeMap<String, &String> = labels.iter().enumerate().map(|(i, l)| (i.to_string(), l)).collect();
    let by_label: BTreeMap<&String, usize> = labels.iter().enumerate().map(|(i, l)| (l, i)).collect();
    json!({
        "architectures": [class],
        "model_type": "bert",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "num_attention_heads": spec.num_attention_heads,
        "intermediate_size": spec.intermediate_size,
        "hidden_act": activation,
        "max_position_embeddings": spec.max_position_embeddings,
        "type_vocab_size": spec.type_vocab_size,
        "layer_norm_eps": spec.norm_eps,
        "initializer_range": spec.initializer_range,
        "hidden_dropout_prob": spec.dropout,
        "attention_probs_dropout_prob": spec.attention_dropout,
        "classifier_dropout": spec.classifier_dropout,
        "tie_word_embeddings": true,
        "id2label": by_number,
        "label2id": by_label,
        "torch_dtype": "float32",
    })
}

/// The encoder in a BERT directory.
///
/// # Errors
/// When a file cannot be read or `config.json` is of another family or has a setting that changes results and is not modelled; and
/// when tensors are missing, left over or of another shape, with all their names.
pub fn load_encoder(dir: impl AsRef<Path>) -> Result<Encoder, ModelError> {
    let dir = dir.as_ref();
    let (path, config) = super::config(dir)?;
    let fields = read(&config).map_err(|what| ModelError::Config { path: path.clone(), what })?;
    let spec = EncoderSpec::new(fields).map_err(|error| ModelError::Spec { path, error })?;
    let mut model = Encoder::new(&spec);
    let wrong = |what: String| ModelError::Tensors { path: dir.to_owned(), what };
    let tensors = super::read_tensors(dir)?.into_iter().map(|(name, tensor)| (full_name(&name), tensor));
    let tensors: BTreeMap<String, Tensor> = tensors.collect();
    let ours = names::to_ours(&NAMES, tensors, |_| None).map_err(wrong)?;
    // Files of the first training have a pooler beside the head that fills in tokens, which reads nothing of it.
    let unused = |name: &str| name.starts_with("pooler.") && spec.head == EncoderHead::MaskedLm;
    let ours = ours.into_iter().filter(|(name, _)| !unused(name)).collect();
    model.load_state_dict(&ours).map_err(|error| wrong(error.to_string()))?;
    Ok(model)
}

/// A name as newer files write it: files of a bare model leave the first word out, the oldest call a norm's parameters by Greek
/// letters.
fn full_name(name: &str) -> String {
    let bare = ["embeddings.", "encoder.", "pooler."].iter().any(|begin| name.starts_with(begin));
    let name = if bare { format!("bert.{name}") } else { name.to_string() };
    let letter = |name: &str, old: &str, new: &str| name.strip_suffix(old).map(|stem| format!("{stem}{new}"));
    letter(&name, "LayerNorm.gamma", "LayerNorm.weight")
        .or_else(|| letter(&name, "LayerNorm.beta", "LayerNorm.bias"))
        .unwrap_or(name)
}

/// Writes `config.json` and `model.safetensors` of a BERT directory, each whole or not at all; makes the directory if need be. Equal
/// models give equal bytes.
///
/// # Errors
/// When the system refuses.
pub fn save_encoder(dir: impl AsRef<Path>, model: &Encoder) -> Result<(), ModelError> {
    let mut tensors = names::to_theirs(&NAMES, model.state_dict());
    if model.spec().head == EncoderHead::None {
        let bare = |(name, tensor): (String, Tensor)| (name.trim_start_matches("bert.").to_string(), tensor);
        tensors = tensors.into_iter().map(bare).collect();
    }
    super::write_directory(dir.as_ref(), &write(model.spec()), &tensors, super::MOST_IN_A_FILE)
}
