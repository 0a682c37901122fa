//! A mixture of experts against its definition: every expert by itself, token by token.

use cupola_models::ModelSpec;
use cupola_models::channels::Moe;
use cupola_nn::{Layer, Module, training};
use cupola_tensor::autograd::inspect::nodes;
use cupola_tensor::{DType, Rng, Segments, Tensor, no_grad};

const WIDTH: usize = 12;
const INNER: usize = 5;

fn moe(fields: &str) -> Moe {
    let text = format!(
        "vocab_size = 5\nhidden_size = {WIDTH}\nchannel = \"moe\"\nattention = {{ num_attention_heads = 2 }}\n\
         moe = {{ moe_intermediate_size = {INNER}, {fields} }}"
    );
    let spec = ModelSpec::from_toml(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut moe = Moe::new(&spec).init(0);
    for (path, param) in moe.named_parameters_mut() {
        let value = Tensor::randn(*param.shape(), Rng::seed(1).named(&path)) * 0.5;
        param.set(&value);
    }
    moe
}

fn input(tokens: usize) -> Tensor {
    Tensor::randn([tokens, WIDTH], Rng::seed(7))
}

/// What expert `e` makes of one token, in plain loops.
fn expert(moe: &Moe, e: usize, x: &[f64]) -> Vec<f64> {
    let (gate_up, down) = (moe.experts.gate_up.to_f64_vec(), moe.experts.down.to_f64_vec());
    let row = |all: &[f64], row: usize, x: &[f64]| -> f64 { (0..x.len()).map(|k| all[row * x.len() + k] * x[k]).sum() };
    let inner: Vec<f64> = (0..INNER)
        .map(|i| {
            let gate = row(&gate_up, e * 2 * INNER + i, x);
            gate / (1.0 + (-gate).exp()) * row(&gate_up, e * 2 * INNER + INNER + i, x)
        })
        .collect();
    (0..WIDTH).map(|d| row(&down, e * WIDTH + d, &inner)).collect()
}

#[test]
fn the_result_is_the_weighted_sum_of_a_tokens_experts() {
    let settings = [
        "num_experts = 6, num_experts_per_tok = 3",
        "num_experts = 6, num_experts_per_tok = 2, norm_topk_prob = false, routed_scaling_factor = 2.5",
        "num_experts = 4, num_experts_per_tok = 1, router = \"sigmoid\"",
        "num_experts = 6, num_experts_per_tok = 2, n_group = 3, topk_group = 1",
        "num_experts = 3, num_experts_per_tok = 3, router = \"sigmoid\"",
    ];
    for fields in settings {
        let sigmoid = fields.contains("sigmoid");
        let model = moe(fields).to_dtype(DType::F64);
        let x = input(17).to_dtype(DType::F64);
        let y = no_grad(|| model.forward(&x));
        let router = model.gate.weight.to_f64_vec();
        let experts = router.len() / WIDTH;
        let chosen = model.gate.route(&x).weights.dim(1);
        for n in 0..17 {
            let token = x.select(0, n).to_f64_vec();
            let logits: Vec<f64> =
                (0..experts).map(|e| (0..WIDTH).map(|k| router[e * WIDTH + k] * token[k]).sum()).collect();
            let sum: f64 = logits.iter().map(|l: &f64| l.exp()).sum();
            let score = |e: usize| if sigmoid { 1.0 / (1.0 + (-logits[e]).exp()) } else { logits[e].exp() / sum };
            let mut order: Vec<usize> = (0..experts).collect();
            order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
            if fields.contains("n_group") {
                // Two neighbours are a group; the best expert's is the best.
                let group = order[0] / 2;
                order.retain(|e| e / 2 == group);
            }
            order.truncate(chosen);
            let total: f64 = order.iter().map(|&e| score(e)).sum();
            let renormalised = chosen > 1 && !fields.contains("norm_topk_prob = false");
            let scale = if fields.contains("2.5") { 2.5 } else { 1.0 };
            let mut expected = vec![0.0; WIDTH];
            for &e in &order {
                let weight = scale * score(e) / if renormalised { total } else { 1.0 };
                expected.iter_mut().zip(expert(&model, e, &token)).for_each(|(sum, value)| *sum += weight * value);
            }
            let expected = Tensor::from_vec(expected, [WIDTH]);
            let error = y.select(0, n).relative_error(&expected);
            assert!(error < 1e-12, "{fields}: token {n} is off by {error}");
        }
    }
}

#[test]
fn experts_multiply_as_many_rows_as_tokens_have_experts() {
    let model = moe("num_experts = 8, num_experts_per_tok = 3, num_shared_experts = 1");
    let tokens = 29;
    let y = model.forward(&input(tokens));
    let rows: Vec<usize> =
        nodes(&y).iter().filter(|node| node.name() == "grouped_linear").map(|node| node.saved()[0].dim(0)).collect();
    // The products of gates and ups in one, and those of downs.
    assert_eq!(rows, [3 * tokens, 3 * tokens]);
    let routing = model.gate.route(&input(tokens));
    assert_eq!(routing.counts.iter().sum::<usize>(), 3 * tokens);
}

#[test]
fn a_token_has_the_same_bits_in_any_company() {
    let model = moe("num_experts = 5, num_experts_per_tok = 2, num_shared_experts = 1");
    let x = input(130);
    let together = no_grad(|| model.forward(&x));
    for (begin, length) in [(0, 1), (17, 1), (3, 64), (129, 1)] {
        let alone = no_grad(|| model.forward(&x.narrow(0, begin, length)));
        assert!(alone.same_bits(&together.narrow(0, begin, length)), "{length} from {begin}");
    }
    let nobody = no_grad(|| model.forward(&x.narrow(0, 0, 0)));
    assert_eq!(nobody.shape().dims(), [0, WIDTH]);
}

#[test]
fn balance_costs_one_where_experts_are_used_alike_and_more_where_not() {
    for router in ["softmax", "sigmoid"] {
        let mut model = moe(&format!("num_experts = 4, router = \"{router}\"")).to_dtype(DType::F64);
        let x = input(40).to_dtype(DType::F64);
        let uneven = model.gate.route(&x).balance_loss().item();
        // Every score alike: the mean scores are, wherever the rows go.
        let zeros = Tensor::zeros_of(*model.gate.weight.shape(), DType::F64);
        model.gate.weight.set(&zeros);
        let even = model.gate.route(&x).balance_loss().item();
        assert!((even - 1.0).abs() < 1e-12, "{router}: {even}");
        assert!(uneven > 1.01, "{router}: {uneven}");
    }
}

#[test]
fn losses_of_balance_reach_the_router_through_the_training_scope() {
    let mut model = moe("num_experts = 4, router_aux_loss_coef = 0.5, router_z_loss_coef = 0.25").to_dtype(DType::F64);
    let x = input(40).to_dtype(DType::F64);
    let scope = training(0, 0);
    let y = model.forward(&x);
    let losses = scope.auxiliary_losses();
    let names: Vec<&str> = losses.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["moe.balance", "moe.z"]);
    let routing = model.gate.route(&x);
    assert_eq!(losses[0].1.item(), 0.5 * routing.balance_loss().item());
    let logits = routing.logits.to_f64_vec();
    let z = |row: &[f64]| row.iter().map(|l| l.exp()).sum::<f64>().ln().powi(2);
    let expected = 0.25 * logits.chunks(4).map(z).sum::<f64>() / 40.0;
    assert!((losses[1].1.item() - expected).abs() < 1e-12);
    let total = &losses[0].1 + &losses[1].1;
    let grads = total.backward();
    scope.finish(&mut model);
    // The counts are constants: differences that move no token's choice give the same slope.
    let weight = model.gate.weight.detach();
    for entry in [0, 17, 40] {
        let mut at = |step: f64| {
            let mut all = weight.to_vec::<f64>();
            all[entry] += step;
            model.gate.weight.set(&Tensor::from_vec(all, *weight.shape()));
            let moved = model.gate.route(&x);
            assert_eq!(moved.experts, routing.experts);
            0.5 * moved.balance_loss().item() + 0.25 * moved.z_loss().item()
        };
        let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
        let exact = grads[&*model.gate.weight].to_f64_vec()[entry];
        assert!((numeric - exact).abs() < 1e-7 && exact != 0.0, "{entry}: {numeric} and {exact}");
    }
    drop(y);
    // Outside of training nobody pays.
    no_grad(|| model.forward(&x));
}

