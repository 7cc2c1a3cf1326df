//! Runs made by hand.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tribunal_collector::{CollectOptions, Collected, collect, graded_part};
use tribunal_core::{
    Attempt, BlobHash, CallKind, Category, ContentKey, FailureClass, JudgeSpec, LeafTask, Outcome,
    ReplyForm, Rubric, RunId, RunSpec, UngradedReason, Usage, Verdict, VerdictSource, Voting,
    WorkerId,
    run::{GradeOptions, Input},
    verdict::{Quote, Rationale},
};
use tribunal_store::{
    Claim, CompleteOutcome, Completion, FailOutcome, Failure, ManualClock, ModelStore, NewRun,
    Store,
};

/// What the judge makes of a leaf.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Score(f64),
    Rule(f64),
    Refused,
    Dead,
    Open,
}

pub(crate) struct Run {
    pub(crate) store: ModelStore,
    pub(crate) clock: ManualClock,
    pub(crate) id: RunId,
}

pub(crate) fn leaf(id: &str, weight: f64, category: Category) -> Value {
    json!({"id": id, "requirements": format!("criterion {id}"), "weight": weight,
           "sub_tasks": [], "task_category": category.name()})
}

pub(crate) fn group(id: &str, weight: f64, children: Vec<Value>) -> Value {
    json!({"id": id, "requirements": format!("group {id}"), "weight": weight,
           "sub_tasks": children})
}

/// root(1: left(1: a dev 3, b run 1), right(3: c dev 1, d result 1), e dev 0). Leaf indices are
/// a 0, b 1, c 2, d 3, e 4; positions 2, 3, 5, 6, 7.
pub(crate) fn example() -> Value {
    use Category::{CodeDevelopment, CodeExecution, ResultAnalysis};
    let a = leaf("a", 3.0, CodeDevelopment);
    let b = leaf("b", 1.0, CodeExecution);
    let mut c = leaf("c", 1.0, CodeDevelopment);
    c["finegrained_task_category"] = json!("Dataset and Model Acquisition");
    let d = leaf("d", 1.0, ResultAnalysis);
    let e = leaf("e", 0.0, CodeDevelopment);
    let (left, right) = (group("left", 1.0, vec![a, b]), group("right", 3.0, vec![c, d]));
    group("root", 1.0, vec![left, right, e])
}

/// a met, b refused, c unmet by rule, d given up, e not yet asked.
pub(crate) fn mixed(id: &str) -> Answer {
    match id {
        "a" => Answer::Score(1.0),
        "b" => Answer::Refused,
        "c" => Answer::Rule(0.0),
        "d" => Answer::Dead,
        _ => Answer::Open,
    }
}

fn spec(rubric: BlobHash, options: GradeOptions) -> RunSpec {
    let input = |name: &str| Input { name: name.to_owned(), hash: BlobHash::of(name.as_bytes()) };
    RunSpec {
        schema: RunSpec::SCHEMA.to_owned(),
        tribunal: "0.1.0".to_owned(),
        rubric: Input { name: "rubric.json".to_owned(), hash: rubric },
        paper: None,
        addendum: None,
        judge_addendum: None,
        submission: input("submission"),
        evidence: BTreeMap::new(),
        selection: BTreeMap::new(),
        options,
        judge: JudgeSpec {
            name: "test judge".to_owned(),
            base_url: "http://127.0.0.1:1/v1".to_owned(),
            model: "model-1".to_owned(),
            reply_form: ReplyForm::JsonSchema,
            fallback_forms: Vec::new(),
            max_output_tokens: 100,
            output_cap_field: "max_tokens".to_owned(),
            temperature: None,
            reasoning_effort: None,
            extra_body: BTreeMap::new(),
        },
        samples: 1,
        jurors: Vec::new(),
        voting: Voting::Majority,
        prompt_set: input("prompts"),
        max_prior_nodes: None,
        require_evidence: false,
        canaries: Vec::new(),
        generation: 0,
        planned: None,
    }
}

pub(crate) async fn start(rubric: &Value, options: GradeOptions, simulated: bool) -> Run {
    let clock = ManualClock::at(1_000_000);
    let store = ModelStore::new(Arc::new(clock.clone()));
    let bytes = rubric.to_string().into_bytes();
    let rubric = Rubric::parse("rubric.json", &bytes).expect("valid");
    let rubric = graded_part(rubric, options).expect("something is graded");
    let hashes = store.put_blobs(vec![bytes]).await.expect("stored");
    let spec = spec(hashes[0], options);
    let text = serde_json::to_vec(&spec).expect("JSON");
    let hashes = store.put_blobs(vec![text]).await.expect("stored");
    let id = spec.id();
    let run = NewRun {
        id: id.clone(),
        inputs: spec.inputs_hash(),
        generation: 0,
        spec: hashes[0],
        judge: spec.judge.name,
        model: spec.judge.model,
        simulated,
        reuse: true,
    };
    store.create_run(run).await.expect("created");
    let tasks = rubric.leaves().map(|(_, node)| LeafTask {
        position: node.position(),
        sample: 0,
        id: node.id.clone(),
        category: node.category.expect("a leaf"),
        content_key: ContentKey::from_bytes([0; 32]),
        order: node.position(),
        estimated_tokens: 100,
        rule: None,
    });
    store.enqueue(&id, tasks.collect()).await.expect("enqueued");
    Run { store, clock, id }
}

