//! Low-rank additions to linear layers (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv:2106.09685).
//!
//! [`adapt`] freezes a model and gives chosen projections additions that are trained instead; [`merge`] adds them into the weights.
//!
//! ```
//! use cupola_nn::lora::{LoraConfig, adapt, merge};
//! use cupola_nn::{Layer, Module, layers::Linear};
//! use cupola_tensor::{Tensor, no_grad};
//!
//! let mut layer = Linear::new(8, 4).init(0);
//! let x = Tensor::ones([2, 8]);
//! let before = layer.forward(&x);
//! let names = adapt(&mut layer, &LoraConfig { rank: 2, ..LoraConfig::default() }, |_| true)?;
//! let mut layer = layer.init_missing(1);
//! assert_eq!((names.len(), layer.trainable_count()), (1, 2 * 8 + 4 * 2));
//! // The second matrix is zero at first: nothing has changed yet.
//! assert!(layer.forward(&x).equals(&before));
//! layer.adapters[0].b.set(&Tensor::ones([4, 2]));
//! let apart = no_grad(|| layer.forward(&x));
//! merge(&mut layer);
//! assert!(layer.adapters.is_empty() && layer.forward(&x).relative_error(&apart) < 1e-6);
//! # Ok::<(), cupola_nn::lora::LoraError>(())
//! ```

use std::ops::Range;

use cupola_tensor::ops::linear::{Activation, linear};
use cupola_tensor::{Tensor, no_grad};

use crate::Module;
use crate::init::Init;
use crate::layers::Linear;
use crate::module::{Path, VisitorMut};
use crate::param::Param;
use crate::training::is_training;

/// How additions are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rows of the first matrix, columns of the second.
    pub rank: usize,
    /// The addition counts `alpha / rank` times.
    pub alpha: f64,
    /// Dropout of the addition's input.
    pub dropout: f64,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, dropout: 0.0 }
    }
}

/// Why a model cannot be given additions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// A number of the configuration.
    #[error("a low-rank addition of {name} = {found}, expected {expected}")]
    Config {
        /// Its name.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A projection whose weight counts as three values.
    #[error("{name}: a weight of three values cannot take up a low-rank addition, which would be rounded away")]
    Ternary {
        /// The projection.
        name: String,
    },
    /// A projection that has one already.
    #[error("{name}: the projection has a low-rank addition already")]
    Twice {
        /// The projection.
        name: String,
    },
}

/// `scale B A x`, added to some rows of a linear layer's result. Called `lora_A` and `lora_B` below the projection in names.
#[derive(Module, Clone, Debug)]
pub struct Adapter {
    /// `A [rank, in]`, uniform within `1 / sqrt(in)` at first, as Kaiming's rule with the slope of root 5 has it.
    #[module(rename = "lora_A")]
    pub a: Param,
    /// `B [out, rank]`, zero at first.
    #[module(rename = "lora_B")]
    pub b: Param,
    /// What the product counts.
    pub scale: f64,
    /// Dropout of the input in training.
    pub dropout: f64,
    /// The projection's name inside a layer that computes several; empty where it is the layer.
    #[module(skip)]
    pub(crate) part: String,
    /// The projection's rows in the layer's weight.
    #[module(skip)]
    pub(crate) rows: Range<usize>,
}

impl Adapter {
    /// # Shapes
    /// `[.., in]` -> `[.., rows]`.
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = if self.dropout > 0.0 && is_training("lora") { x.dropout(self.dropout) } else { x.clone() };
        let inner = linear(&x, &self.a, None, Activation::None) * self.scale;
        linear(&inner, &self.b, None, Activation::None)
    }

    /// `scale B A`, which is added to the weight's rows.
    ///
    /// # Shapes
    /// `[rows, in]`.
    #[track_caller]
    pub fn product(&self) -> Tensor {
        self.b.matmul(&*self.a) * self.scale
    }

    /// The rows of the layer's weight that it is added to.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }
}

/// `y` with the additions of these adapters of `x`.
#[track_caller]
pub(crate) fn add(y: Tensor, x: &Tensor, adapters: &[Adapter]) -> Tensor {
    if let [only] = adapters
        && only.rows == (0..y.dim(-1))
    {
        return y + only.forward(x);
    }
    let sizes = pieces(y.dim(-1), adapters);
    let parts = y.split(-1, &sizes.iter().map(|(size, _)| *size).collect::<Vec<_>>());
    let added: Vec<Tensor> = parts
        .into_iter()
        .zip(sizes)
        .map(|(part, (_, adapter))| match adapter {
            Some(adapter) => part + adapter.forward(x),
            None => part,
        })
        .collect();
    Tensor::cat(&added.iter().collect::<Vec<_>>(), -1)
}

