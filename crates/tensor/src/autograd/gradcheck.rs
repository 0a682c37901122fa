//! Checking a gradient against central differences.

use cupola_core::{DType, Rng};

use crate::mode;
use crate::tensor::Tensor;

/// Half the distance between the two points of a central difference.
const EPS: f64 = 1e-5;
/// Largest allowed difference, relative to the largest gradient entry of the input (or to 1, if that is larger).
const TOLERANCE: f64 = 1e-6;

/// A gradient that finite differences contradict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GradcheckError {
    /// The function ran, and one entry differs.
    #[error(
        "gradient of input {input} at element {element}: backward says {backward:e}, central differences say {numerical:e}"
    )]
    Mismatch {
        /// Which input.
        input: usize,
        /// Which element of it, in row-major order.
        element: usize,
        /// What backward computed.
        backward: f64,
        /// What central differences give.
        numerical: f64,
    },
    /// Finite differences need double precision.
    #[error("input {input} is {found}, expected f64")]
    NotDouble {
        /// Which input.
        input: usize,
        /// Its dtype.
        found: DType,
    },
    /// The result does not depend on this input as far as the graph knows.
    #[error("no gradient reached input {input}")]
    NoGradient {
        /// Which input.
        input: usize,
    },
}

/// Compares the gradients that backward computes for `function` with central differences, at every element of every input.
///
/// The function's output, of any shape, is turned into a scalar by a fixed random weighting, so that no symmetry of a plain
/// sum hides an error. Inputs are f64; eps is 1e-5, the tolerance 1e-6 relative to the input's largest gradient.
///
/// # Errors
/// [`GradcheckError`] names the first element that differs.
pub fn gradcheck(function: impl Fn(&[Tensor]) -> Tensor, inputs: &[&Tensor]) -> Result<(), GradcheckError> {
    if let Some((input, x)) = inputs.iter().enumerate().find(|(_, x)| x.dtype() != DType::F64) {
        return Err(GradcheckError::NotDouble { input, found: x.dtype() });
    }
    let leaves: Vec<Tensor> = inputs.iter().map(|x| x.detach().requires_grad()).collect();
    let output = function(&leaves);
    let weights = Tensor::randn(*output.shape(), Rng::seed(0x6772_6164)).to_dtype(DType::F64);
    if !output.needs_grad() {
        return Err(GradcheckError::NoGradient { input: 0 });
    }
    let grads = (&output * &weights).sum([]).backward();
    let weights = weights.to_vec::<f64>();
    let scalar = |inputs: &[Tensor]| -> f64 {
        let _paused = mode::pause_recording();
        function(inputs).to_vec::<f64>().iter().zip(&weights).map(|(y, w)| y * w).sum()
    };
    for (input, leaf) in leaves.iter().enumerate() {
        let backward = grads.get(leaf).ok_or(GradcheckError::NoGradient { input })?.to_vec::<f64>();
        let values = leaf.to_vec::<f64>();
        let mut point: Vec<Tensor> = leaves.iter().map(Tensor::detach).collect();
        let mut at = |element: usize, value: f64| {
            let mut moved = values.clone();
            moved[element] = value;
            point[input] = Tensor::from_vec(moved, *leaf.shape());
            scalar(&point)
        };
        let difference = |element: usize| {
            let x = values[element];
            (at(element, x + EPS) - at(element, x - EPS)) / (2.0 * EPS)
        };
        let numerical: Vec<f64> = (0..values.len()).map(difference).collect();
        let scale = numerical.iter().chain(&backward).fold(1.0f64, |largest, g| largest.max(g.abs()));
        for (element, (&backward, &numerical)) in backward.iter().zip(&numerical).enumerate() {
            let close = (backward - numerical).abs() <= TOLERANCE * scale;
            if !close {
                return Err(GradcheckError::Mismatch { input, element, backward, numerical });
            }
        }
    }
    Ok(())
}
