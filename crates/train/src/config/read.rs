//! Files and settings in TOML, with the place of every mistake.

use std::path::Path;

use cupola_models::spec::nearest;
use toml::{Table, Value};

use super::Config;

/// A configuration that cannot be used: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ConfigError {
    /// `file:line:column`, a setting, or a key.
    pub place: String,
    /// What was found and what was expected.
    pub reason: String,
}

/// No configuration has more bytes.
const LARGEST: u64 = 1 << 20;

/// Reads a file and applies settings such as `optimizer.learning_rate=3e-4` to it.
///
/// # Errors
/// With the place of the first mistake.
pub fn read(path: Option<&Path>, sets: &[String]) -> Result<Config, ConfigError> {
    let mut table = match path {
        None => Table::new(),
        Some(path) => file(path)?,
    };
    for set in sets {
        apply(&mut table, set)?;
    }
    let config: Config = table.try_into().map_err(|error: toml::de::Error| ConfigError {
        place: path.map_or_else(|| "configuration".to_string(), |path| path.display().to_string()),
        reason: explained(error.message(), None),
    })?;
    config.check()?;
    Ok(config)
}

fn file(path: &Path) -> Result<Table, ConfigError> {
    let name = path.display().to_string();
    let wrong = |reason: String| ConfigError { place: name.clone(), reason };
    let about = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !about.is_file() || about.len() > LARGEST {
        return Err(wrong(format!("{} bytes, expected a file of at most {LARGEST}", about.len())));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| wrong(format!("byte {} is not UTF-8, expected text", error.valid_up_to())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Read twice: once as what it means, for mistakes with their place, once as a table that settings can be put into.
    let located = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column, section) = place(text, at);
        ConfigError { place: format!("{name}:{line}:{column}"), reason: explained(error.message(), Some(&section)) }
    };
    let config: Config = toml::from_str(text).map_err(located)?;
    config.check().map_err(|error| {
        let place = find(text, &error.place).map_or_else(
            || format!("{name}: {}", error.place),
            |(line, column)| format!("{name}:{line}:{column}: {}", error.place),
        );
        ConfigError { place, ..error }
    })?;
    toml::from_str(text).map_err(located)
}

/// Line, column and section of a byte, counted from 1.
fn place(text: &str, at: usize) -> (usize, usize, String) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    let header = before.lines().rev().find_map(|line| line.trim().strip_prefix('[')?.split(']').next());
    (line, column, header.unwrap_or_default().trim_matches('[').to_string())
}

/// Where `section.key` is given a value.
fn find(text: &str, key: &str) -> Option<(usize, usize)> {
    let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut at = "";
    for (index, line) in text.lines().enumerate() {
        let bare = line.trim();
        if let Some(header) = bare.strip_prefix('[') {
            at = header.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
        } else if at == section && bare.split('=').next().is_some_and(|name| name.trim() == last) {
            return Some((index + 1, line.len() - line.trim_start().len() + 1));
        }
    }
    None
}

/// The parser's message with the nearest known word.
fn explained(message: &str, section: Option<&str>) -> String {
    let message = message.trim_end().replace('\n', "; ");
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.starts_with("unknown field");
    let variant = message.starts_with("unknown variant");
    if let ([word, known @ ..], true) = (&quoted[..], unknown || variant) {
        let word: String = word.chars().take(80).collect();
        let kind = if unknown { "key" } else { "word" };
        let inside = section.filter(|name| !name.is_empty()).map_or_else(String::new, |name| format!(" in [{name}]"));
        let suggestion = match nearest(&word, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        return format!("unknown {kind} `{word}`{inside}; {suggestion}");
    }
    // A hostile key must not fill the screen.
    if message.len() > 400 { format!("{}...", message.chars().take(400).collect::<String>()) } else { message }
}

/// A setting `a.b=value` as a table of its own.
fn apply(table: &mut Table, set: &str) -> Result<(), ConfigError> {
    let wrong = |reason: String| ConfigError { place: format!("--set {set}"), reason };
    let (key, value) = set.split_once('=').ok_or_else(|| wrong("expected KEY=VALUE".to_string()))?;
    let (key, value) = (key.trim(), value.trim());
    // A value that is no TOML is a text, so that quotes are not needed on the command line.
    let parsed: Value = match toml::from_str::<Table>(&format!("x = {value}")) {
        Ok(mut one) if one.len() == 1 => one.remove("x").unwrap_or(Value::String(value.to_string())),
        _ => Value::String(value.to_string()),
    };
    let mut single = Table::new();
    put(&mut single, key, parsed.clone()).map_err(&wrong)?;
    let alone: Config = single.try_into().map_err(|error: toml::de::Error| {
        let section = key.rsplit_once('.').map(|(section, _)| section);
        wrong(explained(error.message(), section))
    })?;
    alone.check().map_err(|error| wrong(error.to_string()))?;
    put(table, key, parsed).map_err(wrong)
}

fn put(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    if first.is_empty() {
        return Err(format!("`{key}` has an empty part, expected names with dots between them"));
    }
    let Some(rest) = rest else {
        table.insert(first.to_string(), value);
        return Ok(());
    };
    match table.entry(first).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => put(inner, rest, value),
        other => Err(format!("`{first}` is {}, expected a section", other.type_str())),
    }
}

/// The settings that turn the default configuration into this one, one a line, sorted.
pub fn settings(config: &Config) -> Vec<String> {
    fn walk(prefix: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Table(table) => {
                for (name, value) in table {
                    let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&name, value, out);
                }
            }
            other => out.push(format!("{prefix}={other}")),
        }
    }
    let lines = |config: &Config| {
        let mut out = Vec::new();
        if let Ok(value) = Value::try_from(config) {
            walk("", &value, &mut out);
        }
        out
    };
    let usual = lines(&Config::default());
    let mut changed: Vec<String> = lines(config).into_iter().filter(|line| !usual.contains(line)).collect();
    changed.sort();
    changed
}
