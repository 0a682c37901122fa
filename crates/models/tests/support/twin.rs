//! How the twins in PyTorch are trained (`tools/golden/models.py`).

use cupola_nn::Module;
use cupola_nn::optim::{AdamW, AdamWConfig};

/// Their optimiser, with weight decay on all parameters of more than one dimension.
pub fn adamw(model: &impl Module) -> AdamW {
    let decayed = AdamWConfig { lr: 1e-2, betas: [0.9, 0.99], weight_decay: 0.1, ..AdamWConfig::default() };
    let plain = AdamWConfig { weight_decay: 0.0, ..decayed.clone() };
    let mut optimizer = AdamW::new(decayed);
    for (path, param) in model.named_parameters() {
        if param.shape().rank() <= 1 {
            for (part, _) in param.parts(&path) {
                optimizer = optimizer.group(part, plain.clone());
            }
        }
    }
    optimizer
}
