//! The table of `docs/models.md`: what is true of every preset, found out anew each time.
//!
//! `CUPOLA_UPDATE=1 cargo test -p cupola-models --test table` writes the file; without it the file must be what is true.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use cupola_io::safetensors::Shards;
use cupola_models::files::family_of;
use cupola_models::spec::{ENCODER_FAMILIES, FAMILIES, SIZES};
use cupola_models::{Decoder, Encoder, EncoderSpec, IGNORE, ModelFields, ModelSpec, State};
use cupola_models::{load, load_encoder, load_spec, save, save_encoder};
use cupola_nn::{Module, training};
use cupola_tensor::{DType, Rng, Segments, Tensor, no_grad};

const TOKENS: usize = 21;
const VOCABULARY: usize = 65;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn tokens(seed: u64) -> Tensor {
    Tensor::randint(0, VOCABULARY as i64, [TOKENS], Rng::seed(seed))
}

fn mark(holds: bool) -> &'static str {
    if holds { "yes" } else { "**no**" }
}

fn logits(model: &Decoder, x: &Tensor) -> Tensor {
    no_grad(|| model.forward(x, &Segments::one(x.dim(0)), None))
}

fn is_causal(model: &Decoder) -> bool {
    let x = tokens(1);
    let mut changed = x.to_vec::<i64>();
    let last = TOKENS - 1;
    changed[last] = (changed[last] + 1) % VOCABULARY as i64;
    let (before, after) = (logits(model, &x), logits(model, &Tensor::from_vec(changed, [TOKENS])));
    before.narrow(0, 0, last).same_bits(&after.narrow(0, 0, last))
        && !before.narrow(0, last, 1).equals(&after.narrow(0, last, 1))
}

fn has_all_gradients(model: &mut Decoder) -> bool {
    let scope = training(0, 0);
    let mut loss = model.loss_sum(&tokens(2), &tokens(3), &Segments::one(TOKENS));
    for (_, auxiliary) in scope.auxiliary_losses() {
        loss = loss + auxiliary.to_dtype(DType::F64);
    }
    let grads = loss.backward();
    scope.finish(model);
    let moves = |grad: Option<&Tensor>| grad.is_some_and(|grad| grad.abs().max([]).item() > 0.0);
    model.named_parameters().iter().all(|(_, param)| moves(grads.get(param)))
}

fn pieces_agree(model: &Decoder) -> bool {
    let x = tokens(4);
    let whole = logits(model, &x);
    [vec![1; TOKENS], vec![8, 8, 5], vec![20, 1]].iter().all(|lengths| {
        let (mut state, mut begin, mut rows): (State, usize, Vec<Tensor>) = (model.state(), 0, Vec::new());
        for &length in lengths {
            let piece = x.narrow(0, begin, length);
            rows.push(no_grad(|| model.forward(&piece, &Segments::one(length), Some(&mut [&mut state]))));
            begin += length;
        }
        Tensor::cat(&rows.iter().collect::<Vec<_>>(), 0).relative_error(&whole) < 1e-9
    })
}

fn survives_a_file(spec: &ModelSpec) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Decoder::new(spec).init(5);
    let x = tokens(6);
    let saved = save(folder.path(), &model).is_ok();
    saved && load(folder.path()).is_ok_and(|read| logits(&read, &x).same_bits(&logits(&model, &x)))
}

fn tests_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn model_type(dir: &Path) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).ok()?).ok()?;
    Some(config["model_type"].as_str()?.to_string())
}

/// The golden models in `folder` of a public family, or, of an architecture that is none, those made from its paper's formulas.
/// That their logits, texts and losses are equal is what `hugging_face.rs` and `encoders.rs` test of all that lie there.
fn golden(folder: &str, architecture: &str, family: Option<&str>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(tests_folder(folder)).expect("the folder of golden models");
    let mut dirs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|dir| model_type(dir).as_deref() == Some(family.unwrap_or("cupola")))
        .filter(|dir| family.is_some() || name_of(dir).split('-').next() == Some(architecture))
        .collect();
    dirs.sort();
    assert!(!dirs.is_empty(), "{architecture} has no golden model");
    dirs
}

