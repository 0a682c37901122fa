//! What attention holds at a time. A process of its own, because the allocator counts for all threads.

use cupola_core::alloc;
use cupola_tensor::ops::attention::{AttentionConfig, attention};
use cupola_tensor::{Rng, Segments, Tensor};

#[test]
fn memory_does_not_grow_with_the_square_of_the_length() {
    let config = AttentionConfig { causal: true, ..AttentionConfig::of(&Segments::one(2048)) };
    let x = [0, 1, 2].map(|i| Tensor::randn([2048, 1, 16], Rng::seed(i)).requires_grad());
    let step = || {
        let y = attention(&x[0], &x[1], &x[2], &config);
        (&y * &y).sum([]).backward()
    };
    drop(step());
    let before = alloc::stats().in_use;
    alloc::reset_peak();
    drop(step());
    // A tensor has 128 KiB; the scores would have 16 MiB.
    let grown = alloc::stats().peak_in_use - before;
    assert!(grown < 2 << 20, "{grown} bytes");
}