#[test]
fn a_bias_that_follows_the_load_balances_it_without_a_loss() {
    let mut model = moe("num_experts = 4, router = \"sigmoid\", bias_update_speed = 0.02");
    // Tokens that lie to one side, so that experts are far from equal.
    let x = input(200) + 0.7;
    let spread = |model: &Moe| {
        let counts = model.gate.route(&x).counts;
        counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
    };
    let before = spread(&model);
    let weights = |model: &Moe| model.gate.route(&x).scores.to_vec::<f32>();
    let scores = weights(&model);
    for step in 0..60 {
        let counts = model.gate.route(&x).counts;
        let bias = |model: &Moe| model.gate.e_score_correction_bias.as_ref().map(|bias| bias.value().to_vec::<f32>());
        let old = bias(&model).expect("a bias");
        let scope = training(0, step);
        model.forward(&x);
        scope.finish(&mut model);
        for ((old, new), count) in old.iter().zip(bias(&model).expect("a bias")).zip(counts) {
            let direction = (100.0 - count as f32).clamp(-1.0, 1.0);
            assert!((new - old - 0.02 * direction).abs() < 1e-6, "{count} rows moved {old} to {new}");
        }
    }
    assert!(before > 40 && spread(&model) < before / 3, "{before} became {}", spread(&model));
    // The bias chooses, and weighs nothing.
    assert_eq!(scores, weights(&model));
}

