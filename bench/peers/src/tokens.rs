//! Encoding, decoding, loading.

use cupola_tokenizer::Tokenizer;
use tokenizers::pipeline::{EncodeOptions, PipelineTokenizer};

use crate::{best, head, once, rate, row};

const SHORT: &str = "The quick brown fox jumps over the lazy dog, said the cat.";

/// The other implementation's own form of our vocabulary.
fn hugging_face(ours: &Tokenizer) -> Option<PipelineTokenizer> {
    let json = ours.to_json().map_err(|e| eprintln!("to_json: {e}")).ok()?;
    let json = tokenizers::canonicalize_str(&json).map_err(|e| eprintln!("canonicalize: {e}")).ok()?;
    tokenizers::from_json(&json).map_err(|e| eprintln!("from_json: {e}")).ok()
}

pub fn run(corpora: &[(String, String)], only: &str, wanted: &dyn Fn(&str) -> bool) {
    for name in ["cl100k_base", "o200k_base"] {
        let ours = Tokenizer::named(name).expect("the feature is on");
        let theirs = if name == "cl100k_base" { bpe_openai::cl100k_base() } else { bpe_openai::o200k_base() };
        let splintr = splintr::pretrained::from_pretrained(name).expect("the feature is on");
        let pipeline = ["encode", "short", "load"].iter().any(|p| wanted(p)).then(|| hugging_face(&ours)).flatten();
        let options = EncodeOptions::default();
        if wanted("encode") {
            head(
                &format!("{name}: encoding, MB/s, cold / warm"),
                &["cupola", "splintr", "HF tokenizers rc", "bpe-openai"],
            );
            for (corpus, text) in corpora.iter().filter(|(corpus, _)| corpus.contains(only)) {
                let n = text.len();
                let pair = |cold: u64, warm: u64| format!("{:.0} / {:.0}", rate(n, cold), rate(n, warm));
                let fresh = Tokenizer::named(name).expect("it was loaded before");
                let (ids, cold) = once(|| fresh.encode(text).expect("every text has ids"));
                let mut cells = vec![pair(cold, best(|| fresh.encode(text)))];
                let mark = |same: bool| if same { "" } else { "!" };
                let fresh = splintr::pretrained::from_pretrained(name).expect("it was loaded before");
                let (found, cold) = once(|| fresh.encode(text));
                cells.push(pair(cold, best(|| fresh.encode(text))) + mark(found == ids));
                cells.push(pipeline.as_ref().map_or("-".into(), |fresh| {
                    let run = || {
                        let mut out = Vec::with_capacity(n / 3);
                        fresh.encode_into(text, &options, &mut out).ok();
                        out
                    };
                    let (found, cold) = once(run);
                    let same = found.len() == ids.len();
                    pair(cold, best(run)) + mark(same)
                }));
                let (found, cold) = once(|| theirs.encode(&text[..]));
                cells.push(pair(cold, best(|| theirs.encode(&text[..]))) + mark(found == ids));
                row(corpus, &cells);
            }
        }
        if wanted("decode") {
            head(&format!("{name}: decoding, MB/s of text"), &["cupola", "splintr", "bpe-openai"]);
            for (corpus, text) in corpora.iter().filter(|(corpus, _)| corpus.contains(only)) {
                let ids = ours.encode(text).expect("every text has ids");
                let cell = |ns: u64| format!("{:.0}", rate(text.len(), ns));
                let us = best(|| ours.decode(&ids));
                let them = best(|| splintr.decode(&ids));
                row(corpus, &[cell(us), cell(them), cell(best(|| theirs.decode(&ids)))]);
            }
        }
        if wanted("short") {
            head(
                &format!("{name}: {} bytes, µs", SHORT.len()),
                &["cupola", "splintr", "HF tokenizers rc", "bpe-openai"],
            );
            let cell = |ns: u64| format!("{:.3}", ns as f64 / 1e6);
            let many = |work: &dyn Fn() -> usize| cell(best(|| (0..1000).map(|_| work()).sum::<usize>()));
            let cells = [
                many(&|| ours.encode(SHORT).map_or(0, |ids| ids.len())),
                many(&|| splintr.encode(SHORT).len()),
                pipeline.as_ref().map_or("-".into(), |p| {
                    many(&|| {
                        let mut out = Vec::with_capacity(32);
                        p.encode_into(SHORT, &options, &mut out).ok();
                        out.len()
                    })
                }),
                many(&|| theirs.encode(SHORT).len()),
            ];
            row("encode", &cells);
        }
        if wanted("load") {
            head(&format!("{name}: loading and the first encoding, ms"), &["cupola", "splintr"]);
            let cell = |ns: u64| format!("{:.1}", ns as f64 / 1e6);
            let us = (0..5).map(|_| once(|| Tokenizer::named(name).and_then(|t| t.encode(SHORT))).1).min().unwrap_or(0);
            let splintr = || splintr::pretrained::from_pretrained(name).map(|t| t.encode(SHORT));
            let them = (0..5).map(|_| once(splintr).1).min().unwrap_or(0);
            row("least of five", &[cell(us), cell(them)]);
        }
    }
}
