#!/usr/bin/env bash
# Regular expressions and tokenizers side by side, in Rust: PCRE2 with its JIT, regexr, fancy-regex, Hugging Face's bitcannon; splintr,
# bpe-openai, tiktoken-rs. Needs a C compiler for PCRE2.
# Usage: bench/compare/peers.sh FILE...   (texts; code, CJK, emoji and adversarial texts are added)
set -euo pipefail
files=()
for file in "$@"; do
    files+=("$(realpath -- "$file")")
done
cd "$(dirname "$0")/../peers"
cargo build --release --locked
for program in regex tokenizers; do
    "${CARGO_TARGET_DIR:-target}/release/$program" "${files[@]}"
done
