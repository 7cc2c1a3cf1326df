//! A thousand seeded tunings, where the best candidate is known: what is announced holds, equals are
//! rarely told apart, a candidate that only fits the development leaves is found out, and halving asks
//! half of what it would take without.

use rand::{Rng as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use tribunal_tune::{
    Answer, Entry, Label, Labels, Rules, Split, Step, Table, Tuning,
    final_test::Finding,
    power::{self, Power, Rates},
    race::{BASELINE, Raced, race},
    sample::order,
    tuning::Races,
};

const TUNINGS: u64 = 1_000;
/// Where two designs are compared on the same answers.
const FEWER: u64 = 500;
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
    /// Questions of races and test.
    asked: usize,
}

fn tune(tuning: &Tuning<'_>, better: &dyn Fn(usize, usize) -> f64) -> Ended {
    let mut judges = Judges { labels: tuning.labels, seed: tuning.seed, better, asked: 0 };
    let mut table = Table::new(tuning.labels.leaves.len());
    let races = judges.ask(&mut table, |table| tuning.races(table));
    let raced = judges.asked;
    let known = |races: &Races| tuning.asked(races);
    let most = tuning.planned();
    assert!(raced <= most.raced, "{raced} questions, {most:?}");
    if !races.any_winner() {
        assert_eq!(known(&races), raced);
        return Ended { winner: None, finding: None, asked: raced };
    }
    let test = judges.ask(&mut table, |table| tuning.test(&races, table));
    let tested = judges.asked - raced;
    assert_eq!(known(&races), judges.asked);
    assert!(tested <= most.tested, "{tested} questions, {most:?}");
    Ended { winner: races.winner(), finding: Some(test.finding), asked: judges.asked }
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

/// One candidate is better than the others, which are as good as the baseline.
fn one_better(_: u64, candidate: usize) -> f64 {
    if candidate == BEST { EFFECT } else { 0.0 }
}

/// Candidates unlike each other, some of them worse than the baseline.
fn unlike(seed: u64, candidate: usize) -> f64 {
    if candidate == BASELINE {
        return 0.0;
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ ((candidate as u64) << 32));
    let uniform =
        |random: &mut Xoshiro256PlusPlus| (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let normal: f64 = (0..12).map(|_| uniform(&mut random)).sum::<f64>() - 6.0;
    0.04 * normal
}

/// How often the better candidate is found and for how many questions, and what is announced.
fn found_and_announced(effect: f64) -> (f64, f64, Power) {
    let (labels, rules) = (labels(), rules());
    let better = |_: &Split, candidate: usize, _: usize| {
        if candidate == BEST { effect } else { 0.0 }
    };
    let ended = tunings(TUNINGS, &rules, &better);
    let found = share(&ended, is_found);
    let entries = vec![Entry::default(); CANDIDATES];
    let split = Split::of(&labels, false, 0).expect("papers enough");
    let tuning =
        Tuning { labels: &labels, split: &split, entries: &entries, rules: &rules, seed: 77 };
    let rates = Rates { sensitivity: RATE, specificity: RATE, ..Rates::assumed() };
    let discordant = 2.0 * CHURN * RATE * (1.0 - RATE);
    let announced = power::announce(&tuning, effect, &rates, discordant, TUNINGS as usize);
    let questions: usize = ended.iter().map(|one| one.asked).sum();
    let asked = questions as f64 / ended.len() as f64;
    (found, asked, announced)
}

/// What was announced has come about.
fn hold(found: f64, asked: f64, announced: &Power) {
    assert!((found - announced.power).abs() <= 0.05, "found {found}, {announced:?}");
    assert!((asked / announced.questions - 1.0).abs() < 0.1, "{asked} questions, {announced:?}");
}

#[test]
fn eight_points_are_found_as_often_as_announced() {
    let (found, asked, announced) = found_and_announced(EFFECT);
    println!("found {found} for {asked} questions, {announced:?}");
    hold(found, asked, &announced);
}

#[test]
fn and_so_is_what_is_found_about_every_other_time() {
    let (found, asked, announced) = found_and_announced(0.04);
    println!("found {found} for {asked} questions, {announced:?}");
    assert!((0.3..0.8).contains(&announced.power), "at {announced:?} anything would agree");
    hold(found, asked, &announced);
}

/// Which candidate a race over the first leaves of the pool's order names.
fn winner(
    judges: &mut Judges<'_>,
    tuning: &Tuning<'_>,
    leaves: usize,
    rules: &Rules,
) -> Option<usize> {
    let pool = tuning.labels.of_papers(&tuning.split.folds()[0].dev);
    let pool = &order(tuning.labels, &pool, tuning.seed)[..leaves];
    let racers: Vec<usize> = (BASELINE + 1..CANDIDATES).collect();
    let mut table = Table::new(tuning.labels.leaves.len());
    let raced: Raced = judges.ask(&mut table, |table| {
        race(tuning.labels, pool, &racers, tuning.entries, table, rules, tuning.seed)
    });
    raced.winner
}

/// How often the best candidate wins the race, by halving and by asking everybody about as many leaves
/// as twice the calls of halving pay for.
fn halving_against_twice_the_calls(better: &dyn Fn(u64, usize) -> f64) -> (f64, f64, f64) {
    let labels = labels();
    let entries = vec![Entry::default(); CANDIDATES];
    let halving = rules();
    let everybody = Rules { fewest_leaves: usize::MAX, ..halving };
    let all = |seed: u64, rules: &Rules, leaves: usize| {
        let split = Split::of(&labels, false, seed).expect("papers enough");
        let tuning = Tuning { labels: &labels, split: &split, entries: &entries, rules, seed };
        let own = |candidate: usize, _: usize| better(seed, candidate);
        let mut judges = Judges { labels: &labels, seed, better: &own, asked: 0 };
        let pool = labels.of_papers(&split.folds()[0].dev).len();
        let winner = winner(&mut judges, &tuning, leaves.min(pool), rules);
        let best = (0..CANDIDATES).max_by(|a, b| better(seed, *a).total_cmp(&better(seed, *b)));
        (winner == best.filter(|best| *best != BASELINE), judges.asked)
    };
    let sum = |rules: &Rules, leaves: usize| {
        (0..FEWER)
            .map(|seed| all(seed, rules, leaves))
            .fold((0, 0), |(won, asked), (is_best, calls)| {
                (won + usize::from(is_best), asked + calls)
            })
    };
    let (won, asked) = sum(&halving, usize::MAX);
    let leaves = 2 * asked / (FEWER as usize * CANDIDATES);
    let (won_by_all, asked_by_all) = sum(&everybody, leaves);
    assert!(asked_by_all <= 2 * asked, "{asked_by_all} against {asked}");
    let tunings = FEWER as f64;
    (won as f64 / tunings, won_by_all as f64 / tunings, asked as f64 / tunings)
}

#[test]
fn for_twice_the_calls_a_full_factorial_finds_it_no_more_often() {
    type Better = fn(u64, usize) -> f64;
    for (name, better) in [("one better", one_better as Better), ("unlike", unlike)] {
        let (halving, all, calls) = halving_against_twice_the_calls(&better);
        println!("{name}: halving {halving} for {calls} calls, everybody {all} for twice as many");
        assert!(halving >= all - 0.01, "{name}: halving {halving}, everybody {all}");
        assert!(all < 1.0, "{name}: with less they would find it too");
    }
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
    let most = tuning.planned();
    assert!(judges.asked <= most.raced + most.tested, "{} of {most:?}", judges.asked);
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
    let most = tuning.planned().usd.expect("costs are known");
    let asked = |candidate: usize| {
        (0..labels.leaves.len()).filter(|leaf| table.get(candidate, *leaf).is_some()).count()
    };
    let usd: f64 = (0..4).map(|at| asked(at) as f64 * entries[at].cost.expect("a cost")).sum();
    assert!(usd > 0.0 && usd <= most, "${usd} of ${most}");
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
fn races_that_leave_papers_out_share_what_they_ask() {
    let mut labels = labels();
    labels.leaves.retain(|leaf| leaf.paper < 3);
    labels.papers.truncate(3);
    labels.submissions.truncate(3);
    let split = Split::of(&labels, true, 5).expect("three papers");
    let (entries, rules) = (vec![Entry::default(); CANDIDATES], rules());
    let papers: Vec<usize> = (0..3).collect();
    let (mut together, mut apart, mut most) = (0, 0, 0);
    for seed in 0..20 {
        let tuning =
            Tuning { labels: &labels, split: &split, entries: &entries, rules: &rules, seed };
        let better = |candidate: usize, _: usize| one_better(seed, candidate);
        let mut judges = Judges { labels: &labels, seed, better: &better, asked: 0 };
        let mut table = Table::new(labels.leaves.len());
        let races = judges.ask(&mut table, |table| tuning.races(table));
        if races.any_winner() {
            judges.ask(&mut table, |table| tuning.test(&races, table));
        }
        assert_eq!(judges.asked, tuning.asked(&races));
        together += judges.asked;
        let planned = tuning.planned();
        let planned = planned.raced + planned.tested;
        assert!(judges.asked <= planned, "{} of {planned}", judges.asked);
        most += planned;
        // One race over all papers, and the baseline about what it left: less cannot be known.
        let racers: Vec<usize> = (BASELINE + 1..CANDIDATES).collect();
        let mut alone = Judges { labels: &labels, seed, better: &better, asked: 0 };
        let mut table = Table::new(labels.leaves.len());
        let pool = labels.of_papers(&papers);
        alone.ask(&mut table, |table| race(&labels, &pool, &racers, &entries, table, &rules, seed));
        apart += alone.asked;
    }
    println!("{together} questions, {most} planned at most; one race over all papers asks {apart}");
    assert!(together < 2 * apart, "{together}, one race over all papers {apart}");
}
