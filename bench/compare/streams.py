#!/usr/bin/env python3
"""The server with one model and with another: what many streams gain over one, and what a known beginning saves.

    streams.py PROGRAM DIR...

PROGRAM is the built `cupola`, DIR a model directory. Each figure is the median of three. Models with random weights are made by
`cargo run --release -p cupola-serve --example small_model -- DIR mamba-124m 32000`."""

import statistics
import sys

import serving

serving.IDS = 3, 300
program, *folders = sys.argv[1:]
for folder in folders:
    command = [program, "serve", folder, "--name", "m", "--port", "0", "--threads", "2", "--cache-size", "4G"]
    with serving.Server(command) as server:
        print(f"{folder}: listening after {server.start:.2f} s")
        rates = {streams: statistics.median(serving.rate(server, streams) for _ in range(3)) for streams in (1, 16, 64)}
        print("  " + ", ".join(f"{streams} streams {rate:.1f} tokens/s ({rate / rates[1]:.1f}x)" for streams, rate in rates.items()))
        pairs = [serving.first(server) for _ in range(3)]
        cold, known = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        print(f"  first token after 1,008 tokens {cold:.3f} s, with 1,000 known {known:.3f} s ({known / cold:.3f})")
