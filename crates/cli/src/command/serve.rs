//! `tribunal serve`: the pages live from the store.
//!
//! Owns the address, the token, and how the server ends. What is served is the report's.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, ensure};
use clap::Args;
use rand::distr::{Alphanumeric, SampleString as _};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::{net::TcpListener, signal::unix::SignalKind};
use tokio_util::sync::CancellationToken;
use tribunal_report::serve::{Guard, Sources, serve};

use crate::{
    args::{MetricsArgs, StoreArgs},
    calibration::{self, CalibrationArgs},
    command::Context,
    engine,
    exhibits::StoreExhibits,
    exit::Exit,
    metrics, output,
    progress::note,
};

/// Characters of a token that is made: 190 bits.
const TOKEN_CHARACTERS: usize = 32;

/// Arguments of `tribunal serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
    /// A file with the token that readers need; an address that is not loopback gets one without
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
}

/// The document of `tribunal serve`, printed when it listens.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ServeDocument {
    /// Where to open it, with the token where one is needed.
    url: String,
}

/// Runs `tribunal serve`: until a signal ends it.
///
/// # Errors
///
/// The store cannot be used, or the address cannot be listened at.
pub(crate) async fn run(args: ServeArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = Arc::new(context.load(&args.store.flags())?);
    let calibration = args.calibration.read()?;
    let store = engine::existing_store(&config).await?;
    let store = store.with_context(|| {
        format!("there is no store at {}; `tribunal grade` makes one", config.store.shown_url())
    })?;
    if let Some(addr) = args.metrics.metrics_addr {
        metrics::serve(addr, Arc::clone(&store), CancellationToken::new()).await?;
    }
    let listener = TcpListener::bind(args.addr).await;
    let listener = listener.with_context(|| format!("cannot listen at {}", args.addr))?;
    let addr = listener.local_addr()?;
    let token = token(&args, addr)?;
    let guard = Guard::new(addr, token.as_deref())?;
    let url = match &token {
        Some(token) => format!("http://{addr}/?token={token}"),
        None => format!("http://{addr}/"),
    };
    match context.json {
        true => output::print_json("serve", &ServeDocument { url })?,
        false => note(&format!("serving {} at {url}", config.store.shown_url())),
    }
    let known = Arc::clone(&config);
    let from = Sources {
        exhibits: Arc::new(StoreExhibits::new(Arc::clone(&store))),
        prices: Box::new(move |model| known.models.get(model).prices),
        correct: Box::new(move |collected| {
            let known = calibration.as_ref()?;
            // Runs of other judges are served too: theirs are not corrected.
            calibration::check(known, collected.spec()).ok()?;
            Some(calibration::correct(known, collected))
        }),
        coverage_floor: config.run.coverage_floor,
        store: Arc::clone(&store),
    };
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    // Streams of events never end by themselves: they are cut.
    tokio::select! {
        ended = serve(listener, guard, from) => ended?,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    store.close().await?;
    Ok(Exit::Complete)
}

/// The token of the file, or a new one where the address needs it.
fn token(args: &ServeArgs, addr: SocketAddr) -> anyhow::Result<Option<String>> {
    let Some(file) = &args.token_file else {
        let needed = !addr.ip().is_loopback();
        return Ok(needed.then(|| Alphanumeric.sample_string(&mut rand::rng(), TOKEN_CHARACTERS)));
    };
    let said = fs::read_to_string(file);
    let said = said.with_context(|| format!("the token {} cannot be read", file.display()))?;
    let token = said.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    ensure!(
        token.len() >= 16 && token.chars().all(plain),
        "the token in {} must be 16 or more letters, digits, `-`, `_`, `.` or `~`",
        file.display()
    );
    Ok(Some(token.to_owned()))
}
