//! Fits a small classifier to two interleaved spirals that it makes itself.
//!
//!     cargo run --release --example classifier

use cupola::prelude::*;

#[derive(Module)]
struct Classifier {
    first: Linear,
    second: Linear,
    out: Linear,
}

impl Classifier {
    fn new() -> Self {
        Self { first: Linear::new(2, 64), second: Linear::new(64, 64), out: Linear::new(64, 2) }
    }

    /// `x: [B, 2]` -> logits `[B, 2]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.first.forward(x).relu();
        let h = self.second.forward(&h).relu();
        self.out.forward(&h)
    }
}

/// `count` points of two spirals with a little noise: coordinates `[count, 2]`, classes `[count]`.
fn spirals(count: usize, rng: Rng) -> (Tensor, Tensor) {
    let noise = rng.stream(&[1]);
    let (mut points, mut classes) = (Vec::new(), Vec::new());
    for i in 0..count as u64 {
        let class = i % 2;
        let radius = rng.uniform(i);
        let angle = 3.0 * std::f64::consts::PI * radius + class as f64 * std::f64::consts::PI;
        let blur = |k: u64| 0.02 * noise.normal(2 * i + k);
        points.extend([(radius * angle.cos() + blur(0)) as f32, (radius * angle.sin() + blur(1)) as f32]);
        classes.push(class as i64);
    }
    (Tensor::from_vec(points, [count, 2]), Tensor::from_vec(classes, [count]))
}

fn accuracy(model: &Classifier, points: &Tensor, classes: &Tensor) -> f64 {
    let guessed = no_grad(|| model.forward(points)).argmax(-1);
    guessed.eq(classes).to_dtype(DType::F32).mean([]).item()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (points, classes) = spirals(1000, Rng::seed(1));
    let (test_points, test_classes) = spirals(1000, Rng::seed(2));

    let mut model = Classifier::new().init(7);
    println!("{} parameters, {:.1} % right before training", model.parameter_count(), {
        100.0 * accuracy(&model, &test_points, &test_classes)
    });
    let mut optimizer = AdamW::new(AdamWConfig { lr: 5e-3, ..AdamWConfig::default() });
    for step in 0..=600 {
        let scope = training(7, step);
        let loss = cross_entropy(&model.forward(&points), &classes);
        let grads = loss.backward();
        scope.finish(&mut model);
        optimizer.step(&mut model, &grads);
        if step % 100 == 0 {
            let right = accuracy(&model, &test_points, &test_classes);
            println!("step {step:3}   loss {:.4}   {:.1} % of the test points right", loss.item(), 100.0 * right);
        }
    }

    let path = std::env::temp_dir().join("cupola-classifier.safetensors");
    model.save(&path)?;
    let mut again = Classifier::new();
    again.load(&path)?;
    println!("saved to {} and loaded: {:.1} %", path.display(), 100.0 * accuracy(&again, &test_points, &test_classes));
    Ok(())
}
