//! What a step does to each layer: how large its update is beside its weights, and how weights, gradients and updates are
//! distributed.
//!
//! A look keeps the weights of before, which costs the memory of a copy while the optimiser works, when that of the activations is
//! free again; and it goes through all weights a few times, which is why it is taken now and then and not at every step.

use std::borrow::Cow;
use std::sync::OnceLock;

use cupola_core::pool::parallel_for;
use cupola_io::run::Histogram;
use cupola_models::Decoder;
use cupola_nn::Module;
use cupola_tensor::{Gradients, Tensor, no_grad};

/// The most layers with a ratio of their own: a line of the metrics has room for so many.
const MOST_LAYERS: usize = 200;

/// The trainable weights and their gradients before an update, by layer.
pub(super) struct Look {
    layers: Vec<Layer>,
}

struct Layer {
    name: String,
    weights: Vec<Weight>,
}

struct Weight {
    path: String,
    before: Tensor,
    grad: Tensor,
}

/// What a look has found.
#[derive(Default)]
pub(super) struct Seen {
    /// `update_ratio` of all weights together, and of each layer.
    pub(super) ratios: Vec<(String, f64)>,
    /// Weights, gradients (as they came, before any clipping) and updates of each layer.
    pub(super) histograms: Vec<Histogram>,
}

impl Look {
    /// Keeps what an update will change.
    pub(super) fn before(model: &Decoder, grads: &Gradients) -> Self {
        let mut layers: Vec<Layer> = Vec::new();
        for (path, param) in model.named_parameters() {
            let Some(before) = param.value().filter(|_| param.is_trainable()) else { continue };
            let Some(grad) = before.leaf_id().and_then(|id| grads.get_id(id)) else { continue };
            let name = layer(&path);
            let weight = Weight { before: before.detach(), grad: grad.clone(), path: path.clone() };
            match layers.iter_mut().find(|known| known.name == name) {
                Some(known) => known.weights.push(weight),
                None => layers.push(Layer { name: name.to_owned(), weights: vec![weight] }),
            }
        }
        Self { layers }
    }

    /// Compares with the model after the update, at the step that it finished. Equal numbers on any threads: each is summed in one
    /// piece.
    pub(super) fn after(self, model: &Decoder, step: u64) -> Seen {
        let parameters = model.named_parameters();
        let now = |path: &str| parameters.iter().find(|(name, _)| name == path).and_then(|(_, param)| param.value());
        // Every layer as slices: before, after, gradient.
        type Numbers<'a> = [Cow<'a, [f32]>; 3];
        let layers: Vec<(&str, Vec<Numbers>)> = self
            .layers
            .iter()
            .map(|layer| {
                let weights = layer.weights.iter().filter_map(|weight| {
                    let after = now(&weight.path)?;
                    Some([numbers(&weight.before), numbers(after), numbers(&weight.grad)])
                });
                (layer.name.as_str(), weights.collect())
            })
            .collect();
        let squares: Vec<OnceLock<(f64, f64)>> = layers.iter().map(|_| OnceLock::new()).collect();
        let histograms: Vec<OnceLock<Option<Histogram>>> = (0..3 * layers.len()).map(|_| OnceLock::new()).collect();
        parallel_for(4 * layers.len(), |task| {
            let (name, weights) = &layers[task / 4];
            let changes = || weights.iter().flat_map(|[old, new, _]| old.iter().zip(&**new)).map(change);
            let of =
                |which: usize| weights.iter().flat_map(move |numbers| numbers[which].iter()).map(|&x| f64::from(x));
            let histogram = match task % 4 {
                0 => Histogram::of(step, name, "weight", || of(1)),
                1 => Histogram::of(step, name, "gradient", || of(2)),
                2 => Histogram::of(step, name, "update", changes),
                _ => {
                    // Each task has its own place, so that none is taken twice.
                    let _ = squares[task / 4].set((square(changes()), square(of(0))));
                    return;
                }
            };
            let _ = histograms[task / 4 * 3 + task % 4].set(histogram);
        });
        let squares: Vec<(f64, f64)> = squares.into_iter().filter_map(OnceLock::into_inner).collect();
        let mut ratios = Vec::new();
        let whole = squares.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        ratios.extend(ratio(whole).map(|ratio| ("update_ratio".to_owned(), ratio)));
        let each = layers.iter().zip(squares).take(MOST_LAYERS);
        ratios.extend(each.filter_map(|((name, _), squares)| Some((format!("update_ratio/{name}"), ratio(squares)?))));
        Seen { ratios, histograms: histograms.into_iter().filter_map(OnceLock::into_inner).flatten().collect() }
    }
}

/// The layer of a parameter: `layers.3` of `layers.3.mlp.up_proj.weight`, `norm` of `norm.weight`.
fn layer(path: &str) -> &str {
    let mut ends = path.match_indices('.').map(|(at, _)| at);
    let Some(first) = ends.next() else { return path };
    let second = ends.next().unwrap_or(path.len());
    let numbered = second > first + 1 && path[first + 1..second].bytes().all(|b| b.is_ascii_digit());
    if numbered { &path[..second] } else { &path[..first] }
}

/// Exact: the difference of two f32 of like size has room in an f64.
fn change((old, new): (&f32, &f32)) -> f64 {
    f64::from(*new) - f64::from(*old)
}

fn square(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, x| sum + x * x)
}

/// The norm of the change beside that of the weights; nothing where there is nothing to compare with.
fn ratio((change, size): (f64, f64)) -> Option<f64> {
    (size > 0.0).then(|| (change / size).sqrt())
}

/// Parameters and gradients are f32; any other dtype is read through f64.
fn numbers(tensor: &Tensor) -> Cow<'_, [f32]> {
    match tensor.as_slice::<f32>() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(no_grad(|| tensor.to_f64_vec()).into_iter().map(|x| x as f32).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_called_by_their_number() {
        for (path, name) in [
            ("layers.3.mlp.up_proj.weight", "layers.3"),
            ("layers.12", "layers.12"),
            ("norm.weight", "norm"),
            ("embed_tokens.weight", "embed_tokens"),
            ("a", "a"),
            ("a..b", "a"),
        ] {
            assert_eq!(layer(path), name);
        }
    }
}
