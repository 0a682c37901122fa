//! Keeping gradients small (Pascanu et al., "On the difficulty of training recurrent neural networks", 2013).

use cupola_core::{DType, Element};
use cupola_cpu::optim;
use cupola_cpu::real::Real;

use crate::autograd::gradients::Gradients;
use crate::dispatch::with_float;
use crate::mode;
use crate::tensor::Tensor;

impl Gradients {
    /// `sqrt(sum of all squares)` over all gradients; accumulated in f64.
    pub fn norm(&self) -> f64 {
        let _paused = mode::pause_recording();
        self.iter().map(|(_, grad)| sum_of_squares(grad)).sum::<f64>().sqrt()
    }

    /// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, as PyTorch does, and returns the norm they had before.
    ///
    /// A norm that is not finite is returned like any other and leaves gradients that are of no use: look before stepping.
    ///
    /// ```
    /// use cupola_tensor::Tensor;
    /// let w = Tensor::from_vec(vec![3.0f32, 4.0], [2]).requires_grad();
    /// let mut grads = (&w * &w).sum([]).affine(0.5, 0.0).backward();
    /// assert_eq!(grads.clip_norm(1.0), 5.0);
    /// assert!((grads.norm() - 1.0).abs() < 1e-6);
    /// ```
    pub fn clip_norm(&mut self, max_norm: f64) -> f64 {
        let norm = self.norm();
        let factor = clip_factor(norm, max_norm);
        if factor != 1.0 {
            self.scale(factor);
        }
        norm
    }

    /// Limits every entry of every gradient to `-limit..=limit`; NaN stays NaN.
    pub fn clip_value(&mut self, limit: f64) {
        for (_, grad) in self.iter_mut() {
            rewrite(grad, |x| if x.abs() > limit { limit.copysign(x) } else { x });
        }
    }

    /// Multiplies all gradients by `factor`.
    pub fn scale(&mut self, factor: f64) {
        for (_, grad) in self.iter_mut() {
            match grad.dtype() {
                DType::F32 => scale::<f32>(grad, factor),
                DType::F64 => scale::<f64>(grad, factor),
                _ => rewrite(grad, |x| x * factor),
            }
        }
    }
}

/// In place where nobody else holds the gradient.
fn scale<R: optim::Steps<R> + Real>(grad: &mut Tensor, factor: f64) {
    if grad.as_mut_slice::<R>().is_none() {
        let _paused = mode::pause_recording();
        *grad = Tensor::from_slice(grad.contiguous().slice_of::<R>(), *grad.shape());
    }
    if let Some(entries) = grad.as_mut_slice::<R>() {
        optim::scale(entries, factor);
    }
}

/// Applies `change` to every entry, in place where nobody else holds the gradient.
fn rewrite(grad: &mut Tensor, change: impl Fn(f64) -> f64) {
    let _paused = mode::pause_recording();
    with_float!("gradients", grad.dtype(), T => {
        if let Some(entries) = grad.as_mut_slice::<T>() {
            entries.iter_mut().for_each(|x| *x = <T as Element>::from_f64(change(x.to_f64())));
        } else {
            let old = grad.contiguous();
            let old = old.slice_of::<T>();
            *grad = Tensor::build::<T>(*grad.shape(), |new| {
                new.iter_mut().zip(old).for_each(|(y, x)| *y = <T as Element>::from_f64(change(x.to_f64())));
            });
        }
    });
}

/// The factor that brings gradients of norm `norm` down to `max_norm`; 1 when they are smaller.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    let factor = max_norm / (norm + 1e-6);
    // A NaN must reach the gradients, not vanish in `min`.
    if factor >= 1.0 { 1.0 } else { factor }
}

/// The sum of squares; narrow floats are widened first.
fn sum_of_squares(grad: &Tensor) -> f64 {
    match grad.dtype() {
        DType::F64 => optim::sum_squares(grad.contiguous().slice_of::<f64>()),
        _ => optim::sum_squares(grad.to_dtype(DType::F32).contiguous().slice_of::<f32>()),
    }
}
