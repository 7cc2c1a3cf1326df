//! Batches: many trees graded as one.
//!
//! Owns what a batch is made of: the rows of a manifest, checked as a whole before the first call,
//! each a run of its own in the one store. A batch's id is a hash of its rows and runs, so that the
//! same command goes on with the same batch. How runs are graded is the worker's; what is told is
//! `document`'s.

pub(crate) mod document;
pub(crate) mod purse;

use anyhow::Context as _;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use tribunal_collector::results::{Labels, Standing};
use tribunal_core::{Rubric, RunId, ids::FieldHasher, run::GradeOptions};
use tribunal_store::Store;

use crate::{
    args::{InputArgs, OptionArgs, ShareArgs},
    budget::BudgetArgs,
    config::{Config, judge::ResolvedJudge},
    panel::Panel,
    prepare,
    trees::{
        manifest::{Manifest, Missing, Row},
        refuse, rubric,
    },
};

/// A checked row.
pub(crate) struct Job {
    /// Where the manifest has it.
    pub(crate) at: String,
    /// What it is of.
    pub(crate) labels: Labels,
    /// What is to be done about it.
    pub(crate) work: Work,
}

/// What is to be done about a row.
pub(crate) enum Work {
    /// Its submission is judged.
    Judge(Box<InputArgs>),
    /// Every leaf of this part of the rubric counts as 0.
    Zero(Box<Rubric>, Standing),
    /// It is left out, for this reason.
    Exclude(String),
}

/// A run of a batch, recorded and enqueued.
#[derive(Clone, Debug)]
pub(crate) struct BegunRun {
    /// Its id.
    pub(crate) run: RunId,
    /// Leaves that were not in the queue before.
    pub(crate) new_tasks: u64,
}

/// Reads a manifest and checks every row of it.
///
/// # Errors
///
/// The manifest cannot be read, or rows are bad: all of them at once.
pub(crate) fn jobs(path: &std::path::Path, options: &OptionArgs) -> anyhow::Result<Vec<Job>> {
    let Manifest { rows, mut problems } = Manifest::read(path)?;
    let mut jobs = Vec::with_capacity(rows.len());
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for row in rows {
        let labels = row.labels.to_string();
        if let Some(other) = seen.insert(labels.clone(), row.at.clone()) {
            problems.push(format!(
                "{}: {labels}: the row at {other} is of the same; give them different seeds",
                row.at
            ));
        }
        match job(&row, options) {
            Ok(work) => jobs.push(Job { at: row.at, labels: row.labels, work }),
            Err(problem) => problems.push(format!("{}: {problem:#}", row.at)),
        }
    }
    refuse(&problems)?;
    Ok(jobs)
}

fn job(row: &Row, options: &OptionArgs) -> anyhow::Result<Work> {
    let is_there = |path: &Option<PathBuf>, noun: &str| match path {
        Some(path) if !path.is_file() => {
            Err(anyhow::anyhow!("the {noun} {} is not there", path.display()))
        }
        _ => Ok(()),
    };
    let Some(submission) = &row.submission else {
        anyhow::bail!("`graded` is for `tribunal table`; a batch judges a `submission`");
    };
    let Some(path) = &row.rubric else {
        anyhow::bail!("no `rubric`, and no `papers` where {}/rubric.json stands", row.labels.paper);
    };
    let grade = GradeOptions {
        code_only: row.code_only || options.code_only,
        resources_provided: row.resources_provided || options.resources_provided,
        max_depth: options.max_depth,
    };
    let rubric = grade.apply(rubric(path)?);
    let Some(rubric) = rubric else {
        anyhow::bail!(
            "{} has no Code Development leaf, so code_only leaves nothing",
            path.display()
        );
    };
    is_there(&row.paper, "paper")?;
    is_there(&row.addendum, "addendum")?;
    is_there(&row.judge_addendum, "judge addendum")?;
    if row.disqualified {
        return Ok(Work::Zero(Box::new(rubric), Standing::Disqualified));
    }
    if !submission.exists() {
        let name = submission.display();
        return match row.missing {
            Some(Missing::Zero) => Ok(Work::Zero(Box::new(rubric), Standing::Missing)),
            Some(Missing::Exclude) => Ok(Work::Exclude(format!("no submission at {name}"))),
            None => anyhow::bail!(
                "the submission {name} is not there; say what that counts as with missing = \"zero\" \
                 or \"exclude\""
            ),
        };
    }
    Ok(Work::Judge(Box::new(InputArgs {
        rubric: path.clone(),
        submission: submission.clone(),
        paper: row.paper.clone(),
        addendum: row.addendum.clone(),
        judge_addendum: row.judge_addendum.clone(),
        options: OptionArgs {
            code_only: grade.code_only,
            resources_provided: grade.resources_provided,
            ..options.clone()
        },
    })))
}

