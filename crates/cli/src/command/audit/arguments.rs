//! Whose grades are compared: `--judge` and `--human`, each of which may stand several times.
//!
//! Owns keeping the values of each occurrence apart: a second `--judge` is a second judge, a
//! second `--human` a second human.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

/// Files, folders and runs by grader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// One list a judge.
    pub(crate) judges: Vec<Vec<PathBuf>>,
    /// One list a human.
    pub(crate) humans: Vec<Vec<PathBuf>>,
}

fn argument(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .num_args(1..)
        .action(ArgAction::Append)
        .value_parser(value_parser!(PathBuf))
        .help(help)
}

fn occurrences(matches: &ArgMatches, name: &str) -> Vec<Vec<PathBuf>> {
    let each = matches.get_occurrences::<PathBuf>(name).into_iter().flatten();
    each.map(|values| values.cloned().collect()).collect()
}

// === impl Sources ===

impl Args for Sources {
    fn augment_args(command: Command) -> Command {
        command
            .arg(argument(
                "judge",
                "GRADED",
                "The judge's graded trees: files, folders, or runs of the store; a second --judge \
                 is compared with the first",
            ))
            .arg(argument(
                "human",
                "EXPECTED",
                "The human's graded trees: files or folders; a second --human is another human",
            ))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Sources {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (judges, humans) = (occurrences(matches, "judge"), occurrences(matches, "human"));
        Ok(Self { judges, humans })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
