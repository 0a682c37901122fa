//! Measured numbers of any length in bounded memory, and as few of them as a picture can show.
//!
//! A [`Series`] keeps cells: stretches of steps with their lowest and highest value, sum and count. As long as the
//! series is short a cell is one step; when there are too many, neighbours are joined in pairs. So the extremes of a
//! run of any length are never lost, however far one zooms out.

/// A stretch of consecutive measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// The first step.
    pub first: u64,
    /// The last step.
    pub last: u64,
    /// The lowest finite value and its step.
    pub low: (u64, f64),
    /// The highest finite value and its step.
    pub high: (u64, f64),
    /// The sum of the finite values.
    pub sum: f64,
    /// How many values are finite.
    pub count: u64,
    /// How many are not.
    pub bad: u64,
}

impl Cell {
    fn one(step: u64, value: f64) -> Self {
        let finite = value.is_finite();
        let point = (step, if finite { value } else { 0.0 });
        let count = u64::from(finite);
        Self { first: step, last: step, low: point, high: point, sum: point.1, count, bad: 1 - count }
    }

    /// This one and the one after it as one.
    pub fn join(self, next: Self) -> Self {
        let (low, high) = match (self.count, next.count) {
            (_, 0) => (self.low, self.high),
            (0, _) => (next.low, next.high),
            _ => (
                if next.low.1 < self.low.1 { next.low } else { self.low },
                if next.high.1 > self.high.1 { next.high } else { self.high },
            ),
        };
        Self {
            first: self.first,
            last: next.last,
            low,
            high,
            sum: self.sum + next.sum,
            count: self.count + next.count,
            bad: self.bad + next.bad,
        }
    }

    /// The mean of the finite values.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// The most cells that a series keeps.
const MOST_CELLS: usize = 1 << 15;

/// One measured number over the steps of a run.
#[derive(Clone, Debug, Default)]
pub struct Series {
    cells: Vec<Cell>,
    /// How many measurements a full cell holds: a power of two, 0 before the first.
    per_cell: u64,
    last: Option<(u64, f64)>,
}

impl Series {
    /// Adds a measurement. When its step does not follow the last one, it replaces what came from its step on.
    pub fn push(&mut self, step: u64, value: f64) {
        if self.last.is_some_and(|(last, _)| step <= last) {
            self.cut(step);
        }
        self.last = Some((step, value));
        let new = Cell::one(step, value);
        match self.cells.last_mut() {
            Some(cell) if cell.count + cell.bad < self.per_cell => *cell = cell.join(new),
            _ => self.cells.push(new),
        }
        if self.cells.len() > MOST_CELLS {
            self.cells = self.cells.chunks(2).map(|pair| pair[1..].iter().fold(pair[0], |a, b| a.join(*b))).collect();
            self.per_cell *= 2;
        }
        self.per_cell = self.per_cell.max(1);
    }

    /// Removes what was measured at `step` and after it. A cell that `step` parts stays whole, but ends before `step`.
    pub fn cut(&mut self, step: u64) {
        let kept = self.cells.partition_point(|cell| cell.first < step);
        self.cells.truncate(kept);
        if let Some(cell) = self.cells.last_mut() {
            let end = step - 1;
            cell.last = cell.last.min(end);
            cell.low.0 = cell.low.0.min(end);
            cell.high.0 = cell.high.0.min(end);
        }
        self.last = self.cells.last().map(|cell| (cell.last, cell.mean().unwrap_or(f64::NAN)));
    }

    /// The last step and its value.
    pub fn last(&self) -> Option<(u64, f64)> {
        self.last
    }

    /// All measurements as one cell.
    pub fn total(&self) -> Option<Cell> {
        self.cells.iter().copied().reduce(Cell::join)
    }

    /// The first and last step.
    pub fn ends(&self) -> Option<(u64, u64)> {
        Some((self.cells.first()?.first, self.cells.last()?.last))
    }

