//! The test bench of the operations: every case of every operation goes through the same checks.
//!
//! A [`Case`] has inputs in f64, the function under test, and a reference written in plain f64 loops. [`Case::check`] then
//! compares, for every instruction-set tier, the f64 result with the reference, the gradient with central differences, and
//! results and gradients in f32, bf16 and f16 with those in f64, on contiguous and on strided inputs.

use cupola_core::{DType, Layout, Rng, Shape};
use cupola_cpu::{Isa, with_isa};

pub(crate) mod scans;

use crate::autograd::backward::backward_from;
use crate::autograd::gradients::Gradients;
use crate::tensor::Tensor;

/// A row-major array of f64 for references.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    pub fn new(shape: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { shape: shape.to_vec(), data }
    }

    /// The array whose element at each index is `value(index)`.
    pub fn from_fn(shape: &[usize], mut value: impl FnMut(&[usize]) -> f64) -> Self {
        let mut index = vec![0; shape.len()];
        let data = (0..shape.iter().product())
            .map(|_| {
                let x = value(&index);
                for axis in (0..shape.len()).rev() {
                    index[axis] += 1;
                    if index[axis] < shape[axis] {
                        break;
                    }
                    index[axis] = 0;
                }
                x
            })
            .collect();
        Self::new(shape, data)
    }

    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { shape: self.shape.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }

    /// The element at `index`, where missing leading dimensions and sizes of 1 broadcast.
    pub fn at(&self, index: &[usize]) -> f64 {
        let index = &index[index.len() - self.shape.len()..];
        let position = self.shape.iter().zip(index).fold(0, |p, (&dim, &i)| p * dim + if dim == 1 { 0 } else { i });
        self.data[position]
    }
}

impl From<&Tensor> for Array {
    fn from(tensor: &Tensor) -> Self {
        Self::new(tensor.shape(), tensor.to_f64_vec())
    }
}

type Run = Box<dyn Fn(&[Tensor]) -> Vec<Tensor>>;
type Reference = Box<dyn Fn(&[Array]) -> Vec<Array>>;

/// One call of one operation, and what is known about its result.
pub(crate) struct Case {
    name: String,
    inputs: Vec<Tensor>,
    run: Run,
    reference: Option<Reference>,
    differentiable: bool,
    half_precision: bool,
}

impl Case {
    /// A case named after what is special about it. Inputs are f64 or integers.
    pub fn new<const N: usize>(
        name: impl Into<String>,
        inputs: [Tensor; N],
        run: impl Fn(&[Tensor]) -> Vec<Tensor> + 'static,
    ) -> Self {
        let run = Box::new(run);
        Self {
            name: name.into(),
            inputs: inputs.into(),
            run,
            reference: None,
            differentiable: true,
            half_precision: true,
        }
    }

    /// The definition in plain loops, one array for each output.
    pub fn reference(mut self, reference: impl Fn(&[Array]) -> Vec<Array> + 'static) -> Self {
        self.reference = Some(Box::new(reference));
        self
    }

    /// Leaves the gradient out: for results that carry none, and for cases (huge inputs, points without derivative) that
    /// test the forward pass alone.
    pub fn forward_only(mut self) -> Self {
        self.differentiable = false;
        self
    }

    /// Leaves bf16 and f16 out, where their inputs would be rounded across a jump of the function.
    pub fn no_half_precision(mut self) -> Self {
        self.half_precision = false;
        self
    }

    pub fn is_gradient_check(&self) -> bool {
        self.differentiable
    }

    /// Runs all checks; panics with the operation's and the case's name.
    pub fn check(&self, operation: &str) {
        let label = format!("{operation}: {}", self.name);
        let arrays: Vec<Array> = self.inputs.iter().map(Array::from).collect();
        let outputs = (self.run)(&self.inputs);
        if let Some(reference) = &self.reference {
            let expected = reference(&arrays);
            assert_eq!(expected.len(), outputs.len(), "{label}: number of outputs");
            for (index, (output, expected)) in outputs.iter().zip(&expected).enumerate() {
                assert_eq!(output.shape().dims(), expected.shape, "{label}: shape of output {index}");
                let expected = Tensor::from_vec(expected.data.clone(), expected.shape.clone());
                let error = output.relative_error(&expected);
                assert!(error <= 1e-10, "{label}: output {index} differs from the reference by {error:e}");
            }
        }
        if self.differentiable {
            self.check_gradient(&label);
        }
        let precisions: &[(DType, f64)] = if self.half_precision {
            &[(DType::F64, 1e-10), (DType::F32, 1e-5), (DType::F16, 2e-3), (DType::BF16, 1e-2)]
        } else {
            &[(DType::F64, 1e-10), (DType::F32, 1e-5)]
        };
        for isa in Isa::available() {
            for &(dtype, tolerance) in precisions {
                with_isa(isa, || {
                    self.compare(&format!("{label} ({dtype}, {})", isa.name()), dtype, tolerance, Tensor::clone);
                    self.compare(&format!("{label} ({dtype}, {}, strided)", isa.name()), dtype, tolerance, strided);
                });
            }
        }
    }

