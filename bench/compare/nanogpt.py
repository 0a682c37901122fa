#!/usr/bin/env python3
"""PyTorch on the recipe that nanoGPT gives for CPUs, until the held-out loss is low enough: what `cupola train` is set beside.

    nanogpt.py TEXT [LOSS] [STEPS] [THREADS]

4 layers, 4 heads, 128 wide, 12 rows of 64 characters, AdamW (betas 0.9 and 0.99, weight decay 0.1 of matrices), a rate of 1e-3 behind 100
steps of warm-up and down to 1e-4 in a cosine over STEPS (2000), no dropout, norm of the gradients at most 1. The last tenth of the text
is held out and measured whole every 100 steps, in windows that do not overlap, until its loss is at most LOSS (1.88 nats a character).
Prints every measurement, and at the end one JSON line: steps, the loss, seconds of training, and seconds with the measurements. Needs the
package torch. `nanogpt.toml` beside this file has the same recipe for `cupola train`."""

import json
import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

LAYERS, HEADS, WIDTH, WINDOW, ROWS = 4, 4, 128, 64, 12
RATE, LEAST, WARMUP, EVERY = 1e-3, 1e-4, 100, 100


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        rows, time_, _ = x.shape
        q, k, v = (
            part.view(rows, time_, HEADS, WIDTH // HEADS).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(WIDTH, 2)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, time_, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, WIDTH), nn.Embedding(WINDOW, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH, bias=False)
        for name, value in self.named_parameters():
            if value.dim() == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(value, std=0.02 / math.sqrt(2 * LAYERS) if last else 0.02)

    def forward(self, ids, targets, reduction="mean"):
        x = self.token(ids) + self.place(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.token.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)


def held_out_loss(model, ids):
    """Nats a character over all of it."""
    total, count = 0.0, len(ids) - 1
    whole = count // WINDOW * WINDOW
    with torch.no_grad():
        inputs, targets = ids[:whole].view(-1, WINDOW), ids[1 : whole + 1].view(-1, WINDOW)
        for rows, wanted in zip(inputs.split(64), targets.split(64)):
            total += model(rows, wanted, "sum").item()
        if whole < count:
            total += model(ids[whole:count][None], ids[whole + 1 :][None], "sum").item()
    return total / count


def rate(step, steps):
    if step < WARMUP:
        return RATE * (step + 1) / WARMUP
    return LEAST + (RATE - LEAST) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (steps - WARMUP)))


def main():
    path, *rest = sys.argv[1:]
    goal, steps = float(rest[0]) if rest else 1.88, int(rest[1]) if len(rest) > 1 else 2000
    if len(rest) > 2:
        torch.set_num_threads(int(rest[2]))
    torch.manual_seed(1)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    known = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = torch.tensor([known[c] for c in text])
    train, held = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]
    model = Model(len(known))
    matrices = [value for value in model.parameters() if value.dim() == 2]
    vectors = [value for value in model.parameters() if value.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99))
    began, trained, loss, step = time.perf_counter(), 0.0, math.inf, 0
    while step < steps and loss > goal:
        turn = time.perf_counter()
        for _ in range(min(EVERY, steps - step)):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, steps)
            at = torch.randint(len(train) - WINDOW, (ROWS, 1)) + torch.arange(WINDOW)
            value = model(train[at], train[at + 1])
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
        trained += time.perf_counter() - turn
        loss = held_out_loss(model, held)
        print(f"step {step}  held-out loss {loss:.4f}  {trained:.1f} s", file=sys.stderr)
    seconds = time.perf_counter() - began
    result = {"torch": torch.__version__, "threads": torch.get_num_threads(), "steps": step, "val_loss": loss, "reached": loss <= goal}
    print(json.dumps({**result, "seconds_of_training": round(trained, 2), "seconds": round(seconds, 2)}))


if __name__ == "__main__":
    main()
