//! Parameter names of public families: one small table each, used in both directions.

use std::collections::BTreeMap;

use cupola_tensor::{Tensor, no_grad};

/// Where one of our tensors stands in a public file. A `*` stands for a number, the same on both sides.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Our name.
    pub ours: &'static str,
    /// Theirs.
    pub theirs: &'static str,
    /// What lies between.
    pub form: Form,
}

/// How a tensor of theirs holds ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Same,
    /// Transposed: `[in, out]` in the file, `[out, in]` here.
    Transposed,
    /// It is part `.0` of several of ours below each other.
    Part(usize),
    /// The same, transposed.
    TransposedPart(usize),
}

impl Form {
    fn part(self) -> usize {
        match self {
            Form::Part(index) | Form::TransposedPart(index) => index,
            _ => 0,
        }
    }

    fn is_transposed(self) -> bool {
        matches!(self, Form::Transposed | Form::TransposedPart(_))
    }
}

/// The table of a family.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Where every tensor stands.
    pub entries: &'static [Entry],
    /// What all names of theirs but `lm_head` begin with; files that leave it out are read too.
    pub prefix: &'static str,
    /// Tensors of theirs that hold nothing learned.
    pub ignored: &'static [&'static str],
}

/// The numbers that the stars of `pattern` stand for in `name`, if it matches.
fn matches(pattern: &str, name: &str) -> Option<Vec<String>> {
    let mut numbers = Vec::new();
    let mut rest = name;
    let mut pieces = pattern.split('*');
    rest = rest.strip_prefix(pieces.next()?)?;
    for piece in pieces {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if digits == 0 {
            return None;
        }
        numbers.push(rest[..digits].to_string());
        rest = rest[digits..].strip_prefix(piece)?;
    }
    rest.is_empty().then_some(numbers)
}

/// `pattern` with its stars replaced by these numbers.
fn fill(pattern: &str, numbers: &[String]) -> String {
    let mut numbers = numbers.iter();
    let mut filled = String::new();
    for (index, piece) in pattern.split('*').enumerate() {
        if index > 0 {
            filled.extend(numbers.next().map(String::as_str));
        }
        filled.push_str(piece);
    }
    filled
}

impl Names {
    /// Whether the family keeps any matrix transposed.
    pub fn is_any_transposed(&self) -> bool {
        self.entries.iter().any(|entry| entry.form.is_transposed())
    }

    /// Our names in one tensor of theirs, in order, and whether it is transposed.
    pub fn ours_in(&self, theirs: &str) -> Option<(Vec<String>, bool)> {
        let short = theirs.strip_prefix(self.prefix).unwrap_or(theirs);
        let found = self.entries.iter().filter_map(|entry| {
            let numbers = matches(entry.theirs, short)?;
            Some((entry.form.part(), fill(entry.ours, &numbers), entry.form.is_transposed()))
        });
        let mut found: Vec<_> = found.collect();
        found.sort();
        let transposed = found.first()?.2;
        Some((found.into_iter().map(|(_, name, _)| name).collect(), transposed))
    }

    /// Where our tensor stands: their name, the part, whether transposed.
    pub fn theirs_of(&self, ours: &str) -> Option<(String, Form)> {
        self.entries.iter().find_map(|entry| {
            let numbers = matches(entry.ours, ours)?;
            let prefix = if entry.theirs.starts_with("lm_head") { "" } else { self.prefix };
            Some((format!("{prefix}{}", fill(entry.theirs, &numbers)), entry.form))
        })
    }

    fn ignores(&self, theirs: &str) -> bool {
        let short = theirs.strip_prefix(self.prefix).unwrap_or(theirs);
        self.ignored.iter().any(|pattern| matches(pattern, short).is_some())
    }
}

/// Their tensors as ours; `rows` tells how many rows each of ours has. What the table does not know stays under its name, so that
/// strict loading reports it.
///
/// # Errors
/// When a tensor that holds several of ours does not have their rows together.
pub fn to_ours(
    names: &Names,
    tensors: BTreeMap<String, Tensor>,
    rows: impl Fn(&str) -> Option<usize>,
) -> Result<BTreeMap<String, Tensor>, String> {
    let mut all = BTreeMap::new();
    for (theirs, tensor) in tensors {
        if names.ignores(&theirs) {
            continue;
        }
        let Some((ours, transposed)) = names.ours_in(&theirs) else {
            all.insert(theirs, tensor);
            continue;
        };
        let turned = transposed && tensor.rank() == 2;
        let tensor = no_grad(|| if turned { tensor.transpose(0, 1) } else { tensor });
        if let [only] = &ours[..] {
            all.insert(only.clone(), tensor);
            continue;
        }
        let sizes: Option<Vec<usize>> = ours.iter().map(|name| rows(name)).collect();
        let fits = |sizes: &Vec<usize>| tensor.rank() > 0 && sizes.iter().sum::<usize>() == tensor.shape()[0];
        let Some(sizes) = sizes.filter(fits) else {
            return Err(format!("{theirs} of shape {} does not hold {}", tensor.shape(), ours.join(", ")));
        };
        let parts = no_grad(|| tensor.split(0, &sizes));
        all.extend(ours.into_iter().zip(parts));
    }
    Ok(all)
}

