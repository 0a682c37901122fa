//! Reading the golden files, which `tools/golden/tokenizer.py` writes.
#![allow(dead_code, reason = "each test file uses its own part")]

use serde_json::Value;
use std::path::PathBuf;

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap()
}

pub fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_string()).collect()
}

pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect()
}

/// A GGUF file in memory, of metadata only.
#[derive(Default)]
pub struct Gguf(Vec<u8>, u64);

impl Gguf {
    fn text(&mut self, text: &str) {
        self.0.extend((text.len() as u64).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn key(mut self, key: &str, kind: u32) -> Self {
        self.1 += 1;
        self.text(&format!("tokenizer.ggml.{key}"));
        self.0.extend(kind.to_le_bytes());
        self
    }

    pub fn string(self, key: &str, value: &str) -> Self {
        let mut file = self.key(key, 8);
        file.text(value);
        file
    }

    pub fn strings(self, key: &str, values: &[&str]) -> Self {
        let mut file = self.key(key, 9);
        file.0.extend(8u32.to_le_bytes());
        file.0.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|v| file.text(v));
        file
    }

    pub fn numbers(self, key: &str, kind: u32, values: &[[u8; 4]]) -> Self {
        let mut file = self.key(key, 9);
        file.0.extend(kind.to_le_bytes());
        file.0.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|v| file.0.extend(v));
        file
    }

    pub fn build(self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(0u64.to_le_bytes());
        file.extend(self.1.to_le_bytes());
        file.extend(self.0);
        file
    }
}