fn name_of(dir: &Path) -> &str {
    dir.file_name().and_then(|name| name.to_str()).expect("a plain name")
}

fn names(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| name_of(dir)).collect::<Vec<_>>().join(", ")
}

/// Whether both directories say they are of one family and have the same tensors, byte for byte.
fn same_directory(a: &Path, b: &Path) -> bool {
    let tensors = |dir: &Path| -> Option<BTreeMap<String, Vec<u8>>> {
        let all = Shards::open(dir).ok()?;
        Some(all.iter().map(|view| (view.name().to_string(), view.bytes().to_vec())).collect())
    };
    let (ours, theirs) = (tensors(a), tensors(b));
    ours.is_some() && ours == theirs && model_type(a) == model_type(b)
}

/// Whether directories as transformers wrote them are written again as they were, and presets as one of theirs.
fn hugging_face_round_trip(spec: &ModelSpec, family: Option<&str>, golden: &[PathBuf]) -> &'static str {
    let Some(family) = family else { return "-" };
    let copy = tempfile::tempdir().expect("a folder");
    let is_kept = |dir: &PathBuf| {
        let own = copy.path().join(name_of(dir));
        let written = load(dir).is_ok_and(|model| save(&own, &model).is_ok());
        written && same_directory(&own, dir) && load_spec(&own).ok() == load_spec(dir).ok()
    };
    let preset = copy.path().join("preset");
    let written = save(&preset, &Decoder::new(spec).init(7)).is_ok();
    // How first values were made need not be said of a model that has its values.
    let filled = |read: ModelSpec| {
        ModelSpec::new(ModelFields { scale_residual_init: spec.scale_residual_init, ..read.fields().clone() }).ok()
    };
    let read = load_spec(&preset).ok().and_then(filled);
    let is_theirs = written && model_type(&preset).as_deref() == Some(family) && read.as_ref() == Some(spec);
    mark(is_theirs && golden.iter().all(is_kept))
}

fn parameters(count: usize) -> String {
    format!("{:.1}M", count as f64 / 1e6)
}

fn table() -> String {
    let mut text = String::new();
    let sizes = SIZES.iter().map(|(size, ..)| format!("parameters, {size}"));
    let columns = [
        "preset",
        "later tokens change nothing before",
        "every parameter has a gradient",
        "whole = chunks = single tokens",
        "saved = read",
        "public family",
        "HF round trip",
        "golden models",
    ];
    let head: Vec<String> = columns.map(String::from).into_iter().chain(sizes).collect();
    writeln!(text, "| {} | bytes of a sequence + of a token, nano |", head.join(" | ")).expect("a string grows");
    writeln!(text, "|{}", "---|".repeat(head.len() + 1)).expect("a string grows");
    for family in FAMILIES {
        writeln!(text, "| {family} | {} |", decoder_row(family).join(" | ")).expect("a string grows");
    }
    for family in ENCODER_FAMILIES {
        writeln!(text, "| {family} | {} |", encoder_row(family).join(" | ")).expect("a string grows");
    }
    text
}

fn decoder_row(family: &str) -> Vec<String> {
    let spec = ModelSpec::preset(&format!("{family}-nano"), VOCABULARY).unwrap_or_else(|error| panic!("{error}"));
    let mut model = Decoder::new(&spec).init(0).to_dtype(DType::F64);
    let (fixed, each) = Decoder::new(&spec).state_bytes();
    let public = family_of(&spec);
    let golden = golden("public", family, public);
    let mut row = vec![
        mark(is_causal(&model)).to_string(),
        mark(has_all_gradients(&mut model)).to_string(),
        mark(pieces_agree(&model)).to_string(),
        mark(survives_a_file(&spec)).to_string(),
        public.unwrap_or("-").to_string(),
        hugging_face_round_trip(&spec, public, &golden).to_string(),
        names(&golden),
    ];
    row.extend(SIZES.iter().map(|(size, ..)| {
        let spec = ModelSpec::preset(&format!("{family}-{size}"), 32_000).unwrap_or_else(|error| panic!("{error}"));
        parameters(Decoder::new(&spec).parameter_count())
    }));
    row.push(format!("{fixed} + {each}"));
    row
}

