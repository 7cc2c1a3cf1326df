//! Known truth: how often the intervals of an audit cover what they are to cover, and what the
//! corrections do to a root score.
//!
//! Real human labels stay as they are; a judge with known rates by category is drawn around them
//! 4,000 times: `cargo bench -p tribunal-audit --bench known_truth`. Prints a Markdown table, and the time of a large bootstrap. The labels are no part
//! of the project: `TRIBUNAL_DATA` names their folder. Fails when a promise is broken.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use tribunal_audit::metric::{
    LEVEL,
    agreement::{Confusion, Measure},
    corrected::rogan_gladen::{Stratum, stratified},
    dist::binomial_pmf,
    interval::{
        bootstrap::{Drawn, percentile, resample},
        cluster::{ClusterSum, clustered},
        jackknife::jackknife,
        wilson::wilson,
    },
    label::{Sampled, inclusion, ipw_score},
};
use tribunal_core::{Category, Rubric};

const DRAWS: u64 = 4000;
const PAPERS: [&str; 3] = ["all-in-one", "stay-on-topic-with-classifier-free-guidance", "pinn"];
/// Papers that the trees are cut into for the paper level: three are too few to be of use.
const CLUSTERS: usize = 12;
const LABELS: f64 = 60.0;

/// A judge's sensitivity and specificity (o3-mini's of JudgeEval).
fn rates(category: Category) -> (f64, f64) {
    match category {
        Category::CodeDevelopment => (0.863, 0.588),
        Category::CodeExecution => (0.861, 0.810),
        Category::ResultAnalysis | Category::Subtree => (0.941, 0.967),
    }
}

struct Leaf {
    paper: usize,
    cluster: usize,
    category: Category,
    weight: f64,
    human: bool,
}

/// How often an interval covered the truth.
#[derive(Default)]
struct Cover {
    covered: u64,
    draws: u64,
}

struct Random(Xoshiro256PlusPlus);

/// A line of the table: what, how often it is to cover, how often it did.
struct Line {
    what: String,
    expected: f64,
    within: (f64, f64),
    found: f64,
}

// === impl Random ===

impl Random {
    fn chance(&mut self, p: f64) -> bool {
        ((self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64) < p
    }
}

// === impl Cover ===

impl Cover {
    fn add(&mut self, covers: Option<bool>) {
        if let Some(covers) = covers {
            self.draws += 1;
            self.covered += u64::from(covers);
        }
    }

    fn share(&self) -> f64 {
        self.covered as f64 / self.draws.max(1) as f64
    }
}

fn main() -> ExitCode {
    // `cargo test --all-targets` starts benchmarks too, unoptimised: there is nothing to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let fast = bootstrap_time();
    let Some(leaves) = leaves() else {
        println!("skipped: no human labels (TRIBUNAL_DATA names the folder)");
        return ExitCode::SUCCESS;
    };
    let mut lines = wilson_lines();
    lines.extend(drawn_lines(&leaves));
    println!("| what | nominal | covered |\n| --- | --- | --- |");
    let mut kept = fast;
    for Line { what, expected, within, found } in &lines {
        let broken = if *found < within.0 || *found > within.1 { " (broken)" } else { "" };
        kept &= broken.is_empty();
        println!("| {what} | {:.1}% | {:.1}%{broken} |", expected * 100.0, found * 100.0);
    }
    kept &= roots(&leaves);
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn leaves() -> Option<Vec<Leaf>> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("TRIBUNAL_DATA").map_or(default, PathBuf::from);
    let mut leaves = Vec::new();
    for (paper, name) in PAPERS.into_iter().enumerate() {
        let path = data.join(format!("paperbench/judge_eval/{name}/expected_result.json"));
        let tree = Rubric::parse(name, &fs::read(path).ok()?).ok()?;
        let shares = tree.weight_shares();
        let first = leaves.len();
        for (node, leaf) in tree.leaves() {
            leaves.push(Leaf {
                paper,
                cluster: (leaves.len() - first) / 24 % CLUSTERS,
                category: leaf.category?,
                weight: shares[node],
                human: leaf.valid_score()? > 0.5,
            });
        }
    }
    Some(leaves)
}

/// Wilson at several sizes, against its exact coverage by the binomial.
fn wilson_lines() -> Vec<Line> {
    let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(1));
    let mut lines = Vec::new();
    for (n, p) in [(10, 0.9), (30, 0.85), (100, 0.5), (100, 0.83), (300, 0.83), (1000, 0.9)] {
        let covers = |hits: u64| wilson(hits, n, LEVEL).is_some_and(|found| found.contains(p));
        let exact: f64 = (0..=n).filter(|k| covers(*k)).filter_map(|k| binomial_pmf(k, n, p)).sum();
        let mut cover = Cover::default();
        for _ in 0..DRAWS {
            let hits = (0..n).filter(|_| random.chance(p)).count() as u64;
            cover.add(Some(covers(hits)));
        }
        let expected = if n >= 100 { LEVEL } else { exact };
        lines.push(Line {
            what: format!("Wilson, n = {n}, p = {p} (exact {:.1}%)", exact * 100.0),
            expected,
            within: (expected - 0.015, expected + 0.015),
            found: cover.share(),
        });
    }
    lines
}

