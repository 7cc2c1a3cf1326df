//! `tribunal rubric`: what is wrong with a rubric, and what it asks for.
//!
//! Owns the arguments, the output and the exit code. What is valid is the core's to say.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use tribunal_collector::{TextStyle, TreeLine, draw_tree, graded_part};
use tribunal_core::{
    Category, Rubric,
    rubric::lint::{Warning, lint},
    run::GradeOptions,
};

use crate::{
    document::{CheckedFile, RubricCheckDocument, RubricShowDocument},
    exit::Exit,
    output,
    progress::note,
};

/// Arguments of `tribunal rubric`.
#[derive(Debug, Args)]
pub(crate) struct RubricArgs {
    #[command(subcommand)]
    command: RubricCommand,
}

/// What of it.
#[derive(Debug, Subcommand)]
enum RubricCommand {
    /// Name everything that is wrong or odd in rubric files, by line; exit 1 when one is invalid
    Check(CheckArgs),
    /// Print a rubric's tree and counts
    Show(ShowArgs),
}

/// Arguments of `tribunal rubric check`.
#[derive(Debug, Args)]
struct CheckArgs {
    /// Rubrics or graded trees, in PaperBench's format
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Arguments of `tribunal rubric show`.
#[derive(Debug, Args)]
struct ShowArgs {
    /// A rubric or graded tree, in PaperBench's format
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Keep Code Development leaves only
    #[arg(long)]
    code_only: bool,
    /// Leaves of Dataset and Model Acquisition weigh 0
    #[arg(long)]
    resources_provided: bool,
    /// Cut below N levels, the root being level 1; what is cut becomes a leaf
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_depth: Option<u32>,
}

/// Runs `tribunal rubric`.
///
/// # Errors
///
/// A file cannot be read. For `show`, also: it is not valid, or nothing is left of it.
pub(crate) fn run(args: RubricArgs, json: bool) -> anyhow::Result<Exit> {
    match args.command {
        RubricCommand::Check(args) => check(&args, json),
        RubricCommand::Show(args) => show(&args, json),
    }
}

/// The rubric in this file.
///
/// # Errors
///
/// It cannot be read, or is not valid.
pub(crate) fn read(file: &Path) -> anyhow::Result<Rubric> {
    let bytes = bytes(file)?;
    Ok(Rubric::parse(&file.display().to_string(), &bytes)?)
}

/// The file's bytes.
///
/// # Errors
///
/// It cannot be read.
pub(crate) fn bytes(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

// === check ===

fn check(args: &CheckArgs, json: bool) -> anyhow::Result<Exit> {
    let mut files = Vec::new();
    let mut said = String::new();
    let mut unread = Vec::new();
    for path in &args.files {
        let file = path.display().to_string();
        let bytes = match bytes(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                unread.push(format!("{error:#}"));
                continue;
            }
        };
        files.push(match Rubric::parse(&file, &bytes) {
            Ok(rubric) => {
                let (nodes, leaves) = (rubric.nodes().len(), rubric.leaf_count());
                let _ = writeln!(said, "{file}: ok: {nodes} nodes, {leaves} leaves");
                let warnings = lint(&rubric);
                if !json {
                    warn(&file, &warnings);
                }
                let problems = Vec::new();
                CheckedFile { file, valid: true, problems, more_problems: 0, warnings }
            }
            Err(error) => {
                let count = error.problems.len() + error.more;
                let s = if count == 1 { "" } else { "s" };
                let _ = writeln!(said, "{file}: invalid: {count} problem{s}");
                if !json {
                    note(&error.to_string());
                }
                let more_problems = error.more;
                let problems = error.problems.into_iter().map(Into::into).collect();
                CheckedFile { file, valid: false, problems, more_problems, warnings: Vec::new() }
            }
        });
    }
    let valid = files.iter().all(|file| file.valid);
    if json {
        output::print_json("rubric check", &RubricCheckDocument { files })?;
    } else {
        output::print_text(&said)?;
    }
    anyhow::ensure!(unread.is_empty(), unread.join("\n"));
    Ok(if valid { Exit::Complete } else { Exit::CheckFailed })
}

fn warn(file: &str, warnings: &[Warning]) {
    for Warning { path, message, .. } in warnings {
        note(&format!("{file}: {path}: warning: {message}"));
    }
}

// === show ===

fn show(args: &ShowArgs, json: bool) -> anyhow::Result<Exit> {
    let options = GradeOptions {
        code_only: args.code_only,
        resources_provided: args.resources_provided,
        // Cut below, so that the tree can say what a cut node stands for.
        max_depth: None,
    };
    let rubric = read(&args.file)?;
    // Of the unpruned tree, whose paths are the file's, with the weights that count.
    let weighted = if options.resources_provided { rubric.resources_provided() } else { rubric };
    let warnings = lint(&weighted);
    let whole = graded_part(weighted, options)
        .with_context(|| format!("nothing to show of {}", args.file.display()))?;
    let cut = args.max_depth.map(|depth| whole.cut(depth));
    let shown = cut.as_ref().unwrap_or(&whole);
    let document = RubricShowDocument::new(shown, warnings);
    if json {
        output::print_json("rubric show", &document)?;
    } else {
        let text = drawn(shown, &whole, TextStyle::of_stdout()) + &counts(&document);
        output::print_text(&text)?;
        warn(&args.file.display().to_string(), &document.warnings);
    }
    Ok(Exit::Complete)
}

/// The tree with shares of the root, and the leaves' categories.
fn drawn(shown: &Rubric, whole: &Rubric, style: TextStyle) -> String {
    let shares = shown.weight_shares();
    draw_tree(shown, style, None, |index| {
        let node = &shown.nodes()[index];
        let right = match node.category {
            Some(Category::Subtree) => {
                let of = whole.by_position(node.position());
                let below = of.map_or(0, |of| whole.end(of) - of - 1);
                format!("[Subtree: {below} nodes below]")
            }
            Some(category) => format!("[{category}]"),
            None => String::new(),
        };
        let left = format!("{:>6.2}%", shares[index] * 100.0);
        TreeLine { left, mark: String::new(), right }
    })
}

fn counts(document: &RubricShowDocument) -> String {
    let RubricShowDocument { nodes, leaves, depth, .. } = document;
    let mut text = format!("\n{nodes} nodes, {leaves} leaves, depth {depth}\n");
    for (category, count) in &document.categories {
        let _ = writeln!(text, "{category}: {count}");
    }
    if !document.zero_weight_leaves.is_empty() {
        let _ = writeln!(text, "leaves of weight 0: {}", document.zero_weight_leaves.len());
    }
    if !document.duplicate_ids.is_empty() {
        let _ = writeln!(text, "ids that repeat: {}", document.duplicate_ids.len());
    }
    text
}
