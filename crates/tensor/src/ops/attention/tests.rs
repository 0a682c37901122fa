//! Attention against its definition, and what must not change a bit.

use cupola_core::DType;
use cupola_core::pool::with_threads;
use cupola_cpu::{Isa, with_isa};

use super::{AttentionConfig, attention, backward, forward, scaled_dot_product_attention};
use crate::mode::{Training, set_training};
use crate::segments::Segments;
use crate::tensor::Tensor;
use crate::testing::{Array, Case, normal};
use crate::{Gradients, no_grad};

/// The definition, one row at a time.
fn reference(x: &[Array], config: &AttentionConfig) -> Array {
    let (q, k, v) = (&x[0], &x[1], &x[2]);
    let (heads, key_heads, width) = (q.shape[1], k.shape[1], q.shape[2]);
    let scale = config.scale.unwrap_or(1.0 / (width as f64).sqrt());
    let mut out = Array::new(&[q.shape[0], heads, v.shape[2]], vec![0.0; q.shape[0] * heads * v.shape[2]]);
    for (queries, keys) in config.queries.iter().zip(config.keys.iter()) {
        let (n, m) = (queries.len() as i64, keys.len() as i64);
        for i in 0..n {
            let position = m - n + i;
            let sees = |j: i64| {
                let causal = !config.causal || j <= position;
                causal && config.window.is_none_or(|window| (position - j).unsigned_abs() < window as u64)
            };
            for h in 0..heads {
                let (row, g) = (queries.start + i as usize, h / (heads / key_heads));
                let score = |j: i64| {
                    let key = keys.start + j as usize;
                    let dot: f64 = (0..width).map(|d| q.at(&[row, h, d]) * k.at(&[key, g, d])).sum();
                    let score = config.soft_cap.map_or(dot * scale, |cap| cap * (dot * scale / cap).tanh());
                    score - config.slopes.as_ref().map_or(0.0, |s| s[h]) * (position - j).abs() as f64
                };
                let weights: Vec<(i64, f64)> = (0..m).filter(|&j| sees(j)).map(|j| (j, score(j).exp())).collect();
                let sum: f64 = weights.iter().map(|w| w.1).sum();
                for d in 0..v.shape[2] {
                    let value = |j: i64| v.at(&[keys.start + j as usize, g, d]);
                    let mean: f64 = weights.iter().map(|&(j, w)| w / sum * value(j)).sum();
                    out.data[(row * heads + h) * v.shape[2] + d] = mean;
                }
            }
        }
    }
    out
}

/// Queries, keys and values with `heads` query and `key_heads` key heads, `width` wide (values `value_width`).
fn inputs(config: &AttentionConfig, heads: usize, key_heads: usize, width: usize, value_width: usize) -> [Tensor; 3] {
    [
        normal([config.queries.total(), heads, width], 1),
        normal([config.keys.total(), key_heads, width], 2),
        normal([config.keys.total(), key_heads, value_width], 3),
    ]
}

fn case(name: &str, config: AttentionConfig, heads: usize, key_heads: usize, width: usize, value_width: usize) -> Case {
    let inputs = inputs(&config, heads, key_heads, width, value_width);
    let plain = config.clone();
    Case::new(name, inputs, move |x| vec![attention(&x[0], &x[1], &x[2], &config)])
        .reference(move |x| vec![reference(x, &plain)])
}

fn causal(segments: &Segments) -> AttentionConfig {
    AttentionConfig { causal: true, ..AttentionConfig::of(segments) }
}

/// Runs `body` in a training step whose random numbers are the same every time.
fn in_step<R>(body: impl FnOnce() -> R) -> R {
    let _scope = set_training(Some(Training { seed: 7, step: 3, first_sample: 5, calls: 0, recomputing: false }));
    body()
}

