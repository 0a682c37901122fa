"""Losses, each with every reduction.

Writes crates/tensor/tests/golden/{cross_entropy,linear_cross_entropy}.safetensors and crates/nn/tests/golden/LOSS.safetensors; see common.py
for the names. Every case has the attribute reduction = "none" | "mean" | "sum". Arguments and attributes by file:

    cross_entropy    in.x [N, V] logits, in.target [N], optionally in.weight [V]; label_smoothing, ignore_index,
                     z_loss (adds z_loss * logsumexp(x)^2 per row that is not ignored; mean divides it like the rest)
    linear_cross_entropy   in.x [N, D], in.head [V, D], in.target [N]; the rest as cross_entropy
    nll              in.x [N, V] log-probabilities, in.target, optionally in.weight; ignore_index
    mse l1           in.x, in.target
    smooth_l1        and beta;    huber  and delta
    bce              in.x in (0, 1), in.target, optionally in.weight
    bce_with_logits  in.x, in.target, optionally in.pos_weight, in.weight
    kl_div           in.x log-probabilities, in.target probabilities (log_target: their logarithms); also reduction
                     "batchmean"
    focal            in.x logits, in.target 0 or 1; alpha (null for none), gamma: -alpha_t (1 - p_t)^gamma log p_t
                     (Lin et al. 2017)
    cosine_embedding in.x, in.other [N, D], in.target +1 or -1; margin
"""

import torch
import torch.nn.functional as F

from common import NN, TENSOR, Golden

REDUCTIONS = ("none", "mean", "sum")


def reduce(losses, reduction):
    return {"none": losses, "mean": losses.mean(), "sum": losses.sum()}[reduction]


def classes():
    with Golden(TENSOR, "cross_entropy") as golden:

        def case(name, smoothing=0.0, ignore=-100, weight=None, z_loss=0.0, rows=9):
            target = golden.integers(rows, below=7)
            if ignore != -100:
                target[[1, 4]] = ignore
            inputs = {"x": golden.normal(rows, 7, scale=3.0), "target": target}
            if weight is not None:
                inputs["weight"] = weight
            for reduction in REDUCTIONS:

                def loss(x, target, weight=None):
                    y = F.cross_entropy(
                        x, target, weight, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing
                    )
                    if z_loss:
                        kept = target != ignore
                        squares = torch.where(kept, torch.logsumexp(x, -1) ** 2, 0.0) * z_loss
                        y = y + (
                            squares
                            if reduction == "none"
                            else squares.sum() / (kept.sum() if reduction == "mean" else 1)
                        )
                    return y

                golden.case(
                    f"{name}_{reduction}",
                    loss,
                    inputs,
                    without_gradient=("weight",),
                    reduction=reduction,
                    label_smoothing=smoothing,
                    ignore_index=ignore,
                    z_loss=z_loss,
                )

        weight = golden.uniform(7, low=0.2, high=2.0)
        case("plain")
        case("smoothed", smoothing=0.1)
        case("ignored", ignore=3)
        case("ignored_negative", ignore=-1)
        case("weighted", weight=weight)
        case("all", smoothing=0.2, ignore=3, weight=weight)
        case("z_loss", z_loss=1e-2, ignore=3)
    with Golden(TENSOR, "linear_cross_entropy") as golden:
        for name, smoothing, ignore, weighted, z_loss in (
            ("plain", 0.0, -100, False, 0.0),
            ("all", 0.2, 3, True, 0.0),
            ("z_loss", 0.0, 3, False, 1e-2),
        ):
            rows, vocabulary, width = 9, 11, 6
            target = golden.integers(rows, below=vocabulary)
            target[[1, 4]] = ignore if ignore >= 0 else 2
            inputs = {
                "x": golden.normal(rows, width),
                "head": golden.normal(vocabulary, width),
                "target": target,
            }
            if weighted:
                inputs["weight"] = golden.uniform(vocabulary, low=0.2, high=2.0)
            for reduction in REDUCTIONS:

                def loss(x, head, target, weight=None):
                    logits = x @ head.T
                    y = F.cross_entropy(
                        logits, target, weight, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing
                    )
                    kept = target != ignore
                    squares = torch.where(kept, torch.logsumexp(logits, -1) ** 2, 0.0) * z_loss
                    return y + {"none": squares, "mean": squares.sum() / kept.sum(), "sum": squares.sum()}[reduction]

                golden.case(
                    f"{name}_{reduction}",
                    loss,
                    inputs,
                    without_gradient=("weight",),
                    reduction=reduction,
                    label_smoothing=smoothing,
                    ignore_index=ignore,
                    z_loss=z_loss,
                )
    with Golden(NN, "nll") as golden:
        for name, weight, ignore in (
            ("plain", None, -100),
            ("weighted_ignored", golden.uniform(7, low=0.2, high=2.0), 3),
        ):
            target = golden.integers(9, below=7)
            inputs = {"x": F.log_softmax(golden.normal(9, 7), -1), "target": target}
            if weight is not None:
                inputs["weight"] = weight
                target[2] = ignore
            for reduction in REDUCTIONS:
                golden.case(
                    f"{name}_{reduction}",
                    lambda x, target, weight=None: F.nll_loss(
                        x, target, weight, ignore_index=ignore, reduction=reduction
                    ),
                    inputs,
                    without_gradient=("weight",),
                    reduction=reduction,
                    ignore_index=ignore,
                )


