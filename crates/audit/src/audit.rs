//! The audit: from paired grades to the document.
//!
//! Owns what is computed of which leaves. Each part is a file; formulas are [`metric`]'s.
//!
//! [`metric`]: crate::metric

mod bias;
mod compare;
mod corrected;
mod disagree;
mod repeated;
mod scope;

use std::collections::BTreeMap;

use crate::{
    document::{AuditDocument, ByPolicy, Dominant, JudgeHeader, MoreLabels, Plan},
    metric::{
        interval::{cluster::ClusterSum, cluster::clustered},
        plan,
    },
    pair::{Consensus, Leaf, Paired},
    votes::VoteLevels,
};

use self::scope::{Grade, measures, paper_mean};

/// What the caller knows besides the grades.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditOptions {
    /// Who judged, in the order of [`Paired::judges`]; names alone where not given.
    pub judges: Vec<JudgeHeader>,
    /// What each judge cost, in US dollars.
    pub costs: Vec<Option<f64>>,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Resamples of the bootstrap.
    pub resamples: Resamples,
    /// Whether the user vouches that the labelled leaves are a random sample.
    pub labelled_at_random: bool,
    /// The share of right verdicts that is wanted of those that stand without a second judge.
    pub wanted_agreement: WantedAgreement,
}

/// A wanted share of right verdicts, in (0, 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WantedAgreement(pub f64);

impl Default for WantedAgreement {
    fn default() -> Self {
        WantedAgreement(0.9)
    }
}

/// A number of bootstrap resamples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resamples(pub usize);

impl Default for Resamples {
    fn default() -> Self {
        Resamples(2000)
    }
}

/// A share of discordant leaves that two judges of similar quality have.
const DISCORDANT: f64 = 0.1;

/// Audits the first judge against the humans, and against the second judge where there is one.
pub fn audit(paired: &Paired, options: &AuditOptions) -> AuditDocument {
    let grades = grades(paired, 0);
    let of = |keep: &dyn Fn(&Grade<'_>) -> bool| {
        let kept: Vec<&Grade<'_>> = grades.iter().filter(|grade| keep(grade)).collect();
        by_policy(&kept, options)
    };
    let grouped = |name: &dyn Fn(&Grade<'_>) -> Option<String>| -> BTreeMap<String, ByPolicy> {
        let mut names: Vec<String> = grades.iter().filter_map(name).collect();
        names.sort_unstable();
        names.dedup();
        let scope = |name_: String| {
            let found = of(&|grade| name(grade).as_ref() == Some(&name_));
            (name_, found)
        };
        names.into_iter().map(scope).collect()
    };
    let labelled: Vec<&Leaf> =
        paired.leaves.iter().filter(|leaf| leaf.human().score().is_some()).collect();
    let verdicts = labelled.iter().filter(|leaf| leaf.judge(0).score().is_some()).count();
    let coverage = (!labelled.is_empty()).then(|| verdicts as f64 / labelled.len() as f64);
    let fractional = labelled.iter().filter(|leaf| is_fractional(leaf)).count();
    let mut papers: Vec<&str> =
        labelled.iter().map(|leaf| paired.submission(leaf).paper.as_str()).collect();
    papers.sort_unstable();
    let dominant_paper = dominant(&papers);
    papers.dedup();
    let mut submissions: Vec<usize> = labelled.iter().map(|leaf| leaf.submission).collect();
    submissions.dedup();
    let overall = of(&|_| true);
    let compared = compare::compare(paired, options);
    let (tests, comparison) = compared.map_or((Vec::new(), None), |(tests, c)| (tests, Some(c)));
    let tied = |leaf: &&Leaf| leaf.human() == Consensus::Tied;
    AuditDocument {
        judge: header(paired, options, 0).unwrap_or_default(),
        other_judge: header(paired, options, 1),
        pairs: submissions.len(),
        leaves: labelled.len(),
        papers: papers.len(),
        coverage,
        tied_labels: paired.leaves.iter().filter(tied).count(),
        fractional,
        by_category: grouped(&|grade| {
            Some(grade.leaf.category.clone()).filter(|category| !category.is_empty())
        }),
        by_paper: grouped(&|grade| Some(grade.paper.to_owned())),
        by_system: grouped(&|grade| paired.submission(grade.leaf).system.clone()),
        paper_mean: paper_mean(&grades),
        dominant_paper,
        root_bias: bias::root_bias(paired),
        corrected: corrected::corrected(paired, options),
        baselines: scope::baselines(&grades),
        tests,
        comparison,
        alternative_annotator: compare::alternative_annotator(paired),
        reliability: repeated::reliability_report(paired),
        escalation: VoteLevels::of(paired).map(|votes| votes.sending(options.wanted_agreement.0)),
        calibration: repeated::confidence_report(paired),
        plan: plan(&grades),
        cost_usd: options.costs.first().copied().flatten(),
        disagreements: disagree::disagreements(paired),
        notes: notes(paired, &overall, dominant(&names_of(&grades)).as_ref(), papers.len()),
        overall,
    }
}