pub fn cases() -> Vec<Case> {
    let one = Segments::one;
    let ragged = Segments::from_lengths(&[5, 0, 33, 1, 17]);
    let longer = Segments::from_lengths(&[9, 3, 33, 20, 0]);
    let mut cases = vec![
        case("all see all", AttentionConfig::of(&one(6)), 2, 2, 4, 4),
        case("causal", causal(&one(7)), 2, 2, 5, 3),
        case("no tokens", causal(&one(0)), 2, 1, 4, 4),
        case("one token", causal(&one(1)), 1, 1, 1, 1),
        case("two blocks of lanes", causal(&one(40)), 1, 1, 16, 4),
        case("uniform segments", causal(&Segments::uniform(3, 9)), 2, 1, 8, 8),
        case("ragged segments", causal(&ragged), 1, 1, 3, 2),
        case("cross, ragged", AttentionConfig::cross(&ragged, &longer), 1, 1, 2, 3),
        case(
            "cross, causal, keys before and missing",
            AttentionConfig { causal: true, ..AttentionConfig::cross(&ragged, &longer) },
            2,
            1,
            2,
            2,
        ),
        case("grouped heads", causal(&Segments::from_lengths(&[11, 6])), 6, 2, 4, 4),
        case("window", AttentionConfig { window: Some(4), ..causal(&one(19)) }, 1, 1, 4, 4),
        case("window on both sides", AttentionConfig { window: Some(3), ..AttentionConfig::of(&one(37)) }, 1, 1, 3, 3),
        case(
            "window, cross",
            AttentionConfig { window: Some(3), ..AttentionConfig::cross(&one(9), &one(14)) },
            1,
            1,
            3,
            3,
        ),
        case("window over two blocks of keys", AttentionConfig { window: Some(70), ..causal(&one(150)) }, 1, 1, 2, 1),
        case("soft cap", AttentionConfig { soft_cap: Some(1.5), ..causal(&one(13)) }, 2, 2, 4, 4),
        case("slopes", AttentionConfig { slopes: Some(vec![0.5, 0.25, 0.1, 0.0]), ..causal(&one(12)) }, 4, 2, 4, 4),
        case(
            "slopes on both sides",
            AttentionConfig { slopes: Some(vec![0.5]), ..AttentionConfig::cross(&one(6), &one(10)) },
            1,
            1,
            4,
            4,
        ),
        case(
            "soft cap, slopes, window, scale",
            AttentionConfig {
                scale: Some(-0.7),
                soft_cap: Some(2.0),
                slopes: Some(vec![0.05, 0.1]),
                window: Some(20),
                ..causal(&one(35))
            },
            2,
            1,
            3,
            5,
        ),
        case("two blocks of keys", AttentionConfig::of(&one(131)), 1, 1, 2, 2),
    ];
    for (length, width) in [(31, 33), (65, 65), (129, 32), (257, 31)] {
        let name = format!("{length} tokens, heads of {width}");
        cases.push(case(&name, causal(&Segments::from_lengths(&[length, 3])), 2, 1, width, width).forward_only());
        // Gradients at sizes where differences would take too long: other dtypes and strides against f64.
        let config = causal(&Segments::from_lengths(&[length, 3]));
        let [q, k, v] = inputs(&config, 2, 1, width, width);
        let dy = normal([length + 3, 2, width], 4);
        let name = format!("gradients of {length} tokens, heads of {width}");
        let run = move |x: &[Tensor]| {
            let [q, k, v, dy] = [0, 1, 2, 3].map(|i| x[i].detach());
            let (out, lse) = forward(&q, &k, &v, &config, None);
            backward(&dy, &q, &k, &v, &out, &lse, &config, None, [true; 3]).map(|g| g.expect("asked for")).into()
        };
        cases.push(Case::new(name, [q, k, v, dy], run).forward_only());
    }
    for (name, config) in [
        ("dropout", causal(&one(9))),
        ("dropout over two blocks", AttentionConfig::of(&Segments::from_lengths(&[2, 34]))),
    ] {
        let config = AttentionConfig { dropout: 0.3, ..config };
        let inputs = inputs(&config, 2, 1, 3, 3);
        let run = move |x: &[Tensor]| in_step(|| vec![attention(&x[0], &x[1], &x[2], &config)]);
        cases.push(Case::new(name, inputs, run));
    }
    cases.extend(masked_cases());
    cases
}

