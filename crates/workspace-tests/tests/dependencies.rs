//! Building and testing the workspace needs Rust and a linker, and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;

use cupola_workspace_tests::root;
use serde_json::Value;

/// Crates that build scripts use to run a C or C++ compiler, an assembler or another build system, or to look for libraries
/// of the system.
const FOREIGN: [&str; 13] = [
    "autotools",
    "bindgen",
    "cc",
    "clang-sys",
    "cmake",
    "cpp_build",
    "cxx-build",
    "gcc",
    "nasm-rs",
    "openssl-src",
    "pkg-config",
    "system-deps",
    "vcpkg",
];

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {problem}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("cargo and rustc print UTF-8")
}

/// The graph that `cargo test` builds on this machine with default features: a package's name by id, and its dependencies
/// as (id, whether for its build script).
struct Graph {
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<(String, bool)>>,
    members: Vec<String>,
}

fn text(value: &Value) -> String {
    value.as_str().expect("cargo's format").to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("cargo's format")
}

impl Graph {
    fn from_metadata(metadata: &Value) -> Self {
        let edges = list(&metadata["resolve"]["nodes"]).iter().map(|node| {
            let dependencies = list(&node["deps"]).iter().map(|dependency| {
                let build = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] == "build");
                (text(&dependency["pkg"]), build)
            });
            (text(&node["id"]), dependencies.collect())
        });
        let packages = list(&metadata["packages"]).iter();
        Self {
            names: packages.map(|package| (text(&package["id"]), text(&package["name"]))).collect(),
            edges: edges.collect(),
            members: list(&metadata["workspace_members"]).iter().map(text).collect(),
        }
    }

    /// For each build dependency on a foreign tool, the way to it from a member.
    fn foreign(&self) -> Vec<String> {
        let mut ways: BTreeMap<&str, String> = BTreeMap::new();
        let mut open: VecDeque<&str> = VecDeque::new();
        for member in &self.members {
            ways.insert(member, self.names[member].clone());
            open.push_back(member);
        }
        let mut found = BTreeSet::new();
        while let Some(id) = open.pop_front() {
            for (dependency, build) in self.edges.get(id).into_iter().flatten() {
                let name = &self.names[dependency];
                let way = format!("{} -> {name}", ways[id]);
                if *build && FOREIGN.contains(&name.as_str()) {
                    found.insert(way.clone());
                }
                if !ways.contains_key(dependency.as_str()) {
                    ways.insert(dependency, way);
                    open.push_back(dependency);
                }
            }
        }
        found.into_iter().collect()
    }
}

#[test]
fn no_build_script_runs_a_c_compiler() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = run(&rustc, &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    // Offline: all of it was fetched to build this test.
    let arguments = ["metadata", "--format-version", "1", "--offline", "--filter-platform", host];
    let metadata = serde_json::from_str(&run(&cargo, &arguments)).expect("cargo prints JSON");
    let graph = Graph::from_metadata(&metadata);
    assert!(graph.names.values().any(|name| name == "serde_json"), "the graph has our dependencies");
    assert_eq!(graph.foreign(), [""; 0], "these would run another compiler or look for the system's libraries");
}

#[test]
fn a_c_compiler_is_found_behind_any_number_of_crates() {
    let node = |id: &str, dependencies: &[(&str, Value)]| {
        let dependencies: Vec<Value> = dependencies
            .iter()
            .map(|(id, kind)| serde_json::json!({"pkg": id, "dep_kinds": [{"kind": kind}]}))
            .collect();
        serde_json::json!({"id": id, "deps": dependencies})
    };
    let build = Value::from("build");
    let names = ["ours", "middle", "sys", "cc", "plain"];
    let metadata = serde_json::json!({
        "packages": names.map(|name| serde_json::json!({"id": name, "name": name})),
        "workspace_members": ["ours"],
        "resolve": {"nodes": [
            node("ours", &[("middle", Value::Null), ("plain", build.clone())]),
            node("middle", &[("sys", Value::from("dev"))]),
            node("sys", &[("cc", build)]),
            node("cc", &[]),
            node("plain", &[("cc", Value::Null)]),
        ]},
    });
    assert_eq!(Graph::from_metadata(&metadata).foreign(), ["ours -> middle -> sys -> cc"]);
}
