//! How numbers are distributed.

use serde::{Deserialize, Serialize};

/// The most bars that are read.
const MOST_BARS: usize = 4096;
/// The bars of a histogram that is made here.
const BARS: usize = 40;
/// Beyond it a number is not finite in all but its form, and the width of a bar could not be.
const LARGEST: f64 = 1e300;

/// How the numbers of one tensor, or of several together, are distributed. There is one edge more than there are counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The step at which it was taken.
    pub step: u64,
    /// The tensor's name, or that of the layer.
    pub name: String,
    /// `weight`, `gradient` or `update`.
    pub what: String,
    /// The borders of the bars, rising.
    pub edges: Vec<f64>,
    /// How many numbers lie between each border and the next.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// The histogram of `values`, which are gone through twice: forty bars, all as wide as a number of two or three digits, with one
    /// border at zero when zero lies among the values. Values that are not finite are left out; when no other is there, so is the
    /// histogram.
    ///
    /// ```
    /// use cupola_io::run::Histogram;
    /// let values = [-1.0f32, 0.0, 0.5, 1.0];
    /// let histogram = Histogram::of(7, "layers.0", "weight", || values.iter().map(|&x| f64::from(x))).expect("values");
    /// assert_eq!((histogram.edges[0], histogram.edges[20], histogram.edges[40]), (-1.04, 0.0, 1.04));
    /// assert_eq!(histogram.counts.iter().sum::<u64>(), 4);
    /// ```
    pub fn of<I: Iterator<Item = f64>>(step: u64, name: &str, what: &str, values: impl Fn() -> I) -> Option<Self> {
        let usual = |value: f64| value.abs() <= LARGEST;
        let widen = |(low, high): (f64, f64), x: f64| if usual(x) { (low.min(x), high.max(x)) } else { (low, high) };
        let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), widen);
        if low > high {
            return None;
        }
        let (first, digits, power) = grid(low, high);
        let edges: Vec<f64> = (0..=BARS as i64).map(|bar| decimal((first + bar) * digits, power)).collect();
        let mut counts = vec![0u64; BARS];
        let (begin, inverse) = (edges[0], 1.0 / (edges[1] - edges[0]));
        values().filter(|&x| usual(x)).for_each(|x| {
            let mut bar = (((x - begin) * inverse) as usize).min(BARS - 1);
            // The quotient is rounded; the border decides.
            if x < edges[bar] && bar > 0 {
                bar -= 1;
            } else if x >= edges[bar + 1] && bar + 1 < BARS {
                bar += 1;
            }
            counts[bar] += 1;
        });
        Some(Self { step, name: name.to_owned(), what: what.to_owned(), edges, counts })
    }

    /// What is wrong with it, if anything is.
    pub(super) fn problem(&self) -> Option<String> {
        let (edges, counts) = (self.edges.len(), self.counts.len());
        if counts == 0 || counts > MOST_BARS || edges != counts + 1 {
            return Some(format!(
                "{edges} edges and {counts} counts, expected 1 to {MOST_BARS} counts and one edge more"
            ));
        }
        let rising =
            self.edges.iter().all(|edge| edge.is_finite()) && self.edges.windows(2).all(|pair| pair[0] < pair[1]);
        (!rising).then(|| "edges that do not rise".to_owned())
    }
}

/// Bars over `low..=high`: the first border in bars, and a bar's width as a whole number and a power of ten.
fn grid(low: f64, high: f64) -> (i64, i64, i32) {
    // Equal values, or nearly so, get bars that still differ in what is written of them.
    let least = low.abs().max(high.abs()) * 1e-9;
    let rough = if high == 0.0 && low == 0.0 { 0.05 } else { (high - low).max(least) / (BARS - 1) as f64 };
    // Below it the inverse of a width would not be finite.
    let power = (rough.log10().floor() as i32).saturating_sub(1).max(-306);
    let mut digits = (rough / decimal(1, power)).ceil().max(1.0) as i64;
    // The logarithm is rounded as well.
    while decimal(digits, power) < rough {
        digits += 1;
    }
    // At most a bar to the left of the lowest value, so that the last border lies beyond the highest, but for rounding.
    let first = (low / decimal(digits, power)).floor() as i64;
    if decimal((first + BARS as i64) * digits, power) > high {
        return (first, digits, power);
    }
    let digits = digits + 1 + digits / 50;
    ((low / decimal(digits, power)).floor() as i64, digits, power)
}

/// `digits` times ten to the power, rounded once: read as text, since powers and products round twice.
fn decimal(digits: i64, power: i32) -> f64 {
    format!("{digits}e{power}").parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Option<Histogram> {
        Histogram::of(1, "w", "weight", || values.iter().copied())
    }

    #[test]
    fn every_finite_value_is_between_the_borders_of_its_bar() {
        let mut random = 7u64;
        for size in [1e-45, 1e-12, 1.0, 3e38, 1e290] {
            for offset in [0.0, 1.0, -1.0, 1e6] {
                let mut next = || {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    ((random >> 11) as f64 / (1u64 << 53) as f64 - 0.5 + offset) * size
                };
                let values: Vec<f64> = (0..500).map(|_| next()).collect();
                let histogram = of(&values).expect("values");
                assert_eq!(histogram.problem(), None, "{histogram:?}");
                for (bar, count) in histogram.counts.iter().enumerate() {
                    let (low, high) = (histogram.edges[bar], histogram.edges[bar + 1]);
                    let inside = values.iter().filter(|x| (low..high).contains(*x)).count();
                    assert_eq!(*count, inside as u64, "{size} {offset}: {low} to {high} of {histogram:?}");
                }
                assert_eq!(histogram.counts.iter().sum::<u64>(), 500, "{size} {offset}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        let histogram = of(&[-1.0, f64::NAN, 1.0, f64::INFINITY, 1.0, f64::NEG_INFINITY]).expect("values");
        assert_eq!(histogram.counts.iter().sum::<u64>(), 3);
        assert_eq!(of(&[f64::NAN, f64::INFINITY]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn equal_values_have_bars_that_can_be_told_apart() {
        for constant in [0.0, -0.0, 3.0, -1e-30, 5e-324, f64::from(f32::MAX)] {
            let histogram = of(&[constant; 5]).expect("values");
            assert_eq!((histogram.problem(), histogram.counts.iter().sum::<u64>()), (None, 5), "{constant}");
        }
    }

    #[test]
    fn zero_is_a_border_and_borders_are_short() {
        let histogram = of(&[-0.3, 0.123_456_789]).expect("values");
        assert!(histogram.edges.contains(&0.0), "{:?}", histogram.edges);
        let longest = histogram.edges.iter().map(|edge| edge.to_string().len()).max();
        assert!(longest <= Some(7), "{:?}", histogram.edges);
    }
}
