"""Trajectories of optimisers over 20 steps, schedules of the learning rate, clipping, averages of weights.

Writes to crates/nn/tests/golden; see common.py for the names.

    OPTIMISER.safetensors   param.weight [3, 4], param.bias [4]: before the first step (muon: tall [5, 2], wide [2,
                            5], square [3, 3]); in.NAME: the gradients of the 20 steps, stacked; out.NAME: the
                            parameter after each step, stacked; out.NAME.KEY: the optimiser's state after the last,
                            under PyTorch's key. Attributes: the optimiser's options; lr at steps given in lr_changes
                            is another from then on. sgd adam adamw rmsprop muon come from torch.optim; lamb and lion
                            are written out below from their papers; muon_f64 is Muon with its iteration in f64 where
                            PyTorch rounds to bf16, and equal to it within that
    schedules.safetensors   out.lr: the rate of each step, from the first; in.metric for reduce_on_plateau: seen after
                            each step
    clip.safetensors        in.a, in.b, in.c gradients; out.* clipped, out.norm; max_norm, norm_type or clip_value
    ema.safetensors         in.weight: the weight after each step, stacked; out.average after each; decay
"""

import math

import torch
from torch.optim import lr_scheduler as schedules
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common import NN, Golden

STEPS = 20


class Lamb(torch.optim.Optimizer):
    """You et al. 2020, algorithm 2, with bias correction: r = m / (sqrt(v) + eps) + wd * p; p -= lr * |p| / |r| * r.
    The factor is 1 where a
    norm is 0."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                state.setdefault("exp_avg", torch.zeros_like(p)).lerp_(p.grad, 1 - beta1)
                state.setdefault("exp_avg_sq", torch.zeros_like(p)).lerp_(p.grad**2, 1 - beta2)
                state["step"] = step = state.get("step", 0) + 1
                mean, square = state["exp_avg"] / (1 - beta1**step), state["exp_avg_sq"] / (1 - beta2**step)
                update = mean / (square.sqrt() + group["eps"]) + group["weight_decay"] * p
                norms = p.norm(), update.norm()
                trust = norms[0] / norms[1] if min(norms) > 0 else 1.0
                p -= group["lr"] * trust * update


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2: p -= lr * (sign(b1 m + (1 - b1) g) + wd * p), then m = b2 m + (1 - b2) g."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                mean = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                update = (beta1 * mean + (1 - beta1) * p.grad).sign() + group["weight_decay"] * p
                p -= group["lr"] * update
                mean.copy_(beta2 * mean + (1 - beta2) * p.grad)


class Muon64(torch.optim.Optimizer):
    """Muon as torch.optim.Muon computes it, but for the dtype of the iteration."""

    def __init__(self, params, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, ns_steps=5, adjust_lr_fn=None):
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "nesterov": nesterov,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
            },
        )

    @torch.no_grad()
    def step(self):
        a, b, c = 3.4445, -4.775, 2.0315
        for group in self.param_groups:
            beta = group["momentum"]
            for p in group["params"]:
                mean = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                mean.copy_(beta * mean + (1 - beta) * p.grad)
                x = (1 - beta) * p.grad + beta * mean if group["nesterov"] else mean
                rows, columns = x.shape
                x = x.T if rows > columns else x
                x = x / x.norm().clamp(min=1e-7)
                for _ in range(group["ns_steps"]):
                    gram = x @ x.T
                    x = a * x + (b * gram + c * gram @ gram) @ x
                x = x.T if rows > columns else x
                factor = (
                    0.2 * math.sqrt(max(rows, columns))
                    if group["adjust_lr_fn"] == "match_rms_adamw"
                    else math.sqrt(max(1, rows / columns))
                )
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * factor * x)


PLAIN = {"weight": (3, 4), "bias": (4,)}
MATRICES = {"tall": (5, 2), "wide": (2, 5), "square": (3, 3)}


def trajectory(golden, case, make, shapes=PLAIN, lr_changes=None, **options):
    params = {name: golden.normal(*shape).requires_grad_() for name, shape in shapes.items()}
    # Sizes that vary over the steps tell the averages apart; one entry never has a gradient.
    size = torch.linspace(-2, 1, STEPS).exp()
    grads = {name: golden.normal(STEPS, *shape) * size.reshape(-1, *[1] * len(shape)) for name, shape in shapes.items()}
    for grad in grads.values():
        grad.flatten(1)[:, 0] = 0.0
    golden.cases[case] = {**options, "lr_changes": lr_changes}
    for name, param in params.items():
        golden.put(case, "param", name, param)
        golden.put(case, "in", name, grads[name])
    optimiser = make(list(params.values()), **options)
    after = {name: [] for name in params}
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = (lr_changes or {}).get(step, group["lr"])
        for name, param in params.items():
            param.grad = grads[name][step].clone()
        optimiser.step()
        for name, param in params.items():
            after[name].append(param.detach().clone())
    for name, param in params.items():
        golden.put(case, "out", name, torch.stack(after[name]))
        for key, value in optimiser.state[param].items():
            if isinstance(value, torch.Tensor) and value.dim() > 0:
                golden.put(case, "out", f"{name}.{key}", value)
    return {name: torch.stack(values) for name, values in after.items()}


def optimisers():
    optim = torch.optim
    with Golden(NN, "sgd") as golden:
        for case, options in (
            ("plain", {}),
            ("weight_decay", {"weight_decay": 0.1}),
            ("momentum", {"momentum": 0.9}),
            ("dampening", {"momentum": 0.9, "dampening": 0.3}),
            ("nesterov", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
            ("maximize", {"momentum": 0.9, "maximize": True}),
        ):
            trajectory(golden, case, optim.SGD, lr=0.1, **options)
        trajectory(golden, "lr_changes", optim.SGD, lr_changes={5: 0.01, 12: 0.2}, lr=0.1, momentum=0.9)
    for name, make in (("adam", optim.Adam), ("adamw", optim.AdamW)):
        with Golden(NN, name) as golden:
            for case, options in (
                ("plain", {}),
                ("weight_decay", {"weight_decay": 0.1}),
                ("amsgrad", {"amsgrad": True, "weight_decay": 0.01}),
                ("options", {"betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.0}),
            ):
                trajectory(golden, case, make, lr=0.02, **options)
            trajectory(golden, "lr_changes", make, lr_changes={5: 0.002, 12: 0.05}, lr=0.02, weight_decay=0.1)
    with Golden(NN, "rmsprop") as golden:
        for case, options in (
            ("plain", {}),
            ("weight_decay", {"weight_decay": 0.1, "alpha": 0.9}),
            ("momentum", {"momentum": 0.9}),
            ("centered", {"centered": True, "eps": 1e-3}),
            ("all", {"centered": True, "momentum": 0.8, "weight_decay": 0.05, "alpha": 0.95, "eps": 1e-3}),
        ):
            trajectory(golden, case, optim.RMSprop, lr=0.01, **options)
    cases = (
        ("plain", {"lr": 0.02}),
        ("without_nesterov", {"lr": 0.02, "nesterov": False, "momentum": 0.8}),
        ("without_decay", {"lr": 0.02, "weight_decay": 0.0}),
        ("match_rms_adamw", {"lr": 0.02, "adjust_lr_fn": "match_rms_adamw"}),
        ("ns_steps", {"lr": 0.02, "ns_steps": 3}),
    )
    with Golden(NN, "muon") as golden:
        theirs = [trajectory(golden, case, optim.Muon, MATRICES, **options) for case, options in cases]
        random = golden.random
    with Golden(NN, "muon_f64") as golden:
        golden.random = random.manual_seed(random.initial_seed())
        ours = [trajectory(golden, case, Muon64, MATRICES, **options) for case, options in cases]
    for (case, _), a, b in zip(cases, theirs, ours):
        for name in a:
            difference = (a[name] - b[name]).norm() / b[name].norm()
            assert difference < 1e-2, (case, name, difference)
    with Golden(NN, "lamb") as golden:
        for case, options in (
            ("plain", {"weight_decay": 0.0}),
            ("weight_decay", {"weight_decay": 0.1}),
            ("options", {"betas": [0.8, 0.95], "eps": 1e-3}),
        ):
            trajectory(golden, case, Lamb, lr=0.02, **options)
    with Golden(NN, "lion") as golden:
        for case, options in (
            ("plain", {}),
            ("weight_decay", {"weight_decay": 0.1}),
            ("options", {"betas": [0.8, 0.95]}),
        ):
            trajectory(golden, case, Lion, lr=0.01, **options)


def schedule(golden, case, make, steps=40, metric=None, **options):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    plan = make(optimiser)
    rates = []
    for step in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        plan.step() if metric is None else plan.step(metric[step].item())
    golden.cases[case] = {"lr": 0.1, **options}
    if metric is not None:
        golden.put(case, "in", "metric", metric)
    golden.put(case, "out", "lr", torch.tensor(rates))


def rates():
    with Golden(NN, "schedules") as golden:

        def simple(case, make, steps=40, **options):
            schedule(golden, case, lambda optimiser: make(optimiser, **options), steps, **options)

        simple("step", schedules.StepLR, step_size=7, gamma=0.3)
        simple("multi_step", schedules.MultiStepLR, milestones=[3, 10, 11, 30], gamma=0.5)
        simple("exponential", schedules.ExponentialLR, gamma=0.9)
        simple("cosine", schedules.CosineAnnealingLR, steps=31, T_max=30, eta_min=0.001)
        simple("restarts", schedules.CosineAnnealingWarmRestarts, T_0=10, T_mult=1, eta_min=0.001)
        simple("growing_restarts", schedules.CosineAnnealingWarmRestarts, T_0=5, T_mult=2, eta_min=0.0)
        simple(
            "one_cycle",
            schedules.OneCycleLR,
            max_lr=0.5,
            total_steps=40,
            pct_start=0.3,
            anneal_strategy="cos",
            div_factor=25.0,
            final_div_factor=1e4,
            three_phase=False,
            cycle_momentum=False,
        )
        simple(
            "one_cycle_linear",
            schedules.OneCycleLR,
            max_lr=0.5,
            total_steps=40,
            pct_start=0.25,
            anneal_strategy="linear",
            div_factor=10.0,
            final_div_factor=1e2,
            three_phase=False,
            cycle_momentum=False,
        )
        simple(
            "one_cycle_three_phases",
            schedules.OneCycleLR,
            max_lr=0.5,
            total_steps=40,
            pct_start=0.4,
            anneal_strategy="cos",
            div_factor=25.0,
            final_div_factor=1e4,
            three_phase=True,
            cycle_momentum=False,
        )
        simple("linear", schedules.LinearLR, start_factor=0.1, end_factor=1.0, total_iters=8)
        simple("constant", schedules.ConstantLR, factor=0.25, total_iters=6)
        simple("polynomial", schedules.PolynomialLR, total_iters=30, power=2.0)
        metric = torch.cat(
            [
                torch.linspace(1, 0.5, 8),
                torch.full((12,), 0.49999),
                torch.linspace(0.4, 0.39, 10),
                torch.full((10,), 0.5),
            ]
        )
        for case, options in (
            (
                "reduce_on_plateau",
                {
                    "mode": "min",
                    "factor": 0.5,
                    "patience": 3,
                    "threshold": 1e-4,
                    "threshold_mode": "rel",
                    "cooldown": 0,
                    "min_lr": 0.0,
                },
            ),
            (
                "reduce_on_plateau_absolute",
                {
                    "mode": "min",
                    "factor": 0.1,
                    "patience": 2,
                    "threshold": 0.01,
                    "threshold_mode": "abs",
                    "cooldown": 3,
                    "min_lr": 0.002,
                },
            ),
            (
                "reduce_on_plateau_max",
                {
                    "mode": "max",
                    "factor": 0.5,
                    "patience": 4,
                    "threshold": 1e-4,
                    "threshold_mode": "rel",
                    "cooldown": 0,
                    "min_lr": 0.0,
                },
            ),
        ):
            schedule(
                golden,
                case,
                lambda optimiser: schedules.ReduceLROnPlateau(optimiser, **options),
                metric=metric,
                **options,
            )
        # Warm-up in front of another schedule: the rate of step s < warmup is lr * (s + 1) / warmup, and the other
        # begins at its first step after.
        warmup = 6
        for case, make, options in (
            ("warmup_cosine", schedules.CosineAnnealingLR, {"T_max": 33, "eta_min": 0.01}),
            ("warmup_step", schedules.StepLR, {"step_size": 9, "gamma": 0.1}),
        ):

            def warmed(optimiser):
                first = schedules.LinearLR(optimiser, 1 / warmup, 1.0, warmup - 1)
                return schedules.SequentialLR(optimiser, [first, make(optimiser, **options)], [warmup])

            schedule(golden, case, warmed, warmup=warmup, **options)
        # Warm-up, stable, decay (Hu et al. 2024): linear up, constant, then down to min_lr over the last `decay` steps.
        for shape in ("linear", "cosine", "sqrt"):
            total, decay, least = 40, 12, 0.001

            def factor(step):
                if step < warmup:
                    return (step + 1) / warmup
                if step < total - decay:
                    return 1.0
                done = min((step - (total - decay) + 1) / decay, 1.0)
                left = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "sqrt": 1 - math.sqrt(done)}[
                    shape
                ]
                return (least + (0.1 - least) * left) / 0.1

            schedule(
                golden,
                f"warmup_stable_decay_{shape}",
                lambda optimiser: schedules.LambdaLR(optimiser, factor),
                warmup=warmup,
                total=total,
                decay=decay,
                min_lr=least,
                shape=shape,
            )


def clipping():
    with Golden(NN, "clip") as golden:
        shapes = {"a": (4, 6), "b": (6,), "c": (2, 3, 2)}
        for case, most, kind in (
            ("clipped", 1.0, 2.0),
            ("untouched", 100.0, 2.0),
            ("one", 2.0, 1.0),
            ("infinite", 0.5, math.inf),
        ):
            params = {name: torch.zeros(shape, requires_grad=True) for name, shape in shapes.items()}
            golden.cases[case] = {"max_norm": most, "norm_type": str(kind)}
            for name, param in params.items():
                param.grad = golden.normal(*param.shape)
                golden.put(case, "in", name, param.grad)
            norm = torch.nn.utils.clip_grad_norm_(list(params.values()), most, kind)
            golden.put(case, "out", "norm", norm)
            for name, param in params.items():
                golden.put(case, "out", name, param.grad)
        param = torch.zeros(4, 6, requires_grad=True)
        param.grad = golden.normal(4, 6)
        golden.cases["value"] = {"clip_value": 0.7}
        golden.put("value", "in", "a", param.grad)
        torch.nn.utils.clip_grad_value_([param], 0.7)
        golden.put("value", "out", "a", param.grad)
    with Golden(NN, "ema") as golden:
        model = torch.nn.Linear(3, 2, bias=False)
        # PyTorch starts an average at the weight that it sees first.
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        golden.cases["plain"] = {"decay": 0.9}
        weights, averages = [], []
        for _ in range(8):
            with torch.no_grad():
                model.weight.copy_(golden.normal(2, 3))
            average.update_parameters(model)
            weights.append(model.weight.detach().clone())
            averages.append(average.module.weight.detach().clone())
        golden.put("plain", "in", "weight", torch.stack(weights))
        golden.put("plain", "out", "average", torch.stack(averages))


if __name__ == "__main__":
    optimisers()
    rates()
    clipping()
