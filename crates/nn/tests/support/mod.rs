//! Golden values: what PyTorch computed, made by the scripts in `tools/golden`.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;

use cupola_io::safetensors::SafeTensors;
use cupola_nn::{Module, StateDict};
use cupola_tensor::{DType, Gradients, Tensor};
use serde_json::{Map, Value};

/// One golden file.
pub struct Golden {
    pub cases: Vec<Case>,
}

/// One case of a golden file: its attributes, and its tensors by `KIND.NAME`.
pub struct Case {
    pub name: String,
    pub attributes: Map<String, Value>,
    tensors: BTreeMap<String, Tensor>,
}

impl Golden {
    /// Reads `tests/golden/NAME.safetensors` of this crate.
    pub fn open(name: &str) -> Golden {
        Self::open_in(env!("CARGO_MANIFEST_DIR"), name)
    }

    /// Reads one of the golden files of the crate of operations.
    pub fn of_tensor(name: &str) -> Golden {
        Self::open_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../tensor"), name)
    }

    fn open_in(root: &str, name: &str) -> Golden {
        let path = Path::new(root).join(format!("tests/golden/{name}.safetensors"));
        let file = SafeTensors::open(path).expect("a golden file");
        let story: Value = serde_json::from_str(file.metadata_value("golden").expect("its story")).expect("JSON");
        let mut cases: BTreeMap<String, Case> = BTreeMap::new();
        for (name, attributes) in story["cases"].as_object().expect("cases") {
            let attributes = attributes.as_object().expect("attributes").clone();
            cases.insert(name.clone(), Case { name: name.clone(), attributes, tensors: BTreeMap::new() });
        }
        for view in file.iter() {
            let (case, name) = view.name().split_once('.').expect("CASE.KIND.NAME");
            let tensor = Tensor::from_buffer(view.buffer().expect("its elements"), view.shape());
            cases.get_mut(case).expect("a case of the story").tensors.insert(name.to_string(), tensor);
        }
        Golden { cases: cases.into_values().collect() }
    }
}

impl Case {
    /// The tensor `KIND.NAME`.
    #[track_caller]
    pub fn tensor(&self, name: &str) -> &Tensor {
        self.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name))
    }

    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All tensors of a kind, by name.
    pub fn kind(&self, kind: &str) -> BTreeMap<String, Tensor> {
        let of_kind = |(name, tensor): (&String, &Tensor)| {
            let (found, rest) = name.split_once('.')?;
            (found == kind).then(|| (rest.to_string(), tensor.clone()))
        };
        self.tensors.iter().filter_map(of_kind).collect()
    }

    #[track_caller]
    pub fn number(&self, name: &str) -> f64 {
        self.attributes[name].as_f64().unwrap_or_else(|| panic!("{}: {name} is no number", self.name))
    }

    #[track_caller]
    pub fn size(&self, name: &str) -> usize {
        self.attributes[name].as_u64().unwrap_or_else(|| panic!("{}: {name} is no size", self.name)) as usize
    }

    #[track_caller]
    pub fn flag(&self, name: &str) -> bool {
        self.attributes[name].as_bool().unwrap_or_else(|| panic!("{}: {name} is no flag", self.name))
    }

    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        self.attributes[name].as_str().unwrap_or_else(|| panic!("{}: {name} is no text", self.name))
    }

    /// The attribute as sizes, if it is not null.
    pub fn sizes(&self, name: &str) -> Option<Vec<usize>> {
        let list = self.attributes[name].as_array()?;
        Some(list.iter().map(|n| n.as_u64().expect("a size") as usize).collect())
    }

    /// A float input as a leaf.
    #[track_caller]
    pub fn leaf(&self, name: &str) -> Tensor {
        self.tensor(&format!("in.{name}")).requires_grad()
    }

    /// The module in f64 with the case's parameters.
    #[track_caller]
    pub fn load<M: Module>(&self, module: M) -> M {
        let mut module = module.to_dtype(DType::F64);
        let values = self.kind("param");
        module.load_state_dict(&values).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        module
    }

    /// Compares results, and the gradients that flow back from them to the inputs given and to all of the module's parameters.
    #[track_caller]
    pub fn check(&self, module: &impl Module, inputs: &[(&str, &Tensor)], outputs: &[(&str, &Tensor)], tolerance: f64) {
        for (name, y) in outputs {
            self.close(&format!("out.{name}"), y, tolerance);
        }
        let with_gradient = outputs.iter().filter_map(|(name, y)| Some((*y, self.get(&format!("dout.{name}"))?)));
        let results: Vec<(&Tensor, Tensor)> = with_gradient.map(|(y, dy)| (y, dy.clone())).collect();
        if results.is_empty() {
            return;
        }
        let mut grads = Gradients::new();
        cupola_tensor::autograd::backward::backward_from(&results, &mut grads);
        for (name, x) in inputs {
            self.close(&format!("din.{name}"), &grads[x], tolerance);
        }
        let named: BTreeMap<_, _> = module.named_parameters().into_iter().collect();
        for (name, expected) in self.kind("dparam") {
            let param = named.get(&name).unwrap_or_else(|| panic!("{}: no parameter {name}", self.name));
            let zeros = Tensor::zeros_of(*expected.shape(), DType::F64);
            self.close(&format!("dparam.{name}"), grads.get(param).unwrap_or(&zeros), tolerance);
        }
        assert_eq!(self.kind("dparam").len(), named.len(), "{}: as many gradients as parameters", self.name);
    }

    #[track_caller]
    pub fn close(&self, name: &str, found: &Tensor, tolerance: f64) {
        let expected = self.tensor(name);
        assert_eq!(found.shape(), expected.shape(), "{}: {name}", self.name);
        let error = found.detach().relative_error(expected);
        assert!(error <= tolerance, "{}: {name} differs by {error:e}\n{found}\n{expected}", self.name);
    }
}
