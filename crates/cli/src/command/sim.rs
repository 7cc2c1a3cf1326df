//! `tribunal sim`: the simulated judge as a server of its own.
//!
//! Owns the arguments. What it answers is the sim's.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use secrecy::SecretString;
use tribunal_sim::{Sim, SimConfig};

use crate::{engine, exit::Exit, output};

/// Arguments of `tribunal sim`.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "P", default_value_t = 0)]
    port: u16,
    /// Draw verdicts around the human grades of these graded trees
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    labels: Vec<PathBuf>,
    /// Share of fulfilled leaves that it grades 1 (with --labels) [default: 1]
    #[arg(long, value_name = "S", requires = "labels")]
    sensitivity: Option<f64>,
    /// Share of unfulfilled leaves that it grades 0 (with --labels) [default: 1]
    #[arg(long, value_name = "S", requires = "labels")]
    specificity: Option<f64>,
    /// A TOML file with the two rates for each category
    #[arg(long, value_name = "FILE", requires = "labels")]
    rates: Option<PathBuf>,
    /// A TOML file that shifts the rates by words of the prompt, category and model
    #[arg(long, value_name = "FILE", requires = "labels")]
    profile: Option<PathBuf>,
    /// Median latency in milliseconds
    #[arg(long, value_name = "M", default_value_t = 0.0)]
    latency_ms: f64,
    /// Spread of the latency: sigma of its logarithm
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    latency_sigma: f64,
    /// Requests a minute that it admits
    #[arg(long, value_name = "N")]
    rpm: Option<u64>,
    /// Tokens a minute that it admits
    #[arg(long, value_name = "N")]
    tpm: Option<u64>,
    /// How many seconds' worth of its limits may come at once
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    burst_s: f64,
    /// Charge rejected calls to the limits too
    #[arg(long)]
    count_rejected: bool,
    /// Say nothing of the limits in answers
    #[arg(long)]
    hide_limits: bool,
    /// Halve the limits after so many admitted calls
    #[arg(long, value_name = "N")]
    halve_after: Option<u64>,
    /// Share of calls answered with a server error
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    error_rate: f64,
    /// Share of calls never answered
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    timeout_rate: f64,
    /// Share of calls answered with something that is no verdict
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    malformed_rate: f64,
    /// Share of rankings of files that cannot be used
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    unusable_ranking_rate: f64,
    /// Share of calls refused
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    refusal_rate: f64,
    /// Share of calls whose connection breaks in mid-answer
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    reset_rate: f64,
    /// Obey text of the submission that asks for full marks
    #[arg(long)]
    gullible: bool,
    /// Share of calls whose answer stops in mid-body
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    stall_rate: f64,
    /// Milliseconds from the creation of a batch to its end
    #[arg(long, value_name = "M", default_value_t = 0.0)]
    batch_delay_ms: f64,
    /// Share of a batch's questions that end in its file of errors
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    batch_error_rate: f64,
    /// Share of batches that expire when half of their questions are answered
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    batch_expiry_rate: f64,
    /// Tokens that batches may have in the queue together; another one fails
    #[arg(long, value_name = "N")]
    batch_queue_tokens: Option<u64>,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Models that exist here; any does when none is named
    #[arg(long = "models", value_name = "NAME", value_delimiter = ',')]
    models: Vec<String>,
    /// The environment variable with the key that clients must send
    #[arg(long, value_name = "VARIABLE")]
    require_key_env: Option<String>,
}

/// Runs `tribunal sim` until a signal ends it.
///
/// # Errors
///
/// A setting is wrong, or the port is taken.
pub(crate) async fn run(args: SimArgs) -> anyhow::Result<Exit> {
    let api_key = match &args.require_key_env {
        None => None,
        Some(variable) => {
            let key = std::env::var(variable)
                .with_context(|| format!("--require-key-env: {variable} is not set"))?;
            Some(SecretString::from(key))
        }
    };
    let config = SimConfig {
        labels: args.labels,
        sensitivity: args.sensitivity.unwrap_or(1.0),
        specificity: args.specificity.unwrap_or(1.0),
        rates_file: args.rates,
        profile_file: args.profile,
        latency_ms: args.latency_ms,
        latency_sigma: args.latency_sigma,
        rpm: args.rpm,
        tpm: args.tpm,
        burst_s: args.burst_s,
        count_rejected: args.count_rejected,
        hide_limits: args.hide_limits,
        halve_after: args.halve_after,
        error_rate: args.error_rate,
        timeout_rate: args.timeout_rate,
        malformed_rate: args.malformed_rate,
        unusable_ranking_rate: args.unusable_ranking_rate,
        refusal_rate: args.refusal_rate,
        reset_rate: args.reset_rate,
        gullible: args.gullible,
        stall_rate: args.stall_rate,
        batch_delay_ms: args.batch_delay_ms,
        batch_error_rate: args.batch_error_rate,
        batch_expiry_rate: args.batch_expiry_rate,
        batch_queue_tokens: args.batch_queue_tokens,
        seed: args.seed,
        models: args.models,
        api_key,
    };
    let (shutdown, signalled) = engine::on_signals(std::time::Duration::ZERO)?;
    let sim = Sim::start(config, args.port)?;
    output::print_text(&format!("simulated judge on {}\n", sim.base_url()))?;
    shutdown.drain.cancelled().await;
    sim.shutdown().await;
    Ok(signalled.exit().unwrap_or(Exit::Complete))
}
