//! What training steps ask of the system. A process of its own, because the allocator counts for all threads.

mod network;

use cupola_core::alloc;
use cupola_tensor::DType;
use network::Network;

#[test]
fn equal_steps_ask_the_system_for_nothing_after_the_first() {
    let mut network = Network::new(DType::F32);
    network.step(0.1);
    let first = alloc::stats();
    for step in 2..=20 {
        network.step(0.1);
        let now = alloc::stats();
        assert_eq!(
            (now.system_requests, now.reserved),
            (first.system_requests, first.reserved),
            "step {step} asked for memory: {now:?} after {first:?}"
        );
        assert_eq!(now.in_use, first.in_use, "step {step} kept memory");
    }
}
