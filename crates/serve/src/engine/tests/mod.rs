//! The engine with small real models.

mod memory;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cupola_tensor::{Segments, Tensor, no_grad};

use super::*;
use crate::api::Sampling;
use crate::testing::{config, engine, events, eventually, job, model, with};

/// Prompts of many lengths, some of which begin alike.
fn prompts(count: usize) -> Vec<Vec<u32>> {
    let length = |i: usize| [1, 2, 5, 31, 64, 65, 127, 130, 200, 257][i % 10];
    let token = |i: usize, j: usize| ((j * 7 + (j / 64) * 13 + if j >= 64 { i * 31 } else { i % 3 }) % 256) as u32;
    (0..count).map(|i| (0..length(i)).map(|j| token(i, j)).collect()).collect()
}

fn jobs(count: usize) -> Vec<Job> {
    let change = |i: usize| {
        move |generate: &mut job::Generate| {
            if i % 4 == 1 {
                generate.sampling = Sampling { temperature: 0.0, ..Sampling::default() };
            }
            if i % 4 == 2 {
                generate.sampling =
                    Sampling { top_p: 0.9, repetition_penalty: 1.2, frequency_penalty: 0.5, ..Sampling::default() };
            }
            generate.choices = if i % 9 == 4 { 3 } else { 1 };
        }
    };
    prompts(count).iter().enumerate().map(|(i, prompt)| with(job(prompt, 12 + i % 7, i as u64), change(i))).collect()
}

/// Events without what may differ: how much had been read before, and the order between answers of one prompt.
fn comparable(mut events: Vec<Event>) -> Vec<Event> {
    let place = |event: &Event| match event {
        Event::Token { choice, .. } | Event::End { choice, .. } => *choice + 1,
        _ => 0,
    };
    events.sort_by_key(place);
    for event in &mut events {
        if let Event::Prompt { cached, .. } = event {
            *cached = 0;
        }
    }
    events
}

/// Two scans and attention between them.
const HYBRID: &str = "pattern = [\"mamba2\", \"attention\", \"gated_deltanet\"]\nnum_hidden_layers = 3\n\
                      mamba2 = { head_dim = 16, state_size = 8 }\ngated_deltanet = { num_heads = 2 }\n";

/// Latent attention and a scan.
const LATENT: &str = "pattern = [\"mla\", \"mamba\"]\nnum_hidden_layers = 2\nmamba = { state_size = 4 }\n\
                      mla = { num_attention_heads = 2, kv_lora_rank = 8, qk_nope_head_dim = 6, qk_rope_head_dim = 4, \
                      v_head_dim = 8 }\n";

fn run(engine: &Engine, jobs: &[Job]) -> Vec<Vec<Event>> {
    let answers: Vec<Answer> = jobs.iter().map(|job| engine.submit(job.clone()).unwrap()).collect();
    answers.into_iter().map(|answer| comparable(events(answer))).collect()
}

/// One engine for each job: nothing else was ever there.
fn alone(jobs: &[Job]) -> Vec<Vec<Event>> {
    alone_in("", jobs)
}

/// The same with a model of these layers.
fn alone_in(layers: &str, jobs: &[Job]) -> Vec<Vec<Event>> {
    let fresh = || EngineConfig { speculate: false, ..config() };
    let engine = || Engine::new(model(layers), fresh(), Arc::default()).unwrap();
    jobs.iter().flat_map(|job| run(&engine(), std::slice::from_ref(job))).collect()
}

#[test]
fn answers_have_the_same_bits_alone_and_among_64_streams_on_any_number_of_threads() {
    let jobs = jobs(64);
    let expected = alone(&jobs);
    assert!(expected.iter().all(|events| events.len() > 1 && !matches!(events[0], Event::Failed(_))));
    for threads in [1, 2, 3] {
        let engine = engine(EngineConfig { threads: Some(threads), ..config() });
        for (index, (found, expected)) in run(&engine, &jobs).iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "job {index} on {threads} threads");
        }
        assert!(engine.stats().steps.get() < 64 * 12, "steps are shared");
    }
}

#[test]
fn a_prefix_that_was_read_before_is_not_read_again_and_changes_nothing() {
    let jobs = jobs(10);
    let engine = engine(config());
    let first = run(&engine, &jobs);
    let cached = |events: &[Event]| {
        events.iter().find_map(|e| if let Event::Prompt { cached, .. } = e { Some(*cached) } else { None })
    };
    let again: Vec<Vec<Event>> = jobs.iter().map(|job| events(engine.submit(job.clone()).unwrap())).collect();
    for (job, events) in jobs.iter().zip(&again) {
        let whole = (job.prompt.len() - 1) / BLOCK * BLOCK;
        assert_eq!(cached(events), Some(whole), "of {} tokens", job.prompt.len());
    }
    assert_eq!(again.into_iter().map(comparable).collect::<Vec<_>>(), first);
    assert_eq!(first, alone(&jobs));
}

