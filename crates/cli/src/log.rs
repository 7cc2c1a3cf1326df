//! The log: to standard error, above the progress bar.
//!
//! Owns levels and form. Bodies of calls are never logged: the libraries that would are off.

use std::io::{self, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    config::{LogFormat, LogSettings},
    progress::bars,
};

/// Writes whole lines between the bars.
struct AboveBars;

/// Starts the log; a second call changes nothing.
pub(crate) fn start(settings: &LogSettings) {
    // async-openai logs whole bodies at ERROR.
    let filter = EnvFilter::new(format!("{},async_openai=off", settings.level));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(AboveBars).with_ansi(false);
    let _ = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
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
