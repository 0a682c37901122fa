//! The table of `docs/models.md`: what is true of every preset, found out anew each time.
//!
//! `CUPOLA_UPDATE=1 cargo test -p cupola-models --test table` writes the file; without it the file must be what is true.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use cupola_models::files::family_of;
use cupola_models::spec::{FAMILIES, SIZES};
use cupola_models::{Decoder, ModelSpec, State, load, save};
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

/// The golden models of a public family, or, of an architecture that is none, those made from its paper's formulas; that their
/// logits and texts are equal is what `hugging_face.rs` tests.
fn golden(architecture: &str, family: Option<&str>) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public");
    let entries = std::fs::read_dir(folder).expect("the folder of public models");
    let kind = |dir: &Path| -> Option<String> {
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).ok()?).ok()?;
        Some(config["model_type"].as_str()?.to_string())
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|dir| kind(dir).as_deref() == Some(family.unwrap_or("cupola")))
        .filter_map(|dir| Some(dir.file_name()?.to_str()?.to_string()))
        .filter(|name| family.is_some() || name.split('-').next() == Some(architecture))
        .collect();
    names.sort();
    if names.is_empty() { "-".to_string() } else { names.join(", ") }
}

fn parameters(count: usize) -> String {
    format!("{:.1}M", count as f64 / 1e6)
}

fn table() -> String {
    let mut text = String::new();
    let sizes: Vec<&str> = SIZES.iter().map(|(name, ..)| *name).collect();
    let rows = [
        "preset".to_string(),
        "later tokens change nothing before".to_string(),
        "every parameter has a gradient".to_string(),
        "whole = chunks = single tokens".to_string(),
        "saved = read".to_string(),
        "public family".to_string(),
        "golden models".to_string(),
    ];
    let sized = sizes.iter().map(|size| format!("parameters, {size}"));
    let head: Vec<String> =
        rows.into_iter().chain(sized).chain(["bytes of a sequence + of a token, nano".to_string()]).collect();
    writeln!(text, "| {} |", head.join(" | ")).expect("a string grows");
    writeln!(text, "|{}", "---|".repeat(head.len())).expect("a string grows");
    for family in FAMILIES {
        let name = format!("{family}-nano");
        let spec = ModelSpec::preset(&name, VOCABULARY).unwrap_or_else(|error| panic!("{error}"));
        let mut model = Decoder::new(&spec).init(0).to_dtype(DType::F64);
        let (fixed, each) = Decoder::new(&spec).state_bytes();
        let public = family_of(&spec);
        let count = |size: &&str| {
            let spec = ModelSpec::preset(&format!("{family}-{size}"), 32_000).unwrap_or_else(|error| panic!("{error}"));
            parameters(Decoder::new(&spec).parameter_count())
        };
        let counts: Vec<String> = sizes.iter().map(count).collect();
        writeln!(
            text,
            "| {family} | {} | {} | {} | {} | {} | {} | {} | {fixed} + {each} |",
            mark(is_causal(&model)),
            mark(has_all_gradients(&mut model)),
            mark(pieces_agree(&model)),
            mark(survives_a_file(&spec)),
            public.unwrap_or("-"),
            golden(family, public),
            counts.join(" | "),
        )
        .expect("a string grows");
    }
    text
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
