//! Learning rates against PyTorch's schedulers.

mod support;

use cupola_nn::schedule::{Anneal, Decay, Mode, OnPlateau, Schedule, ThresholdMode};
use support::{Case, Golden};

fn anneal(text: &str) -> Anneal {
    match text {
        "cos" | "cosine" => Anneal::Cos,
        "linear" => Anneal::Linear,
        "sqrt" => Anneal::Sqrt,
        other => panic!("no form {other}"),
    }
}

/// The schedule that a case is about; `None` for those of PyTorch that we do not have.
fn schedule(case: &Case) -> Option<Schedule> {
    let count = |name: &str| case.size(name) as u64;
    let mut lr = case.number("lr");
    let cosine = |case: &Case| Decay::Cosine { steps: case.size("T_max") as u64, min_lr: case.number("eta_min") };
    let step = |case: &Case| Decay::Step { every: case.size("step_size") as u64, gamma: case.number("gamma") };
    let decay = match case.name.as_str() {
        "step" | "warmup_step" => step(case),
        "multi_step" => {
            let milestones = case.sizes("milestones").expect("milestones").into_iter().map(|m| m as u64).collect();
            Decay::MultiStep { milestones, gamma: case.number("gamma") }
        }
        "exponential" => Decay::Exponential { gamma: case.number("gamma") },
        "cosine" | "warmup_cosine" => cosine(case),
        "restarts" | "growing_restarts" => {
            Decay::CosineRestarts { period: count("T_0"), growth: count("T_mult"), min_lr: case.number("eta_min") }
        }
        name if name.starts_with("one_cycle") => {
            lr = case.number("max_lr");
            Decay::OneCycle {
                steps: count("total_steps"),
                pct_start: case.number("pct_start"),
                anneal: anneal(case.text("anneal_strategy")),
                div_factor: case.number("div_factor"),
                final_div_factor: case.number("final_div_factor"),
                three_phase: case.flag("three_phase"),
            }
        }
        name if name.starts_with("reduce_on_plateau") => Decay::OnPlateau(OnPlateau {
            mode: if case.text("mode") == "min" { Mode::Min } else { Mode::Max },
            factor: case.number("factor"),
            patience: count("patience"),
            threshold: case.number("threshold"),
            threshold_mode: if case.text("threshold_mode") == "rel" { ThresholdMode::Rel } else { ThresholdMode::Abs },
            cooldown: count("cooldown"),
            min_lr: case.number("min_lr"),
            eps: 1e-8,
        }),
        name if name.starts_with("warmup_stable_decay") => Decay::StableDecay {
            stable: count("total") - count("decay") - count("warmup"),
            decay: count("decay"),
            anneal: anneal(case.text("shape")),
            min_lr: case.number("min_lr"),
        },
        "linear" | "constant" | "polynomial" => return None,
        other => panic!("{other} is no schedule"),
    };
    let warmup = case.attributes.get("warmup").map_or(0, |_| count("warmup"));
    Some(Schedule::new(lr, decay).with_warmup(warmup))
}

#[test]
fn every_schedule_has_pytorch_s_rates_and_survives_being_saved_at_any_step() {
    let golden = Golden::open("schedules");
    let mut checked = 0;
    for case in &golden.cases {
        let Some(mut schedule) = schedule(case) else { continue };
        let metric = case.get("in.metric").map(|metric| metric.to_f64_vec());
        for (step, expected) in case.tensor("out.lr").to_f64_vec().into_iter().enumerate() {
            let found = schedule.at(step as u64);
            assert!((found - expected).abs() <= 1e-12, "{}: step {step} has {found}, expected {expected}", case.name);
            if let Some(metric) = &metric {
                schedule.observe(metric[step]);
            }
            let text = serde_json::to_string(&schedule).expect("it can be written");
            schedule = serde_json::from_str(&text).expect("it can be read");
        }
        checked += 1;
    }
    assert!(checked >= 17, "only {checked} schedules were checked");
}

#[test]
fn courses_go_on_behind_their_end() {
    let cycle = Schedule::new(1.0, Decay::one_cycle(10));
    assert_eq!(cycle.at(9), cycle.at(1000));
    assert!((cycle.at(9) - 1.0 / 25.0 / 1e4).abs() < 1e-12);
    let decay = Decay::StableDecay { stable: 2, decay: 3, anneal: Anneal::Linear, min_lr: 0.25 };
    let rates: Vec<f64> = (0..7).map(|t| Schedule::new(1.0, decay.clone()).at(t)).collect();
    assert_eq!(rates, [1.0, 1.0, 0.75, 0.5, 0.25, 0.25, 0.25]);
    assert_eq!(Schedule::constant(0.5).at(1 << 60), 0.5);
}

#[test]
fn a_metric_that_is_no_number_is_no_improvement() {
    let options = OnPlateau { patience: 0, factor: 0.5, ..OnPlateau::default() };
    let mut schedule = Schedule::new(1.0, Decay::OnPlateau(options));
    schedule.observe(f64::NAN);
    assert_eq!(schedule.at(0), 0.5);
    schedule.observe(3.0);
    schedule.observe(2.0);
    assert_eq!(schedule.at(0), 0.5);
}

#[test]
fn a_warm_up_stands_in_front_of_a_plateau_too() {
    let schedule = Schedule::new(1.0, Decay::OnPlateau(OnPlateau::default())).with_warmup(4);
    let rates: Vec<f64> = (0..6).map(|t| schedule.at(t)).collect();
    assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
}

#[test]
fn options_without_sense_are_refused_when_they_are_read() {
    for (text, message) in [
        (r#"{"lr": 1, "decay": {"step": {"every": 0, "gamma": 0.5}}}"#, "schedule: every is 0, expected at least 1"),
        (r#"{"lr": 1, "decay": {"cosine": {"steps": 0, "min_lr": 0}}}"#, "schedule: steps is 0, expected at least 1"),
        (
            r#"{"lr": 1, "decay": {"on_plateau": {"factor": 1.5}}}"#,
            "schedule: factor is 1.5, expected from 0 to below 1",
        ),
        (r#"{"lr": 1, "decay": {"on_plateau": {"pacience": 3}}}"#, "unknown field `pacience`"),
        (r#"{"lr": 1, "decay": "constant", "warm": 1}"#, "unknown field `warm`"),
    ] {
        let error = serde_json::from_str::<Schedule>(text).expect_err("it makes no sense").to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
#[should_panic(expected = "schedule: growth is 0, expected at least 1")]
fn options_without_sense_panic_when_they_are_written() {
    Schedule::new(1.0, Decay::CosineRestarts { period: 3, growth: 0, min_lr: 0.0 });
}
