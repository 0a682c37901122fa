//! Every operation against the numbers that PyTorch computed for it (`tools/golden`, files in `tests/golden`).
//!
//! Each file has a [`Reader`] that says how its cases are computed with this crate. Results and gradients are compared in f64
//! and in f32. Nothing is skipped in silence: a file without a reader, an argument or attribute that a reader does not look at,
//! a result that it does not give, and an operation without a file are failures.

mod golden_cases;

use std::collections::{BTreeMap, BTreeSet};

use cupola_tensor::Differentiable;
use cupola_tensor::ops::REGISTRY;
use golden_cases::{Reader, files, readers};

/// Operations for which PyTorch has no numbers, and why.
const WITHOUT_COUNTERPART: &[(&str, &str)] =
    &[("dropout", "its result is random, and the two libraries draw other numbers")];

/// Runs every case of every file of one group.
fn check(group: fn() -> Vec<Reader>) {
    group().iter().for_each(Reader::check);
}

#[test]
fn elementwise() {
    check(golden_cases::elementwise::readers);
}

#[test]
fn reductions() {
    check(golden_cases::reductions::readers);
}

#[test]
fn normalisations() {
    check(golden_cases::normalisations::readers);
}

#[test]
fn products_and_indexing() {
    check(golden_cases::products::readers);
}

#[test]
fn views() {
    check(golden_cases::views::readers);
}

#[test]
fn convolutions_and_pooling() {
    check(golden_cases::convolutions::readers);
}

#[test]
fn recurrent() {
    check(golden_cases::recurrent::readers);
}

#[test]
fn scans() {
    check(golden_cases::scans::readers);
}

#[test]
fn attention() {
    check(golden_cases::attention::readers);
}

#[test]
fn every_file_has_one_reader() {
    let readers = readers();
    let read: BTreeSet<&str> = readers.iter().map(|reader| reader.file).collect();
    assert_eq!(read.len(), readers.len(), "two readers of one file");
    assert_eq!(read, files().iter().map(String::as_str).collect());
}

#[test]
fn every_operation_has_golden_values_or_a_reason() {
    let mut proven: BTreeMap<&str, &str> = BTreeMap::new();
    for reader in readers() {
        reader.operations.iter().for_each(|&operation| {
            proven.insert(operation, reader.file);
        });
    }
    let reasons: BTreeMap<&str, &str> = WITHOUT_COUNTERPART.iter().copied().collect();
    let mut registered = BTreeSet::new();
    for operation in REGISTRY.iter().flat_map(|(_, operations)| operations.iter()) {
        registered.insert(operation.name);
        assert!(
            proven.contains_key(operation.name) != reasons.contains_key(operation.name),
            "{}: has either a golden file or a reason to have none (file: {:?}, reason: {:?})",
            operation.name,
            proven.get(operation.name),
            reasons.get(operation.name)
        );
    }
    for name in proven.keys().chain(reasons.keys()) {
        assert!(registered.contains(name), "{name} is no operation");
    }
}

/// That a reader names an operation is checked against the graph that its cases record: what takes part in a gradient is
/// seen there, and the rest has no gradient.
#[test]
fn readers_run_the_operations_that_they_name() {
    let recorded: BTreeSet<&str> = REGISTRY
        .iter()
        .flat_map(|(_, operations)| operations.iter())
        .filter(|operation| operation.differentiable == Differentiable::Yes)
        .map(|operation| operation.name)
        .collect();
    for reader in readers() {
        let met = reader.operations_met();
        let missing: Vec<_> =
            reader.operations.iter().filter(|name| recorded.contains(*name) && !met.contains(*name)).collect();
        assert!(missing.is_empty(), "{}: {missing:?} were not run, only {met:?}", reader.file);
    }
}

/// A reader of the file `exp` that goes wrong in one way.
fn broken(run: fn(&golden_cases::Case) -> golden_cases::Results) -> Reader {
    Reader::new("exp", &["exp"], run)
}

#[test]
#[should_panic(expected = "out.y is off by")]
fn a_wrong_result_is_found() {
    broken(|case| golden_cases::one(case.x().exp() * 1.0001)).check();
}

#[test]
#[should_panic(expected = "din.x is off by")]
fn a_wrong_gradient_is_found() {
    broken(|case| golden_cases::one(&case.x().detach().exp() + case.x() * 0.0)).check();
}

#[test]
#[should_panic(expected = "gives {} and not {\"y\"}")]
fn a_missing_result_is_found() {
    broken(|case| {
        case.x();
        Vec::new()
    })
    .check();
}

#[test]
#[should_panic(expected = "were not looked at")]
fn an_ignored_attribute_is_found() {
    Reader::new("elu", &["elu"], |case| golden_cases::one(case.x().elu(1.0))).check();
}
