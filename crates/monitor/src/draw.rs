//! Draws measured numbers of runs into charts.

use std::sync::Arc;

use cupola_io::run::Status;

use crate::panels;
use crate::plot::{Axis, Chart, Line, Mark, Scale, Unit};
use crate::run::Run;
use crate::series::{Cell, extremes, smoothed};
use crate::state::{Over, RunState};

/// The most points of one chart, all its lines together.
pub const MOST_POINTS: usize = 2000;

/// What a chart is to show and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// The measured numbers.
    pub names: Vec<String>,
    /// The x axis.
    pub over: Over,
    /// How the x axis is spread.
    pub x: Scale,
    /// How the y axis is spread.
    pub y: Scale,
    /// Over which part of the visible width values are smoothed; 0 shows them as they are.
    pub smooth: f64,
    /// The visible part of the x axis, in its own unit; open ends show all.
    pub from: Option<f64>,
    /// See `from`.
    pub to: Option<f64>,
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
}

impl Default for Drawing {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            over: Over::Step,
            x: Scale::Linear,
            y: Scale::Linear,
            smooth: 0.0,
            from: None,
            to: None,
            width: 640,
            height: 240,
        }
    }
}

impl Drawing {
    /// The chart of `runs`. Together its lines have at most [`MOST_POINTS`] points. One run's numbers differ in colour;
    /// of several runs, each has its colour, and its second number is dashed.
    pub fn chart(&self, runs: &[Arc<Run>]) -> Chart {
        let (label, unit) = match self.over {
            Over::Step => ("step", Unit::Count),
            Over::Time => ("time of training", Unit::Seconds),
            Over::Tokens => ("tokens", Unit::Count),
        };
        let (low, high) = self.range(runs);
        let title = self.names.first().map_or(String::new(), |name| panels::panels([name.as_str()])[0].title.clone());
        let mut chart = Chart {
            title,
            x: Axis { label: label.into(), scale: self.x, unit, range: Some((low, high)) },
            y: Axis {
                scale: self.y,
                unit: self.names.first().map_or(Unit::Number, |name| panels::unit(name)),
                ..Axis::default()
            },
            width: self.width,
            height: self.height,
            ..Chart::default()
        };
        let lines = (runs.len() * self.names.len()).max(1);
        for (i, run) in runs.iter().enumerate() {
            run.with(|state, info| {
                for (j, name) in self.names.iter().enumerate() {
                    let colour = if runs.len() == 1 { j } else { i };
                    let shown = match (runs.len(), self.names.len()) {
                        // Beside the whole, a part is called by its own name.
                        (1, _) => name.split_once('/').map_or(name.as_str(), |(_, part)| part).to_owned(),
                        (_, 1) => shortened(&info.name),
                        _ => format!("{} {name}", shortened(&info.name)),
                    };
                    let share = MOST_POINTS / lines;
                    chart.lines.extend(self.line(state, name, shown, (low, high), share).map(|line| Line {
                        colour,
                        key: format!("{i} {j}"),
                        dashed: runs.len() > 1 && j > 0,
                        ..line
                    }));
                }
                if runs.len() == 1 {
                    chart.marks = self.marks(state);
                }
            });
        }
        chart
    }

    /// The visible part of the x axis.
    fn range(&self, runs: &[Arc<Run>]) -> (f64, f64) {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for run in runs {
            run.with(|state, _| {
                for (first, last) in self.names.iter().filter_map(|name| state.series(name)?.ends()) {
                    // A logarithmic axis begins where its values do.
                    let first = if self.x == Scale::Log { first.max(1) } else { first };
                    let place = |step| state.place(step, self.over);
                    let first = place(first);
                    low = low.min(if self.x == Scale::Log && first <= 0.0 { place(last) * 1e-3 } else { first });
                    high = high.max(place(last));
                }
            });
        }
        // A run that goes on gets room to go on into, so that its chart need not be drawn again at every step.
        let goes_on = runs.iter().any(|run| run.info().status == Status::Running);
        let room = if goes_on && self.to.is_none() { 0.06 * (high - self.from.unwrap_or(low)) } else { 0.0 };
        let (low, high) = (self.from.unwrap_or(low), self.to.unwrap_or(high + room));
        let placed = |value| self.x.straight(value).is_finite();
        match () {
            () if !placed(low) || !placed(high) => (if self.x == Scale::Log { 1.0 } else { 0.0 }, 10.0),
            () if low >= high => (low, if low > 0.0 { low * 1.1 } else { low + 1.0 }),
            () => (low, high),
        }
    }

    fn line(&self, state: &RunState, name: &str, shown: String, (low, high): (f64, f64), share: usize) -> Option<Line> {
        let series = state.series(name)?;
        let straight = |step| self.x.straight(state.place(step, self.over));
        let (from, to) = (self.x.straight(low), self.x.straight(high));
        // Two points a cell, one more for its smoothed value, and no more cells than there are pixels.
        // A validation is rare and a schedule exact: neither is to be smoothed.
        let smooth = self.smooth > 0.0 && !name.starts_with("val_") && name != "lr";
        let most = (share / if smooth { 3 } else { 2 }).clamp(1, self.width.max(2) as usize);
        let cells = series.buckets(straight, from, to, most);
        let place = |(step, value): (u64, f64)| (state.place(step, self.over), value);
        let mut line = Line::new(shown, extremes(&cells).into_iter().map(place).collect());
        if let (true, Some(first), Some(last)) = (smooth && cells.len() > 2, cells.first(), cells.last()) {
            let span = self.smooth * (last.last - first.first) as f64;
            line.span = span;
            line.smooth = smoothed(&cells, span.max(f64::MIN_POSITIVE)).into_iter().map(place).collect();
        }
        line.bad =
            cells.iter().filter(|cell| cell.bad > 0).map(|cell: &Cell| state.place(cell.first, self.over)).collect();
        Some(line)
    }

    fn marks(&self, state: &RunState) -> Vec<Mark> {
        let alerts = state.alerts().into_iter().map(|alert| (alert.step, alert.message, true));
        let events = state.events().filter(|event| matches!(event.name.as_str(), "resume" | "interrupt" | "rewind"));
        let events = events.map(|event| (event.step, format!("{} {}", event.name, event.message), false));
        let marks = alerts.chain(events).take(100);
        marks.map(|(step, text, alert)| Mark { x: state.place(step, self.over), text, alert }).collect()
    }
}

/// A name as a legend has room for.
fn shortened(name: &str) -> String {
    let mut kept: String = name.chars().take(32).collect();
    if kept.len() < name.len() {
        kept.push('…');
    }
    kept
}