fn probability(leaf: &Leaf) -> f64 {
    let (sensitivity, specificity) = rates(leaf.category);
    if leaf.human { sensitivity } else { 1.0 - specificity }
}

/// The measure that the judge has in expectation.
fn truth(leaves: &[&Leaf], measure: Measure) -> f64 {
    let scale = 1e6;
    let mut sums = [0.0; 4];
    for leaf in leaves {
        let p = probability(leaf);
        let at = if leaf.human { 0 } else { 2 };
        sums[at] += p;
        sums[at + 1] += 1.0 - p;
    }
    let [tp, fn_, fp, tn] = sums.map(|sum| (sum * scale).round() as u64);
    measure.of(&Confusion { tp, fn_, fp, tn }).unwrap_or(0.0)
}

fn drawn_lines(leaves: &[Leaf]) -> Vec<Line> {
    let few: Vec<&Leaf> = leaves.iter().filter(|leaf| leaf.paper < 2).collect();
    let truths = Measure::ALL.map(|measure| (measure, truth(&few, measure)));
    let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(2));
    let mut covers: BTreeMap<(&str, Measure), Cover> = BTreeMap::new();
    for draw in 0..DRAWS {
        let mut counts = Confusion::default();
        let mut clusters = vec![Confusion::default(); CLUSTERS];
        let mut drawn = Vec::with_capacity(few.len());
        for leaf in &few {
            let judge = random.chance(probability(leaf));
            counts.add(leaf.human, judge);
            clusters[leaf.cluster].add(leaf.human, judge);
            drawn.push(Drawn::new(leaf.human, judge, 0.0));
        }
        clusters.retain(|cluster| cluster.samples() > 0);
        let resampled = (draw % 4 == 0).then(|| resample(&drawn, 1000, draw));
        for (measure, truth) in truths {
            let mut add = |method, found: Option<bool>| {
                covers.entry((method, measure)).or_default().add(found);
            };
            if let Some((hits, total)) = share(measure, &counts) {
                add("Wilson", wilson(hits, total, LEVEL).map(|i| i.contains(truth)));
                let sums: Vec<ClusterSum> = clusters
                    .iter()
                    .filter_map(|cluster| share(measure, cluster))
                    .map(|(hits, total)| ClusterSum { hits: hits as f64, total: total as f64 })
                    .collect();
                add("clustered", clustered(&sums).map(|c| c.interval(LEVEL).contains(truth)));
                // As an audit does: a share has its clustered error, the rest the jackknife's.
                continue;
            }
            if let Some(resampled) = &resampled {
                let values = resampled.counts.iter().map(|counts| measure.of(counts));
                add("bootstrap", percentile(values, LEVEL).map(|i| i.contains(truth)));
            }
            let found = jackknife(clusters.len(), |keep| {
                let kept = clusters.iter().enumerate().filter(|(at, _)| keep(*at));
                measure.of(&kept.map(|(_, counts)| *counts).sum())
            });
            add("jackknife", found.map(|found| found.interval(LEVEL).contains(truth)));
        }
    }
    let line = |((method, measure), cover): ((&str, Measure), Cover)| Line {
        what: format!("{method}, {}, {} leaves", measure.name(), few.len()),
        expected: LEVEL,
        within: (0.935, 1.0),
        found: cover.share(),
    };
    covers.into_iter().map(line).collect()
}

fn share(measure: Measure, counts: &Confusion) -> Option<(u64, u64)> {
    match measure {
        Measure::Accuracy => Some((counts.tp + counts.tn, counts.samples())),
        Measure::Sensitivity => Some((counts.tp, counts.positives())),
        Measure::Specificity => Some((counts.tn, counts.negatives())),
        _ => None,
    }
}

