//! What a tuning says on a terminal.
//!
//! Owns the words. Every number is the document's.

use std::{collections::BTreeSet, fmt::Write as _};

use tribunal_collector::sanitize;
use tribunal_tune::{
    Split,
    document::{TuneDocument, TuneState},
    power::{Basis, Power, Rates},
    race::Raced,
    score::Score,
};

use crate::output::counted;

fn points(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{:.1}", value * 100.0))
}

/// A p value.
fn chance(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("= {p:.3}") }
}

fn usd(value: Option<f64>) -> String {
    value.map_or("not known".to_owned(), |usd| format!("${usd:.4}"))
}

/// What is known before the first call.
pub(crate) fn plan(document: &TuneDocument) -> Vec<String> {
    let TuneDocument { projection, visible, sealed, .. } = document;
    let names = |papers: &[usize]| {
        let names: Vec<&str> = papers.iter().map(|at| document.papers[*at].as_str()).collect();
        names.join(", ")
    };
    let mut lines = vec![format!(
        "tuning {}: {} of {}",
        document.tuning,
        counted(document.leaves, "labelled leaf", "labelled leaves"),
        counted(document.papers.len(), "paper", "papers")
    )];
    lines.push(match &document.split {
        Split::Papers { train, dev, test } if train.is_empty() => {
            format!("dev {}; test {}", names(dev), names(test))
        }
        Split::Papers { train, dev, test } => {
            format!("train {}; dev {}; test {}", names(train), names(dev), names(test))
        }
        Split::LeaveOnePaperOut { .. } => {
            format!("each of {} is left out in turn", document.papers.join(", "))
        }
    });
    lines.push(format!(
        "test set {}: {}, {} so far",
        &sealed.hash[..12],
        counted(sealed.leaves, "leaf", "leaves"),
        counted(sealed.looks, "look", "looks")
    ));
    lines.push(format!(
        "smallest effect that the test shows 8 times of 10: {} points, where prompts differ on {:.0}% of \
         the leaves",
        points(visible.smallest_effect),
        visible.discordant * 100.0
    ));
    lines.extend(document.power_before.as_ref().map(|power| found_in(power, document)));
    let between = |expected: String, most: String, all: String| match expected == most {
        true => format!("at most {all}"),
        false => format!("about {expected}, at most {all}"),
    };
    let most = projection.questions;
    lines.push(format!(
        "{} ({} without halving), {}; {}",
        between(
            projection.expected_questions.to_string(),
            most.to_string(),
            counted(most, "question", "questions")
        ),
        projection.full_factorial,
        counted(projection.proposals, "proposal", "proposals"),
        match (projection.expected_cost_usd, projection.cost_usd) {
            (None, _) | (_, None) => "the cost is not known".to_owned(),
            (expected, most) => {
                format!("cost {}", between(usd(expected), usd(most), usd(most)))
            }
        }
    ));
    lines
}

/// What the baseline's repeats have shown.
pub(crate) fn noise(document: &TuneDocument) -> Vec<String> {
    let Some(noise) = &document.noise else { return Vec::new() };
    let mut lines = vec![format!(
        "the baseline differs from itself on {:.1}% of {}: the smallest effect that the test shows 8 times \
         of 10 is {} points",
        noise.disagreement * 100.0,
        counted(noise.leaves, "leaf", "leaves"),
        points(document.visible.smallest_effect)
    )];
    lines.extend(document.power.as_ref().map(|power| found_in(power, document)));
    lines
}

/// An announced power, and whose rates it rests on.
fn found_in(power: &Power, document: &TuneDocument) -> String {
    let Rates { sensitivity, specificity, basis } = &power.rates;
    format!(
        "a candidate better by {} points in both rates would be found in {:.0} of 100 tunings, by about \
         {} ({} simulated; the baseline's sensitivity {}, specificity {}: {})",
        points(Some(power.effect)),
        power.power * 100.0,
        counted(power.questions.round() as u64, "question", "questions"),
        power.simulations,
        points(Some(*sensitivity)),
        points(Some(*specificity)),
        match basis {
            Basis::Assumed => "assumed".to_owned(),
            Basis::Labels => "as the labels say".to_owned(),
            Basis::Measured => {
                let leaves = document.noise.map_or(0, |noise| noise.leaves);
                format!("measured on {}", counted(leaves, "leaf", "leaves"))
            }
        }
    )
}

fn row(text: &mut String, name: &str, score: &Score, mark: &str) {
    let _ = writeln!(
        text,
        "  {name:<34} {:>6} {:>6} {:>6} {:>7} {:>7} {:>5}{mark}",
        points(score.objective),
        points(score.sensitivity),
        points(score.specificity),
        points(score.root_bias),
        score.leaves,
        score.unparsed,
    );
}

const HEAD: &str = "                                     objec-  sensi- speci-    root          un-\n  \
    candidate                            tive tivity ficity    bias  leaves  read\n";

