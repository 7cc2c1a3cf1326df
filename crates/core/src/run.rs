//! A run: everything that a worker must know to grade, and nothing that is secret.
//!
//! Owns the run's spec and its id. The spec holds hashes; the bytes are blobs of the store. Keys
//! and passwords never enter it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    canary::Canary,
    category::Category,
    ids::{BlobHash, FieldHasher, RunId},
    rubric::Rubric,
    verdict::{Usage, Via},
    vote::{Juror, Voting},
};

/// The base URL that stands for the simulated judge inside the same process.
pub const BUILTIN_SIM_URL: &str = "builtin:sim";

/// An input file: what the user called it, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The path as given; for people, no part of any key.
    pub name: String,
    /// Hash of the bytes.
    pub hash: BlobHash,
}

/// How the judge's answer is asked for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ReplyForm {
    /// `response_format` with a JSON Schema.
    JsonSchema,
    /// `response_format` of type `json_object`.
    JsonObject,
    /// Prose that ends in a score section.
    Text,
}

/// How files are chosen where a category's evidence exceeds its budget.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SelectionMethod {
    /// The judge names files for each leaf, in a call of its own.
    Judge,
    /// The judge names files for the leaves of a parent together, in one call.
    JudgeShared,
    /// By BM25 of the criterion, without a call.
    Lexical,
    /// By BM25 of the criteria of a parent's leaves together, without a call.
    LexicalShared,
}

/// The judge: which model behind which endpoint, asked how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeSpec {
    /// The judge's name in the config.
    pub name: String,
    /// The endpoint with its `/v1`, or [`BUILTIN_SIM_URL`].
    pub base_url: String,
    /// The model's name as the endpoint knows it.
    pub model: String,
    /// How the answer is asked for.
    pub reply_form: ReplyForm,
    /// Forms to ask for instead where the endpoint refuses that one, in order of preference.
    #[serde(default)]
    pub fallback_forms: Vec<ReplyForm>,
    /// The cap on completion tokens that is sent.
    pub max_output_tokens: u32,
    /// Which field carries that cap: `max_completion_tokens` or `max_tokens`.
    pub output_cap_field: String,
    /// Sampling temperature; not sent when `None`.
    pub temperature: Option<f64>,
    /// Reasoning effort; not sent when `None`.
    pub reasoning_effort: Option<String>,
    /// Further fields of the request body, as they are.
    #[serde(default)]
    pub extra_body: BTreeMap<String, serde_json::Value>,
}

/// What of the rubric is graded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GradeOptions {
    /// Only Code Development leaves.
    pub code_only: bool,
    /// Leaves of Dataset and Model Acquisition weigh 0.
    pub resources_provided: bool,
    /// Nodes at this depth (the root being 1) are graded as one, over all below them.
    #[serde(default)]
    pub max_depth: Option<u32>,
}

/// Everything that a worker must know to grade a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Format of this document.
    pub schema: String,
    /// The version of Tribunal that made it.
    pub tribunal: String,
    /// The rubric's file.
    pub rubric: Input,
    /// The paper, as Markdown or text.
    pub paper: Option<Input>,
    /// The authors' clarifications, shown to the judge.
    pub addendum: Option<Input>,
    /// Hints for the judge alone.
    pub judge_addendum: Option<Input>,
    /// The submission's snapshot: a blob that lists its files and their hashes.
    pub submission: Input,
    /// For each category that has leaves, the blob with its evidence.
    pub evidence: BTreeMap<Category, BlobHash>,
    /// For each category whose evidence exceeds its budget, how files are chosen. The evidence says
    /// so too, with the budget; this is for readers who do not open it.
    #[serde(default)]
    pub selection: BTreeMap<Category, SelectionMethod>,
    /// What of the rubric is graded.
    pub options: GradeOptions,
    /// The judge.
    pub judge: JudgeSpec,
    /// How often it is asked about each leaf.
    #[serde(default = "once")]
    pub samples: u32,
    /// Judges beside it, each of which votes on the leaves too.
    #[serde(default)]
    pub jurors: Vec<Juror>,
    /// What the votes on a leaf come to.
    #[serde(default)]
    pub voting: Voting,
    /// The prompt set's name and the blob with its files.
    pub prompt_set: Input,
    /// How many of the nodes before a leaf are shown with it; all when `None`.
    pub max_prior_nodes: Option<u32>,
    /// Whether a verdict with quotes that do not exist is sent back once.
    #[serde(default)]
    pub require_evidence: bool,
    /// Leaves with known answers that are asked about too, and count in no score.
    #[serde(default)]
    pub canaries: Vec<Canary>,
    /// 0, or how often the same inputs were started anew (`--fresh`).
    pub generation: u32,
    /// What it was expected to take when it was begun; no part of any key.
    #[serde(default)]
    pub planned: Option<Planned>,
}

