"""What all scripts here share: the layout of a golden file and the seeds.

A file holds one or more cases. Its tensors are named CASE.KIND.NAME, where CASE has no dot and KIND is

    in      an argument
    out     a result
    dout    the gradient that backward started from, for the result of that name
    din     the gradient of the argument of that name
    param   a layer's parameter or buffer; NAME is its path, with dots
    dparam  the gradient of a parameter

so that  sum(out * dout)  has the gradients din and dparam. Results without a dout took no part in backward. Floats
are f64 unless a script says otherwise; indices are i64, masks bool.

The metadata have one key, "golden", with a JSON text: {"source": "torch 2.15.0", "script": "ops.py", "cases": {CASE:
{attribute: value, ...}, ...}}. One key only, because the format's writer does not keep the order of several.
"""

import json
import os
import sys
import zlib

import torch
from safetensors.torch import save

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TENSOR = os.path.join(ROOT, "crates", "tensor", "tests", "golden")
NN = os.path.join(ROOT, "crates", "nn", "tests", "golden")

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


class Golden:
    """One file. Its numbers depend on its name alone, so that files can be made one by one."""

    def __init__(self, folder, name, most_bytes=64 << 10):
        self.path = os.path.join(folder, name + ".safetensors")
        self.most_bytes = most_bytes
        self.random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        self.tensors = {}
        self.cases = {}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.write()

    def normal(self, *shape, scale=1.0, shift=0.0):
        return torch.randn(shape, generator=self.random) * scale + shift

    def uniform(self, *shape, low=0.0, high=1.0):
        return torch.rand(shape, generator=self.random) * (high - low) + low

    def integers(self, *shape, below):
        return torch.randint(below, shape, generator=self.random)

    def put(self, case, kind, name, tensor):
        key = f"{case}.{kind}.{name}"
        assert "." not in case and key not in self.tensors, key
        self.tensors[key] = tensor.detach().clone().contiguous()

    def case(self, case, function, inputs, gradients=True, without_gradient=(), **attributes):
        """Records `function(**inputs)`, a tensor (named y) or a dictionary, and the gradients of its float
        arguments."""
        assert case not in self.cases, case
        self.cases[case] = attributes
        leaves = {}
        for name, value in inputs.items():
            self.put(case, "in", name, value)
            wanted = gradients and value.is_floating_point() and name not in without_gradient
            leaves[name] = value.detach().clone().requires_grad_(wanted)
        outputs = function(**leaves)
        self.finish(case, outputs, leaves)

    def finish(self, case, outputs, leaves, parameters=()):
        """Records results, draws their gradients, and records what they give for leaves and parameters."""
        outputs = outputs if isinstance(outputs, dict) else {"y": outputs}
        roots = []
        for name, value in outputs.items():
            self.put(case, "out", name, value)
            if value.requires_grad:
                upstream = self.normal(*value.shape)
                self.put(case, "dout", name, upstream)
                roots.append((value, upstream))
        if roots:
            torch.autograd.backward(*zip(*roots))
        for kind, tensors in (("din", leaves.items()), ("dparam", parameters)):
            for name, leaf in tensors:
                if leaf.requires_grad:
                    self.put(case, kind, name, leaf.grad if leaf.grad is not None else torch.zeros_like(leaf))

    def layer(self, case, module, call, inputs, scale=None, without_gradient=(), **attributes):
        """Records `call(module, **inputs)` with freshly drawn parameters (normal, times `scale`; norms' weights around
        1)."""
        assert case not in self.cases, case
        self.cases[case] = attributes
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                width = 0.3 if scale is None else scale
                centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
                parameter.copy_(self.normal(*parameter.shape, scale=width, shift=centre))
        for name, tensor in module.state_dict().items():
            self.put(case, "param", name, tensor)
        leaves = {}
        for name, value in inputs.items():
            self.put(case, "in", name, value)
            wanted = value.is_floating_point() and name not in without_gradient
            leaves[name] = value.detach().clone().requires_grad_(wanted)
        self.finish(case, call(module, **leaves), leaves, list(module.named_parameters()))

    def write(self):
        for name, tensor in self.tensors.items():
            assert not tensor.is_floating_point() or tensor.isfinite().logical_or(tensor.isinf()).all(), name
        story = {
            "source": "torch " + torch.__version__.split("+")[0],
            "script": os.path.basename(sys.argv[0]),
            "cases": self.cases,
        }
        data = save(self.tensors, metadata={"golden": json.dumps(story, sort_keys=True)})
        assert len(data) <= self.most_bytes, f"{self.path}: {len(data)} bytes, at most {self.most_bytes}"
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "wb") as file:
            file.write(data)
        print(f"{os.path.relpath(self.path, ROOT)}: {len(self.cases)} cases, {len(data)} bytes")
