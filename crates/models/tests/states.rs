//! What is kept of sequences: pages, snapshots, and who shares them.

mod support;

use cupola_models::state::{MixerState, PAGE, PagePool, Stretch};
use cupola_models::{Decoder, ModelFields, ModelSpec, State};
use cupola_nn::Module;
use cupola_tensor::{DType, Segments, Tensor, no_grad};
use support::{model, tokens, zoo};

/// All specifications with room for longer sequences.
fn longer() -> Vec<(&'static str, ModelSpec)> {
    let longer = |spec: &ModelSpec| {
        ModelSpec::new(ModelFields { max_position_embeddings: 512, ..spec.fields().clone() })
            .expect("as valid as before")
    };
    zoo().iter().map(|(name, spec)| (*name, longer(spec))).collect()
}

/// The specification of a name.
fn named(wanted: &str) -> ModelSpec {
    longer().into_iter().find(|(name, _)| *name == wanted).expect("a name of the zoo").1
}

/// The logits of the tokens `begin..end` of x.
fn read(model: &Decoder, state: &mut State, x: &Tensor, begin: usize, end: usize) -> Tensor {
    let piece = x.narrow(0, begin, end - begin);
    no_grad(|| model.forward(&piece, &Segments::one(end - begin), Some(&mut [state])))
}

#[test]
fn a_sequence_goes_on_behind_stretches_of_another_with_the_same_bits_and_no_memory_of_its_own() {
    for (name, spec) in longer() {
        for dtype in [DType::F32, DType::F64] {
            let (model, x, pool) = (model(&spec, 3).to_dtype(dtype), tokens(150, 4), PagePool::unbounded());
            let mut first = model.state_in(&pool);
            let mut stretches: Vec<Stretch> = Vec::new();
            for end in [PAGE, 2 * PAGE] {
                read(&model, &mut first, &x, end - PAGE, end);
                stretches.push(first.stretch(end).expect("it has come so far"));
                assert!(stretches.iter().all(Stretch::is_resumable));
            }
            assert!(first.stretch(PAGE + 1).is_none() && first.stretch(3 * PAGE).is_none(), "{name}");
            let expected = [(128, 150), (149, 150)].map(|(begin, end)| {
                let mut state = first.clone();
                if begin > 128 {
                    read(&model, &mut state, &x, 128, begin);
                }
                read(&model, &mut state, &x, begin, end)
            });
            drop(first);
            let usage = pool.usage();
            assert_eq!(usage.bytes, stretches.iter().map(Stretch::bytes_alone).sum::<usize>(), "{name}");
            let mut second = model.state_in(&pool);
            second.resume(&stretches);
            assert_eq!(second.position(), 2 * PAGE);
            assert_eq!(pool.usage().pages, usage.pages, "{name}: pages are shared");
            let mut third = second.clone();
            assert!(read(&model, &mut second, &x, 128, 150).same_bits(&expected[0]), "{name}");
            read(&model, &mut third, &x, 128, 149);
            assert!(read(&model, &mut third, &x, 149, 150).same_bits(&expected[1]), "{name}");
            drop((second, third, stretches));
            assert_eq!(pool.usage(), Default::default(), "{name}: everything came back");
        }
    }
}

#[test]
fn a_clone_shares_pages_and_only_the_last_one_partly_filled_is_copied() {
    let (model, x, pool) = (model(&named("llama"), 1), tokens(200, 2), PagePool::unbounded());
    let pages = || pool.usage().pages;
    let mut state = model.state_in(&pool);
    read(&model, &mut state, &x, 0, 100);
    assert_eq!(pages(), 4, "two pages in each of two layers");
    let mut other = state.clone();
    assert_eq!(pages(), 4);
    let a = read(&model, &mut other, &x, 100, 101);
    assert_eq!(pages(), 6, "the last page of each layer");
    let b = read(&model, &mut state, &x, 100, 101);
    assert_eq!(pages(), 6, "which the first one has for itself now");
    assert!(a.same_bits(&b));
    drop(other);
    assert_eq!(pages(), 4);
    read(&model, &mut state, &x, 101, 128);
    let mut other = state.clone();
    read(&model, &mut other, &x, 128, 130);
    assert_eq!(pages(), 6, "full pages are never copied");
    assert!(other.truncate(128) && pages() == 4, "what is forgotten goes back");
    drop((state, other));
    assert_eq!(pool.usage(), Default::default());
}