/// Prepares every row's run and, when all of them can be, records and enqueues them; `None` for
/// rows without one.
///
/// # Errors
///
/// Submissions that cannot be read, all of them at once, before any run is recorded; or the store
/// failed.
pub(crate) async fn begin(
    jobs: &[Job],
    config: &Config,
    judge: &ResolvedJudge,
    budget: &BudgetArgs,
    share: &ShareArgs,
    store: &Arc<dyn Store>,
) -> anyhow::Result<Vec<Option<BegunRun>>> {
    let panel = Panel::of(judge.clone());
    let (mut drafts, mut problems) = (Vec::with_capacity(jobs.len()), Vec::new());
    for job in jobs {
        let Work::Judge(inputs) = &job.work else {
            drafts.push(None);
            continue;
        };
        match prepare::draft(inputs, config, &panel, store).await {
            Ok(draft) => drafts.push(Some((draft, inputs.options.fresh))),
            Err(error) => problems.push(format!("{}: {error:#}", job.at)),
        }
    }
    refuse(&problems)?;
    let mut begun: Vec<Option<BegunRun>> = Vec::with_capacity(jobs.len());
    // Rows with the same inputs are one run, also where all runs start anew.
    let mut known: BTreeMap<RunId, RunId> = BTreeMap::new();
    for (job, draft) in jobs.iter().zip(drafts) {
        let Some((draft, fresh)) = draft else {
            begun.push(None);
            continue;
        };
        let inputs = draft.spec.id();
        let run = match known.get(&inputs) {
            Some(run) => BegunRun { run: run.clone(), new_tasks: 0 },
            None => {
                let run = prepare::begin(draft, &panel, budget, share, fresh, store).await;
                let run = run.with_context(|| job.at.clone())?;
                let run = BegunRun { run: run.record.run.id, new_tasks: run.new_tasks };
                known.insert(inputs, run.run.clone());
                run
            }
        };
        begun.push(Some(run));
    }
    Ok(begun)
}

/// The batch's id: the hash of its rows' labels, runs and standings.
pub(crate) fn id(jobs: &[Job], runs: &[Option<BegunRun>]) -> RunId {
    let mut hasher = FieldHasher::new("tribunal.batch/1");
    for (job, run) in jobs.iter().zip(runs) {
        hasher.field("labels", job.labels.to_string().as_bytes());
        let work = match (&job.work, run) {
            (_, Some(run)) => run.run.to_string(),
            (Work::Zero(_, Standing::Disqualified), None) => "disqualified".to_owned(),
            (Work::Zero(..), None) => "missing".to_owned(),
            (_, None) => "excluded".to_owned(),
        };
        hasher.field("work", work.as_bytes());
    }
    RunId::from_hash(hasher.finish())
}

/// The folder of a row's files below its batch's: its number, and what can be said of it in
/// letters that every file system takes.
pub(crate) fn folder(number: usize, labels: &Labels) -> String {
    let safe = |text: &str| -> String {
        let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        text.chars().take(40).map(keep).collect()
    };
    let hours = labels.elapsed_hours.map_or_else(String::new, |hours| format!("-{hours}h"));
    let seed = match labels.seed.as_str() {
        "" => String::new(),
        seed => format!("-seed{}", safe(seed)),
    };
    format!("{:04}-{}-{}{seed}{hours}", number + 1, safe(&labels.paper), safe(&labels.agent))
}
