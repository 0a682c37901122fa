"""Convolutions and pooling.

Writes crates/tensor/tests/golden/OPERATION.safetensors; see common.py for the names. Arguments and attributes by
file:

    conv1d conv2d        in.x [B, C, ...], in.weight [out, C / groups, ...], in.bias; stride, padding, dilation,
                         groups
    conv_transpose2d     in.x, in.weight [C, out / groups, ...], in.bias; and output_padding
    causal_conv1d        in.x [B, T, C], in.weight [C, K], in.bias [C]; y_t = bias + sum_k weight_k * x_(t - K + 1 +
                         k), before x zeros; case state: in.before [B, K - 1, C] stands before x instead of zeros;
                         activation = null | "silu"
    max_pool1d max_pool2d    in.x; kernel_size, stride, padding, dilation, ceil_mode
    avg_pool1d avg_pool2d    in.x; kernel_size, stride, padding, ceil_mode, count_include_pad
    adaptive_avg_pool1d adaptive_avg_pool2d   in.x; output_size
"""

import torch
import torch.nn.functional as F

from common import TENSOR, Golden


def convolutions():
    with Golden(TENSOR, "conv1d") as golden:
        for case, shape, out, kernel, options in (
            ("plain", (2, 3, 11), 4, 3, {}),
            ("stride", (2, 3, 11), 4, 3, {"stride": 2, "padding": 1}),
            ("dilation", (2, 3, 13), 4, 3, {"dilation": 3, "padding": 2}),
            ("groups", (2, 4, 11), 6, 3, {"groups": 2, "padding": 1}),
            ("depthwise", (2, 4, 11), 4, 4, {"groups": 4, "padding": 3}),
            ("point", (2, 3, 5), 4, 1, {}),
            ("whole", (2, 3, 5), 4, 5, {}),
        ):
            convolve(golden, case, F.conv1d, shape, (out, shape[1] // options.get("groups", 1), kernel), out, options)
    with Golden(TENSOR, "conv2d") as golden:
        for case, shape, out, kernel, options in (
            ("plain", (2, 3, 6, 5), 4, (3, 3), {}),
            ("padding", (1, 3, 7, 6), 4, (3, 3), {"padding": 1}),
            ("stride", (2, 3, 8, 7), 4, (3, 2), {"stride": [2, 3], "padding": [1, 0]}),
            ("dilation", (1, 2, 9, 8), 3, (3, 3), {"dilation": [2, 3], "padding": [2, 3]}),
            ("groups", (1, 4, 6, 5), 6, (3, 3), {"groups": 2, "padding": 1, "stride": 2}),
            ("depthwise", (1, 4, 6, 5), 8, (3, 3), {"groups": 4, "padding": 1}),
            ("point", (2, 3, 4, 5), 4, (1, 1), {}),
            ("point_stride", (2, 3, 5, 5), 4, (1, 1), {"stride": 2}),
            ("large", (1, 1, 9, 9), 2, (7, 7), {"padding": 3, "stride": 2}),
        ):
            convolve(golden, case, F.conv2d, shape, (out, shape[1] // options.get("groups", 1), *kernel), out, options)
    with Golden(TENSOR, "conv_transpose2d") as golden:
        for case, shape, out, kernel, options in (
            ("plain", (2, 3, 4, 5), 4, (3, 3), {}),
            ("stride", (2, 3, 4, 3), 2, (3, 2), {"stride": [2, 3], "padding": [1, 0]}),
            ("output_padding", (1, 3, 4, 3), 2, (3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
            ("dilation", (1, 2, 4, 3), 3, (3, 3), {"dilation": 2, "padding": 2}),
            ("groups", (2, 4, 3, 4), 6, (2, 2), {"groups": 2, "stride": 2}),
        ):
            convolve(
                golden,
                case,
                F.conv_transpose2d,
                shape,
                (shape[1], out // options.get("groups", 1), *kernel),
                out,
                options,
            )
    with Golden(TENSOR, "causal_conv1d") as golden:

        def causal(x, weight, bias, before=None, act=lambda y: y):
            kernel = weight.shape[1]
            before = x.new_zeros(x.shape[0], kernel - 1, x.shape[2]) if before is None else before
            padded = torch.cat([before, x], 1).transpose(1, 2)
            return act(F.conv1d(padded, weight[:, None], bias, groups=x.shape[2]).transpose(1, 2))

        for case, length, kernel in (("plain", 9, 4), ("shorter_than_kernel", 2, 4), ("kernel_1", 5, 1)):
            inputs = {"x": golden.normal(2, length, 5), "weight": golden.normal(5, kernel), "bias": golden.normal(5)}
            golden.case(case, causal, inputs, activation=None)
        inputs = {"x": golden.normal(2, 9, 5), "weight": golden.normal(5, 4), "bias": golden.normal(5)}
        golden.case("silu", lambda **a: causal(**a, act=F.silu), inputs, activation="silu")
        golden.case("state", causal, {**inputs, "before": golden.normal(2, 3, 5)}, activation=None)


def convolve(golden, case, function, shape, weight, out, options):
    for bias in (True, False) if case == "plain" else (True,):
        inputs = {"x": golden.normal(*shape), "weight": golden.normal(*weight, scale=0.5)}
        if bias:
            inputs["bias"] = golden.normal(out)
        attributes = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **options}
        golden.case(
            case if bias else case + "_without_bias",
            lambda x, weight, bias=None: function(x, weight, bias, **options),
            inputs,
            **attributes,
        )


def pooling():
    for name, function, shape in (("max_pool1d", F.max_pool1d, (2, 3, 11)), ("max_pool2d", F.max_pool2d, (2, 3, 7, 6))):
        with Golden(TENSOR, name) as golden:
            for case, options in (
                ("plain", {"kernel_size": 2}),
                ("overlap", {"kernel_size": 3, "stride": 2, "padding": 1}),
                ("dilation", {"kernel_size": 3, "stride": 1, "dilation": 2}),
                ("ceil", {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
            ):
                attributes = {
                    "stride": options["kernel_size"],
                    "padding": 0,
                    "dilation": 1,
                    "ceil_mode": False,
                    **options,
                }
                golden.case(case, lambda x: function(x, **options), {"x": golden.normal(*shape)}, **attributes)
    for name, function, shape in (("avg_pool1d", F.avg_pool1d, (2, 3, 11)), ("avg_pool2d", F.avg_pool2d, (2, 3, 7, 6))):
        with Golden(TENSOR, name) as golden:
            for case, options in (
                ("plain", {"kernel_size": 2}),
                ("padding", {"kernel_size": 3, "stride": 2, "padding": 1}),
                (
                    "without_padding_in_the_mean",
                    {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
                ),
                ("ceil", {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
                ("ceil_and_padding", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
            ):
                attributes = {
                    "stride": options["kernel_size"],
                    "padding": 0,
                    "ceil_mode": False,
                    "count_include_pad": True,
                    **options,
                }
                golden.case(case, lambda x: function(x, **options), {"x": golden.normal(*shape)}, **attributes)
    with Golden(TENSOR, "adaptive_avg_pool1d") as golden:
        for size in (1, 4, 11, 13):
            golden.case(
                f"to_{size}", lambda x: F.adaptive_avg_pool1d(x, size), {"x": golden.normal(2, 3, 11)}, output_size=size
            )
    with Golden(TENSOR, "adaptive_avg_pool2d") as golden:
        for size in ([1, 1], [3, 2], [7, 6], [5, 8]):
            golden.case(
                f"to_{size[0]}_{size[1]}",
                lambda x: F.adaptive_avg_pool2d(x, size),
                {"x": golden.normal(2, 3, 7, 6)},
                output_size=size,
            )


if __name__ == "__main__":
    convolutions()
    pooling()
