//! What scans hold for backward. A process of its own, because the allocator counts for all threads.

use cupola_core::alloc;
use cupola_tensor::ops::{
    DeltaRuleConfig, SelectiveScanConfig, SsdConfig, gated_delta_rule, gated_linear_attention, selective_scan, ssd,
};
use cupola_tensor::{Rng, Segments, Tensor};

/// Bytes that a recorded call holds besides its inputs and its result `[N, width]`.
fn held(width: usize, tokens: usize, call: impl Fn(&Segments) -> Tensor) -> usize {
    let segments = Segments::one(tokens);
    drop(call(&segments));
    let before = alloc::stats().in_use;
    let y = call(&segments);
    assert!(y.needs_grad());
    let held = alloc::stats().in_use - before;
    held - tokens * width * 4
}

/// Asserts that `held` is what `states` states of `size` elements need, but for what the allocator rounds up.
fn is_borders(name: &str, held: usize, states: usize, size: usize) {
    let expected = states * size * 4;
    assert!((expected..expected + expected / 4 + 8192).contains(&held), "{name}: {held} bytes, expected {expected}");
}

#[test]
fn scans_keep_states_at_chunk_borders_only() {
    let tokens = 1024;
    let random = |shape: &[usize], seed| Tensor::randn(shape, Rng::seed(seed));
    let (x, dt) = (random(&[tokens, 64], 0).requires_grad(), random(&[tokens, 64], 1).abs());
    let (a, b) = (-random(&[64, 16], 2).abs(), random(&[tokens, 16], 3));
    let run = |segments: &Segments| selective_scan(&x, &dt, &a, &b, &b, segments, SelectiveScanConfig::default()).0;
    is_borders("selective_scan", held(64, tokens, run), tokens / 32 - 1, 64 * 16);

    let (q, k) = (random(&[tokens, 2, 32], 4).requires_grad(), random(&[tokens, 2, 32], 5) * 0.1);
    let (v, decay) = (random(&[tokens, 2, 32], 6), -random(&[tokens, 2], 7).abs());
    let size = 2 * 32 * 32;
    let config = SsdConfig { log_decay: Some(&decay), ..SsdConfig::default() };
    let run = |segments: &Segments| ssd(&q, &k, &v, segments, config).0;
    is_borders("ssd", held(64, tokens, run), tokens / 64 - 1, size);

    let beta = decay.exp();
    let config = DeltaRuleConfig { log_decay: Some(&decay), ..DeltaRuleConfig::default() };
    let run = |segments: &Segments| gated_delta_rule(&q, &k, &v, &beta, segments, config).0;
    is_borders("gated_delta_rule", held(64, tokens, run), tokens / 64 - 1, size);

    let decay = -random(&[tokens, 2, 32], 8).abs();
    let run = |segments: &Segments| gated_linear_attention(&q, &k, &v, &decay, segments, None, false).0;
    is_borders("gated_linear_attention", held(64, tokens, run), tokens / 64 - 1, size);
}
