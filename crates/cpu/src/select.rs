//! Choosing between two operands by a mask.

use cupola_core::{Element, Layout, Shape, bf16, f16};

use crate::instantiate;
use crate::strided::Plan;
use crate::work::{PIECE, pieces};

#[track_caller]
fn select_of<T: Element>(shape: Shape, mask: (&[bool], &Layout), a: (&[T], &Layout), b: (&[T], &Layout), y: &mut [T]) {
    let plan = Plan::new(shape, [mask.1, a.1, b.1], "where");
    assert_eq!(y.len(), shape.numel(), "where: length of the result of shape {shape}");
    let (mask, a, b) = (mask.0, a.0, b.0);
    let strides = plan.inner();
    pieces(y, PIECE, |first, y| {
        plan.runs(first, y.len(), |[m, p, q], at, count| {
            let y = &mut y[at..at + count];
            match strides {
                [1, 1, 1] => {
                    let rows = mask[m..m + count].iter().zip(&a[p..p + count]).zip(&b[q..q + count]);
                    y.iter_mut().zip(rows).for_each(|(y, ((&m, &a), &b))| *y = if m { a } else { b });
                }
                [1, 1, 0] => {
                    let (rows, b) = (mask[m..m + count].iter().zip(&a[p..p + count]), b[q]);
                    y.iter_mut().zip(rows).for_each(|(y, (&m, &a))| *y = if m { a } else { b });
                }
                [1, 0, 1] => {
                    let (rows, a) = (mask[m..m + count].iter().zip(&b[q..q + count]), a[p]);
                    y.iter_mut().zip(rows).for_each(|(y, (&m, &b))| *y = if m { a } else { b });
                }
                _ => {
                    let at = |position: usize, k: usize, step: isize| (position as isize + k as isize * step) as usize;
                    for (k, y) in y.iter_mut().enumerate() {
                        let (a, b) = (a[at(p, k, strides[1])], b[at(q, k, strides[2])]);
                        *y = if mask[at(m, k, strides[0])] { a } else { b };
                    }
                }
            }
        });
    });
}

instantiate! {
    /// Elements that can be chosen.
    Selected: Element, for [f64, f32, bf16, f16, i64, i32, u32, i8, u8, bool] {
        /// y = a where the mask is true, b elsewhere; all three broadcast to `shape`.
        ///
        /// # Panics
        /// When an operand does not broadcast to `shape`.
        fn select(
            shape: Shape,
            mask: (&[bool], &Layout),
            a: (&[T], &Layout),
            b: (&[T], &Layout),
            y: &mut [T],
        ) = select_of;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cupola_core::pool::with_threads;

    fn check<T: Selected<T>>() {
        for n in [0, 1, 31, 33, 65, 257, 20_001] {
            let shape = Shape::new(&[4, n]);
            let layouts = [
                Layout::contiguous(shape),
                Layout::contiguous([n].into()),
                Layout::contiguous([].into()),
                Layout::contiguous([4, 1].into()),
                Layout::strided(shape, &[1, 4], 0),
            ];
            let mask: Vec<bool> = (0..4 * n + 4).map(|k| k % 3 == 0).collect();
            let a: Vec<T> = (0..4 * n + 4).map(|k| T::from_f64((k % 100) as f64)).collect();
            let b: Vec<T> = (0..4 * n + 4).map(|k| T::from_f64((k % 90 + 1) as f64)).collect();
            for m in &layouts {
                for p in &layouts {
                    for q in &layouts {
                        let [i, j, k] = [m, p, q].map(|layout| layout.broadcast_to(shape).expect("the layouts fit"));
                        let places = i.positions().zip(j.positions()).zip(k.positions());
                        let expected: Vec<T> = places.map(|((i, j), k)| if mask[i] { a[j] } else { b[k] }).collect();
                        for threads in [1, 4] {
                            let mut y = vec![T::default(); 4 * n];
                            with_threads(threads, || select(shape, (&mask, m), (&a, p), (&b, q), &mut y));
                            assert!(y == expected);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn operands_of_every_layout_are_chosen() {
        check::<f32>();
        check::<bf16>();
        check::<i64>();
        check::<bool>();
    }

    #[test]
    #[should_panic(expected = "where: shape [3] does not broadcast to [2]")]
    fn shapes_that_do_not_fit_are_named() {
        let (two, three) = (Layout::contiguous([2].into()), Layout::contiguous([3].into()));
        select([2].into(), (&[true; 2], &two), (&[0.0f32; 3], &three), (&[0.0; 2], &two), &mut [0.0; 2]);
    }
}
