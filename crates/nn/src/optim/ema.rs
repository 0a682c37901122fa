//! An average of a model's weights over its training.

use std::collections::BTreeMap;

use cupola_core::DType;
use cupola_cpu::optim;
use cupola_tensor::Tensor;

use super::optimizer::{lasting_copy, own};
use crate::module::Module;
use crate::state_dict::{LoadError, StateDict};

/// The exponential moving average of a model's weights, which often generalises better than the last weights (Polyak and Juditsky
/// 1992; `torch.optim.swa_utils.get_ema_multi_avg_fn`): `average = decay * average + (1 - decay) * weights`.
///
/// Buffers are taken over as they are, so that the average is a whole model.
#[derive(Clone)]
pub struct Ema {
    decay: f64,
    values: BTreeMap<String, Tensor>,
}

impl Ema {
    /// An average that starts from the model as it is.
    ///
    /// # Panics
    /// When `decay` is outside `0..=1` or a parameter has no values yet.
    #[track_caller]
    pub fn new(model: &impl Module, decay: f64) -> Self {
        assert!((0.0..=1.0).contains(&decay), "ema: a decay of {decay} is outside 0..=1");
        Self { decay, values: copied(model.state_dict()) }
    }

    /// Takes the model's weights into the average.
    ///
    /// # Panics
    /// When the model is not the one the average was made of.
    #[track_caller]
    pub fn update(&mut self, model: &impl Module) {
        let take = 1.0 - self.decay;
        let buffers: Vec<String> = model.named_buffers().into_iter().map(|(name, _)| name).collect();
        for (name, now) in model.state_dict() {
            let Some(average) = self.values.get_mut(&name).filter(|average| average.shape() == now.shape()) else {
                panic!("ema: the average has no `{name}` of shape {}", now.shape())
            };
            match now.dtype() {
                _ if buffers.contains(&name) => *average = copy(&now),
                DType::F64 => optim::lerp(own::<f64>(average), take, now.contiguous().slice_of::<f64>()),
                DType::F32 => optim::lerp(own::<f32>(average), take, now.contiguous().slice_of::<f32>()),
                other => panic!("ema: `{name}` is {other}, and averages are kept in f32 or f64"),
            }
        }
    }

    /// The averages by name, for a file.
    pub fn values(&self) -> &BTreeMap<String, Tensor> {
        &self.values
    }

    /// The average whose values these are.
    #[must_use]
    pub fn from_values(values: BTreeMap<String, Tensor>, decay: f64) -> Self {
        Self { decay, values }
    }

    /// Exchanges the model's weights and the average: evaluate, then exchange again.
    ///
    /// # Errors
    /// When the model is not the one the average was made of; nothing has changed then.
    pub fn swap(&mut self, model: &mut impl Module) -> Result<(), LoadError> {
        let current = model.state_dict();
        model.load_state_dict(&self.values)?;
        self.values = current;
        Ok(())
    }
}

fn copied(values: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    values.into_iter().map(|(name, value)| (name, copy(&value))).collect()
}

/// A value of its own where the optimiser writes, so that it goes on doing so in place; buffers are replaced, never written.
fn copy(value: &Tensor) -> Tensor {
    match value.dtype() {
        DType::F64 => lasting_copy::<f64>(value),
        DType::F32 => lasting_copy::<f32>(value),
        _ => value.clone(),
    }
}
