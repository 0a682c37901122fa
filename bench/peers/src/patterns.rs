//! All matches of a pattern.

use crate::{best, head, rate, row};

pub const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
pub const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const DEEPSEEK: &str = concat!(
    r"[!\x22#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|",
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

const PATTERNS: [(&str, &str); 14] = [
    ("gpt2", GPT2),
    ("cl100k", CL100K),
    ("o200k", O200K),
    ("deepseek, third pass", DEEPSEEK),
    (r"\w+", r"\w+"),
    (r"[a-z]+ing\b", r"[a-z]+ing\b"),
    ("Romeo", "Romeo"),
    ("names", "Romeo|Juliet|Hamlet|Lear"),
    ("e-mail", r"[\w.]+@[\w.]+\.\w+"),
    (r"\b(\w+) \1\b", r"\b(\w+) \1\b"),
    ("quoted", r#""[^"\\]*(?:\\.[^"\\]*)*""#),
    ("numbers", r"\b\d+(?:\.\d+)?\b"),
    ("capitalised pairs", r"\b[A-Z]\w+\s+[A-Z]\w+"),
    ("password-like", r"(?=\w*\d)(?=\w*[a-z])\b\w{6,}\b"),
];

pub fn run(corpora: &[(String, String)], only: &str) {
    head("find_iter to the end, MB/s", &["cupola-regex", "regex", "PCRE2 with JIT", "fancy-regex", "regexr"]);
    for (name, pattern) in PATTERNS {
        let ours = cupola_regex::Regex::new(pattern).expect("the patterns of this file compile");
        let regex = regex::Regex::new(pattern).ok();
        let fancy = fancy_regex::Regex::new(pattern).ok();
        let pcre = pcre2::bytes::RegexBuilder::new().utf(true).ucp(true).jit(true).build(pattern).ok();
        let regexr = regexr::RegexBuilder::new(pattern).jit(true).build().ok();
        let tokenizer_pattern = [GPT2, CL100K, O200K, DEEPSEEK].contains(&pattern);
        for (corpus, text) in corpora {
            let title = format!("{name} / {corpus}");
            let adversarial =
                ["one letter", "spaces", "digits", "punctuation", "random letters"].contains(&&corpus[..]);
            if !title.contains(only)
                || adversarial && !(tokenizer_pattern && ["spaces", "digits"].contains(&&corpus[..]))
            {
                continue;
            }
            let n = text.len();
            let cell = |ns: Option<u64>| ns.map_or("-".into(), |ns| format!("{:.0}", rate(n, ns)));
            let count = ours.find_iter(text).count();
            let mut cells =
                vec![cell(Some(best(|| ours.find_iter(text).map(|m| m.end()).fold(0, usize::wrapping_add))))];
            cells.push(cell(
                regex.as_ref().map(|r| best(|| r.find_iter(text).map(|m| m.end()).fold(0, usize::wrapping_add))),
            ));
            // A peer that finds something else, or gives up, is marked.
            let found = |n: Option<usize>, text: String| if n == Some(count) { text } else { format!("{text}!") };
            let pcre_run = |r: &pcre2::bytes::Regex| {
                r.find_iter(text.as_bytes())
                    .map(|m| m.map(|m| m.end()))
                    .try_fold(0usize, |a, m| m.map(|m| a.wrapping_add(m)))
            };
            cells.push(pcre.as_ref().map_or("-".into(), |r| {
                let n = r.find_iter(text.as_bytes()).try_fold(0, |n, m| m.map(|_| n + 1)).ok();
                found(n, cell(Some(best(|| pcre_run(r).ok()))))
            }));
            cells.push(fancy.as_ref().map_or("-".into(), |r| {
                let n = r.find_iter(text).try_fold(0, |n, m| m.map(|_| n + 1)).ok();
                let run = || r.find_iter(text).try_fold(0usize, |a, m| m.map(|m| a.wrapping_add(m.end()))).ok();
                found(n, cell(Some(best(run))))
            }));
            cells.push(regexr.as_ref().map_or("-".into(), |r| {
                let n = r.find_iter(text).count();
                found(Some(n), cell(Some(best(|| r.find_iter(text).map(|m| m.end()).fold(0, usize::wrapping_add)))))
            }));
            row(&title, &cells);
        }
    }
}
