//! What holds for every model, whatever it is made of.

mod support;

use cupola_models::spec::PositionKind;
use cupola_models::{Decoder, Generator, SamplerConfig, State, load, save};
use cupola_nn::Module;
use cupola_tensor::{DType, Segments, Tensor, no_grad};
use support::{VOCABULARY, model, ragged, tokens, zoo};

/// The same tokens with another one at `index`.
fn changed(x: &Tensor, index: usize) -> Tensor {
    let mut all = x.to_vec::<i64>();
    all[index] = (all[index] + 1) % VOCABULARY as i64;
    let count = all.len();
    Tensor::from_vec(all, [count])
}

#[test]
fn changing_a_later_token_leaves_earlier_logits() {
    for (name, spec) in zoo() {
        let (model, x) = (model(&spec, 1), tokens(12, 2));
        for index in [4, 8, 11] {
            let (before, after) =
                no_grad(|| (model.forward(&x, &ragged(), None), model.forward(&changed(&x, index), &ragged(), None)));
            for row in 0..12 {
                // Rows 0..5 and 5..12 are sequences of their own.
                let sees = row >= index && (row < 5) == (index < 5);
                let same = before.narrow(0, row, 1).same_bits(&after.narrow(0, row, 1));
                assert!(same || sees, "{name}: token {index} changed logits {row}");
                assert!(!same || row != index, "{name}: token {index} left its own logits alone");
            }
        }
    }
}

/// The logits of a sequence that is read in pieces of these lengths.
fn in_pieces(model: &Decoder, x: &Tensor, lengths: &[usize]) -> Tensor {
    let mut state = model.state();
    let mut begin = 0;
    let mut pieces = Vec::new();
    for &length in lengths {
        let piece = x.narrow(0, begin, length);
        pieces.push(no_grad(|| model.forward(&piece, &Segments::one(length), Some(&mut [&mut state]))));
        begin += length;
    }
    assert_eq!(state.position(), x.dim(0));
    Tensor::cat(&pieces.iter().collect::<Vec<_>>(), 0)
}

#[test]
fn whole_sequences_chunks_and_single_tokens_agree() {
    for (name, spec) in zoo() {
        let (model, x) = (model(&spec, 3), tokens(11, 4));
        let whole = no_grad(|| model.forward(&x, &Segments::one(11), None));
        for lengths in [vec![11], vec![1; 11], vec![4, 7], vec![3, 1, 5, 2], vec![10, 1]] {
            let error = in_pieces(&model, &x, &lengths).relative_error(&whole);
            assert!(error < 1e-10, "{name}: {lengths:?} differ from the whole by {error}");
        }
    }
}

#[test]
fn scans_over_several_chunks_are_those_of_pieces_in_double_precision() {
    let mut seen = 0;
    for (name, spec) in zoo() {
        // Positions of the others end before.
        if spec.longest().is_some() || spec.attention.is_some() {
            continue;
        }
        seen += 1;
        let (model, x) = (model(&spec, 3), tokens(130, 4));
        let whole = no_grad(|| model.forward(&x, &Segments::one(130), None));
        for lengths in [vec![130], vec![64, 66], vec![3, 127], vec![100, 29, 1]] {
            let error = in_pieces(&model, &x, &lengths).relative_error(&whole);
            assert!(error < 1e-9, "{name}: {lengths:?} differ from the whole by {error}");
        }
    }
    assert!(seen >= 12, "{seen} specifications of scans");
}

#[test]
fn sequences_in_one_call_do_not_meet() {
    for (name, spec) in zoo() {
        let (model, x) = (model(&spec, 5), tokens(12, 6));
        let together = no_grad(|| model.forward(&x, &ragged(), None));
        // Several calls with states, cut in other places.
        let cuts = [[2, 0, 3], [3, 0, 1], [0, 0, 3]];
        let mut states: Vec<State> = (0..3).map(|_| model.state()).collect();
        let mut read = [0; 3];
        let mut rows: Vec<Vec<Tensor>> = vec![Vec::new(); 3];
        for lengths in cuts {
            let pieces: Vec<Tensor> =
                (0..3).map(|i| x.narrow(0, ragged().range(i).start + read[i], lengths[i])).collect();
            let packed = Tensor::cat(&pieces.iter().collect::<Vec<_>>(), 0);
            let segments = Segments::from_lengths(&lengths);
            let mut borrowed: Vec<&mut State> = states.iter_mut().collect();
            let y = no_grad(|| model.forward(&packed, &segments, Some(&mut borrowed)));
            for (index, range) in segments.iter().enumerate() {
                read[index] += range.len();
                rows[index].push(y.narrow(0, range.start, range.len()));
            }
        }
        let joined: Vec<Tensor> =
            rows.iter().map(|pieces| Tensor::cat(&pieces.iter().collect::<Vec<_>>(), 0)).collect();
        let joined = Tensor::cat(&joined.iter().collect::<Vec<_>>(), 0);
        let error = joined.relative_error(&together);
        assert!(error < 1e-10, "{name}: {error}");
    }
}

