//! A run as it stands: its records put together in bounded memory, and the snapshot of it that readers get.

use std::collections::{BTreeMap, VecDeque};

use cupola_io::run::{DataInfo, Event, Histogram, ModelInfo, Record, RunInfo, Sample};
use serde::{Deserialize, Serialize};

use crate::alerts::{Alert, Watch};
use crate::series::{Series, extremes};

const MOST_SERIES: usize = 256;
const MOST_SAMPLES: usize = 200;
const MOST_EVENTS: usize = 500;
const MOST_HISTOGRAMS: usize = 512;
/// The longest text of a sample or event that is kept, in bytes.
const MOST_TEXT: usize = 32 << 10;
const MOST_KNOTS: usize = 1 << 13;

/// What an x axis can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// Steps of the optimiser.
    #[default]
    Step,
    /// Seconds of training.
    Time,
    /// Tokens trained on.
    Tokens,
}

/// The time and tokens of steps, with neighbours left out when there are many.
#[derive(Clone, Debug, Default)]
struct Clock {
    knots: Vec<(u64, f64, f64)>,
    every: usize,
    skipped: usize,
}

impl Clock {
    fn push(&mut self, step: u64, time: f64, tokens: u64) {
        let kept = self.knots.partition_point(|knot| knot.0 < step);
        self.knots.truncate(kept);
        // The last knot is always the last step.
        if self.skipped > 0 && self.knots.len() > 1 {
            self.knots.pop();
        }
        self.skipped = (self.skipped + 1) % self.every.max(1);
        self.knots.push((step, time, tokens as f64));
        if self.knots.len() > MOST_KNOTS {
            let mut index = 0;
            self.knots.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every = self.every.max(1) * 2;
        }
    }

    fn at(&self, step: u64, over: Over) -> f64 {
        let value = |knot: &(u64, f64, f64)| match over {
            Over::Step => knot.0 as f64,
            Over::Time => knot.1,
            Over::Tokens => knot.2,
        };
        let next = self.knots.partition_point(|knot| knot.0 < step);
        match (self.knots.get(next.wrapping_sub(1)), self.knots.get(next)) {
            (_, Some(after)) if after.0 == step => value(after),
            (Some(before), Some(after)) => {
                let part = (step - before.0) as f64 / (after.0 - before.0) as f64;
                value(before) + part * (value(after) - value(before))
            }
            (Some(only), None) | (None, Some(only)) => value(only),
            (None, None) => f64::NAN,
        }
    }
}

/// A run's records, put together.
#[derive(Clone, Debug, Default)]
pub struct RunState {
    series: BTreeMap<String, Series>,
    clock: Clock,
    last: Option<(u64, f64, u64)>,
    samples: VecDeque<Sample>,
    events: VecDeque<Event>,
    histograms: BTreeMap<(String, String), Histogram>,
    watch: Watch,
}

impl RunState {
    /// Takes in the next record. Returns whether training went back, so that what was shown is no longer true.
    pub fn apply(&mut self, record: Record) -> bool {
        let mut went_back = false;
        match record {
            Record::Header { .. } => {
                went_back = self.last.is_some() || !self.series.is_empty();
                *self = Self::default();
            }
            Record::Step(step) => {
                went_back = self.last.is_some_and(|(last, _, _)| step.step <= last);
                if went_back {
                    self.go_back(step.step);
                }
                self.last = Some((step.step, step.time, step.tokens));
                self.clock.push(step.step, step.time, step.tokens);
                if let Some(&loss) = step.values.get("loss") {
                    self.watch.push(step.step, loss);
                }
                self.measure(step.step, step.values);
            }
            Record::Eval(eval) => self.measure(eval.step, eval.values),
            Record::Sample(mut sample) => {
                shorten(&mut sample.prompt);
                shorten(&mut sample.text);
                keep(&mut self.samples, sample, MOST_SAMPLES);
            }
            Record::Event(mut event) => {
                shorten(&mut event.name);
                shorten(&mut event.message);
                keep(&mut self.events, event, MOST_EVENTS);
            }
            Record::Histogram(histogram) => {
                let key = (histogram.name.clone(), histogram.what.clone());
                if self.histograms.len() < MOST_HISTOGRAMS || self.histograms.contains_key(&key) {
                    self.histograms.insert(key, histogram);
                }
            }
            _ => {}
        }
        went_back
    }

    fn measure(&mut self, step: u64, values: BTreeMap<String, f64>) {
        for (name, value) in values {
            if self.series.len() < MOST_SERIES || self.series.contains_key(&name) {
                self.series.entry(name).or_default().push(step, value);
            }
        }
    }

    fn go_back(&mut self, step: u64) {
        for series in self.series.values_mut() {
            series.cut(step);
        }
        self.samples.retain(|sample| sample.step < step);
        self.histograms.retain(|_, histogram| histogram.step < step);
        self.watch.cut(step);
    }

    /// The last step, the seconds and the tokens so far.
    pub fn last(&self) -> Option<(u64, f64, u64)> {
        self.last
    }

