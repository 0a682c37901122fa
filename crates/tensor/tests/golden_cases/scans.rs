//! Recurrences over packed sequences whose coefficients depend on the token.

use cupola_tensor::ops::{
    DeltaRuleConfig, SelectiveScanConfig, SsdConfig, gated_delta_rule, gated_linear_attention, selective_scan, ssd,
};
use cupola_tensor::{Segments, Tensor};

use super::{Case, Reader, Results, named};

fn segments(case: &Case) -> Segments {
    Segments::from_lengths(&case.sizes("lengths").expect("lengths"))
}

fn results((y, last): (Tensor, Option<Tensor>)) -> Results {
    let mut results = named([("y", y)]);
    results.extend(last.map(|last| ("last".to_owned(), last)));
    results
}

pub fn readers() -> Vec<Reader> {
    vec![
        Reader::new("angles", &["angle_sum", "rotate_pairs"], |case| {
            let state = case.maybe("state");
            let (angles, last) = case.arg("delta").angle_sum(&segments(case), state, state.is_some());
            results((case.x().rotate_pairs(&angles), last))
        }),
        Reader::new("selective_scan", &["selective_scan"], |case| {
            let [dt, a, b, c] = ["dt", "a", "b", "c"].map(|name| case.arg(name));
            let state = case.maybe("state");
            let config = SelectiveScanConfig { skip: case.maybe("skip"), state, final_state: state.is_some() };
            results(selective_scan(case.x(), dt, a, b, c, &segments(case), config))
        }),
        Reader::new("ssd", &["ssd"], |case| {
            let [q, k, v] = ["q", "k", "v"].map(|name| case.arg(name));
            let state = case.maybe("state");
            let config = SsdConfig {
                log_decay: case.maybe("log_decay"),
                scale: case.maybe("scale"),
                diagonal: case.maybe("diagonal"),
                state,
                final_state: state.is_some(),
            };
            results(ssd(q, k, v, &segments(case), config))
        }),
        Reader::new("gated_linear_attention", &["gated_linear_attention"], |case| {
            let [q, k, v, decay] = ["q", "k", "v", "log_decay"].map(|name| case.arg(name));
            let state = case.maybe("state");
            results(gated_linear_attention(q, k, v, decay, &segments(case), state, state.is_some()))
        }),
        Reader::new("gated_delta_rule", &["gated_delta_rule"], |case| {
            let [q, k, v, beta] = ["q", "k", "v", "beta"].map(|name| case.arg(name));
            let state = case.maybe("state");
            let config = DeltaRuleConfig { log_decay: case.maybe("log_decay"), state, final_state: state.is_some() };
            results(gated_delta_rule(q, k, v, beta, &segments(case), config))
        }),
    ]
}
