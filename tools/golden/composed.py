"""Parts of the twins that are put together from published ones: attention in a window, the difference of two attentions
(arXiv:2410.05258), a mixture of experts by a loop over all of them (arXiv:2401.04088, arXiv:2405.04434), weights of three values
(arXiv:2402.17764), Mamba token by token (arXiv:2312.00752). Scores are whole matrices, so that nothing is shared with the code that
they prove.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def parameter(*shape):
    return nn.Parameter(torch.zeros(*shape))


def linear(inputs, outputs, bias=False):
    return nn.Linear(inputs, outputs, bias=bias)


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = parameter(width)

    def forward(self, x):
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * self.weight


class Ternary(nn.Linear):
    """g clip(round(W / g), -1, 1) with g the mean of |W|; gradients pass by the rounding. Inputs as they are or, with `eight`,
    normalised and rounded to 8 bits by each token's largest value."""

    def __init__(self, inputs, outputs, bias=False, eight=False):
        super().__init__(inputs, outputs, bias=bias)
        self.eight = eight

    def forward(self, x):
        scale = self.weight.abs().mean()
        rounded = (self.weight / scale).round().clamp(-1, 1) * scale
        weight = self.weight + (rounded - self.weight).detach()
        if self.eight:
            x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
            step = x.abs().amax(-1, keepdim=True) / 127
            x = x + ((x / step).round() * step - x).detach()
        return F.linear(x, weight, self.bias)


