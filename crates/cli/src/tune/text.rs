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
        "tuning {}: {} labelled leaves of {} papers",
        document.tuning,
        document.leaves,
        document.papers.len()
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
        "test set {}: {} leaves, {} looks so far",
        &sealed.hash[..12],
        sealed.leaves,
        sealed.looks
    ));
    lines.push(format!(
        "smallest effect that is seen: {} points, where prompts differ on {:.0}% of the leaves",
        points(visible.smallest_effect),
        visible.discordant * 100.0
    ));
    lines.extend(document.power_before.as_ref().map(|power| found_in(power, document)));
    let between = |expected: String, most: String| match expected == most {
        true => format!("at most {most}"),
        false => format!("about {expected}, at most {most}"),
    };
    lines.push(format!(
        "{} questions ({} without halving), {} proposals; {}",
        between(projection.expected_questions.to_string(), projection.questions.to_string()),
        projection.full_factorial,
        projection.proposals,
        match (projection.expected_cost_usd, projection.cost_usd) {
            (None, _) | (_, None) => "the cost is not known".to_owned(),
            (expected, most) => format!("cost {}", between(usd(expected), usd(most))),
        }
    ));
    lines
}

/// What the baseline's repeats have shown.
pub(crate) fn noise(document: &TuneDocument) -> Vec<String> {
    let Some(noise) = &document.noise else { return Vec::new() };
    let mut lines = vec![format!(
        "the baseline differs from itself on {:.1}% of {} leaves: effects below {} points are not seen",
        noise.disagreement * 100.0,
        noise.leaves,
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
         {:.0} questions ({} simulated; the baseline's sensitivity {}, specificity {}: {})",
        points(Some(power.effect)),
        power.power * 100.0,
        power.questions,
        power.simulations,
        points(Some(*sensitivity)),
        points(Some(*specificity)),
        match basis {
            Basis::Assumed => "assumed".to_owned(),
            Basis::Labels => "as the labels say".to_owned(),
            Basis::Measured => {
                let leaves = document.noise.map_or(0, |noise| noise.leaves);
                format!("measured on {leaves} leaves")
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
    let leaves: Vec<String> = raced.rungs.iter().map(|rung| rung.leaves.to_string()).collect();
    let _ = writeln!(text, "\nrace: {} leaves, the same for all in a rung", leaves.join(", "));
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
        let _ = writeln!(text, "\ntest: {} papers", test.papers);
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
            "{} judge calls, {} rank, {} repair, {} proposals; {} verdicts reused; cost {}",
            spent.judge_calls,
            spent.rank_calls,
            spent.repair_calls,
            spent.proposer_calls,
            spent.reused,
            usd(spent.cost_usd)
        );
    }
    let ledger = &document.ledger;
    if ledger.tunings > 1 {
        let _ = writeln!(
            text,
            "the ledger has {} tunings on these labels: {} looks at test sets, {} calls, cost {}",
            ledger.tunings,
            ledger.looks,
            ledger.calls,
            usd(ledger.cost_usd)
        );
    }
    if let Some(why) = &document.ended_by {
        let _ = writeln!(text, "not finished: {why}");
    }
    if let Some(answer) = &document.answer {
        let winner = document.winner.and_then(|at| document.candidates.get(at));
        let winner = winner.map_or_else(String::new, |of| format!(": {}", of.name));
        let _ = writeln!(text, "answer: {answer}{winner}");
    }
    if let Some(folder) = &document.winning_set {
        let _ = writeln!(text, "use it with --prompt-set {folder}");
    }
    if document.races.is_some() {
        let _ = writeln!(text, "results in {}", document.out);
    }
    sanitize(&text)
}