/// The weight with all products added.
#[track_caller]
pub(crate) fn merged(weight: &Param, adapters: &[Adapter]) -> Tensor {
    let rows = weight.dim(0);
    let sizes = pieces(rows, adapters);
    let parts = weight.split(0, &sizes.iter().map(|(size, _)| *size).collect::<Vec<_>>());
    let added: Vec<Tensor> = parts
        .into_iter()
        .zip(sizes)
        .map(|(part, (_, adapter))| match adapter {
            Some(adapter) => part + adapter.product(),
            None => part,
        })
        .collect();
    Tensor::cat(&added.iter().collect::<Vec<_>>(), 0)
}

/// `0..rows` in pieces: those of the adapters, and what lies between them.
fn pieces(rows: usize, adapters: &[Adapter]) -> Vec<(usize, Option<&Adapter>)> {
    let mut sorted: Vec<&Adapter> = adapters.iter().collect();
    sorted.sort_by_key(|adapter| adapter.rows.start);
    let mut all = Vec::new();
    let mut at = 0;
    for adapter in sorted {
        if adapter.rows.start > at {
            all.push((adapter.rows.start - at, None));
        }
        all.push((adapter.rows.len(), Some(adapter)));
        at = adapter.rows.end;
    }
    if at < rows {
        all.push((rows - at, None));
    }
    all
}

/// The projections that a linear layer at `path` computes, without `.weight`: its parts, or itself. Full name, name inside the
/// layer, rows.
fn projections(path: &str, layer: &Linear) -> Vec<(String, String, Range<usize>)> {
    let own = if path.is_empty() { "weight".to_string() } else { format!("{path}.weight") };
    let parts = layer.weight.parts(&own);
    let several = parts.len() > 1;
    let bare = |name: &str| name.strip_suffix("weight").unwrap_or(name).trim_end_matches('.').to_string();
    parts
        .into_iter()
        .map(|(name, rows)| {
            let full = bare(&name);
            let part = if several { full.rsplit('.').next().unwrap_or_default().to_string() } else { String::new() };
            (full, part, rows)
        })
        .collect()
}

/// All linear layers of a module with their paths.
struct Linears<'a>(Vec<(String, &'a mut Linear)>);