#[test]
fn a_panic_in_a_shared_step_fails_the_one_request_that_caused_it() {
    fn fault(tokens: &[u32]) {
        assert!(!tokens.contains(&250), "injected");
    }
    let mut all = jobs(20);
    for job in &mut all {
        job.prompt.iter_mut().for_each(|token| *token %= 250);
        // Generated tokens must not trigger it either.
        *job = with(job.clone(), |generate| generate.sampling.logit_bias = vec![(250, -100.0)]);
    }
    let expected = alone(&all);
    let mut poisoned = all.clone();
    poisoned.insert(7, job(&[1, 250, 3], 5, 0));
    poisoned.insert(15, job(&[250], 5, 0));
    let engine = Engine::start(model(""), config(), Arc::default(), Some(fault)).unwrap();
    let mut found = run(&engine, &poisoned);
    for bad in [15, 7] {
        let events = found.remove(bad);
        assert!(matches!(&events[..], [Event::Failed(reason)] if reason.contains("injected")), "{events:?}");
    }
    assert_eq!(found, expected);
    assert!(engine.stats().panics.get() > 2);
    // A panic in what concerns one request alone fails that request.
    let own = with(job(&[1], 5, 0), |g| {
        g.choices = 2;
        g.sampling.logit_bias = vec![(250, 100.0)];
    });
    let events = run(&engine, &[own]).remove(0);
    assert!(
        events.iter().any(|e| matches!(e, Event::Failed(_))) && !events.iter().any(|e| matches!(e, Event::End { .. }))
    );
    // And it goes on working.
    assert_eq!(run(&engine, &all[..1]), expected[..1]);
}

#[test]
fn readers_that_go_away_free_their_place_at_once() {
    /// Steps that may be taken before the readers of a round are gone.
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    fn hold(_: &[u32]) {
        let one_less = |left: usize| left.checked_sub(1);
        eventually(|| STEPS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok());
    }
    let config = EngineConfig { max_concurrent: 2, ..config() };
    let engine = Engine::start(model(""), config, Arc::default(), Some(hold)).unwrap();
    let endless = |prompt: &[u32]| with(job(prompt, 400, 0), |generate| generate.ends.clear());
    for round in 0..20u32 {
        STEPS.store(round as usize % 5, Ordering::Relaxed);
        let gone: Vec<Answer> = (0..4).map(|i| engine.submit(endless(&[round, i])).unwrap()).collect();
        let one = engine.submit(job(&[9, 9], 4, 0)).unwrap();
        drop(gone);
        STEPS.store(usize::MAX, Ordering::Relaxed);
        assert!(events(one).len() > 1);
    }
    eventually(|| engine.stats().running.get() == 0 && engine.stats().state_bytes.get() == 0);
    assert_eq!(engine.stats().abandoned.get(), 80);
}

#[test]
fn a_queue_that_is_full_refuses_and_one_answer_of_several_can_be_stopped() {
    let engine = engine(EngineConfig { max_concurrent: 1, max_waiting: 2, ..config() });
    let long = || with(job(&[1], 500, 0), |g| g.ends.clear());
    let mut first = engine.submit(long()).unwrap();
    assert!(matches!(first.wait(), Some(Event::Prompt { .. })), "the first one runs");
    let waiting = [engine.submit(long()).unwrap(), engine.submit(long()).unwrap()];
    assert_eq!(engine.submit(long()).err(), Some(Refused::Full { waiting: 2 }));
    assert_eq!(engine.stats().refused.get(), 1);
    drop((first, waiting));
    eventually(|| engine.stats().waiting.get() == 0);
    let two = with(job(&[1, 2], 400, 0), |g| {
        g.choices = 2;
        g.ends.clear();
    });
    let mut answer = engine.submit(two).unwrap();
    answer.wait();
    answer.stop(0);
    let rest = events(answer);
    assert!(rest.iter().any(|e| matches!(e, Event::End { choice: 1, end: End::Length })));
    assert!(!rest.iter().any(|e| matches!(e, Event::End { choice: 0, .. })));
}

