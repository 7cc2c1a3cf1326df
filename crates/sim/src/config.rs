//! What the simulated judge is to be like.
//!
//! Owns the settings and their ranges. Files named here are read when the server starts.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::error::SimError;

/// The settings of a simulated judge.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Graded trees whose human grades the verdicts are drawn around, for each criterion, context and
    /// evidence by itself; without any, verdicts depend on the criterion's terms in the evidence.
    pub labels: Vec<PathBuf>,
    /// Probability of a 1 where the human gave 1.
    pub sensitivity: f64,
    /// Probability of a 0 where the human gave 0.
    pub specificity: f64,
    /// TOML file with a table per category, such as `["Code Development"]`, that holds
    /// `sensitivity` and `specificity` where they differ from the two above.
    pub rates_file: Option<PathBuf>,
    /// TOML file that says how the rates depend on the prompt's words, the category and the model, and
    /// what is answered to a request for a better prompt.
    pub profile_file: Option<PathBuf>,
    /// Median time to an answer, milliseconds.
    pub latency_ms: f64,
    /// Sigma of the log-normal latency; 0 makes it constant.
    pub latency_sigma: f64,
    /// Requests a minute, over the whole server.
    pub rpm: Option<u64>,
    /// Tokens a minute, prompt and completion, over the whole server.
    pub tpm: Option<u64>,
    /// Seconds' worth of the limits that may be used at once; at least one request.
    pub burst_s: f64,
    /// Whether a rejected call is charged to the limits too.
    pub count_rejected: bool,
    /// Whether answers say nothing of the limits; a rejection still says when to come again.
    pub hide_limits: bool,
    /// Requests admitted after which the limits are half of what they were.
    pub halve_after: Option<u64>,
    /// Share of calls that end in 500, 502 or 503.
    pub error_rate: f64,
    /// Share of calls that are never answered.
    pub timeout_rate: f64,
    /// Share of calls with an unusable answer.
    pub malformed_rate: f64,
    /// Share of rankings of files that cannot be used.
    pub unusable_ranking_rate: f64,
    /// Share of calls that are refused.
    pub refusal_rate: f64,
    /// Share of calls whose connection closes in mid-body.
    pub reset_rate: f64,
    /// Whether text of the submission that asks for a full score gets it.
    pub gullible: bool,
    /// Share of calls whose answer stops in mid-body and never goes on.
    pub stall_rate: f64,
    /// Milliseconds from the creation of a batch to its end.
    pub batch_delay_ms: f64,
    /// Share of a batch's questions that end in its file of errors.
    pub batch_error_rate: f64,
    /// Share of batches that expire when half of their questions are answered.
    pub batch_expiry_rate: f64,
    /// Tokens that batches may have in the queue together; another one fails.
    pub batch_queue_tokens: Option<u64>,
    /// The seed of every draw.
    pub seed: u64,
    /// The models that exist; any model does when empty.
    pub models: Vec<String>,
    /// The key that calls must bring; none is asked for when `None`.
    pub api_key: Option<SecretString>,
}

// === impl SimConfig ===

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig {
            labels: Vec::new(),
            sensitivity: 1.0,
            specificity: 1.0,
            rates_file: None,
            profile_file: None,
            latency_ms: 0.0,
            latency_sigma: 0.0,
            rpm: None,
            tpm: None,
            burst_s: 1.0,
            count_rejected: false,
            hide_limits: false,
            halve_after: None,
            error_rate: 0.0,
            timeout_rate: 0.0,
            malformed_rate: 0.0,
            unusable_ranking_rate: 0.0,
            refusal_rate: 0.0,
            reset_rate: 0.0,
            gullible: false,
            stall_rate: 0.0,
            batch_delay_ms: 0.0,
            batch_error_rate: 0.0,
            batch_expiry_rate: 0.0,
            batch_queue_tokens: None,
            seed: 0,
            models: Vec::new(),
            api_key: None,
        }
    }
}

impl SimConfig {
    /// Checks every setting's range; files are not looked at.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range, and the range.
    pub fn validate(&self) -> Result<(), SimError> {
        let shares = [
            ("sensitivity", self.sensitivity),
            ("specificity", self.specificity),
            ("error_rate", self.error_rate),
            ("timeout_rate", self.timeout_rate),
            ("malformed_rate", self.malformed_rate),
            ("refusal_rate", self.refusal_rate),
            ("reset_rate", self.reset_rate),
            ("stall_rate", self.stall_rate),
        ];
        for (setting, value) in shares {
            check(setting, value, (0.0..=1.0).contains(&value), "a share from 0 to 1")?;
        }
        let faults = shares[2..].iter().map(|(_, rate)| rate).sum::<f64>();
        for (setting, value) in [
            ("unusable_ranking_rate", self.unusable_ranking_rate),
            ("batch_error_rate", self.batch_error_rate),
            ("batch_expiry_rate", self.batch_expiry_rate),
        ] {
            check(setting, value, (0.0..=1.0).contains(&value), "a share from 0 to 1")?;
        }
        check("the sum of the fault rates", faults, faults <= 1.0 + 1e-9, "at most 1")?;
        let (latency, sigma) = (self.latency_ms, self.latency_sigma);
        let day = 24.0 * 3_600_000.0;
        check(
            "latency_ms",
            latency,
            (0.0..=day).contains(&latency),
            "milliseconds from 0 to a day",
        )?;
        let delay = self.batch_delay_ms;
        check(
            "batch_delay_ms",
            delay,
            (0.0..=day).contains(&delay),
            "milliseconds from 0 to a day",
        )?;
        check("latency_sigma", sigma, (0.0..=5.0).contains(&sigma), "a number from 0 to 5")?;
        let burst = self.burst_s;
        check("burst_s", burst, burst > 0.0 && burst <= 60.0, "seconds above 0, at most 60")?;
        for (setting, limit) in [("rpm", self.rpm), ("tpm", self.tpm)] {
            let value = limit.unwrap_or(1);
            let sane = (1..=1_000_000_000_000).contains(&value);
            check(setting, value, sane, "at least 1 a minute")?;
        }
        Ok(())
    }
}

fn check(
    setting: &'static str,
    value: impl ToString,
    holds: bool,
    expected: &'static str,
) -> Result<(), SimError> {
    if holds {
        return Ok(());
    }
    Err(SimError::Setting { setting, value: value.to_string(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_setting_that_is_out_of_range() {
        assert!(SimConfig::default().validate().is_ok());
        let broken = |change: fn(&mut SimConfig)| {
            let mut config = SimConfig::default();
            change(&mut config);
            config.validate().expect_err("out of range").to_string()
        };
        assert!(broken(|c| c.sensitivity = 1.5).contains("sensitivity = 1.5"));
        assert!(broken(|c| c.specificity = f64::NAN).contains("specificity"));
        assert!(broken(|c| c.latency_ms = -1.0).contains("latency_ms"));
        assert!(broken(|c| c.latency_ms = f64::INFINITY).contains("latency_ms"));
        assert!(broken(|c| c.burst_s = 0.0).contains("burst_s"));
        assert!(broken(|c| c.rpm = Some(0)).contains("rpm"));
        let sum = broken(|c| (c.error_rate, c.reset_rate) = (0.7, 0.6));
        assert!(sum.contains("sum of the fault rates"), "{sum}");
    }
}