fn encoder_row(family: &str) -> Vec<String> {
    let spec = EncoderSpec::preset(&format!("{family}-nano"), VOCABULARY).unwrap_or_else(|error| panic!("{error}"));
    let mut model = Encoder::new(&spec).init(0).to_dtype(DType::F64);
    let golden = golden("encoders", family, Some(family));
    let mut row = vec![
        if sees_all(&model) { "does not apply: every token sees all" } else { "**no**" }.to_string(),
        mark(encoder_has_all_gradients(&mut model)).to_string(),
        "does not apply: no state".to_string(),
        mark(encoder_survives_a_file(&spec)).to_string(),
        family.to_string(),
        mark(encoder_round_trip(&golden)).to_string(),
        names(&golden),
    ];
    row.extend(SIZES.iter().map(|(size, ..)| {
        let spec = EncoderSpec::preset(&format!("{family}-{size}"), 32_000).unwrap_or_else(|error| panic!("{error}"));
        parameters(Encoder::new(&spec).parameter_count())
    }));
    row.push("-".to_string());
    row
}

fn hidden(model: &Encoder, x: &Tensor) -> Tensor {
    no_grad(|| model.hidden(x, None, &Segments::one(x.dim(0))))
}

/// Whether changing any token changes what is said of the first and of the last.
fn sees_all(model: &Encoder) -> bool {
    let x = tokens(1);
    let before = hidden(model, &x);
    (0..TOKENS).all(|changed| {
        let mut all = x.to_vec::<i64>();
        all[changed] = (all[changed] + 1) % VOCABULARY as i64;
        let after = hidden(model, &Tensor::from_vec(all, [TOKENS]));
        [0, TOKENS - 1].iter().all(|&row| !before.narrow(0, row, 1).equals(&after.narrow(0, row, 1)))
    })
}

fn encoder_has_all_gradients(model: &mut Encoder) -> bool {
    let scope = training(0, 0);
    let mut targets = tokens(3).to_vec::<i64>();
    targets.iter_mut().step_by(2).for_each(|target| *target = IGNORE);
    let targets = Tensor::from_vec(targets, [TOKENS]);
    let grads = model.masked_lm_loss_sum(&tokens(2), None, &targets, &Segments::one(TOKENS)).backward();
    scope.finish(model);
    let moves = |grad: Option<&Tensor>| grad.is_some_and(|grad| grad.abs().max([]).item() > 0.0);
    model.named_parameters().iter().all(|(_, param)| moves(grads.get(param)))
}

fn encoder_survives_a_file(spec: &EncoderSpec) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Encoder::new(spec).init(5);
    let logits = |model: &Encoder| no_grad(|| model.masked_lm_logits(&hidden(model, &tokens(6))));
    let saved = save_encoder(folder.path(), &model).is_ok();
    saved && load_encoder(folder.path()).is_ok_and(|read| logits(&read).same_bits(&logits(&model)))
}

/// Whether directories as transformers wrote them are written again as they were.
fn encoder_round_trip(golden: &[PathBuf]) -> bool {
    let copy = tempfile::tempdir().expect("a folder");
    golden.iter().all(|dir| {
        let own = copy.path().join(name_of(dir));
        let written = load_encoder(dir).is_ok_and(|model| save_encoder(&own, &model).is_ok());
        written && same_directory(&own, dir)
    })
}

#[test]
fn the_table_of_models_is_true() {
    let table = table();
    assert!(!table.contains("**no**"), "{table}");
    let path = root().join("docs/models.md");
    let page = std::fs::read_to_string(&path).expect("docs/models.md");
    let (begin, end) = ("<!-- table -->\n", "<!-- end -->");
    let at = page.find(begin).expect("the mark where the table begins") + begin.len();
    let until = page.find(end).expect("the mark where the table ends");
    if std::env::var_os("CUPOLA_UPDATE").is_some() {
        std::fs::write(&path, format!("{}{table}{}", &page[..at], &page[until..])).expect("a writable file");
        return;
    }
    assert!(page[at..until] == table, "docs/models.md is not what is true; CUPOLA_UPDATE=1 writes\n{table}");
}
