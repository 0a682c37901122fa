//! What is chosen when nothing is said.

use cupola_models::ModelSpec;
use cupola_train::Config;
use cupola_train::automatic::{Facts, complete, vocab_size};

fn facts(bytes: u64, memory: u64) -> Facts {
    Facts { bytes, tokens: bytes / 3, documents: 1, conversations: false, vocab_size: 1024, memory }
}

#[test]
fn more_text_gets_more_tokens() {
    let sizes = [100_000, 1_000_000, 5_000_000, 50_000_000, 500_000_000, 5_000_000_000].map(vocab_size);
    assert_eq!(sizes, [512, 1024, 2048, 4096, 8192, 16_384]);
}

#[test]
fn a_batch_is_cut_into_parts_that_fit_the_memory() {
    let spec = ModelSpec::preset("llama-baby", 1024).expect("a preset");
    let rows = |memory: u64| {
        let mut config = Config::default();
        complete(&mut config, &facts(30_000_000, memory), &spec, 10_000_000);
        let batch = config.batch;
        assert_eq!((batch.window, batch.rows), (Some(256), Some(32)));
        batch.micro_rows.expect("it was chosen")
    };
    assert_eq!(rows(1 << 40), 32);
    let less = rows(2 << 30);
    assert!(less > 1 && less < 32, "{less}");
    assert_eq!(rows(1 << 20), 1);
}

#[test]
fn an_epoch_is_the_text_once_however_short_and_a_run_without_a_length_has_at_least_a_hundred_steps() {
    let spec = ModelSpec::preset("llama-nano", 1024).expect("a preset");
    let steps = |config: Config, bytes: u64| {
        let mut config = config;
        complete(&mut config, &facts(bytes, 8 << 30), &spec, 800_000);
        config.steps.expect("it was chosen")
    };
    let epochs = |epochs: f64| Config { epochs: Some(epochs), ..Config::default() };
    // 100,000 tokens in steps of 2,048.
    assert_eq!([1.0, 3.0, 0.5].map(|n| steps(epochs(n), 300_000)), [49, 147, 25]);
    assert_eq!(steps(Config::default(), 3000), 100);
    // Twenty tokens a parameter, of a text that is long enough.
    assert_eq!(steps(Config::default(), 300_000_000), 16_000_000_u64.div_ceil(2048));
}
