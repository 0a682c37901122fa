#!/usr/bin/env python3
"""The server beside llama.cpp's, in one run, on weights that both read from files made here: a LLaMA of 110M parameters.

    serving.py PROGRAM FOLDER [f32|bf16] [ROUNDS]

PROGRAM is the built `cupola`. FOLDER keeps the models (1.3 GB) for the next time. Needs the packages numpy, gguf and xllamacpp. Each figure
is the median of ROUNDS (3), in which the servers take turns; only one of them runs at a time. Prints a table in Markdown."""

import http.client
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time

import numpy as np

WIDTH, LAYERS, HEADS, INNER, WORDS, CONTEXT = 768, 12, 12, 2048, 32000, 8192
SHORT, WRITTEN = 8, 64
IDS = 259, WORDS


def tensors():
    """Names of the file, names of GGUF, values."""
    rng = np.random.default_rng(0)
    def noise(*shape):
        return rng.standard_normal(shape, dtype=np.float32) * 0.02
    yield "model.embed_tokens.weight", "token_embd.weight", noise(WORDS, WIDTH)
    yield "model.norm.weight", "output_norm.weight", np.ones(WIDTH, np.float32)
    for layer in range(LAYERS):
        file, gguf = f"model.layers.{layer}.", f"blk.{layer}."
        yield file + "input_layernorm.weight", gguf + "attn_norm.weight", np.ones(WIDTH, np.float32)
        yield file + "post_attention_layernorm.weight", gguf + "ffn_norm.weight", np.ones(WIDTH, np.float32)
        for name, other in ("q_proj", "attn_q"), ("k_proj", "attn_k"), ("v_proj", "attn_v"), ("o_proj", "attn_output"):
            yield f"{file}self_attn.{name}.weight", f"{gguf}{other}.weight", noise(WIDTH, WIDTH)
        yield file + "mlp.gate_proj.weight", gguf + "ffn_gate.weight", noise(INNER, WIDTH)
        yield file + "mlp.up_proj.weight", gguf + "ffn_up.weight", noise(INNER, WIDTH)
        yield file + "mlp.down_proj.weight", gguf + "ffn_down.weight", noise(WIDTH, INNER)


def tokens():
    return ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + [f"w{i}" for i in range(WORDS - 259)]


def rounded(values):
    """The nearest bf16, as integers of 16 bits."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_directory(path, dtype):
    os.makedirs(path)
    header, bodies, at = {}, [], 0
    for name, _, values in tensors():
        body = (rounded(values) if dtype == "bf16" else values).tobytes()
        header[name] = {"dtype": dtype.upper(), "shape": list(values.shape), "data_offsets": [at, at + len(body)]}
        bodies.append(body)
        at += len(body)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{path}/model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(bodies)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
              "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "intermediate_size": INNER, "vocab_size": WORDS,
              "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
              "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
              "torch_dtype": {"f32": "float32", "bf16": "bfloat16"}[dtype]}
    with open(f"{path}/config.json", "w") as file:
        json.dump(config, file)
    model = {"type": "BPE", "vocab": {word: i for i, word in enumerate(tokens())}, "merges": [], "byte_fallback": True, "unk_token": "<unk>"}
    added = [{"id": i, "content": word, "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
             for i, word in enumerate(tokens()[:3])]
    with open(f"{path}/tokenizer.json", "w") as file:
        json.dump({"version": "1.0", "model": model, "added_tokens": added, "decoder": {"type": "ByteFallback"}}, file)


def write_gguf(path, dtype):
    import gguf
    kind = {"f32": gguf.GGMLQuantizationType.F32, "bf16": gguf.GGMLQuantizationType.BF16}[dtype]
    file = gguf.GGUFWriter(path, "llama")
    file.add_context_length(CONTEXT)
    file.add_embedding_length(WIDTH)
    file.add_block_count(LAYERS)
    file.add_feed_forward_length(INNER)
    file.add_head_count(HEADS)
    file.add_head_count_kv(HEADS)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_dimension_count(WIDTH // HEADS)
    file.add_vocab_size(WORDS)
    file.add_tokenizer_model("llama")
    file.add_token_list(tokens())
    file.add_token_scores([0.0] * 259 + [-float(i) for i in range(WORDS - 259)])
    file.add_token_types([2, 3, 3] + [6] * 256 + [1] * (WORDS - 259))
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_unk_token_id(0)
    for _, name, values in tensors():
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            # Its rotation pairs neighbours, that of the directory the two halves of a head.
            values = values.reshape(HEADS, 2, WIDTH // HEADS // 2, WIDTH).swapaxes(1, 2).reshape(WIDTH, WIDTH)
        if values.ndim == 1 or dtype == "f32":
            file.add_tensor(name, values)
        else:
            file.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


LLAMA = """
import sys, xllamacpp, time
path, streams, context, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
p = xllamacpp.CommonParams()
p.model.path = path
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 2
p.n_ctx, p.n_parallel, p.port, p.n_gpu_layers, p.warmup = context * streams, streams, port, 0, False
p.enable_chat_template = False
server = xllamacpp.Server(p)
print("listening on", server.listening_address, flush=True)
time.sleep(1e6)
"""


class Server:
    """One that listens, with room for some streams of some tokens each."""
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        begin = time.monotonic()
        for line in self.process.stdout:
            if found := re.search(r"listening on http://[^:]+:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise SystemExit(f"{command[0]} did not start")
        self.start = time.monotonic() - begin
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.ask(prompt(SHORT), 4)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def ask(self, ids, count, stream=False):
        """Seconds of the answer; of a stream, when each piece came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        body = {"model": "m", "prompt": ids, "max_tokens": count, "temperature": 0, "ignore_eos": True, "stream": stream}
        begin = time.monotonic()
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise SystemExit(f"{reply.status}: {reply.read()[:500]}")
        if not stream:
            found = json.loads(reply.read())["usage"]["completion_tokens"]
            assert found == count, f"{found} tokens written instead of {count}"
            return time.monotonic() - begin
        times = []
        for line in reply:
            if line.startswith(b"data: {"):
                times.append(time.monotonic() - begin)
        return times


