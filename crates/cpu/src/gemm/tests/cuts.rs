//! Cutting a product changes no bit.

use cupola_core::pool::with_threads;

use super::*;

struct Whole<A, B> {
    a: Stored<A>,
    b: Stored<B>,
    sizes: (usize, usize, usize),
}

fn whole<A: Number, B: Number>(sizes: (usize, usize, usize), layout: usize) -> Whole<A, B> {
    let (m, k, n) = sizes;
    Whole { a: stored(11, m, k, layout), b: stored(12, k, n, 1 - layout), sizes }
}

fn product<P: Product, A: Lhs<P> + Number, B: Rhs<P> + Number>(w: &Whole<A, B>) -> Vec<P::Acc>
where
    P::Acc: Output<P::Acc>,
{
    let (m, _, n) = w.sizes;
    let mut c = vec![P::Acc::default(); m * n];
    P::matmul(w.a.view(), w.b.view(), MatMut::new(&mut c, m, n), Epilogue::default());
    c
}

fn check<P: Product, A: Lhs<P> + Number, B: Rhs<P> + Number>(sizes: (usize, usize, usize), cut_k: usize)
where
    P::Acc: Output<P::Acc> + Number,
{
    let (m, k, n) = sizes;
    every_tier(|tier| {
        for layout in [0, 1] {
            let w = whole::<A, B>(sizes, layout);
            let want = bits(&product::<P, A, B>(&w));

            for threads in [2, 4, 7] {
                let got = with_threads(threads, || product::<P, A, B>(&w));
                assert_eq!(bits(&got), want, "{threads} threads, {tier:?}");
            }

            for step in [1, 5, 14, 40] {
                let mut c = vec![P::Acc::default(); m * n];
                for from in (0..m).step_by(step) {
                    let rows = from..m.min(from + step);
                    let target = MatMut::new(&mut c, m, n).row_range(rows.clone());
                    P::matmul(w.a.view().row_range(rows), w.b.view(), target, Epilogue::default());
                }
                assert_eq!(bits(&c), want, "rows cut by {step}, {tier:?}");
            }

            for step in [9, 32, 50] {
                let mut c = vec![P::Acc::default(); m * n];
                for from in (0..n).step_by(step) {
                    let cols = from..n.min(from + step);
                    let target = MatMut::new(&mut c, m, n).col_range(cols.clone());
                    P::matmul(w.a.view(), w.b.view().col_range(cols), target, Epilogue::default());
                }
                assert_eq!(bits(&c), want, "columns cut by {step}, {tier:?}");
            }

            let mut c = vec![P::Acc::default(); m * n];
            for from in (0..k).step_by(cut_k) {
                let depth = from..k.min(from + cut_k);
                let a = w.a.view().col_range(depth.clone());
                let b = Packed::<P>::new(w.b.view().row_range(depth));
                P::matmul_packed(a, &b, MatMut::new(&mut c, m, n), Epilogue::accumulate());
            }
            assert_eq!(bits(&c), want, "depth cut by {cut_k}, {tier:?}");

            let b = Packed::<P>::new(w.b.view());
            let mut c = vec![P::Acc::default(); m * n];
            let sizes = [3, 0, 1, 20, m - 24];
            let groups: Vec<_> = sizes.iter().map(|&rows| (rows, &b)).collect();
            P::matmul_grouped(w.a.view(), &groups, MatMut::new(&mut c, m, n), Epilogue::default());
            assert_eq!(bits(&c), want, "groups of {sizes:?}, {tier:?}");
            let views: Vec<_> = sizes.iter().map(|&rows| (rows, w.b.view())).collect();
            let mut c = vec![P::Acc::default(); m * n];
            P::matmul_grouped_strided(w.a.view(), &views, MatMut::new(&mut c, m, n), Epilogue::default());
            assert_eq!(bits(&c), want, "strided groups of {sizes:?}, {tier:?}");
        }
    });
}

#[test]
fn cutting_an_f32_product_changes_no_bit() {
    check::<F32, f32, f32>((67, 600, 133), 37);
}

#[test]
fn cutting_an_f64_product_changes_no_bit() {
    check::<F64, f64, f64>((67, 301, 75), 37);
}

#[test]
fn cutting_a_bf16_product_at_even_depths_changes_no_bit() {
    check::<Bf16, bf16, bf16>((67, 601, 133), 38);
    check::<Bf16, f32, bf16>((43, 130, 70), 2);
}

#[test]
fn cutting_a_byte_product_changes_no_bit() {
    check::<Int8, i8, i8>((67, 1_201, 133), 37);
    check::<Int8, u8, i8>((43, 130, 70), 1);
}

#[test]
fn large_products_have_the_same_bits_on_any_number_of_threads() {
    every_tier(|tier| {
        let w = whole::<f32, f32>((300, 257, 530), 0);
        let want = with_threads(1, || product::<F32, _, _>(&w));
        for threads in [2, 4, 7] {
            let got = with_threads(threads, || product::<F32, _, _>(&w));
            assert_eq!(bits(&got), bits(&want), "{threads} threads, {tier:?}");
        }
    });
}

#[test]
fn groups_use_their_own_right_operands() {
    every_tier(|tier| {
        let (k, n) = (33, 40);
        // The last group is larger than what a task takes, so that its operand is packed beforehand.
        let sizes = [2, 0, 31, 1, 300];
        let m = sizes.iter().sum();
        let a = stored::<f32>(1, m, k, 0);
        let experts: Vec<_> = (0..5).map(|e| stored::<f32>(100 + e, k, n, 1)).collect();
        let packed: Vec<_> = experts.iter().map(|e| Packed::<F32>::new(e.view())).collect();
        let groups: Vec<_> = sizes.into_iter().zip(&packed).collect();
        let mut c = vec![0.0f32; m * n];
        F32::matmul_grouped(a.view(), &groups, MatMut::new(&mut c, m, n), Epilogue::default());
        let views: Vec<_> = sizes.into_iter().zip(experts.iter().map(|e| e.view())).collect();
        let mut strided = vec![0.0f32; m * n];
        F32::matmul_grouped_strided(a.view(), &views, MatMut::new(&mut strided, m, n), Epilogue::default());
        assert_eq!(bits(&strided), bits(&c), "{tier:?}");
        let mut row = 0;
        for (size, expert) in sizes.into_iter().zip(&experts) {
            let mut want = vec![0.0f32; size * n];
            let rows = a.view().row_range(row..row + size);
            F32::matmul(rows, expert.view(), MatMut::new(&mut want, size, n), Epilogue::default());
            assert_eq!(c[row * n..(row + size) * n], want, "{tier:?}");
            row += size;
        }
    });
}

#[test]
fn a_refilled_operand_is_the_new_one() {
    let (k, n) = (50, 70);
    let (old, new) = (stored::<i8>(1, k, n, 0), stored::<i8>(2, k, n, 1));
    let a = stored::<i8>(3, 5, k, 0);
    every_tier(|tier| {
        let mut packed = Packed::<Int8>::new(old.view());
        let (address, line) = (packed.panels().start, packed.panels().line);
        packed.refill(new.view());
        assert_eq!(packed.panels().start, address);
        let bytes = n.div_ceil(line / 4) * line * (13 + 1);
        assert_eq!((packed.rows(), packed.cols(), packed.bytes()), (k, n, bytes));
        let mut c = vec![0i32; 5 * n];
        Int8::matmul_packed(a.view(), &packed, MatMut::new(&mut c, 5, n), Epilogue::default());
        let want = expected::<Int8, _, _>(&a, &new, |_, _| 0).concat();
        assert_eq!(c, want, "{tier:?}");
    });
}
