//! Pages, who shares them, and what happens when there are none.

use cupola_models::state::PAGE;

use super::*;

/// Bytes of a page in a layer of the small model: two heads of eight, keys and values, in f32.
const PAGE_BYTES: usize = PAGE * 2 * 2 * 8 * 4;
/// Layers of the small model.
const LAYERS: usize = 2;

fn open(prompt: &[u32], limit: usize, seed: u64) -> Job {
    with(job(prompt, limit, seed), |g| g.ends.clear())
}

#[test]
fn sequences_that_were_put_aside_for_want_of_memory_go_on_with_the_same_bits() {
    let jobs: Vec<Job> = (0..8u32).map(|i| open(&[i; 100], 250, u64::from(i))).collect();
    // Three may begin; each comes to six pages.
    let small = engine(EngineConfig { cache_bytes: 9 * LAYERS * PAGE_BYTES, ..config() });
    let found = run(&small, &jobs);
    assert!(small.stats().preempted.get() > 0, "there was not enough memory for all");
    assert_eq!(found, alone(&jobs));
    // Not even for one.
    let tiny = engine(EngineConfig { cache_bytes: PAGE_BYTES, ..config() });
    assert_eq!(run(&tiny, &jobs[..2]), found[..2]);
}

#[test]
fn hybrids_have_the_same_bits_alone_among_64_streams_with_known_prefixes_and_after_waiting_for_memory() {
    for layers in [HYBRID, LATENT] {
        let start = |config| Engine::new(model(layers), config, Arc::default()).unwrap();
        let jobs = jobs(64);
        // Each in an engine of its own, as after a restart.
        let expected = alone_in(layers, &jobs);
        for threads in [1, 3] {
            let engine = start(EngineConfig { threads: Some(threads), ..config() });
            for round in ["first", "with known prefixes"] {
                for (index, (found, expected)) in run(&engine, &jobs).iter().zip(&expected).enumerate() {
                    assert_eq!(found, expected, "job {index}, {round}, {threads} threads, {layers}");
                }
            }
            assert!(engine.stats().cached_tokens.get() > 0, "snapshots of scans are used");
        }
        let long: Vec<Job> = (0..6u32).map(|i| open(&[i; 100], 200, u64::from(i))).collect();
        let expected = alone_in(layers, &long);
        let bytes = {
            let model = model(layers);
            let mut state = model.state();
            let tokens = Tensor::from_vec(vec![1i64; 100], [100]);
            no_grad(|| model.hidden(&tokens, &Segments::one(100), Some(&mut [&mut state])));
            state.bytes()
        };
        let small = start(EngineConfig { cache_bytes: 5 * bytes, ..config() });
        assert_eq!(run(&small, &long), expected, "{layers}");
        assert!(small.stats().preempted.get() > 0, "there was not enough memory for all");
    }
}

#[test]
fn latent_pages_without_scans_are_computed_again_after_waiting_for_memory_with_the_same_bits() {
    let layers = "pattern = [\"mla\"]\nnum_hidden_layers = 2\nmla = { num_attention_heads = 2, kv_lora_rank = 8, \
                  qk_nope_head_dim = 6, qk_rope_head_dim = 4, v_head_dim = 8 }\n";
    let jobs: Vec<Job> = (0..6u32).map(|i| open(&[i; 100], 200, u64::from(i))).collect();
    // Two pages a layer hold a latent vector and a rotated key for each token.
    let bytes = 2 * LAYERS * PAGE * (8 + 4) * 4;
    let small =
        Engine::new(model(layers), EngineConfig { cache_bytes: 5 * bytes, ..config() }, Arc::default()).unwrap();
    assert_eq!(run(&small, &jobs), alone_in(layers, &jobs));
    assert!(small.stats().preempted.get() > 0, "there was not enough memory for all");
}

