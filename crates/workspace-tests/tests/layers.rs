//! A crate depends only on crates below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cupola_workspace_tests::{crates, root};
use toml::{Table, Value};

/// The house, lowest crate first: each may use the crates listed behind it and what those use. Crates that are not written
/// yet have their place already.
const HOUSE: [(&str, &[&str]); 16] = [
    ("core", &[]),
    ("io", &["core"]),
    ("cpu", &["core"]),
    ("tensor", &["core", "cpu"]),
    ("derive", &[]),
    ("nn", &["tensor", "io", "derive"]),
    ("regex", &[]),
    ("tokenizer", &["regex", "io"]),
    ("data", &["core", "io", "tokenizer"]),
    ("models", &["nn", "io"]),
    ("train", &["models", "data"]),
    ("monitor", &["core", "io"]),
    ("serve", &["models", "tokenizer", "monitor"]),
    ("cupola", &["train", "serve"]),
    ("cli", &["cupola"]),
    ("workspace-tests", &[]),
];

/// Dependencies that only a feature may bring.
const OPTIONAL: [(&str, &str); 1] = [("tokenizer", "io")];

fn package(folder: &str) -> String {
    if folder == "cupola" { folder.to_owned() } else { format!("cupola-{folder}") }
}

/// All that a crate may use, directly or through what it uses.
fn allowed(folder: &str) -> BTreeSet<&'static str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        let (_, uses) = HOUSE.iter().find(|(name, _)| *name == next).expect("the table is closed");
        open.extend(uses.iter().filter(|&&name| reached.insert(name)).map(|&name| name.to_owned()));
    }
    reached
}

fn place(folder: &str) -> Option<usize> {
    HOUSE.iter().position(|(name, _)| *name == folder)
}

fn manifest(folder: &Path) -> Table {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The dependency tables of a manifest: their kind and contents, those of single platforms included.
fn dependencies(manifest: &Table) -> Vec<(&'static str, &Table)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    std::iter::once(manifest)
        .chain(targets)
        .flat_map(|part| {
            ["dependencies", "dev-dependencies", "build-dependencies"]
                .into_iter()
                .filter_map(|kind| Some((kind, part.get(kind)?.as_table()?)))
        })
        .collect()
}

/// The package behind a dependency's key, which may be another name for it, here or in the workspace's table.
fn real_name(key: &str, dependency: &Value, shared: &Table) -> String {
    let inherited = dependency.get("workspace").and_then(Value::as_bool) == Some(true);
    let declared = if inherited { shared.get(key).unwrap_or(dependency) } else { dependency };
    declared.get("package").and_then(Value::as_str).unwrap_or(key).to_owned()
}

/// What is wrong with the dependencies of the crate in `folder`.
fn violations(folder: &str, manifest: &Table, shared: &Table) -> Vec<String> {
    let Some(own_place) = place(folder) else {
        return vec![format!("crates/{folder} has no place in the table; give it one")];
    };
    let folders: BTreeMap<String, &str> = HOUSE.iter().map(|(folder, _)| (package(folder), *folder)).collect();
    let mut wrong = Vec::new();
    for (kind, table) in dependencies(manifest) {
        for (key, dependency) in table {
            let name = real_name(key, dependency, shared);
            let Some(&used) = folders.get(&name) else {
                if name == "cupola" || name.starts_with("cupola-") {
                    wrong.push(format!("{folder}: `{name}` has no place in the table; give it one"));
                }
                continue;
            };
            // Tests may use any crate further down, for instance to read golden values, but the crate itself may not.
            let fits = match kind {
                "dev-dependencies" => place(used) <= Some(own_place),
                _ => allowed(folder).contains(used),
            };
            if !fits {
                wrong.push(format!("{folder} may not use {used} ({kind})"));
            }
            let optional = dependency.get("optional").and_then(Value::as_bool) == Some(true);
            if kind == "dependencies" && OPTIONAL.contains(&(folder, used)) && !optional {
                wrong.push(format!("{folder} may use {used} only behind a feature"));
            }
        }
    }
    wrong
}

fn folder_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[test]
fn every_crate_uses_only_what_the_table_allows() {
    let workspace = manifest(&root());
    let shared = workspace["workspace"]["dependencies"].as_table().expect("a table");
    let found = crates();
    assert!(found.len() > 2, "the crates are in {}", root().display());
    let wrong: Vec<String> =
        found.iter().flat_map(|path| violations(&folder_name(path), &manifest(path), shared)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_is_in_order() {
    for (index, (name, uses)) in HOUSE.iter().enumerate() {
        for used in *uses {
            assert!(place(used).is_some_and(|place| place < index), "{name} uses {used}, which is not above it");
        }
    }
    assert!(!allowed("serve").contains("train"));
    assert!(!allowed("tensor").contains("io"));
    assert!(allowed("train").contains("core"));
}

#[test]
fn violations_are_found() {
    let shared: Table = "disguised = { package = \"cupola-nn\", path = \"crates/nn\" }".parse().expect("valid");
    let check = |folder: &str, text: &str| violations(folder, &text.parse().expect("valid"), &shared);
    assert_eq!(check("tensor", "[dependencies]\ncupola-core.workspace = true\nserde = \"1\""), [""; 0]);
    assert_eq!(check("tensor", "[dev-dependencies]\ncupola-io.workspace = true"), [""; 0]);
    for (text, message) in [
        ("[dependencies]\ncupola-io.workspace = true", "tensor may not use io (dependencies)"),
        ("[dependencies]\nx = { package = \"cupola-nn\", version = \"1\" }", "tensor may not use nn (dependencies)"),
        ("[dependencies]\ndisguised.workspace = true", "tensor may not use nn (dependencies)"),
        ("[build-dependencies]\ncupola-nn = \"1\"", "tensor may not use nn (build-dependencies)"),
        ("[dev-dependencies]\ncupola-nn = \"1\"", "tensor may not use nn (dev-dependencies)"),
        ("[target.'cfg(unix)'.dependencies]\ncupola-io = \"1\"", "tensor may not use io (dependencies)"),
        ("[dependencies]\ncupola-helpers = \"1\"", "tensor: `cupola-helpers` has no place in the table; give it one"),
    ] {
        assert_eq!(check("tensor", text), [message], "{text}");
    }
    let mandatory = check("tokenizer", "[dependencies]\ncupola-io.workspace = true");
    assert_eq!(mandatory, ["tokenizer may use io only behind a feature"]);
    assert_eq!(check("attic", ""), ["crates/attic has no place in the table; give it one"]);
}

#[test]
fn every_manifest_shares_the_workspace_s_settings() {
    for path in crates() {
        let manifest = manifest(&path);
        let package_table = manifest["package"].as_table().expect("a table");
        let folder = folder_name(&path);
        assert_eq!(package_table["name"].as_str(), Some(package(&folder).as_str()), "crates/{folder}");
        for key in ["version", "edition", "rust-version", "license", "repository", "authors"] {
            let inherited = package_table.get(key).and_then(|value| value.get("workspace")).and_then(Value::as_bool);
            assert_eq!(inherited, Some(true), "crates/{folder}: package.{key}");
        }
        let described = package_table.get("description").and_then(Value::as_str).is_some_and(|text| text.len() > 10);
        assert!(described, "crates/{folder} needs a description");
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
        assert_eq!(lints, Some(true), "crates/{folder}: lints");
    }
}