    /// The measurements whose place `x(step)` lies in `low..=high`, joined to at most `most` cells of about equal width
    /// on that axis. `x` must not fall; steps whose place is NaN are left out.
    pub fn buckets(&self, x: impl Fn(u64) -> f64, low: f64, high: f64, most: usize) -> Vec<Cell> {
        let mut buckets: Vec<Cell> = Vec::new();
        let mut current = usize::MAX;
        let inside = self.cells.iter().filter(|cell| x(cell.first) <= high && x(cell.last) >= low);
        let count = inside.clone().count();
        for (index, &cell) in inside.enumerate() {
            let bucket = if count <= most {
                index
            } else {
                let place = (x(cell.first) - low) / (high - low) * most as f64;
                // A cast of a float saturates, which puts everything into the picture.
                (place as usize).min(most.saturating_sub(1))
            };
            match buckets.last_mut() {
                Some(last) if bucket == current => *last = last.join(cell),
                _ => buckets.push(cell),
            }
            current = bucket;
        }
        buckets
    }
}

/// The points of a line through cells: the lowest and the highest of each in the order in which they came, and the last
/// of all; at most two for each cell and one more. A cell of values none of which is finite parts the line with NaN.
pub fn extremes(cells: &[Cell]) -> Vec<(u64, f64)> {
    let mut points = Vec::with_capacity(2 * cells.len() + 1);
    for cell in cells {
        if cell.count == 0 {
            points.push((cell.first, f64::NAN));
            continue;
        }
        let (a, b) = if cell.low.0 <= cell.high.0 { (cell.low, cell.high) } else { (cell.high, cell.low) };
        points.push(a);
        if b.0 != a.0 {
            points.push(b);
        }
    }
    points
}

/// The cells' means, smoothed over `span` steps: each a weighted mean of all, in which weights fall by a factor e with
/// every `span` steps of distance to both sides. So a smoothed line does not lag behind the one it smooths.
pub fn smoothed(cells: &[Cell], span: f64) -> Vec<(u64, f64)> {
    let cells: Vec<(u64, f64, f64)> =
        cells.iter().filter(|cell| cell.count > 0).map(|cell| (cell.last, cell.sum, cell.count as f64)).collect();
    // What lies to one side of each cell, without itself: the sum and the weight.
    let side = |order: &mut dyn Iterator<Item = usize>| {
        let mut sides = vec![(0.0, 0.0); cells.len()];
        let (mut sum, mut weight, mut before) = (0.0, 0.0, None);
        for index in order {
            let (at, value, count) = cells[index];
            let kept = before.map_or(0.0, |before: u64| (-(at.abs_diff(before) as f64) / span).exp());
            (sum, weight) = (sum * kept, weight * kept);
            sides[index] = (sum, weight);
            (sum, weight, before) = (sum + value, weight + count, Some(at));
        }
        sides
    };
    let (left, right) = (side(&mut (0..cells.len())), side(&mut (0..cells.len()).rev()));
    let mean = |(index, &(at, value, count)): (usize, &(u64, f64, f64))| {
        (at, (left[index].0 + value + right[index].0) / (left[index].1 + count + right[index].1))
    };
    cells.iter().enumerate().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(values: impl IntoIterator<Item = f64>) -> Series {
        let mut series = Series::default();
        for (step, value) in (1..).zip(values) {
            series.push(step, value);
        }
        series
    }

    #[test]
    fn a_short_series_is_kept_exactly() {
        let series = series([3.0, 1.0, 2.0]);
        let cells = series.buckets(|step| step as f64, 1.0, 3.0, 100);
        assert_eq!(extremes(&cells), [(1, 3.0), (2, 1.0), (3, 2.0)]);
        let inner = series.buckets(|step| step as f64, 2.0, 2.5, 100);
        assert_eq!(extremes(&inner), [(2, 1.0)]);
    }

    #[test]
    fn ten_million_steps_give_at_most_2000_points_with_every_extreme() {
        let steps = 10_000_000u64;
        let mut series = Series::default();
        for step in 1..=steps {
            let value = match step {
                3_333_333 => 99.0,
                7_777_777 => -99.0,
                5_000_001 => f64::NAN,
                _ => (step % 1000) as f64 / 1000.0,
            };
            series.push(step, value);
        }
        assert!(series.cells.len() <= MOST_CELLS);
        let cells = series.buckets(|step| step as f64, 1.0, steps as f64, 1000);
        let points = extremes(&cells);
        assert!(points.len() <= 2000, "{} points", points.len());
        assert!(points.contains(&(3_333_333, 99.0)) && points.contains(&(7_777_777, -99.0)));
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let total = series.total().expect("measurements");
        assert_eq!((total.count, total.bad, series.last()), (steps - 1, 1, Some((steps, 0.0))));
        let logarithmic = series.buckets(|step| (step as f64).log10(), 0.0, 7.0, 1000);
        assert!(logarithmic.len() <= 1000 && extremes(&logarithmic).contains(&(7_777_777, -99.0)));
    }

    #[test]
    fn a_step_that_does_not_follow_replaces_what_came_after_it() {
        let mut again = series((0..100).map(f64::from));
        again.push(51, -1.0);
        let cells = again.buckets(|step| step as f64, 0.0, 1e9, 1000);
        assert_eq!(cells.len(), 51);
        assert_eq!((again.last(), cells[49].low), (Some((51, -1.0)), (50, 49.0)));
        again.push(0, 7.0);
        assert_eq!((again.ends(), again.total().map(|cell| cell.count)), (Some((0, 0)), Some(1)));
    }

    #[test]
    fn smoothing_keeps_a_constant_and_follows_a_change_without_a_lag() {
        let jump = series((0..400).map(|step| if step < 200 { 1.0 } else { 2.0 }));
        let cells = jump.buckets(|step| step as f64, 1.0, 400.0, 1000);
        let smooth = smoothed(&cells, 20.0);
        assert_eq!(smooth.len(), 400);
        assert!(smooth[..60].iter().all(|&(_, value)| (value - 1.0).abs() < 1e-3));
        // It crosses the middle where the values do, and 20 steps on half of 1/e is left.
        assert!(smooth[199].1 < 1.5 && smooth[200].1 > 1.5 && (smooth[199].1 + smooth[200].1 - 3.0).abs() < 1e-6);
        assert!((smooth[220].1 - (2.0 - 0.5 * (-1.0f64).exp())).abs() < 0.01, "{:?}", smooth[220]);
        // Joined cells say nearly the same.
        let coarse = smoothed(&jump.buckets(|step| step as f64, 1.0, 400.0, 100), 20.0);
        assert!((coarse[99].1 - smooth[399].1).abs() < 1e-3);
    }

    proptest! {
        #[test]
        fn buckets_lose_no_value(
            values in prop::collection::vec(prop_oneof![9 => -1e6f64..1e6, 1 => Just(f64::NAN)], 1..500),
            most in 1usize..50,
        ) {
            let series = series(values.clone());
            let cells = series.buckets(|step| step as f64, 1.0, values.len() as f64, most);
            prop_assert!(cells.len() <= most.max(1) || values.len() <= most);
            let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
            prop_assert_eq!(cells.iter().map(|cell| cell.count + cell.bad).sum::<u64>(), values.len() as u64);
            prop_assert_eq!(cells.iter().map(|cell| cell.count).sum::<u64>(), finite.len() as u64);
            let points = extremes(&cells);
            prop_assert!(points.len() <= 2 * cells.len());
            let of = |pick: fn(f64, f64) -> f64, values: &mut dyn Iterator<Item = f64>| values.reduce(pick);
            let mut drawn = points.iter().map(|point| point.1).filter(|value| value.is_finite());
            prop_assert_eq!(of(f64::max, &mut drawn), of(f64::max, &mut finite.iter().copied()));
            for &(step, value) in points.iter().filter(|point| point.1.is_finite()) {
                prop_assert_eq!(values[step as usize - 1], value);
            }
        }

        #[test]
        fn joining_in_any_order_gives_the_same_extremes(values in prop::collection::vec(-1e6f64..1e6, 1..200), cut in 0usize..200) {
            let cells: Vec<Cell> = (1..).zip(&values).map(|(step, &value)| Cell::one(step, value)).collect();
            let whole = cells.iter().copied().reduce(Cell::join).expect("one at least");
            let (left, right) = cells.split_at(cut.min(cells.len()));
            let parts = [left, right].map(|part| part.iter().copied().reduce(Cell::join));
            let joined = parts.into_iter().flatten().reduce(Cell::join).expect("one at least");
            prop_assert_eq!((whole.low, whole.high, whole.count), (joined.low, joined.high, joined.count));
            prop_assert_eq!((whole.first, whole.last), (joined.first, joined.last));
        }
    }
}
