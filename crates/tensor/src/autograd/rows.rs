//! Gradients of tables of which a pass reads few rows.

use std::collections::HashMap;

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, Element};
use cupola_cpu::embedding::scatter_add;
use cupola_cpu::reduce::Dims;

use crate::autograd::graph::Meta;
use crate::compute::with_real;
use crate::dispatch::with_float;
use crate::tensor::Tensor;

/// Elements of a table from which it counts as large. Nothing of a batch is asked, so that its parts are summed as the whole is.
const LARGE: usize = 1 << 20;

/// The gradient of a large table `[V, D]` of f32 or f64: the sums of the rows that were read, the others being zero. A table that is
/// tied to the last layer of a language model has a full gradient from there, and a second one that is mostly zeros would have to be
/// written and added to it.
#[derive(Clone)]
pub(crate) struct Rows {
    table: Meta,
    /// The table's rows that were read, in the order in which they came, and where each of them stands there.
    rows: Vec<i64>,
    places: HashMap<i64, i64>,
    /// Their sums, with room for more rows: `[room, D]`.
    sums: Tensor,
}

impl Rows {
    /// Whether gradients of such a table are kept by rows.
    pub fn suit(table: Meta) -> bool {
        table.shape.rank() == 2 && table.shape.numel() >= LARGE && matches!(table.dtype, DType::F32 | DType::F64)
    }

    /// Of no row yet.
    pub fn new(table: Meta) -> Self {
        let sums = Tensor::zeros_of([0, table.shape[1]], table.dtype);
        Self { table, rows: Vec::new(), places: HashMap::new(), sums }
    }

    /// Adds row k of `dy` to row `indices[k]` of the table, in the order of k. That the indices are rows of the table has been checked when
    /// it was read.
    pub fn add(mut self, dy: &Tensor, indices: &[i64]) -> Self {
        let places: Vec<i64> = indices
            .iter()
            .map(|&row| {
                *self.places.entry(row).or_insert_with(|| {
                    self.rows.push(row);
                    self.rows.len() as i64 - 1
                })
            })
            .collect();
        let mut room = self.sums.dim(0);
        if room < self.rows.len() {
            // As many as there can be: so the sums take as much memory in every step.
            room = self.table.shape[0].min(room + indices.len());
        }
        let dims = Dims { outer: 1, n: room, inner: self.table.shape[1] };
        let mut sums = with_real!(self.table.dtype, T => self.sums_of::<T>(room));
        with_float!("embedding", dy.dtype(), T => {
            scatter_add(dy.slice_of::<T>(), dims, &places, sums.as_mut_slice());
        });
        self.sums = Tensor::from_buffer(sums, [dims.n, dims.inner]);
        self
    }

    /// The sums taken out, with zeros for as many rows as come to the room.
    fn sums_of<T: Element>(&mut self, room: usize) -> Buffer {
        let len = room * self.table.shape[1];
        let old = std::mem::replace(&mut self.sums, Tensor::zeros_of([0], self.table.dtype));
        let old = match old.numel() == len {
            true => match old.into_buffer() {
                Ok(buffer) => return buffer,
                Err(shared) => shared,
            },
            false => old,
        };
        let mut sums = Buffer::zeroed(self.table.dtype, len, Placement::Passing);
        sums.as_mut_slice::<T>()[..old.numel()].copy_from_slice(old.slice_of::<T>());
        sums
    }

    /// `sum` with these rows added, in its memory when nobody else holds it.
    pub fn added_to(self, sum: Tensor) -> Tensor {
        let shape = *sum.shape();
        match sum.into_buffer() {
            Ok(mut buffer) => {
                let dims = Dims { outer: 1, n: shape[0], inner: shape[1] };
                with_real!(self.table.dtype, T => {
                    let sums = &self.sums.slice_of::<T>()[..self.rows.len() * dims.inner];
                    scatter_add(sums, dims, &self.rows, buffer.as_mut_slice::<T>());
                });
                Tensor::from_buffer(buffer, shape)
            }
            Err(shared) => shared.accumulate(&self.into_tensor()),
        }
    }

    /// All rows of the table.
    pub fn into_tensor(self) -> Tensor {
        let zeros = Tensor::zeros_of(self.table.shape, self.table.dtype);
        self.added_to(zeros)
    }
}

#[cfg(test)]
mod tests {
    use cupola_core::{DType, Rng};

    use crate::autograd::checkpoint::checkpoint;
    use crate::ops::linear::{Activation, linear};
    use crate::{Gradients, Tensor};

