//! Printing as NumPy does: nested brackets, columns aligned, the middle of long dimensions left out.

use std::fmt;

use cupola_core::{DType, Element};

use crate::dispatch::with_element;
use crate::tensor::Tensor;

/// Tensors of more elements are shortened.
const SHORTEN_ABOVE: usize = 1000;
/// Entries kept at either end of a shortened dimension.
const EDGE: usize = 3;

impl fmt::Display for Tensor {
    /// `{}` prints four digits after the point, `{:.2}` two; values that would lose themselves in that print in exponent form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = f.precision().unwrap_or(4);
        let shorten = self.numel() > SHORTEN_ABOVE;
        let cells = Cells { tensor: self, format: self.number_format(precision, shorten), shorten };
        let width = cells.width();
        cells.write(f, 0, self.layout().offset as isize, width, 1)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor({} {}{})\n{self}",
            self.dtype(),
            self.shape(),
            if self.needs_grad() { ", needs gradient" } else { "" }
        )
    }
}

#[derive(Clone, Copy)]
enum NumberFormat {
    Integer,
    Fixed(usize),
    Exponent(usize),
}

impl Tensor {
    fn number_format(&self, precision: usize, shorten: bool) -> NumberFormat {
        if !self.dtype().is_float() {
            return NumberFormat::Integer;
        }
        let sample = if shorten { self.to_f64_vec()[..SHORTEN_ABOVE].to_vec() } else { self.to_f64_vec() };
        let sizes = sample.iter().map(|x| x.abs()).filter(|x| x.is_finite() && *x > 0.0);
        let (low, high) = sizes.fold((f64::INFINITY, 0.0f64), |(low, high), x| (low.min(x), high.max(x)));
        let too_small = high > 0.0 && high < 10f64.powi(-(precision as i32));
        if high >= 1e8 || too_small || (low.is_finite() && high / low > 1e8) {
            NumberFormat::Exponent(precision)
        } else {
            NumberFormat::Fixed(precision)
        }
    }
}

struct Cells<'a> {
    tensor: &'a Tensor,
    format: NumberFormat,
    shorten: bool,
}

impl Cells<'_> {
    fn cell(&self, position: usize) -> String {
        let tensor = self.tensor;
        if tensor.dtype() == DType::Bool {
            return tensor.buffer().as_slice::<bool>()[position].to_string();
        }
        with_element!(tensor.dtype(), T => {
            let value = tensor.buffer().as_slice::<T>()[position];
            match self.format {
                NumberFormat::Integer => value.to_i64().to_string(),
                NumberFormat::Fixed(digits) => format!("{:.digits$}", value.to_f64()),
                NumberFormat::Exponent(digits) => format!("{:.digits$e}", value.to_f64()),
            }
        })
    }

    /// The indices shown along a dimension; `None` stands for the gap.
    fn shown(&self, size: usize) -> Vec<Option<usize>> {
        if self.shorten && size > 2 * EDGE {
            (0..EDGE).map(Some).chain([None]).chain((size - EDGE..size).map(Some)).collect()
        } else {
            (0..size).map(Some).collect()
        }
    }

    fn width(&self) -> usize {
        fn visit(cells: &Cells<'_>, axis: usize, position: isize) -> usize {
            let layout = cells.tensor.layout();
            if axis == layout.shape.rank() {
                return cells.cell(position as usize).len();
            }
            let step = layout.strides()[axis];
            let shown = cells.shown(layout.shape[axis]);
            shown.into_iter().flatten().map(|i| visit(cells, axis + 1, position + i as isize * step)).max().unwrap_or(0)
        }
        visit(self, 0, self.tensor.layout().offset as isize)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, axis: usize, at: isize, width: usize, indent: usize) -> fmt::Result {
        let layout = self.tensor.layout();
        if axis == layout.shape.rank() {
            return write!(f, "{:>width$}", self.cell(at as usize));
        }
        let last = axis + 1 == layout.shape.rank();
        f.write_str("[")?;
        for (count, index) in self.shown(layout.shape[axis]).into_iter().enumerate() {
            if count > 0 {
                match last {
                    true => f.write_str(", ")?,
                    // A blank line between matrices, as NumPy prints them.
                    false => write!(f, ",{}{:indent$}", "\n".repeat(layout.shape.rank() - axis - 1), "")?,
                }
            }
            match index {
                Some(index) => {
                    self.write(f, axis + 1, at + index as isize * layout.strides()[axis], width, indent + 1)?
                }
                None => f.write_str("...")?,
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_like_numpy() {
        let m = Tensor::from_vec(vec![1.0f32, -2.5, 3.25, 40.0], [2, 2]);
        assert_eq!(format!("{m:.2}"), "[[ 1.00, -2.50],\n [ 3.25, 40.00]]");
        assert_eq!(Tensor::range(0, 3).to_string(), "[0, 1, 2]");
        assert_eq!(Tensor::scalar(2.0).to_string(), "2.0000");
        assert_eq!(Tensor::from_vec(vec![true, false], [2]).to_string(), "[ true, false]");
        assert_eq!(format!("{:.1}", Tensor::full([1], 1e-9)), "[1.0e-9]");
        assert_eq!(Tensor::zeros([0, 3]).to_string(), "[]");
        let cube = Tensor::zeros_of([2, 1, 1], DType::U8).to_string();
        assert_eq!(cube, "[[[0]],\n\n [[0]]]");
    }

    #[test]
    fn long_dimensions_are_shortened() {
        assert_eq!(Tensor::range(0, 2000).to_string(), "[   0,    1,    2, ..., 1997, 1998, 1999]");
    }
}