class Mlp(nn.Module):
    def __init__(self, width, inner, linear=linear):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = linear(width, inner), linear(width, inner), linear(inner, width)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def turned(x):
    """[B, T, H, Dh], each head's halves turned by the token's position."""
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    angles = (torch.arange(x.shape[1], dtype=x.dtype)[:, None] * rates)[:, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


class Attention(nn.Module):
    def __init__(self, width, num_attention_heads, num_key_value_heads=None, sliding_window=None, linear=linear):
        super().__init__()
        self.h, self.window = num_attention_heads, sliding_window
        self.shared = num_key_value_heads or num_attention_heads
        self.dim = width // num_attention_heads
        self.q_proj, self.o_proj = linear(width, width), linear(width, width)
        self.k_proj, self.v_proj = linear(width, self.shared * self.dim), linear(width, self.shared * self.dim)

    def projected(self, u):
        q, k, v = (f(u).unflatten(-1, (-1, self.dim)) for f in (self.q_proj, self.k_proj, self.v_proj))
        share = self.h // self.shared
        return turned(q), turned(k).repeat_interleave(share, 2), v, share

    def weights(self, q, k):
        """[B, H, T, T] from [B, T, H, Dh]."""
        time = q.shape[1]
        ages = torch.arange(time)[:, None] - torch.arange(time)
        seen = (ages >= 0) & (ages < (self.window or time))
        scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(self.dim)
        return scores.masked_fill(~seen, -math.inf).softmax(-1)

    def forward(self, u):
        q, k, v, share = self.projected(u)
        y = torch.einsum("bhts,bshd->bthd", self.weights(q, k), v.repeat_interleave(share, 2))
        return self.o_proj(y.flatten(2))


class Differential(Attention):
    """Heads 2i and 2i + 1 are a pair with one value, twice as wide."""

    def __init__(self, width, layer, num_attention_heads, num_key_value_heads=None):
        super().__init__(width, num_attention_heads, num_key_value_heads)
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (parameter(self.dim) for _ in range(4))
        self.subln = Norm(2 * self.dim)
        # Layers count from 1 in the paper.
        self.first = 0.8 - 0.6 * math.exp(-0.3 * layer)

    def forward(self, u):
        pairs = lambda x: x.unflatten(2, (-1, 2))
        q, k, v, share = self.projected(u)
        # Pairs of queries share pairs of keys, so that keys are repeated in pairs.
        k = pairs(k[:, :, ::share]).repeat_interleave(share, 2)
        q, v = pairs(q), pairs(v).flatten(3).repeat_interleave(share, 2)
        one, two = (self.weights(q[:, :, :, i], k[:, :, :, i]) for i in range(2))
        factor = (self.lambda_q1 @ self.lambda_k1).exp() - (self.lambda_q2 @ self.lambda_k2).exp() + self.first
        y = self.subln(torch.einsum("bhts,bshd->bthd", one - factor * two, v)) * (1 - self.first)
        return self.o_proj(y.flatten(2))


class Router(nn.Module):
    def __init__(self, width, experts, corrected):
        super().__init__()
        self.weight = parameter(experts, width)
        if corrected:
            self.register_buffer("e_score_correction_bias", torch.zeros(experts))


class Experts(nn.Module):
    """All experts compute all tokens. `balance` is what the last call costs: E times the sum over experts of the part of the rows
    that it gets times its mean share of the scores, over each sequence by itself with `seq_aux`."""

    def __init__(self, width, spec):
        super().__init__()
        self.spec, inner = spec, spec["moe_intermediate_size"]
        self.gate = Router(width, spec["num_experts"], "bias_update_speed" in spec)
        self.experts = nn.ModuleList(Mlp(width, inner) for _ in range(spec["num_experts"]))
        shared = spec.get("num_shared_experts", 0)
        if shared:
            self.shared_experts = Mlp(width, shared * inner)

    def forward(self, x):
        spec, (batch, time, _) = self.spec, x.shape
        count, most = spec["num_experts"], spec["num_experts_per_tok"]
        logits = x @ self.gate.weight.T
        scores = logits.sigmoid() if spec.get("router") == "sigmoid" else logits.softmax(-1)
        corrected = scores + getattr(self.gate, "e_score_correction_bias", 0.0)
        chosen = torch.zeros_like(scores).scatter(-1, corrected.topk(most).indices, 1.0)
        weights = scores * chosen
        weights = weights / weights.sum(-1, keepdim=True)
        shares = scores / scores.sum(-1, keepdim=True)
        rows = (batch, time) if spec.get("seq_aux") else (1, batch * time)
        load = chosen.reshape(*rows, count).mean(1) * count / most
        self.balance = spec["router_aux_loss_coef"] * (load * shares.reshape(*rows, count).mean(1)).sum(-1).mean()
        self.sent = chosen.detach().sum((0, 1))
        y = sum(weights[..., e, None] * expert(x) for e, expert in enumerate(self.experts))
        return y + self.shared_experts(x) if hasattr(self, "shared_experts") else y

    def rebalance(self):
        """After a step of a training: the bias falls for experts that had more than their share, and rises for the others."""
        speed = self.spec.get("bias_update_speed")
        if speed:
            self.gate.e_score_correction_bias -= speed * torch.sign(self.sent - self.sent.mean())


class Conv(nn.Module):
    """Each channel with a kernel of its own, looking back only, and SiLU."""

    def __init__(self, channels, taps, bias=False):
        super().__init__()
        self.weight = parameter(channels, 1, taps)
        self.bias = parameter(channels) if bias else None

    def forward(self, x):
        taps = self.weight.shape[-1]
        x = F.pad(x, (0, 0, taps - 1, 0))
        time = x.shape[1] - taps + 1
        y = sum(x[:, k : k + time] * self.weight[:, 0, k] for k in range(taps))
        return F.silu(y if self.bias is None else y + self.bias)


class Mamba(nn.Module):
    def __init__(self, width, state_size):
        super().__init__()
        inner, rank = 2 * width, -(-width // 16)
        self.sizes = [rank, state_size, state_size]
        self.in_proj = linear(width, 2 * inner)
        self.conv1d = Conv(inner, 4, bias=True)
        self.x_proj = linear(inner, sum(self.sizes))
        self.dt_proj = linear(rank, inner, bias=True)
        self.A_log, self.D = parameter(inner, state_size), parameter(inner)
        self.out_proj = linear(inner, width)

    def forward(self, u):
        x, z = self.in_proj(u).chunk(2, -1)
        x = self.conv1d(x)
        dt, b, c = self.x_proj(x).split(self.sizes, -1)
        dt, a = F.softplus(self.dt_proj(dt)), -self.A_log.exp()
        state, ys = torch.zeros(*x.shape[:1], *a.shape, dtype=x.dtype), []
        for t in range(x.shape[1]):
            step = dt[:, t, :, None]
            state = torch.exp(step * a) * state + step * b[:, t, None] * x[:, t, :, None]
            ys.append((state * c[:, t, None]).sum(-1) + self.D * x[:, t])
        return self.out_proj(torch.stack(ys, 1) * F.silu(z))
