//! Who votes on a run's leaves: `--samples`, `--jury` and `--escalate`.
//!
//! Owns the flags, what calibrations make of the votes, and sending leaves on to a second judge. What
//! votes come to is core's, the statistics are the audit's.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use tribunal_audit::{Calibration, votes::Sending};
use tribunal_core::{LeafTask, Outcome, Prices, RunId, RunSpec, Voting, canary};
use tribunal_store::{Store, StoreError};

use crate::{
    args::{JudgeArgs, RateArgs},
    budget::BudgetArgs,
    calibration,
    command::audit::run_tree::header,
    config::{Config, judge::ResolvedJudge},
    prepare::{self, Draft, tasks},
};

/// The share of right verdicts that is wanted where nobody says.
pub(crate) const WANTED_AGREEMENT: f64 = 0.9;

/// The most votes of one judge on a leaf: far more than reliability can gain from.
const MOST_SAMPLES: i64 = 100;

/// Outcomes read at once.
const PAGE: usize = 4_096;

/// How often leaves are asked about, and of whom besides.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct VoteArgs {
    /// Ask about each leaf N times; the majority decides, and an even vote leaves it ungraded
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_SAMPLES))]
    samples: Option<u32>,
    /// Judges of the config that vote on each leaf together
    #[arg(long, value_name = "JUDGE,…", value_delimiter = ',', conflicts_with_all = ["judge", "base_url", "model", "escalate"])]
    jury: Vec<String>,
    /// What `audit --save` kept of each of the jury's judges alone: votes weigh by accuracy
    #[arg(long, value_name = "CAL.json,…", value_delimiter = ',', requires = "jury")]
    weights: Vec<PathBuf>,
    /// Ask the second judge about what the first one's votes do not agree on
    #[arg(long, value_name = "CHEAP→STRONG", requires_all = ["escalation", "samples"], conflicts_with_all = ["judge", "base_url", "model"])]
    escalate: Option<Route>,
    /// What `audit --save` kept of the first judge with as many samples: says how much agreement is enough
    #[arg(long, value_name = "CAL.json", requires = "escalate")]
    escalation: Option<PathBuf>,
    /// The share of right verdicts that is wanted of those that are not sent on [default: 0.9]
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "escalate")]
    agreement: Option<f64>,
}

/// From one judge to another, each by its name in the config.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    cheap: String,
    strong: String,
}

/// The judges of a run.
#[derive(Clone)]
pub(crate) struct Panel {
    /// The judge whose run it is.
    pub(crate) first: ResolvedJudge,
    /// Those beside it, each with its votes on a leaf.
    pub(crate) others: Vec<(ResolvedJudge, u32)>,
    /// Votes of the first judge on a leaf.
    pub(crate) samples: u32,
    count: Count,
}

/// How votes are counted.
#[derive(Clone)]
enum Count {
    Majority,
    Weighted(Vec<Calibration>),
    Escalated(Box<(Calibration, Sending)>),
}

/// What a second judge is asked once the first one's votes are cast.
pub(crate) struct Escalation {
    /// Its tasks by the position of their leaf.
    tasks: BTreeMap<u32, Vec<LeafTask>>,
    /// Its canaries: asked where it is asked at all.
    canaries: Vec<LeafTask>,
}

/// A share of the command line, between 0 and 1.
///
/// # Errors
///
/// It is no such number.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "a share is a number between 0 and 1, such as 0.9".to_owned())
}

// === impl VoteArgs ===