def regression():
    # Differences on both sides of every corner: 0.5, 1, 2 and beyond.
    def pair(golden):
        return {"x": golden.normal(4, 6, scale=2.0), "target": golden.normal(4, 6)}

    for name, function, options in (
        ("mse", F.mse_loss, [{}]),
        ("l1", F.l1_loss, [{}]),
        ("smooth_l1", F.smooth_l1_loss, [{"beta": 1.0}, {"beta": 0.5}]),
        ("huber", F.huber_loss, [{"delta": 1.0}, {"delta": 2.0}]),
    ):
        with Golden(NN, name) as golden:
            for option in options:
                suffix = "".join(f"_{key}_{value}".replace(".", "_") for key, value in option.items())
                for reduction in REDUCTIONS:
                    golden.case(
                        f"plain{suffix}_{reduction}",
                        lambda x, target: function(x, target, reduction=reduction, **option),
                        pair(golden),
                        reduction=reduction,
                        **option,
                    )


def probabilities():
    with Golden(NN, "bce") as golden:
        for name, weight in (("plain", None), ("weighted", golden.uniform(4, 6, high=2.0))):
            inputs = {"x": golden.uniform(4, 6, low=0.01, high=0.99), "target": golden.uniform(4, 6)}
            if weight is not None:
                inputs["weight"] = weight
            for reduction in REDUCTIONS:
                golden.case(
                    f"{name}_{reduction}",
                    lambda x, target, weight=None: F.binary_cross_entropy(x, target, weight, reduction=reduction),
                    inputs,
                    without_gradient=("target", "weight"),
                    reduction=reduction,
                )
        edge = {"x": torch.tensor([0.0, 1.0, 0.0, 1.0]), "target": torch.tensor([0.0, 1.0, 1.0, 0.0])}
        golden.case(
            "certain",
            lambda x, target: F.binary_cross_entropy(x, target, reduction="none"),
            edge,
            gradients=False,
            reduction="none",
        )
    with Golden(NN, "bce_with_logits") as golden:
        for name, extra in (
            ("plain", {}),
            ("pos_weight", {"pos_weight": golden.uniform(6, low=0.5, high=3.0)}),
            (
                "both_weights",
                {"pos_weight": golden.uniform(6, low=0.5, high=3.0), "weight": golden.uniform(4, 6, high=2.0)},
            ),
        ):
            inputs = {"x": golden.normal(4, 6, scale=10.0), "target": golden.uniform(4, 6), **extra}
            for reduction in REDUCTIONS:
                golden.case(
                    f"{name}_{reduction}",
                    lambda x, target, weight=None, pos_weight=None: F.binary_cross_entropy_with_logits(
                        x, target, weight, pos_weight=pos_weight, reduction=reduction
                    ),
                    inputs,
                    without_gradient=("target", "weight", "pos_weight"),
                    reduction=reduction,
                )
    with Golden(NN, "kl_div") as golden:
        for log_target in (False, True):
            target = F.softmax(golden.normal(4, 6), -1)
            if not log_target:
                target[0, 0] = 0.0
            inputs = {"x": F.log_softmax(golden.normal(4, 6), -1), "target": target.log() if log_target else target}
            for reduction in (*REDUCTIONS, "batchmean"):
                golden.case(
                    f"{'log_target' if log_target else 'plain'}_{reduction}",
                    lambda x, target: F.kl_div(x, target, reduction=reduction, log_target=log_target),
                    inputs,
                    without_gradient=("target",),
                    reduction=reduction,
                    log_target=log_target,
                )
    with Golden(NN, "focal") as golden:
        for name, alpha, gamma in (("plain", 0.25, 2.0), ("without_alpha", None, 1.5), ("gamma_0", 0.25, 0.0)):
            inputs = {"x": golden.normal(4, 6, scale=3.0), "target": golden.integers(4, 6, below=2).to(torch.float64)}
            for reduction in REDUCTIONS:

                def focal(x, target):
                    p = torch.sigmoid(x)
                    p_true = p * target + (1 - p) * (1 - target)
                    loss = F.binary_cross_entropy_with_logits(x, target, reduction="none") * (1 - p_true) ** gamma
                    if alpha is not None:
                        loss = (alpha * target + (1 - alpha) * (1 - target)) * loss
                    return reduce(loss, reduction)

                golden.case(
                    f"{name}_{reduction}",
                    focal,
                    inputs,
                    without_gradient=("target",),
                    reduction=reduction,
                    alpha=alpha,
                    gamma=gamma,
                )
    with Golden(NN, "cosine_embedding") as golden:
        for margin in (0.0, 0.4):
            inputs = {"x": golden.normal(8, 5), "other": golden.normal(8, 5), "target": torch.tensor([1, -1] * 4)}
            for reduction in REDUCTIONS:
                golden.case(
                    f"margin_0_{int(margin * 10)}_{reduction}",
                    lambda x, other, target: F.cosine_embedding_loss(x, other, target, margin, reduction=reduction),
                    inputs,
                    reduction=reduction,
                    margin=margin,
                )


if __name__ == "__main__":
    classes()
    regression()
    probabilities()
