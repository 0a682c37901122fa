//! Conversions between all element types.
//!
//! Floats round to even, floats to integers truncate towards zero and saturate (NaN gives 0), integers keep their low bits,
//! and bool is `value != 0`.

use cupola_core::{Element, bf16, f16};

use crate::real::Number;
use crate::work::{PIECE, pieces};
use crate::{Isa, isa};

/// Element types that convert to `U`.
#[doc(hidden)]
pub trait CastTo<U>: Element {
    fn convert(isa: Isa, from: &[Self], to: &mut [U]);
}

/// x as f32 rounded to odd: towards zero, and the last bit set where that lost something. Rounding the result to a shorter
/// type is then as good as rounding x.
fn to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) == x || x.is_nan() {
        return nearest;
    }
    let beyond = f64::from(nearest).abs() > x.abs();
    f32::from_bits((nearest.to_bits() - u32::from(beyond)) | 1)
}

fn to_half<T: Element, U: Number<Real = f32>>(from: &[T], to: &mut [U]) {
    from.iter().zip(to).for_each(|(&x, y)| *y = U::store(to_odd(x.to_f64())));
}

fn through_f64<T: Element, U: Element>(from: &[T], to: &mut [U]) {
    from.iter().zip(to).for_each(|(&x, y)| *y = U::from_f64(x.to_f64()));
}

fn through_i64<T: Element, U: Element>(from: &[T], to: &mut [U]) {
    from.iter().zip(to).for_each(|(&x, y)| *y = U::from_i64(x.to_i64()));
}

macro_rules! conversions {
    ($rule:ident: [$($from:ty),*] => $to:tt) => {
        $( conversions!(@row $rule, $from, $to); )*
    };
    (@row $rule:ident, $from:ty, [$($to:ty),*]) => {
        $(
            impl CastTo<$to> for $from {
                fn convert(isa: Isa, from: &[$from], to: &mut [$to]) {
                    conversions!(@$rule isa, from, to, $from, $to)
                }
            }
        )*
    };
    (@widen $isa:ident, $x:ident, $y:ident, $from:ty, $to:ty) => { <$from>::widen($isa, $x, $y) };
    (@narrow $isa:ident, $x:ident, $y:ident, $from:ty, $to:ty) => { <$to>::narrow($isa, $x, $y) };
    (@halves $isa:ident, $x:ident, $y:ident, $from:ty, $to:ty) => {{
        let mut wide = [0.0; 1024];
        for (x, y) in $x.chunks(1024).zip($y.chunks_mut(1024)) {
            <$from>::widen($isa, x, &mut wide[..x.len()]);
            <$to>::narrow($isa, &wide[..x.len()], y);
        }
    }};
    (@reals $isa:ident, $x:ident, $y:ident, $from:ty, $to:ty) => {{
        let _ = $isa;
        $x.iter().zip($y).for_each(|(&x, y)| *y = x as $to);
    }};
    (@by_f64 $isa:ident, $x:ident, $y:ident, $from:ty, $to:ty) => {{
        let _ = $isa;
        through_f64($x, $y)
    }};
    (@by_odd $isa:ident, $x:ident, $y:ident, $from:ty, $to:ty) => {{
        let _ = $isa;
        to_half($x, $y)
    }};
    (@by_i64 $isa:ident, $x:ident, $y:ident, $from:ty, $to:ty) => {{
        let _ = $isa;
        through_i64($x, $y)
    }};
}

conversions!(reals: [f64, f32] => [f64, f32, i64, i32, u32, i8, u8]);
conversions!(reals: [i64, i32, u32, i8, u8] => [f64, f32, i64, i32, u32, i8, u8]);
conversions!(widen: [bf16, f16] => [f32]);
conversions!(narrow: [f32] => [bf16, f16]);
conversions!(halves: [bf16, f16] => [bf16, f16]);
// By way of the nearest f32 they would round twice.
conversions!(by_odd: [f64] => [bf16, f16]);
conversions!(by_f64: [bf16, f16] => [f64, i64, i32, u32, i8, u8]);
conversions!(by_odd: [i64, i32, u32, i8, u8] => [bf16, f16]);
conversions!(by_f64: [f64, f32, bf16, f16] => [bool]);
conversions!(by_i64: [i64, i32, u32, i8, u8, bool] => [bool]);
conversions!(by_i64: [bool] => [f64, f32, bf16, f16, i64, i32, u32, i8, u8]);