/// Our tensors as theirs.
///
/// # Panics
/// When the table has no place for one of ours: it is not the table of this model's family.
pub fn to_theirs(names: &Names, tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let mut parts: BTreeMap<String, Vec<(usize, Tensor)>> = BTreeMap::new();
    for (ours, tensor) in tensors {
        let place = names.theirs_of(&ours);
        let (theirs, form) = place.unwrap_or_else(|| panic!("the table of names has no place for {ours}"));
        let turned = form.is_transposed() && tensor.rank() == 2;
        let tensor = no_grad(|| if turned { tensor.transpose(0, 1) } else { tensor });
        parts.entry(theirs).or_default().push((form.part(), tensor));
    }
    let join = |(name, mut parts): (String, Vec<(usize, Tensor)>)| {
        parts.sort_by_key(|(index, _)| *index);
        let tensors: Vec<&Tensor> = parts.iter().map(|(_, tensor)| tensor).collect();
        let joined = match tensors[..] {
            [only] => only.clone(),
            // Transposed parts lie beside each other, biases and other parts below.
            _ => no_grad(|| {
                Tensor::cat(&tensors, if is_transposed(names, &name) && tensors[0].rank() == 2 { 1 } else { 0 })
            }),
        };
        (name, joined)
    };
    parts.into_iter().map(join).collect()
}

fn is_transposed(names: &Names, theirs: &str) -> bool {
    names.ours_in(theirs).is_some_and(|(_, transposed)| transposed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = Names {
        entries: &[
            Entry { ours: "layers.*.q.weight", theirs: "h.*.qk", form: Form::TransposedPart(0) },
            Entry { ours: "layers.*.k.weight", theirs: "h.*.qk", form: Form::TransposedPart(1) },
            Entry { ours: "layers.*.e.*.w", theirs: "h.*.x.*.w", form: Form::Same },
            Entry { ours: "head", theirs: "lm_head.weight", form: Form::Same },
        ],
        prefix: "model.",
        ignored: &["h.*.mask"],
    };

    #[test]
    fn both_directions_agree() {
        let ours = BTreeMap::from([
            ("layers.10.q.weight".to_string(), Tensor::arange(0.0, 6.0, 1.0).reshape([2, 3])),
            ("layers.10.k.weight".to_string(), Tensor::arange(6.0, 9.0, 1.0).reshape([1, 3])),
            ("layers.0.e.3.w".to_string(), Tensor::ones([2])),
            ("head".to_string(), Tensor::zeros([1])),
        ]);
        let theirs = to_theirs(&NAMES, ours.clone());
        let names: Vec<&str> = theirs.keys().map(String::as_str).collect();
        assert_eq!(names, ["lm_head.weight", "model.h.0.x.3.w", "model.h.10.qk"]);
        assert_eq!(theirs["model.h.10.qk"].to_vec::<f32>(), [0.0, 3.0, 6.0, 1.0, 4.0, 7.0, 2.0, 5.0, 8.0]);
        let rows = |name: &str| ours.get(name).map(|x| x.shape()[0]);
        let mut bare: BTreeMap<String, Tensor> =
            theirs.into_iter().map(|(name, x)| (name.trim_start_matches("model.").to_string(), x)).collect();
        bare.insert("h.3.mask".to_string(), Tensor::ones([1]));
        let back = to_ours(&NAMES, bare, rows).expect("the parts fit");
        assert_eq!(back.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
        assert!(back.iter().all(|(name, x)| x.equals(&ours[name])));
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        let theirs = BTreeMap::from([("model.h.0.qk".to_string(), Tensor::zeros([3, 4]))]);
        let error = to_ours(&NAMES, theirs, |_| Some(1)).expect_err("two rows of four");
        assert!(
            error.contains("model.h.0.qk of shape [4, 3] does not hold layers.0.q.weight, layers.0.k.weight"),
            "{error}"
        );
    }
}