#[test]
fn requests_of_many_parts_wait_within_a_bound_of_tokens() {
    let engine = engine(EngineConfig { max_concurrent: 1, max_waiting: 3, context: 512, ..config() });
    let long = |count: usize| vec![with(job(&[1; 500], 500, 0), |g| g.ends.clear()); count];
    let mut first = engine.submit_all(long(1)).unwrap();
    first[0].wait();
    let large = engine.submit_all(long(20)).unwrap();
    // As many tokens as three of the longest prompts are waiting already.
    assert_eq!(engine.submit_all(long(2)).err(), Some(Refused::Full { waiting: 1 }));
    let one = engine.submit_all(long(1)).unwrap();
    assert_eq!(engine.stats().waiting.get(), 2);
    drop((first, large, one));
    eventually(|| engine.stats().running.get() == 0 && engine.stats().waiting.get() == 0);
}

#[test]
fn several_answers_come_from_one_reading_of_the_prompt() {
    let engine = engine(config());
    let prompt: Vec<u32> = (0..150).map(|i| i % 256).collect();
    let many = with(job(&prompt, 8, 3), |g| {
        g.choices = 5;
        g.ends.clear();
    });
    let found = comparable(events(engine.submit(many).unwrap()));
    assert_eq!(engine.stats().prompt_tokens.get(), 150);
    let answer = |choice: usize| -> Vec<u32> {
        let id =
            |e: &Event| if let Event::Token { choice: c, id, .. } = e { (*c == choice).then_some(*id) } else { None };
        found.iter().filter_map(id).collect()
    };
    assert_eq!(answer(4).len(), 8);
    assert_ne!(answer(0), answer(1));
    let one = with(job(&prompt, 8, 3), |g| g.ends.clear());
    let single = comparable(events(engine.submit(one).unwrap()));
    let first: Vec<&Event> = found.iter().filter(|e| matches!(e, Event::Token { choice: 0, .. })).collect();
    assert_eq!(first, single.iter().filter(|e| matches!(e, Event::Token { .. })).collect::<Vec<_>>());
}

#[test]
fn scores_of_a_prompt_are_the_librarys() {
    let prompt: Vec<u32> = (0..200).map(|i| (i * 37 % 256) as u32).collect();
    let scoring = with(job(&prompt, 0, 0), |g| g.score_prompt = true);
    let found = events(engine(config()).submit(scoring).unwrap());
    let [Event::Prompt { cached: 0, scores }, Event::End { end: End::Length, .. }] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(scores.len(), 199);
    let model = model("");
    let tokens = Tensor::from_vec(prompt.iter().map(|&id| i64::from(id)).collect(), [200]);
    let logits = no_grad(|| model.forward(&tokens, &Segments::one(200), None)).to_vec::<f32>();
    for (row, score) in scores.iter().enumerate() {
        let expected = choose::score(&logits[row * 260..(row + 1) * 260], prompt[row + 1], 2);
        assert!((score.logprob - expected.logprob).abs() < 1e-4, "row {row}: {} {}", score.logprob, expected.logprob);
        assert_eq!(score.top[0].0, expected.top[0].0, "row {row}");
    }
}

#[test]
fn a_vector_is_the_mean_of_the_last_hidden_values() {
    let prompt: Vec<u32> = (0..100).collect();
    let found = events(engine(config()).submit(Job { prompt, work: Work::Embed }).unwrap());
    let [Event::Prompt { .. }, Event::Embedding(vector)] = &found[..] else { panic!("{found:?}") };
    let model = model("");
    let tokens = Tensor::from_vec((0..100i64).collect(), [100]);
    let hidden = no_grad(|| model.hidden(&tokens, &Segments::one(100), None)).to_vec::<f32>();
    let mut sum = [0.0f64; 32];
    hidden.chunks(32).for_each(|row| sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x)));
    let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    for (found, expected) in vector.iter().zip(sum) {
        assert!((f64::from(*found) - expected / norm).abs() < 1e-5);
    }
}

#[test]
fn limits_ends_and_the_context_end_answers() {
    let engine = engine(EngineConfig { context: 20, ..config() });
    let open = |prompt: &[u32], limit| with(job(prompt, limit, 0), |g| g.ends.clear());
    let count = |events: &[Event]| events.iter().filter(|e| matches!(e, Event::Token { .. })).count();
    let found = events(engine.submit(open(&[1, 2, 3], 5)).unwrap());
    assert_eq!(count(&found), 5);
    assert_eq!(found.last(), Some(&Event::End { choice: 0, end: End::Length }));
    let found = events(engine.submit(open(&[1, 2, 3], 500)).unwrap());
    assert_eq!(count(&found), 17, "prompt and answer fill the context");
    let third = match &found[3] {
        Event::Token { id, .. } => *id,
        other => panic!("{other:?}"),
    };
    let ended = with(job(&[1, 2, 3], 500, 0), |g| g.ends = vec![third]);
    let found = events(engine.submit(ended).unwrap());
    assert!(count(&found) <= 2, "the end token is no part of the answer");
    assert_eq!(found.last(), Some(&Event::End { choice: 0, end: End::Stop }));
}

