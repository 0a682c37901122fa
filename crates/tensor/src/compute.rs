//! For operations whose kernels compute in f32 or f64: bf16 and f16 are widened on the way in and rounded on the way out.

use cupola_core::{DType, Element};

use crate::autograd::running::RunningSum;
use crate::op::{Backward, InputGrads};
use crate::tensor::Tensor;

/// Evaluates an expression with `$T` standing for f32 or f64, the dtype given, which comes from [`compute_dtype`].
macro_rules! with_real {
    ($dtype:expr, $T:ident => $body:expr) => {
        if $dtype == cupola_core::DType::F64 {
            type $T = f64;
            $body
        } else {
            type $T = f32;
            $body
        }
    };
}
pub(crate) use with_real;

/// The dtype that kernels compute in for an input of `x`'s: f64 for f64, f32 for the other floats.
///
/// # Panics
/// When `x` is not floating-point, with the operation's name.
#[track_caller]
pub(crate) fn compute_dtype(op: &str, x: &Tensor) -> DType {
    assert!(x.dtype().is_float(), "{op}: dtype is {}, expected a floating-point type", x.dtype());
    if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 }
}

/// The tensor as kernels read it: contiguous, in the dtype they compute in.
pub(crate) fn prepare(x: &Tensor, dtype: DType) -> Tensor {
    x.to_dtype(dtype).contiguous()
}

/// The gradient of input `index`, computed by `fill`, which is told whether to add to what it is given.
pub(crate) fn accumulated<T: Element>(
    cx: &mut Backward<'_>,
    index: usize,
    fill: impl FnOnce(&mut [T], bool),
) -> Tensor {
    let mut sum = RunningSum::unwritten(cx, index, T::DTYPE);
    let add = sum.continues();
    fill(sum.slice::<T>(), add);
    sum.finish()
}

/// Each gradient in its input's dtype.
pub(crate) fn in_input_dtypes(cx: &Backward<'_>, grads: Vec<Option<Tensor>>) -> InputGrads {
    let convert =
        |(i, grad): (usize, Option<Tensor>)| grad.filter(|_| cx.needs(i)).map(|g| g.to_dtype(cx.input(i).dtype));
    grads.into_iter().enumerate().map(convert).collect::<Vec<_>>().into()
}

/// Windows that slide over `D` dimensions.
///
/// ```
/// use cupola_tensor::ops::Window;
/// let window = Window { stride: [1, 2], ..Window::new([3, 3]) };
/// assert_eq!(window.padding, [0, 0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<const D: usize> {
    /// Sizes of a window.
    pub kernel: [usize; D],
    /// From one window to the next.
    pub stride: [usize; D],
    /// What is added at both ends of each dimension: at most half of what a window reaches over.
    pub padding: [usize; D],
    /// From one element of a window to the next.
    pub dilation: [usize; D],
    /// Whether a last window may reach past the end, as long as it begins inside the input or the padding before it.
    pub ceil_mode: bool,
}

impl<const D: usize> Window<D> {
    /// Windows side by side: the stride is their size, nothing is padded.
    pub const fn new(kernel: [usize; D]) -> Self {
        Self { kernel, stride: kernel, padding: [0; D], dilation: [1; D], ceil_mode: false }
    }
}

impl From<Window<1>> for Window<2> {
    /// Over an image of height 1.
    fn from(window: Window<1>) -> Self {
        let across = |[size]: [usize; 1], down| [down, size];
        Self {
            kernel: across(window.kernel, 1),
            stride: across(window.stride, 1),
            padding: across(window.padding, 0),
            dilation: across(window.dilation, 1),
            ceil_mode: window.ceil_mode,
        }
    }
}

impl Window<2> {
    /// The sizes for the kernels.
    ///
    /// # Panics
    /// When no window fits, with the operation's name.
    #[track_caller]
    pub(crate) fn pooling(&self, op: &str, x: &cupola_core::Shape) -> cupola_cpu::pooling::Pooling {
        use cupola_cpu::pooling::Pooling;
        let rank = x.rank();
        assert!(rank >= 2, "{op}: shape {x} has no height and width");
        let input = [x[rank - 2], x[rank - 1]];
        let mut output = [0; 2];
        for axis in 0..2 {
            let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
            let dilation = self.dilation[axis];
            assert!(kernel > 0 && stride > 0 && dilation > 0, "{op}: {self:?}; window, stride and dilation start at 1");
            let reach = dilation * (kernel - 1) + 1;
            assert!(
                2 * padding <= reach,
                "{op}: padding {:?} is more than half of window {:?}",
                self.padding,
                self.kernel
            );
            match Pooling::output_size(input[axis], reach, stride, padding, self.ceil_mode) {
                Some(size) if input[axis] > 0 => output[axis] = size,
                _ => panic!("{op}: window {:?} with padding {:?} does not fit shape {x}", self.kernel, self.padding),
            }
        }
        Pooling {
            planes: x[..rank - 2].iter().product(),
            input,
            output,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
        }
    }
}

/// `shape` with another height and width.
pub(crate) fn with_plane(shape: &cupola_core::Shape, [height, width]: [usize; 2]) -> cupola_core::Shape {
    shape.with_dim(shape.rank() - 2, height).with_dim(shape.rank() - 1, width)
}
