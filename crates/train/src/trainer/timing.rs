//! How many steps fit into a time.

use std::time::{Duration, Instant};

use cupola_data::{Loader, Position};
use cupola_tensor::autograd::clip::clip_factor;

use super::{first_model, loader_config, prepare_model, schedule, step};
use crate::automatic;
use crate::error::Result;
use crate::evaluate;
use crate::optimizer::Optimizer;
use crate::setup::Setup;

/// How long steps are measured.
const MEASURED: Duration = Duration::from_millis(1500);
/// Steps that are measured at least and at most.
const STEPS: std::ops::RangeInclusive<u32> = 3..=200;
/// The part of the time that goes into steps and evaluation; the rest is for samples and files.
const USED: f64 = 0.96;
/// Evaluations that [`automatic::by_steps`] plans.
const EVALUATIONS: f64 = 8.0;

/// Fixes the number of steps of a setup that was given a time: measures a few steps of a model that is thrown away. From then on it
/// is an ordinary run. Does nothing without a time.
///
/// # Errors
/// When the data cannot be read.
pub fn fix_steps(setup: &mut Setup) -> Result<()> {
    let Some(seconds) = setup.config.time else { return Ok(()) };
    let mut config = setup.config.clone();
    config.steps = Some(1000);
    let mut model = first_model(setup)?;
    prepare_model(&mut model, &config)?;
    let mut optimizer = Optimizer::new(&config.optimizer, schedule(&config).lr(), &model);
    // A rate at which nothing can happen to the numbers in the short time.
    optimizer.set_lr(1e-9);
    let mut loader = Loader::new(setup.sources.clone(), loader_config(&config), Position::default())?;
    let mut began = Instant::now();
    let mut measured = 0;
    loop {
        let batch = loader.next_batch()?;
        let (_, grads) = step::gradients(&mut model, &batch, &config, 0);
        optimizer.step(&mut model, &grads, clip_factor(grads.norm(), 1.0));
        measured += 1;
        if measured == 1 {
            // The first step fills the caches.
            began = Instant::now();
        } else if (began.elapsed() >= MEASURED && measured > *STEPS.start()) || measured == *STEPS.end() {
            break;
        }
    }
    let step_seconds = began.elapsed().as_secs_f64() / f64::from(measured - 1);
    let mut eval_seconds = 0.0;
    let rows = config.batch.micro_rows.unwrap_or(1);
    let window = config.batch.window.unwrap_or(1);
    for data in &setup.held_out {
        let began = Instant::now();
        let mut tokens = 0;
        for part in cupola_data::loader::windows(data, window, rows) {
            let part = part?;
            evaluate::batch(&model, config.dtype, &part);
            tokens += part.tokens.len();
            if began.elapsed() > Duration::from_millis(300) {
                break;
            }
        }
        eval_seconds += began.elapsed().as_secs_f64() * data.len() as f64 / tokens.max(1) as f64;
    }
    let left = (seconds * USED - EVALUATIONS * eval_seconds).max(0.1 * seconds);
    let steps = (left / step_seconds).floor().max(1.0) as u64;
    automatic::by_steps(&mut setup.config, steps);
    Ok(())
}
