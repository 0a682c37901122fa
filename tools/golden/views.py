"""What moves, selects, orders and compares elements.

Writes crates/tensor/tests/golden/FILE.safetensors; see common.py for the names. Each case is a call of the function that
its attribute `operation` names; the other attributes are its arguments:

    movement     in.x, in.other for cat and stack; reshape [to], flatten_dims [start, end], squeeze unsqueeze [axis],
                 transpose [a, b], permute [order], expand [to], contiguous (of the transpose of the last two), cat stack
                 [axis], pad [axis, before, after, value], narrow [axis, start, count], slice [axis, start, end, step],
                 select [axis, index], flip [axis], roll [shift, axis], tril triu [diagonal]
    pieces       in.x; out.0, out.1, ...: split [axis, sizes], chunk [axis, count]
    order        in.x; out.values, out.indices: sort [axis, descending], topk [axis, k, largest]
    comparison   in.a, in.b; eq ne lt le gt ge, and in.x: argmax argmin [axis], all any [axis, null for all]; without gradients
    choice       in.mask, in.a, in.b: where; in.x, in.mask: masked_fill [value]; in.x: clamp [low, high]
    cast         in.x; to, and back: whether the result is converted back to f64 (else it is stored as it is)
"""

import torch

from common import TENSOR, Golden


def movement():
    with Golden(TENSOR, "movement") as golden:

        def case(name, operation, call, shape=(3, 4, 5), other=None, **attributes):
            inputs = {"x": golden.normal(*shape)}
            if other is not None:
                inputs["other"] = golden.normal(*other)
            golden.case(name, call, inputs, operation=operation, **attributes)

        case("reshape", "reshape", lambda x: x.reshape(2, 5, 6), to=[2, 5, 6])
        case("reshape_of_transpose", "reshape_of_transpose", lambda x: x.mT.reshape(6, 10), to=[6, 10])
        case("flatten_dims", "flatten_dims", lambda x: x.flatten(1, 2), start=1, end=-1)
        case("squeeze", "squeeze", lambda x: x.squeeze(1), (3, 1, 5), axis=1)
        case("unsqueeze", "unsqueeze", lambda x: x.unsqueeze(-1), axis=-1)
        case("transpose", "transpose", lambda x: x.transpose(0, -1), a=0, b=-1)
        case("permute", "permute", lambda x: x.permute(2, 0, 1), order=[2, 0, 1])
        case("expand", "expand", lambda x: x.expand(2, 3, 4, 5), (3, 1, 5), to=[2, 3, 4, 5])
        case("contiguous", "contiguous", lambda x: x.mT.contiguous())
        case("cat", "cat", lambda x, other: torch.cat([x, other], 1), other=(3, 2, 5), axis=1)
        case("stack", "stack", lambda x, other: torch.stack([x, other], -1), other=(3, 4, 5), axis=-1)
        case(
            "pad",
            "pad",
            lambda x: torch.nn.functional.pad(x, (0, 0, 1, 2), value=0.5),
            axis=1,
            before=1,
            after=2,
            value=0.5,
        )
        case("narrow", "narrow", lambda x: x.narrow(1, 1, 2), axis=1, start=1, count=2)
        case("slice", "slice", lambda x: x[:, :, 1:5:3], axis=2, start=1, end=5, step=3)
        case("select", "select", lambda x: x.select(1, 3), axis=1, index=3)
        case("flip", "flip", lambda x: x.flip(2), axis=2)
        for shift in (2, -1, 7):
            case(f"roll_{shift}", "roll", lambda x: x.roll(shift, 1), shift=shift, axis=1)
        for diagonal in (-1, 0, 2):
            case(f"tril_{diagonal}", "tril", lambda x: x.tril(diagonal), diagonal=diagonal)
            case(f"triu_{diagonal}", "triu", lambda x: x.triu(diagonal), diagonal=diagonal)


