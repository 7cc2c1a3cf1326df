//! `audit.json`: what an audit found, as scripts read it.
//!
//! Owns the document's shape. A field is never renamed without a new schema number; what is
//! undefined is null.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    metric::{agreement::Measure, interval::Interval},
    votes::Sending,
};

/// The document of `audit`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AuditDocument {
    /// The judge that is audited.
    pub judge: JudgeHeader,
    /// The judge that it is compared with; null with one judge.
    pub other_judge: Option<JudgeHeader>,
    /// Submissions that have grades of the judge and of humans.
    pub pairs: usize,
    /// Leaves that a human graded.
    pub leaves: usize,
    /// Papers that these leaves are of.
    pub papers: usize,
    /// Share of these leaves that have a valid verdict; null without leaves.
    pub coverage: Option<f64>,
    /// Leaves on which as many humans passed as failed; they count nowhere.
    pub tied_labels: usize,
    /// Leaves with a fractional grade; they count in the score error alone.
    pub fractional: usize,
    /// All leaves.
    pub overall: ByPolicy,
    /// Leaves by requirement type.
    pub by_category: BTreeMap<String, ByPolicy>,
    /// Leaves by paper, pooled within it.
    pub by_paper: BTreeMap<String, ByPolicy>,
    /// Leaves by what made the graded work, where that is known.
    pub by_system: BTreeMap<String, ByPolicy>,
    /// The mean over papers of each measure; counts are summed. Missing verdicts are dropped.
    pub paper_mean: Measures,
    /// The paper that has more than half of the leaves; null where none has.
    pub dominant_paper: Option<Dominant>,
    /// For each submission, how far the judge's score is from the humans': of its root and of
    /// each child of the root.
    pub root_bias: Vec<RootBias>,
    /// Scores corrected for the judge's error.
    pub corrected: CorrectedScores,
    /// What graders without judgement reach on the same leaves: `always_pass`, `always_fail`,
    /// `random` (a fair coin; its expected counts, rounded).
    pub baselines: BTreeMap<String, Measures>,
    /// Tests of the two judges; empty with one.
    pub tests: Vec<TestResult>,
    /// The comparison of two judges; null with one.
    pub comparison: Option<Comparison>,
    /// Whether the judge may stand in for a human; null unless two humans graded 30 leaves.
    pub alternative_annotator: Option<AlternativeAnnotator>,
    /// Agreement of the judge with itself; null without repeated samples.
    pub reliability: Option<ReliabilityReport>,
    /// Which of the judge's verdicts could stand without a second judge; null without repeated
    /// samples.
    pub escalation: Option<Sending>,
    /// Whether the judge's confidence means what it says; null where it states none.
    pub calibration: Option<ConfidenceReport>,
    /// What these labels, and more of them, can show.
    pub plan: Plan,
    /// What the judge cost, in US dollars; null where nobody knows.
    pub cost_usd: Option<f64>,
    /// Leaves on which the judge and the humans differ, those that move a score most first.
    pub disagreements: Vec<Disagreement>,
    /// What was left out or assumed.
    pub notes: Vec<String>,
}

/// Who judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JudgeHeader {
    /// What the user or the config calls it.
    pub name: String,
    /// The model, where it is known.
    pub model: Option<String>,
    /// Hash of endpoint, model and parameters, where the run is known.
    pub judge_hash: Option<String>,
    /// Hash of the prompt set, where the run is known.
    pub prompt_hash: Option<String>,
    /// Hashes of the rubrics, where the runs are known.
    pub rubric_hashes: Vec<String>,
    /// Ids of the runs, where they are known.
    pub runs: Vec<String>,
    /// Whether a simulated judge answered.
    pub simulated: bool,
}

/// Measures under both policies for missing verdicts.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ByPolicy {
    /// Leaves without a valid verdict are left out, as JudgeEval does.
    pub dropped: Measures,
    /// Leaves without a valid verdict count as failed by the judge.
    pub counted_as_fail: Measures,
}

/// The measures of a confusion matrix; positive is "passed". Null is undefined.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Measures {
    /// Passed by both.
    pub tp: u64,
    /// Passed by the human alone.
    #[serde(rename = "fn")]
    pub fn_: u64,
    /// Passed by the judge alone.
    pub fp: u64,
    /// Failed by both.
    pub tn: u64,
    /// Share of leaves on which both agree.
    pub accuracy: Option<f64>,
    /// Precision, averaged over the classes that occur.
    pub precision: Option<f64>,
    /// Recall, averaged over the classes that occur.
    pub recall: Option<f64>,
    /// F1, averaged over the classes that occur.
    pub f1: Option<f64>,
    /// Leaves that the human passed.
    pub num_positives: u64,
    /// Leaves that the human failed.
    pub num_negatives: u64,
    /// Leaves.
    pub num_samples: u64,
    /// Share of the human's passes that the judge passes.
    pub sensitivity: Option<f64>,
    /// Share of the human's fails that the judge fails.
    pub specificity: Option<f64>,
    /// Mean of sensitivity and specificity.
    pub balanced_accuracy: Option<f64>,
    /// Cohen's kappa.
    pub kappa: Option<f64>,
    /// The phi coefficient.
    pub phi: Option<f64>,
    /// Gwet's AC1.
    pub ac1: Option<f64>,
    /// 95% intervals by measure, at the leaf and at the paper.
    pub intervals: BTreeMap<String, Vec<NamedInterval>>,
}

