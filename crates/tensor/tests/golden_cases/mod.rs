//! Reading golden files, and comparing what is computed with what they hold.

pub mod attention;
pub mod convolutions;
pub mod elementwise;
pub mod normalisations;
pub mod products;
pub mod recurrent;
pub mod reductions;
pub mod scans;
pub mod views;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use cupola_io::safetensors::SafeTensors;
use cupola_tensor::autograd::backward::backward_from;
use cupola_tensor::autograd::inspect;
use cupola_tensor::{DType, Gradients, Tensor};
use serde_json::{Map, Value};

/// Named results.
pub type Results = Vec<(String, Tensor)>;

/// The one result of most operations.
pub fn one(y: Tensor) -> Results {
    vec![("y".to_owned(), y)]
}

/// Results by name.
pub fn named<const N: usize>(results: [(&str, Tensor); N]) -> Results {
    results.map(|(name, tensor)| (name.to_owned(), tensor)).into()
}

/// All readers.
pub fn readers() -> Vec<Reader> {
    [
        attention::readers(),
        convolutions::readers(),
        elementwise::readers(),
        normalisations::readers(),
        products::readers(),
        recurrent::readers(),
        reductions::readers(),
        scans::readers(),
        views::readers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The names of all golden files.
pub fn files() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("the folder of golden files");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).map(stem).collect()
}

/// The largest error, relative to the largest reference value, that a result in f32 may have.
const F32: f64 = 1e-5;
/// The same where errors add up over a long chain of operations, or where the inputs' own rounding is enlarged.
const F32_CHAIN: f64 = 1e-4;
const F64: f64 = 1e-10;

/// How the cases of one file are computed with this crate.
pub struct Reader {
    /// The file's name.
    pub file: &'static str,
    /// The operations, as the registry calls them, that the file proves.
    pub operations: &'static [&'static str],
    run: fn(&Case) -> Results,
    tolerances: Vec<(DType, f64)>,
}

impl Reader {
    pub fn new(file: &'static str, operations: &'static [&'static str], run: fn(&Case) -> Results) -> Self {
        let tolerances = vec![(DType::F64, F64), (DType::F32, F32)];
        Self { file, operations, run, tolerances }
    }

    /// Allows f32 the tolerance of long chains.
    pub fn chain(mut self) -> Self {
        self.tolerances[1].1 = F32_CHAIN;
        self
    }

    /// Leaves f32 out, where the inputs' rounding would change which result is right.
    pub fn f64_alone(mut self) -> Self {
        self.tolerances.truncate(1);
        self
    }

    fn cases(&self, dtype: DType) -> Vec<Case> {
        let file = SafeTensors::open(folder().join(format!("{}.safetensors", self.file))).expect("a golden file");
        let story: Value = serde_json::from_str(file.metadata_value("golden").expect("its story")).expect("JSON");
        let mut cases: BTreeMap<String, Case> = BTreeMap::new();
        for (name, attributes) in story["cases"].as_object().expect("cases") {
            let case = Case {
                label: format!("{} {name} in {dtype}", self.file),
                dtype,
                attributes: attributes.as_object().expect("attributes").clone(),
                tensors: BTreeMap::new(),
                arguments: BTreeMap::new(),
                used: RefCell::default(),
            };
            cases.insert(name.clone(), case);
        }
        for view in file.iter() {
            let (case, name) = view.name().split_once('.').expect("CASE.KIND.NAME");
            let tensor = Tensor::from_buffer(view.buffer().expect("its elements"), view.shape());
            let case = cases.get_mut(case).expect("a case of the story");
            case.tensors.insert(name.to_owned(), tensor);
        }
        cases.values_mut().for_each(Case::make_arguments);
        cases.into_values().collect()
    }

    /// Computes every case in every dtype and compares results and gradients.
    pub fn check(&self) {
        for &(dtype, tolerance) in &self.tolerances {
            let cases = self.cases(dtype);
            assert!(!cases.is_empty(), "{}: there are no cases", self.file);
            cases.iter().for_each(|case| case.check(&(self.run)(case), tolerance));
        }
    }

    /// The operations that the cases record.
    pub fn operations_met(&self) -> BTreeSet<&'static str> {
        let results = self.cases(DType::F64).iter().flat_map(self.run).collect::<Vec<_>>();
        results.iter().flat_map(|(_, y)| inspect::summary(y).operations.into_keys()).collect()
    }
}

