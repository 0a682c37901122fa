//! Which charts show the measured numbers of a run, and in which order.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::plot::Unit;

/// A chart of one or more measured numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Panel {
    /// What it is called.
    pub title: String,
    /// The numbers it shows, the main one first.
    pub names: Vec<String>,
}

/// The numbers that people look at first, with their titles.
const KNOWN: [(&str, &str); 9] = [
    ("loss", "Loss"),
    ("bits_per_byte", "Bits per byte"),
    ("lr", "Learning rate"),
    ("grad_norm", "Gradient norm"),
    ("tokens_per_s", "Tokens per second"),
    ("memory_mb", "Memory (MB)"),
    ("update_ratio", "Update to weight"),
    ("mfu", "Share of peak"),
    ("accuracy", "Accuracy"),
];

/// The most lines of one chart: as many as there are colours.
pub const MOST_LINES: usize = crate::plot::COLOURS;

/// The charts for the numbers called `names`: known ones first, then the rest by name. A number, its `val_` twin and its
/// parts (`update_ratio/layers.0`) share one; what has no room there goes on in another.
pub fn panels<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Panel> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by(|a, b| by_number(a, b));
    names.dedup();
    let mut bases: Vec<&str> = names.iter().map(|name| base(name)).collect();
    bases.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
    bases.dedup();
    let mut panels = Vec::new();
    for whole in bases {
        let known = KNOWN.iter().find(|(known, _)| *known == whole);
        let title = known.map_or_else(|| whole.replace('_', " "), |(_, title)| (*title).to_owned());
        let mut of: Vec<String> =
            names.iter().filter(|name| base(name) == whole).map(|name| (*name).to_owned()).collect();
        // The number itself, its twin, its parts.
        of.sort_by_key(|name| (name.contains('/'), name != whole));
        for (index, part) in of.chunks(MOST_LINES).enumerate() {
            let title = if index == 0 { title.clone() } else { format!("{title} ({})", index + 1) };
            panels.push(Panel { title, names: part.to_vec() });
        }
    }
    panels
}

/// What a number's chart is called after.
fn base(name: &str) -> &str {
    let whole = name.split_once('/').map_or(name, |(whole, _)| whole);
    let whole = if whole.is_empty() { name } else { whole };
    whole.strip_prefix("val_").filter(|base| !base.is_empty()).unwrap_or(whole)
}

fn place(name: &str) -> usize {
    KNOWN.iter().position(|(known, _)| *known == name).unwrap_or(KNOWN.len())
}

/// The order of names in which `layers.2` comes before `layers.10`.
pub fn by_number(a: &str, b: &str) -> Ordering {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (mut a, mut b) = (a, b);
    loop {
        let (x, y) = (digits(a), digits(b));
        if x > 0 && y > 0 {
            let (left, right) = (a[..x].trim_start_matches('0'), b[..y].trim_start_matches('0'));
            let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right)).then_with(|| x.cmp(&y));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[x..], &b[y..]);
            continue;
        }
        let (mut left, mut right) = (a.chars(), b.chars());
        match (left.next(), right.next()) {
            (Some(one), Some(other)) if one == other => (a, b) = (left.as_str(), right.as_str()),
            (one, other) => return one.cmp(&other),
        }
    }
}

/// How the values of the number called `name` are best written.
pub fn unit(name: &str) -> Unit {
    if name.ends_with("_per_s") { Unit::Count } else { Unit::Number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers_come_first_and_validation_shares_a_chart() {
        let shown = panels(["zeta", "grad_norm", "loss", "lr", "val_acc", "val_loss", "val_"]);
        let names: Vec<String> = shown.iter().map(|panel| panel.names.join("+")).collect();
        assert_eq!(names, ["loss+val_loss", "lr", "grad_norm", "val_acc", "val_", "zeta"]);
        assert_eq!(shown[0].title, "Loss");
        assert_eq!(panels([]), []);
    }

    #[test]
    fn parts_of_a_number_share_its_chart_and_go_on_in_another() {
        let layers: Vec<String> = (0..12).map(|layer| format!("update_ratio/layers.{layer}")).collect();
        let names = layers.iter().map(String::as_str).chain(["update_ratio", "/", "x/", "loss", "loss/a"]);
        let shown = panels(names);
        let titles: Vec<&str> = shown.iter().map(|panel| panel.title.as_str()).collect();
        assert_eq!(titles, ["Loss", "Update to weight", "Update to weight (2)", "/", "x"]);
        assert_eq!(shown[0].names, ["loss", "loss/a"]);
        assert_eq!(shown[1].names[..3], ["update_ratio", "update_ratio/layers.0", "update_ratio/layers.1"]);
        assert_eq!((shown[1].names.len(), shown[2].names[4].as_str()), (8, "update_ratio/layers.11"));
    }

    #[test]
    fn numbers_in_names_are_ordered_by_their_size() {
        let mut names = ["l.10.b", "l.9", "l.10.a", "k", "l.010.a", "l", "é9", "é10", "l.18446744073709551616"];
        names.sort_by(|a, b| by_number(a, b));
        assert_eq!(names, ["k", "l", "l.9", "l.10.a", "l.10.b", "l.010.a", "l.18446744073709551616", "é9", "é10"]);
    }
}