/// PyTorch's interface by its definition: `[B, H, T, Dh]`, with the sum of scores and mask given by `mask`.
fn batched(x: &[Array], mask: impl Fn(&[Array], &[usize]) -> f64) -> Array {
    let (q, k, v) = (&x[0], &x[1], &x[2]);
    let (group, width) = (q.shape[1] / k.shape[1], q.shape[3]);
    let weight = |b: usize, h: usize, t: usize, s: usize| {
        let dot: f64 = (0..width).map(|d| q.at(&[b, h, t, d]) * k.at(&[b, h / group, s, d])).sum();
        (dot / (width as f64).sqrt() + mask(x, &[b, h, t, s])).exp()
    };
    Array::from_fn(&[q.shape[0], q.shape[1], q.shape[2], v.shape[3]], |i| {
        let weights: Vec<f64> = (0..k.shape[2]).map(|s| weight(i[0], i[1], i[2], s)).collect();
        let sum: f64 = weights.iter().sum();
        let value = |s: usize| v.at(&[i[0], i[1] / group, s, i[3]]);
        if sum == 0.0 { 0.0 } else { weights.iter().enumerate().map(|(s, w)| w / sum * value(s)).sum() }
    })
}

fn masked_cases() -> Vec<Case> {
    let sdpa = |x: &[Tensor], mask: Option<&Tensor>, causal: bool| {
        vec![scaled_dot_product_attention(&x[0], &x[1], &x[2], mask, 0.0, causal, None)]
    };
    let three = |queries: usize, keys: usize| {
        [normal([2, 4, queries, 3], 1), normal([2, 2, keys, 3], 2), normal([2, 2, keys, 5], 3)]
    };
    let with = |[q, k, v]: [Tensor; 3], mask: Tensor| [q, k, v, mask];
    // Row 1 of every head of sample 0 sees nothing.
    let sees = |i: &[usize]| !((i[0] == 0 && i[1] == 1) || (i[0] + i[1] + i[2]).is_multiple_of(3));
    let bools = Array::from_fn(&[2, 4, 6], |i| f64::from(u8::from(sees(i))));
    let bools = Tensor::from_vec(bools.data.iter().map(|&x| x != 0.0).collect::<Vec<bool>>(), [2, 1, 4, 6]);
    let hidden = |visible: bool| if visible { 0.0 } else { f64::NEG_INFINITY };
    let additive = bools.to_f64_vec().into_iter().map(|x| hidden(x != 0.0) + 0.5).collect::<Vec<f64>>();
    let additive = Tensor::from_vec(additive, [2, 1, 4, 6]);
    vec![
        Case::new("batched, no mask", three(4, 6), move |x| sdpa(x, None, false))
            .reference(|x| vec![batched(x, |_, _| 0.0)]),
        Case::new("batched, causal", three(5, 5), move |x| sdpa(x, None, true))
            .reference(move |x| vec![batched(x, |_, i| hidden(i[3] <= i[2]))]),
        Case::new("bool mask", with(three(4, 6), bools), move |x| sdpa(x, Some(&x[3]), false))
            .reference(move |x| vec![batched(x, |x, i| hidden(x[3].at(&[i[0], 0, i[2], i[3]]) != 0.0))]),
        Case::new("mask with a gradient", with(three(4, 6), normal([4, 1, 6], 4)), move |x| {
            sdpa(x, Some(&x[3]), false)
        })
        .reference(|x| vec![batched(x, |x, i| x[3].at(&[i[1], 0, i[3]]))]),
        Case::new("mask that hides", three(4, 6), move |x| sdpa(x, Some(&additive), false))
            .reference(move |x| vec![batched(x, |_, i| hidden(sees(&[i[0], i[2], i[3]])))]),
    ]
}

#[test]
#[should_panic(
    expected = "scaled_dot_product_attention: causal with q [1, 1, 3, 2] and k [1, 1, 4, 2] of different lengths"
)]
fn causal_lengths_that_differ_are_named() {
    let [q, k] = [Tensor::zeros([1, 1, 3, 2]), Tensor::zeros([1, 1, 4, 2])];
    scaled_dot_product_attention(&q, &k, &k, None, 0.0, true, None);
}

