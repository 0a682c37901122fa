"""Recurrences of state-space models, linear attention and the delta rule, token by token as their papers write them.

Writes crates/tensor/tests/golden/{selective_scan,ssd,gated_linear_attention,gated_delta_rule,angles}.safetensors; see
common.py for the names. Sequences of `lengths` tokens lie one behind the other in N; S is a state's or key's width, P a value's.

    selective_scan  in.x, in.dt [N, D], in.a [D, S], in.b, in.c [N, S], optionally in.skip [D]; in.state [sequences, D, S]
    ssd             in.q, in.k [N, G, S] or [N, R, G, S], in.v [N, H, P] or [N, R, H, P], optionally in.log_decay, in.scale,
                    in.diagonal [N, H]; in.state [sequences, H, S, P]
    gated_linear_attention  in.q, in.k, in.log_decay [N, H, S], in.v [N, H, P]; in.state [sequences, H, S, P]
    gated_delta_rule  in.q, in.k [N, G, S], in.v [N, H, P], in.beta and optionally in.log_decay [N, H]; in.state as for ssd

    angles          in.delta [N, H, K], in.state [sequences, H, K], in.x [N, R, H, S]: x with its pairs (2 k, 2 k + 1) turned by the sums
                    of delta; out.last within half a turn of zero

    out.y, shaped as x or v, and, where there is a state, out.last, the states after each sequence.

Formulas: Mamba (arXiv:2312.00752) equation 2 with the simplified discretisation of its code; Mamba-2 (arXiv:2405.21060)
section 3; Mamba-3's separate factor of a token's own write; GLA (arXiv:2312.06635) equation 3; DeltaNet (arXiv:2406.06484)
section 2.2 and Gated DeltaNet (arXiv:2412.06464) equation 10, which decays before it reads.
"""

import torch

from common import TENSOR, Golden


def over_sequences(lengths, state, empty, step, tokens):
    """y of all tokens and the states after each sequence; step(state, t) gives the next state and y."""
    ys, last, t = [], [], 0
    for index, length in enumerate(lengths):
        s = state[index] if state is not None else empty
        for t in range(t, t + length):
            s, y = step(s, t)
            ys.append(y)
        t = sum(lengths[: index + 1])
        last.append(s)
    result = {"y": torch.stack(ys)}
    if state is not None:
        result["last"] = torch.stack(last)
    return result


def selective_scan(lengths, x, dt, a, b, c, skip=None, state=None):
    def step(h, t):
        h = torch.exp(dt[t][:, None] * a) * h + dt[t][:, None] * x[t][:, None] * b[t][None, :]
        y = h @ c[t]
        return h, y + skip * x[t] if skip is not None else y

    return over_sequences(lengths, state, torch.zeros_like(a), step, x.shape[0])


def heads_of(x, heads):
    return x.repeat_interleave(heads // x.shape[-2], dim=-2)


def ssd(lengths, q, k, v, log_decay=None, scale=None, diagonal=None, state=None):
    single = q.dim() == 3
    if single:
        q, k, v = q[:, None], k[:, None], v[:, None]
    n, _, heads, values = v.shape
    q, k = heads_of(q, heads), heads_of(k, heads)
    scale = scale if scale is not None else torch.ones(n, heads)
    diagonal = diagonal if diagonal is not None else scale

    def step(s, t):
        if log_decay is not None:
            s = torch.exp(log_decay[t])[:, None, None] * s
        write = torch.einsum("rhs,rhp->hsp", k[t], v[t])
        y = torch.einsum("rhs,hsp->rhp", q[t], s + diagonal[t][:, None, None] * write)
        return s + scale[t][:, None, None] * write, y

    result = over_sequences(lengths, state, torch.zeros(heads, q.shape[-1], values), step, n)
    if single:
        result["y"] = result["y"][:, 0]
    return result


def gated_linear_attention(lengths, q, k, v, log_decay, state=None):
    def step(s, t):
        s = torch.exp(log_decay[t])[:, :, None] * s + k[t][:, :, None] * v[t][:, None, :]
        return s, torch.einsum("hs,hsp->hp", q[t], s)

    return over_sequences(lengths, state, torch.zeros(*q.shape[1:], v.shape[-1]), step, q.shape[0])


def gated_delta_rule(lengths, q, k, v, beta, log_decay=None, state=None):
    n, heads, values = v.shape
    q, k = heads_of(q, heads), heads_of(k, heads)

    def step(s, t):
        if log_decay is not None:
            s = torch.exp(log_decay[t])[:, None, None] * s
        known = torch.einsum("hs,hsp->hp", k[t], s)
        s = s + k[t][:, :, None] * (beta[t][:, None] * (v[t] - known))[:, None, :]
        return s, torch.einsum("hs,hsp->hp", q[t], s)

    return over_sequences(lengths, state, torch.zeros(heads, q.shape[-1], values), step, n)


def angles(lengths, delta, x, state=None):
    sums, last, start = [], [], 0
    for index, length in enumerate(lengths):
        own = delta[start : start + length].cumsum(0) + (state[index] if state is not None else 0)
        sums.append(own)
        last.append(own[-1] if length else state[index] if state is not None else torch.zeros_like(delta[0]))
        start += length
    angle = torch.cat(sums)[:, None]
    pairs = angle.shape[-1]
    a, b = x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
    turned = torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1).flatten(-2)
    result = {"y": torch.cat([turned, x[..., 2 * pairs :]], -1)}
    if state is not None:
        last = torch.stack(last)
        result["last"] = last - 2 * torch.pi * (last / (2 * torch.pi)).round().detach()
    return result


