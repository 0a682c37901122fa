//! What a crate needs to be published.

use std::fs;

use cupola_workspace_tests::{crates, root};

#[test]
fn every_published_crate_has_a_description_and_carries_both_licences() {
    for folder in crates() {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
        let package = manifest["package"].as_table().expect("a package");
        let name = package["name"].as_str().expect("a name");
        if package.get("publish").and_then(toml::Value::as_bool) == Some(false) {
            continue;
        }
        let description = package.get("description").and_then(toml::Value::as_str).unwrap_or_default();
        assert!(description.len() > 20, "{name}: the manifest has no description worth the name: {description:?}");
        assert!(
            package.contains_key("license") && package.contains_key("repository"),
            "{name}: the manifest names no licence or no repository"
        );
        // A package has the files of its own folder alone.
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            let (own, shared) = (fs::read(folder.join(licence)).ok(), fs::read(root().join(licence)).ok());
            assert!(
                own.is_some() && own == shared,
                "{name}: the package would lack {licence}; link it from its folder to ../../{licence}"
            );
        }
    }
}
