//! `tribunal compare A B`: two runs or graded trees, leaf by leaf.
//!
//! Owns the arguments and the output. The comparison is the collector's.

use anyhow::bail;
use clap::Args;
use tribunal_collector::{
    GradedTree, TextStyle,
    compare::{compare, render},
};

use crate::{
    args::StoreArgs,
    command::Context,
    exit::Exit,
    output,
    trees::{Reading, Runs, Trees},
};

/// Arguments of `tribunal compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A run, or a graded tree's file, or a folder with one
    a: String,
    /// Another of the same rubric
    b: String,
    /// Leaves that differ to be shown, at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    changed: usize,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `tribunal compare`.
///
/// # Errors
///
/// A tree cannot be read, or the two have no leaf in common.
pub(crate) async fn run(args: CompareArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let mut runs = Runs::new(&config);
    let a = one(&args.a, &mut runs).await?;
    let b = one(&args.b, &mut runs).await?;
    runs.close().await?;
    let comparison = compare(&a, &b)?;
    if context.json {
        output::print_json("compare", &comparison)?;
    } else {
        let style = TextStyle::of_stdout();
        output::print_text(&render::text(&comparison, style, args.changed))?;
    }
    let complete = comparison.root.difference.is_some();
    Ok(if complete { Exit::Complete } else { Exit::Incomplete })
}

/// The only tree that this names.
async fn one(name: &str, runs: &mut Runs<'_>) -> anyhow::Result<GradedTree> {
    let trees = Trees::find(&[name.to_owned()], &Reading::default(), runs).await?;
    match &trees.found[..] {
        [found] => found.tree(runs).await,
        found => bail!("{name} holds {} graded trees; name one of them", found.len()),
    }
}
