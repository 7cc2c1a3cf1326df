//! The reference data, and comparing with it.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tribunal_audit::metric::agreement::{Confusion, Measure};

/// Digits that closed forms are held to.
pub(crate) const CLOSED: f64 = 1e-9;

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn data() -> Option<PathBuf> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("TRIBUNAL_DATA").map_or(default, PathBuf::from);
    if data.join("statistics_check_values.json").is_file() {
        return Some(data);
    }
    eprintln!("skipped: no reference data in {} (TRIBUNAL_DATA names it)", data.display());
    None
}

/// Inputs and outputs of one entry; `None` where there is no reference data.
pub(crate) fn entry(name: &str) -> Option<(Value, Value)> {
    let text = fs::read_to_string(data()?.join("statistics_check_values.json")).expect("readable");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let entry = all.get(name).unwrap_or_else(|| panic!("no entry {name}"));
    Some((entry["inputs"].clone(), entry["outputs"].clone()))
}

#[track_caller]
pub(crate) fn close(what: &str, found: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("{what}: no number in {expected}"));
    assert!((found - expected).abs() <= tolerance, "{what}: {found} against {expected}");
}

#[track_caller]
pub(crate) fn all_close(what: &str, found: &[f64], expected: &Value, tolerance: f64) {
    let expected = expected.as_array().expect("a list");
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        close(&format!("{what}[{index}]"), *found, expected, tolerance);
    }
}

pub(crate) fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|n| n.as_f64().expect("a number")).collect()
}

pub(crate) fn bits(list: &Value) -> Vec<bool> {
    numbers(list).into_iter().map(|n| n > 0.5).collect()
}

pub(crate) fn confusion(value: &Value) -> Confusion {
    let at = |name: &str| value[name].as_u64().expect("a count");
    Confusion { tp: at("tp"), fn_: at("fn"), fp: at("fp"), tn: at("tn") }
}

/// A confusion matrix written as `[tp, fn, fp, tn]`.
pub(crate) fn row(value: &Value) -> Confusion {
    let n: Vec<u64> = numbers(value).into_iter().map(|n| n as u64).collect();
    Confusion { tp: n[0], fn_: n[1], fp: n[2], tn: n[3] }
}

#[track_caller]
pub(crate) fn measure(counts: &Confusion, measure: Measure) -> f64 {
    measure.of(counts).unwrap_or_else(|| panic!("{} is defined", measure.name()))
}