/// One sample, where a spec does not say.
fn once() -> u32 {
    1
}

/// What a run was expected to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Calls, each answered at the first try.
    pub calls: u64,
    /// Their tokens.
    pub usage: Usage,
    /// What leaves would have taken whose verdicts were to be taken over from earlier runs.
    #[serde(default)]
    pub reused: Usage,
    /// How the questions were to reach the judge.
    #[serde(default)]
    pub via: Via,
    /// What the calls were expected to cost, in US dollars, where several judges have prices of their
    /// own; `None` where one price says it all, or none is known.
    #[serde(default)]
    pub cost_usd: Option<f64>,
}

/// What workers may do with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Its tasks may be claimed.
    Active,
    /// Nothing of it is claimed until it is resumed.
    Paused,
    /// What was not finished stays ungraded.
    Cancelled,
}

// === impl RunSpec ===

impl RunSpec {
    /// The current format of the spec.
    pub const SCHEMA: &'static str = "tribunal.run/1";

    /// The blobs that it names, each once.
    pub fn blobs(&self) -> BTreeSet<BlobHash> {
        let RunSpec { rubric, paper, addendum, judge_addendum, submission, prompt_set, .. } = self;
        let texts = [paper, addendum, judge_addendum].into_iter().flatten();
        let inputs = [rubric, submission, prompt_set].into_iter().chain(texts);
        let evidence = self.jurors.iter().map(|juror| &juror.evidence).chain([&self.evidence]);
        let evidence = evidence.flat_map(|of| of.values().copied());
        inputs.map(|input| input.hash).chain(evidence).collect()
    }

    /// The hash of the run's inputs, generation excluded: names are for people and excluded too.
    pub fn inputs_hash(&self) -> BlobHash {
        let mut hasher = FieldHasher::new(Self::SCHEMA);
        hasher.field("rubric", self.rubric.hash.as_bytes());
        for (name, input) in [
            ("paper", &self.paper),
            ("addendum", &self.addendum),
            ("judge_addendum", &self.judge_addendum),
        ] {
            if let Some(input) = input {
                hasher.field(name, input.hash.as_bytes());
            }
        }
        for (category, evidence) in &self.evidence {
            hasher.field(category.name(), evidence.as_bytes());
        }
        hasher.field("code_only", &[u8::from(self.options.code_only)]);
        hasher.field("resources", &[u8::from(self.options.resources_provided)]);
        hasher.field("max_depth", format!("{:?}", self.options.max_depth).as_bytes());
        hasher.field("require_evidence", &[u8::from(self.require_evidence)]);
        for canary in &self.canaries {
            hasher.field("canary", canary.category.name().as_bytes());
            hasher.field("requirements", canary.requirements.as_bytes());
        }
        hasher.field("judge", &self.judge.identity());
        hasher.field("prompt_set", self.prompt_set.hash.as_bytes());
        hasher.field("prior", format!("{:?}", self.max_prior_nodes).as_bytes());
        // A run of one vote a leaf has the id that it had before there were votes.
        if !self.ballot().is_single() {
            hasher.field("samples", &self.samples.to_le_bytes());
            for juror in &self.jurors {
                hasher.field("juror", &juror.judge.identity());
                hasher.field("samples", &juror.samples.to_le_bytes());
                for (category, evidence) in &juror.evidence {
                    hasher.field(category.name(), evidence.as_bytes());
                }
            }
            hasher.field("voting", &serde_json::to_vec(&self.voting).unwrap_or_default());
        }
        hasher.finish()
    }

