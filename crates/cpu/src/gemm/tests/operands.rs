//! What packers write, what checks refuse, what calls ask of the system.

use cupola_core::alloc;
use cupola_core::pool::with_threads;

use super::*;

#[test]
fn rounding_to_bf16_is_that_of_the_half_crate() {
    for high in 0..=u16::MAX {
        for low in [0u32, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
            let x = f32::from_bits(u32::from(high) << 16 | low);
            let (got, want) = (pack::round_to_bf16(x), bf16::from_f32(x).to_bits());
            assert_eq!(got, want, "{x:e}");
        }
    }
}

#[test]
fn products_of_equal_sizes_ask_the_system_for_memory_once() {
    let (m, k, n) = (300, 300, 300);
    let (a, b) = (stored::<f32>(1, m, k, 0), stored::<f32>(2, k, n, 0));
    let mut c = vec![0.0f32; m * n];
    // Other tests allocate at the same time, so the count is taken from the quietest of some rounds.
    let quietest = (0..50).map(|_| {
        let before = alloc::stats().system_requests;
        F32::matmul(a.view(), b.view(), MatMut::new(&mut c, m, n), Epilogue::default());
        alloc::stats().system_requests - before
    });
    assert_eq!(quietest.skip(1).min(), Some(0));
}

#[test]
fn panels_that_are_written_past_the_caches_are_those_of_every_tier() {
    fn check<P: Product, B: Rhs<P> + Number>() {
        // More than two megabytes; neither the depth nor the columns are whole blocks of anything.
        let (k, n) = (1003, 1037);
        for layout in [0, 1, 2, 3, 6] {
            let b = stored::<B>(5, k, n, layout);
            let words = k.div_ceil(P::GROUP);
            let mut want = None;
            every_tier(|tier| {
                for threads in [1, 3] {
                    let packed = with_threads(threads, || Packed::<P>::new(b.view()));
                    let panels = packed.panels();
                    // Columns one after the other, whatever the width of a panel.
                    let column = |j: usize| {
                        let each = panels.line / P::WORD;
                        let start = panels.start.wrapping_add(j / each * panels.stride + j % each * P::WORD);
                        // SAFETY: the panels hold this column's words.
                        (0..words).map(move |k| unsafe { start.add(k * panels.line).cast::<[u8; 4]>().read() })
                    };
                    let got: Vec<[u8; 4]> = (0..n).flat_map(column).collect();
                    assert!(
                        got == *want.get_or_insert_with(|| got.clone()),
                        "layout {layout}, {threads} threads, {tier:?}"
                    );
                }
            });
        }
    }
    check::<F32, f32>();
    check::<F32, bf16>();
    check::<F32, f16>();
    check::<Bf16, bf16>();
    check::<Bf16, f32>();
}

#[test]
#[should_panic(expected = "matmul: A [2, 3] by B [4, 5] into C [2, 5]")]
fn sizes_that_do_not_fit_panic() {
    let data = [0.0f32; 20];
    let mut c = [0.0f32; 10];
    F32::matmul(MatRef::new(&data, 2, 3), MatRef::new(&data, 4, 5), MatMut::new(&mut c, 2, 5), Epilogue::default());
}

#[test]
#[should_panic(expected = "matmul_packed: A [2, 4] by B [4, 5] into C [2, 4]")]
fn a_packed_operand_of_another_size_panics() {
    let data = [0.0f32; 20];
    let mut c = [0.0f32; 10];
    let packed = Packed::<F32>::new(MatRef::new(&data, 4, 5));
    F32::matmul_packed(MatRef::new(&data, 2, 4), &packed, MatMut::new(&mut c, 2, 4), Epilogue::default());
}

#[test]
#[should_panic(expected = "matmul_grouped: groups of 3 rows in all for an A of 4 and a C of 4 rows")]
fn groups_that_leave_rows_over_panic() {
    let data = [0.0f32; 20];
    let mut c = [0.0f32; 20];
    let packed = Packed::<F32>::new(MatRef::new(&data, 4, 5));
    F32::matmul_grouped(
        MatRef::new(&data, 4, 4),
        &[(1, &packed), (2, &packed)],
        MatMut::new(&mut c, 4, 5),
        Epilogue::default(),
    );
}

#[test]
#[should_panic(expected = "matmul: a bias of 4 for 5 columns")]
fn a_bias_of_another_size_panics() {
    let data = [0.0f32; 20];
    let mut c = [0.0f32; 10];
    let epilogue = Epilogue { bias: Some(&data[..4]), ..Epilogue::default() };
    F32::matmul(MatRef::new(&data, 2, 4), MatRef::new(&data, 4, 5), MatMut::new(&mut c, 2, 5), epilogue);
}

#[test]
#[should_panic(expected = "matmul: a residual of [5, 2] for a result of [2, 5]")]
fn a_residual_of_another_size_panics() {
    let data = [0.0f32; 20];
    let mut c = [0.0f32; 10];
    let epilogue = Epilogue { residual: Some(MatRef::new(&data, 5, 2)), ..Epilogue::default() };
    F32::matmul(MatRef::new(&data, 2, 4), MatRef::new(&data, 4, 5), MatMut::new(&mut c, 2, 5), epilogue);
}
