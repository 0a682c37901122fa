//! What a search may hold is bounded by the length of the text, whatever the pattern.
//!
//! One test in a binary of its own, because the allocator counts for the whole process.

use cupola_regex::{Regex, SearchError};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The most heap that `work` held beyond what was there before, and what is left of it.
fn held<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let result = work();
    (result, HEAP.peak_usage().saturating_sub(before), HEAP.current_usage().saturating_sub(before))
}

#[test]
fn memory_of_a_search_is_bounded_by_the_text() {
    let text = "a".repeat(1 << 18);
    // 262,144 choices and 16 for each byte, of 16 bytes each, in a vector that doubles and is copied while it does.
    let stack = 3 * 16 * ((1 << 18) + 16 * text.len());
    let lazy: String = ('b'..='z').map(|c| format!("{c}??")).collect();
    // Every symbol leaves fifty choices open.
    let loops = format!("(?:a{lazy}{lazy})*");

    let regex = Regex::new(&format!("(a){loops}\\1[ab]")).unwrap();
    let (found, peak, left) = held(|| regex.try_find(&text));
    assert_eq!(found, Err(SearchError::StackTooLarge { limit: (1 << 18) + 16 * text.len() }));
    assert!(peak <= stack + (1 << 20), "{peak} bytes");
    assert!(left < 1 << 20, "{left} bytes stay");

    // Without backreferences there is an answer: the sweep's tables have four bytes for each position and sub-program.
    let regex = Regex::new(&format!("(?=a+$)(?:{loops}c|a)")).unwrap();
    let (found, peak, left) = held(|| regex.try_find(&text).map(|m| m.map(|m| m.range())));
    assert_eq!(found, Ok(Some(0..1)));
    assert!(peak <= stack + 8 * text.len() + (1 << 20), "{peak} bytes");
    assert!(left < 1 << 20, "{left} bytes stay");

    // Groups inside lookarounds: eight bytes for each position and group, and four for each sub-program.
    let regex = Regex::new("(?=((?:a|aa)*)b)a|(?=((a|aa)*))(?<=(a*))a").unwrap();
    let (count, peak, _) = held(|| regex.captures_iter(&text[..1 << 16]).count());
    assert_eq!(count, 1 << 16);
    assert!(peak <= stack / 4 + (4 * 4 + 8 * 4) * (1 << 16) + (1 << 20), "{peak} bytes");
}