def cupola(program, folder, dtype, streams, context):
    return Server([program, "serve", f"{folder}/{dtype}", "--name", "m", "--port", "0", "--max-concurrent", str(streams), "--ctx", str(context),
                   "--threads", "2", "--cache-size", "4G"])


def llama(folder, dtype, streams, context):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Server([sys.executable, "-c", LLAMA, f"{folder}/{dtype}.gguf", str(streams), str(context), str(port)])


def prompt(count):
    return [random.randrange(*IDS) for _ in range(count)]


def rate(server, streams):
    """Tokens a second, of all streams together, from the first request to the last answer."""
    threads = [threading.Thread(target=server.ask, args=(prompt(SHORT), WRITTEN)) for _ in range(streams)]
    begin = time.monotonic()
    [one.start() for one in threads]
    [one.join() for one in threads]
    return streams * WRITTEN / (time.monotonic() - begin)


def first(server):
    """Seconds to the first token of 1,000 tokens read for the first time, and again with another end."""
    beginning = prompt(1000)
    cold = server.ask(beginning + prompt(SHORT), 1)
    return cold, server.ask(beginning + prompt(SHORT), 1)


def gap(server, count):
    """The 99th percentile of the time between two tokens of 4 streams while a prompt of `count` tokens is read."""
    gaps = []
    def stream():
        times = server.ask(prompt(SHORT), 400, True)
        offset = time.monotonic() - times[-1]
        gaps.extend((offset + b, b - a) for a, b in zip(times, times[1:]))
    threads = [threading.Thread(target=stream) for _ in range(4)]
    [one.start() for one in threads]
    time.sleep(1)
    begin = time.monotonic()
    server.ask(prompt(count), 1)
    end = time.monotonic()
    [one.join() for one in threads]
    inside = [length for at, length in gaps if begin <= at and at - length <= end]
    return np.percentile(inside, 99)


def main():
    program, folder = sys.argv[1:3]
    dtype = sys.argv[3] if len(sys.argv) > 3 else "f32"
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    os.makedirs(folder, exist_ok=True)
    if not os.path.exists(f"{folder}/{dtype}"):
        write_directory(f"{folder}/{dtype}", dtype)
        write_gguf(f"{folder}/{dtype}.gguf", dtype)
    servers = {"cupola": lambda *room: cupola(program, folder, dtype, *room), "llama.cpp": lambda *room: llama(folder, dtype, *room)}
    found = {name: {} for name in servers}
    for _ in range(rounds):
        for name, start in servers.items():
            def note(what, value):
                found[name].setdefault(what, []).append(value)
                print(name, what, f"{value:.3f}", file=sys.stderr, flush=True)
            for streams in 1, 16, 64:
                with start(streams, 256) as server:
                    note(f"{streams} streams, tokens/s in sum", rate(server, streams))
            with start(8, 6144) as server:
                cold, again = first(server)
                note("first token after 1,008 tokens, s", cold)
                note("the same with 1,000 known, s", again)
                note("99 % of gaps while 4,096 are read, s", gap(server, 4096))
    print(f"110M LLaMA, {dtype}, two threads, medians of {rounds}\n\n| | Cupola | llama.cpp | ratio |\n|---|---|---|---|")
    for what in found["cupola"]:
        ours, theirs = (statistics.median(found[name][what]) for name in servers)
        print(f"| {what} | {ours:.3g} | {theirs:.3g} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