/// One case of a golden file. It notes which arguments and attributes are asked for.
pub struct Case {
    /// File, case and dtype, for messages.
    pub label: String,
    /// What floating-point arguments are converted to.
    pub dtype: DType,
    attributes: Map<String, Value>,
    /// By `KIND.NAME`, as they stand in the file.
    tensors: BTreeMap<String, Tensor>,
    /// `in.NAME` and `param.NAME`, converted; those with a gradient are leaves.
    arguments: BTreeMap<String, Tensor>,
    used: RefCell<BTreeSet<String>>,
}

impl Case {
    fn make_arguments(&mut self) {
        for (name, tensor) in &self.tensors {
            if !(name.starts_with("in.") || name.starts_with("param.")) {
                continue;
            }
            let converted = if tensor.dtype().is_float() { tensor.to_dtype(self.dtype) } else { tensor.clone() };
            let leaf = self.tensors.contains_key(&format!("d{name}"));
            self.arguments.insert(name.clone(), if leaf { converted.requires_grad() } else { converted });
        }
    }

    fn note(&self, name: &str) {
        self.used.borrow_mut().insert(name.to_owned());
    }

    /// The argument of this name, if there is one.
    pub fn maybe(&self, name: &str) -> Option<&Tensor> {
        let name = format!("in.{name}");
        self.note(&name);
        self.arguments.get(&name)
    }

    /// The argument of this name.
    pub fn arg(&self, name: &str) -> &Tensor {
        self.maybe(name).unwrap_or_else(|| panic!("{}: no argument {name}", self.label))
    }

    /// The argument x.
    pub fn x(&self) -> &Tensor {
        self.arg("x")
    }

    /// The parameter of this name.
    pub fn param(&self, name: &str) -> &Tensor {
        let name = format!("param.{name}");
        self.note(&name);
        self.arguments.get(&name).unwrap_or_else(|| panic!("{}: no {name}", self.label))
    }

    /// An attribute; null when it is not there.
    pub fn attribute(&self, name: &str) -> &Value {
        self.note(name);
        self.attributes.get(name).unwrap_or(&Value::Null)
    }