/// An interval, and how it was made.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NamedInterval {
    /// What is taken to be independent.
    pub level: IntervalLevel,
    /// The method.
    pub method: &'static str,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What an interval takes to be independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntervalLevel {
    /// Leaves.
    Leaf,
    /// Papers.
    Paper,
}

/// A paper that decides the pooled figures.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Dominant {
    /// The paper.
    pub paper: String,
    /// Its share of the leaves.
    pub share: f64,
}

/// How far the judge's score of a node is from the humans': judge minus human.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RootBias {
    /// The submission.
    pub submission: String,
    /// `root`, or the id of a child of the root.
    pub node: String,
    /// The node's share of the root.
    pub share: f64,
    /// Σ wᵢ(judge − human) over the node's leaves; null where a verdict or label is missing.
    pub bias: Option<f64>,
    /// The bias if every missing verdict were 0.
    pub lower: f64,
    /// The bias if every missing verdict were 1.
    pub upper: f64,
    /// Lower end of the 95% interval: leaves err independently at their category's rates.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
    /// The judge's score; null where a verdict is missing.
    pub judge: Option<f64>,
    /// The humans' score over the labelled leaves.
    pub human: f64,
}

/// Scores corrected for the judge's error.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CorrectedScores {
    /// Rogan–Gladen, with each category's own rates.
    pub rogan_gladen: CorrectedScore,
    /// Prediction-powered inference from a random sample of labels.
    pub ppi: CorrectedScore,
}

/// A corrected score, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CorrectedScore {
    /// The mean over submissions.
    Estimate(CorrectedEstimate),
    /// There is none.
    Refused {
        /// Which assumption failed.
        refused: String,
    },
}

/// A corrected score.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CorrectedEstimate {
    /// The mean corrected root score.
    pub estimate: f64,
    /// Lower end of its 95% interval.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
    /// The mean of the judge's own root scores.
    pub raw: f64,
    /// What must hold.
    pub assumptions: Vec<String>,
    /// Each submission.
    pub by_submission: Vec<SubmissionEstimate>,
}

/// The corrected score of a submission.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SubmissionEstimate {
    /// The submission.
    pub submission: String,
    /// Its corrected root score.
    pub estimate: f64,
    /// Lower end of its 95% interval.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
    /// The judge's own root score.
    pub raw: f64,
}

/// A test of two judges on the same leaves.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TestResult {
    /// `mcnemar_exact` or `sign_flip_papers`.
    pub name: &'static str,
    /// `overall`, a category, or `papers`.
    pub scope: String,
    /// The p value.
    pub p: f64,
    /// Adjusted over the categories by Holm's method; null for other scopes.
    pub p_holm: Option<f64>,
    /// Leaves, or papers, where only the first judge is right.
    pub first_better: u64,
    /// Leaves, or papers, where only the second judge is right.
    pub second_better: u64,
    /// What may be said.
    pub reading: String,
}

/// Two judges on the same leaves.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Comparison {
    /// Leaves that a human and both judges graded.
    pub leaves: usize,
    /// The first judge there.
    pub first: Measures,
    /// The second judge there.
    pub second: Measures,
    /// What each cost, where it is known, and its F1.
    pub cost: Vec<CostPoint>,
    /// Leaves on which the judges differ.
    pub flips: Vec<Flip>,
}

/// A judge's cost against its F1.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CostPoint {
    /// The judge.
    pub judge: String,
    /// US dollars; null where nobody knows.
    pub cost_usd: Option<f64>,
    /// Macro F1.
    pub f1: Option<f64>,
}

/// A leaf on which two judges differ.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Flip {
    /// The submission.
    pub submission: String,
    /// 0-based leaf index.
    pub index: u32,
    /// The leaf's id.
    pub id: String,
    /// Its share of the root.
    pub weight: f64,
    /// The human's grade.
    pub human: f64,
    /// The first judge's.
    pub first: f64,
    /// The second judge's.
    pub second: f64,
}