#[test]
fn reserving_beyond_the_bound_is_refused_and_takes_nothing() {
    let (model, x) = (model(&named("mamba2 and attention in turn"), 1), tokens(200, 2));
    let (fixed, each) = model.state_bytes();
    let page = PAGE * each;
    let pool = PagePool::bounded(fixed + 2 * page + page / 2);
    let mut state = model.state_in(&pool);
    assert_eq!(pool.usage().bytes, fixed);
    assert_eq!(state.missing(PAGE + 1), 2 * page);
    let full = state.reserve(2 * PAGE + 1).expect_err("three pages");
    assert_eq!((full.needed, full.used, full.limit), (3 * page, fixed, pool.limit().expect("a bound")));
    assert_eq!(pool.usage().bytes, fixed);
    state.reserve(2 * PAGE).expect("two pages");
    assert_eq!((pool.usage().bytes, state.missing(2 * PAGE)), (fixed + 2 * page, 0));
    read(&model, &mut state, &x, 0, 128);
    let more = std::panic::AssertUnwindSafe(|| read(&model, &mut state, &x, 128, 129));
    let panic = std::panic::catch_unwind(more).expect_err("there is no page left");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("leave no room for"), "{text}");
    state.reserve_beyond(1);
    assert!(pool.usage().bytes > pool.limit().expect("a bound") && pool.room() == 0);
}

#[test]
fn what_a_state_takes_is_what_the_model_says() {
    for (name, spec) in longer() {
        let (model, x) = (model(&spec, 1).to_dtype(DType::F32), tokens(70, 2));
        let (fixed, each) = model.state_bytes();
        let pool = PagePool::unbounded();
        let mut state = model.state_in(&pool);
        assert_eq!((state.bytes(), pool.usage().bytes), (fixed, fixed), "{name}");
        read(&model, &mut state, &x, 0, 70);
        let expected = fixed + 2 * PAGE * each;
        assert_eq!((state.bytes(), pool.usage().bytes), (expected, expected), "{name}");
        let paged = state.layers().iter().filter(|layer| matches!(layer, MixerState::KeyValue(_))).count();
        assert_eq!(pool.usage().pages, 2 * paged, "{name}");
    }
}

#[test]
fn a_call_that_is_followed_has_the_bits_of_single_tokens_and_can_be_taken_back() {
    for (name, spec) in longer() {
        let (model, x) = (model(&spec, 3).to_dtype(DType::F32), tokens(80, 4));
        let mut plain = model.state();
        read(&model, &mut plain, &x, 0, 66);
        let mut followed = plain.clone();
        let single: Vec<Tensor> = (66..72).map(|at| read(&model, &mut plain, &x, at, at + 1)).collect();
        followed.follow();
        // In the company of a sequence that is not followed.
        let mut other = model.state();
        let both = Tensor::cat(&[&x.narrow(0, 0, 9), &x.narrow(0, 66, 6)], 0);
        let segments = Segments::from_lengths(&[9, 6]);
        let y = no_grad(|| model.forward(&both, &segments, Some(&mut [&mut other, &mut followed])));
        for (row, single) in single.iter().enumerate() {
            assert!(y.narrow(0, 9 + row, 1).same_bits(single), "{name}: token {row}");
        }
        for (kept, next) in [(6, 72), (3, 69), (1, 67)] {
            let mut back = followed.clone();
            assert!(back.truncate(66 + kept), "{name}: {kept} tokens");
            assert_eq!(back.position(), next);
            let mut expected = model.state();
            read(&model, &mut expected, &x, 0, 66);
            (66..next).for_each(|at| drop(read(&model, &mut expected, &x, at, at + 1)));
            let [found, expected] = [&mut back, &mut expected].map(|state| read(&model, state, &x, 75, 76));
            assert!(found.same_bits(&expected), "{name}: behind {kept} tokens");
        }
        let recurrent = plain.layers().iter().any(|layer| matches!(layer, MixerState::Recurrent(_)));
        assert_eq!(plain.truncate(70), !recurrent, "{name}: who was not followed");
    }
}