    const V: usize = 1024;
    const D: usize = 1024;

    fn table(dtype: DType) -> Tensor {
        Tensor::randn([V, D], Rng::seed(1)).to_dtype(dtype).requires_grad()
    }

    /// Rows of which one comes twice, and factors for their gradients.
    fn batch(from: usize, dtype: DType) -> (Tensor, Tensor) {
        let indices = (from..from + 40).map(|i| if i % 8 == 5 { 7 } else { (i * 131 % V) as i64 }).collect();
        (Tensor::from_vec(indices, [40usize]), Tensor::randn([40, D], Rng::seed(from as u64 + 2)).to_dtype(dtype))
    }

    /// Reads the table twice: by rows, and whole as the last layer of a language model does.
    fn loss(table: &Tensor, indices: &Tensor, factors: &Tensor) -> Tensor {
        let read = table.embedding(indices);
        (&read * factors).sum([]) + linear(&(factors * 0.5), table, None, Activation::None).sum([])
    }

    fn expected(parts: &[(Tensor, Tensor)], tied: bool) -> Vec<f64> {
        let mut grad = vec![0.0; V * D];
        for (indices, factors) in parts {
            let factors = factors.to_dtype(DType::F64).to_vec::<f64>();
            for (k, &row) in indices.to_vec::<i64>().iter().enumerate() {
                for j in 0..D {
                    grad[row as usize * D + j] += factors[k * D + j];
                }
            }
            if tied {
                let column = |j: usize| 0.5 * factors.iter().skip(j).step_by(D).sum::<f64>();
                let columns: Vec<f64> = (0..D).map(column).collect();
                grad.chunks_mut(D).for_each(|row| row.iter_mut().zip(&columns).for_each(|(sum, x)| *sum += x));
            }
        }
        grad
    }

    fn assert_close(grad: &Tensor, want: &[f64]) {
        let grad = grad.to_dtype(DType::F64).to_vec::<f64>();
        let off = grad.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-4, "{off}");
    }

    #[test]
    fn rows_join_what_other_uses_collect() {
        for dtype in [DType::F32, DType::F64] {
            let (table, parts) = (table(dtype), [batch(0, dtype), batch(1000, dtype)]);
            let want = expected(&parts[..1], true);
            let value = loss(&table, &parts[0].0, &parts[0].1);
            assert_close(&value.backward_retain()[&table], &want);
            let mut seen = 0;
            let mut grads = Gradients::new();
            value.backward_with(&mut grads, |_, grad| {
                assert_close(grad, &want);
                seen += 1;
            });
            assert_eq!(seen, 1);
            loss(&table, &parts[1].0, &parts[1].1).backward_into(&mut grads);
            assert_close(&grads[&table], &expected(&parts, true));
        }
    }

    #[test]
    fn parts_of_a_batch_add_up_to_the_bits_of_the_whole() {
        let (table, [a, b]) = (table(DType::F32), [0, 500].map(|from| batch(from, DType::F32)));
        let whole = [Tensor::cat(&[&a.0, &b.0], 0), Tensor::cat(&[&a.1, &b.1], 0)];
        let whole = loss(&table, &whole[0], &whole[1]).backward();
        let mut parts = Gradients::new();
        loss(&table, &a.0, &a.1).backward_into(&mut parts);
        loss(&table, &b.0, &b.1).backward_into(&mut parts);
        let bits = |grad: &Tensor| grad.to_vec::<f32>().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(bits(&whole[&table]) == bits(&parts[&table]));
    }

    #[test]
    fn a_table_read_by_rows_alone_has_a_whole_gradient() {
        let (table, (indices, factors)) = (table(DType::F32), batch(3, DType::F32));
        let want = expected(&[(indices.clone(), factors.clone())], false);
        let read = move |table: &Tensor| (table.embedding(&indices) * &factors).sum([]);
        assert_close(&read(&table).backward()[&table], &want);
        let inside = read.clone();
        let region = checkpoint(&[&table], move |x| vec![inside(&x[0])]).swap_remove(0);
        assert_close(&region.backward()[&table], &want);
        let (inside, captured) = (read.clone(), table.clone());
        let region = checkpoint(&[&Tensor::ones([1])], move |_| vec![inside(&captured)]).swap_remove(0);
        assert_close(&region.backward()[&table], &want);
        let mut grads = read(&table).backward();
        grads.iter_mut().for_each(|(_, grad)| assert_close(grad, &want));
        assert_close(&grads.remove(&table).expect("it was read"), &want);
    }
}