/// The alternative annotator test (arXiv 2501.10970).
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AlternativeAnnotator {
    /// Humans.
    pub humans: usize,
    /// Leaves that all of them and the judge graded.
    pub leaves: usize,
    /// The advantage that a human must have to be kept.
    pub epsilon: f64,
    /// One p value a human.
    pub p: Vec<f64>,
    /// Share of humans that the judge beats.
    pub winning_rate: f64,
    /// The chance that the judge is at least as good as a human on a leaf.
    pub advantage: f64,
    /// Whether at least half of the humans are beaten.
    pub passes: bool,
}

/// How far a judge agrees with itself.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ReliabilityReport {
    /// Leaves with at least two valid verdicts.
    pub leaves: usize,
    /// The most samples that a leaf has.
    pub samples: usize,
    /// Share of votes that differ from their leaf's majority.
    pub flip_rate: f64,
    /// Fleiss' kappa; null where every vote is the same.
    pub fleiss_kappa: Option<f64>,
    /// Krippendorff's alpha; null where every vote is the same.
    pub krippendorff_alpha: Option<f64>,
    /// The chance that two votes on one leaf agree.
    pub pairwise_agreement: f64,
    /// Share of leaves with one mind.
    pub unanimous: f64,
    /// Each submission's root over its samples.
    pub roots: Vec<RootSpread>,
}

/// A root score over repeated samples.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RootSpread {
    /// The submission.
    pub submission: String,
    /// The root score of each sample; a missing verdict counts as 0.
    pub roots: Vec<f64>,
    /// Their variance; null with one.
    pub variance: Option<f64>,
    /// Samples whose mean has a standard error of at most 0.01; null with one.
    pub samples_for_one_point: Option<u64>,
}

/// Whether a judge's confidence means what it says.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ConfidenceReport {
    /// Where the confidence is from: `stated` by the judge, or `votes` of its samples.
    pub source: &'static str,
    /// Leaves with a label and a confidence.
    pub leaves: usize,
    /// Expected calibration error: by level for votes, over ten bins for stated confidence.
    pub ece: Option<f64>,
    /// The Brier score of "the verdict is right".
    pub brier: Option<f64>,
    /// The chance that a right verdict was given more confidence than a wrong one.
    pub auroc: Option<f64>,
}

/// What labels can show.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Plan {
    /// Labelled leaves with a verdict.
    pub labels: usize,
    /// How much more variance the accuracy has by paper than by leaf; null with one paper.
    pub design_effect: Option<f64>,
    /// The smallest difference between two judges that these leaves detect with power 80%, if the
    /// judges differ on a tenth of them; taking leaves to be independent.
    pub smallest_effect: Option<f64>,
    /// The same with the design effect.
    pub smallest_effect_clustered: Option<f64>,
    /// What the accuracy's interval would be with more labels.
    pub more_labels: Vec<MoreLabels>,
    /// Labels for an accuracy known to ± 0.02, leaves being independent.
    pub labels_for_two_points: Option<u64>,
}

/// What more labels buy.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct MoreLabels {
    /// Labels besides those at hand.
    pub labels: u64,
    /// Half of the accuracy's 95% interval then.
    pub half_width: f64,
    /// The smallest detectable difference then.
    pub smallest_effect: Option<f64>,
}

/// A leaf on which the judge and the humans differ.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Disagreement {
    /// 0-based leaf index in the unpruned rubric, or the row of a table.
    pub index: u32,
    /// The leaf's id.
    pub id: String,
    /// Its share of the root.
    pub weight: f64,
    /// The humans' grade.
    pub human: f64,
    /// The judge's grade.
    pub judge: f64,
    /// The submission.
    pub submission: String,
    /// The paper.
    pub paper: String,
    /// The requirement type.
    pub category: String,
    /// The criterion.
    pub requirements: String,
    /// What the humans say.
    pub human_explanation: String,
    /// What the judge says.
    pub judge_explanation: String,
    /// The judge's confidence, stated or from votes.
    pub confidence: Option<f64>,
    /// Why the label rather than the judge may be wrong; empty where nothing says so.
    pub label_may_be_wrong: Vec<&'static str>,
}

// === impl Measures ===

impl Measures {
    /// The measure's value.
    pub fn value(&self, measure: Measure) -> Option<f64> {
        match measure {
            Measure::Accuracy => self.accuracy,
            Measure::Precision => self.precision,
            Measure::Recall => self.recall,
            Measure::F1 => self.f1,
            Measure::Sensitivity => self.sensitivity,
            Measure::Specificity => self.specificity,
            Measure::BalancedAccuracy => self.balanced_accuracy,
            Measure::Kappa => self.kappa,
            Measure::Phi => self.phi,
            Measure::Ac1 => self.ac1,
        }
    }
}

// === impl NamedInterval ===

impl NamedInterval {
    /// The interval with its name.
    pub fn new(level: IntervalLevel, method: &'static str, interval: Interval) -> NamedInterval {
        NamedInterval { level, method, low: interval.low, high: interval.high }
    }
}
