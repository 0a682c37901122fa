"""Attention layers, Transformer layers and the sequence-to-sequence Transformer, position encodings.

Writes crates/nn/tests/golden/LAYER.safetensors; see common.py for the names. Parameters have PyTorch's names, all
inputs are [B, T, D] (batch_first), dropout is 0.

    multi_head_attention        in.query, and in.key, in.value where they differ; embed_dim, num_heads, bias, causal,
                                lengths
    transformer_encoder_layer   in.x; d_model, nhead, dim_feedforward, activation, norm_first, lengths
    transformer_decoder_layer   in.x, in.memory; as above; causal over x; memory_lengths
    transformer_encoder         in.x; as the layer, and num_layers; a final norm
    transformer                 in.src, in.tgt; as the layers, num_encoder_layers, num_decoder_layers; causal over
                                tgt; lengths of src
    instance_norm_running       in.x, in.weight, in.bias, in.running_mean, in.running_var; training, momentum, eps;
                                out.running_mean, out.running_var after the call
    sinusoidal_positions        out.y [T, D], the table of "Attention is all you need", section 3.5

lengths (null: all full) are the sequences' valid prefixes; out.y is zero beyond them, and so is what flows back from
there.
"""

import torch
from torch import nn

from common import NN, Golden

B, T, S, D, HEADS, FF = 2, 5, 4, 8, 2, 12


def padding(lengths, steps):
    """True where a position is padding, as PyTorch has it; None when there is none."""
    return None if lengths is None else torch.arange(steps)[None, :] >= torch.tensor(lengths)[:, None]


def valid(y, lengths):
    return y if lengths is None else y.masked_fill(padding(lengths, y.shape[1])[:, :, None], 0.0)


def causal_mask(steps):
    return torch.ones(steps, steps, dtype=torch.bool).triu(1)


def attention():
    with Golden(NN, "multi_head_attention") as golden:
        for case, bias, causal, cross, lengths in (
            ("plain", True, False, False, None),
            ("without_bias", False, False, False, None),
            ("causal", True, True, False, None),
            ("cross", True, False, True, None),
            ("cross_lengths", True, False, True, [4, 2]),
            ("causal_lengths", True, True, False, [5, 3]),
        ):

            def call(module, query, key=None, value=None):
                key, value = (query, query) if key is None else (key, value)
                y, _ = module(
                    query,
                    key,
                    value,
                    key_padding_mask=padding(lengths, key.shape[1]),
                    need_weights=False,
                    attn_mask=causal_mask(T) if causal else None,
                )
                return y if cross else valid(y, lengths)

            inputs = {"query": golden.normal(B, T, D)}
            if cross:
                inputs |= {"key": golden.normal(B, S, D), "value": golden.normal(B, S, D)}
            module = nn.MultiheadAttention(D, HEADS, bias=bias, batch_first=True)
            golden.layer(
                case, module, call, inputs, embed_dim=D, num_heads=HEADS, bias=bias, causal=causal, lengths=lengths
            )


def layers():
    common = {"d_model": D, "nhead": HEADS, "dim_feedforward": FF}
    options = {"dropout": 0.0, "batch_first": True}
    with Golden(NN, "transformer_encoder_layer") as golden:
        for case, activation, norm_first, lengths in (
            ("norm_last", "relu", False, None),
            ("norm_first", "gelu", True, None),
            ("lengths", "relu", True, [5, 3]),
        ):
            module = nn.TransformerEncoderLayer(**common, **options, activation=activation, norm_first=norm_first)
            golden.layer(
                case,
                module,
                lambda module, x: valid(module(x, src_key_padding_mask=padding(lengths, T)), lengths),
                {"x": golden.normal(B, T, D)},
                **common,
                activation=activation,
                norm_first=norm_first,
                lengths=lengths,
            )
    with Golden(NN, "transformer_decoder_layer") as golden:
        for case, activation, norm_first, lengths in (
            ("norm_last", "relu", False, None),
            ("norm_first", "gelu", True, None),
            ("memory_lengths", "relu", False, [4, 2]),
        ):
            module = nn.TransformerDecoderLayer(**common, **options, activation=activation, norm_first=norm_first)
            golden.layer(
                case,
                module,
                lambda module, x, memory: module(
                    x, memory, tgt_mask=causal_mask(T), memory_key_padding_mask=padding(lengths, S)
                ),
                {"x": golden.normal(B, T, D), "memory": golden.normal(B, S, D)},
                **common,
                activation=activation,
                norm_first=norm_first,
                memory_lengths=lengths,
            )
    with Golden(NN, "transformer_encoder") as golden:
        layer = nn.TransformerEncoderLayer(**common, **options, activation="gelu", norm_first=True)
        module = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(D), enable_nested_tensor=False)
        golden.layer(
            "two_layers",
            module,
            lambda module, x: module(x),
            {"x": golden.normal(B, T, D)},
            **common,
            activation="gelu",
            norm_first=True,
            num_layers=2,
            lengths=None,
        )
    for name, norm_first in (("transformer", False), ("transformer_norm_first", True)):
        with Golden(NN, name) as golden:
            depth = {"num_encoder_layers": 1, "num_decoder_layers": 2}
            lengths = [4, 3] if norm_first else None
            module = nn.Transformer(**common, **options, **depth, activation="relu", norm_first=norm_first)
            module.encoder.enable_nested_tensor = False
            golden.layer(
                "seq2seq",
                module,
                lambda module, src, tgt: module(
                    src,
                    tgt,
                    tgt_mask=causal_mask(T),
                    src_key_padding_mask=padding(lengths, S),
                    memory_key_padding_mask=padding(lengths, S),
                ),
                {"src": golden.normal(B, S, D), "tgt": golden.normal(B, T, D)},
                **common,
                **depth,
                activation="relu",
                norm_first=norm_first,
                lengths=lengths,
            )


def instance_norm():
    with Golden(NN, "instance_norm_running") as golden:
        for case, shape, training, momentum in (
            ("train_images", (4, 3, 5, 2), True, 0.1),
            ("train_sequences", (2, 3, 9), True, 0.3),
            ("eval_images", (4, 3, 5, 2), False, 0.1),
        ):

            def call(x, weight, bias, running_mean, running_var):
                mean, var = running_mean.clone(), running_var.clone()
                y = nn.functional.instance_norm(x, mean, var, weight, bias, training, momentum, 1e-5)
                return {"y": y, "running_mean": mean.detach(), "running_var": var.detach()}

            golden.case(
                case,
                call,
                {
                    "x": golden.normal(*shape, scale=2.0, shift=1.0),
                    "weight": golden.normal(3, shift=1.0),
                    "bias": golden.normal(3),
                    "running_mean": golden.normal(3),
                    "running_var": golden.uniform(3, low=0.5, high=2.0),
                },
                without_gradient=("running_mean", "running_var"),
                training=training,
                momentum=momentum,
                eps=1e-5,
            )


def positions():
    with Golden(NN, "sinusoidal_positions") as golden:
        angles = torch.arange(50)[:, None] / 10000 ** (torch.arange(0, D, 2) / D)
        golden.case(
            "plain", lambda: torch.stack([angles.sin(), angles.cos()], -1).flatten(1), {}, max_len=50, d_model=D
        )


if __name__ == "__main__":
    attention()
    layers()
    instance_norm()
    positions()
