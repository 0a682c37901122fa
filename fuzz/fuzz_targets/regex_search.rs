#![no_main]

// The pattern and the text, with a zero between them.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (pattern, text) = data.split_at(data.iter().position(|&b| b == 0).unwrap_or(data.len()));
    if let Ok(pattern) = std::str::from_utf8(pattern) {
        cupola_regex::fuzz::search(pattern, text.get(1..).unwrap_or_default());
    }
});
