//! Activations: what networks put between their layers, element by element.

use cupola_cpu::unary::{Elu, Gelu, GeluTanh, Hardswish, LeakyRelu, Mish, Relu, Silu, Softplus};

use super::unary::elementwise;

elementwise! {
    /// `max(x, 0)`; slope 0 at 0.
    relu() => Relu, on 0.1..2.0 as |x| x.max(0.0);
    /// `x` where positive, `slope * x` elsewhere (Maas et al., "Rectifier nonlinearities improve neural network acoustic
    /// models", 2013).
    leaky_relu(slope: f64 = 0.1) => LeakyRelu(LeakyRelu { slope }), on -2.0..-0.1 as |x| if x > 0.0 { x } else { 0.1 * x };
    /// `x` where positive, `alpha * (e^x - 1)` elsewhere (Clevert et al., 2015, arXiv:1511.07289).
    elu(alpha: f64 = 1.5) => Elu(Elu { alpha }), on -3.0..-0.1 as |x| if x > 0.0 { x } else { 1.5 * x.exp_m1() };
    /// `x * Phi(x)`, Phi the normal distribution function (Hendrycks and Gimpel, 2016, arXiv:1606.08415).
    gelu() => Gelu, on -3.0..3.0 as |x| 0.5 * x * (1.0 + crate::testing::erf(x / std::f64::consts::SQRT_2));
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`: the form of [`Tensor::gelu`](crate::Tensor::gelu) that GPT-2 uses.
    gelu_tanh() => GeluTanh, on -3.0..3.0
        as |x| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
    /// `x * sigmoid(x)`, also called swish (Elfwing et al., 2017, arXiv:1702.03118).
    silu() => Silu, on -5.0..5.0 as |x| x / (1.0 + (-x).exp());
    /// `x * tanh(ln(1 + e^x))` (Misra, 2019, arXiv:1908.08681).
    mish() => Mish, on -5.0..5.0 as |x| x * x.exp().ln_1p().tanh();
    /// `ln(1 + e^x)`.
    softplus() => Softplus, on -5.0..5.0 as |x| x.exp().ln_1p();
    /// `x * min(max(x + 3, 0), 6) / 6` (Howard et al., 2019, arXiv:1905.02244).
    hardswish() => Hardswish, on -2.9..2.9 as |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0;
}

#[cfg(test)]
mod tests {
    use crate::Tensor;

    #[test]
    fn on_both_sides_of_every_bend() {
        let x = Tensor::from_vec(vec![-4.0f32, -1.0, 0.0, 2.0, 4.0], [5]).requires_grad();
        let check = |y: Tensor, values: [f32; 5], slopes: [f32; 5]| {
            let grads = y.sum([]).backward();
            assert_eq!((y.to_vec::<f32>(), grads[&x].to_vec::<f32>()), (values.to_vec(), slopes.to_vec()));
        };
        check(x.relu(), [0.0, 0.0, 0.0, 2.0, 4.0], [0.0, 0.0, 0.0, 1.0, 1.0]);
        check(x.leaky_relu(0.5), [-2.0, -0.5, 0.0, 2.0, 4.0], [0.5, 0.5, 0.5, 1.0, 1.0]);
        let (value, slopes) = (x.hardswish().to_vec::<f32>(), [0.0, 1.0 / 6.0, 0.5, 7.0 / 6.0, 1.0]);
        assert_eq!((value[0], value[4]), (-0.0, 4.0));
        let grads = x.hardswish().sum([]).backward();
        assert!(grads[&x].to_vec::<f32>().iter().zip(slopes).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6));
    }
}
