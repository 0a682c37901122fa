//! Every product, in every tier, against chains and f64.

use proptest::prelude::*;

use super::*;

/// Multiplies in all tiers, packed and not, into a C with a row stride of its own, and compares all bits.
fn check<P: Chain, A: Number + Lhs<P>, B: Number + Rhs<P>>(
    (m, k, n): (usize, usize, usize),
    (layout_a, layout_b): (usize, usize),
    accumulate: bool,
) where
    P::Acc: Number + Output<P::Acc>,
{
    let a = stored::<A>(1, m, k, layout_a);
    let b = stored::<B>(2, k, n, layout_b);
    let stride = n + 3;
    let before: Vec<P::Acc> = (0..m * stride + 1).map(|i| P::Acc::number(3, i, 0)).collect();
    let start = |i: usize, j: usize| {
        if accumulate { before[1 + i * stride + j] } else { P::Acc::default() }
    };
    every_tier(|tier| {
        let sums = expected::<P, A, B>(&a, &b, start);
        let mut want = before.clone();
        for (i, row) in sums.iter().enumerate() {
            want[1 + i * stride..][..n].copy_from_slice(row);
        }
        let epilogue = || Epilogue { accumulate, ..Epilogue::default() };
        let what = format!("{m} x {k} x {n}, layouts {layout_a} and {layout_b}, accumulate {accumulate}, {tier:?}");
        let mut got = before.clone();
        P::matmul(a.view(), b.view(), MatMut::strided(&mut got, 1, m, n, stride), epilogue());
        assert_eq!(bits(&got), bits(&want), "{what}");
        let packed = Packed::<P>::new(b.view());
        let mut got = before.clone();
        P::matmul_packed(a.view(), &packed, MatMut::strided(&mut got, 1, m, n, stride), epilogue());
        assert_eq!(bits(&got), bits(&want), "packed {what}");
    });
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => prop::sample::select(vec![0usize, 1, 2, 7, 13, 14, 15, 16, 17, 31, 32, 33, 65]),
        1 => prop::sample::select(vec![127usize, 128, 129, 257]),
        2 => 1usize..80,
    ]
}