fn f32s(config: &AttentionConfig, heads: usize, key_heads: usize, width: usize) -> [Tensor; 3] {
    inputs(config, heads, key_heads, width, width).map(|x| x.to_dtype(DType::F32))
}

/// Output and gradients for a fixed gradient of the output.
fn everything(x: &[Tensor; 3], config: &AttentionConfig) -> Vec<Tensor> {
    let leaves = x.each_ref().map(Tensor::requires_grad);
    let y = attention(&leaves[0], &leaves[1], &leaves[2], config);
    let weights = normal(*y.shape(), 9).to_dtype(y.dtype());
    let mut grads = Gradients::new();
    (&y * &weights).sum([]).backward_into(&mut grads);
    let grads = leaves.iter().map(|leaf| grads.get(leaf).cloned().expect("every input has a gradient"));
    std::iter::once(y.detach()).chain(grads).collect()
}

fn assert_same_bits(a: &[Tensor], b: &[Tensor], what: &str) {
    assert_eq!(a.len(), b.len());
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(a.same_bits(b), "{what}: result {index} differs by {:e}", a.relative_error(b));
    }
}

const DTYPES: [DType; 4] = [DType::F32, DType::BF16, DType::F16, DType::F64];

/// Every tier and dtype.
fn everywhere(check: impl Fn(DType)) {
    for isa in Isa::available() {
        for dtype in DTYPES {
            with_isa(isa, || check(dtype));
        }
    }
}

#[test]
fn changing_a_later_token_leaves_earlier_rows_and_their_gradients() {
    let config = AttentionConfig { dropout: 0.2, ..causal(&Segments::one(150)) };
    everywhere(|dtype| {
        let x = inputs(&config, 2, 1, 8, 8).map(|x| x.to_dtype(dtype));
        for at in [1, 31, 64, 128, 149] {
            let changed = x.each_ref().map(|x| {
                let later = normal([150 - at, x.dim(1), 8], 17).to_dtype(dtype);
                Tensor::cat(&[&x.narrow(0, 0, at), &later], 0)
            });
            let run = |x: &[Tensor; 3]| {
                let config = config.clone();
                let q = x[0].requires_grad();
                let y = in_step(|| attention(&q, &x[1], &x[2], &config));
                let weights = normal([150, 2, 8], 9).to_dtype(dtype);
                let dq = (&y * &weights).sum([]).backward()[&q].clone();
                [y.detach().narrow(0, 0, at), dq.narrow(0, 0, at)]
            };
            assert_same_bits(&run(&x), &run(&changed), &format!("{dtype}, from {at} on"));
        }
    });
}

#[test]
fn packed_segments_are_separate_calls() {
    let lengths = [40, 1, 0, 131, 17];
    let config =
        AttentionConfig { slopes: Some(vec![0.1, 0.2, 0.3, 0.4]), ..causal(&Segments::from_lengths(&lengths)) };
    everywhere(|dtype| {
        let x = inputs(&config, 4, 2, 6, 6).map(|x| x.to_dtype(dtype));
        let packed = no_grad(|| attention(&x[0], &x[1], &x[2], &config));
        let (out, lse) = forward(&x[0], &x[1], &x[2], &config, None);
        let dy = normal(*out.shape(), 5).to_dtype(dtype);
        let grads = backward(&dy, &x[0], &x[1], &x[2], &out, &lse, &config, None, [true; 3]);
        assert!(packed.same_bits(&out));
        for (range, length) in config.queries.iter().zip(lengths) {
            let alone =
                AttentionConfig { queries: Segments::one(length), keys: Segments::one(length), ..config.clone() };
            let cut = |x: &Tensor| x.narrow(0, range.start, length);
            let [q, k, v] = x.each_ref().map(cut);
            let (one, one_lse) = forward(&q, &k, &v, &alone, None);
            let one_grads = backward(&cut(&dy), &q, &k, &v, &one, &one_lse, &alone, None, [true; 3]);
            let label = format!("{dtype}, segment {range:?}");
            assert_same_bits(&[one, one_lse], &[cut(&out), cut(&lse)], &label);
            for (one, all) in one_grads.iter().zip(&grads) {
                let (one, all) = (one.as_ref().expect("asked for"), all.as_ref().expect("asked for"));
                assert!(one.same_bits(&cut(all)), "{label}: gradient");
            }
        }
    });
}

