//! Rows of a table by number, and the sum of gradients back into them.
//!
//! The table is `[outer, n, inner]` and the indices `[m]`; the result is `[outer, m, inner]`. An embedding is the case
//! outer = 1.

use cupola_core::{Element, bf16, f16};

use crate::binary::Lane;
use crate::reduce::Dims;
use crate::work::{PIECE, parallel_for, pieces};
use crate::{Isa, instantiate, isa, kernel};

#[track_caller]
fn check(op: &str, indices: &[i64], n: usize) {
    for (place, &index) in indices.iter().enumerate() {
        let inside = usize::try_from(index).is_ok_and(|index| index < n);
        assert!(inside, "{op}: index {index} at position {place} is outside of 0..{n}");
    }
}

/// `y[o, k] = table[o, indices[k]]`, where `table` is `[outer, n, inner]` and y `[outer, m, inner]`.
///
/// # Panics
/// When the lengths do not fit or an index is outside of the table.
#[track_caller]
pub fn gather<T: Element>(table: &[T], dims: Dims, indices: &[i64], y: &mut [T]) {
    let Dims { outer, n, inner } = dims;
    assert_eq!(table.len(), outer * n * inner, "embedding: length of the table of shape [{outer}, {n}, {inner}]");
    assert_eq!(y.len(), outer * indices.len() * inner, "embedding: length of the result of {} indices", indices.len());
    check("embedding", indices, n);
    if y.is_empty() {
        return;
    }
    pieces(y, (PIECE / inner).max(1) * inner, |first, y| {
        for (k, y) in y.chunks_mut(inner).enumerate() {
            let row = first / inner + k;
            let at = (row / indices.len() * n + indices[row % indices.len()] as usize) * inner;
            y.copy_from_slice(&table[at..at + inner]);
        }
    });
}

kernel! {
    fn add_f32[_I;](sum: &mut [f32], x: &[f32]) {
        for (sum, &x) in sum.iter_mut().zip(x) {
            *sum += x;
        }
    }
}

/// Types that gradients are summed in.
trait Sums: Copy + Default + Send + Sync {
    fn add(isa: Isa, sum: &mut [Self], x: &[Self]);
}

impl Sums for f32 {
    #[inline(always)]
    fn add(isa: Isa, sum: &mut [f32], x: &[f32]) {
        add_f32(isa, sum, x);
    }
}

macro_rules! plain_sums {
    ($($type:ty, $add:expr;)*) => {$(
        impl Sums for $type {
            #[inline(always)]
            fn add(_: Isa, sum: &mut [$type], x: &[$type]) {
                let add: fn($type, $type) -> $type = $add;
                sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum = add(*sum, x));
            }
        }
    )*};
}
plain_sums! {
    f64, |a, b| a + b;
    i64, i64::wrapping_add;
    i32, i32::wrapping_add;
    u32, u32::wrapping_add;
    i8, i8::wrapping_add;
    u8, u8::wrapping_add;
}

/// Rows of the table that one piece of work sums.
const GROUPS: usize = 64;

#[track_caller]
fn scatter_add_of<T: Lane<Compute: Sums>>(dy: &[T], dims: Dims, indices: &[i64], dtable: &mut [<T as Lane>::Compute]) {
    let Dims { outer, n, inner } = dims;
    let m = indices.len();
    assert_eq!(dtable.len(), outer * n * inner, "embedding: length of the table of shape [{outer}, {n}, {inner}]");
    assert_eq!(dy.len(), outer * m * inner, "embedding: length of the gradient of {m} indices");
    check("embedding", indices, n);
    if dy.is_empty() {
        return;
    }
    let isa = isa();
    // The places of each index in order: a row of the table belongs to one piece, which adds in the order of the places.
    let mut places: Vec<usize> = (0..m).collect();
    places.sort_by_key(|&place| indices[place]);
    let groups: Vec<&[usize]> = places.chunk_by(|&a, &b| indices[a] == indices[b]).collect();
    let cells = crate::reduce::Cells::new(dtable);
    let strips = groups.len().div_ceil(GROUPS);
    let run = |piece: usize| {
        let (o, strip) = (piece / strips, piece % strips);
        let mut buffer = Vec::new();
        for group in groups.iter().skip(strip * GROUPS).take(GROUPS) {
            let row = o * n + indices[group[0]] as usize;
            // SAFETY: each row of each outer index belongs to one group, and each group to one piece.
            let sum = unsafe { cells.range(row * inner, inner) };
            for place in *group {
                let at = (o * m + place) * inner;
                T::Compute::add(isa, sum, crate::reduce::lifted(isa, &dy[at..at + inner], &mut buffer));
            }
        }
    };
    let units = outer * strips;
    if units == 1 || dy.len() <= 2 * PIECE { (0..units).for_each(run) } else { parallel_for(units, &run) }
}

