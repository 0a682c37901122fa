"""A tiny GPT: 20 steps of training.

Writes crates/nn/tests/golden/gpt_plain.safetensors (no bias, erf-GELU, f64), gpt_bias.safetensors (biases, tanh-GELU,
f64) and gpt_plain_f32.safetensors (the first in f32; its numbers show what f32 loses); see common.py for the names.
One case, "training":

    param.NAME     the weights before the first step: wte.weight [V, D], wpe.weight [T, D], h.I.ln1.weight,
                   h.I.qkv.weight [3 D, D], h.I.proj.weight, h.I.ln2.weight, h.I.fc.weight [4 D, D], h.I.fc2.weight
                   [D, 4 D], lnf.weight, and .bias of each; the head is wte.weight
    in.tokens in.targets [20, B, T]   the batch of each step
    out.logits [B, T, V]   of the first step
    dparam.NAME    the first step's gradients, before clipping
    out.losses [20], out.norms [20]   the mean cross-entropy and the global norm of the gradients of each step
    out.NAME       the weights after the last step

The model is GPT-2's with pre-norm blocks, x + proj(attention(ln1 x)), x + fc2(gelu(fc(ln2 x))), norms' eps 1e-5. Each
step clips the gradients' global norm to 1 and takes AdamW (lr 1e-2, betas 0.9 0.99, eps 1e-8) with weight decay 0.1
on matrices and none on vectors.
"""

import torch
import torch.nn.functional as F
from torch import nn

from common import NN, Golden

LAYERS, HEADS, D, V, T, B, STEPS = 2, 2, 16, 17, 8, 4, 20


class Norm(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))
        self.bias = nn.Parameter(torch.zeros(D)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, (D,), self.weight, self.bias, 1e-5)


class Block(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.approximate = "tanh" if bias else "none"
        self.ln1, self.ln2 = Norm(bias), Norm(bias)
        self.qkv = nn.Linear(D, 3 * D, bias)
        self.proj = nn.Linear(D, D, bias)
        self.fc = nn.Linear(D, 4 * D, bias)
        self.fc2 = nn.Linear(4 * D, D, bias)

    def forward(self, x):
        batch, time, _ = x.shape
        q, k, v = (
            part.reshape(batch, time, HEADS, D // HEADS).transpose(1, 2) for part in self.qkv(self.ln1(x)).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, time, D)
        x = x + self.proj(mixed)
        return x + self.fc2(F.gelu(self.fc(self.ln2(x)), approximate=self.approximate))


class Gpt(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, D), nn.Embedding(T, D)
        self.h = nn.ModuleList(Block(bias) for _ in range(LAYERS))
        self.lnf = Norm(bias)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return F.linear(self.lnf(x), self.wte.weight)


def train(name, bias, dtype, draw_as):
    with Golden(NN, name, most_bytes=400 << 10) as golden:
        golden.random = Golden(NN, draw_as).random
        golden.cases["training"] = {
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "hidden_size": D,
            "vocab_size": V,
            "block_size": T,
            "bias": bias,
            "gelu": "tanh" if bias else "none",
            "lr": 1e-2,
            "betas": [0.9, 0.99],
            "eps": 1e-8,
            "weight_decay": 0.1,
            "max_norm": 1.0,
        }

        def put(kind, name, tensor):
            golden.put("training", kind, name, tensor)

        model = Gpt(bias)
        with torch.no_grad():
            for path, parameter in model.named_parameters():
                # Larger than usual, so that no part of the model is close to linear.
                parameter.copy_(
                    golden.normal(
                        *parameter.shape,
                        scale=0.2,
                        shift=float(path.endswith(("ln1.weight", "ln2.weight", "lnf.weight"))),
                    )
                )
        model.to(dtype)
        for path, parameter in model.named_parameters():
            put("param", path, parameter)
        # A sequence that can be learned: the next token follows from the last, but for one time in eight.
        tokens = golden.integers(STEPS, B, T + 1, below=V)
        follows = golden.uniform(STEPS, B, T + 1) >= 0.125
        for t in range(1, T + 1):
            tokens[..., t] = torch.where(follows[..., t], (tokens[..., t - 1] + 3) % V, tokens[..., t])
        put("in", "tokens", tokens[..., :-1])
        put("in", "targets", tokens[..., 1:])
        matrices = [p for p in model.parameters() if p.dim() >= 2]
        vectors = [p for p in model.parameters() if p.dim() < 2]
        optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
            lr=1e-2,
            betas=(0.9, 0.99),
            eps=1e-8,
        )
        losses, norms = [], []
        for step in range(STEPS):
            logits = model(tokens[step, :, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[step, :, 1:].flatten())
            optimiser.zero_grad()
            loss.backward()
            if step == 0:
                put("out", "logits", logits)
                for path, parameter in model.named_parameters():
                    put("dparam", path, parameter.grad)
            losses.append(loss.detach())
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0))
            optimiser.step()
        put("out", "losses", torch.stack(losses))
        put("out", "norms", torch.stack(norms))
        for path, parameter in model.named_parameters():
            put("out", path, parameter)
        return losses


if __name__ == "__main__":
    exact = train("gpt_plain", False, torch.float64, "gpt_plain")
    train("gpt_bias", True, torch.float64, "gpt_bias")
    rounded = train("gpt_plain_f32", False, torch.float32, "gpt_plain")
    print("losses", [round(loss.item(), 4) for loss in exact])
    print("relative difference of f32 at the end", abs(exact[-1] / rounded[-1].double() - 1).item())
