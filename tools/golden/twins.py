"""Tiny models of architectures that transformers does not have, written out token by token in PyTorch, and what they say.

Writes crates/models/tests/public/NAME/ as models.py does, with a config.json of model_type "cupola" and our names of
parameters. The mixers follow the papers' recurrences and share no code with the chunked forms that they prove:
Mamba-3 (arXiv:2603.15569), linear attention (arXiv:2006.16236), GLA (arXiv:2312.06635), DeltaNet (arXiv:2406.06484), Gated
DeltaNet (arXiv:2412.06464). Hydra, Trident and Chimera are put together from the parts in composed.py.

The losses of a training are those of the tokens; what the balance of experts costs is added before gradients are taken, and their
bias moves after each step.

    .venv/bin/python twins.py [NAME ...]
"""

import json
import math
import os
import shutil
import sys
import types
import zlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from composed import Attention, Conv, Differential, Experts, Mamba, Mlp, Norm, Ternary, linear, parameter
from models import FOLDER, STEPS, VOCABULARY, greedy, train


def unit(x):
    return x / (x.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()


class Mamba3(nn.Module):
    def __init__(self, width, state_size, head_dim, n_groups=1, mimo_rank=1, rope_fraction=0.5, is_outproj_norm=False):
        super().__init__()
        inner = 2 * width
        self.h, self.p, self.s, self.g, self.r = inner // head_dim, head_dim, state_size, n_groups, mimo_rank
        self.k = int(state_size * rope_fraction) // 2
        self.sizes = [inner, inner] + [self.r * self.g * self.s] * 2 + [self.h] * 3 + [self.k]
        self.in_proj = linear(width, sum(self.sizes))
        self.dt_bias, self.D = parameter(self.h), parameter(self.h)
        self.B_norm, self.C_norm = Norm(self.s), Norm(self.s)
        self.B_bias, self.C_bias = parameter(self.h, self.r, self.s), parameter(self.h, self.r, self.s)
        if self.r > 1:
            self.mimo_x, self.mimo_z, self.mimo_o = (parameter(self.h, self.r, self.p) for _ in range(3))
        # One for each channel, of a norm that each head has for itself.
        self.norm = Norm(inner) if is_outproj_norm else None
        self.out_proj = linear(inner, width)

    def turned(self, x, norm, bias, angle):
        """[B, R G S] of one token -> [B, H, R, S]."""
        x = norm(x.unflatten(-1, (self.r, self.g, self.s))).repeat_interleave(self.h // self.g, 2)
        x = x.transpose(1, 2) + bias
        a, b = x[..., 0 : 2 * self.k : 2], x[..., 1 : 2 * self.k : 2]
        cos, sin = angle.cos()[:, :, None], angle.sin()[:, :, None]
        pairs = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
        return torch.cat([pairs, x[..., 2 * self.k :]], -1)

    def forward(self, u):
        batch, time, _ = u.shape
        state = torch.zeros(batch, self.h, self.p, self.s, dtype=u.dtype)
        angle = torch.zeros(batch, self.h, self.k, dtype=u.dtype)
        before = torch.zeros_like(state)
        ys = []
        for t in range(time):
            z, x, b, c, dt, a, trap, turn = self.in_proj(u[:, t]).split(self.sizes, -1)
            dt = F.softplus(dt + self.dt_bias)
            decay = -torch.where(a >= 0, 1 + a, 1 / (1 - a)).clamp(min=1e-4)
            alpha, weight = torch.exp(dt * decay), torch.sigmoid(trap)
            angle = angle + dt[:, :, None] * math.pi * torch.tanh(turn)[:, None]
            b = self.turned(b, self.B_norm, self.B_bias, angle)
            c = self.turned(c, self.C_norm, self.C_bias, angle)
            x = x.unflatten(-1, (self.h, 1, self.p))
            z = z.unflatten(-1, (self.h, 1, self.p))
            v = x * self.mimo_x if self.r > 1 else x
            now = torch.einsum("bhrp,bhrs->bhps", v, b)
            state = alpha[..., None, None] * (state + ((1 - weight) * dt)[..., None, None] * before)
            state = state + (weight * dt)[..., None, None] * now
            before = now
            y = torch.einsum("bhps,bhrs->bhrp", state, c) + self.D[:, None, None] * v
            if self.norm is not None:
                y = y / (y.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * self.norm.weight.reshape(self.h, 1, self.p)
            if self.r > 1:
                y = (y * F.silu(z * self.mimo_z) * self.mimo_o).sum(2)
            else:
                y = (y * F.silu(z))[:, :, 0]
            ys.append(y.flatten(1))
        return self.out_proj(torch.stack(ys, 1))


class LinearAttention(nn.Module):
    def __init__(self, width, num_heads):
        super().__init__()
        self.h = num_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (linear(width, width) for _ in range(4))

    def forward(self, u):
        q, k, v = (f(u).unflatten(-1, (self.h, -1)) for f in (self.q_proj, self.k_proj, self.v_proj))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        weights = torch.einsum("bthd,bshd->bhts", q, k).tril()
        y = torch.einsum("bhts,bshd->bthd", weights, v) / (weights.sum(-1).transpose(1, 2)[..., None] + 1e-6)
        return self.o_proj(y.flatten(2))


class Gla(nn.Module):
    def __init__(self, width, num_heads, gate_low_rank_dim):
        super().__init__()
        self.h = num_heads
        self.q_proj, self.k_proj = linear(width, width // 2), linear(width, width // 2)
        self.v_proj, self.g_proj, self.o_proj = (linear(width, width) for _ in range(3))
        self.gk_down_proj = linear(width, gate_low_rank_dim)
        self.gk_proj = linear(gate_low_rank_dim, width // 2, bias=True)
        self.g_norm = Norm(width // num_heads)

    def forward(self, u):
        heads = lambda x: x.unflatten(-1, (self.h, -1))
        q, k, v, g = (heads(f(u)) for f in (self.q_proj, self.k_proj, self.v_proj, self.g_proj))
        alpha = heads(torch.sigmoid(self.gk_proj(self.gk_down_proj(u))) ** (1 / 16))
        state = torch.zeros(u.shape[0], self.h, k.shape[-1], v.shape[-1], dtype=u.dtype)
        ys = []
        for t in range(u.shape[1]):
            state = alpha[:, t, :, :, None] * state + k[:, t, :, :, None] * v[:, t, :, None, :]
            ys.append(torch.einsum("bhs,bhsp->bhp", q[:, t], state) / math.sqrt(k.shape[-1]))
        return self.o_proj((self.g_norm(torch.stack(ys, 1)) * F.silu(g)).flatten(2))


class DeltaNet(nn.Module):
    gated = False

    def __init__(self, width, num_heads):
        super().__init__()
        self.h = num_heads
        self.s = width * 3 // 4 // num_heads if self.gated else width // num_heads
        self.p = 2 * self.s if self.gated else self.s
        keys, values = num_heads * self.s, num_heads * self.p
        self.q_proj, self.k_proj, self.v_proj = linear(width, keys), linear(width, keys), linear(width, values)
        self.b_proj = linear(width, num_heads)
        self.conv1d = Conv(2 * keys + values, 4)
        self.o_norm = Norm(self.p)
        self.o_proj = linear(values, width)
        if self.gated:
            self.g_proj, self.a_proj = linear(width, values), linear(width, num_heads)
            self.A_log, self.dt_bias = parameter(num_heads), parameter(num_heads)

    def forward(self, u):
        keys = self.h * self.s
        mixed = self.conv1d(torch.cat([self.q_proj(u), self.k_proj(u), self.v_proj(u)], -1))
        q, k, v = (x.unflatten(-1, (self.h, -1)) for x in mixed.split([keys, keys, self.h * self.p], -1))
        q, k, beta = unit(q) / math.sqrt(self.s), unit(k), torch.sigmoid(self.b_proj(u))
        decay = torch.ones_like(beta)
        if self.gated:
            decay = torch.exp(-torch.exp(self.A_log) * F.softplus(self.a_proj(u) + self.dt_bias))
        state = torch.zeros(u.shape[0], self.h, self.s, self.p, dtype=u.dtype)
        ys = []
        for t in range(u.shape[1]):
            state = decay[:, t, :, None, None] * state
            known = torch.einsum("bhs,bhsp->bhp", k[:, t], state)
            write = beta[:, t, :, None] * (v[:, t] - known)
            state = state + k[:, t, :, :, None] * write[:, :, None, :]
            ys.append(torch.einsum("bhs,bhsp->bhp", q[:, t], state))
        y = self.o_norm(torch.stack(ys, 1))
        if self.gated:
            y = y * F.silu(self.g_proj(u).unflatten(-1, (self.h, self.p)))
        return self.o_proj(y.flatten(2))


class GatedDeltaNet(DeltaNet):
    gated = True


class Layer(nn.Module):
    def __init__(self, width, name, mixer, channel):
        super().__init__()
        self.input_layernorm, self.name = Norm(width), name
        self.add_module(name, mixer)
        if channel:
            self.post_attention_layernorm, self.mlp = Norm(width), channel

    def forward(self, x):
        x = x + getattr(self, self.name)(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x)) if hasattr(self, "mlp") else x


class Model(nn.Module):
    """Called as a model of transformers is."""

    def __init__(self, spec, mixer, channel):
        super().__init__()
        width = spec["hidden_size"]
        self.embed_tokens = nn.Embedding(spec["vocab_size"], width)
        self.layers = nn.ModuleList(Layer(width, *mixer(i), channel()) for i in range(spec["num_hidden_layers"]))
        self.norm = Norm(width)

    def forward(self, input_ids, use_cache):
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x)
        mixtures = [layer.mlp for layer in self.layers if hasattr(layer, "mlp") and hasattr(layer.mlp, "rebalance")]
        logits = self.norm(x) @ self.embed_tokens.weight.T
        out = types.SimpleNamespace(logits=logits, balance=sum(mixture.balance for mixture in mixtures))
        out.rebalance = lambda: [mixture.rebalance() for mixture in mixtures]
        return out


WIDTH, INNER = 24, 32
RECURRENT = {
    "mamba3": ("mamba3", Mamba3, dict(state_size=8, head_dim=8), "swiglu"),
    "mamba3-mimo": ("mamba3", Mamba3, dict(state_size=6, head_dim=8, n_groups=2, mimo_rank=3, rope_fraction=1.0), "none"),
    "mamba3-norm": ("mamba3", Mamba3, dict(state_size=8, head_dim=8, is_outproj_norm=True), "swiglu"),
    "mamba3-mimo-norm": ("mamba3", Mamba3, dict(state_size=6, head_dim=8, mimo_rank=2, is_outproj_norm=True), "none"),
    "linear_attention": ("linear_attention", LinearAttention, dict(num_heads=3), "swiglu"),
    "gla": ("gla", Gla, dict(num_heads=3, gate_low_rank_dim=4), "swiglu"),
    "deltanet": ("deltanet", DeltaNet, dict(num_heads=3), "swiglu"),
    "gdn": ("gated_deltanet", GatedDeltaNet, dict(num_heads=3), "swiglu"),
}


def recurrent(kind, mixer, table, channel):
    """The specification, the mixer of a layer with its name, and the channel mixer."""
    spec = {"pattern": [kind], "channel": channel, "position": "none", "tie_word_embeddings": True, kind: table}
    return spec, lambda layer: ("mixer", mixer(WIDTH, **table)), lambda: Mlp(WIDTH, INNER) if channel == "swiglu" else None


def hydra():
    mamba, attention = dict(state_size=4), dict(num_attention_heads=3, sliding_window=5)
    spec = dict(pattern=["mamba", "attention"], mamba=mamba, attention=attention)
    mixers = lambda layer: ("self_attn", Attention(WIDTH, **attention)) if layer % 2 else ("mixer", Mamba(WIDTH, **mamba))
    return spec, mixers, lambda: Mlp(WIDTH, INNER)


def trident(kind):
    attention = dict(num_attention_heads=4, num_key_value_heads=2)
    spec = dict(ternary=kind, hidden_size=32, attention=attention)
    ternary = lambda *sizes: Ternary(*sizes, eight=kind == "a8")
    return spec, lambda layer: ("self_attn", Attention(32, linear=ternary, **attention)), lambda: Mlp(32, INNER, ternary)


def chimera(attention, **moe):
    moe = dict(num_experts=6, moe_intermediate_size=8) | moe
    spec = dict(channel="moe", hidden_size=32, attention=attention | dict(differential=True), moe=moe)
    return spec, lambda layer: ("self_attn", Differential(32, layer, **attention)), lambda: Experts(32, moe)


MODELS = {name: (lambda model=model: recurrent(*model)) for name, model in RECURRENT.items()} | {
    "hydra": hydra,
    "trident": lambda: trident("a16"),
    "trident-a8": lambda: trident("a8"),
    "chimera": lambda: chimera(dict(num_attention_heads=4), num_experts_per_tok=2, router_aux_loss_coef=0.01),
    "chimera-sequences": lambda: chimera(
        dict(num_attention_heads=8, num_key_value_heads=4),
        num_experts_per_tok=3,
        num_shared_experts=1,
        router="sigmoid",
        norm_topk_prob=True,
        router_aux_loss_coef=0.05,
        seq_aux=True,
        bias_update_speed=0.02,
    ),
}


# Norms of heads whose values are near zero: gradients rounded to f32 move a loss by 6e-4 here, and with other seeds by more.
WITHOUT_LOSSES = ["mamba3-norm"]


def make(name, seed):
    differing, mixer, channel = MODELS[name]()
    spec = dict(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        intermediate_size=INNER,
    )
    spec |= differing | dict(tie_word_embeddings=True)
    random = torch.Generator().manual_seed(seed)
    model = Model(spec, mixer, channel)
    for path, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=random)
        is_norm = value.dim() == 1 and path.endswith(("norm.weight", "subln.weight"))
        value.data = 1 + 0.2 * noise if is_norm else 0.3 * noise
    folder = os.path.join(FOLDER, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    config = dict(model_type="cupola", architectures=["CupolaForCausalLM"], spec=spec)
    with open(os.path.join(folder, "config.json"), "w") as file:
        file.write(json.dumps(config, indent=2) + "\n")
    tensors = {path: value.detach().clone() for path, value in model.state_dict().items()}
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    model = model.double()
    tokens = torch.randint(VOCABULARY, (2, 19), generator=random)
    batches = torch.randint(VOCABULARY, (STEPS, 3, 13), generator=random)
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits
        text = greedy(model, tokens[0], 32)
    expected = dict(tokens=tokens, logits=logits.float(), greedy=text)
    if name not in WITHOUT_LOSSES:
        expected |= dict(batches=batches, losses=train(model, batches))
    save_file(expected, os.path.join(folder, "expected.safetensors"))


def main():
    for name in sys.argv[1:] or list(MODELS):
        # The first seed of the name's own whose text has no near ties.
        for attempt in range(100):
            try:
                make(name, zlib.crc32(name.encode()) + attempt)
            except AssertionError as reason:
                print(f"{name}: {reason}, next seed")
                continue
            break
        size = sum(entry.stat().st_size for entry in os.scandir(os.path.join(FOLDER, name)))
        assert size < 1 << 20, f"{name}: {size} bytes"
        print(f"{name}: {size} bytes")


if __name__ == "__main__":
    main()