fn names_of<'g>(grades: &[Grade<'g>]) -> Vec<&'g str> {
    let mut names: Vec<&str> = grades.iter().map(|grade| grade.paper).collect();
    names.sort_unstable();
    names
}

/// Leaves with a binary label, and the judge's verdict on them where it is valid.
fn grades(paired: &Paired, judge: usize) -> Vec<Grade<'_>> {
    paired
        .leaves
        .iter()
        .filter(|leaf| !is_fractional(leaf))
        .filter_map(|leaf| {
            let human = leaf.human().pass()?;
            let paper = paired.submission(leaf).paper.as_str();
            Some(Grade { leaf, paper, human, judge: leaf.judge(judge).pass() })
        })
        .collect()
}

fn is_fractional(leaf: &Leaf) -> bool {
    let fraction =
        |consensus: Consensus| consensus.score().is_some_and(|score| score != 0.0 && score != 1.0);
    fraction(leaf.human()) || fraction(leaf.judge(0))
}

fn by_policy(grades: &[&Grade<'_>], options: &AuditOptions) -> ByPolicy {
    let graded: Vec<&Grade<'_>> =
        grades.iter().copied().filter(|grade| grade.judge.is_some()).collect();
    let dropped = measures(&graded, options);
    let counted_as_fail =
        if graded.len() == grades.len() { dropped.clone() } else { measures(grades, options) };
    ByPolicy { dropped, counted_as_fail }
}

fn header(paired: &Paired, options: &AuditOptions, judge: usize) -> Option<JudgeHeader> {
    let name = paired.judges.get(judge)?;
    let known = options.judges.get(judge).cloned();
    Some(known.unwrap_or_else(|| JudgeHeader { name: name.clone(), ..JudgeHeader::default() }))
}

/// The paper that more than half of these names, which are sorted, are.
fn dominant(papers: &[&str]) -> Option<Dominant> {
    let (paper, leaves) = papers
        .chunk_by(|a, b| a == b)
        .map(|same| (same[0], same.len()))
        .max_by_key(|(_, leaves)| *leaves)?;
    let share = leaves as f64 / papers.len() as f64;
    (share > 0.5 && leaves < papers.len()).then(|| Dominant { paper: paper.to_owned(), share })
}

fn notes(
    paired: &Paired,
    overall: &ByPolicy,
    dominant: Option<&Dominant>,
    papers: usize,
) -> Vec<String> {
    let mut notes = paired.notes.clone();
    if let Some(Dominant { paper, share }) = dominant {
        notes.push(format!(
            "{paper} has {:.0}% of the leaves and decides the pooled figures; see the mean over \
             papers",
            share * 100.0
        ));
    }
    if papers < crate::metric::paired::sign_flip::FEWEST_FOR_SIGNIFICANCE {
        let s = if papers == 1 { "" } else { "s" };
        notes.push(format!("{papers} paper{s}: paper-level intervals are indicative"));
    }
    if overall.dropped.num_samples == 0 {
        notes.push("no leaf has both a label and a verdict".to_owned());
    }
    notes
}

fn plan(grades: &[Grade<'_>]) -> Plan {
    let graded: Vec<&Grade<'_>> = grades.iter().filter(|grade| grade.judge.is_some()).collect();
    let labels = graded.len();
    let mut papers: BTreeMap<&str, ClusterSum> = BTreeMap::new();
    for grade in &graded {
        let sum = papers.entry(grade.paper).or_default();
        sum.total += 1.0;
        sum.hits += f64::from(grade.judge == Some(grade.human));
    }
    let right: f64 = papers.values().map(|sum| sum.hits).sum();
    let n = labels as f64;
    let accuracy = (labels > 0).then(|| right / n);
    let sums: Vec<ClusterSum> = papers.into_values().collect();
    let independent = accuracy.map(|share| share * (1.0 - share) / n).filter(|v| *v > 0.0);
    let design_effect = clustered(&sums)
        .zip(independent)
        .map(|(clustered, variance)| (clustered.se_cr1.powi(2) / variance).max(1.0));
    let more = |labels: u64| {
        let share = accuracy?;
        let total = n + labels as f64;
        let z = crate::metric::dist::normal_critical(crate::metric::LEVEL);
        Some(MoreLabels {
            labels,
            half_width: z * (share * (1.0 - share) / total).sqrt(),
            smallest_effect: plan::smallest_effect(DISCORDANT, 1.0, total),
        })
    };
    Plan {
        labels,
        design_effect,
        smallest_effect: plan::smallest_effect(DISCORDANT, 1.0, n),
        smallest_effect_clustered: design_effect
            .and_then(|deff| plan::smallest_effect(DISCORDANT, deff, n)),
        more_labels: [100, 300, 1000].into_iter().filter_map(more).collect(),
        labels_for_two_points: accuracy.and_then(|share| plan::labels_for(share, 0.02, 1.0)),
    }
}
