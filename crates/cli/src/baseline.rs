//! Judges that need no model: `--judge dummy` passes everything, `--judge random` flips a coin.
//!
//! Owns their names and specs. They are rules (`tribunal_worker::rule`): no call is made, and the
//! scores are what a real judge has to beat.

use tribunal_core::JudgeSpec;
use tribunal_worker::rule;

use crate::config::{Config, judge::ResolvedJudge};

/// Passes everything.
const DUMMY: &str = "dummy";

/// Flips a coin, seeded by `sim.seed`.
const RANDOM: &str = "random";

/// What stands for the endpoint of a judge that is never called.
const NOWHERE: &str = "builtin:none";

/// The baseline with this name, if it is one and the config has no judge of the name.
pub(crate) fn judge(name: &str, config: &Config) -> Option<ResolvedJudge> {
    let ours = [DUMMY, RANDOM].contains(&name) && config.judge_names().all(|known| known != name);
    // Never called, so that any judge's limits and facts will do.
    let template = config.judge("simulated").ok().filter(|_| ours)?;
    let model = match name {
        RANDOM => format!("{RANDOM}:{}", config.sim.seed),
        _ => DUMMY.to_owned(),
    };
    let spec = JudgeSpec {
        name: name.to_owned(),
        base_url: NOWHERE.to_owned(),
        model,
        ..template.spec.clone()
    };
    Some(ResolvedJudge { spec, ..template })
}

/// Whether the judge is never called.
pub(crate) fn is_baseline(judge: &JudgeSpec) -> bool {
    judge.base_url == NOWHERE
}

/// The rule that grades every leaf of a baseline; `None` for a judge that is asked.
pub(crate) fn rule(judge: &JudgeSpec) -> Option<String> {
    if !is_baseline(judge) {
        return None;
    }
    Some(match judge.model.split_once(':') {
        Some((_, seed)) => format!("{}:{seed}", rule::COIN_FLIP),
        None => rule::ALWAYS_PASS.to_owned(),
    })
}