    fn check_gradient(&self, label: &str) {
        let float: Vec<usize> = (0..self.inputs.len()).filter(|&i| self.inputs[i].dtype().is_float()).collect();
        let chosen: Vec<&Tensor> = float.iter().map(|&i| &self.inputs[i]).collect();
        let outputs = (self.run)(&self.inputs);
        for output in (0..outputs.len()).filter(|&o| outputs[o].dtype().is_float()) {
            let function = |moved: &[Tensor]| {
                let mut inputs = self.inputs.clone();
                float.iter().zip(moved).for_each(|(&i, x)| inputs[i] = x.clone());
                (self.run)(&inputs).swap_remove(output)
            };
            if let Err(error) = crate::gradcheck(function, &chosen) {
                panic!("{label}: output {output}: {error}");
            }
        }
    }

    /// Compares results and gradients in `dtype` with those in f64 on the same, rounded, inputs.
    fn compare(&self, label: &str, dtype: DType, tolerance: f64, arrange: impl Fn(&Tensor) -> Tensor) {
        let round = |x: &Tensor| {
            if x.dtype().is_float() { x.to_dtype(dtype) } else { x.clone() }
        };
        let rounded: Vec<Tensor> = self.inputs.iter().map(round).collect();
        let exact: Vec<Tensor> =
            rounded.iter().map(|x| if x.dtype().is_float() { x.to_f64() } else { x.clone() }).collect();
        let (outputs, grads) = self.outputs_and_grads(&rounded.iter().map(arrange).collect::<Vec<_>>());
        let (expected, expected_grads) = self.outputs_and_grads(&exact);
        for (index, (output, expected)) in outputs.iter().zip(&expected).enumerate() {
            let error = output.relative_error(expected);
            assert!(error <= tolerance, "{label}: output {index} is off by {error:e}\n{output:?}\n{expected:?}");
        }
        for (index, (grad, expected)) in grads.iter().zip(&expected_grads).enumerate() {
            let (Some(grad), Some(expected)) = (grad, expected) else {
                assert_eq!(grad.is_none(), expected.is_none(), "{label}: gradient {index} is there in one dtype only");
                continue;
            };
            let error = grad.relative_error(expected);
            assert!(error <= tolerance, "{label}: gradient {index} is off by {error:e}\n{grad:?}\n{expected:?}");
        }
    }

    fn outputs_and_grads(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Vec<Option<Tensor>>) {
        let wrap = |x: &Tensor| {
            if self.differentiable && x.dtype().is_float() { x.requires_grad() } else { x.clone() }
        };
        let leaves: Vec<Tensor> = inputs.iter().map(wrap).collect();
        let outputs = (self.run)(&leaves);
        let mut grads = Gradients::new();
        let seeds: Vec<(&Tensor, Tensor)> = outputs
            .iter()
            .filter(|y| y.needs_grad())
            .map(|y| (y, uniform(*y.shape(), 77).to_dtype(y.dtype())))
            .collect();
        backward_from(&seeds, &mut grads);
        let grads = leaves.iter().map(|x| grads.get(x).cloned()).collect();
        (outputs.iter().map(Tensor::detach).collect(), grads)
    }
}

/// The same values in memory that is neither contiguous nor in order: reversed dimensions, with gaps.
pub(crate) fn strided(x: &Tensor) -> Tensor {
    let rank = x.rank();
    if rank == 0 {
        return x.clone();
    }
    let values = x.detach();
    crate::dispatch::with_element!(x.dtype(), T => {
        let mut strides = vec![0isize; rank];
        let mut step = 2isize;
        for (stride, &dim) in strides.iter_mut().zip(x.shape().dims()) {
            *stride = step;
            step *= dim.max(1) as isize;
        }
        let layout = Layout::strided(*x.shape(), &strides, 1);
        let mut data = vec![T::default(); step as usize + 1];
        for (position, value) in layout.positions().zip(values.to_vec::<T>()) {
            data[position] = value;
        }
        let length = data.len();
        Tensor::from_parts(Tensor::from_vec(data, [length]).buffer().clone(), layout)
    })
}

/// Uniform values in [-1, 1), in f64, away from nothing in particular.
pub(crate) fn uniform(shape: impl Into<Shape>, seed: u64) -> Tensor {
    let shape = shape.into();
    let rng = Rng::seed(seed);
    Tensor::from_vec((0..shape.numel() as u64).map(|i| rng.uniform(i) * 2.0 - 1.0).collect(), shape)
}

/// Standard normal values, in f64.
pub(crate) fn normal(shape: impl Into<Shape>, seed: u64) -> Tensor {
    let shape = shape.into();
    let rng = Rng::seed(seed);
    Tensor::from_vec((0..shape.numel() as u64).map(|i| rng.normal(i)).collect::<Vec<f64>>(), shape)
}

/// Uniform values in [low, high), in f64.
pub(crate) fn between(low: f64, high: f64, shape: impl Into<Shape>, seed: u64) -> Tensor {
    let shape = shape.into();
    let rng = Rng::seed(seed);
    Tensor::from_vec((0..shape.numel() as u64).map(|i| low + rng.uniform(i) * (high - low)).collect(), shape)
}

/// The error function by its power series (Abramowitz and Stegun 7.1.5), exact to rounding for moderate arguments.
pub(crate) fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, 0.0);
    for n in 0..100 {
        sum += term / (2 * n + 1) as f64;
        term *= -x * x / (n + 1) as f64;
    }
    std::f64::consts::FRAC_2_SQRT_PI * sum
}