    /// The measured number called `name`.
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.series.get(name)
    }

    /// The names of all measured numbers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }

    /// Where on an axis a step lies.
    pub fn place(&self, step: u64, over: Over) -> f64 {
        if over == Over::Step { step as f64 } else { self.clock.at(step, over) }
    }

    /// What the model wrote, oldest first.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = &Sample> {
        self.samples.iter()
    }

    /// What happened, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }

    /// The latest histogram of a tensor.
    pub fn histogram(&self, name: &str, what: &str) -> Option<&Histogram> {
        self.histograms.get(&(name.to_owned(), what.to_owned()))
    }

    /// What is to be worried about: what the run itself wrote down, and what was noticed here and not there.
    pub fn alerts(&self) -> Vec<Alert> {
        let worrying = |event: &&Event| matches!(event.name.as_str(), "nan" | "spike" | "plateau");
        let own = self.events.iter().filter(worrying).map(|event| Alert {
            step: event.step,
            kind: event.name.clone(),
            message: event.message.clone(),
        });
        let mut alerts: Vec<Alert> = own.collect();
        let said = |alert: &&Alert| {
            !self.events.iter().any(|event| event.name == alert.kind && event.step.abs_diff(alert.step) <= 20)
        };
        alerts.extend(self.watch.alerts().iter().filter(said).cloned());
        alerts.sort_by_key(|alert| alert.step);
        alerts
    }

    /// How many alerts were noticed here, to see when there is a new one.
    pub(crate) fn alerts_noticed(&self) -> usize {
        self.watch.alerts().len()
    }

    /// All of it as readers get it, with at most `points` points of each measured number.
    pub fn snapshot(&self, id: &str, info: &RunInfo, points: usize) -> Snapshot {
        let metrics = self.series.iter().filter_map(|(name, series)| {
            let total = series.total()?;
            let (last_step, last) = series.last()?;
            let line = if points == 0 {
                Vec::new()
            } else {
                let cells =
                    series.buckets(|step| step as f64, total.first as f64, total.last as f64, (points / 2).max(1));
                extremes(&cells)
            };
            let finite = |value: f64| value.is_finite().then_some(value);
            Some(Metric {
                name: name.clone(),
                last_step,
                last: finite(last),
                low: (total.count > 0).then_some(total.low.1),
                high: (total.count > 0).then_some(total.high.1),
                count: total.count + total.bad,
                bad: total.bad,
                points: line.into_iter().map(|(step, value)| (step, finite(value))).collect(),
            })
        });
        let (step, time, tokens) = self.last.unwrap_or_default();
        Snapshot {
            id: id.to_owned(),
            name: info.name.clone(),
            created: info.created.clone(),
            status: info.status.name().to_owned(),
            seed: info.seed,
            model: info.model.clone(),
            data: info.data.clone(),
            step,
            steps: planned_steps(info),
            time,
            tokens,
            metrics: metrics.collect(),
            samples: self.samples.iter().rev().take(20).cloned().collect(),
            events: self.events.iter().rev().take(100).cloned().collect(),
            alerts: self.alerts(),
            histograms: self
                .histograms
                .values()
                .map(|histogram| Taken {
                    step: histogram.step,
                    name: histogram.name.clone(),
                    what: histogram.what.clone(),
                })
                .collect(),
            problem: None,
        }
    }
}

/// How many steps the run is to have, when its configuration says so under one of the usual names.
pub fn planned_steps(info: &RunInfo) -> Option<u64> {
    let names = ["steps", "max_steps", "total_steps"];
    let sections = ["train", "training", "trainer", "run", "schedule"];
    let nested = sections.iter().filter_map(|section| info.config.get(*section)?.as_object());
    std::iter::once(&info.config)
        .chain(nested)
        .find_map(|table| names.iter().find_map(|name| table.get(*name)?.as_u64()))
}

fn keep<T>(list: &mut VecDeque<T>, new: T, most: usize) {
    if list.len() >= most {
        list.pop_front();
    }
    list.push_back(new);
}

fn shorten(text: &mut String) {
    if text.len() > MOST_TEXT {
        let end = (0..=MOST_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// A run as it stands, for readers. JSON has no NaN: a value that is not finite is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The name in addresses.
    pub id: String,
    /// The name to show.
    pub name: String,
    /// When it began.
    pub created: String,
    /// How it stands: `running`, `finished`, `interrupted`, `failed`, or `damaged`.
    pub status: String,
    /// The seed of its random numbers.
    #[serde(default)]
    pub seed: u64,
    /// The model.
    #[serde(default)]
    pub model: ModelInfo,
    /// The data.
    #[serde(default)]
    pub data: DataInfo,
    /// The last step.
    pub step: u64,
    /// The steps it is to have, where known.
    pub steps: Option<u64>,
    /// Seconds of training.
    pub time: f64,
    /// Tokens trained on.
    pub tokens: u64,
    /// All measured numbers.
    pub metrics: Vec<Metric>,
    /// What the model wrote, newest first.
    pub samples: Vec<Sample>,
    /// What happened, newest first.
    pub events: Vec<Event>,
    /// What is to be worried about.
    pub alerts: Vec<Alert>,
    /// The histograms there are.
    pub histograms: Vec<Taken>,
    /// What could not be read of it.
    #[serde(default)]
    pub problem: Option<String>,
}

impl Snapshot {
    /// The measured number called `name`.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    /// The last value of the number called `name`, when it is finite.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.metric(name)?.last
    }

    /// Seconds to the planned end, at the pace so far.
    pub fn seconds_left(&self) -> Option<f64> {
        let left = self.steps?.checked_sub(self.step)?;
        (self.status == "running" && self.step > 0).then(|| self.time / self.step as f64 * left as f64)
    }
}

/// One measured number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// The last step at which it was measured.
    pub last_step: u64,
    /// Its last value.
    pub last: Option<f64>,
    /// Its lowest value.
    pub low: Option<f64>,
    /// Its highest value.
    pub high: Option<f64>,
    /// How often it was measured.
    pub count: u64,
    /// How often it was no finite number.
    pub bad: u64,
    /// Steps and values, with the extremes of every stretch.
    pub points: Vec<(u64, Option<f64>)>,
}