#[test]
fn cutting_a_prompt_anywhere_changes_no_bit() {
    let (total, width) = (161, 8);
    for window in [None, Some(50)] {
        let config = AttentionConfig { window, ..causal(&Segments::one(total)) };
        everywhere(|dtype| {
            let [q, k, v] = inputs(&config, 4, 2, width, width).map(|x| x.to_dtype(dtype));
            let whole = no_grad(|| attention(&q, &k, &v, &config));
            for cuts in [vec![64, 128, 161], vec![1, 2, 3, 40, 129, 130, 160, 161]] {
                let mut begin = 0;
                for end in cuts {
                    let chunk = AttentionConfig {
                        queries: Segments::one(end - begin),
                        keys: Segments::one(end),
                        ..config.clone()
                    };
                    let (k, v) = (k.narrow(0, 0, end), v.narrow(0, 0, end));
                    let y = no_grad(|| attention(&q.narrow(0, begin, end - begin), &k, &v, &chunk));
                    assert!(y.same_bits(&whole.narrow(0, begin, end - begin)), "{dtype}: queries {begin}..{end}");
                    begin = end;
                }
            }
        });
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let lengths = [300, 7, 0, 90];
    let config = AttentionConfig { dropout: 0.1, ..causal(&Segments::from_lengths(&lengths)) };
    for dtype in [DType::F32, DType::BF16] {
        let x = inputs(&config, 4, 2, 16, 16).map(|x| x.to_dtype(dtype));
        let run = |threads| with_threads(threads, || in_step(|| everything(&x, &config)));
        let alone = run(1);
        for threads in [2, 4, 7] {
            assert_same_bits(&alone, &run(threads), &format!("{dtype}, {threads} threads"));
        }
    }
}

#[test]
fn grouped_heads_are_repeated_heads() {
    let config = causal(&Segments::from_lengths(&[37, 5]));
    let x = f32s(&config, 6, 2, 8);
    let repeat = |x: &Tensor| {
        let (rows, heads, width) = (x.dim(0), x.dim(1), x.dim(2));
        x.reshape([rows, heads, 1, width]).expand([rows, heads, 3, width]).reshape([rows, heads * 3, width])
    };
    let leaves = x.each_ref().map(Tensor::requires_grad);
    let y = attention(&leaves[0], &repeat(&leaves[1]), &repeat(&leaves[2]), &config);
    let weights = normal(*y.shape(), 9).to_dtype(DType::F32);
    let grads = (&y * &weights).sum([]).backward();
    let grouped = everything(&x, &config);
    assert!(y.detach().same_bits(&grouped[0]));
    assert!(grads[&leaves[0]].same_bits(&grouped[1]));
    for i in [1, 2] {
        assert!(grads[&leaves[i]].relative_error(&grouped[i + 1]) < 1e-6);
    }
}

#[test]
fn views_of_one_projection_are_read_where_they_lie() {
    let config = causal(&Segments::uniform(2, 40));
    for dtype in DTYPES {
        let [q, k, v] = inputs(&config, 4, 2, 8, 8).map(|x| x.to_dtype(dtype));
        let flat = |x: &Tensor| x.reshape([80, x.dim(1) * 8]);
        let fused = Tensor::cat(&[&flat(&q), &flat(&k), &flat(&v)], 1);
        let view = |start: usize, heads: usize| fused.narrow(1, start * 8, heads * 8).reshape([80, heads, 8]);
        let views = [view(0, 4), view(4, 2), view(6, 2)];
        assert!(views.iter().all(|x| std::sync::Arc::ptr_eq(x.buffer(), fused.buffer())));
        assert_same_bits(&everything(&views, &config), &everything(&[q, k, v], &config), dtype.name());
    }
}

#[test]
fn a_row_that_sees_nothing_is_zero_with_zero_gradients() {
    let config = AttentionConfig { causal: true, ..AttentionConfig::cross(&Segments::one(40), &Segments::one(3)) };
    everywhere(|dtype| {
        let x = inputs(&config, 2, 1, 4, 4).map(|x| x.to_dtype(dtype));
        let all = everything(&x, &config);
        let zero = |x: &Tensor, rows: usize| x.narrow(0, 0, rows).to_f64_vec().iter().all(|&x| x == 0.0);
        assert!(zero(&all[0], 37) && zero(&all[1], 37), "{dtype}");
        assert!(all.iter().all(|x| x.to_f64_vec().iter().all(|x| x.is_finite())), "{dtype}");
        assert!(!zero(&all[0].narrow(0, 37, 1), 1));
        let (_, lse) = forward(&x[0], &x[1], &x[2], &config, None);
        assert!(lse.narrow(0, 0, 37).to_f64_vec().iter().all(|&x| x == f64::NEG_INFINITY));
    });
}

#[test]
fn large_scores_do_not_overflow() {
    let config = causal(&Segments::one(140));
    let [q, k, v] = f32s(&config, 1, 1, 4);
    let (q, k) = (&q * 300.0, &k * 300.0);
    let y = attention(&q, &k, &v, &config);
    let exact = attention(&q.to_f64(), &k.to_f64(), &v.to_f64(), &config);
    // Scores of 1e5 carry an error of 1e-2 in f32; where one key wins by more, the result is that key's value.
    assert!(y.to_f64_vec().iter().all(|x| x.is_finite()));
    let close = y.to_f64_vec().iter().zip(exact.to_f64_vec()).filter(|(a, b)| (*a - b).abs() < 1e-3).count();
    assert!(close > 530, "{close} of 560");
}

#[test]
fn nan_in_a_visible_key_shows() {
    let config = causal(&Segments::one(20));
    for isa in Isa::available() {
        with_isa(isa, || {
            for dtype in DTYPES {
                let [q, k, v] = inputs(&config, 1, 1, 4, 4).map(|x| x.to_dtype(dtype));
                let bad = Tensor::full_of([1, 1, 4], f64::NAN, dtype);
                let k = Tensor::cat(&[&k.narrow(0, 0, 10), &bad, &k.narrow(0, 11, 9)], 0);
                let y = attention(&q, &k, &v, &config).to_f64_vec();
                assert!(y[..40].iter().all(|x| x.is_finite()), "{dtype}, {}", isa.name());
                assert!(y[40..].iter().all(|x| x.is_nan()), "{dtype}, {}", isa.name());
            }
        });
    }
}

#[test]
fn dropout_keeps_the_mean_and_follows_its_address() {
    let config = AttentionConfig { dropout: 0.25, ..AttentionConfig::of(&Segments::uniform(2, 64)) };
    let q = Tensor::zeros([128, 4, 4]);
    // With equal scores and values of one, a row is the share of what was kept.
    let (k, v) = (Tensor::zeros([128, 4, 4]), Tensor::ones([128, 4, 1]));
    let run = |step: u64, first_sample: u64| {
        let state = Training { seed: 1, step, first_sample, calls: 0, recomputing: false };
        let _scope = set_training(Some(state));
        [(); 2].map(|()| attention(&q, &k, &v, &config))
    };
    let [y, second] = run(0, 0);
    let rows = y.to_f64_vec();
    let mean = rows.iter().sum::<f64>() / rows.len() as f64;
    let variance = rows.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows.len() as f64;
    // 512 rows of 64 keys: the mean's deviation is sqrt(0.25 / 0.75 / 32768) = 0.0032, a row's variance 0.0052.
    assert!((mean - 1.0).abs() < 0.013, "{mean}");
    assert!((variance - 0.25 / 0.75 / 64.0).abs() < 0.0012, "{variance}");
    assert!(run(0, 0)[0].same_bits(&y));
    assert!(!second.same_bits(&y), "a second call of a step drops the same");
    assert!(!run(1, 0)[0].same_bits(&y), "the next step drops the same");
    let halves = [y.narrow(0, 0, 64), y.narrow(0, 64, 64)];
    assert!(!halves[0].same_bits(&halves[1]), "two segments drop the same");
    assert!(run(0, 1)[0].narrow(0, 0, 64).same_bits(&halves[1]), "a sample's mask depends on the batch");
    assert!(no_grad(|| attention(&q, &k, &v, &config)).to_vec::<f32>().iter().all(|&x| (x - 1.0).abs() < 1e-6));
}

#[test]
fn dropout_outside_of_a_training_scope_drops_nothing_as_that_of_a_tensor() {
    let plain = causal(&Segments::one(3));
    let config = AttentionConfig { dropout: 0.5, ..plain.clone() };
    let qkv = f32s(&config, 1, 1, 2);
    for dtype in [DType::F32, DType::BF16] {
        let [q, k, v] = [0, 1, 2].map(|i| qkv[i].to_dtype(dtype).requires_grad());
        let (y, whole) = (attention(&q, &k, &v, &config), attention(&q, &k, &v, &plain));
        assert!(y.same_bits(&whole) && y.needs_grad());
    }
}

#[test]
fn views_of_one_projection_have_gradients_in_one_buffer() {
    let (heads, shared, width) = (4, 2, 3);
    let segments = Segments::from_lengths(&[5, 4]);
    let config = causal(&segments);
    let projected = crate::testing::uniform([9, (heads + 2 * shared) * width], 3).to_dtype(DType::F32);
    let dy = crate::testing::uniform([9, heads, width], 4).to_dtype(DType::F32);
    let sizes = [heads * width, shared * width, shared * width];
    let cut =
        |x: &Tensor| x.split(1, &sizes).iter().map(|x| x.reshape([9, x.dim(1) / width, width])).collect::<Vec<_>>();
    let leaf = projected.requires_grad();
    let qkv = cut(&leaf);
    let grads = (attention(&qkv[0], &qkv[1], &qkv[2], &config) * &dy).sum([]).backward();
    // The same from copies, whose gradients are put together by a concatenation.
    let apart: Vec<Tensor> = cut(&projected).iter().map(|x| x.contiguous().requires_grad()).collect();
    let expected = (attention(&apart[0], &apart[1], &apart[2], &config) * &dy).sum([]).backward();
    let flat: Vec<Tensor> = apart.iter().map(|x| expected[x].reshape([9, x.dim(1) * width])).collect();
    assert!(grads[&leaf].same_bits(&Tensor::cat(&flat.iter().collect::<Vec<_>>(), 1)));
    // Not copied: the pieces that backward returns are views of one buffer.
    let (out, lse) = forward(&qkv[0], &qkv[1], &qkv[2], &config, None);
    let pieces = backward(&dy, &qkv[0], &qkv[1], &qkv[2], &out, &lse, &config, None, [true; 3]).map(Option::unwrap);
    assert!(pieces.iter().all(|piece| std::sync::Arc::ptr_eq(piece.buffer(), pieces[0].buffer())));
}

#[test]
#[should_panic(expected = "attention: q [4, 3, 2], k [4, 2, 2] and v [4, 2, 2] do not fit")]
fn heads_that_do_not_divide_are_named() {
    let config = causal(&Segments::one(4));
    let [q, k, v] = f32s(&config, 3, 2, 2);
    attention(&q, &k, &v, &config);
}

#[test]
#[should_panic(expected = "with Segments(1 x 5) of queries and Segments(1 x 5) of keys")]
fn segments_of_another_length_are_named() {
    let [q, k, v] = f32s(&causal(&Segments::one(4)), 1, 1, 2);
    attention(&q, &k, &v, &causal(&Segments::one(5)));
}

#[test]
fn autocast_computes_in_its_dtype() {
    let config = causal(&Segments::one(9));
    let [q, k, v] = f32s(&config, 1, 1, 8);
    let y = crate::autocast(DType::BF16, || attention(&q, &k, &v, &config));
    let half = |x: &Tensor| x.to_dtype(DType::BF16);
    assert!(y.same_bits(&attention(&half(&q), &half(&k), &half(&v), &config)));
}