#[test]
fn a_prompt_cut_at_multiples_of_64_gives_the_same_bits() {
    for (name, spec) in zoo() {
        // Sequences of the others end before.
        if spec.position != PositionKind::None || spec.attention.is_some() {
            continue;
        }
        let (model, x) = (model(&spec, 3).to_dtype(DType::F32), tokens(201, 4));
        let read = |lengths: &[usize]| {
            let (mut state, mut begin, mut last) = (model.state(), 0, None);
            for &length in lengths {
                let piece = x.narrow(0, begin, length);
                last = Some(no_grad(|| model.forward(&piece, &Segments::one(length), Some(&mut [&mut state]))));
                begin += length;
            }
            let last = last.expect("a piece");
            last.narrow(0, last.dim(0) - 9, 9)
        };
        let whole = read(&[201]);
        for lengths in [&[64, 128, 9][..], &[128, 73], &[64, 64, 64, 9]] {
            assert!(read(lengths).same_bits(&whole), "{name}: {lengths:?}");
        }
        // In the company of other sequences.
        let (mut one, mut other) = (model.state(), model.state());
        let both = Tensor::cat(&[&x.narrow(0, 0, 70), &x], 0);
        let segments = Segments::from_lengths(&[70, 201]);
        let y = no_grad(|| model.forward(&both, &segments, Some(&mut [&mut one, &mut other])));
        assert!(y.narrow(0, 262, 9).same_bits(&whole), "{name}: in company");
    }
}

#[test]
fn every_parameter_receives_its_gradient() {
    for (name, spec) in zoo() {
        let mut model = model(&spec, 7);
        let (x, y) = (tokens(12, 8), tokens(12, 9));
        let grads = model.loss_sum(&x, &y, &ragged()).backward();
        let paths: Vec<String> = model.named_parameters().into_iter().map(|(path, _)| path).collect();
        for path in paths {
            let param = model.parameter(&path).expect("its own path");
            let grad = grads.get(param).unwrap_or_else(|| panic!("{name}: {path} has no gradient")).to_vec::<f64>();
            let value = param.detach();
            let largest = (0..grad.len()).max_by(|&a, &b| grad[a].abs().total_cmp(&grad[b].abs())).expect("an element");
            assert!(grad[largest].abs() > 1e-9, "{name}: the gradient of {path} is zero");
            // Rounding has no slope: there the gradient is that of what is rounded, which `cupola-nn` tests.
            let entries = if spec.ternary.is_some() { vec![] } else { vec![largest, grad.len() / 3] };
            for entry in entries {
                let mut moved = |step: f64| {
                    let mut all = value.to_vec::<f64>();
                    all[entry] += step;
                    model.parameter_mut(&path).expect("its own path").set(&Tensor::from_vec(all, *value.shape()));
                    no_grad(|| model.loss_sum(&x, &y, &ragged())).item()
                };
                let eps = 1e-5;
                let numeric = (moved(eps) - moved(-eps)) / (2.0 * eps);
                let error = (numeric - grad[entry]).abs() / grad[largest].abs().max(1e-3);
                assert!(error < 1e-5, "{name}: {path}[{entry}] is {}, by differences {numeric}", grad[entry]);
            }
            model.parameter_mut(&path).expect("its own path").set(&value);
        }
    }
}

#[test]
fn gradients_reach_back_through_a_carried_state() {
    for (name, spec) in zoo() {
        let (model, x, y) = (model(&spec, 10), tokens(9, 11), tokens(9, 12));
        let whole = model.loss_sum(&x, &y, &Segments::one(9)).backward();
        let mut state = model.state();
        let mut logits = Vec::new();
        for (begin, length) in [(0, 4), (4, 5)] {
            let piece = x.narrow(0, begin, length);
            logits.push(model.forward(&piece, &Segments::one(length), Some(&mut [&mut state])));
        }
        let logits = Tensor::cat(&logits.iter().collect::<Vec<_>>(), 0);
        let loss = logits.cross_entropy(&y, &Default::default()) * 9.0;
        let pieces = loss.backward();
        for (path, param) in model.named_parameters() {
            let error = pieces[&**param].relative_error(&whole[&**param]);
            assert!(error < 1e-9, "{name}: {path} by {error}");
        }
    }
}