instantiate! {
    /// Elements that can be summed by index.
    Scatter: Lane, for [f64, f32, bf16, f16, i64, i32, u32, i8, u8] {
        /// `dtable[o, indices[k]] += dy[o, k]`, for each row of the table in the order of k; `dy` is `[outer, m, inner]` and
        /// `dtable` `[outer, n, inner]` in the type that sums are kept in.
        ///
        /// # Panics
        /// When the lengths do not fit or an index is outside of the table.
        fn scatter_add(dy: &[T], dims: Dims, indices: &[i64], dtable: &mut [<T as Lane>::Compute]) = scatter_add_of;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{each_tier_same_on_threads, normal};
    use cupola_core::Rng;

    #[test]
    fn rows_are_gathered_and_their_gradients_summed_in_order() {
        for (outer, n, inner, m) in [(1, 7, 33, 900), (3, 5, 1, 31), (1, 300, 257, 4000), (2, 3, 4, 0)] {
            let dims = Dims { outer, n, inner };
            let table: Vec<f32> = normal(outer * n * inner, 1.0, 1);
            let rng = Rng::seed(2);
            let indices: Vec<i64> = (0..m as u64).map(|i| rng.below(i, n as u64) as i64).collect();
            let dy: Vec<f32> = normal(outer * m * inner, 1.0, 3);
            let at = |o: usize, k: usize, i: usize| (o * m + k) * inner + i;
            let row = |o: usize, k: usize, i: usize| (o * n + indices[k] as usize) * inner + i;
            let (mut y, mut d) = (vec![0.0; dy.len()], table.clone());
            for o in 0..outer {
                for k in 0..m {
                    for i in 0..inner {
                        y[at(o, k, i)] = table[row(o, k, i)];
                        d[row(o, k, i)] += dy[at(o, k, i)];
                    }
                }
            }
            for (gathered, summed) in each_tier_same_on_threads(|| {
                let (mut gathered, mut summed) = (vec![0.0; dy.len()], table.clone());
                gather(&table, dims, &indices, &mut gathered);
                // In two parts: the order of the sum is that of the tokens.
                if outer == 1 {
                    let half = m / 2;
                    scatter_add(&dy[..half * inner], dims, &indices[..half], &mut summed);
                    scatter_add(&dy[half * inner..], dims, &indices[half..], &mut summed);
                } else {
                    scatter_add(&dy, dims, &indices, &mut summed);
                }
                (gathered, summed)
            }) {
                assert!(gathered == y);
                assert!(summed == d);
            }
        }
    }

    #[test]
    fn halves_are_summed_in_f32() {
        let dims = Dims { outer: 1, n: 2, inner: 1 };
        let mut sum = [256.0f32, 0.0];
        scatter_add(&[bf16::from_f32(1.0); 3], dims, &[0, 0, 1], &mut sum);
        assert_eq!(sum, [258.0, 1.0]);
    }

    #[test]
    #[should_panic(expected = "embedding: index -1 at position 1 is outside of 0..2")]
    fn an_index_outside_of_the_table_is_named() {
        gather(&[0.0f32; 2], Dims { outer: 1, n: 2, inner: 1 }, &[0, -1], &mut [0.0; 2]);
    }
}
