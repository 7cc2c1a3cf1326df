//! A thousand seeded tunings, where the best candidate is known: what is announced holds, equals are
//! rarely told apart, and a candidate that only fits the development leaves is found out.

use rand::{Rng as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use tribunal_tune::{
    Answer, Entry, Label, Labels, Rules, Split, Step, Table, Tuning,
    final_test::Finding,
    power::{self, Model},
    race::{BASELINE, questions, schedule},
};

const TUNINGS: u64 = 1_000;
const PAPERS: usize = 14;
const LEAVES_A_PAPER: usize = 90;
const CANDIDATES: usize = 9;
/// The candidate that is better, where one is.
const BEST: usize = 1;
const EFFECT: f64 = 0.08;
const CHURN: f64 = 0.3;
const RATE: f64 = 0.78;

fn labels() -> Labels {
    let categories = ["Code Development", "Code Execution", "Result Analysis"];
    let leaf = |at: usize| Label {
        submission: at / LEAVES_A_PAPER,
        paper: at / LEAVES_A_PAPER,
        category: categories[at % 3].to_owned(),
        human: at % 5 < 2,
        weight: (1 + at % 4) as f64 / (2.5 * LEAVES_A_PAPER as f64),
        name: format!("leaf {at}"),
        source: at,
    };
    let names: Vec<String> = (0..PAPERS).map(|paper| format!("paper-{paper:02}")).collect();
    Labels {
        papers: names.clone(),
        submissions: names,
        leaves: (0..PAPERS * LEAVES_A_PAPER).map(leaf).collect(),
    }
}

/// Judges whose leaves are unlike in difficulty, which the announcement knows nothing of.
struct Judges<'l> {
    labels: &'l Labels,
    seed: u64,
    /// What a candidate is better by on a leaf.
    better: &'l dyn Fn(usize, usize) -> f64,
    asked: usize,
}

// === impl Judges ===

