#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cupola_tokenizer::fuzz::gguf(data));