impl VoteArgs {
    /// The judges that these flags name, `judge` saying who the only one is.
    ///
    /// # Errors
    ///
    /// A judge or a calibration cannot be used.
    pub(crate) fn panel(
        &self,
        judge: &JudgeArgs,
        rates: RateArgs,
        config: &Config,
    ) -> anyhow::Result<Panel> {
        let samples = self.samples.unwrap_or(1);
        let named = |name: &str| {
            let judge = Some(name.trim().to_owned());
            prepare::judge(&JudgeArgs { judge, ..JudgeArgs::default() }, rates, config)
        };
        if let (Some(Route { cheap, strong }), Some(path)) = (&self.escalate, &self.escalation) {
            ensure!(
                cheap != strong,
                "--escalate {cheap}→{strong} sends leaves on to the same judge"
            );
            ensure!(
                samples > 1,
                "--escalate needs --samples of 2 at least: the votes say how sure {cheap} is"
            );
            let kept = calibration::read(path)?;
            let shown = path.display();
            let votes = kept.votes.as_ref().with_context(|| {
                format!(
                    "{shown} knows nothing of votes: audit a run of {cheap} with --samples {samples} \
                     and --save that"
                )
            })?;
            let sending = votes.sending(self.agreement.unwrap_or(WANTED_AGREEMENT));
            let count = Count::Escalated(Box::new((kept, sending)));
            return Ok(Panel {
                first: named(cheap)?,
                others: vec![(named(strong)?, 1)],
                samples,
                count,
            });
        }
        let Some((first, others)) = self.jury.split_first() else {
            let first = prepare::judge(judge, rates, config)?;
            return Ok(Panel { first, others: Vec::new(), samples, count: Count::Majority });
        };
        for (at, name) in self.jury.iter().enumerate() {
            ensure!(
                !self.jury[..at].contains(name),
                "--jury names {name} twice; --samples asks every judge more than once"
            );
        }
        let others = others.iter().map(|name| Ok((named(name)?, samples)));
        let count = match self.weights.is_empty() {
            true => Count::Majority,
            false => {
                let kept = self.weights.iter().map(|path| calibration::read(path));
                Count::Weighted(kept.collect::<anyhow::Result<_>>()?)
            }
        };
        let others = others.collect::<anyhow::Result<_>>()?;
        Ok(Panel { first: named(first)?, others, samples, count })
    }
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('→').or_else(|| text.split_once("->"));
        let named = |(cheap, strong): (&str, &str)| Route {
            cheap: cheap.trim().to_owned(),
            strong: strong.trim().to_owned(),
        };
        parts
            .map(named)
            .filter(|route| !route.cheap.is_empty() && !route.strong.is_empty())
            .ok_or_else(|| {
                "name two judges of the config, such as 'mini→large' or 'mini->large'".to_owned()
            })
    }
}

// === impl Panel ===

impl Panel {
    /// One judge, asked once about each leaf.
    pub(crate) fn of(judge: ResolvedJudge) -> Panel {
        Panel { first: judge, others: Vec::new(), samples: 1, count: Count::Majority }
    }

    /// All of its judges, the first one first.
    pub(crate) fn judges(&self) -> impl Iterator<Item = &ResolvedJudge> {
        std::iter::once(&self.first).chain(self.others.iter().map(|(judge, _)| judge))
    }

    /// The price of tokens, where all judges have the same one.
    pub(crate) fn price(&self) -> Option<&Prices> {
        self.first.facts.prices.as_ref().filter(|_| self.others.is_empty())
    }

    /// Refuses a budget that cannot be kept.
    ///
    /// # Errors
    ///
    /// That, and what to do.
    pub(crate) fn check_budget(&self, budget: &BudgetArgs) -> anyhow::Result<()> {
        self.judges().try_for_each(|judge| budget.check(&judge.facts))
    }

    /// The share of leaves that this voter is expected to be asked about, 0 being the first judge.
    pub(crate) fn share_asked(&self, voter: usize) -> f64 {
        match &self.count {
            Count::Escalated(of) if voter > 0 => of.1.sent_on,
            _ => 1.0,
        }
    }

    /// What is sent on, where a second judge is asked about that.
    pub(crate) fn sending(&self) -> Option<&Sending> {
        match &self.count {
            Count::Escalated(of) => Some(&of.1),
            Count::Majority | Count::Weighted(_) => None,
        }
    }