/// Everybody by the last rung that asked.
fn race(text: &mut String, document: &TuneDocument, raced: &Raced) {
    let name = |at: usize| document.candidates.get(at).map_or("", |of| of.name.as_str());
    let leaves: Vec<String> = match raced.rungs.as_slice() {
        [] => vec!["no leaf".to_owned()],
        [before @ .., last] => {
            let before = before.iter().map(|rung| rung.leaves.to_string());
            before.chain([counted(last.leaves, "leaf", "leaves")]).collect()
        }
    };
    let _ = writeln!(text, "\nrace: {}, the same for all in a rung", leaves.join(", "));
    text.push_str(HEAD);
    let mut told = BTreeSet::new();
    for (at, rung) in raced.rungs.iter().enumerate().rev() {
        for of in rung.scores.iter().filter(|of| told.insert(of.candidate)) {
            let mark = match (&of.refused, of.kept) {
                (Some(why), _) => format!("  {why}"),
                (None, true) => String::new(),
                (None, false) => format!("  out in rung {}", at + 1),
            };
            row(text, name(of.candidate), &of.score, &mark);
        }
    }
    let pareto: Vec<&str> = raced.pareto.iter().map(|at| name(*at)).collect();
    let _ =
        writeln!(text, "  not beaten in sensitivity, specificity and cost: {}", pareto.join(", "));
    for at in &raced.too_dear {
        let _ = writeln!(text, "  {} costs too much and was not asked", name(*at));
    }
}

/// The answer with whom it is about. What was tested without a winner of the race over all papers is not one
/// candidate, and what it improved is nobody's to use.
fn of_whom(answer: &str, winner: Option<&str>, tested: bool) -> String {
    match (winner, tested) {
        (Some(name), _) => format!("{answer}: {name}"),
        (None, true) => {
            format!("{answer}, of what races without a paper chose; the baseline stays")
        }
        (None, false) => answer.to_owned(),
    }
}

/// The whole tuning.
pub(crate) fn summary(document: &TuneDocument) -> String {
    let mut text = String::new();
    for line in plan(document).into_iter().chain(noise(document)) {
        let _ = writeln!(text, "{line}");
    }
    if document.simulated {
        text.push_str("A simulated judge answered: this says nothing of any model.\n");
    }
    if let Some(raced) = document.races.as_ref().and_then(|races| races.deciding()) {
        race(&mut text, document, raced);
    }
    if let Some(races) = &document.races
        && races.overall.is_some()
    {
        for (paper, raced) in document.papers.iter().zip(&races.folds) {
            let winner = raced.winner.and_then(|at| document.candidates.get(at));
            let winner = winner.map_or("the baseline stays", |of| of.name.as_str());
            let _ = writeln!(text, "  without {paper}: {winner}");
        }
    }
    if let Some(test) = &document.test {
        let _ = writeln!(text, "\ntest: {}", counted(test.papers, "paper", "papers"));
        text.push_str(HEAD);
        row(&mut text, "baseline", &test.baseline, "");
        row(&mut text, "winner", &test.winner, "");
        let _ = writeln!(
            text,
            "  difference {} points, 95% from {} to {}",
            points(test.difference),
            points(test.low),
            points(test.high)
        );
        for of in &test.tests {
            let holm = of.p_holm.map_or_else(String::new, |p| format!(", by Holm {}", chance(p)));
            let what = if of.scope == "papers" { "sign flip" } else { "McNemar" };
            let _ = writeln!(
                text,
                "  {what}, {}: {} better, {} worse, p {}{holm}",
                of.scope,
                of.winner_better,
                of.baseline_better,
                chance(of.p)
            );
        }
    }
    for note in &document.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let spent = &document.spent;
    if document.state == TuneState::Complete || spent.judge_calls > 0 {
        let _ = writeln!(
            text,
            "{}, {} rank, {} repair, {}; {} reused; cost {}",
            counted(spent.judge_calls, "judge call", "judge calls"),
            spent.rank_calls,
            spent.repair_calls,
            counted(spent.proposer_calls, "proposal", "proposals"),
            counted(spent.reused, "verdict", "verdicts"),
            usd(spent.cost_usd)
        );
    }
    let ledger = &document.ledger;
    if ledger.tunings > 1 {
        let _ = writeln!(
            text,
            "the ledger has {} tunings on these labels: {} at test sets, {}, cost {}",
            ledger.tunings,
            counted(ledger.looks, "look", "looks"),
            counted(ledger.calls, "call", "calls"),
            usd(ledger.cost_usd)
        );
    }
    if let Some(why) = &document.ended_by {
        let _ = writeln!(text, "not finished: {why}");
    }
    if let Some(answer) = &document.answer {
        let winner = document.winner.and_then(|at| document.candidates.get(at));
        let winner = winner.map(|of| of.name.as_str());
        let _ = writeln!(text, "answer: {}", of_whom(answer, winner, document.test.is_some()));
    }
    if let Some(folder) = &document.winning_set {
        let _ = writeln!(text, "use it with --prompt-set {folder}");
    }
    if document.races.is_some() {
        let _ = writeln!(text, "results in {}", document.out);
    }
    sanitize(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_improvement_that_nobody_can_use_is_told_as_one() {
        assert_eq!(of_whom("improved", Some("strict"), true), "improved: strict");
        assert_eq!(of_whom("not shown", None, false), "not shown");
        let nobodys = of_whom("improved on these papers", None, true);
        assert!(nobodys.ends_with("; the baseline stays"), "{nobodys}");
    }
}
