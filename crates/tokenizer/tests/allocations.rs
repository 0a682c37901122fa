//! What calls ask the allocator for, once they have their working memory.
//!
//! One test in a binary of its own, because the allocator counts for the whole process.

mod common;

use common::path;
use cupola_tokenizer::Tokenizer;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The most heap that `work` held beyond what was there before.
fn held<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let result = work();
    (result, HEAP.peak_usage().saturating_sub(before))
}

#[test]
fn counting_allocates_nothing_and_encoding_only_the_ids() {
    let text = std::fs::read_to_string(path("corpus.txt")).unwrap().repeat(3);
    let tokenizer = Tokenizer::from_path(path("hf_bpe.json")).unwrap();
    for _ in 0..3 {
        tokenizer.encode(&text).unwrap();
    }
    let (count, heap) = held(|| tokenizer.count(&text).unwrap());
    assert_eq!(heap, 0, "{count} tokens of {} bytes", text.len());
    let (ids, heap) = held(|| tokenizer.encode(&text).unwrap());
    assert_eq!(ids.len(), count);
    assert!(heap <= 4 * (text.len() / 3 + 4).max(2 * count), "{heap} bytes for {count} ids of {} bytes", text.len());
}
