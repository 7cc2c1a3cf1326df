//! The commands, one file each.
//!
//! Owns what they share: the global flags.

pub(crate) mod audit;
pub(crate) mod batch;
pub(crate) mod collect;
pub(crate) mod compare;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod evidence;
pub(crate) mod explain;
pub(crate) mod grade;
pub(crate) mod judge;
pub(crate) mod plan;
pub(crate) mod prompt;
pub(crate) mod report;
pub(crate) mod rescore;
pub(crate) mod rubric;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod sim;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod submit;
pub(crate) mod table;
pub(crate) mod tune;
pub(crate) mod work;
pub(crate) mod workers;

use std::path::PathBuf;

use crate::config::{Config, ConfigError, FlagValue};

/// What holds for every command.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Print one JSON document.
    pub(crate) json: bool,
    /// The file of `--config`.
    pub(crate) config: Option<PathBuf>,
}

// === impl Context ===

impl Context {
    /// The config with these flags laid over it; starts the log as it says.
    pub(crate) fn load(&self, flags: &[FlagValue<'_>]) -> Result<Config, ConfigError> {
        let config = Config::load(self.config.as_deref(), flags)?;
        crate::log::start(&config.log);
        Ok(config)
    }
}
