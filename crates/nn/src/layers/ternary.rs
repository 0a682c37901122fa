//! Weights of three values (Ma et al., "The Era of 1-bit LLMs", 2024, arXiv:2402.17764: BitNet b1.58).

use cupola_core::DType;
use cupola_tensor::{Backward, InputGrads, Op, Outputs, Saved, Tensor, mode, no_grad};

use crate::Param;

/// How a linear layer computes whose weight counts as -1, 0 or 1 times one number.
///
/// The weight that is trained is an ordinary one. The layer computes with `g clip(round(W / g), -1, 1)`, where g is the mean of
/// `|W|` over all of a projection, and its gradient goes to W as if nothing had been rounded (straight through). Of a fused
/// parameter each part has a g of its own.
///
/// ```
/// use cupola_nn::{Layer, Module, layers::{Linear, Ternary}};
/// use cupola_tensor::Tensor;
/// let layer = Linear::new(2, 2).without_bias().with_ternary(Ternary::A16);
/// let mut layer = layer.init(0);
/// layer.weight.set(&Tensor::from_vec(vec![0.1f32, -0.9, 0.8, 0.2], [2, 2]));
/// let y = layer.forward(&Tensor::eye(2));
/// assert_eq!(y.to_vec::<f32>(), [0.0, 0.5, -0.5, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ternary {
    /// Inputs stay what they are.
    A16,
    /// Inputs are normalised by their root mean square and rounded to 8 bits, each token by its largest value.
    A8,
}

/// Added to mean squares by the norm of [`Ternary::A8`].
const EPS: f64 = 1e-5;
/// The smallest scale that is divided by.
const SMALLEST: f64 = 1e-5;

impl Ternary {
    /// What the layer multiplies in place of `x`.
    #[track_caller]
    pub fn input(self, x: &Tensor) -> Tensor {
        match self {
            Ternary::A16 => x.clone(),
            Ternary::A8 => RoundRows.apply(&[&x.rms_norm(None, EPS)]),
        }
    }

    /// What the layer multiplies with in place of `weight`. While nothing is differentiated it is computed once and kept with the
    /// weight's memory.
    #[track_caller]
    pub fn weight(self, weight: &Param) -> Tensor {
        struct Kept(Tensor);
        let rows: Vec<usize> = weight.parts("").into_iter().map(|(_, rows)| rows.len()).collect();
        if mode::expects_backward() || !weight.is_contiguous() {
            return RoundWeight { rows }.apply(&[weight]);
        }
        let key = [rows.len(), weight.layout().offset, weight.numel(), 0, 0];
        // As a leaf, so that its packed form is kept as well.
        let make = || Kept(round_weight(&weight.detach(), &rows).requires_grad());
        weight.buffer().packed(key, make).0.clone()
    }
}

/// `g clip(round(W / g), -1, 1)` for each part of so many rows; the gradient passes straight through.
struct RoundWeight {
    rows: Vec<usize>,
}

impl Op for RoundWeight {
    const NAME: &'static str = "ternary_weight";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        round_weight(inputs[0], &self.rows).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        cx.take_dy().into()
    }
}

fn round_weight(weight: &Tensor, rows: &[usize]) -> Tensor {
    let one = |part: &Tensor| {
        let scale = part.abs().mean([]).item().max(SMALLEST);
        (part * (1.0 / scale)).round().clamp(-1.0, 1.0) * scale
    };
    no_grad(|| {
        let parts: Vec<Tensor> = weight.split(0, rows).iter().map(one).collect();
        match &parts[..] {
            [only] => only.clone(),
            _ => Tensor::cat(&parts.iter().collect::<Vec<_>>(), 0),
        }
    })
}

/// `round(127 x / m) m / 127` with m the largest `|x|` of each row; the gradient passes straight through.
struct RoundRows;

impl Op for RoundRows {
    const NAME: &'static str = "round_rows";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let x = inputs[0];
        let wide = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let largest = x.to_dtype(wide).abs().max_keepdim([-1]).clamp(SMALLEST, f64::INFINITY);
        let scale = largest * (1.0 / 127.0);
        let rounded = (x.to_dtype(wide) / &scale).round().clamp(-128.0, 127.0);
        (rounded * scale).to_dtype(x.dtype()).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        cx.take_dy().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Linear;
    use crate::{Layer, Module, Param, init::Init};
    use cupola_tensor::Rng;

    fn weights() -> Tensor {
        Tensor::randn([6, 8], Rng::seed(1)).to_dtype(DType::F64)
    }

    fn param(parts: &[(&str, usize)]) -> Param {
        let mut param = Param::new([6, 8], Init::Zeros).with_parts(parts.iter().map(|(name, rows)| (*name, *rows)));
        param.set_dtype(DType::F64);
        param.set(&weights());
        param
    }

    #[test]
    fn every_part_has_three_values_by_its_own_mean() {
        let quantised = no_grad(|| Ternary::A16.weight(&param(&[("a", 2), ("b", 4)])));
        for (begin, rows) in [(0, 2), (2, 4)] {
            let original = weights().narrow(0, begin, rows);
            let scale = original.to_vec::<f64>().iter().map(|w| w.abs()).sum::<f64>() / (rows * 8) as f64;
            let pairs = original.to_vec::<f64>().into_iter().zip(quantised.narrow(0, begin, rows).to_vec::<f64>());
            for (w, q) in pairs {
                let expected = (w / scale).round().clamp(-1.0, 1.0) * scale;
                assert!((q - expected).abs() < 1e-12, "{w} became {q}, expected {expected}");
            }
        }
    }

    #[test]
    fn gradients_pass_straight_through() {
        let param = param(&[("a", 6)]);
        let dy = Tensor::randn([6, 8], Rng::seed(2)).to_dtype(DType::F64);
        let grads = (Ternary::A16.weight(&param) * &dy).sum([]).backward();
        assert!(grads[&*param].equals(&dy));
        let x = weights().requires_grad();
        let through = (RoundRows.apply(&[&x]) * &dy).sum([]).backward();
        assert!(through[&x].equals(&dy));
    }

    #[test]
    fn inputs_have_eight_bits_by_their_largest_value() {
        let x = weights();
        let rounded = RoundRows.apply(&[&x]);
        for row in 0..6 {
            let (x, y) = (x.select(0, row).to_vec::<f64>(), rounded.select(0, row).to_vec::<f64>());
            let step = x.iter().fold(0.0f64, |m, x| m.max(x.abs())) / 127.0;
            let nearest = |(x, y): (&f64, &f64)| (y - (x / step).round() * step).abs() < 1e-12;
            assert!(x.iter().zip(&y).all(nearest), "row {row}");
        }
    }

    #[test]
    fn a_changed_weight_is_rounded_again() {
        let mut layer = Linear::new(8, 6).without_bias().with_ternary(Ternary::A8).init(3);
        let x = Tensor::randn([2, 8], Rng::seed(4));
        let recorded = layer.forward(&x).detach();
        let kept = no_grad(|| layer.forward(&x));
        assert!(kept.same_bits(&recorded));
        layer.weight.modify::<f32>(|all| all.reverse());
        let changed = no_grad(|| layer.forward(&x));
        assert!(!changed.equals(&kept) && changed.same_bits(&layer.forward(&x).detach()));
    }
}