    /// The run's id: the hash of its inputs and generation.
    pub fn id(&self) -> RunId {
        let mut hasher = FieldHasher::new("tribunal.run-id/1");
        hasher.field("inputs", self.inputs_hash().as_bytes());
        hasher.field("generation", &self.generation.to_le_bytes());
        RunId::from_hash(hasher.finish())
    }
}

// === impl GradeOptions ===

impl GradeOptions {
    /// The part of the rubric that is graded; `None` if that is nothing.
    pub fn apply(&self, rubric: Rubric) -> Option<Rubric> {
        let rubric = if self.code_only { rubric.only(Category::CodeDevelopment)? } else { rubric };
        let rubric = if self.resources_provided { rubric.resources_provided() } else { rubric };
        Some(match self.max_depth {
            Some(depth) => rubric.cut(depth),
            None => rubric,
        })
    }

    /// What is graded without the cut at a greatest depth; `None` where there is no cut.
    pub fn uncut(&self, rubric: &Rubric) -> Option<Rubric> {
        let whole = GradeOptions { max_depth: None, ..*self };
        self.max_depth.and_then(|_| whole.apply(rubric.clone()))
    }
}

// === impl JudgeSpec ===

impl JudgeSpec {
    /// Bytes that differ whenever the judge's answers may: endpoint, model and parameters.
    ///
    /// The endpoint counts, so that a verdict of a simulated judge, or of another build of a
    /// model with the same name, is never taken for this one's. The config's name does not.
    pub fn identity(&self) -> Vec<u8> {
        let anonymous = JudgeSpec { name: String::new(), ..self.clone() };
        serde_json::to_vec(&anonymous).unwrap_or_default()
    }

    /// Whether this is the simulated judge inside the same process.
    pub fn is_builtin_sim(&self) -> bool {
        self.base_url == BUILTIN_SIM_URL
    }
}

// === impl SelectionMethod ===

impl SelectionMethod {
    /// Every method.
    pub const ALL: [SelectionMethod; 4] = [
        SelectionMethod::Judge,
        SelectionMethod::JudgeShared,
        SelectionMethod::Lexical,
        SelectionMethod::LexicalShared,
    ];

    /// The name in the config.
    pub fn name(self) -> &'static str {
        match self {
            SelectionMethod::Judge => "judge",
            SelectionMethod::JudgeShared => "judge-shared",
            SelectionMethod::Lexical => "lexical",
            SelectionMethod::LexicalShared => "lexical-shared",
        }
    }

    /// Whether the leaves of a parent are shown the same files.
    pub fn is_shared(self) -> bool {
        matches!(self, SelectionMethod::JudgeShared | SelectionMethod::LexicalShared)
    }

    /// Whether the judge is asked for files.
    pub fn asks_judge(self) -> bool {
        matches!(self, SelectionMethod::Judge | SelectionMethod::JudgeShared)
    }
}

impl fmt::Display for SelectionMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl ReplyForm ===

impl ReplyForm {
    /// The name in the config.
    pub fn name(self) -> &'static str {
        match self {
            ReplyForm::JsonSchema => "json_schema",
            ReplyForm::JsonObject => "json_object",
            ReplyForm::Text => "text",
        }
    }
}

// === impl RunState ===

impl RunState {
    /// The name in the store.
    pub const fn name(self) -> &'static str {
        match self {
            RunState::Active => "active",
            RunState::Paused => "paused",
            RunState::Cancelled => "cancelled",
        }
    }

    /// The state with exactly this name, or `None`.
    pub fn from_name(name: &str) -> Option<RunState> {
        [RunState::Active, RunState::Paused, RunState::Cancelled]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