/// y = x in the type of y.
///
/// # Panics
/// When the lengths differ.
#[track_caller]
pub fn cast<T: CastTo<U>, U: Element>(x: &[T], y: &mut [U]) {
    assert_eq!(x.len(), y.len(), "to_dtype: lengths of x and y");
    let isa = isa();
    pieces(y, PIECE, |first, y| T::convert(isa, &x[first..first + y.len()], y));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{each_tier_same_on_threads, uniform};

    /// The nearest value of `U`, ties to even. For halves the neighbours of a first guess are compared, because the
    /// conversion of the `half` crate drops bits of an f64 before it rounds.
    fn nearest<U: Element>(x: f64) -> U {
        fn among<U: Element>(x: f64, bits: u16, value: fn(u16) -> U) -> U {
            let error = |bits: u16| ((value(bits).to_f64() - x).abs(), bits % 2);
            let finite = |bits: &u16| value(*bits).to_f64().is_finite();
            let around = [bits.wrapping_sub(1), bits, bits.wrapping_add(1)].into_iter().filter(finite);
            let best = around.min_by(|&a, &b| error(a).partial_cmp(&error(b)).expect("finite"));
            best.map_or(value(bits), value)
        }
        let guess = U::from_f64(x);
        if x == 0.0 || !guess.to_f64().is_finite() {
            return guess;
        }
        match U::DTYPE {
            cupola_core::DType::BF16 => {
                among(x, bf16::from_f64(x).to_bits(), |bits| U::from_f64(bf16::from_bits(bits).to_f64()))
            }
            cupola_core::DType::F16 => {
                among(x, f16::from_f64(x).to_bits(), |bits| U::from_f64(f16::from_bits(bits).to_f64()))
            }
            _ => guess,
        }
    }

    fn check<T: CastTo<U>, U: Element>() {
        let mut x: Vec<T> = uniform(70_001, -300.0, 300.0, 1);
        x.extend([0.0, 1.0, -1.0, 0.5, 1e9, -1e9, 1e300, f64::INFINITY, f64::NEG_INFINITY, 5e-8, 0.1].map(T::from_f64));
        let by_integer = !T::DTYPE.is_float() && !U::DTYPE.is_float() && U::DTYPE != cupola_core::DType::Bool;
        let convert = |x: &T| {
            if by_integer { U::from_i64(x.to_i64()) } else { nearest(x.to_f64()) }
        };
        let expected: Vec<U> = x.iter().map(convert).collect();
        for y in each_tier_same_on_threads(|| {
            let mut y = vec![U::default(); x.len()];
            cast(&x, &mut y);
            y
        }) {
            let wrong = y.iter().zip(&expected).position(|(a, b)| a != b);
            assert!(wrong.is_none(), "{} -> {}: element {wrong:?}", T::DTYPE, U::DTYPE);
        }
    }

    macro_rules! all_pairs {
        ([$($from:ty),*] => $to:tt) => { $( all_pairs!(@row $from, $to); )* };
        (@row $from:ty, [$($to:ty),*]) => { $( check::<$from, $to>(); )* };
    }

    #[test]
    fn every_pair_of_types_converts() {
        all_pairs!([f64, f32, bf16, f16, i64, i32, u32, i8, u8, bool] => [f64, f32, bf16, f16, i64, i32, u32, i8, u8, bool]);
    }

    #[test]
    fn a_number_that_is_none_becomes_zero() {
        let mut y = [1i32; 1];
        cast(&[f32::NAN], &mut y);
        assert_eq!(y, [0]);
    }
}
