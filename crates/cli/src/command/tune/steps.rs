//! The steps of a tuning, each as far as the answers go: noise floor, proposals, races, the one look at
//! the test set.
//!
//! Owns their order and what they say on the way.

use anyhow::{bail, ensure};
use tribunal_core::ids::FieldHasher;
use tribunal_tune::{Step, Tuning, tuning::Races};

use super::Tune;
use crate::{
    output::counted,
    progress::note,
    tune::{
        bench::{Bench, Ended},
        ledger::{Entry, Ledger},
        proposals::Proposals,
    },
};

// === impl Tune ===

impl Tune<'_> {
    fn say(&self, text: &str) {
        if !self.args.pool.quiet {
            note(text);
        }
    }

    /// Everything that is asked; why it ended before, if it did.
    pub(super) async fn go_on(
        &mut self,
        bench: &mut Bench<'_>,
        mut proposals: Option<&mut Proposals<'_>>,
        ledger: &mut Ledger,
    ) -> anyhow::Result<Option<Ended>> {
        // What a killed command has paid, too.
        self.record(bench, ledger, &[], false).await?;
        if self.args.repeats > 1 {
            let repeated = bench.judged[0].candidate.repeated(self.args.repeats);
            let (repeated, _) = bench.stores.draft(repeated, bench.labelled).await?;
            bench.repeated = Some(repeated);
            let leaves = self.repeated_leaves();
            self.say(&format!(
                "noise floor: the baseline {} times on {}",
                self.args.repeats,
                counted(leaves.len(), "leaf", "leaves")
            ));
            let votes = match bench.repeat(&leaves).await? {
                Ok(votes) => votes,
                Err(ended) => return Ok(Some(ended)),
            };
            self.record(bench, ledger, &[], false).await?;
            self.project_again(bench, &leaves, &votes)?;
        }
        if let Some(proposals) = proposals.as_mut() {
            let ended = proposals.make(self.args.propose, bench, &mut self.table, ledger).await?;
            if ended.is_some() {
                return Ok(ended);
            }
            ensure!(
                bench.judged.len() > 1,
                "no proposal could be used, and there is nobody else to race; the ledger in {} says why",
                self.out.display()
            );
        }
        let asked = proposals.map(|of| of.asked.clone()).unwrap_or_default();
        self.record(bench, ledger, &asked, false).await?;
        let entries = self.racers(bench);
        let (labels, split, rules) = (self.labels, self.split, self.rules);
        let tuning =
            Tuning { labels, split, entries: &entries, rules: &rules, seed: self.args.seed };
        let races = loop {
            match tuning.races(&self.table) {
                Step::Done(races) => break races,
                Step::Ask(wanted) => {
                    let questions = counted(wanted.len(), "question", "questions");
                    self.say(&format!("race: {questions}"));
                    if let Some(ended) = bench.ask(&wanted, &mut self.table).await? {
                        return Ok(Some(ended));
                    }
                }
            }
        };
        self.record(bench, ledger, &asked, false).await?;
        self.document.winner = races.winner();
        let any = races.any_winner();
        let comparison = comparison(bench, &races, &self.document.sealed.hash);
        self.document.races = Some(races.clone());
        if !any {
            self.document.answer = Some("not shown".to_owned());
            self.document.notes.push(match self.document.winner {
                None => "no candidate within the limits ended a race above the baseline on the same \
                     leaves: the test set stays sealed"
                    .to_owned(),
                Some(winner) => format!(
                    "over all papers {} ended above the baseline, but no candidate did without one of \
                     them: there is nothing to test, and the test set stays sealed",
                    bench.judged[winner].candidate.document.name
                ),
            });
            return Ok(None);
        }
        if self.document.winner.is_none() {
            self.document.notes.push(
                "the test is of what the races without a paper chose; the race over all papers chose no \
                 candidate, so that there is none to use"
                    .to_owned(),
            );
        }
        self.look(&comparison, ledger)?;
        let test = loop {
            match tuning.test(&races, &self.table) {
                Step::Done(test) => break test,
                Step::Ask(wanted) => {
                    let questions = counted(wanted.len(), "question", "questions");
                    self.say(&format!("test: {questions}"));
                    if let Some(ended) = bench.ask(&wanted, &mut self.table).await? {
                        return Ok(Some(ended));
                    }
                }
            }
        };
        if !ledger.is_answered(&comparison) {
            ledger.append(Entry::Answer {
                at: jiff::Timestamp::now(),
                comparison,
                finding: test.finding,
                interval: (test.low, test.high),
            })?;
        }
        self.document.answer = Some(test.reading.clone());
        self.document.test = Some(test);
        Ok(None)
    }

    /// Counts the look at the test set; a second one needs the flag.
    fn look(&mut self, comparison: &str, ledger: &mut Ledger) -> anyhow::Result<()> {
        let seal = self.document.sealed.hash.clone();
        let looks = ledger.looks(&seal);
        let same = looks.contains(&comparison);
        let others = looks.len() - usize::from(same);
        if !same {
            if others > 0 && !self.args.burn_test {
                bail!(
                    "the test set {} was looked at {} for other comparisons: what it says now is no \
                     longer of leaves that nothing was chosen by. --burn-test looks all the same; the \
                     ledger in {} counts it",
                    &seal[..12],
                    counted(others, "time", "times"),
                    self.out.display()
                );
            }
            ledger.append(Entry::Look {
                at: jiff::Timestamp::now(),
                tuning: self.document.tuning.clone(),
                seal: seal.clone(),
                comparison: comparison.to_owned(),
            })?;
        }
        self.document.sealed.looks = ledger.looks(&seal).len();
        if others > 0 {
            self.document.notes.push(format!(
                "the test set was looked at {} times: this answer is weaker than its interval says",
                others + 1
            ));
        }
        Ok(())
    }
}

/// What a look compares.
fn comparison(bench: &Bench<'_>, races: &Races, seal: &str) -> String {
    let mut hasher = FieldHasher::new("tribunal.comparison/1");
    hasher.field("seal", seal.as_bytes());
    hasher.field("baseline", bench.judged[0].candidate.identity().as_bytes());
    for raced in &races.folds {
        let winner = raced.winner.map(|at| bench.judged[at].candidate.identity());
        hasher.field("winner", winner.as_ref().map_or(&[][..], |of| &of.as_bytes()[..]));
    }
    hasher.finish().to_string()[..16].to_owned()
}
