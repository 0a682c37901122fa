//! The dashboard of a loop of one's own: a straight line fitted to noisy points by gradient descent.
//!
//! `cargo run -p cupola-monitor --example own_loop` prints an address and trains until it is ended.

use cupola_monitor::TrainingMonitor;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let points: Vec<(f64, f64)> = (0..200u32)
        .map(|i| {
            let x = f64::from(i) / 100.0 - 1.0;
            // Noise without a generator: it only has to be uneven.
            (x, 0.7 * x - 0.2 + 0.3 * (f64::from(i) * 12.9898).sin())
        })
        .collect();
    let monitor =
        TrainingMonitor::new("a straight line").config("lr", 0.01).config("points", 200).serve("127.0.0.1:0")?;
    let (mut slope, mut offset, lr) = (0.0, 0.0, 0.01);
    for step in 1.. {
        // Two points at a time, so that the loss is as uneven as that of a real run.
        let batch = [points[step * 7 % 200], points[step * 31 % 200]];
        let error = |(x, y): (f64, f64)| slope * x + offset - y;
        let loss: f64 = batch.iter().map(|&point| error(point).powi(2)).sum::<f64>() / 2.0;
        let gradient = batch.map(|(x, y)| (error((x, y)) * x, error((x, y))));
        slope -= lr * (gradient[0].0 + gradient[1].0);
        offset -= lr * (gradient[0].1 + gradient[1].1);
        monitor.log(step, [("loss", loss), ("slope", slope), ("offset", offset)]);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(())
}
