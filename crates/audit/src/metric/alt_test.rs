//! The alternative annotator test (arXiv 2501.10970): may the judge stand in for a human?
//!
//! Owns the test: each human in turn is left out, and the judge is compared with them by
//! agreement with the rest, at a discount `epsilon` for being cheap.

use super::{dist::t_cdf, mean, paired::multiple::benjamini_yekutieli, variance};

/// Items that a test needs.
pub const FEWEST_ITEMS: usize = 30;

/// The result.
#[derive(Clone, Debug, PartialEq)]
pub struct AltTest {
    /// One-sided p of each human: that the judge is worse by at least `epsilon`.
    pub p: Vec<f64>,
    /// Whether the judge beats each human, at a false discovery rate of `q`.
    pub beaten: Vec<bool>,
    /// Share of humans beaten.
    pub winning_rate: f64,
    /// The chance that the judge is at least as good as a human on an item.
    pub advantage: f64,
    /// Whether at least half of the humans are beaten.
    pub passes: bool,
}

/// The test over items that every human graded. `None` with fewer than two humans, fewer than
/// [`FEWEST_ITEMS`] items, or lengths that differ.
pub fn alt_test(humans: &[Vec<bool>], judge: &[bool], epsilon: f64, q: f64) -> Option<AltTest> {
    let items = judge.len();
    let whole = humans.iter().all(|human| human.len() == items);
    if humans.len() < 2 || items < FEWEST_ITEMS || !whole {
        return None;
    }
    let mut p = Vec::new();
    let mut advantages = Vec::new();
    for (left_out, human) in humans.iter().enumerate() {
        let agreeing = |grade: bool, item: usize| {
            let rest = humans.iter().enumerate().filter(|(other, _)| *other != left_out);
            rest.filter(|(_, other)| other[item] == grade).count()
        };
        let wins: Vec<(f64, f64)> = (0..items)
            .map(|item| {
                let (own, judges) = (agreeing(human[item], item), agreeing(judge[item], item));
                (f64::from(judges >= own), f64::from(own >= judges))
            })
            .collect();
        let judge_wins: Vec<f64> = wins.iter().map(|(judge, _)| *judge).collect();
        advantages.push(mean(&judge_wins)?);
        let difference: Vec<f64> = wins.iter().map(|(judge, human)| human - judge).collect();
        let gap = mean(&difference)? - epsilon;
        let se = (variance(&difference, 1)? / items as f64).sqrt();
        p.push(match se {
            0.0 => f64::from(gap >= 0.0),
            se => t_cdf(gap / se, items as f64 - 1.0)?,
        });
    }
    let beaten: Vec<bool> = benjamini_yekutieli(&p).iter().map(|p| *p <= q).collect();
    let winning_rate = beaten.iter().filter(|b| **b).count() as f64 / beaten.len() as f64;
    let advantage = mean(&advantages)?;
    Some(AltTest { p, beaten, winning_rate, advantage, passes: winning_rate >= 0.5 })
}
