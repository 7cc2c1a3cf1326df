//! `--fail-under`: what an audit must reach.
//!
//! Owns the names and what is said of what is missed. A measure that is undefined is missed.

use std::str::FromStr;

use tribunal_audit::{AuditDocument, metric::agreement::Measure};

/// Floors in the order given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Floors(Vec<Floor>);

#[derive(Clone, Debug, PartialEq)]
struct Floor {
    name: String,
    of: Floored,
    at_least: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Floored {
    Coverage,
    /// Missing verdicts dropped, as published figures have it.
    Dropped(Measure),
    CountedAsFail(Measure),
}

// === impl Floors ===

impl FromStr for Floors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(Floor::from_str).collect::<Result<_, _>>().map(Floors)
    }
}

impl Floors {
    /// A line for each floor that the document is below.
    pub(crate) fn below(&self, document: &AuditDocument) -> Vec<String> {
        let missed = |floor: &Floor| {
            let found = match floor.of {
                Floored::Coverage => document.coverage,
                Floored::Dropped(measure) => document.overall.dropped.value(measure),
                Floored::CountedAsFail(measure) => document.overall.counted_as_fail.value(measure),
            };
            let Floor { name, at_least, .. } = floor;
            match found {
                Some(found) if found >= *at_least => None,
                Some(found) => {
                    Some(format!("below --fail-under: {name} is {found:.4}, not {at_least}"))
                }
                None => Some(format!("below --fail-under: {name} is undefined, not {at_least}")),
            }
        };
        self.0.iter().filter_map(missed).collect()
    }
}

// === impl Floor ===

impl FromStr for Floor {
    type Err = String;

    fn from_str(part: &str) -> Result<Self, String> {
        let known = || {
            let names: Vec<&str> = Measure::ALL.iter().map(|measure| measure.name()).collect();
            format!("coverage, {}, or counted_as_fail.MEASURE", names.join(", "))
        };
        let (name, number) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` is not MEASURE=NUMBER, such as f1=0.80"))?;
        let (name, number) = (name.trim(), number.trim());
        let of = match name.strip_prefix("counted_as_fail.") {
            Some(measure) => Measure::from_name(measure).map(Floored::CountedAsFail),
            None if name == "coverage" => Some(Floored::Coverage),
            None => Measure::from_name(name).map(Floored::Dropped),
        };
        let of = of.ok_or_else(|| format!("`{name}` is no measure; there are {}", known()))?;
        let at_least: Option<f64> = number.parse().ok().filter(|n: &f64| (-1.0..=1.0).contains(n));
        let at_least =
            at_least.ok_or_else(|| format!("`{number}` in `{part}` is no number from -1 to 1"))?;
        Ok(Floor { name: name.to_owned(), of, at_least })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_measures_and_numbers() {
        let floors: Floors = "f1=0.80, coverage=0.99,counted_as_fail.f1=.5".parse().expect("valid");
        let of: Vec<Floored> = floors.0.iter().map(|floor| floor.of).collect();
        assert_eq!(
            of,
            [Floored::Dropped(Measure::F1), Floored::Coverage, Floored::CountedAsFail(Measure::F1)]
        );
        for (bad, said) in [("f1", "MEASURE=NUMBER"), ("f2=1", "coverage"), ("f1=80", "-1 to 1")] {
            let error = bad.parse::<Floors>().expect_err("not valid");
            assert!(error.contains(said), "{bad}: {error}");
        }
    }
}
