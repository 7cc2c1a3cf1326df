//! How often a tuning would find what there is to find.
//!
//! Owns the announcement: the same races and the same test, run on answers that are drawn from a model
//! of the judges, in memory. A formula would have to leave out the halving and the absolute bias.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    answer::{Answer, Table, Wanted},
    final_test::Finding,
    race::BASELINE,
    random::Random,
    tuning::{Step, Tuning},
};

/// How candidates are taken to answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// The baseline's sensitivity.
    pub sensitivity: f64,
    /// The baseline's specificity.
    pub specificity: f64,
    /// The share of leaves about which a candidate makes up its mind anew, in [0, 1]: on the others it
    /// errs where the baseline does.
    pub churn: f64,
}

/// An announcement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Power {
    /// By how much one candidate is better in both rates.
    pub effect: f64,
    /// The share of tunings that call that one improved.
    pub power: f64,
    /// Simulated tunings.
    pub simulations: usize,
}

// === impl Model ===

impl Model {
    /// Where nothing is known: two candidates then differ on about [`DISCORDANT`] of the leaves.
    ///
    /// [`DISCORDANT`]: crate::noise::DISCORDANT
    pub fn assumed(discordant: f64) -> Model {
        let rate = 0.8_f64;
        let anew = 2.0 * rate * (1.0 - rate);
        Model { sensitivity: rate, specificity: rate, churn: (discordant / anew).min(1.0) }
    }
}

/// The share of tunings in which the first candidate behind the baseline, better by `effect` in both
/// rates, wins and is called improved; the others are as good as the baseline.
pub fn announce(tuning: &Tuning<'_>, effect: f64, model: &Model, simulations: usize) -> Power {
    let found = (0..simulations).filter(|number| {
        let table = simulated(tuning, effect, model, *number as u64);
        let Step::Done(races) = tuning.races(&table) else { return false };
        let best = BASELINE + 1;
        if !races.folds.iter().any(|raced| raced.winner == Some(best)) {
            return false;
        }
        matches!(tuning.test(&races, &table), Step::Done(test) if test.finding == Finding::Improved)
    });
    let power = found.count() as f64 / simulations.max(1) as f64;
    Power { effect, power, simulations }
}

/// Answers of all candidates about all leaves.
fn simulated(tuning: &Tuning<'_>, effect: f64, model: &Model, number: u64) -> Table {
    let labels = tuning.labels;
    let mut random = Random::new(tuning.seed ^ number, "power");
    let mut table = Table::new(labels.leaves.len());
    for (leaf, label) in labels.leaves.iter().enumerate() {
        let rate = if label.human { model.sensitivity } else { model.specificity };
        let shared = random.uniform();
        for candidate in 0..tuning.entries.len() {
            let better = if candidate == BASELINE + 1 { effect } else { 0.0 };
            let anew = candidate != BASELINE && random.uniform() < model.churn;
            let drawn = if anew { random.uniform() } else { shared };
            let passes = label.human == (drawn < rate + better);
            let answer = if passes { Answer::Pass } else { Answer::Fail };
            table.set(Wanted { candidate, leaf }, answer);
        }
    }
    table
}
