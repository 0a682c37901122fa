//! Axes: where a value lies, which values get a tick, and how numbers are written.

/// How values are spread along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally long.
    #[default]
    Linear,
    /// Equal ratios are equally long. Values that are not positive have no place.
    Log,
}

impl Scale {
    /// The value in the unit in which the axis is straight; NaN where there is no place for it.
    pub fn straight(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log if value > 0.0 => value.log10(),
            Self::Log => f64::NAN,
        }
    }

    /// The value at a place of the straight axis.
    pub fn value(self, straight: f64) -> f64 {
        match self {
            Self::Linear => straight,
            Self::Log => 10f64.powf(straight),
        }
    }
}

/// What an axis counts, which decides how its ticks are chosen and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Plain numbers: `0.25`, `1,200`, `3e-5`.
    #[default]
    Number,
    /// Things: `800`, `12k`, `1.5M`.
    Count,
    /// Seconds: `30 s`, `5 min`, `2.5 h`.
    Seconds,
}

/// About `count` round values between `low` and `high`, both included.
pub fn ticks(scale: Scale, unit: Unit, low: f64, high: f64, count: usize) -> Vec<f64> {
    // Also false for NaN.
    let proper = low < high && low.is_finite() && high.is_finite();
    if !proper || count == 0 {
        return Vec::new();
    }
    if scale == Scale::Log && low > 0.0 {
        let decades = decade_ticks(low, high, count);
        if decades.len() >= 2 {
            return decades;
        }
    }
    let step = round_step((high - low) / count as f64, unit);
    // Multiples of the step, so that zero is exactly zero and no error adds up.
    // A quotient that is whole but for its last bits counts as whole.
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    if !(step > 0.0 && (0.0..=1000.0).contains(&(last - first))) {
        return Vec::new();
    }
    (0..=(last - first) as usize).map(|i| tidy((first + i as f64) * step, step)).collect()
}

/// Removes what binary fractions add: 0.30000000000000004.
fn tidy(value: f64, step: f64) -> f64 {
    if !(1e-12..1.0).contains(&step) {
        return value;
    }
    let digits = (2.0 - step.log10()).ceil() as usize;
    format!("{value:.digits$}").parse().unwrap_or(value)
}

fn round_step(rough: f64, unit: Unit) -> f64 {
    if unit == Unit::Seconds && rough > 10.0 {
        let steps = [15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0, 43_200.0, 86_400.0];
        if let Some(step) = steps.into_iter().find(|&step| step >= rough) {
            return step;
        }
        return 86_400.0 * round_step(rough / 86_400.0, Unit::Number);
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|&m| m * power >= rough * 0.999).unwrap_or(10.0) * power;
    if unit == Unit::Count { step.max(1.0) } else { step }
}

/// Powers of ten, thinned when there are many, with 2 and 5 between them when there are few.
fn decade_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let decades = high.log10() - low.log10();
    let every = (decades / count as f64).ceil().max(1.0) as i32;
    let multiples: &[f64] = if decades * 3.0 <= count as f64 + 1.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    (first..=last)
        .filter(|exponent| exponent.rem_euclid(every) == 0)
        .flat_map(|exponent| multiples.iter().map(move |multiple| power_of_ten(*multiple, exponent)))
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

/// `multiple` times ten to the power, rounded once: read as text, since powers and products round twice.
fn power_of_ten(multiple: f64, exponent: i32) -> f64 {
    format!("{multiple}e{exponent}").parse().unwrap_or(f64::NAN)
}

/// A number with at most four digits that matter, as ticks and tables show it.
///
/// ```
/// use cupola_monitor::plot::number;
/// assert_eq!(number(2.3), "2.3");
/// assert_eq!(number(0.000031), "3.1e-5");
/// assert_eq!(number(1240.0), "1,240");
/// assert_eq!(number(f64::NAN), "NaN");
/// ```
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "∞"
        } else {
            "−∞"
        }
        .to_owned();
    }
    if !(1e-3..1e9).contains(&size) {
        let text = format!("{value:.3e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", trimmed(digits));
    }
    let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let whole = grouped(whole);
    if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") }
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Digits in groups of three.
fn grouped(whole: &str) -> String {
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A value in its unit, short.
pub fn label(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Number => number(value),
        Unit::Count => {
            for (size, letter) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
                if value.abs() >= size {
                    return format!("{}{letter}", number(value / size));
                }
            }
            number(value)
        }
        Unit::Seconds => match value.abs() {
            size if size >= 172_800.0 => format!("{} d", number(value / 86_400.0)),
            size if size >= 7_200.0 => format!("{} h", number(value / 3_600.0)),
            size if size >= 120.0 => format!("{} min", number(value / 60.0)),
            _ => format!("{} s", number(value)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn linear_ticks_are_round_and_exact() {
        assert_eq!(ticks(Scale::Linear, Unit::Number, 0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(Scale::Linear, Unit::Number, -0.3, 0.3, 6), [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]);
        assert_eq!(ticks(Scale::Linear, Unit::Count, 0.0, 3.0, 10), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(Scale::Linear, Unit::Seconds, 0.0, 200.0, 4), [0.0, 60.0, 120.0, 180.0]);
        assert_eq!(ticks(Scale::Linear, Unit::Number, 1.0, 1.0, 4), [0.0; 0]);
        assert_eq!(ticks(Scale::Linear, Unit::Number, f64::NAN, 1.0, 4), [0.0; 0]);
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten_with_2_and_5_where_there_is_room() {
        assert_eq!(ticks(Scale::Log, Unit::Number, 1e-5, 1.0, 5), [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0]);
        assert_eq!(ticks(Scale::Log, Unit::Number, 0.9, 30.0, 5), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(ticks(Scale::Log, Unit::Number, 2.1, 2.9, 4), [2.2, 2.4, 2.6, 2.8]);
        assert_eq!(ticks(Scale::Log, Unit::Number, 1e-12, 1e12, 4), [1e-12, 1e-6, 1.0, 1e6, 1e12]);
    }

    #[test]
    fn labels_are_short() {
        for (unit, value, text) in [
            (Unit::Number, 0.1 + 0.2, "0.3"),
            (Unit::Number, -12345.6, "-12,346"),
            (Unit::Number, 1e-3, "0.001"),
            (Unit::Number, 9.9e-4, "9.9e-4"),
            (Unit::Number, 2e9, "2e9"),
            (Unit::Number, f64::NEG_INFINITY, "−∞"),
            (Unit::Count, 999.0, "999"),
            (Unit::Count, 1_500_000.0, "1.5M"),
            (Unit::Seconds, 90.0, "90 s"),
            (Unit::Seconds, 300.0, "5 min"),
            (Unit::Seconds, 9000.0, "2.5 h"),
        ] {
            assert_eq!(label(unit, value), text);
        }
    }

    proptest! {
        #[test]
        fn ticks_rise_lie_inside_and_are_few(low in -1e9f64..1e9, size in 1e-6f64..1e9, log: bool, count in 1usize..12) {
            let high = low + size;
            let scale = if log && low > 0.0 { Scale::Log } else { Scale::Linear };
            let ticks = ticks(scale, Unit::Number, low, high, count);
            prop_assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{ticks:?}");
            // Rounding to a decimal number may move a tick by the last bit.
            prop_assert!(ticks.iter().all(|tick| (low - size * 1e-6..=high + size * 1e-6).contains(tick)), "{ticks:?}");
            prop_assert!(ticks.len() <= 4 * count + 2, "{} ticks", ticks.len());
        }
    }
}
