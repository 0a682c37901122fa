//! What the operations whose state is a matrix share: their inputs and outputs, and the way to the kernels.

use cupola_core::{DType, Element, Shape};
use cupola_cpu::chunked::{self as kernel, Chunked, Chunkwise, Gradients, Inputs};

use crate::compute::{compute_dtype, in_input_dtypes, prepare, with_real};
use crate::op::{Backward, InputGrads, Outputs, Saved};
use crate::segments::Segments;
use crate::tensor::Tensor;

/// The attributes of such an operation. Its inputs are q, k, v, the decay's logarithm, then those of the others that there are, in
/// the order of these fields.
#[derive(Clone, Debug)]
pub struct MatrixState {
    /// Where sequences begin and end.
    pub segments: Segments,
    /// Whether there is a factor of each write.
    pub scale: bool,
    /// Whether there is another factor with which a token reads its own write.
    pub diagonal: bool,
    /// Whether there is the delta rule's strength.
    pub beta: bool,
    /// Whether there is an initial state.
    pub state: bool,
    /// Whether the final state is a second output.
    pub final_state: bool,
}

impl MatrixState {
    fn present(&self) -> [bool; 4] {
        [self.scale, self.diagonal, self.beta, self.state]
    }

    /// The inputs by kind: q, k, v, decay, scale, diagonal, beta, state.
    fn by_kind<'a, X>(&self, inputs: &'a [X]) -> [Option<&'a X>; 8] {
        let mut rest = inputs.iter();
        let [scale, diagonal, beta, state] = self.present();
        [true, true, true, true, scale, diagonal, beta, state].map(|there| there.then(|| rest.next()).flatten())
    }

    #[track_caller]
    fn check(&self, op: &str, inputs: &[&Tensor]) {
        let shapes: Vec<&Shape> = inputs.iter().map(|x| x.shape()).collect();
        let [q, k, v, decay] = [shapes[0], shapes[1], shapes[2], shapes[3]];
        let rank = q.rank();
        let several = (3..=4).contains(&rank) && v.rank() == rank && k == q && (rank == 3 || q[1] > 0 && v[1] == q[1]);
        let (groups, heads) = if several { (q[rank - 2], v[rank - 2]) } else { (0, 0) };
        let small = [q.dims().first().copied().unwrap_or(0), heads];
        let fits = several
            && v[0] == q[0]
            && groups > 0
            && heads.is_multiple_of(groups)
            && decay.dims() == small
            && (!self.beta || rank == 3);
        assert!(
            fits,
            "{op}: shapes {shapes:?}, expected q, k [N, G, S] or [N, R, G, S], v [N, H, P] or [N, R, H, P] with H a multiple \
             of G, and a logarithm of decays [N, H]"
        );
        assert!(q[0] == self.segments.total(), "{op}: q {q} for segments of {} tokens in all", self.segments.total());
        let kinds = self.by_kind(&shapes);
        let state = [self.segments.count(), heads, q[rank - 1], v[rank - 1]];
        let factors = kinds[4..7].iter().flatten().all(|shape| shape.dims() == small);
        assert!(
            factors && kinds[7].is_none_or(|shape| shape.dims() == state),
            "{op}: shapes {shapes:?}, expected factors {small:?} and an initial state {state:?}"
        );
    }

    fn chunked<'a>(&self, offsets: &'a [usize], q: &Shape, v: &Shape) -> Chunked<'a> {
        let rank = q.rank();
        Chunked {
            offsets,
            rank: if rank == 4 { q[1] } else { 1 },
            groups: q[rank - 2],
            heads: v[rank - 2],
            keys: q[rank - 1],
            values: v[rank - 1],
        }
    }

    fn operands<'a, T: Chunkwise<T>>(&self, wide: &'a [Tensor]) -> Inputs<'a, T> {
        let [q, k, v, decay, scale, diagonal, beta, state] =
            self.by_kind(wide).map(|input| input.map(Tensor::slice_of::<T>));
        let there = |input: Option<&'a [T]>| input.expect("the first four inputs are always there");
        Inputs { q: there(q), k: there(k), v: there(v), decay: there(decay), scale, diagonal, beta, state }
    }

    #[track_caller]
    pub(crate) fn forward(&self, op: &str, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        self.check(op, inputs);
        let dtype = compute_dtype(op, inputs[0]);
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        inputs.iter().for_each(|input| saved.keep([input]));
        let offsets = self.segments.offsets();
        let chunked = self.chunked(&offsets, inputs[0].shape(), inputs[2].shape());
        with_real!(dtype, T => {
            let operands = self.operands::<T>(&wide);
            let kept = if saved.is_enabled() { chunked.borders_len() } else { 0 };
            let states = if self.final_state { self.segments.count() } else { 0 };
            let new = |shape: &[usize]| Tensor::build::<T>(shape, |_| ());
            let mut y = new(inputs[2].shape());
            let mut last = new(&[states, chunked.heads, chunked.keys, chunked.values]);
            let mut borders = new(&[kept]);
            kernel::forward(&chunked, &operands, writable(&mut y), writable(&mut last), writable(&mut borders));
            saved.keep([&borders]);
            let y = y.to_dtype(inputs[0].dtype());
            if self.final_state { [y, last].into() } else { y.into() }
        })
    }

    pub(crate) fn backward(&self, op: &str, cx: &mut Backward<'_>) -> InputGrads {
        let saved = cx.all_saved();
        let dtype = compute_dtype(op, &saved[0]);
        let (borders, inputs) = saved.split_last().expect("forward keeps the borders last");
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        let dy = prepare(&cx.output_grad_or_zeros(0), dtype);
        let dlast = self.final_state.then(|| cx.output_grad(1)).flatten().map(|d| prepare(&d, dtype));
        let offsets = self.segments.offsets();
        let chunked = self.chunked(&offsets, inputs[0].shape(), inputs[2].shape());
        let grads = with_real!(dtype, T => self.gradients::<T>(&chunked, &wide, borders, &dy, dlast.as_ref(), dtype));
        in_input_dtypes(cx, grads)
    }

    fn gradients<T: Chunkwise<T> + Element>(
        &self,
        chunked: &Chunked<'_>,
        wide: &[Tensor],
        borders: &Tensor,
        dy: &Tensor,
        dlast: Option<&Tensor>,
        dtype: DType,
    ) -> Vec<Option<Tensor>> {
        debug_assert_eq!(T::DTYPE, dtype);
        let mut grads: Vec<Tensor> = wide.iter().map(|x| Tensor::build::<T>(*x.shape(), |_| ())).collect();
        {
            let mut rest = grads.iter_mut();
            let mut next =
                |there: bool| if there { rest.next().map(writable::<T>).unwrap_or_default() } else { &mut [] };
            let [scale, diagonal, beta, state] = self.present();
            let gradients = Gradients {
                dq: next(true),
                dk: next(true),
                dv: next(true),
                ddecay: next(true),
                dscale: next(scale),
                ddiagonal: next(diagonal),
                dbeta: next(beta),
                dstate: next(state),
            };
            let dlast = dlast.map(Tensor::slice_of::<T>);
            kernel::backward(chunked, &self.operands::<T>(wide), borders.slice_of(), dy.slice_of(), dlast, gradients);
        }
        grads.into_iter().map(Some).collect()
    }
}