impl<'a> VisitorMut<'a> for Linears<'a> {
    fn param(&mut self, _path: &Path, _param: &'a mut Param) {}

    fn linear(&mut self, path: &Path, layer: &'a mut Linear) -> Option<&'a mut Linear> {
        self.0.push((path.as_str().to_string(), layer));
        None
    }
}

fn linears(module: &mut impl Module) -> Vec<(String, &mut Linear)> {
    let mut all = Linears(Vec::new());
    module.visit_mut(&mut Path::new(), &mut all);
    all.0
}

/// The names of all projections that [`adapt`] can choose from: those of linear layers, each part of a fused one by itself.
pub fn candidates(module: &mut impl Module) -> Vec<String> {
    let names = |(path, layer): &(String, &mut Linear)| projections(path, layer).into_iter().map(|(name, ..)| name);
    linears(module).iter().flat_map(names).collect()
}

/// Freezes every parameter of `module` and gives an addition, without values yet, to each projection that `choose` accepts by name.
/// Returns the names chosen.
///
/// # Errors
/// When a number is wrong, or a chosen projection has weights of three values or an addition already; nothing has changed then.
pub fn adapt(
    module: &mut impl Module,
    config: &LoraConfig,
    choose: impl Fn(&str) -> bool,
) -> Result<Vec<String>, LoraError> {
    let LoraConfig { rank, alpha, dropout } = *config;
    let wrong = |name, found: String, expected| Err(LoraError::Config { name, found, expected });
    if rank == 0 {
        return wrong("rank", rank.to_string(), "a number above 0");
    }
    if !(alpha.is_finite() && alpha > 0.0) {
        return wrong("alpha", alpha.to_string(), "a number above 0");
    }
    if !(0.0..1.0).contains(&dropout) {
        return wrong("dropout", dropout.to_string(), "a number from 0 to below 1");
    }
    let mut chosen = Vec::new();
    for (path, layer) in linears(module) {
        for (name, ..) in projections(&path, layer).into_iter().filter(|(name, ..)| choose(name)) {
            if layer.ternary.is_some() {
                return Err(LoraError::Ternary { name });
            }
            if !layer.adapters.is_empty() {
                return Err(LoraError::Twice { name });
            }
            chosen.push(name);
        }
    }
    for (_, param) in module.named_parameters_mut() {
        param.set_trainable(false);
    }
    for (path, layer) in linears(module) {
        let inputs = layer.weight.shape()[1];
        let dtype = layer.weight.dtype();
        for (_, part, rows) in projections(&path, layer).into_iter().filter(|(name, ..)| choose(name)) {
            let bound = 1.0 / (inputs.max(1) as f64).sqrt();
            let mut a = Param::new([rank, inputs], Init::uniform_within(bound));
            let mut b = Param::new([rows.len(), rank], Init::Zeros);
            a.set_dtype(dtype);
            b.set_dtype(dtype);
            layer.adapters.push(Adapter { a, b, scale: alpha / rank as f64, dropout, part, rows });
        }
    }
    Ok(chosen)
}

/// Gives a projection an addition with these values: `a [rank, in]`, `b [out, rank]`. For reading files; see [`adapt`].
///
/// # Errors
/// With what does not fit, or when there is no such projection.
pub fn attach(
    module: &mut impl Module,
    name: &str,
    (a, b): (&Tensor, &Tensor),
    (scale, dropout): (f64, f64),
) -> Result<(), String> {
    for (path, layer) in linears(module) {
        let Some((_, part, rows)) = projections(&path, layer).into_iter().find(|(own, ..)| own == name) else {
            continue;
        };
        if layer.ternary.is_some() {
            return Err(LoraError::Ternary { name: name.to_string() }.to_string());
        }
        if layer.adapters.iter().any(|adapter| adapter.rows == rows) {
            return Err(LoraError::Twice { name: name.to_string() }.to_string());
        }
        let (inputs, outputs) = (layer.weight.shape()[1], rows.len());
        let fits = a.rank() == 2 && b.rank() == 2 && a.dim(1) == inputs && b.dim(0) == outputs && a.dim(0) == b.dim(1);
        if !fits {
            return Err(format!(
                "{name}: matrices of shapes {} and {}, expected [rank, {inputs}] and [{outputs}, rank]",
                a.shape(),
                b.shape()
            ));
        }
        let param = |value: &Tensor| {
            let mut param = Param::new(*value.shape(), Init::Zeros);
            param.set_dtype(layer.weight.dtype());
            param.set(value);
            param
        };
        let (a, b) = (param(a), param(b));
        // In the order of the rows, whatever the order of the file.
        let at = layer.adapters.partition_point(|adapter| adapter.rows.start < rows.start);
        layer.adapters.insert(at, Adapter { a, b, scale, dropout, part, rows });
        return Ok(());
    }
    Err(format!("{name}: the model has no projection of this name"))
}

/// One addition of a model, as it is stored.
pub struct Stored {
    /// The projection's name.
    pub name: String,
    /// `A [rank, in]`.
    pub a: Tensor,
    /// `B [out, rank]`.
    pub b: Tensor,
}

/// All additions of a module, in the order of its fields. The tensors share memory with it.
pub fn stored(module: &impl Module) -> Vec<Stored> {
    let all = module.named_parameters();
    let pairs = all.iter().filter_map(|(path, a)| {
        let name = path.strip_suffix(".lora_A").or((path == "lora_A").then_some(""))?;
        let second = if name.is_empty() { "lora_B".to_string() } else { format!("{name}.lora_B") };
        let b = all.iter().find(|(other, _)| *other == second)?.1;
        Some(Stored { name: name.to_string(), a: a.detach(), b: b.detach() })
    });
    pairs.collect()
}

/// Adds every addition into its weight and takes it away. Returns how many there were. Frozen parameters stay frozen.
#[track_caller]
pub fn merge(module: &mut impl Module) -> usize {
    let mut count = 0;
    for (_, layer) in linears(module) {
        if !layer.adapters.is_empty() {
            let weight = no_grad(|| merged(&layer.weight, &layer.adapters));
            layer.weight.set(&weight);
            count += std::mem::take(&mut layer.adapters).len();
        }
    }
    count
}
