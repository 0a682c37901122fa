//! What the tests of this crate share: where the workspace is, which crates and files it has.
//!
//! | test | what it holds |
//! |---|---|
//! | `layers` | a crate depends only on crates below it |
//! | `dependencies` | nothing in the build runs a C compiler |
//! | `files` | file lengths, no paths of one machine, where `unsafe` may stand |
//! | `golden` | the golden files are whole and small |
//! | `packages` | every crate can be published |

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
pub fn root() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = crates.and_then(Path::parent).expect("this crate lies two folders below the root");
    root.to_owned()
}

/// The folders of all crates, sorted.
pub fn crates() -> Vec<PathBuf> {
    let folder = root().join("crates");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut crates: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("Cargo.toml").is_file())
        .collect();
    crates.sort();
    crates
}

/// The paths, relative to the root and with forward slashes, of all files that belong to the project: those that git knows,
/// or, in a copy without git, all that are not in a hidden folder or a usual place for what tools make.
pub fn files() -> Vec<String> {
    let root = root();
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
    let mut files: Vec<String> = match listed {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => String::from_utf8_lossy(&output.stdout)
            .split_terminator('\0')
            .map(str::to_owned)
            .filter(|file| root.join(file).is_file())
            .collect(),
        _ => {
            let mut found = Vec::new();
            walk(&root, "", &mut found);
            found
        }
    };
    files.sort();
    files
}

fn walk(root: &Path, folder: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let skipped =
            ["target", "runs", "node_modules"].contains(&name.as_str()) || name.starts_with('.') && name != ".ci";
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !skipped => walk(root, &path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

/// The text of a file of [`files`], or `None` when it is not text.
pub fn text(file: &str) -> Option<String> {
    let bytes = fs::read(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// The example of the README compiles and does what it says.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
