"""What PyTorch's initialisers and layers draw from.

Writes crates/nn/tests/golden/init.safetensors; see common.py for the names. Nobody else's random numbers can be
repeated bit for bit, so a case holds a distribution: attributes shape, fan_in, fan_out, distribution = "uniform"
(bound: half its width around 0, or low and high) | "normal" (mean, std, and low, high where it is cut off) |
"constant" (value), and the initialiser's own options. They come from PyTorch's formulas, and are checked here against
a large sample of what PyTorch draws.

    out.moments = [mean, std, min, max] of that sample, of the size given as `sample`
    out.y       for initialisers without chance: eye, dirac

Cases of layers are called LAYER_PARAMETER, such as linear_weight.
"""

import math

import torch
from torch import nn
from torch.nn import init

from common import NN, Golden

SHAPES = {"linear": (40, 60), "conv": (16, 12, 3, 3)}


def fans(shape):
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def record(golden, case, draw, shape, distribution, **attributes):
    """`draw(tensor)` fills a tensor; it is sampled until the moments are known to about half a percent."""
    torch.manual_seed(golden.random.initial_seed())
    repeats = max(1, 60_000 // math.prod(shape))
    sample = torch.cat([draw(torch.empty(shape)).detach().flatten() for _ in range(repeats)])
    mean, std = sample.mean().item(), sample.std().item()
    if distribution == "uniform":
        low, high = (
            attributes.get("low", -attributes.get("bound", 0.0)),
            attributes.get("high", attributes.get("bound", 0.0)),
        )
        width = high - low
        assert low - 1e-12 <= sample.min() and sample.max() <= high + 1e-12, case
        assert sample.min() < low + width * 1e-3 and sample.max() > high - width * 1e-3, case
        assert abs(mean - (low + high) / 2) < width * 5e-3 and abs(std / (width / math.sqrt(12)) - 1) < 1e-2, case
    elif distribution == "normal" and "low" not in attributes:
        assert abs(mean - attributes["mean"]) < attributes["std"] * 0.02 and abs(std / attributes["std"] - 1) < 0.02, (
            case
        )
    elif distribution == "normal":
        assert attributes["low"] <= sample.min() and sample.max() <= attributes["high"], case
    elif distribution == "constant":
        assert (sample == attributes["value"]).all(), case
    fan = dict(zip(("fan_in", "fan_out"), fans(shape))) if len(shape) >= 2 else {}
    golden.cases[case] = {
        "shape": list(shape),
        "distribution": distribution,
        "sample": sample.numel(),
        **fan,
        **attributes,
    }
    golden.put(case, "out", "moments", torch.stack([sample.mean(), sample.std(), sample.min(), sample.max()]))


def initialisers(golden):
    for place, shape in SHAPES.items():
        fan_in, fan_out = fans(shape)
        for gain_of, slope in (("linear", None), ("relu", None), ("leaky_relu", 0.2), ("tanh", None), ("selu", None)):
            gain = init.calculate_gain(gain_of, slope)
            for mode, fan in (("fan_in", fan_in), ("fan_out", fan_out)):
                options = {"nonlinearity": gain_of, "a": slope or 0.0, "mode": mode}
                std = gain / math.sqrt(fan)
                record(
                    golden,
                    f"kaiming_uniform_{place}_{gain_of}_{mode}",
                    lambda t: init.kaiming_uniform_(t, **options),
                    shape,
                    "uniform",
                    bound=math.sqrt(3) * std,
                    **options,
                )
                record(
                    golden,
                    f"kaiming_normal_{place}_{gain_of}_{mode}",
                    lambda t: init.kaiming_normal_(t, **options),
                    shape,
                    "normal",
                    mean=0.0,
                    std=std,
                    **options,
                )
        for gain in (1.0, 5 / 3):
            suffix = f"{place}_{'1' if gain == 1 else 'tanh'}"
            std = gain * math.sqrt(2 / (fan_in + fan_out))
            record(
                golden,
                f"xavier_uniform_{suffix}",
                lambda t: init.xavier_uniform_(t, gain),
                shape,
                "uniform",
                bound=math.sqrt(3) * std,
                gain=gain,
            )
            record(
                golden,
                f"xavier_normal_{suffix}",
                lambda t: init.xavier_normal_(t, gain),
                shape,
                "normal",
                mean=0.0,
                std=std,
                gain=gain,
            )
    shape = SHAPES["linear"]
    record(golden, "uniform", lambda t: init.uniform_(t, -0.5, 2.0), shape, "uniform", low=-0.5, high=2.0)
    record(golden, "normal", lambda t: init.normal_(t, 1.0, 0.3), shape, "normal", mean=1.0, std=0.3)
    record(
        golden,
        "trunc_normal",
        lambda t: init.trunc_normal_(t, 0.5, 0.5, -0.5, 1.0),
        shape,
        "normal",
        mean=0.5,
        std=0.5,
        low=-0.5,
        high=1.0,
    )
    record(golden, "constant", lambda t: init.constant_(t, 0.25), shape, "constant", value=0.25)
    for case, shape in (("orthogonal_tall", (9, 4)), ("orthogonal_wide", (4, 9)), ("orthogonal_conv", (4, 3, 2, 2))):
        drawn = init.orthogonal_(torch.empty(shape), 1.5, generator=golden.random).flatten(1)
        small = drawn @ drawn.T if drawn.shape[0] <= drawn.shape[1] else drawn.T @ drawn
        assert torch.allclose(small, 2.25 * torch.eye(len(small))), case
        golden.cases[case] = {"shape": list(shape), "gain": 1.5, "distribution": "orthogonal"}
        golden.put(case, "out", "gram", small)
    # About a tenth of every column is zero, the rest normal.
    drawn = init.sparse_(torch.empty(20, 30), 0.1, 0.01, generator=golden.random)
    golden.cases["sparse"] = {"shape": [20, 30], "sparsity": 0.1, "std": 0.01, "distribution": "sparse"}
    golden.put("sparse", "out", "zeros_per_column", (drawn == 0).sum(0))
    golden.cases["eye"] = {"shape": [3, 5]}
    golden.put("eye", "out", "y", init.eye_(torch.empty(3, 5)))
    for groups in (1, 2):
        golden.cases[f"dirac_{groups}"] = {"shape": [4, 3, 3, 3], "groups": groups}
        golden.put(f"dirac_{groups}", "out", "y", init.dirac_(torch.empty(4, 3, 3, 3), groups))


def layers(golden):
    def of(case, make, name, distribution, **attributes):
        parameter = dict(make().named_parameters())[name]
        record(
            golden,
            case,
            lambda _: dict(make().named_parameters())[name],
            tuple(parameter.shape),
            distribution,
            **attributes,
        )

    for case, make, fan in (
        ("linear", lambda: nn.Linear(60, 40), 60),
        ("conv1d", lambda: nn.Conv1d(12, 16, 5), 60),
        ("conv2d", lambda: nn.Conv2d(12, 16, 3, groups=2), 54),
        ("conv_transpose2d", lambda: nn.ConvTranspose2d(12, 16, 3), 144),
    ):
        # kaiming_uniform with a = sqrt(5) comes to 1 / sqrt(fan_in), for weight and bias; PyTorch takes the
        # second dimension times the field for fan_in, also where the layer is transposed.
        of(f"{case}_weight", make, "weight", "uniform", bound=1 / math.sqrt(fan))
        of(f"{case}_bias", make, "bias", "uniform", bound=1 / math.sqrt(fan))
    of("embedding_weight", lambda: nn.Embedding(50, 20), "weight", "normal", mean=0.0, std=1.0)
    for case, make in (
        ("lstm", lambda: nn.LSTM(12, 25)),
        ("gru", lambda: nn.GRU(12, 25)),
        ("rnn", lambda: nn.RNN(12, 25)),
    ):
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            of(f"{case}_{name}", make, name, "uniform", bound=1 / math.sqrt(25))
    # The three projections are drawn as one matrix of shape [3 D, D].
    of(
        "multi_head_attention_in_proj_weight",
        lambda: nn.MultiheadAttention(32, 4),
        "in_proj_weight",
        "uniform",
        bound=math.sqrt(6 / (4 * 32)),
    )
    of("multi_head_attention_in_proj_bias", lambda: nn.MultiheadAttention(32, 4), "in_proj_bias", "constant", value=0.0)
    of(
        "multi_head_attention_out_proj_weight",
        lambda: nn.MultiheadAttention(32, 4),
        "out_proj.weight",
        "uniform",
        bound=1 / math.sqrt(32),
    )
    of(
        "multi_head_attention_out_proj_bias",
        lambda: nn.MultiheadAttention(32, 4),
        "out_proj.bias",
        "constant",
        value=0.0,
    )
    of("layer_norm_weight", lambda: nn.LayerNorm(32), "weight", "constant", value=1.0)
    of("layer_norm_bias", lambda: nn.LayerNorm(32), "bias", "constant", value=0.0)
    # Every matrix of the sequence-to-sequence Transformer is drawn anew, xavier_uniform.
    make = lambda: nn.Transformer(32, 4, 1, 1, 48)
    of("transformer_linear1_weight", make, "encoder.layers.0.linear1.weight", "uniform", bound=math.sqrt(6 / (32 + 48)))
    of(
        "transformer_out_proj_weight",
        make,
        "decoder.layers.0.multihead_attn.out_proj.weight",
        "uniform",
        bound=math.sqrt(6 / 64),
    )


if __name__ == "__main__":
    with Golden(NN, "init") as golden:
        initialisers(golden)
        layers(golden)
