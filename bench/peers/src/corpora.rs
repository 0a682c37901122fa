//! The texts.

use std::path::{Path, PathBuf};

/// Names and texts.
pub type Corpora = Vec<(String, String)>;

pub fn all(files: &[String]) -> Corpora {
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
        let name = Path::new(file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        all.push((name, text));
    }
    let mut code = String::new();
    for path in files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates"), "rs") {
        code.push_str(&std::fs::read_to_string(path).unwrap_or_default());
        if code.len() > 2_000_000 {
            break;
        }
    }
    all.push(("code".into(), code));
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for (name, languages) in [("messages zh ja", &["zh", "ja"][..]), ("messages ru", &["ru"][..])] {
        let text = messages(languages, 1_000_000);
        if text.len() > 100_000 {
            all.push((name.into(), text));
        }
    }
    let mut mixed = String::new();
    while mixed.len() < 1_000_000 {
        let (low, count, end) =
            [(0x4E00, 0x800, "。"), (0x3041, 80, "、"), (0x430, 32, " "), (0xAC00, 0x800, " ")][random(4)];
        for _ in 0..1 + random(9) {
            mixed.extend(char::from_u32(low + random(count) as u32));
        }
        mixed.push_str(end);
    }
    all.push(("random scripts".into(), mixed));
    let mut emoji = String::new();
    while emoji.len() < 500_000 {
        for _ in 0..1 + random(8) {
            emoji.extend(char::from_u32(0x1F600 + random(80) as u32));
        }
        emoji.push_str(["\u{200d}", " ", " ok ", "\u{fe0f}", "\n"][random(5)]);
    }
    all.push(("emoji".into(), emoji));
    all.push(("one letter".into(), "a".repeat(1_000_000)));
    all.push(("spaces".into(), " ".repeat(1_000_000)));
    all.push(("digits".into(), (0..1_000_000).map(|_| char::from(b'0' + random(10) as u8)).collect()));
    let marks = b"!?.,;:-()[]{}";
    all.push(("punctuation".into(), (0..1_000_000).map(|_| char::from(marks[random(marks.len())])).collect()));
    all.push(("random letters".into(), (0..1_000_000).map(|_| char::from(b'a' + random(26) as u8)).collect()));
    all
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            files.push(path);
        }
    }
    files
}

/// Translated messages of the machine's programs, up to a size.
fn messages(languages: &[&str], size: usize) -> String {
    let mut text = String::new();
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir("/usr/share/locale").into_iter().flatten().flatten().map(|e| e.path()).collect();
    folders.sort();
    folders.retain(|f| {
        let name = f.file_name().unwrap_or_default().to_string_lossy().into_owned();
        languages.iter().any(|l| name == *l || name.starts_with(&format!("{l}_")))
    });
    let mut catalogues: Vec<Vec<PathBuf>> = folders.iter().map(|f| files_below(f, "mo")).collect();
    // In turn, so that each language has its share.
    while text.len() < size && catalogues.iter().any(|c| !c.is_empty()) {
        for catalogue in &mut catalogues {
            if let Some(path) = catalogue.pop() {
                translations(&std::fs::read(path).unwrap_or_default(), &mut text);
            }
        }
    }
    let end = (0..=size.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.truncate(end);
    text
}

/// The translations of a message catalogue (GNU gettext, little endian).
fn translations(file: &[u8], out: &mut String) {
    let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?) as usize);
    if word(0) != Some(0x9504_12de) {
        return;
    }
    let (Some(count), Some(table)) = (word(8), word(16)) else { return };
    // The first is the head of the file.
    for entry in 1..count {
        let (Some(len), Some(at)) = (word(table + 8 * entry), word(table + 8 * entry + 4)) else { return };
        let Some(text) = file.get(at..at + len).and_then(|bytes| std::str::from_utf8(bytes).ok()) else { continue };
        out.extend(text.chars().filter(|&c| c != '\0'));
        out.push('\n');
    }
}
