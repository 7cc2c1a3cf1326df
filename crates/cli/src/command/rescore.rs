//! `tribunal rescore`: the scores of a graded tree, computed anew.
//!
//! Owns the arguments, where fine categories come from, and the output. The arithmetic is the
//! core's.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Deserialize;
use tribunal_collector::{ScoreSummary, TextStyle, graded_part, score_table};
use tribunal_core::{Category, Node, Rubric, run::GradeOptions};

use crate::{command::rubric, document::RescoreDocument, exit::Exit, output};

/// Arguments of `tribunal rescore`.
#[derive(Debug, Args)]
pub(crate) struct RescoreArgs {
    /// A graded tree: PaperBench's, such as grader_output.json, or a scored_tree.json
    #[arg(value_name = "GRADED.json")]
    file: PathBuf,
    /// Count Code Development leaves only
    #[arg(long)]
    code_only: bool,
    /// Leaves of Dataset and Model Acquisition weigh 0
    #[arg(long)]
    resources_provided: bool,
    /// The rubric that says which leaves these are, where the graded tree does not
    #[arg(long, value_name = "FILE", requires = "resources_provided")]
    rubric: Option<PathBuf>,
    /// Grade every leaf 0
    #[arg(long)]
    disqualify: bool,
}

/// What a graded tree's file says beside the tree, where Tribunal has written it.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    simulated: bool,
}

/// Runs `tribunal rescore`.
///
/// # Errors
///
/// A file cannot be read or is not valid, the tree has no grades, fine categories are needed and
/// nowhere to be found, or nothing is left to be scored.
pub(crate) fn run(args: RescoreArgs, json: bool) -> anyhow::Result<Exit> {
    let name = args.file.display();
    let bytes = rubric::bytes(&args.file)?;
    let mut tree = Rubric::parse(&name.to_string(), &bytes)?;
    let Head { simulated } = serde_json::from_slice(&bytes)?;
    ensure!(
        tree.is_graded(),
        "{name}: no node has a score; rescore takes a graded tree, such as the grader_output.json \
         of `tribunal grade`"
    );
    if args.resources_provided {
        tree = with_fine_categories(tree, &args)?;
    }
    let options = GradeOptions {
        code_only: args.code_only,
        resources_provided: args.resources_provided,
        max_depth: None,
    };
    let pruned = graded_part(tree, options).with_context(|| format!("cannot score {name}"))?;
    let summary = ScoreSummary::new(&pruned, Node::valid_score, args.disqualify);
    let coverage = summary.root.coverage;
    if json {
        output::print_json("rescore", &RescoreDocument { simulated, summary })?;
    } else {
        output::print_text(&score_table(&summary, &pruned, simulated, TextStyle::of_stdout()))?;
    }
    Ok(if coverage < 1.0 { Exit::Incomplete } else { Exit::Complete })
}

/// The tree with the fine categories that its leaves lack taken from `--rubric`.
fn with_fine_categories(tree: Rubric, args: &RescoreArgs) -> anyhow::Result<Rubric> {
    let lacking = tree.leaves().filter(|(_, leaf)| leaf.fine_category.is_none()).count();
    if lacking == 0 {
        return Ok(tree);
    }
    let name = args.file.display();
    let Some(path) = &args.rubric else {
        bail!(
            "{name}: {lacking} leaves have no finegrained_task_category, which says what \
             --resources-provided leaves out; name the rubric with --rubric"
        );
    };
    let source = rubric::read(path)?;
    let filled = tree.with_fine_categories_of(&source);
    filled
        .or_else(|reason| {
            // A tree graded code-only has only those nodes of the rubric.
            let code = source.only(Category::CodeDevelopment);
            code.and_then(|code| tree.with_fine_categories_of(&code).ok()).ok_or(reason)
        })
        .map_err(|reason| {
            let rubric = path.display();
            anyhow::anyhow!("{name} was not graded with the rubric {rubric}: {reason}")
        })
}