#[test]
fn what_was_recorded_goes_on_in_pages_with_the_same_bits() {
    for (name, spec) in longer() {
        let (model, x) = (model(&spec, 3).to_dtype(DType::F32), tokens(100, 4));
        let (mut paged, mut recorded) = (model.state(), model.state());
        read(&model, &mut paged, &x, 0, 70);
        model.forward(&x.narrow(0, 0, 70), &Segments::one(70), Some(&mut [&mut recorded]));
        recorded.detach();
        let [a, b] = [&mut paged, &mut recorded].map(|state| read(&model, state, &x, 70, 100));
        assert!(a.same_bits(&b), "{name}");
        for (a, b) in paged.layers().iter().zip(recorded.layers()) {
            if let (MixerState::KeyValue(a), MixerState::KeyValue(b)) = (a, b) {
                assert!(a.keys().same_bits(&b.keys()) && a.values().same_bits(&b.values()), "{name}");
                assert_eq!(a.bytes(), b.bytes(), "{name}");
            }
        }
        // And the other way round: gradients do not reach what was read before.
        let y = model.forward(&x.narrow(0, 0, 3), &Segments::one(3), Some(&mut [&mut paged]));
        let z = model.forward(&x.narrow(0, 0, 3), &Segments::one(3), Some(&mut [&mut recorded]));
        assert!(y.detach().same_bits(&z.detach()) && y.needs_grad(), "{name}");
    }
}

#[test]
fn half_precision_keeps_half_the_bytes_and_the_same_bits_however_a_sequence_is_cut() {
    for name in ["llama", "differential", "latent attention"] {
        let (model, x) = (model(&named(name), 3).to_dtype(DType::BF16), tokens(140, 4));
        let (mut whole, mut pieces) = (model.state(), model.state());
        let expected = read(&model, &mut whole, &x, 0, 140);
        let mut found = Vec::new();
        for (begin, end) in [(0, 1), (1, 65), (65, 67), (67, 139), (139, 140)] {
            found.push(read(&model, &mut pieces, &x, begin, end));
        }
        let found = Tensor::cat(&found.iter().collect::<Vec<_>>(), 0);
        assert!(found.same_bits(&expected), "{name}");
        assert_eq!(pieces.bytes(), 3 * PAGE * model.state_bytes().1, "{name}");
    }
}

#[test]
fn sequences_that_go_on_together_have_the_bits_of_each_alone_whoever_comes_and_goes() {
    for (name, spec) in longer() {
        let (model, x) = (model(&spec, 3).to_dtype(DType::F32), tokens(40, 4));
        let mut alone: Vec<State> = (0..4).map(|_| model.state()).collect();
        let mut together = alone.clone();
        for (index, state) in together.iter_mut().enumerate() {
            read(&model, state, &x, 0, 5 + index);
        }
        for (index, state) in alone.iter_mut().enumerate() {
            read(&model, state, &x, 0, 5 + index);
        }
        // All, two of them, others of them, and again all; one is set aside meanwhile.
        for which in [vec![0, 1, 2, 3], vec![0, 1, 2, 3], vec![1, 3], vec![1, 3], vec![3, 0], vec![0, 1, 2, 3]] {
            let rows: Vec<Tensor> = which.iter().map(|&index| x.narrow(0, together[index].position(), 1)).collect();
            let rows = Tensor::cat(&rows.iter().collect::<Vec<_>>(), 0);
            let mut taken: Vec<(usize, State)> = which.iter().map(|&index| (index, together[index].clone())).collect();
            let mut states: Vec<&mut State> = taken.iter_mut().map(|(_, state)| state).collect();
            let y = no_grad(|| model.forward(&rows, &Segments::uniform(which.len(), 1), Some(&mut states)));
            for (row, (index, state)) in taken.into_iter().enumerate() {
                let at = alone[index].position();
                let expected = read(&model, &mut alone[index], &x, at, at + 1);
                assert!(y.narrow(0, row, 1).same_bits(&expected), "{name}: {which:?}, sequence {index}");
                together[index] = state;
            }
            together[2].separate();
        }
    }
}

#[test]
fn a_state_that_was_reset_begins_another_sequence_and_has_given_its_pages_back() {
    for (name, spec) in longer() {
        let (model, x, y, pool) = (model(&spec, 1), tokens(70, 2), tokens(9, 5), PagePool::unbounded());
        assert_eq!(model.state_bytes(), (model.bytes_fixed(), model.bytes_per_token()), "{name}");
        let expected = read(&model, &mut model.state(), &y, 0, 9);
        let mut state = model.state_in(&pool);
        read(&model, &mut state, &x, 0, 70);
        let snapshot = state.clone();
        state.reset();
        assert_eq!((state.position(), state.bytes()), (0, model.bytes_fixed()), "{name}");
        assert!(read(&model, &mut state, &y, 0, 9).same_bits(&expected), "{name}");
        assert_eq!(snapshot.position(), 70);
        drop((state, snapshot));
        assert_eq!(pool.usage(), Default::default(), "{name}: everything came back");
    }
}
