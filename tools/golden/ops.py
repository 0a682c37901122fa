"""Element-wise operations, norms, reductions, products, indexing.

Writes crates/tensor/tests/golden/OPERATION.safetensors; see common.py for the names. Arguments and attributes by
file:

    exp log sqrt rsqrt abs sin cos tanh sigmoid relu erf silu mish hardswish   in.x; out.y
    square recip floor ceil round sign   the same; the last four have gradient 0
    add sub mul div minimum maximum   in.a, in.b
    pow              in.x; exponent, and case tensors: in.exponent
    affine           in.x; scale, shift
    softplus         in.x; beta, threshold
    elu              in.x; alpha
    leaky_relu       in.x; negative_slope
    gelu             in.x; approximate = "none" | "tanh"
    softmax log_softmax logsumexp   in.x; dim, and keepdim for logsumexp
    swiglu geglu     in.gate, in.up; y = act(gate) * up; for geglu approximate as in gelu
    layer_norm       in.x, in.weight, in.bias; normalized_shape, eps; case residual: in.residual, out.sum = x +
                     residual
    rms_norm         in.x, in.weight; eps; case residual as above
    batch_norm       in.x, in.weight, in.bias, in.running_mean, in.running_var; training, momentum, eps;
                     out.running_mean, out.running_var after the call
    group_norm       in.x, in.weight, in.bias; num_groups, eps
    instance_norm    in.x, in.weight, in.bias; eps
    sum mean prod max min var std norm   in.x; dim (null for all), keepdim, and correction, p
    cumsum           in.x; dim
    matmul           in.a, in.b
    einsum           in.a, in.b; equation
    linear           in.x, in.weight [out, in], in.bias; activation = null | "relu" | "gelu" | "silu"
    grouped_linear   in.x, in.weight [groups * out, in]; groups: rows of each
    embedding        in.weight, in.indices; padding_idx (its row gets no gradient) or null
    gather index_select scatter_add   in.x, in.index, and in.src for scatter_add; dim
    rotary_embedding in.x [B, T, H, Dh], in.positions [T]; base, rotary_dim, pairing = "adjacent" (2i, 2i+1) | "halves"
                     (i, i + rotary_dim/2)
"""

import torch
import torch.nn.functional as F

from common import TENSOR, Golden

# The borders where formulas change, and values far out on both sides.
BORDERS = torch.tensor([-40.0, -20.0, -6.0, -3.0, -1.5, -1e-3, 1e-9, 0.5, 1.0, 3.0, 6.0, 20.0, 40.0])


def signed(golden):
    return torch.cat([BORDERS, golden.normal(24, scale=2.0)])