def record():
    with Golden(TENSOR, "angles") as golden:
        for case, lengths, (r, h, s, k), state in (("full", [7, 0, 3], (2, 2, 7, 3), True), ("plain", [30], (1, 1, 4, 2), False)):
            n = sum(lengths)
            inputs = {"delta": golden.normal(n, h, k), "x": golden.normal(n, r, h, s)}
            if state:
                inputs["state"] = golden.normal(len(lengths), h, k)
            golden.case(case, lambda **a: angles(lengths, **a), inputs, lengths=lengths)
    with Golden(TENSOR, "selective_scan") as golden:
        for case, lengths, d, s, full in (
            ("full", [7, 0, 3, 1], 5, 4, True),
            ("plain", [6], 3, 2, False),
            ("long", [37], 2, 3, True),
        ):
            n = sum(lengths)
            inputs = {
                "x": golden.normal(n, d),
                "dt": golden.uniform(n, d, low=0.01, high=0.7),
                "a": -golden.uniform(d, s, low=0.1, high=2.0),
                "b": golden.normal(n, s),
                "c": golden.normal(n, s),
            }
            if full:
                inputs["skip"] = golden.normal(d)
                inputs["state"] = golden.normal(len(lengths), d, s)
            golden.case(case, lambda **a: selective_scan(lengths, **a), inputs, lengths=lengths)
    with Golden(TENSOR, "ssd") as golden:
        for case, lengths, (r, g, h, s, p), factors in (
            ("full", [7, 0, 3, 1], (1, 2, 4, 3, 2), ("log_decay", "scale", "diagonal")),
            ("scale", [5], (1, 1, 5, 2, 3), ("log_decay", "scale")),
            ("linear_attention", [6, 2], (1, 2, 2, 3, 2), ()),
            ("several_rows", [4, 3], (3, 1, 2, 2, 2), ("log_decay", "scale", "diagonal")),
            ("long", [70], (1, 1, 1, 2, 2), ("log_decay", "scale", "diagonal")),
        ):
            n, rows = sum(lengths), () if r == 1 else (r,)
            inputs = {
                "q": golden.normal(n, *rows, g, s),
                "k": golden.normal(n, *rows, g, s),
                "v": golden.normal(n, *rows, h, p),
            }
            for factor in factors:
                low, high = (-1.5, 0.0) if factor == "log_decay" else (0.0, 1.0)
                inputs[factor] = golden.uniform(n, h, low=low, high=high)
            if factors:
                inputs["state"] = golden.normal(len(lengths), h, s, p)
            golden.case(case, lambda **a: ssd(lengths, **a), inputs, lengths=lengths)
    with Golden(TENSOR, "gated_linear_attention") as golden:
        for case, lengths, (h, s, p), state in (
            ("full", [7, 0, 3, 1], (2, 3, 2), True),
            ("plain", [20], (1, 4, 3), False),
            ("long", [70], (1, 2, 2), True),
        ):
            n = sum(lengths)
            inputs = {
                "q": golden.normal(n, h, s),
                "k": golden.normal(n, h, s),
                "v": golden.normal(n, h, p),
                "log_decay": golden.uniform(n, h, s, low=-1.5, high=0.0),
            }
            if state:
                inputs["state"] = golden.normal(len(lengths), h, s, p)
            golden.case(case, lambda **a: gated_linear_attention(lengths, **a), inputs, lengths=lengths)
    with Golden(TENSOR, "gated_delta_rule") as golden:
        for case, lengths, (g, h, s, p), gated in (
            ("gated", [7, 0, 3, 1], (2, 4, 3, 2), True),
            ("delta", [20], (2, 2, 4, 3), False),
            ("long", [70], (1, 1, 2, 2), True),
        ):
            n = sum(lengths)
            keys = golden.normal(n, g, s)
            inputs = {
                "q": golden.normal(n, g, s),
                "k": keys / keys.norm(dim=-1, keepdim=True),
                "v": golden.normal(n, h, p),
                "beta": golden.uniform(n, h),
            }
            if gated:
                inputs["log_decay"] = golden.uniform(n, h, low=-1.5, high=0.0)
                inputs["state"] = golden.normal(len(lengths), h, s, p)
            golden.case(case, lambda **a: gated_delta_rule(lengths, **a), inputs, lengths=lengths)


if __name__ == "__main__":
    record()
