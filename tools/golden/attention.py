"""Scaled dot-product attention.

Writes crates/tensor/tests/golden/{attention,attention_masks}.safetensors; see common.py for the names.

    in.q [B, H, Tq, Dh], in.k [B, Hkv, Tk, Dh], in.v [B, Hkv, Tk, Dv]; out.y [B, H, Tq, Dv]
    in.mask (bool, true where a key may be seen) or in.bias (added to the scores); both broadcast to [B, H, Tq, Tk]

Attributes: scale (null: 1 / sqrt(Dh)), causal (query i sees keys up to i + Tk - Tq, so that the last query sees all),
window (null, or how many keys a query sees at most, itself included), alibi (each head's slope; the score falls by
slope times distance), lengths (null, or the lengths of the sequences that are packed one behind the other in the
first of B; none sees another).
"""

import torch
import torch.nn.functional as F

from common import TENSOR, Golden


def visible(queries, keys, causal, window, lengths):
    query = torch.arange(queries)[:, None] + keys - queries
    key = torch.arange(keys)[None, :]
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if causal:
        seen &= key <= query
    if window is not None:
        seen &= key > query - window
    if lengths is not None:
        number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        seen &= number[:, None] == number[None, :]
    return seen, query - key


def attend(q, k, v, mask=None, bias=None, scale=None, causal=False, window=None, alibi=None, lengths=None):
    seen, distance = visible(q.shape[2], k.shape[2], causal, window, lengths)
    if mask is not None:
        seen = seen & mask
    scores = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
    if alibi is not None:
        scores = scores - torch.tensor(alibi)[:, None, None] * distance
    if bias is not None:
        scores = scores + bias
    return F.scaled_dot_product_attention(q, k, v, attn_mask=scores, scale=scale, enable_gqa=q.shape[1] != k.shape[1])


def recorder(golden):
    def case(name, shape=(1, 2, 5, 5, 4), kv_heads=None, value_width=None, mask=None, bias=None, **options):
        batch, heads, queries, keys, width = shape
        kv_heads = kv_heads or heads
        inputs = {
            "q": golden.normal(batch, heads, queries, width),
            "k": golden.normal(batch, kv_heads, keys, width),
            "v": golden.normal(batch, kv_heads, keys, value_width or width),
        }
        if mask is not None:
            inputs["mask"] = mask
        if bias is not None:
            inputs["bias"] = bias
        attributes = {"scale": None, "causal": False, "window": None, "alibi": None, "lengths": None, **options}
        golden.case(name, lambda **a: attend(**a, **options), inputs, **attributes)

    return case


def plain():
    with Golden(TENSOR, "attention") as golden:
        case = recorder(golden)
        case("full", shape=(2, 2, 5, 5, 4))
        case("causal", causal=True)
        case("scale", causal=True, scale=0.3)
        case("cross", shape=(2, 2, 3, 7, 4))
        case("causal_last_queries", shape=(2, 2, 3, 7, 4), causal=True)
        case("one_query", shape=(2, 2, 1, 7, 4), causal=True)
        case("grouped", shape=(2, 4, 5, 5, 4), kv_heads=2, causal=True)
        case("one_kv_head", shape=(1, 3, 5, 5, 4), kv_heads=1)
        case("wider_values", value_width=6, causal=True)
        case("blocks", shape=(1, 1, 67, 67, 3), causal=True)
        # PyTorch's own causal flag agrees where both lengths are equal.
        q, k, v = (golden.normal(1, 2, 5, 4) for _ in range(3))
        theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        assert torch.allclose(theirs, attend(q, k, v, causal=True), rtol=1e-14)


def masks():
    with Golden(TENSOR, "attention_masks") as golden:
        case = recorder(golden)
        mask = golden.uniform(2, 1, 5, 5) < 0.6
        mask[..., 0] = True
        case("mask", shape=(2, 2, 5, 5, 4), mask=mask)
        case("causal_mask", shape=(2, 2, 5, 5, 4), mask=mask, causal=True)
        case("bias", bias=golden.normal(1, 2, 5, 5))
        case("window", shape=(1, 2, 9, 9, 4), causal=True, window=3)
        case("window_1", shape=(1, 1, 4, 4, 4), causal=True, window=1)
        case("alibi", shape=(1, 4, 6, 6, 4), causal=True, alibi=[0.25, 0.0625, 0.015625, 0.00390625])
        case("packed", shape=(1, 2, 9, 9, 4), lengths=[3, 1, 5])
        case("packed_causal", shape=(1, 2, 9, 9, 4), causal=True, lengths=[3, 1, 5])
        case(
            "packed_causal_window_grouped", shape=(1, 4, 9, 9, 4), kv_heads=2, causal=True, window=2, lengths=[3, 1, 5]
        )


if __name__ == "__main__":
    plain()
    masks()
