//! Golden values: what PyTorch computed, made by the scripts in `tools/golden`.

use std::collections::BTreeMap;
use std::path::Path;

use cupola_io::safetensors::SafeTensors;
use cupola_tensor::autograd::backward::backward_from;
use cupola_tensor::{Gradients, Tensor};
use serde_json::{Map, Value};

/// One case of a golden file: its attributes, and its tensors by `KIND.NAME`.
pub struct Case {
    pub name: String,
    pub attributes: Map<String, Value>,
    tensors: BTreeMap<String, Tensor>,
}

/// The cases of `tests/golden/NAME.safetensors`.
pub fn cases(name: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.safetensors"));
    let file = SafeTensors::open(path).expect("a golden file");
    let story: Value = serde_json::from_str(file.metadata_value("golden").expect("its story")).expect("JSON");
    let one = |(case, attributes): (&String, &Value)| {
        let of_case = |name: &str| Some(name.strip_prefix(case)?.strip_prefix('.')?.to_string());
        let tensors = file.iter().filter_map(|view| {
            let buffer = view.buffer().expect("its elements");
            Some((of_case(view.name())?, Tensor::from_buffer(buffer, view.shape())))
        });
        Case {
            name: format!("{name}, {case}"),
            attributes: attributes.as_object().expect("attributes").clone(),
            tensors: tensors.collect(),
        }
    };
    let cases: Vec<Case> = story["cases"].as_object().expect("cases").iter().map(one).collect();
    assert!(!cases.is_empty(), "{name} has no cases");
    cases
}

impl Case {
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.attributes[name].as_bool().expect("a flag")
    }

    pub fn number(&self, name: &str) -> f64 {
        self.attributes[name].as_f64().expect("a number")
    }

    pub fn size(&self, name: &str) -> usize {
        self.attributes[name].as_u64().expect("a size") as usize
    }

    /// A size for each of `D` dimensions, given as one for all or as a list.
    pub fn sizes<const D: usize>(&self, name: &str) -> [usize; D] {
        match self.attributes.get(name) {
            None => [0; D],
            Some(Value::Array(list)) => std::array::from_fn(|axis| list[axis].as_u64().expect("a size") as usize),
            Some(_) => [self.size(name); D],
        }
    }

    /// Runs `function` on the case's arguments and parameters, by `in.NAME` and `param.NAME`, as leaves; compares results by
    /// name with `out.NAME`, and gradients with those that PyTorch computed. In f64 within 1e-10, in f32 within `tolerance`.
    pub fn check(&self, tolerance: f64, function: impl Fn(&BTreeMap<String, Tensor>) -> Vec<(&'static str, Tensor)>) {
        for (dtype, tolerance) in [
            (cupola_tensor::DType::F64, 1e-10),
            (cupola_tensor::DType::F32, tolerance),
        ] {
            let given = |name: &&String| name.starts_with("in.") || name.starts_with("param.");
            let leaf = |name: &String| {
                let x = &self.tensors[name];
                let x = if x.dtype().is_float() {
                    x.to_dtype(dtype).requires_grad()
                } else {
                    x.clone()
                };
                (name.clone(), x)
            };
            let leaves: BTreeMap<String, Tensor> = self.tensors.keys().filter(given).map(leaf).collect();
            let outputs = function(&leaves);
            let mut seeds = Vec::new();
            for (name, output) in &outputs {
                let expected = &self.tensors[&format!("out.{name}")];
                let error = output.to_f64().relative_error(expected);
                assert!(error <= tolerance, "{}, {dtype}: {name} is off by {error:e}", self.name);
                if let Some(upstream) = self.get(&format!("dout.{name}")) {
                    seeds.push((output, upstream.to_dtype(dtype)));
                }
            }
            let mut grads = Gradients::new();
            backward_from(&seeds, &mut grads);
            for (name, leaf) in &leaves {
                let Some(expected) = self.get(&format!("d{name}")) else {
                    continue;
                };
                let grad = grads
                    .get(leaf)
                    .unwrap_or_else(|| panic!("{}: no gradient of {name}", self.name));
                let error = grad.to_f64().relative_error(expected);
                assert!(
                    error <= tolerance,
                    "{}, {dtype}: the gradient of {name} is off by {error:e}",
                    self.name
                );
            }
        }
    }
}
