//! What is chosen when a family or nothing is asked for.

mod common;

use common::micro;
use cupola_train::Setup;
use cupola_train::automatic::{Facts, preset};

fn facts(bytes: u64, memory: u64) -> Facts {
    Facts { bytes, tokens: bytes / 4, documents: 1, conversations: false, vocab_size: 4096, memory }
}

#[test]
fn a_family_s_size_grows_with_the_text_as_far_as_the_memory_allows() {
    let of = |family: &str, bytes: u64, memory: u64| preset(family, &facts(bytes, memory)).expect("a family");
    for family in ["llama", "mamba", "gdn"] {
        assert_eq!(of(family, 1 << 20, 64 << 30), format!("{family}-nano"));
        assert_eq!(of(family, 100 << 20, 64 << 30), format!("{family}-baby"));
        assert_eq!(of(family, 2 << 30, 64 << 30), format!("{family}-124m"));
        assert_eq!(of(family, 2 << 30, 2 << 30), format!("{family}-baby"));
        assert_eq!(of(family, 2 << 30, 64 << 20), format!("{family}-nano"));
    }
    // Eight experts for each layer's one.
    assert_eq!(of("chimera", 2 << 30, 8 << 30), "chimera-baby");
    assert_eq!(of("llama", 2 << 30, 8 << 30), "llama-124m");
    assert!(preset("lama", &facts(2 << 30, 8 << 30)).is_err());
}

#[test]
fn a_family_alone_is_trained_in_the_size_that_fits_and_the_run_says_which() {
    let folder = tempfile::tempdir().expect("a folder");
    let prepared = |name: &str, preset: Option<&str>| {
        let mut config = micro(folder.path(), &[]);
        (config.model.spec, config.model.preset) = (None, preset.map(String::from));
        Setup::prepare(config, &folder.path().join(name), &mut |_| {})
    };
    let setup = prepared("family", Some("gpt2")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(setup.config.model.preset.as_deref(), Some("gpt2-nano"));
    assert_eq!((setup.spec.num_hidden_layers, setup.info("run").model.preset), (4, "gpt2-nano".to_string()));
    let setup = prepared("nothing", None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(setup.config.model.preset.as_deref(), Some("llama-nano"));
    let setup = prepared("whole", Some("mamba-baby")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(setup.config.model.preset.as_deref(), Some("mamba-baby"));
    let error = prepared("wrong", Some("gpt3")).err().expect("no such family").to_string();
    assert!(error.contains("there is no preset `gpt3`"), "{error}");
}
