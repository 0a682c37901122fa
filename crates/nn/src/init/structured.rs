//! Initial values with structure.

use cupola_core::{Element, Rng, Shape};

#[track_caller]
fn matrix(shape: &Shape, name: &str) -> (usize, usize) {
    assert!(shape.rank() >= 2, "init: {name} needs a matrix, not shape {shape}");
    (shape[0], shape[1..].iter().product())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The Q of the QR decomposition of a normal matrix whose R has a positive diagonal, scaled: uniform over orthogonal matrices.
#[track_caller]
pub fn orthogonal<T: Element>(out: &mut [T], shape: &Shape, gain: f64, rng: Rng) {
    let (rows, cols) = matrix(shape, "orthogonal");
    let (count, length) = (rows.min(cols), rows.max(cols));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(count);
    for k in 0..count {
        let mut vector: Vec<f64> = (0..length).map(|i| rng.normal((k * length + i) as u64)).collect();
        // Gram-Schmidt twice is as orthogonal as Householder's method (Kahan: "twice is enough").
        for former in vectors.iter().chain(&vectors) {
            let along = dot(&vector, former);
            vector.iter_mut().zip(former).for_each(|(x, q)| *x -= along * q);
        }
        let norm = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        vectors.push(vector);
    }
    for (position, y) in out.iter_mut().enumerate() {
        let (row, col) = (position / cols, position % cols);
        let entry = if rows <= cols { vectors[row][col] } else { vectors[col][row] };
        *y = T::from_f64(gain * entry);
    }
}

/// The logarithms of 1, 2, 3, ... along the last dimension.
pub fn log_range<T: Element>(out: &mut [T], shape: &Shape) {
    let width = shape.dims().last().copied().unwrap_or(1).max(1);
    out.iter_mut().enumerate().for_each(|(position, y)| *y = T::from_f64(((position % width + 1) as f64).ln()));
}

#[track_caller]
pub fn eye<T: Element>(out: &mut [T], shape: &Shape) {
    let (_, cols) = matrix(shape, "eye");
    for (position, y) in out.iter_mut().enumerate() {
        *y = T::from_f64(f64::from(position / cols == position % cols));
    }
}

#[track_caller]
pub fn dirac<T: Element>(out: &mut [T], shape: &Shape, groups: usize) {
    let [outputs, inputs, kernel @ ..] = shape.dims() else {
        panic!("init: dirac needs a convolution's weight, not shape {shape}")
    };
    assert!(groups > 0 && outputs.is_multiple_of(groups), "init: {groups} groups do not divide shape {shape}");
    let field: usize = kernel.iter().product();
    let centre = kernel.iter().fold(0, |position, size| position * size + size / 2);
    let (per_group, inputs) = (outputs / groups, *inputs);
    out.fill(T::from_f64(0.0));
    for output in 0..*outputs {
        let channel = output % per_group;
        if channel < inputs {
            out[(output * inputs + channel) * field + centre] = T::from_f64(1.0);
        }
    }
}

#[track_caller]
pub fn sparse<T: Element>(out: &mut [T], shape: &Shape, sparsity: f64, std: f64, rng: Rng) {
    assert!(shape.rank() == 2, "init: sparse needs a matrix, not shape {shape}");
    let (rows, cols) = (shape[0], shape[1]);
    let zeros = ((sparsity * rows as f64).ceil() as usize).min(rows);
    super::draw::normal(out, 0.0, std, rng.stream(&[0]));
    for col in 0..cols {
        let keys = rng.stream(&[1, col as u64]);
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by_key(|&row| (keys.u64(row as u64), row));
        order[..zeros].iter().for_each(|row| out[row * cols + col] = T::from_f64(0.0));
    }
}