#[test]
fn a_prefix_that_is_shared_costs_no_page() {
    let engine = engine(config());
    let prompt: Vec<u32> = (0..4 * PAGE as u32 + 1).map(|i| i * 7 % 250).collect();
    run(&engine, &[open(&prompt, 1, 0)]);
    let pages = || engine.stats().pages_used.get() as usize;
    eventually(|| pages() == 4 * LAYERS);
    assert_eq!(engine.stats().prefix_bytes.get() as usize, 4 * LAYERS * PAGE_BYTES);
    let jobs = (0..10).map(|i| open(&[&prompt[..4 * PAGE], &[i]].concat(), 50, u64::from(i))).collect();
    let mut most = 0;
    for mut answer in engine.submit_all(jobs).unwrap() {
        while let Some(event) = answer.wait() {
            if let Event::Prompt { cached, .. } = event {
                assert_eq!(cached, 4 * PAGE);
            }
            most = most.max(pages());
        }
    }
    // Each of them has a page of its own in each layer, and none of the others a second time.
    assert!(most > 4 * LAYERS && most <= (4 + 10) * LAYERS, "{most} pages");
    eventually(|| pages() == 4 * LAYERS);
}

#[test]
fn answers_to_one_prompt_share_its_pages() {
    let engine = engine(config());
    let prompt: Vec<u32> = (0..4 * PAGE as u32 + 1).map(|i| i % 250).collect();
    let many = with(open(&prompt, 40, 0), |g| g.choices = 8);
    let mut answer = engine.submit(many).unwrap();
    let mut most = 0;
    while answer.wait().is_some() {
        most = most.max(engine.stats().pages_used.get() as usize);
    }
    assert!(most <= (4 + 8) * LAYERS, "{most} pages");
}

#[test]
fn after_a_thousand_requests_that_ended_or_vanished_only_what_was_read_before_is_kept() {
    let most = 64 * LAYERS;
    let engine = engine(EngineConfig { cache_bytes: most * PAGE_BYTES, max_waiting: 2000, ..config() });
    for batch in 0..20u32 {
        let one = |i: u32| {
            let prompt: Vec<u32> = (0..1 + (i * 37) % 150).map(|j| (j * 3 + i % 40) % 250).collect();
            engine.submit(open(&prompt, 1 + i as usize % 5, u64::from(i))).unwrap()
        };
        let answers: Vec<Answer> = (batch * 50..batch * 50 + 50).map(one).collect();
        for (index, mut answer) in answers.into_iter().enumerate() {
            match index % 3 {
                0 => drop(events(answer)),
                1 => drop(answer.wait()),
                _ => drop(answer),
            }
        }
    }
    let stats = engine.stats();
    eventually(|| stats.running.get() == 0 && stats.waiting.get() == 0);
    let pages = || stats.pages_used.get() as usize;
    eventually(|| pages() * PAGE_BYTES == stats.prefix_bytes.get() as usize && stats.state_bytes.get() == 0);
    assert!(pages() > 0 && pages() <= most, "{} pages", pages());
    assert_eq!(pages() + stats.pages_free.get() as usize, most);
    assert!(stats.abandoned.get() > 0);
    engine.forget();
    eventually(|| pages() == 0 && stats.prefix_bytes.get() == 0);
    assert_eq!(stats.pages_free.get() as usize, most);
    let mut text = String::new();
    stats::write(&[("small".into(), Arc::clone(&engine.shared.stats))], &mut text);
    for line in ["cupola_pages_used{model=\"small\"} 0", "cupola_pages_free{model=\"small\"} 128"] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
}

#[test]
fn scans_alone_keep_within_the_bound_too() {
    let scans = "pattern = [\"mamba2\"]\nnum_hidden_layers = 2\nmamba2 = { head_dim = 16, state_size = 8 }\n";
    let fixed = model(scans).state_bytes().0;
    let most = 12 * fixed;
    let engine = Engine::new(model(scans), EngineConfig { cache_bytes: most, ..config() }, Arc::default()).unwrap();
    let jobs: Vec<Job> = (0..40u32).map(|i| open(&[i; 200], 5, u64::from(i))).collect();
    assert_eq!(run(&engine, &jobs), alone_in(scans, &jobs));
    let stats = engine.stats();
    eventually(|| stats.state_bytes.get() == 0);
    let kept = stats.prefix_bytes.get() as usize;
    assert!(kept > 0 && kept <= most, "{kept} of {most} bytes");
    assert_eq!(stats.pages_used.get(), 0);
}