def pieces():
    with Golden(TENSOR, "pieces") as golden:

        def numbered(parts):
            return {str(i): part for i, part in enumerate(parts)}

        golden.case(
            "split",
            lambda x: numbered(x.split([2, 1, 4], 1)),
            {"x": golden.normal(3, 7)},
            operation="split",
            axis=1,
            sizes=[2, 1, 4],
        )
        for size, count in ((6, 3), (7, 3), (5, 4), (2, 3)):
            golden.case(
                f"chunk_{size}_{count}",
                lambda x: numbered(x.chunk(count, 0)),
                {"x": golden.normal(size, 2)},
                operation="chunk",
                axis=0,
                count=count,
            )


def order():
    with Golden(TENSOR, "order") as golden:

        def both(result):
            return {"values": result.values, "indices": result.indices}

        for axis, descending in ((-1, False), (0, True)):
            golden.case(
                "falling" if descending else "rising",
                lambda x: both(x.sort(axis, descending)),
                {"x": golden.normal(5, 9)},
                operation="sort",
                axis=axis,
                descending=descending,
            )
        for axis, k, largest in ((-1, 3, True), (0, 2, False)):
            golden.case(
                "largest" if largest else "smallest",
                lambda x: both(x.topk(k, axis, largest)),
                {"x": golden.normal(5, 9)},
                operation="topk",
                axis=axis,
                k=k,
                largest=largest,
            )


def comparison():
    with Golden(TENSOR, "comparison") as golden:
        for name in ("eq", "ne", "lt", "le", "gt", "ge"):
            inputs = {"a": golden.integers(4, 1, 5, below=3), "b": golden.integers(3, 5, below=3)}
            inputs = {key: value.double() for key, value in inputs.items()}
            golden.case(name, lambda a, b: getattr(torch, name)(a, b), inputs, gradients=False, operation=name)
        for name in ("argmax", "argmin"):
            for axis in (0, -1):
                golden.case(
                    f"{name}_{axis % 2}",
                    lambda x: getattr(torch, name)(x, axis),
                    {"x": golden.normal(5, 7)},
                    gradients=False,
                    operation=name,
                    axis=axis,
                )
        for name in ("all", "any"):
            flags = golden.uniform(4, 6) < (0.7 if name == "all" else 0.2)
            for axis in (0, None):
                golden.case(
                    f"{name}_{'whole' if axis is None else axis}",
                    lambda x: getattr(x, name)() if axis is None else getattr(x, name)(axis),
                    {"x": flags},
                    operation=name,
                    axis=axis,
                )


def choice():
    with Golden(TENSOR, "choice") as golden:
        mask = golden.uniform(3, 5) < 0.5
        inputs = {"mask": mask, "a": golden.normal(3, 5), "b": golden.normal(1, 5)}
        golden.case("where", lambda mask, a, b: torch.where(mask, a, b), inputs, operation="where")
        inputs = {"x": golden.normal(2, 3, 5), "mask": mask}
        fill = lambda x, mask: x.masked_fill(mask, -2.5)
        golden.case("masked_fill", fill, inputs, operation="masked_fill", value=-2.5)
        golden.case(
            "clamp", lambda x: x.clamp(-0.5, 1.0), {"x": golden.normal(3, 7)}, operation="clamp", low=-0.5, high=1.0
        )


def cast():
    types = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "i64": torch.int64, "bool": torch.bool}
    with Golden(TENSOR, "cast") as golden:
        for name, dtype in types.items():
            x = torch.cat([golden.normal(24, scale=3.0), torch.tensor([0.0, -0.0, 2.5, -2.5])])
            golden.case(name, lambda x: x.to(dtype), {"x": x}, gradients=False, to=name, back=False)
        # Neither x nor its gradient keeps more digits than fit in between.
        x = golden.normal(24)
        golden.case("there_and_back", lambda x: x.to(torch.bfloat16).double(), {"x": x}, to="bf16", back=True)


if __name__ == "__main__":
    movement()
    pieces()
    order()
    comparison()
    choice()
    cast()