impl Judges<'_> {
    fn uniform(&self, of: &str, candidate: usize, leaf: usize) -> f64 {
        let bytes = [self.seed, candidate as u64, leaf as u64].map(u64::to_le_bytes).concat();
        let sum = bytes.iter().chain(of.as_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let bits = Xoshiro256PlusPlus::seed_from_u64(sum).next_u64();
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn answer(&self, candidate: usize, leaf: usize) -> Answer {
        let hard = 0.3 * (self.uniform("hard", 0, leaf) - 0.5);
        let anew = candidate != BASELINE && self.uniform("anew", candidate, leaf) < CHURN;
        let drawn = self.uniform("draw", if anew { candidate } else { BASELINE }, leaf);
        let right = drawn < RATE + hard + (self.better)(candidate, leaf);
        if right == self.labels.leaves[leaf].human { Answer::Pass } else { Answer::Fail }
    }

    fn ask<T>(&mut self, table: &mut Table, step: impl Fn(&Table) -> Step<T>) -> T {
        loop {
            match step(table) {
                Step::Done(done) => return done,
                Step::Ask(wanted) => {
                    assert!(!wanted.is_empty(), "it asks for nothing");
                    for wanted in wanted {
                        assert!(table.get(wanted.candidate, wanted.leaf).is_none(), "asked twice");
                        self.asked += 1;
                        table.set(wanted, self.answer(wanted.candidate, wanted.leaf));
                    }
                }
            }
        }
    }
}

struct Ended {
    winner: Option<usize>,
    finding: Option<Finding>,
    /// Questions of the races alone.
    raced: usize,
}

fn tune(tuning: &Tuning<'_>, better: &dyn Fn(usize, usize) -> f64) -> Ended {
    let mut judges = Judges { labels: tuning.labels, seed: tuning.seed, better, asked: 0 };
    let mut table = Table::new(tuning.labels.leaves.len());
    let races = judges.ask(&mut table, |table| tuning.races(table));
    let raced = judges.asked;
    let (most_raced, most_tested) = tuning.planned();
    assert!(raced <= most_raced, "{raced} questions where {most_raced} were planned");
    if !races.any_winner() {
        return Ended { winner: None, finding: None, raced };
    }
    let test = judges.ask(&mut table, |table| tuning.test(&races, table));
    let tested = judges.asked - raced;
    assert!(tested <= most_tested, "{tested} questions where {most_tested} were planned");
    Ended { winner: races.winner(), finding: Some(test.finding), raced }
}

fn tunings(seeds: u64, rules: &Rules, better: &dyn Fn(&Split, usize, usize) -> f64) -> Vec<Ended> {
    let labels = labels();
    let entries = vec![Entry::default(); CANDIDATES];
    (0..seeds)
        .map(|seed| {
            let split = Split::of(&labels, false, seed).expect("papers enough");
            let tuning = Tuning { labels: &labels, split: &split, entries: &entries, rules, seed };
            tune(&tuning, &|candidate, leaf| better(&split, candidate, leaf))
        })
        .collect()
}

fn rules() -> Rules {
    Rules { resamples: 400, ..Rules::default() }
}

fn share(ended: &[Ended], of: impl Fn(&Ended) -> bool) -> f64 {
    ended.iter().filter(|one| of(one)).count() as f64 / ended.len() as f64
}

fn is_found(one: &Ended) -> bool {
    one.winner == Some(BEST) && one.finding == Some(Finding::Improved)
}

#[test]
fn the_better_candidate_is_found_as_often_as_announced_and_for_half_the_calls() {
    let (labels, rules) = (labels(), rules());
    let best = |_: &Split, candidate: usize, _: usize| {
        if candidate == BEST { EFFECT } else { 0.0 }
    };
    let ended = tunings(TUNINGS, &rules, &best);
    let found = share(&ended, is_found);

    let entries = vec![Entry::default(); CANDIDATES];
    let split = Split::of(&labels, false, 0).expect("papers enough");
    let tuning =
        Tuning { labels: &labels, split: &split, entries: &entries, rules: &rules, seed: 77 };
    let model = Model { sensitivity: RATE, specificity: RATE, churn: CHURN };
    let announced = power::announce(&tuning, EFFECT, &model, TUNINGS as usize).power;
    assert!((found - announced).abs() <= 0.05, "found {found}, announced {announced}");
    assert!((0.5..0.99).contains(&announced), "at {announced} anything would agree");

    // The same without halving: every candidate is asked about every leaf.
    let full = Rules { fewest_leaves: usize::MAX, ..rules };
    let all = tunings(TUNINGS / 4, &full, &best);
    let found_by_all = share(&all, is_found);
    assert!(found >= found_by_all - 0.05, "halving finds {found}, all finds {found_by_all}");
    let raced: usize = ended.iter().take(all.len()).map(|one| one.raced).sum();
    let raced_by_all: usize = all.iter().map(|one| one.raced).sum();
    assert!(2 * raced <= raced_by_all, "{raced} calls against {raced_by_all}");
    println!("found {found}, announced {announced}, without halving {found_by_all}");
    println!("calls {raced} of {raced_by_all}");
}

#[test]
fn equals_are_called_improved_in_at_most_65_of_1000() {
    let ended = tunings(TUNINGS, &rules(), &|_, _, _| 0.0);
    let improved = share(&ended, |one| one.finding == Some(Finding::Improved));
    println!("improved {improved}");
    assert!(improved <= 0.065, "{improved}");
    // The race is won by luck, and the test is made.
    assert!(share(&ended, |one| one.winner.is_some()) > 0.5);
}

#[test]
fn what_fits_the_development_leaves_alone_is_caught() {
    let fits = |split: &Split, candidate: usize, leaf: usize| {
        let dev = split.folds()[0].dev.contains(&(leaf / LEAVES_A_PAPER));
        if candidate == BEST && dev { 0.15 } else { 0.0 }
    };
    let ended = tunings(TUNINGS, &rules(), &fits);
    assert!(share(&ended, |one| one.winner == Some(BEST)) > 0.95, "it wins the race");
    let improved = share(&ended, |one| one.finding == Some(Finding::Improved));
    println!("improved {improved}");
    assert!(improved <= 0.065, "{improved}");
}

#[test]
fn with_few_papers_each_is_left_out_and_proposals_never_meet_what_they_were_made_from() {
    let mut labels = labels();
    labels.leaves.retain(|leaf| leaf.paper < 3);
    labels.papers.truncate(3);
    labels.submissions.truncate(3);
    let split = Split::of(&labels, true, 5).expect("three papers");
    assert_eq!(split, Split::LeaveOnePaperOut { papers: 3 });
    // The best candidate has seen two papers: it may be tested on the third alone.
    let mut entries = vec![Entry::default(); 4];
    entries[BEST].seen = vec![0, 1];
    let rules = rules();
    let tuning =
        Tuning { labels: &labels, split: &split, entries: &entries, rules: &rules, seed: 1 };
    let better = |candidate: usize, _: usize| match candidate {
        BASELINE => 0.0,
        BEST => 0.2,
        _ => -0.2,
    };
    let mut judges = Judges { labels: &labels, seed: 1, better: &better, asked: 0 };
    let mut table = Table::new(labels.leaves.len());
    let races = judges.ask(&mut table, |table| tuning.races(table));
    let winners: Vec<Option<usize>> = races.folds.iter().map(|raced| raced.winner).collect();
    assert_eq!(winners, [None, None, Some(BEST)]);
    assert_eq!(races.winner(), Some(BEST), "over all papers it is the best");
    let test = judges.ask(&mut table, |table| tuning.test(&races, table));
    assert!(test.flips.iter().all(|flip| labels.leaves[flip.leaf].paper == 2));
    let (raced, tested) = tuning.planned();
    assert!(judges.asked <= raced + tested, "{} of {raced} and {tested}", judges.asked);
    assert_eq!(test.papers, 3);
    assert!(test.reading.contains("these papers") || test.finding == Finding::NotShown);
    assert_eq!(Split::of(&Labels::default(), true, 0), None);
}

#[test]
fn a_limit_on_cost_or_specificity_drops_a_candidate() {
    let labels = labels();
    let split = Split::of(&labels, false, 3).expect("papers enough");
    let mut entries = vec![Entry { cost: Some(0.01), ..Entry::default() }; 4];
    entries[2].cost = Some(0.03);
    let rules = Rules { cost_ratio: Some(2.0), ..rules() };
    let tuning =
        Tuning { labels: &labels, split: &split, entries: &entries, rules: &rules, seed: 3 };
    // The first passes everything: its sensitivity pays with specificity.
    let better = |candidate: usize, leaf: usize| match candidate {
        1 if labels.leaves[leaf].human => 0.9,
        1 => -0.3,
        _ => 0.02 * candidate as f64,
    };
    let mut judges = Judges { labels: &labels, seed: 3, better: &better, asked: 0 };
    let mut table = Table::new(labels.leaves.len());
    let races = judges.ask(&mut table, |table| tuning.races(table));
    let raced = races.deciding().expect("a race");
    assert_eq!(raced.too_dear, [2]);
    assert!(labels.leaves.iter().enumerate().all(|(leaf, _)| table.get(2, leaf).is_none()));
    let refused = raced.rungs.iter().flat_map(|rung| &rung.scores).find(|of| of.refused.is_some());
    assert_eq!(refused.map(|of| of.candidate), Some(1), "{raced:?}");
    assert_eq!(races.winner(), Some(3));
    assert!(raced.pareto.contains(&1), "what was refused is still shown");
}

#[test]
fn a_seal_is_of_the_test_leaves_alone() {
    let labels = labels();
    let split = Split::of(&labels, false, 1).expect("papers enough");
    let seal = split.seal(&labels);
    assert_eq!(seal.len(), 64);
    let mut other = labels.clone();
    let dev = split.folds()[0].dev[0];
    other.leaves.iter_mut().filter(|leaf| leaf.paper == dev).for_each(|leaf| leaf.name.push('x'));
    assert_eq!(split.seal(&other), seal);
    let test = split.folds()[0].test[0];
    let leaf = other.leaves.iter_mut().find(|leaf| leaf.paper == test).expect("a leaf");
    leaf.name.push('x');
    assert_ne!(split.seal(&other), seal);
}

#[test]
fn the_schedule_says_what_is_asked() {
    let ended = tunings(3, &rules(), &|_, _, _| 0.0);
    let labels = labels();
    for (seed, one) in (0..).zip(&ended) {
        let split = Split::of(&labels, false, seed).expect("papers enough");
        let pool = labels.of_papers(&split.folds()[0].dev).len();
        let planned = questions(&schedule(CANDIDATES - 1, pool, rules().fewest_leaves));
        assert_eq!(one.raced, planned);
    }
}
