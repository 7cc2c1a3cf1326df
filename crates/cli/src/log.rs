//! The log: to standard error, above the progress bar.
//!
//! Owns levels and form. Bodies of calls are never logged: the libraries that would are off.

use std::{
    borrow::Cow,
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use jiff::Timestamp;
use serde_json::json;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};
use tribunal_worker::trace::GEN_AI;

use crate::{
    config::{LogFormat, LogSettings},
    progress::bars,
};

/// Whether every line is a JSON document.
static JSON: AtomicBool = AtomicBool::new(false);

/// Writes whole lines between the bars.
struct AboveBars;

/// Starts the log; a second call changes nothing.
pub(crate) fn start(settings: &LogSettings) {
    // async-openai logs whole bodies at ERROR; what is for exporters would say everything twice.
    let filter = EnvFilter::new(format!("{},async_openai=off,{GEN_AI}=off", settings.level));
    JSON.store(settings.format == LogFormat::Json, Ordering::Relaxed);
    let lines = fmt::layer().with_writer(AboveBars).with_ansi(false);
    let lines = match settings.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().with_span_list(false).boxed(),
    };
    let log = tracing_subscriber::registry().with(lines.with_filter(filter));
    #[cfg(feature = "otel")]
    let (log, refused) = match crate::otel::layer() {
        Ok(traces) => (log.with(traces), None),
        Err(error) => (log.with(None), Some(error)),
    };
    let _ = log.try_init();
    #[cfg(feature = "otel")]
    if let Some(error) = refused {
        tracing::warn!("{error}");
    }
}

/// What people are told, as the log's other lines are: as it is, or as a document.
pub(crate) fn told(text: &str) -> Cow<'_, str> {
    if !JSON.load(Ordering::Relaxed) {
        return Cow::Borrowed(text);
    }
    let line = json!({
        "timestamp": Timestamp::now(),
        "level": "INFO",
        "fields": { "message": text },
        "target": "tribunal",
    });
    Cow::Owned(line.to_string())
}

impl<'w> MakeWriter<'w> for AboveBars {
    type Writer = AboveBars;

    fn make_writer(&'w self) -> AboveBars {
        AboveBars
    }
}

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        bars().suspend(|| io::stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