/// A histogram that can be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The step at which it was taken.
    pub step: u64,
    /// The tensor.
    pub name: String,
    /// `weight`, `gradient` or `update`.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use cupola_io::run::Step;

    fn step(step: u64) -> Record {
        Step::new(step).time(step as f64 * 0.5).tokens(step * 100).with("loss", 1.0 / step as f64).into()
    }

    #[test]
    fn steps_have_their_place_on_every_axis() {
        let mut state = RunState::default();
        (1..=100_000).map(step).for_each(|record| {
            state.apply(record);
        });
        assert!(state.clock.knots.len() <= MOST_KNOTS);
        for at in [1, 2, 777, 54_321, 99_999, 100_000] {
            assert_eq!(state.place(at, Over::Step), at as f64);
            assert!((state.place(at, Over::Time) - at as f64 * 0.5).abs() < 1e-6, "{at}");
            assert!((state.place(at, Over::Tokens) - at as f64 * 100.0).abs() < 1e-3, "{at}");
        }
        assert!(RunState::default().place(1, Over::Time).is_nan());
    }

    #[test]
    fn a_run_that_goes_back_shows_what_it_did_the_second_time() {
        let mut state = RunState::default();
        (1..=50).map(step).for_each(|record| assert!(!state.apply(record)));
        state.apply(Sample { step: 40, prompt: "a".into(), text: "old".into() }.into());
        state.apply(Sample { step: 20, prompt: "a".into(), text: "kept".into() }.into());
        assert!(state.apply(Step::new(31).time(3.0).tokens(7).with("loss", 9.0).into()));
        assert_eq!(state.last(), Some((31, 3.0, 7)));
        let snapshot = state.snapshot("id", &RunInfo::new("n"), 100);
        let loss = snapshot.metric("loss").expect("measured");
        assert_eq!((loss.count, loss.last, loss.points.len()), (31, Some(9.0), 31));
        assert_eq!(snapshot.samples.iter().map(|sample| sample.text.as_str()).collect::<Vec<_>>(), ["kept"]);
    }

    #[test]
    fn memory_stays_bounded_whatever_is_written() {
        let mut state = RunState::default();
        for i in 0..2000u64 {
            state.apply(Step::new(i).with(&format!("m{i}"), 1.0).into());
            state.apply(Sample { step: i, prompt: "é".repeat(40_000), text: String::new() }.into());
            state.apply(Event { step: i, name: "spike".into(), message: String::new() }.into());
            let name = format!("t{i}");
            state.apply(
                Histogram { step: i, name, what: "weight".into(), edges: vec![0.0, 1.0], counts: vec![1] }.into(),
            );
        }
        assert_eq!((state.series.len(), state.samples.len(), state.events.len()), (256, 200, 500));
        assert_eq!(state.histograms.len(), 512);
        assert!(state.samples().all(|sample| sample.prompt.len() <= MOST_TEXT + 3));
    }

    #[test]
    fn what_the_run_noticed_itself_is_not_said_twice() {
        let mut state = RunState::default();
        state.apply(Step::new(5).with("loss", f64::NAN).into());
        assert_eq!(state.alerts().len(), 1);
        state.apply(Event { step: 6, name: "nan".into(), message: "layer 3".into() }.into());
        state.apply(Event { step: 9, name: "checkpoint".into(), message: String::new() }.into());
        let alerts = state.alerts();
        assert_eq!((alerts.len(), alerts[0].message.as_str()), (1, "layer 3"));
    }

    #[test]
    fn planned_steps_and_the_time_left_come_from_the_configuration() {
        let mut info = RunInfo::new("n");
        assert_eq!(planned_steps(&info), None);
        info.config.insert("train".into(), serde_json::json!({"steps": 200}));
        let mut state = RunState::default();
        (1..=50).map(step).for_each(|record| {
            state.apply(record);
        });
        let snapshot = state.snapshot("id", &info, 0);
        assert_eq!((snapshot.steps, snapshot.seconds_left()), (Some(200), Some(75.0)));
        let back: Snapshot = serde_json::from_str(&serde_json::to_string(&snapshot).expect("JSON")).expect("own form");
        assert_eq!(back, snapshot);
    }
}
