#!/usr/bin/env bash
# Tokenizers side by side, from Python: Cupola, gigatoken, splintr, tiktoken. Makes an environment of its own, which is gone afterwards.
# Usage: bench/compare/tokenizers.sh FILE...   (texts; code, CJK, emoji and adversarial texts are added)
set -euo pipefail
cd "$(dirname "$0")/../.."

environment="$(mktemp -d)"
trap 'rm -rf "$environment"' EXIT
"${PYTHON:-python3}" -m venv "$environment/venv"
"$environment/venv/bin/pip" install --quiet 'maturin>=1.8,<2' numpy tiktoken gigatoken splintr-rs rustbpe tokenizers sentencepiece
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/python"
(cd python && "$environment/venv/bin/maturin" build --release --locked --quiet --interpreter "$environment/venv/bin/python" --out "$environment/wheels")
"$environment/venv/bin/pip" install --quiet --no-index "$environment"/wheels/*.whl
# One thread for everybody.
export RAYON_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
"$environment/venv/bin/python" bench/compare/tokenizers.py --folder "$environment" "$@"
"$environment/venv/bin/python" bench/compare/training.py "$@"
