//! `tune.html`: what a tuning found, as one self-contained page.
//!
//! Owns which tables stand on it and in which order. Every number is the document's.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::Value;
use serde::Serialize;
use tribunal_tune::{
    Split,
    document::{FlipDocument, TuneDocument},
    race::{Raced, Rung, RungScore},
    score::Score,
};

use crate::{
    page::{Connect, Page, PageError, Rendered},
    plot::{self, Point},
};

#[derive(Serialize)]
struct Context<'d> {
    tune: &'d TuneDocument,
    names: Vec<&'d str>,
    winner: Option<&'d str>,
    split: BTreeMap<&'static str, String>,
    races: Vec<RaceTable<'d>>,
    tested: Vec<TestRow<'d>>,
    flips: Vec<Flips<'d>>,
    /// Specificity against sensitivity.
    pareto: Option<Value>,
}

/// A race and what it is called.
#[derive(Serialize)]
struct RaceTable<'d> {
    title: String,
    /// Everybody by the last rung that asked, the baseline first.
    last: Vec<LastRow<'d>>,
    rungs: &'d [Rung],
    lead: Option<f64>,
    luck: Option<f64>,
}

/// What was seen of a candidate at last.
#[derive(Serialize)]
struct LastRow<'d> {
    of: &'d RungScore,
    rung: usize,
    leaves: usize,
    won: bool,
}

#[derive(Serialize)]
struct TestRow<'d> {
    name: &'d str,
    score: &'d Score,
}

/// Leaves that flipped one way.
#[derive(Serialize)]
struct Flips<'d> {
    title: &'static str,
    leaves: Vec<&'d FlipDocument>,
}

/// The page.
///
/// # Errors
///
/// The template fails, which is a fault of this program.
pub fn tune_page(document: &TuneDocument) -> Result<Rendered, PageError> {
    let page = Page {
        template: "tune.html",
        title: &format!("Tuning of {}", document.judge),
        styles: &[include_str!("../assets/plot.css"), include_str!("../assets/tune.css")],
        scripts: &[],
        data: None,
        connect: Connect::Nowhere,
    };
    let names: Vec<&str> = match document.candidates.as_slice() {
        [] => vec!["baseline"],
        all => all.iter().map(|of| of.name.as_str()).collect(),
    };
    let winner = document.winner.and_then(|at| names.get(at).copied());
    let tested = document.test.iter().flat_map(|test| {
        let row = |name, score| TestRow { name, score };
        // Where papers are left out in turn, each has a winner of its own.
        let one = winner.filter(|_| matches!(document.split, Split::Papers { .. }));
        let own = one.unwrap_or("the winner without the leaf's paper");
        [row(names[0], &test.baseline), row(own, &test.winner)]
    });
    let flips = [("Gained", true), ("Lost", false)].map(|(title, gained)| Flips {
        title,
        leaves: document.flips.iter().filter(|leaf| leaf.gained == gained).collect(),
    });
    page.render(Context {
        tune: document,
        winner,
        split: split(document),
        races: races(document),
        tested: tested.collect(),
        flips: flips.into(),
        pareto: pareto(document, &names).map(Value::from_safe_string),
        names,
    })
}

fn split(document: &TuneDocument) -> BTreeMap<&'static str, String> {
    let names = |papers: &[usize]| {
        let name = |at: &usize| document.papers.get(*at).map_or("", String::as_str);
        papers.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let parts: [(&str, &[usize]); 3] = match &document.split {
        Split::Papers { train, dev, test } => [("train", train), ("dev", dev), ("test", test)],
        Split::LeaveOnePaperOut { .. } => [("train", &[]), ("dev", &[]), ("test", &[])],
    };
    parts.into_iter().map(|(part, papers)| (part, names(papers))).collect()
}

fn races(document: &TuneDocument) -> Vec<RaceTable<'_>> {
    let Some(races) = &document.races else { return Vec::new() };
    let folds = races.folds.iter().enumerate().map(|(at, raced)| {
        let title = match (&races.overall, document.papers.get(at)) {
            (Some(_), Some(paper)) => format!("Without {paper}"),
            _ => "On the development papers".to_owned(),
        };
        (title, raced)
    });
    let overall = races.overall.iter().map(|raced| ("On all papers".to_owned(), raced));
    overall
        .chain(folds)
        .map(|(title, raced)| {
            let Raced { rungs, lead, luck, .. } = raced;
            RaceTable { title, last: last(raced), rungs, lead: *lead, luck: *luck }
        })
        .collect()
}

fn last(raced: &Raced) -> Vec<LastRow<'_>> {
    let mut told = BTreeSet::new();
    let mut last = Vec::new();
    for (at, rung) in raced.rungs.iter().enumerate().rev() {
        for of in rung.scores.iter().filter(|of| told.insert(of.candidate)) {
            let won = raced.winner == Some(of.candidate);
            last.push(LastRow { of, rung: at + 1, leaves: rung.leaves, won });
        }
    }
    last
}