/// The elements of a tensor that was made just now.
fn writable<T: Element>(x: &mut Tensor) -> &mut [T] {
    x.as_mut_slice().expect("a fresh tensor has no other holder")
}

#[cfg(test)]
pub(crate) mod testing {
    //! The definition in plain loops, token by token.

    use crate::segments::Segments;
    use crate::testing::Array;

    /// The inputs of one call, `[N, R, G, S]` and so on, with what is not given left out.
    pub(crate) struct Definition<'a> {
        pub segments: &'a Segments,
        /// R, G, H, S, P.
        pub sizes: [usize; 5],
        pub q: &'a Array,
        pub k: &'a Array,
        pub v: &'a Array,
        pub decay: Option<&'a Array>,
        pub scale: Option<&'a Array>,
        pub diagonal: Option<&'a Array>,
        pub beta: Option<&'a Array>,
        pub state: Option<&'a Array>,
    }

    impl<'a> Definition<'a> {
        /// Without anything that may be left out.
        pub fn plain(segments: &'a Segments, sizes: [usize; 5], [q, k, v]: [&'a Array; 3]) -> Self {
            let (decay, scale, diagonal, beta, state) = (None, None, None, None, None);
            Self { segments, sizes, q, k, v, decay, scale, diagonal, beta, state }
        }

        /// y `[N, R, H, P]` and the final states, as flat numbers.
        pub fn compute(&self) -> (Vec<f64>, Vec<f64>) {
            let [ranks, groups, heads, keys, values] = self.sizes;
            let tokens = self.segments.total();
            let mut y = vec![0.0; tokens * ranks * heads * values];
            let mut last = vec![0.0; self.segments.count() * heads * keys * values];
            for (sequence, range) in self.segments.iter().enumerate() {
                for head in 0..heads {
                    let group = head / (heads / groups);
                    let key =
                        |x: &Array, t: usize, r: usize, s: usize| x.data[((t * ranks + r) * groups + group) * keys + s];
                    let value = |t: usize, r: usize, p: usize| ((t * ranks + r) * heads + head) * values + p;
                    let factor = |x: Option<&Array>, t: usize| x.map(|x| x.data[t * heads + head]);
                    let from = (sequence * heads + head) * keys * values;
                    let mut state: Vec<f64> =
                        (0..keys * values).map(|i| self.state.map_or(0.0, |s| s.data[from + i])).collect();
                    for t in range.clone() {
                        let decay = factor(self.decay, t).unwrap_or(0.0).exp();
                        state.iter_mut().for_each(|s| *s *= decay);
                        let scale = factor(self.scale, t).unwrap_or(1.0);
                        let own = factor(self.diagonal, t).unwrap_or(scale);
                        let mut read = state.clone();
                        let mut after = state.clone();
                        for r in 0..ranks {
                            for p in 0..values {
                                let mut write = self.v.data[value(t, r, p)];
                                if let Some(beta) = factor(self.beta, t) {
                                    let known: f64 =
                                        (0..keys).map(|s| state[s * values + p] * key(self.k, t, r, s)).sum();
                                    write = beta * (write - known);
                                }
                                for s in 0..keys {
                                    read[s * values + p] += own * key(self.k, t, r, s) * write;
                                    after[s * values + p] += scale * key(self.k, t, r, s) * write;
                                }
                            }
                        }
                        for r in 0..ranks {
                            for p in 0..values {
                                y[value(t, r, p)] =
                                    (0..keys).map(|s| key(self.q, t, r, s) * read[s * values + p]).sum();
                            }
                        }
                        state = after;
                    }
                    last[from..from + keys * values].copy_from_slice(&state);
                }
            }
            (y, last)
        }
    }
}
