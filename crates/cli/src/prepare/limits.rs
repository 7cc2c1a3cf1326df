//! Questions that the account's limits can never let through, found before anything is asked.
//!
//! Owns the comparison and its words. What a question has is counted by `questions`; keeping to the
//! limits is the worker's.

use std::fmt::Display;

use anyhow::bail;
use tribunal_store::{Meter, QuotaLimits, Spend};

/// Makes sure that one call with so much fits into a minute of every limit.
///
/// # Errors
///
/// It does not: the leaf, what it needs, the limit, and what to do.
pub(crate) fn check(limits: &QuotaLimits, call: Spend, leaf: impl Display) -> anyhow::Result<()> {
    for (meter, limit) in limits.each() {
        let needs = call.on(meter);
        if needs as f64 > limit {
            let noun = meter.noun();
            bail!(
                "leaf {leaf} can never be asked: its question has {} tokens, its answer about {}, \
                 so it needs {needs} {noun} of a limit of {limit} {noun} a minute. {}{} sets the \
                 limit",
                call.input,
                call.output,
                // No question makes an answer shorter.
                if meter == Meter::OutputTokens { "" } else { SHORTER },
                key(meter)
            );
        }
    }
    Ok(())
}

/// What makes a question smaller.
const SHORTER: &str = "A smaller evidence.token_budget makes questions shorter; ";

/// Where the limit on a meter is set.
fn key(meter: Meter) -> &'static str {
    match meter {
        Meter::Requests => "--rpm, or requests_per_minute of the judge,",
        Meter::Tokens => "--tpm, or tokens_per_minute of the judge,",
        Meter::InputTokens => "input_tokens_per_minute of the judge",
        Meter::OutputTokens => "output_tokens_per_minute of the judge",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_larger_than_a_minute_is_named_with_its_numbers() {
        let limits =
            |tokens, input_tokens| QuotaLimits { tokens, input_tokens, ..QuotaLimits::default() };
        let call = Spend::call(9_600, 500);
        assert!(check(&QuotaLimits::default(), call, "#1").is_ok());
        assert!(check(&limits(Some(10_100.0), Some(9_600.0)), call, "#1").is_ok());
        let over = check(&limits(Some(10_000.0), None), call, "#7").expect_err("too large");
        let over = over.to_string();
        for words in ["leaf #7", "10100 tokens of a limit of 10000 tokens", "--tpm"] {
            assert!(over.contains(words), "{over}");
        }
        let over = check(&limits(None, Some(9_000.0)), call, "#7").expect_err("too large");
        assert!(over.to_string().contains("9600 input tokens"), "{over}");
    }
}
