//! The end of a tuning: its document filled in, its files written.
//!
//! Owns what is told of candidates, flipped leaves and spends.

use tribunal_audit::{Paired, pair::Leaf};
use tribunal_core::verdict::Verdict;
use tribunal_tune::{
    document::{CandidateDocument, FlipDocument, TuneState},
    final_test::Finding,
    race::BASELINE,
};

use super::{Tune, files};
use crate::tune::{
    bench::{Bench, Ended},
    ledger::Ledger,
};

/// What is told of the candidates, in their order.
pub(super) fn candidates(bench: &Bench<'_>) -> Vec<CandidateDocument> {
    let recorded = bench.recorded();
    let of = bench.judged.iter().map(|of| {
        let names = bench.labelled.iter().map(|labelled| labelled.name.clone());
        let runs = names.zip(&of.runs).filter(|(_, benched)| recorded.contains(&benched.run));
        let runs = runs.map(|(name, benched)| (name, benched.run.to_string()));
        CandidateDocument {
            usd_a_leaf: of.usd_a_leaf,
            runs: runs.collect(),
            ..of.candidate.document.clone()
        }
    });
    of.collect()
}

/// Humans' words on a leaf.
fn words(leaf: &Leaf) -> String {
    let words: Vec<&str> = leaf.humans.iter().map(|grade| grade.explanation.as_str()).collect();
    words.join("\n\n").trim().to_owned()
}

// === impl Tune ===

impl Tune<'_> {
    /// Fills the document in and writes everything; `asked` are the questions to the proposer, and
    /// whether a simulated judge answered.
    ///
    /// # Errors
    ///
    /// The store's, or a file cannot be written.
    pub(super) async fn finish(
        &mut self,
        bench: &Bench<'_>,
        ledger: &mut Ledger,
        (asked, simulated): (Vec<String>, bool),
        paired: &Paired,
        ended: Option<&Ended>,
    ) -> anyhow::Result<()> {
        let document = &mut self.document;
        (document.state, document.ended_by) = match ended {
            None => (TuneState::Complete, None),
            Some(Ended::Budget) => (
                TuneState::Incomplete,
                Some(
                    "the budget does not hold what is left to ask; a larger one, or --budget none, \
                     goes on"
                        .to_owned(),
                ),
            ),
            Some(Ended::Unanswered(leaves)) => (
                TuneState::Incomplete,
                Some(match leaves {
                    1 => "1 question has no answer: the judge's calls failed".to_owned(),
                    _ => format!("{leaves} questions have no answer: the judge's calls failed"),
                }),
            ),
            Some(Ended::Stopped) => (TuneState::Interrupted, Some("it was stopped".to_owned())),
            Some(Ended::Refused(why)) => (TuneState::Paused, Some(why.clone())),
        };
        document.candidates = candidates(bench);
        let any_simulated = self.record(bench, ledger, &asked, true).await?;
        let document = &mut self.document;
        document.simulated = any_simulated || simulated;
        document.ledger = ledger.total();
        let flips = document.test.as_ref().map(|test| test.flips.clone()).unwrap_or_default();
        for flip in flips {
            let label = &self.labels.leaves[flip.leaf];
            let source = &paired.leaves[label.source];
            let winner = self.tested_on(flip.leaf);
            let explained = |verdict: Option<Verdict>| {
                verdict.map(|verdict| verdict.rationale.explanation).unwrap_or_default()
            };
            let document = FlipDocument {
                submission: self.labels.submissions[label.submission].clone(),
                index: source.index,
                id: source.id.clone(),
                category: flip.category,
                weight: flip.weight,
                human: flip.human,
                gained: flip.gained,
                requirements: source.requirements.clone(),
                human_explanation: words(source),
                baseline_explanation: explained(bench.verdict(BASELINE, flip.leaf).await?),
                winner_explanation: explained(bench.verdict(winner, flip.leaf).await?),
            };
            self.document.flips.push(document);
        }
        let document = &mut self.document;
        if let Some(winner) = document.winner {
            let (before, after) =
                (&bench.judged[BASELINE].candidate, &bench.judged[winner].candidate);
            document.prompt_diff = files::prompt_diff(&before.set, &after.set);
            let improved =
                document.test.as_ref().is_some_and(|test| test.finding == Finding::Improved);
            if improved {
                let told = document.candidates[winner].clone();
                let name = before.panel.first.spec.name.as_str();
                let judge = self.args.judge.base_url.is_none().then_some(name);
                let folder = files::write_winner(self.out, &after.set, &told, judge)?;
                document.winning_set = Some(folder.display().to_string());
            }
        }
        files::write_document(self.out, document)
    }

    /// Records what was spent until now; `asked` are the questions to the proposer. Whether a simulated
    /// judge answered one of the others.
    ///
    /// # Errors
    ///
    /// The store's, or the ledger cannot be written.
    pub(super) async fn record(
        &mut self,
        bench: &Bench<'_>,
        ledger: &mut Ledger,
        asked: &[String],
        at_its_end: bool,
    ) -> anyhow::Result<bool> {
        let (mut spent, simulated, runs) = bench.spent().await?;
        let (calls, cost) = ledger.proposer(asked);
        spent.proposer_calls = calls;
        spent.cost_usd = spent.cost_usd.zip(cost).map(|(judges, proposer)| judges + proposer);
        self.document.spent = spent;
        ledger.spend(&self.document.tuning, spent, runs, at_its_end)?;
        Ok(simulated)
    }

    /// The candidate that was compared with the baseline on this test leaf.
    fn tested_on(&self, leaf: usize) -> usize {
        let paper = self.labels.leaves[leaf].paper;
        let folds = self.split.folds();
        let fold = folds.iter().position(|fold| fold.test.contains(&paper));
        let races = self.document.races.as_ref();
        let raced = fold.zip(races).and_then(|(fold, races)| races.folds.get(fold));
        raced.and_then(|raced| raced.winner).unwrap_or(BASELINE)
    }
}
