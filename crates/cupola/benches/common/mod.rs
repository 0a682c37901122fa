//! How a training step is timed.

use std::time::Instant;

/// Times of one step, sorted, in seconds.
pub struct Times {
    /// On the clock.
    pub wall: Vec<f64>,
    /// Of all threads of this process together, which is what counts on a machine that is busy with other work.
    pub processor: Vec<f64>,
}

impl Times {
    /// Runs `step` three times to warm up, then for about `seconds`, and at least five times.
    pub fn of(seconds: f64, mut step: impl FnMut()) -> Self {
        (0..3).for_each(|_| step());
        let mut times = Self { wall: Vec::new(), processor: Vec::new() };
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < seconds || times.wall.len() < 5 {
            let (start, used) = (Instant::now(), processor_seconds());
            step();
            times.wall.push(start.elapsed().as_secs_f64());
            times.processor.push(processor_seconds() - used);
        }
        times.wall.sort_by(f64::total_cmp);
        times.processor.sort_by(f64::total_cmp);
        times
    }

    /// Fields of a JSON object: medians and bests in milliseconds, and how many steps were timed.
    pub fn fields(&self) -> String {
        let ms = |list: &[f64]| (list[list.len() / 2] * 1e3, list[0] * 1e3);
        let ((median, fastest), (processor, least)) = (ms(&self.wall), ms(&self.processor));
        format!(
            "\"ms_per_step\": {median:.2}, \"fastest_ms\": {fastest:.2}, \"processor_ms\": {processor:.2}, \
             \"least_processor_ms\": {least:.2}, \"steps\": {}",
            self.wall.len()
        )
    }
}

/// Seconds of processor time that this process has had, where the system tells (Linux).
fn processor_seconds() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return f64::NAN };
    let of_task = |task: std::io::Result<std::fs::DirEntry>| -> Option<f64> {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(of_task).sum::<f64>() / 1e9
}
