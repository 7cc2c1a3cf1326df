//! `tribunal config`: what the configuration is, and what is wrong in a file of it.
//!
//! Owns the arguments, the output and the exit code.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::{
    config::{Config, check, show},
    exit::Exit,
    output,
};

/// Arguments of `tribunal config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

/// What of it.
#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every resolved value and where it came from, secrets hidden
    Show,
    /// Name unknown keys and wrong values of a file, by line; exit 1 when there are any
    Check {
        /// The configuration file
        file: PathBuf,
    },
}

/// Runs `tribunal config`; `config_path` is the file of `--config`.
///
/// # Errors
///
/// The file to check cannot be read; the configuration to show cannot be read or is not valid.
pub(crate) fn run(
    args: ConfigArgs,
    json: bool,
    config_path: Option<&Path>,
) -> anyhow::Result<Exit> {
    match args.command {
        ConfigCommand::Show => {
            let document = Config::load(config_path, &[])?.show();
            match json {
                true => output::print_json("config show", &document)?,
                false => output::print_text(&show::render(&document))?,
            }
            Ok(Exit::Complete)
        }
        ConfigCommand::Check { file } => {
            let document = check::check(&file)?;
            match json {
                true => output::print_json("config check", &document)?,
                false => output::print_text(&check::render(&document))?,
            }
            Ok(match document.valid {
                true => Exit::Complete,
                false => Exit::CheckFailed,
            })
        }
    }
}
