//! What scans hold for backward, and what backward takes. A process of its own, because the allocators count for all threads.

use cupola_core::alloc;
use cupola_tensor::ops::{
    DeltaRuleConfig, SelectiveScanConfig, SsdConfig, gated_delta_rule, gated_linear_attention, selective_scan, ssd,
};
use cupola_tensor::{Rng, Segments, Tensor};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const TOKENS: usize = 1024;

/// Asserts that a recorded call holds, besides its inputs and its result `[N, 64]`, what `states` states of `size` elements need, but for
/// what the allocator rounds up; and that backward takes no more than the gradients of what went in (`elements` in all) and of the
/// result, as many states once more, and the states between two borders for each thread: far less than those of every token.
fn is_borders(name: &str, (states, size, elements): (usize, usize, usize), call: impl Fn(&Segments) -> Tensor) {
    let (segments, result) = (Segments::one(TOKENS), TOKENS * 64 * 4);
    drop(call(&segments).sum([]).backward());
    let before = alloc::stats().in_use;
    let y = call(&segments);
    assert!(y.needs_grad());
    let held = alloc::stats().in_use - before - result;
    let borders = states * size * 4;
    assert!((borders..borders + borders / 4 + 8192).contains(&held), "{name}: {held} bytes, expected {borders}");

    let sum = y.sum([]);
    drop(y);
    let before = (alloc::stats().in_use, HEAP.current_usage());
    alloc::reset_peak();
    HEAP.reset_peak_usage();
    drop(sum.backward());
    let buffers = alloc::stats().peak_in_use.saturating_sub(before.0);
    let heap = HEAP.peak_usage().saturating_sub(before.1);
    let between = cupola_core::pool::threads() * 2 * TOKENS.div_ceil(states + 1) * size * 4;
    let most = elements * 4 + 2 * result + borders + between + (128 << 10);
    assert!(most < TOKENS * size * 4 / 2, "{name}: a bound of {most} bytes would let all states pass");
    assert!(buffers + heap <= most, "{name}: backward takes {buffers} + {heap} bytes, expected {most} at most");
}

#[test]
fn scans_keep_states_at_chunk_borders_only() {
    let tokens = TOKENS;
    let random = |shape: &[usize], seed| Tensor::randn(shape, Rng::seed(seed));
    let (x, dt) = (random(&[tokens, 64], 0).requires_grad(), random(&[tokens, 64], 1).abs());
    let (a, b) = (-random(&[64, 16], 2).abs(), random(&[tokens, 16], 3));
    let run = |segments: &Segments| selective_scan(&x, &dt, &a, &b, &b, segments, SelectiveScanConfig::default()).0;
    is_borders("selective_scan", (tokens / 32 - 1, 64 * 16, tokens * (64 + 64 + 16 + 16)), run);

    let (q, k) = (random(&[tokens, 2, 32], 4).requires_grad(), random(&[tokens, 2, 32], 5) * 0.1);
    let (v, decay) = (random(&[tokens, 2, 32], 6), -random(&[tokens, 2], 7).abs());
    let size = 2 * 32 * 32;
    let config = SsdConfig { log_decay: Some(&decay), ..SsdConfig::default() };
    let run = |segments: &Segments| ssd(&q, &k, &v, segments, config).0;
    is_borders("ssd", (tokens / 64 - 1, size, tokens * 4 * 64), run);

    let beta = decay.exp();
    let config = DeltaRuleConfig { log_decay: Some(&decay), ..DeltaRuleConfig::default() };
    let run = |segments: &Segments| gated_delta_rule(&q, &k, &v, &beta, segments, config).0;
    is_borders("gated_delta_rule", (tokens / 64 - 1, size, tokens * 4 * 64), run);

    let decay = -random(&[tokens, 2, 32], 8).abs();
    let run = |segments: &Segments| gated_linear_attention(&q, &k, &v, &decay, segments, None, false).0;
    is_borders("gated_linear_attention", (tokens / 64 - 1, size, tokens * 4 * 64), run);
}
