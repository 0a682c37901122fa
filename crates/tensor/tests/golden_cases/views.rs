//! What moves, selects, orders, compares and converts elements.

use cupola_tensor::{DType, Tensor};

use super::{Case, Reader, Results, named, one};

fn movement(case: &Case) -> Tensor {
    let x = case.x();
    let shape = || case.sizes("to").expect("a shape");
    match case.text("operation") {
        "reshape" => x.reshape(shape()),
        "reshape_of_transpose" => x.transpose(-1, -2).reshape(shape()),
        "flatten_dims" => x.flatten_dims(case.axis("start"), case.axis("end")),
        "squeeze" => x.squeeze(case.axis("axis")),
        "unsqueeze" => x.unsqueeze(case.axis("axis")),
        "transpose" => x.transpose(case.axis("a"), case.axis("b")),
        "permute" => x.permute(&case.sizes("order").expect("an order")),
        "expand" => x.expand(shape()),
        "contiguous" => x.transpose(-1, -2).contiguous(),
        "cat" => Tensor::cat(&[x, case.arg("other")], case.axis("axis")),
        "stack" => Tensor::stack(&[x, case.arg("other")], case.axis("axis")),
        "pad" => x.pad(case.axis("axis"), case.size("before"), case.size("after"), case.number("value")),
        "narrow" => x.narrow(case.axis("axis"), case.size("start"), case.size("count")),
        "slice" => x.slice(case.axis("axis"), case.size("start"), case.size("end"), case.size("step")),
        "select" => x.select(case.axis("axis"), case.size("index")),
        "flip" => x.flip(case.axis("axis")),
        "roll" => x.roll(case.axis("shift"), case.axis("axis")),
        "tril" => x.tril(case.axis("diagonal")),
        "triu" => x.triu(case.axis("diagonal")),
        other => panic!("{}: {other} is no view", case.label),
    }
}

fn pieces(case: &Case) -> Results {
    let (x, axis) = (case.x(), case.axis("axis"));
    let pieces = match case.text("operation") {
        "split" => x.split(axis, &case.sizes("sizes").expect("sizes")),
        _ => x.chunk(axis, case.size("count")),
    };
    pieces.into_iter().enumerate().map(|(i, piece)| (i.to_string(), piece)).collect()
}

fn order(case: &Case) -> Results {
    let (x, axis) = (case.x(), case.axis("axis"));
    let (values, indices) = match case.text("operation") {
        "sort" => x.sort(axis, case.flag("descending")),
        _ => x.topk(case.size("k"), axis, case.flag("largest")),
    };
    named([("values", values), ("indices", indices)])
}

fn choice(case: &Case) -> Tensor {
    match case.text("operation") {
        "where" => case.arg("mask").where_(case.arg("a"), case.arg("b")),
        "masked_fill" => case.x().masked_fill(case.arg("mask"), case.number("value")),
        _ => case.x().clamp(case.number("low"), case.number("high")),
    }
}

fn comparison(case: &Case) -> Tensor {
    let pair = || (case.arg("a"), case.arg("b"));
    let axis = || case.read("axis", serde_json::Value::as_i64).map(|axis| axis as isize);
    let of_axis = || axis().expect("a dimension");
    type Compare = fn(&Tensor, &Tensor) -> Tensor;
    let compare: Compare = match case.text("operation") {
        "eq" => Tensor::eq,
        "ne" => Tensor::ne,
        "lt" => Tensor::lt,
        "le" => Tensor::le,
        "gt" => Tensor::gt,
        "ge" => Tensor::ge,
        "argmax" => return case.x().argmax(of_axis()),
        "argmin" => return case.x().argmin(of_axis()),
        "all" => return axis().map_or_else(|| case.x().all([]), |axis| case.x().all([axis])),
        "any" => return axis().map_or_else(|| case.x().any([]), |axis| case.x().any([axis])),
        other => panic!("{}: {other} is no comparison", case.label),
    };
    let (a, b) = pair();
    compare(a, b)
}

fn cast(case: &Case) -> Tensor {
    let to = match case.text("to") {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        "f16" => DType::F16,
        "i64" => DType::I64,
        "bool" => DType::Bool,
        other => panic!("{}: {other} is no dtype", case.label),
    };
    let y = case.x().to_dtype(to);
    if case.flag("back") { y.to_dtype(case.dtype) } else { y }
}

pub fn readers() -> Vec<Reader> {
    let moved = &["reshape", "permute", "expand", "contiguous", "cat", "slice", "triangle"];
    vec![
        Reader::new("movement", moved, |case| one(movement(case))),
        Reader::new("pieces", &["split"], pieces),
        Reader::new("order", &["sort"], order),
        Reader::new("comparison", &["compare", "arg_extreme", "all_any"], |case| one(comparison(case))),
        Reader::new("choice", &["where", "clamp"], |case| one(choice(case))),
        // An input rounded to f32 first would be rounded twice.
        Reader::new("cast", &["cast"], |case| one(cast(case))).f64_alone(),
    ]
}
