//! Activation functions.

use super::{Saves, Unary, unary_kernels};
use crate::real::Real;
use crate::tier::Tier;

/// max(x, 0), with slope 0 at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Relu;

impl Unary for Relu {
    const NAME: &'static str = "relu";
    const SAVES: Saves = Saves::Output;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        if x < R::ZERO { R::ZERO } else { x }
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, y: R) -> R {
        if y > R::ZERO { R::ONE } else { R::ZERO }
    }
}

/// x where it is positive, slope * x elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeakyRelu {
    /// The factor of negative arguments; PyTorch's default is 0.01.
    pub slope: f64,
}

impl Unary for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const SAVES: Saves = Saves::Input;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        if x > R::ZERO { x } else { x * R::of(self.slope) }
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        if x > R::ZERO { R::ONE } else { R::of(self.slope) }
    }
}

/// x where it is positive, alpha (e^x - 1) elsewhere (Clevert et al., "Fast and accurate deep network learning by
/// exponential linear units", 2015).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elu {
    /// The limit for x towards minus infinity is -alpha.
    pub alpha: f64,
}

impl Unary for Elu {
    const NAME: &'static str = "elu";
    const SAVES: Saves = Saves::Input;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        let negative = R::of(self.alpha) * x.expm1::<I>();
        if x > R::ZERO { x } else { negative }
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        let negative = R::of(self.alpha) * x.exp::<I>();
        if x > R::ZERO { R::ONE } else { negative }
    }
}

/// x times the standard normal distribution function of x (Hendrycks and Gimpel, "Gaussian error linear units", 2016).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gelu;

impl Unary for Gelu {
    const NAME: &'static str = "gelu";
    const SAVES: Saves = Saves::Input;
    const ABREAST: bool = true;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        let [y] = self.values::<I, R, 1>([x]);
        y
    }
    #[inline(always)]
    fn values<I: Tier, R: Real, const N: usize>(self, x: [R; N]) -> [R; N] {
        // x Phi(x) is max(x, 0) - |x| Phi(-|x|), where the tail keeps its relative precision and 1 + erf would cancel. The tail is
        // 0 to the last bit beyond 40; the cut keeps it from meeting an infinity.
        let u = x.map(|x| x.abs()).map(|u| if u > R::of(40.0) { R::of(40.0) } else { u });
        let tail = R::normal_tail_of::<I, N>(u);
        std::array::from_fn(|k| {
            let ramp = if x[k] < R::ZERO { R::ZERO } else { x[k] };
            (-u[k]).fma::<I>(tail[k], ramp)
        })
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        let (distribution, density) = x.normal::<I>();
        x.fma::<I>(density, distribution)
    }
}

/// The approximation x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) of [`Gelu`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GeluTanh;

/// 2 sqrt(2/pi): (1 + tanh u) / 2 is the sigmoid of 2u.
const TWICE_ROOT_2_PI: f64 = 2.0 * 0.797_884_560_802_865_4;
const CUBIC: f64 = 0.044_715;

impl GeluTanh {
    #[inline(always)]
    fn gate<I: Tier, R: Real>(x: R) -> R {
        let inner = (x * x).fma::<I>(R::of(CUBIC * TWICE_ROOT_2_PI), R::of(TWICE_ROOT_2_PI));
        (x * inner).sigmoid::<I>()
    }
}

impl Unary for GeluTanh {
    const NAME: &'static str = "gelu_tanh";
    const SAVES: Saves = Saves::Input;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        x * Self::gate::<I, R>(x)
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        // The slope is 0 or 1 to the last bit beyond 30; the cut keeps x^2 finite.
        let x = if x > R::of(30.0) { R::of(30.0) } else { x };
        let x = if x < R::of(-30.0) { R::of(-30.0) } else { x };
        let s = Self::gate::<I, R>(x);
        let inner = (x * x).fma::<I>(R::of(3.0 * CUBIC * TWICE_ROOT_2_PI), R::of(TWICE_ROOT_2_PI));
        (x * inner * (R::ONE - s)).fma::<I>(s, s)
    }
}

/// x sigmoid(x), also called swish.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Silu;

impl Unary for Silu {
    const NAME: &'static str = "silu";
    const SAVES: Saves = Saves::Input;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        x * x.sigmoid::<I>()
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        let s = x.sigmoid::<I>();
        s * x.fma::<I>(R::ONE - s, R::ONE)
    }
}

/// x tanh(softplus(x)) (Misra, "Mish: a self regularized non-monotonic activation function", 2019).
///
/// With e = e^x and n = e (e + 2), tanh(ln(1 + e)) = n / (n + 2).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mish;

impl Mish {
    /// (e, n) with x cut where the tanh is 1 to the last bit.
    #[inline(always)]
    fn parts<I: Tier, R: Real>(x: R) -> (R, R) {
        let cut = if x > R::of(30.0) { R::of(30.0) } else { x };
        let e = cut.exp::<I>();
        (e, e * (e + R::of(2.0)))
    }
}

impl Unary for Mish {
    const NAME: &'static str = "mish";
    const SAVES: Saves = Saves::Input;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        let (_, n) = Self::parts::<I, R>(x);
        x * (n / (n + R::of(2.0)))
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        let (e, n) = Self::parts::<I, R>(x);
        let inverse = R::ONE / (n + R::of(2.0));
        // (1 - tanh^2) sigmoid(x) = 4 e (1 + e) / (n + 2)^2.
        let factor = R::of(4.0) * (e * inverse) * ((R::ONE + e) * inverse);
        let cut = if x > R::of(30.0) { R::of(30.0) } else { x };
        cut.fma::<I>(factor, n * inverse)
    }
}

/// ln(1 + e^x), as max(x, 0) + ln(1 + e^-|x|).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Softplus;

impl Unary for Softplus {
    const NAME: &'static str = "softplus";
    const SAVES: Saves = Saves::Input;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        let tail = (-x.abs()).exp_nonpositive::<I>().log1p_unit::<I>();
        let positive = if x < R::ZERO { R::ZERO } else { x };
        positive + tail
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        x.sigmoid::<I>()
    }
}

/// x min(max(x + 3, 0), 6) / 6 (Howard et al., "Searching for MobileNetV3", 2019).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hardswish;

impl Unary for Hardswish {
    const NAME: &'static str = "hardswish";
    const SAVES: Saves = Saves::Input;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        let ramp = x + R::of(3.0);
        let ramp = if ramp < R::ZERO { R::ZERO } else { ramp };
        let ramp = if ramp > R::of(6.0) { R::of(6.0) } else { ramp };
        x * ramp * R::of(1.0 / 6.0)
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        let middle = (x + x + R::of(3.0)) * R::of(1.0 / 6.0);
        let slope = if x > R::of(3.0) { R::ONE } else { middle };
        if x < R::of(-3.0) { R::ZERO } else { slope }
    }
}

unary_kernels!(Relu, LeakyRelu, Elu, Gelu, GeluTanh, Silu, Mish, Softplus, Hardswish);
