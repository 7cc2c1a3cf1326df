//! How often a tuning would find what there is to find.
//!
//! Owns the announcement: the same races and the same test, run on answers that are drawn from a model
//! of the judges, in memory. A formula would have to leave out the halving and the absolute bias.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    answer::{Answer, Table, Wanted},
    final_test::Finding,
    labels::Labels,
    race::BASELINE,
    random::Random,
    sample::Drawn,
    tuning::{Step, Tuning},
};

/// Where the baseline's rates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Nothing is known of it.
    Assumed,
    /// The file of labels says them.
    Labels,
    /// It was asked about some of the labelled leaves.
    Measured,
}

/// How good the baseline is taken to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// Its sensitivity, in [0, 1].
    pub sensitivity: f64,
    /// Its specificity, in [0, 1].
    pub specificity: f64,
    /// Who says so.
    pub basis: Basis,
}

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
    /// Questions that races and test ask on average.
    pub questions: f64,
    /// Simulated tunings.
    pub simulations: usize,
    /// The baseline's rates in them.
    pub rates: Rates,
    /// The share of leaves on which a candidate differs from the baseline for no better reason than
    /// chance, in [0, 1].
    pub discordant: f64,
}

// === impl Rates ===

impl Rates {
    /// Where nothing is known.
    pub fn assumed() -> Rates {
        Rates { sensitivity: 0.8, specificity: 0.8, basis: Basis::Assumed }
    }

    /// From (passes, votes) of the baseline on each leaf of a sample; `None` where either class of
    /// leaves has no vote. That no rate is 0 or 1 is half a vote either way.
    pub fn measured(labels: &Labels, sample: &[Drawn], votes: &[(u32, u32)]) -> Option<Rates> {
        let rate = |human: bool| {
            let of = sample.iter().zip(votes).filter(|(drawn, (_, votes))| {
                labels.leaves[drawn.leaf].human == human && *votes > 0
            });
            let (mut leaves, mut weight, mut right) = (0.0, 0.0, 0.0);
            for (drawn, (passes, votes)) in of {
                let passed = f64::from(*passes) / f64::from(*votes);
                leaves += 1.0;
                weight += drawn.weight;
                right += drawn.weight * if human { passed } else { 1.0 - passed };
            }
            (leaves > 0.0).then(|| (leaves * right / weight + 0.5) / (leaves + 1.0))
        };
        Some(Rates { sensitivity: rate(true)?, specificity: rate(false)?, basis: Basis::Measured })
    }
}

// === impl Model ===

impl Model {
    /// With these rates, and two candidates that differ on this share of the leaves by chance.
    pub fn of(rates: &Rates, discordant: f64) -> Model {
        let Rates { sensitivity, specificity, .. } = *rates;
        let anew = sensitivity * (1.0 - sensitivity) + specificity * (1.0 - specificity);
        let churn = if anew > 0.0 { (discordant / anew).min(1.0) } else { 1.0 };
        Model { sensitivity, specificity, churn }
    }
}

/// The share of tunings in which the first candidate behind the baseline, better by `effect` in both
/// rates, wins and is called improved; the others are as good as the baseline. Two candidates differ on
/// the share `discordant` of the leaves by chance.
pub fn announce(
    tuning: &Tuning<'_>,
    effect: f64,
    rates: &Rates,
    discordant: f64,
    simulations: usize,
) -> Power {
    let model = Model::of(rates, discordant);
    let (mut found, mut questions) = (0_usize, 0_usize);
    for number in 0..simulations {
        let table = simulated(tuning, effect, &model, number as u64);
        let Step::Done(races) = tuning.races(&table) else { continue };
        questions += tuning.asked(&races);
        let best = BASELINE + 1;
        if races.folds.iter().any(|raced| raced.winner == Some(best))
            && let Step::Done(test) = tuning.test(&races, &table)
        {
            found += usize::from(test.finding == Finding::Improved);
        }
    }
    let each = simulations.max(1) as f64;
    Power {
        effect,
        power: found as f64 / each,
        questions: questions as f64 / each,
        simulations,
        rates: *rates,
        discordant,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Label;

    #[test]
    fn measured_rates_are_those_of_the_whole_pool() {
        let leaf = |at: usize| Label {
            submission: 0,
            paper: 0,
            category: "Code Development".to_owned(),
            human: at < 20,
            weight: 0.01,
            name: at.to_string(),
            source: at,
        };
        let labels = Labels {
            papers: vec!["rice".to_owned()],
            submissions: vec!["rice".to_owned()],
            leaves: (0..60).map(leaf).collect(),
        };
        let sample: Vec<Drawn> =
            (0..40).map(|leaf| Drawn { leaf, weight: if leaf < 10 { 3.0 } else { 1.0 } }).collect();
        // Of the leaves that stand for three it passes a half, of the others all; of the fails a tenth.
        let votes: Vec<(u32, u32)> = (0..40)
            .map(|leaf| match leaf {
                0..10 => (1, 2),
                10..20 => (3, 3),
                _ => (u32::from(leaf % 10 == 0), 1),
            })
            .collect();
        let rates = Rates::measured(&labels, &sample, &votes).unwrap();
        assert!((rates.sensitivity - (20.0 * 0.625 + 0.5) / 21.0).abs() < 1e-12, "{rates:?}");
        assert!((rates.specificity - (20.0 * 0.9 + 0.5) / 21.0).abs() < 1e-12, "{rates:?}");
        assert_eq!(Rates::measured(&labels, &sample[..20], &votes[..20]), None, "no fails");
        let model = Model::of(&rates, 0.1);
        let chance = |rate: f64| model.churn * rate * (1.0 - rate);
        assert!((chance(rates.sensitivity) + chance(rates.specificity) - 0.1).abs() < 1e-12);
    }
}