    /// The attribute, unless it is null, read by `as_type`.
    fn read<'a, T>(&'a self, name: &str, as_type: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.attribute(name);
        let read = as_type(value);
        assert!(value.is_null() || read.is_some(), "{}: {name} is {value}", self.label);
        read
    }

    pub fn maybe_number(&self, name: &str) -> Option<f64> {
        self.read(name, Value::as_f64)
    }

    pub fn number(&self, name: &str) -> f64 {
        self.maybe_number(name).unwrap_or_else(|| panic!("{}: {name} is missing", self.label))
    }

    pub fn integer(&self, name: &str) -> i64 {
        self.read(name, Value::as_i64).unwrap_or_else(|| panic!("{}: {name} is missing", self.label))
    }

    pub fn axis(&self, name: &str) -> isize {
        self.integer(name) as isize
    }

    pub fn maybe_size(&self, name: &str) -> Option<usize> {
        self.read(name, Value::as_u64).map(|size| size as usize)
    }

    pub fn size(&self, name: &str) -> usize {
        self.maybe_size(name).unwrap_or_else(|| panic!("{}: {name} is missing", self.label))
    }

    pub fn flag(&self, name: &str) -> bool {
        self.read(name, Value::as_bool).unwrap_or_else(|| panic!("{}: {name} is missing", self.label))
    }

    pub fn maybe_text(&self, name: &str) -> Option<&str> {
        self.read(name, Value::as_str)
    }

    pub fn text(&self, name: &str) -> &str {
        self.maybe_text(name).unwrap_or_else(|| panic!("{}: {name} is missing", self.label))
    }

    /// A list of numbers; `None` for null.
    pub fn numbers(&self, name: &str) -> Option<Vec<f64>> {
        self.read(name, |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    /// A list of sizes; `None` for null.
    pub fn sizes(&self, name: &str) -> Option<Vec<usize>> {
        let sizes = |value: &Value| value.as_array()?.iter().map(|n| Some(n.as_u64()? as usize)).collect();
        self.read(name, sizes)
    }

    /// A list of dimensions; `None` for null.
    pub fn axes(&self, name: &str) -> Option<Vec<isize>> {
        let axes = |value: &Value| value.as_array()?.iter().map(|n| Some(n.as_i64()? as isize)).collect();
        self.read(name, axes)
    }

    /// A size for each of `D` dimensions, where one number stands for all.
    pub fn each<const D: usize>(&self, name: &str) -> [usize; D] {
        match self.attribute(name).as_u64() {
            Some(size) => [size as usize; D],
            None => {
                let sizes = self.sizes(name).unwrap_or_else(|| panic!("{}: {name} is missing", self.label));
                sizes.try_into().unwrap_or_else(|sizes| panic!("{}: {name} is {sizes:?}", self.label))
            }
        }
    }

    /// Compares `results` and their gradients with the file's.
    fn check(&self, results: &Results, tolerance: f64) {
        let of_kind = |kind: &str| -> BTreeSet<&str> {
            self.tensors.keys().filter_map(|name| name.strip_prefix(kind)?.strip_prefix('.')).collect()
        };
        let given: BTreeSet<&str> = results.iter().map(|(name, _)| name.as_str()).collect();
        assert!(given == of_kind("out"), "{}: gives {given:?} and not {:?}", self.label, of_kind("out"));
        for (name, y) in results {
            self.close(&format!("out.{name}"), y, tolerance);
        }
        let seed = |(name, y): &(String, Tensor)| {
            let dy = self.tensors.get(&format!("dout.{name}"))?;
            Some((y.clone(), dy.to_dtype(y.dtype())))
        };
        let seeds: Vec<(Tensor, Tensor)> = results.iter().filter_map(seed).collect();
        // A result without a graph passes zero, which the file has to confirm.
        let recorded: Vec<(&Tensor, Tensor)> =
            seeds.iter().filter(|(y, _)| y.needs_grad()).map(|(y, dy)| (y, dy.clone())).collect();
        let mut grads = Gradients::new();
        if !recorded.is_empty() {
            backward_from(&recorded, &mut grads);
        }
        for name in self.tensors.keys().filter(|name| name.starts_with("din.") || name.starts_with("dparam.")) {
            let leaf = &self.arguments[&name[1..]];
            let none = Tensor::zeros_of(*leaf.shape(), leaf.dtype());
            self.close(name, grads.get(leaf).unwrap_or(&none), tolerance);
        }
        let used = self.used.borrow();
        let present = self.attributes.keys().chain(self.arguments.keys());
        let ignored: Vec<&String> = present.filter(|name| !used.contains(*name)).collect();
        assert!(ignored.is_empty(), "{}: {ignored:?} were not looked at", self.label);
    }

    fn close(&self, name: &str, found: &Tensor, tolerance: f64) {
        let (expected, found) = (&self.tensors[name], found.detach());
        assert_eq!(found.shape(), expected.shape(), "{}: {name}", self.label);
        if expected.dtype() != DType::F64 {
            let same = found.dtype() == expected.dtype() && found.same_bits(expected);
            assert!(same, "{}: {name} differs\n{found:?}\n{expected:?}", self.label);
            return;
        }
        assert_eq!(found.dtype(), self.dtype, "{}: the dtype of {name}", self.label);
        let error = error(&found.to_f64_vec(), &expected.to_f64_vec());
        assert!(error <= tolerance, "{}: {name} is off by {error:e}\n{found:?}\n{expected:?}", self.label);
    }
}

/// The largest difference, relative to the largest of the expected values (or as it is, if all are zero).
fn error(found: &[f64], expected: &[f64]) -> f64 {
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0f64, |most, x| most.max(x.abs()));
    let difference = |(&x, &y): (&f64, &f64)| match x == y {
        true => 0.0,
        false if (x - y).is_nan() => f64::INFINITY,
        false => (x - y).abs(),
    };
    let most = found.iter().zip(expected).map(difference).fold(0.0, f64::max);
    if largest > 0.0 { most / largest } else { most }
}