def unary():
    functions = {
        "exp": torch.exp,
        "abs": torch.abs,
        "sin": torch.sin,
        "cos": torch.cos,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "relu": torch.relu,
        "erf": torch.erf,
        "silu": F.silu,
        "mish": F.mish,
        "hardswish": F.hardswish,
        "square": torch.square,
        "floor": torch.floor,
        "ceil": torch.ceil,
        "round": torch.round,
        "sign": torch.sign,
    }
    for name, function in functions.items():
        with Golden(TENSOR, name) as golden:
            # hardswish has no derivative at its corners, where implementations differ.
            x = signed(golden)
            golden.case("plain", lambda x: function(x), {"x": x + 1e-4 if name == "hardswish" else x})
            golden.case("matrix", lambda x: function(x), {"x": golden.normal(3, 5)})
    positive = {"log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "recip": torch.reciprocal}
    for name, function in positive.items():
        with Golden(TENSOR, name) as golden:
            golden.case(
                "plain",
                lambda x: function(x),
                {"x": torch.cat([BORDERS.abs(), golden.uniform(24, low=0.01, high=9.0)])},
            )
    with Golden(TENSOR, "pow") as golden:
        for case, exponent in {"square": 2.0, "cube": 3.0, "half": 0.5, "inverse": -1.5}.items():
            golden.case(
                case, lambda x: x.pow(exponent), {"x": golden.uniform(24, low=0.1, high=4.0)}, exponent=exponent
            )
        golden.case("negative_base", lambda x: x.pow(3.0), {"x": golden.normal(24)}, exponent=3.0)
        golden.case(
            "tensors",
            lambda x, exponent: x.pow(exponent),
            {"x": golden.uniform(3, 1, 5, low=0.1, high=4.0), "exponent": golden.normal(4, 5)},
        )
    with Golden(TENSOR, "affine") as golden:
        golden.case("plain", lambda x: -2.5 * x + 0.75, {"x": golden.normal(24)}, scale=-2.5, shift=0.75)
    with Golden(TENSOR, "softplus") as golden:
        for case, beta, threshold in (("plain", 1.0, 20.0), ("steep", 2.5, 10.0)):
            golden.case(
                case,
                lambda x: F.softplus(x, beta, threshold),
                {"x": signed(golden) + 1e-4},
                beta=beta,
                threshold=threshold,
            )
    with Golden(TENSOR, "elu") as golden:
        for case, alpha in (("plain", 1.0), ("steep", 1.7)):
            golden.case(case, lambda x: F.elu(x, alpha), {"x": signed(golden)}, alpha=alpha)
    with Golden(TENSOR, "leaky_relu") as golden:
        for case, slope in (("plain", 0.01), ("steep", 0.2)):
            golden.case(case, lambda x: F.leaky_relu(x, slope), {"x": signed(golden)}, negative_slope=slope)
    with Golden(TENSOR, "gelu") as golden:
        for case in ("none", "tanh"):
            golden.case(case, lambda x: F.gelu(x, approximate=case), {"x": signed(golden)}, approximate=case)
    with Golden(TENSOR, "swiglu") as golden:
        golden.case(
            "plain",
            lambda gate, up: F.silu(gate) * up,
            {"gate": golden.normal(3, 33, scale=2.0), "up": golden.normal(3, 33)},
        )
    with Golden(TENSOR, "geglu") as golden:
        for case in ("none", "tanh"):
            golden.case(
                case,
                lambda gate, up: F.gelu(gate, approximate=case) * up,
                {"gate": golden.normal(3, 33, scale=2.0), "up": golden.normal(3, 33)},
                approximate=case,
            )


def binary():
    for name in ("add", "sub", "mul", "div", "minimum", "maximum"):
        with Golden(TENSOR, name) as golden:
            for case, a, b in (
                ("same", (3, 5), (3, 5)),
                ("broadcast_both", (3, 1, 5), (4, 1)),
                ("scalar", (), (2, 3)),
            ):
                golden.case(
                    case, lambda a, b: getattr(torch, name)(a, b), {"a": golden.normal(*a), "b": golden.normal(*b)}
                )
            if name in ("minimum", "maximum"):
                tied = golden.normal(7)
                golden.case("ties", lambda a, b: getattr(torch, name)(a, b), {"a": tied, "b": tied})


def normalisations():
    for name, function in {"softmax": F.softmax, "log_softmax": F.log_softmax}.items():
        with Golden(TENSOR, name) as golden:
            golden.case("last", lambda x: function(x, -1), {"x": golden.normal(3, 4, 33, scale=3.0)}, dim=-1)
            golden.case("middle", lambda x: function(x, 1), {"x": golden.normal(3, 5, 4)}, dim=1)
            golden.case("large", lambda x: function(x, -1), {"x": golden.normal(2, 9, scale=500.0)}, dim=-1)
    with Golden(TENSOR, "logsumexp") as golden:
        golden.case(
            "last", lambda x: torch.logsumexp(x, -1), {"x": golden.normal(3, 33, scale=3.0)}, dim=[-1], keepdim=False
        )
        golden.case(
            "two", lambda x: torch.logsumexp(x, (0, 2), True), {"x": golden.normal(3, 5, 4)}, dim=[0, 2], keepdim=True
        )
        golden.case(
            "large", lambda x: torch.logsumexp(x, -1), {"x": golden.normal(2, 9, scale=500.0)}, dim=[-1], keepdim=False
        )
    with Golden(TENSOR, "layer_norm") as golden:

        def norm(x, weight=None, bias=None, eps=1e-5, dims=1):
            return F.layer_norm(x, x.shape[-dims:], weight, bias, eps)

        affine = {"weight": golden.normal(33, shift=1.0), "bias": golden.normal(33)}
        golden.case("affine", norm, {"x": golden.normal(4, 33, shift=3.0), **affine}, normalized_shape=[33], eps=1e-5)
        golden.case("plain", norm, {"x": golden.normal(4, 33)}, normalized_shape=[33], eps=1e-5)
        golden.case(
            "two_dims",
            lambda **a: norm(**a, eps=1e-3, dims=2),
            {
                "x": golden.normal(3, 4, 5),
                "weight": golden.normal(4, 5),
                "bias": golden.normal(4, 5),
            },
            normalized_shape=[4, 5],
            eps=1e-3,
        )

        def residual(x, residual, weight, bias):
            total = x + residual
            return {"y": norm(total, weight, bias), "sum": total}

        golden.case(
            "residual",
            residual,
            {"x": golden.normal(4, 33), "residual": golden.normal(4, 33), **affine},
            normalized_shape=[33],
            eps=1e-5,
        )
    with Golden(TENSOR, "rms_norm") as golden:

        def rms(x, weight=None, eps=1e-6):
            return F.rms_norm(x, x.shape[-1:], weight, eps)

        weight = golden.normal(33, shift=1.0)
        golden.case("weighted", rms, {"x": golden.normal(4, 33, shift=1.0), "weight": weight}, eps=1e-6)
        golden.case("plain", lambda x: rms(x, None, 1e-2), {"x": golden.normal(4, 33, scale=0.1)}, eps=1e-2)

        def rms_residual(x, residual, weight):
            total = x + residual
            return {"y": rms(total, weight), "sum": total}

        golden.case(
            "residual",
            rms_residual,
            {"x": golden.normal(4, 33), "residual": golden.normal(4, 33), "weight": weight},
            eps=1e-6,
        )
    with Golden(TENSOR, "batch_norm") as golden:
        for case, shape, training, momentum in (
            ("train_images", (4, 3, 5, 2), True, 0.1),
            ("eval_images", (4, 3, 5, 2), False, 0.1),
            ("train_rows", (7, 3), True, 0.3),
            ("train_sequences", (2, 3, 9), True, 0.1),
        ):

            def batch(x, weight, bias, running_mean, running_var):
                mean, var = running_mean.clone(), running_var.clone()
                y = F.batch_norm(x, mean, var, weight, bias, training, momentum, 1e-5)
                return {"y": y, "running_mean": mean.detach(), "running_var": var.detach()}

            golden.case(
                case,
                batch,
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
    with Golden(TENSOR, "group_norm") as golden:
        for groups in (1, 2, 6):
            golden.case(
                f"groups_{groups}",
                lambda x, weight, bias: F.group_norm(x, groups, weight, bias, 1e-5),
                {
                    "x": golden.normal(2, 6, 3, 4, shift=1.0),
                    "weight": golden.normal(6, shift=1.0),
                    "bias": golden.normal(6),
                },
                num_groups=groups,
                eps=1e-5,
            )
    with Golden(TENSOR, "instance_norm") as golden:
        for case, shape in (("images", (2, 3, 5, 4)), ("sequences", (2, 3, 9))):
            golden.case(
                case,
                lambda x, weight, bias: F.instance_norm(x, weight=weight, bias=bias, eps=1e-5),
                {
                    "x": golden.normal(*shape, shift=1.0),
                    "weight": golden.normal(3, shift=1.0),
                    "bias": golden.normal(3),
                },
                eps=1e-5,
            )


def reductions():
    places = (("all", None, False), ("last", [-1], False), ("two_kept", [0, 2], True))
    for name in ("sum", "mean", "var", "std", "norm", "max", "min", "prod"):
        with Golden(TENSOR, name) as golden:
            for case, dim, keepdim in places:
                x = golden.normal(3, 4, 5)
                if name in ("sum", "mean"):
                    golden.case(
                        case, lambda x: getattr(torch, name)(x, dim, keepdim), {"x": x}, dim=dim, keepdim=keepdim
                    )
                elif name in ("var", "std"):
                    for correction in (0, 1):
                        golden.case(
                            f"{case}_{correction}",
                            lambda x: getattr(torch, name)(x, dim, correction=correction, keepdim=keepdim),
                            {"x": x},
                            dim=dim,
                            keepdim=keepdim,
                            correction=correction,
                        )
                elif name == "norm":
                    for p in (1.0, 2.0, 3.0):
                        golden.case(
                            f"{case}_{p:.0f}",
                            lambda x: torch.linalg.vector_norm(x, p, dim, keepdim),
                            {"x": x},
                            dim=dim,
                            keepdim=keepdim,
                            p=p,
                        )
                elif name == "prod":
                    function = (lambda x: x.prod()) if dim is None else (lambda x: x.prod(dim[0], keepdim))
                    one = dim and dim[:1]
                    golden.case(case, function, {"x": x}, dim=one, keepdim=keepdim)
                else:
                    golden.case(
                        case,
                        lambda x: getattr(torch, "a" + name)(x, dim or (0, 1, 2), keepdim),
                        {"x": x},
                        dim=dim,
                        keepdim=keepdim,
                    )
            if name == "prod":
                x = golden.normal(3, 4)
                x[1, 2] = 0.0
                golden.case("one_zero", lambda x: x.prod(1), {"x": x}, dim=[1], keepdim=False)
                x = x.clone()
                x[1, 0] = 0.0
                golden.case("two_zeros", lambda x: x.prod(1), {"x": x}, dim=[1], keepdim=False)
    with Golden(TENSOR, "cumsum") as golden:
        for dim in (0, 1, 2):
            golden.case(f"dim_{dim}", lambda x: torch.cumsum(x, dim), {"x": golden.normal(3, 5, 4)}, dim=dim)


def products():
    with Golden(TENSOR, "matmul") as golden:
        for case, a, b in (
            ("matrices", (5, 7), (7, 3)),
            ("batched", (2, 4, 5), (2, 5, 3)),
            ("broadcast_both", (2, 1, 4, 5), (3, 5, 3)),
            ("matrix_left", (4, 5), (2, 5, 3)),
            ("vector_right", (2, 4, 5), (5,)),
            ("vector_left", (5,), (2, 5, 3)),
            ("dot", (9,), (9,)),
            ("blocks", (9, 65), (65, 17)),
        ):
            golden.case(case, lambda a, b: torch.matmul(a, b), {"a": golden.normal(*a), "b": golden.normal(*b)})
    with Golden(TENSOR, "einsum") as golden:
        for case, equation, a, b in (
            ("product", "ij,jk->ik", (4, 5), (5, 3)),
            ("transposed", "ij,kj->ki", (4, 5), (3, 5)),
            ("batched", "bij,bjk->bik", (2, 4, 5), (2, 5, 3)),
            ("heads", "bthd,bshd->bhts", (2, 3, 2, 4), (2, 5, 2, 4)),
            ("outer", "i,j->ij", (4,), (3,)),
            ("inner", "ij,ij->", (4, 5), (4, 5)),
            ("summed", "ijk,kl->jl", (2, 3, 4), (4, 5)),
            ("element_wise", "ij,j->ij", (4, 5), (5,)),
            ("implicit", "ij,jk", (4, 5), (5, 3)),
        ):
            golden.case(
                case,
                lambda a, b: torch.einsum(equation, a, b),
                {"a": golden.normal(*a), "b": golden.normal(*b)},
                equation=equation,
            )
    with Golden(TENSOR, "linear") as golden:
        acts = {
            "none": (None, lambda y: y),
            "relu": ("relu", F.relu),
            "gelu": ("gelu", F.gelu),
            "silu": ("silu", F.silu),
        }
        for case, (name, act) in acts.items():
            golden.case(
                case,
                lambda x, weight, bias: act(F.linear(x, weight, bias)),
                {"x": golden.normal(2, 5, 17), "weight": golden.normal(9, 17, scale=0.3), "bias": golden.normal(9)},
                activation=name,
            )
        golden.case(
            "without_bias",
            lambda x, weight: F.linear(x, weight),
            {"x": golden.normal(5, 17), "weight": golden.normal(9, 17)},
            activation=None,
        )


def grouped_linear(x, weight, groups):
    """A linear map of its own for each group of consecutive rows."""
    weights = weight.unflatten(0, (len(groups), -1))
    rows = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
    return torch.einsum("mk,mok->mo", x, weights[rows])


def groups_of_rows():
    with Golden(TENSOR, "grouped_linear") as golden:
        for case, groups, depth, out in (("plain", [3, 5, 1], 7, 4), ("empty_groups", [0, 4, 0, 6], 17, 9), ("one", [5], 3, 2)):
            golden.case(
                case,
                lambda x, weight: grouped_linear(x, weight, groups),
                {"x": golden.normal(sum(groups), depth), "weight": golden.normal(len(groups) * out, depth)},
                groups=groups,
            )


def indexing():
    with Golden(TENSOR, "embedding") as golden:
        for case, padding in (("plain", None), ("padding", 3)):
            indices = golden.integers(3, 6, below=7)
            indices[0, :2] = 3
            golden.case(
                case,
                lambda weight, indices: F.embedding(indices, weight, padding_idx=padding),
                {"weight": golden.normal(7, 5), "indices": indices},
                padding_idx=padding,
            )
    with Golden(TENSOR, "gather") as golden:
        for dim in (0, 1):
            index = golden.integers(3, 4, below=(5, 6)[dim])
            golden.case(
                f"dim_{dim}",
                lambda x, index: torch.gather(x, dim, index),
                {"x": golden.normal(5, 6), "index": index},
                dim=dim,
            )
    with Golden(TENSOR, "scatter_add") as golden:
        for dim in (0, 1):
            index = golden.integers(3, 4, below=(5, 6)[dim])
            golden.case(
                f"dim_{dim}",
                lambda x, index, src: torch.scatter_add(x, dim, index, src),
                {"x": golden.normal(5, 6), "index": index, "src": golden.normal(3, 4)},
                dim=dim,
            )
    with Golden(TENSOR, "index_select") as golden:
        for dim in (0, 1):
            golden.case(
                f"dim_{dim}",
                lambda x, index: torch.index_select(x, dim, index),
                {"x": golden.normal(5, 6, 2), "index": golden.integers(8, below=5)},
                dim=dim,
            )


def rotate(x, positions, base, pairing, rotary_dim):
    """Rotates each pair (a, b) of channels by the angle position * base^(-2i / rotary_dim) (RoFormer, section
    3.2.2)."""
    half = rotary_dim // 2
    angles = positions.to(x.dtype)[:, None] * base ** (-torch.arange(half, dtype=x.dtype) * 2 / rotary_dim)
    cos, sin = angles.cos()[None, :, None, :], angles.sin()[None, :, None, :]
    turned, rest = x[..., :rotary_dim], x[..., rotary_dim:]
    if pairing == "adjacent":
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    else:
        a, b = turned[..., :half], turned[..., half:]
        turned = torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
    return torch.cat([turned, rest], -1)


def rotary():
    with Golden(TENSOR, "rotary_embedding") as golden:
        for pairing in ("adjacent", "halves"):
            for case, rotary_dim, positions in (
                ("whole", 8, torch.arange(5)),
                ("partial", 4, torch.tensor([7, 0, 100, 3, 4095])),
            ):
                golden.case(
                    f"{pairing}_{case}",
                    lambda x, positions: rotate(x, positions, 10000.0, pairing, rotary_dim),
                    {"x": golden.normal(2, 5, 3, 8), "positions": positions},
                    base=10000.0,
                    pairing=pairing,
                    rotary_dim=rotary_dim,
                )


if __name__ == "__main__":
    unary()
    binary()
    normalisations()
    reductions()
    products()
    groups_of_rows()
    indexing()
    rotary()