#[test]
fn right_guesses_save_steps_and_wrong_ones_change_nothing() {
    let greedy = |prompt: &[u32]| {
        with(job(prompt, 120, 0), |g| {
            g.sampling = Sampling { temperature: 0.0, ..Sampling::default() };
            g.ends.clear();
        })
    };
    let penalised = |prompt: &[u32]| with(greedy(prompt), |g| g.sampling.frequency_penalty = 0.4);
    let copied: Vec<u32> = (0..90).map(|i| i % 30).collect();
    // Two tokens between which the model decides: it says again what it said, now and then.
    let narrow = with(greedy(&[1, 2, 3]), |g| g.sampling.logit_bias = vec![(65, 100.0), (66, 100.0)]);
    let jobs = [greedy(&copied), greedy(&[1, 2, 3]), penalised(&copied), penalised(&[9; 70]), narrow];
    // Scans too: they read guesses one by one, and forget those that were wrong.
    for layers in ["", HYBRID, LATENT] {
        let start =
            |speculate| Engine::new(model(layers), EngineConfig { speculate, ..config() }, Arc::default()).unwrap();
        let (mut right, mut wrong) = (0, 0);
        for job in &jobs {
            let (plain, guessing) = (start(false), start(true));
            let expected = run(&plain, std::slice::from_ref(job));
            assert_eq!(run(&guessing, std::slice::from_ref(job)), expected, "{layers}");
            let stats = guessing.stats();
            let (guessed, accepted) = (stats.guessed_tokens.get(), stats.accepted_tokens.get());
            assert!(guessed > 0 && accepted <= guessed, "{layers}: {accepted} of {guessed}");
            assert_eq!(stats.steps.get() + accepted, plain.stats().steps.get(), "{layers}");
            right += accepted;
            wrong += guessed - accepted;
        }
        assert!(right > 0 && wrong > 0, "{layers}: {right} right and {wrong} wrong ones");
        // Inside the batch, beside answers that draw.
        let mut mixed = jobs.to_vec();
        mixed.extend(self::jobs(4));
        assert_eq!(run(&start(true), &mixed), run(&start(false), &mixed), "{layers}");
    }
}

#[test]
fn an_answer_that_begins_the_next_prompt_is_not_read_again() {
    let engine = engine(config());
    let first = with(job(&[5; 40], 100, 1), |g| g.ends.clear());
    let said = events(engine.submit(first).unwrap());
    let mut next = vec![5; 40];
    next.extend(said.iter().filter_map(|e| if let Event::Token { id, .. } = e { Some(*id) } else { None }));
    next.extend([1, 2, 3]);
    let next = job(&next, 10, 2);
    let found = events(engine.submit(next.clone()).unwrap());
    assert!(matches!(found[0], Event::Prompt { cached: 128, .. }), "{:?}", found[0]);
    assert_eq!(vec![comparable(found)], alone(&[next]));
}

#[test]
fn every_preset_says_the_same_in_the_engine_and_in_the_library() {
    let prompt: Vec<u32> = (0..70).map(|i| (i * 37 % 251) as u32).collect();
    let tokens = Tensor::from_vec(prompt.iter().map(|&id| i64::from(id)).collect(), [prompt.len()]);
    for family in cupola_models::spec::FAMILIES {
        let spec = cupola_models::ModelSpec::preset(&format!("{family}-nano"), 260).unwrap();
        let model = cupola_nn::Module::init(cupola_models::Decoder::new(&spec), 5);
        let logits = no_grad(|| model.forward(&tokens, &Segments::one(prompt.len()), None)).to_vec::<f32>();
        let engine = Engine::new(model, config(), Arc::default()).unwrap();
        let scoring = with(job(&prompt, 0, 0), |g| g.score_prompt = true);
        let found = events(engine.submit(scoring).unwrap());
        let [Event::Prompt { scores, .. }, Event::End { .. }] = &found[..] else { panic!("{family}: {found:?}") };
        for (row, score) in scores.iter().enumerate() {
            let expected = choose::score(&logits[row * 260..(row + 1) * 260], prompt[row + 1], 0);
            let (found, expected) = (score.logprob, expected.logprob);
            assert!((found - expected).abs() < 1e-4, "{family}, row {row}: {found}, expected {expected}");
        }
    }
}

#[test]
fn a_model_that_cannot_run_is_refused_at_the_start() {
    let spec = "vocab_size = 10\nhidden_size = 8\nattention = { num_attention_heads = 1 }";
    let empty = Decoder::new(&cupola_models::ModelSpec::from_toml(spec).unwrap());
    assert!(Engine::new(empty, config(), Arc::default()).is_err(), "its parameters were never drawn or loaded");
}