    /// How this run counts its votes.
    ///
    /// # Errors
    ///
    /// A calibration is of another judge, or tells judges apart by nothing.
    pub(crate) fn voting(&self, spec: &RunSpec) -> anyhow::Result<Voting> {
        // What an audit of this judge alone was of.
        let alone = |voter: usize, samples: u32| RunSpec {
            samples,
            jurors: Vec::new(),
            voting: Voting::Majority,
            ..spec.clone().of_voter(voter)
        };
        match &self.count {
            Count::Majority => Ok(Voting::Majority),
            Count::Escalated(of) => {
                let (kept, sending) = &**of;
                calibration::check(kept, &alone(0, self.samples))?;
                Ok(Voting::Escalated { agreement: sending.threshold })
            }
            Count::Weighted(kept) => {
                let weight = |voter: usize| -> anyhow::Result<f64> {
                    let spec = alone(voter, 1);
                    let header = header(&spec, "", false);
                    let own = kept.iter().find(|kept| kept.check(&header).is_ok());
                    let own = own.with_context(|| {
                        format!(
                            "no file of --weights is of {} with this prompt and one vote a leaf: audit \
                             a run of that judge alone and --save it",
                            header.name
                        )
                    })?;
                    Ok(own.vote_weight())
                };
                let weights: Vec<f64> =
                    (0..=self.others.len()).map(weight).collect::<anyhow::Result<_>>()?;
                if weights.iter().all(|weight| *weight == 0.0) {
                    bail!(
                        "by --weights no judge of the jury is better than chance: nobody could decide"
                    );
                }
                Ok(Voting::Weighted { weights })
            }
        }
    }
}

// === impl Escalation ===

impl Escalation {
    /// What the second judge of this run would be asked; `None` where nothing is ever sent on.
    pub(crate) fn of(draft: &Draft) -> Option<Escalation> {
        matches!(draft.spec.voting, Voting::Escalated { .. }).then_some(())?;
        let mut tasks: BTreeMap<u32, Vec<LeafTask>> = BTreeMap::new();
        for (_, task) in draft.jurors.iter().flat_map(Draft::votes) {
            tasks.entry(task.position).or_default().push(task.clone());
        }
        let canaries = draft.jurors.iter().flat_map(Draft::canary_tasks).collect();
        Some(Escalation { tasks, canaries })
    }

    /// Puts the leaves in the queue that the first judge's votes do not decide; those there already stay
    /// as they are. Returns how many questions are new.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn send(
        &self,
        run: &RunId,
        spec: &RunSpec,
        store: &Arc<dyn Store>,
    ) -> Result<u64, StoreError> {
        let ballot = spec.ballot();
        let (mut sent, mut after) = (Vec::new(), None);
        let mut leaf: (u32, Vec<(u32, Outcome)>) = (0, Vec::new());
        let mut decide = |(position, votes): &(u32, Vec<(u32, Outcome)>)| {
            if *position < canary::FIRST_POSITION && ballot.tally(votes).escalates {
                sent.extend(self.tasks.get(position).into_iter().flatten().cloned());
            }
        };
        loop {
            let page = store.outcomes(run, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.position, last.sample));
            for task in page {
                if task.position != leaf.0 {
                    decide(&leaf);
                    leaf = (task.position, Vec::new());
                }
                leaf.1.push((task.sample, task.outcome));
            }
        }
        decide(&leaf);
        if sent.is_empty() {
            return Ok(0);
        }
        let canaries = self.canaries.iter().cloned();
        tasks::enqueue(sent.into_iter().chain(canaries).collect(), run, &**store).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_with_either_arrow() {
        let route = |text: &str| text.parse::<Route>().ok().map(|r| (r.cheap, r.strong));
        let both = Some(("mini".to_owned(), "gpt-4".to_owned()));
        assert_eq!(route("mini→gpt-4"), both);
        assert_eq!(route(" mini -> gpt-4 "), both);
        for wrong in ["mini", "→strong", "mini→", "mini,strong", ""] {
            assert_eq!(route(wrong), None, "{wrong}");
        }
    }
}