#[test]
fn the_bias_moves_once_in_a_step_by_the_load_of_all_its_micro_batches() {
    let fresh = || moe("num_experts = 4, router = \"sigmoid\", bias_update_speed = 0.02");
    let x = input(120) + 0.7;
    let after = |cuts: &[usize]| {
        let mut model = fresh();
        let scope = training(0, 0);
        let mut begin = 0;
        for (index, &length) in cuts.iter().enumerate() {
            scope.micro_batch(index as u64);
            model.forward(&x.narrow(0, begin, length));
            begin += length;
        }
        scope.finish(&mut model);
        model.gate.e_score_correction_bias.as_ref().expect("a bias").value().to_vec::<f32>()
    };
    let whole = after(&[120]);
    assert!(whole.iter().all(|bias| bias.abs() == 0.02 || *bias == 0.0) && whole.iter().any(|&bias| bias != 0.0));
    // Experts that some micro-batches send more than their share and others less are judged by the sum.
    let above = |x: &Tensor| -> Vec<bool> {
        let counts = fresh().gate.route(x).counts;
        let share = counts.iter().sum::<usize>() as f64 / 4.0;
        counts.iter().map(|&count| count as f64 > share).collect()
    };
    let parts: Vec<Vec<bool>> = (0..15).map(|part| above(&x.narrow(0, 8 * part, 8))).collect();
    assert!(parts.iter().any(|part| *part != parts[0]));
    assert_eq!(after(&[8; 15]), whole);
    assert_eq!(after(&[1, 50, 69]), whole);
}

#[test]
fn balance_of_sequences_is_that_of_each_by_itself() {
    for router in ["softmax", "sigmoid"] {
        let mut model =
            moe(&format!("num_experts = 4, router = \"{router}\", router_aux_loss_coef = 0.5, seq_aux = true"))
                .to_dtype(DType::F64);
        let x = input(30).to_dtype(DType::F64);
        let lengths = [7, 0, 20, 3];
        let segments = Segments::from_lengths(&lengths);
        // The definition, in plain loops: E / (k T) times the rows of an expert, times its mean share of the scores.
        let mut expected = 0.0;
        for range in segments.iter() {
            if range.is_empty() {
                continue;
            }
            let length = range.len() as f64;
            let routing = model.gate.route(&x.narrow(0, range.start, range.len()));
            let scores = routing.scores.to_f64_vec();
            let mean = |e: usize| {
                let share = |row: &[f64]| row[e] / row.iter().sum::<f64>();
                scores.chunks(4).map(share).sum::<f64>() / length
            };
            let balance: f64 = (0..4).map(|e| 4.0 / (2.0 * length) * routing.counts[e] as f64 * mean(e)).sum();
            expected += length / 30.0 * balance;
        }
        let scope = training(0, 0);
        model.forward_sequences(&x, &segments);
        let whole = scope.auxiliary_losses().swap_remove(0).1.item();
        assert!((whole - 0.5 * expected).abs() < 1e-12, "{router}: {whole}, expected half of {expected}");
        // Cut into micro-batches, each weighed by its tokens, it is the same; the loss over a whole batch is another.
        let mut cut = 0.0;
        for (begin, lengths) in [(0, &[7, 0][..]), (7, &[20][..]), (27, &[3][..])] {
            let tokens: usize = lengths.iter().sum();
            model.forward_sequences(&x.narrow(0, begin, tokens), &Segments::from_lengths(lengths));
            cut += scope.auxiliary_losses().swap_remove(0).1.item() * tokens as f64 / 30.0;
        }
        assert!((cut - whole).abs() < 1e-12, "{router}: {cut} and {whole}");
        let over_all = model.gate.route(&x).balance_loss().item();
        assert!((over_all - expected).abs() > 1e-3, "{router}: {over_all} and {expected}");
        scope.finish(&mut model);
    }
}