fn sizes() -> impl Strategy<Value = (usize, usize, usize)> {
    (size(), size(), size()).prop_filter("quick", |(m, k, n)| m * k * n < 2_000_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn f32_products_are_chains(s in sizes(), l in (0..LAYOUTS, 0..LAYOUTS), acc: bool, mixed in 0..4usize) {
        match mixed {
            0 => check::<F32, bf16, f32>(s, l, acc),
            1 => check::<F32, f16, f16>(s, l, acc),
            _ => check::<F32, f32, f32>(s, l, acc),
        }
    }

    #[test]
    fn f64_products_are_chains(s in sizes(), l in (0..LAYOUTS, 0..LAYOUTS), acc: bool) {
        check::<F64, f64, f64>(s, l, acc);
    }

    #[test]
    fn bf16_products_are_chains(s in sizes(), l in (0..LAYOUTS, 0..LAYOUTS), acc: bool, kinds: (bool, bool)) {
        match kinds {
            (false, false) => check::<Bf16, bf16, bf16>(s, l, acc),
            (false, true) => check::<Bf16, bf16, f32>(s, l, acc),
            (true, false) => check::<Bf16, f32, bf16>(s, l, acc),
            (true, true) => check::<Bf16, f32, f32>(s, l, acc),
        }
    }

    #[test]
    fn byte_products_are_exact(s in sizes(), l in (0..LAYOUTS, 0..LAYOUTS), acc: bool, signed: bool) {
        if signed {
            check::<Int8, i8, i8>(s, l, acc);
        } else {
            check::<Int8, u8, i8>(s, l, acc);
        }
    }
}

#[test]
fn every_border_of_sizes_is_right() {
    for k in [0, 1, 2, 3, 31, 33] {
        for m in [0, 1, 2, 3, 4, 6, 7, 14, 15, 29] {
            for n in [0, 1, 15, 31, 32, 33, 64, 65, 127, 129] {
                check::<F32, f32, f32>((m, k, n), (m % 2, n % 2), k % 2 == 0);
                check::<Bf16, f32, bf16>((m, k, n), (n % 2, m % 2), k % 2 == 1);
                check::<Int8, i8, i8>((m, k, n), (k % 2, m % 2), n % 2 == 0);
            }
        }
    }
}

#[test]
fn deep_products_pass_through_all_blocks() {
    for layouts in [(0, 0), (1, 1)] {
        check::<F32, f32, f32>((15, 4_500, 33), layouts, true);
        check::<F32, f32, f32>((150, 4_200, 5), layouts, false);
        check::<F32, f32, f32>((1, 20_000, 70), layouts, false);
        check::<Bf16, bf16, f32>((145, 8_400, 3), layouts, false);
        check::<Int8, i8, i8>((2, 33_000, 3), layouts, true);
    }
}

#[test]
fn chains_stay_close_to_sums_in_f64() {
    fn distance<P: Chain, A: Number, B: Number>(k: usize) -> f64
    where
        P::Acc: Number,
    {
        let (a, b) = (stored::<A>(5, 4, k, 0), stored::<B>(6, k, 4, 0));
        let sums = expected::<P, A, B>(&a, &b, |_, _| P::Acc::default());
        let mut worst = 0.0f64;
        for (i, row) in sums.iter().enumerate() {
            for (j, sum) in row.iter().enumerate() {
                let (mut exact, mut size) = (0.0, 0.0);
                for l in 0..k {
                    let product = a.get(i, l).value() * b.get(l, j).value();
                    exact += product;
                    size += product.abs();
                }
                worst = worst.max((sum.value() - exact).abs() / size);
            }
        }
        worst
    }
    every_tier(|tier| {
        assert!(distance::<F32, f32, f32>(1000) < 1e-6, "{tier:?}");
        assert!(distance::<F64, f64, f64>(1000) < 1e-15, "{tier:?}");
        assert!(distance::<Bf16, bf16, bf16>(1000) < 1e-6, "{tier:?}");
        // Rounding operands to bf16 costs 2^-9 each.
        assert!(distance::<Bf16, f32, f32>(1000) < 5e-4, "{tier:?}");
        assert!(distance::<Int8, i8, i8>(1000) == 0.0, "{tier:?}");
    });
}

#[test]
fn byte_products_at_the_ends_of_their_range_do_not_saturate() {
    every_tier(|tier| {
        for (x, y) in [(255u8, 127i8), (255, -128)] {
            let (a, b) = ([x; 300], [y; 300]);
            let mut c = [0i32];
            Int8::matmul(
                MatRef::new(&a, 1, 300),
                MatRef::new(&b, 300, 1),
                MatMut::new(&mut c, 1, 1),
                Epilogue::default(),
            );
            assert_eq!(c[0], 300 * i32::from(x) * i32::from(y), "{tier:?}");
        }
        let (a, b) = ([-128i8; 300], [-128i8; 300]);
        let mut c = [7i32];
        Int8::matmul(
            MatRef::new(&a, 1, 300),
            MatRef::new(&b, 300, 1),
            MatMut::new(&mut c, 1, 1),
            Epilogue::accumulate(),
        );
        assert_eq!(c[0], 7 + 300 * 128 * 128, "{tier:?}");
    });
}

#[test]
fn broadcast_operands_have_stride_zero() {
    every_tier(|tier| {
        let row: Vec<f32> = (0..40).map(|k| noise(9, k, 0)).collect();
        let a = MatRef::strided(&row, 0, 20, 40, 0, 1);
        let b = MatRef::strided(&row, 0, 40, 50, 1, 0);
        let mut c = vec![0.0f32; 20 * 50];
        F32::matmul(a, b, MatMut::new(&mut c, 20, 50), Epilogue::default());
        let sum = row.iter().fold(0.0, |sum, &x| step(x, x, sum));
        assert_eq!(c, vec![sum; 20 * 50], "{tier:?}");
    });
}

#[test]
fn infinities_and_nan_stay_where_they_are() {
    every_tier(|tier| {
        let (m, k, n) = (17, 9, 37);
        let mut a = stored::<f32>(1, m, k, 0);
        let b = stored::<f32>(2, k, n, 0);
        a.data[3 * k] = f32::NAN;
        a.data[5 * k + 8] = f32::INFINITY;
        let mut f32_result = vec![0.0f32; m * n];
        F32::matmul(a.view(), b.view(), MatMut::new(&mut f32_result, m, n), Epilogue::default());
        let mut bf16_result = vec![0.0f32; m * n];
        Bf16::matmul(a.view(), b.view(), MatMut::new(&mut bf16_result, m, n), Epilogue::default());
        for c in [f32_result, bf16_result] {
            for (i, row) in c.chunks(n).enumerate() {
                assert!(row.iter().all(|x| x.is_nan() == (i == 3)), "row {i}, {tier:?}");
                assert!(row.iter().all(|x| x.is_infinite() == (i == 5)), "row {i}, {tier:?}");
            }
        }
    });
}