#[test]
fn checkpointed_layers_give_the_same_gradients() {
    for (name, spec) in zoo() {
        let (plain, x, y) = (model(&spec, 13), tokens(12, 14), tokens(12, 15));
        let mut thrifty = plain.clone();
        thrifty.set_checkpointed(0..2, true);
        let a = plain.loss_sum(&x, &y, &ragged()).backward();
        let b = thrifty.loss_sum(&x, &y, &ragged()).backward();
        for ((path, p), (_, q)) in plain.named_parameters().into_iter().zip(thrifty.named_parameters()) {
            assert!(a[&**p].same_bits(&b[&**q]), "{name}: {path}");
        }
    }
}

#[test]
fn a_saved_model_is_the_same_model() {
    let folder = tempfile::tempdir().expect("a folder");
    for (index, (name, spec)) in zoo().into_iter().enumerate() {
        let written = cupola_models::Decoder::new(&spec).init(16);
        let dir = folder.path().join(index.to_string());
        save(&dir, &written).unwrap_or_else(|error| panic!("{name}: {error}"));
        let read = load(&dir).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.spec(), written.spec(), "{name}");
        let x = tokens(12, 17);
        let logits = |m: &cupola_models::Decoder| no_grad(|| m.forward(&x, &ragged(), None));
        assert!(logits(&read).same_bits(&logits(&written)), "{name}");
        let text = |m| Generator::new(m, &[1, 2], SamplerConfig::default()).limit(8).collect::<Vec<u32>>();
        assert_eq!(text(&read), text(&written), "{name}");
        // Equal models give equal files.
        let again = folder.path().join(format!("{index} again"));
        save(&again, &read).expect("a writable folder");
        for file in ["config.json", "model.safetensors"] {
            let bytes = |dir: &std::path::Path| std::fs::read(dir.join(file)).expect("a file just written");
            assert!(bytes(&dir) == bytes(&again), "{name}: {file}");
        }
    }
}

#[test]
fn a_snapshot_is_left_as_it_was() {
    for (name, spec) in zoo() {
        let (model, x) = (model(&spec, 18), tokens(8, 19));
        let mut state = model.state();
        let call = |state: &mut State, begin: usize, length: usize| {
            let piece = x.narrow(0, begin, length);
            no_grad(|| model.forward(&piece, &Segments::one(length), Some(&mut [state])))
        };
        call(&mut state, 0, 5);
        let snapshot = state.clone();
        let first = call(&mut state, 5, 3);
        let mut restored = snapshot.clone();
        assert_eq!((snapshot.position(), state.position()), (5, 8));
        assert!(call(&mut restored, 5, 3).same_bits(&first), "{name}");
        assert!(state.bytes() >= snapshot.bytes(), "{name}");
        // The same without a second state.
        let mark = snapshot.mark();
        let mut state = snapshot;
        call(&mut state, 6, 2);
        state.rewind(&mark);
        assert_eq!(state.position(), 5);
        assert!(call(&mut state, 5, 3).same_bits(&first), "{name}");
    }
}

#[test]
fn the_parameters_that_presets_are_named_for_are_counted() {
    let count = |name: &str, vocabulary: usize| {
        let spec = cupola_models::ModelSpec::preset(name, vocabulary).unwrap_or_else(|error| panic!("{error}"));
        cupola_models::Decoder::new(&spec).parameter_count()
    };
    // As published for GPT-2 small.
    assert_eq!(count("gpt2-124m", 50257), 124_439_808);
    // 12 layers of 4 D^2 + 3 D F and two norms, the embedding, the last norm.
    let (width, inner) = (768, 2048);
    assert_eq!(
        count("llama-124m", 32000),
        12 * (4 * width * width + 3 * width * inner + 2 * width) + 32000 * width + width
    );
}

#[test]
#[should_panic(expected = "hidden: a sequence of 65 tokens, max_position_embeddings = 64")]
fn a_sequence_longer_than_the_context_is_refused() {
    let (_, spec) = zoo().swap_remove(0);
    let mut state = model(&spec, 0).state();
    let model = model(&spec, 0);
    let x = tokens(64, 1);
    no_grad(|| model.forward(&x, &Segments::one(64), Some(&mut [&mut state])));
    no_grad(|| model.forward(&x.narrow(0, 0, 1), &Segments::one(1), Some(&mut [&mut state])));
}
