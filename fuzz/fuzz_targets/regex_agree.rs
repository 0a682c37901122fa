#![no_main]

// The reference is slow: short patterns and short texts.
libfuzzer_sys::fuzz_target!(|data: (&str, &str)| {
    let (pattern, text) = data;
    if pattern.len() <= 40 && text.len() <= 24 {
        cupola_regex::fuzz::agree(pattern, text);
    }
});