/// Candidates by their last rung in the race that names the winner.
fn pareto(document: &TuneDocument, names: &[&str]) -> Option<String> {
    let raced = document.races.as_ref()?.deciding()?;
    let mut last: BTreeMap<usize, &Score> = BTreeMap::new();
    for of in raced.rungs.iter().flat_map(|rung| &rung.scores) {
        last.insert(of.candidate, &of.score);
    }
    let points: Vec<Point> = last
        .into_iter()
        .filter_map(|(at, score)| {
            let star = if raced.pareto.contains(&at) { " ★" } else { "" };
            let name = format!("{}{star}", names.get(at)?);
            Some(Point { name, x: score.specificity?, y: score.sensitivity? })
        })
        .collect();
    let plot =
        || plot::scatter("Sensitivity against specificity", "specificity", "sensitivity", &points);
    (points.len() > 1).then(plot)
}

#[cfg(test)]
mod tests {
    use tribunal_tune::{
        Entry, Label, Labels, Rules, Step, Table, Tuning, Wanted,
        document::{
            CandidateDocument, DiffLine, LedgerDocument, Projection, Sealed, Spent, TuneState,
        },
        noise::Visible,
    };

    use super::*;

    const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\u{202e}\"'<b>";

    /// A whole tuning over three papers, where the second candidate is always right.
    fn document(text: &str) -> TuneDocument {
        let leaf = |at: usize| Label {
            submission: at / 40,
            paper: at / 40,
            category: text.to_owned(),
            human: at.is_multiple_of(2),
            weight: 0.025,
            name: format!("{text}{at}"),
            source: at,
        };
        let names: Vec<String> = (0..3).map(|at| format!("{text}{at}")).collect();
        let labels = Labels {
            papers: names.clone(),
            submissions: names.clone(),
            leaves: (0..120).map(leaf).collect(),
        };
        let split = Split::of(&labels, false, 0).unwrap();
        let (entries, rules) = (vec![Entry::default(); 2], Rules::default());
        let tuning =
            Tuning { labels: &labels, split: &split, entries: &entries, rules: &rules, seed: 0 };
        let mut table = Table::new(120);
        for leaf in 0..120 {
            let right = |right: bool| match labels.leaves[leaf].human == right {
                true => tribunal_tune::Answer::Pass,
                false => tribunal_tune::Answer::Fail,
            };
            table.set(Wanted { candidate: 0, leaf }, right(!leaf.is_multiple_of(3)));
            table.set(Wanted { candidate: 1, leaf }, right(true));
        }
        let Step::Done(races) = tuning.races(&table) else { panic!("all is known") };
        let Step::Done(test) = tuning.test(&races, &table) else { panic!("all is known") };
        let flip = |gained| FlipDocument {
            submission: text.to_owned(),
            requirements: text.to_owned(),
            human_explanation: text.to_owned(),
            gained,
            ..FlipDocument::default()
        };
        let candidate = |reason: Option<&str>| CandidateDocument {
            name: text.to_owned(),
            reason: reason.map(str::to_owned),
            ..CandidateDocument::default()
        };
        let line = DiffLine { before: None, after: Some(text.to_owned()) };
        TuneDocument {
            tuning: "t".to_owned(),
            state: TuneState::Complete,
            ended_by: None,
            simulated: true,
            judge: text.to_owned(),
            leaves: 120,
            papers: names,
            sealed: Sealed { hash: split.seal(&labels), ..Sealed::default() },
            split,
            rules,
            seed: 0,
            candidates: vec![candidate(None), candidate(Some(text))],
            projection: Projection::default(),
            visible: Visible::of((60, 60), None),
            power: None,
            power_before: None,
            noise: None,
            winner: races.winner(),
            answer: Some(test.reading.clone()),
            races: Some(races),
            test: Some(test),
            flips: vec![flip(true), flip(false)],
            prompt_diff: BTreeMap::from([(text.to_owned(), vec![line])]),
            spent: Spent::default(),
            ledger: LedgerDocument::default(),
            notes: vec![text.to_owned()],
            out: "out".to_owned(),
            winning_set: None,
        }
    }

    #[test]
    fn the_page_says_what_was_found() {
        let document = document("rice");
        let html = tune_page(&document).unwrap().html;
        let difference = document.test.as_ref().and_then(|test| test.difference).unwrap();
        assert!(difference > 0.1, "{difference}");
        assert!(html.contains("improved on these papers"));
        for part in ["The race", "The test", "Leaves that flipped", "Noise floor", "McNemar", "★"]
        {
            assert!(html.contains(part), "{part}");
        }
    }

    #[test]
    fn hostile_markup_does_nothing() {
        let html = tune_page(&document(HOSTILE)).unwrap().html;
        assert!(!html.contains("<img") && !html.contains('\u{202e}'));
        assert_eq!(html.matches("<script").count(), 1, "the tables' code");
        for reference in ["http://", "https://", "src=\"", "url("] {
            assert!(!html.contains(reference), "{reference}");
        }
    }

    #[test]
    fn a_tuning_that_was_stopped_has_a_page_too() {
        let whole = document("rice");
        let stopped = TuneDocument {
            state: TuneState::Interrupted,
            ended_by: Some("it was stopped".to_owned()),
            candidates: Vec::new(),
            races: None,
            winner: None,
            test: None,
            answer: None,
            flips: Vec::new(),
            prompt_diff: BTreeMap::new(),
            ..whole
        };
        let html = tune_page(&stopped).unwrap().html;
        assert!(html.contains("it was stopped") && html.contains("No race has ended"));
    }
}