/// Raw, Rogan–Gladen and active-label roots of each paper, the judge calibrated on other verdicts about
/// the labelled leaves of all three.
fn roots(leaves: &[Leaf]) -> bool {
    println!(
        "\n| paper | human root | raw, predicted | raw, mean | Rogan-Gladen, mean (covered) | \
         {LABELS} labels, mean (covered) |\n| --- | --- | --- | --- | --- | --- |"
    );
    let mut kept = true;
    for (paper, name) in PAPERS.into_iter().enumerate() {
        let own: Vec<&Leaf> = leaves.iter().filter(|leaf| leaf.paper == paper).collect();
        let human: f64 = own.iter().filter(|leaf| leaf.human).map(|leaf| leaf.weight).sum();
        let predicted: f64 = own.iter().map(|leaf| leaf.weight * probability(leaf)).sum();
        let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(3 + paper as u64));
        let (mut raw, mut corrected, mut labelled) = (0.0, 0.0, 0.0);
        let (mut covered, mut label_covered) = (Cover::default(), Cover::default());
        let weights: Vec<f64> = own.iter().map(|leaf| leaf.weight).collect();
        let doubts = vec![0.2; own.len()];
        let pi = inclusion(&weights, &doubts, LABELS);
        for _ in 0..DRAWS {
            let mut calibration: BTreeMap<Category, Confusion> = BTreeMap::new();
            for leaf in leaves {
                let judge = random.chance(probability(leaf));
                calibration.entry(leaf.category).or_default().add(leaf.human, judge);
            }
            let verdicts: Vec<bool> =
                own.iter().map(|leaf| random.chance(probability(leaf))).collect();
            raw +=
                own.iter().zip(&verdicts).filter(|(_, v)| **v).map(|(l, _)| l.weight).sum::<f64>();
            if let Ok(found) = stratified(&strata(&own, &verdicts, &calibration), LEVEL) {
                corrected += found.estimate;
                covered.add(Some(found.interval.contains(human)));
            }
            let items: Vec<Sampled> = own
                .iter()
                .zip(&verdicts)
                .zip(&pi)
                .map(|((leaf, verdict), pi)| Sampled {
                    weight: leaf.weight,
                    judge: f64::from(*verdict),
                    human: random.chance(*pi).then(|| f64::from(leaf.human)),
                    pi: *pi,
                })
                .collect();
            if let Some(found) = ipw_score(&items, LEVEL) {
                labelled += found.estimate;
                label_covered.add(Some(found.interval.contains(human)));
            }
        }
        let mean = |sum: f64, draws: u64| sum / draws.max(1) as f64;
        let [raw, corrected, labelled] =
            [mean(raw, DRAWS), mean(corrected, covered.draws), mean(labelled, label_covered.draws)];
        println!(
            "| {name} | {human:.4} | {predicted:.4} | {raw:.4} | {corrected:.4} ({:.1}%) | \
             {labelled:.4} ({:.1}%) |",
            covered.share() * 100.0,
            label_covered.share() * 100.0
        );
        kept &= (raw - predicted).abs() < 0.005 && (corrected - human).abs() < 0.01;
        kept &= (labelled - human).abs() < 0.005 && covered.share() >= 0.935;
        kept &= label_covered.share() >= 0.935;
    }
    kept
}

fn strata(
    leaves: &[&Leaf],
    verdicts: &[bool],
    calibration: &BTreeMap<Category, Confusion>,
) -> Vec<Stratum> {
    let mut sums: BTreeMap<Category, (f64, f64, f64)> = BTreeMap::new();
    for (leaf, verdict) in leaves.iter().zip(verdicts) {
        let (share, passed, squares) = sums.entry(leaf.category).or_default();
        *share += leaf.weight;
        *passed += leaf.weight * f64::from(*verdict);
        *squares += leaf.weight * leaf.weight;
    }
    let stratum = |(category, (share, passed, squares)): (Category, (f64, f64, f64))| {
        let counts = calibration.get(&category).copied().unwrap_or_default();
        Stratum {
            scope: category.to_string(),
            share,
            p: (passed / share).min(1.0),
            n: share * share / squares,
            q0: counts.specificity().unwrap_or(0.0),
            q1: counts.sensitivity().unwrap_or(0.0),
            m0: counts.negatives(),
            m1: counts.positives(),
        }
    };
    sums.into_iter().map(stratum).collect()
}

/// 100,000 leaves with 2,000 resamples.
fn bootstrap_time() -> bool {
    let leaves: Vec<Drawn> =
        (0..100_000_u32).map(|i| Drawn::new(i % 3 == 0, i % 5 == 0, f64::from(i % 7))).collect();
    let begun = Instant::now();
    let drawn = resample(&leaves, 2000, 1);
    let took = begun.elapsed();
    println!("bootstrap: 100,000 leaves, {} resamples in {took:.2?}\n", drawn.counts.len());
    took < Duration::from_secs(3)
}