fn attempt(class: Option<FailureClass>) -> Attempt {
    Attempt {
        kind: CallKind::Judge,
        via: Default::default(),
        class,
        status: Some(200),
        error: String::new(),
        request_id: None,
        started_ms: 0,
        waited_ms: 0,
        latency_ms: 5,
        usage: Usage { input: 1000, cached: 600, output: 50 },
        endpoint: String::new(),
        cost_usd: None,
        possible: None,
    }
}

fn verdict(task: &LeafTask, outcome: Outcome, source: VerdictSource) -> Verdict {
    Verdict {
        position: task.position,
        sample: task.sample,
        id: task.id.clone(),
        outcome,
        rationale: Rationale {
            expectations: format!("expected of {}", task.id),
            reality: "found \"this\",\nand that".to_owned(),
            evidence: vec![Quote {
                file: "src/main.py".to_owned(),
                lines: "1-2".to_owned(),
                quote: "=1+1".to_owned(),
                verified: None,
            }],
            explanation: format!("=because({})", task.id),
            confidence: Some(0.75),
        },
        content_key: task.content_key,
        model: match &source {
            VerdictSource::Judge => "model-1-0613".to_owned(),
            _ => String::new(),
        },
        simulated: false,
        reply: matches!(source, VerdictSource::Judge).then(|| "{}".to_owned()),
        source,
        shown: Default::default(),
        suspected_injection: Vec::new(),
        graded_ms: 0,
    }
}

impl Run {
    /// Claims every task and answers it; open ones go back to the queue.
    pub(crate) async fn answer(&self, decide: impl Fn(&str) -> Answer) {
        let (worker, ttl) = (WorkerId::from_bytes([7; 16]), Duration::from_secs(60));
        let claims = self.store.claim(worker, 1000, ttl, Some(&self.id)).await.expect("claimed");
        self.clock.advance(2_500);
        for claim in claims {
            let judge = |outcome| (outcome, VerdictSource::Judge, vec![attempt(None)]);
            let rule = VerdictSource::Rule { name: "no_results".to_owned() };
            let reason = UngradedReason::Refused;
            let (outcome, source, attempts) = match decide(&claim.task.id) {
                Answer::Score(score) => judge(Outcome::Graded { score }),
                Answer::Refused => judge(Outcome::Ungraded { reason }),
                Answer::Rule(score) => (Outcome::Graded { score }, rule, Vec::new()),
                Answer::Dead => {
                    self.give_up(claim).await;
                    continue;
                }
                Answer::Open => {
                    let position = claim.task.position;
                    let lease = (self.id.clone(), position, claim.task.sample, claim.lease, vec![]);
                    self.store.release(vec![lease]).await.expect("released");
                    continue;
                }
            };
            let completion = Completion {
                run: self.id.clone(),
                lease: claim.lease,
                verdict: Arc::new(verdict(&claim.task, outcome, source)),
                attempts: attempts.into(),
            };
            let stored = self.store.complete(vec![completion]).await.expect("stored");
            assert_eq!(stored, [CompleteOutcome::Stored]);
        }
    }

    async fn give_up(&self, claim: Claim) {
        let failure = Failure {
            run: self.id.clone(),
            lease: claim.lease,
            position: claim.task.position,
            sample: claim.task.sample,
            class: FailureClass::BadRequest,
            retry_in: None,
            charged: 1,
            error: "400: no".to_owned(),
            attempts: vec![attempt(Some(FailureClass::BadRequest))],
        };
        let failed = self.store.fail(vec![failure]).await.expect("recorded");
        assert_eq!(failed, [FailOutcome::Recorded]);
    }

    pub(crate) async fn collect(&self) -> Collected {
        self.collect_with(&CollectOptions::default()).await
    }

    pub(crate) async fn collect_with(&self, options: &CollectOptions) -> Collected {
        collect(&self.store, &self.id, options).await.expect("collected")
    }
}

/// The example, answered as [`mixed`] does.
pub(crate) async fn mixed_run(simulated: bool) -> Run {
    let run = start(&example(), GradeOptions::default(), simulated).await;
    run.answer(mixed).await;
    run
}
