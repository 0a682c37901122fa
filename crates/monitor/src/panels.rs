//! Which charts show the measured numbers of a run, and in which order.

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

/// The charts for the numbers called `names`: known ones first, then the rest by name; a number and its `val_` twin
/// share one.
pub fn panels<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Panel> {
    let names: Vec<&str> = names.into_iter().collect();
    let base = |name: &str| name.strip_prefix("val_").filter(|base| !base.is_empty()).unwrap_or(name).to_owned();
    let place = |name: &str| KNOWN.iter().position(|(known, _)| *known == name).unwrap_or(KNOWN.len());
    let mut bases: Vec<String> = names.iter().map(|name| base(name)).collect();
    bases.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
    bases.dedup();
    let shown = |base: String| {
        let mut of = vec![base.clone(), format!("val_{base}")];
        of.retain(|name| names.contains(&name.as_str()));
        let known = KNOWN.iter().find(|(known, _)| *known == base);
        let title = known.map_or_else(|| base.replace('_', " "), |(_, title)| (*title).to_owned());
        Panel { title, names: of }
    };
    bases.into_iter().map(shown).collect()
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
}
