//! One question that any judge can answer, asked in one form.
//!
//! Owns the question's words, the single call and what its answer shows. Which forms are tried, and
//! what follows from it, is `check`'s.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use tribunal_core::{Category, FailureClass, JudgeSpec, ReplyForm, Usage};
use tribunal_worker::{
    parse,
    provider::{Answer, CallFailure, Finish, LimitHeaders, Message, Provider, Question, Reply},
};

/// The longest wait that a refusing endpoint is given before its second try.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// The wait where it names none.
const WAIT: Duration = Duration::from_secs(1);

const SYSTEM: &str = "You grade one criterion about a small file of code. Look at the file, decide \
    whether the criterion is fulfilled, and give your reasons before the score.";

const FILE: &str = "<file path=\"add.py\">\ndef add(a, b):\n    return a + b\n</file>\n";

const CRITERION: &str = "<criterion category=\"Code Development\">\nThe function `add` in add.py \
    returns the sum of its two arguments.\n</criterion>\n\n";

const IN_JSON: &str = "Answer with one JSON object and nothing else, its fields in this order: \
    `expectations`, `reality`, `evidence` (a list of objects with `file`, `lines` and `quote`), \
    `explanation` (one sentence), `score` (0 or 1), `confidence` (from 0 to 1).\n";

const IN_TEXT: &str = "Answer in short sections with the headings `# Expectations`, `# Reality`, \
    `# Evidence`, `# Explanation`, and last `# Score` with nothing below it but 0 or 1.\n";

/// Lines of notes that make the shared part long enough for providers to cache it, who take about
/// 1,024 tokens or more.
const NOTES: usize = 60;

/// What came of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Tried {
    /// The failure's class; `None` where a completion came, usable or not.
    pub(super) class: Option<FailureClass>,
    /// What is wrong; `None` for a usable answer.
    pub(super) message: Option<String>,
    /// HTTP status, where an answer came.
    pub(super) status: Option<u16>,
    /// Time from sending to the whole answer; `None` where nothing was sent.
    pub(super) latency: Option<Duration>,
    /// Tokens, where the answer states them.
    pub(super) usage: Option<Usage>,
    /// Whether it states cached tokens.
    pub(super) reports_cached: bool,
    /// Whether the endpoint answered at all.
    pub(super) reached: bool,
    /// Whether the answer says that it is simulated.
    pub(super) simulated: bool,
    /// The model that the answer names.
    pub(super) model: Option<String>,
    /// The account's limits, where the headers state any.
    pub(super) limits: Option<Box<LimitHeaders>>,
}

/// Asks in this form; a second time, after a wait, where the first call was throttled or failed in
/// a way that may pass.
pub(super) async fn ask(provider: &dyn Provider, judge: &JudgeSpec, form: ReplyForm) -> Tried {
    let spec = JudgeSpec { reply_form: form, fallback_forms: Vec::new(), ..judge.clone() };
    let shared = shared();
    let messages =
        [Message { role: "system", content: SYSTEM }, Message { role: "user", content: &shared }];
    let own = own(form);
    let answer = Answer::Verdict { fractional: false };
    let question = Question {
        judge: &spec,
        prefix: provider.prefix(&spec, &messages),
        messages: vec![Message { role: "user", content: &own }],
        parameters: provider.parameters(&spec, form, answer, &BTreeMap::new()),
        cache_key: None,
    };
    let first = call(provider, &question).await;
    let Err((failure, latency)) = first else {
        return Tried::of(first, form, spec.max_output_tokens);
    };
    match wait(&failure) {
        Some(wait) => {
            tokio::time::sleep(wait).await;
            Tried::of(call(provider, &question).await, form, spec.max_output_tokens)
        }
        None => Tried::of(Err((failure, latency)), form, spec.max_output_tokens),
    }
}

/// A call's reply or failure, and the time it took.
type Called = Result<(Reply, Duration), (CallFailure, Duration)>;

async fn call(provider: &dyn Provider, question: &Question<'_>) -> Called {
    let start = Instant::now();
    let asked = provider.ask(question).await;
    let latency = start.elapsed();
    match asked {
        Ok(reply) => Ok((reply, latency)),
        Err(failure) => Err((failure, latency)),
    }
}

/// How long to wait before asking again, where that may help.
fn wait(failure: &CallFailure) -> Option<Duration> {
    let answered = failure.status.is_some();
    let passes = match failure.class {
        FailureClass::Throttled => true,
        FailureClass::Transient => answered,
        _ => false,
    };
    let wait = failure.retry_after.unwrap_or(WAIT);
    (passes && wait <= MAX_WAIT).then_some(wait)
}

/// What all forms are shown alike.
fn shared() -> String {
    let mut text = "Notes about the code base, for reference only:\n".to_owned();
    for n in 1..=NOTES {
        let _ = writeln!(
            text,
            "- Module {n} holds plain helper functions; each takes its arguments by value, keeps \
             no state, and is called from step {n} alone."
        );
    }
    text.push_str("\nThe file to look at:\n\n");
    text.push_str(FILE);
    text
}

fn own(form: ReplyForm) -> String {
    let answer = match form {
        ReplyForm::JsonSchema | ReplyForm::JsonObject => IN_JSON,
        ReplyForm::Text => IN_TEXT,
    };
    format!("{CRITERION}{answer}")
}

// === impl Tried ===

impl Tried {
    /// Whether the answer can be graded by.
    pub(super) fn works(&self) -> bool {
        self.message.is_none()
    }

    /// A form that was not tried.
    pub(super) fn skipped(why: &str) -> Tried {
        Tried { message: Some(format!("not tried: {why}")), ..Tried::default() }
    }

    fn of(called: Called, form: ReplyForm, cap: u32) -> Tried {
        match called {
            Ok((reply, latency)) => Tried {
                class: None,
                message: unusable(&reply, form, cap),
                status: Some(reply.status),
                latency: Some(latency),
                usage: reply.reports_usage.then_some(reply.usage),
                reports_cached: reply.reports_cached,
                reached: true,
                simulated: reply.simulated,
                model: Some(reply.model),
                limits: reply.limits,
            },
            Err((failure, latency)) => Tried {
                class: Some(failure.class),
                message: Some(failure.message),
                status: failure.status,
                latency: Some(latency),
                usage: Some(failure.usage).filter(|usage| *usage != Usage::default()),
                reports_cached: false,
                reached: failure.reached,
                simulated: failure.simulated,
                model: None,
                limits: failure.limits,
            },
        }
    }
}

/// Why the answer cannot be graded by.
fn unusable(reply: &Reply, form: ReplyForm, cap: u32) -> Option<String> {
    if reply.finish == Finish::Length {
        return Some(format!(
            "the answer was cut off at {cap} tokens; raise max_output_tokens in the config"
        ));
    }
    let parsed = parse::parse(&reply.content, form, Category::CodeDevelopment);
    parsed.err().map(|problem| format!("the answer cannot be used: {problem}"))
}

#[cfg(test)]
mod tests {
    use tribunal_evidence::{Tokenizer as _, Vocabulary, tokens::DEFAULT_VOCABULARY};

    use super::*;

    #[test]
    fn the_shared_part_is_long_enough_to_be_cached() {
        let vocabulary = Vocabulary::named(DEFAULT_VOCABULARY).expect("embedded");
        let tokens = vocabulary.count(SYSTEM) + vocabulary.count(&shared());
        assert!((1_300..2_000).contains(&tokens), "{tokens}");
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let failure = |class, status, retry_after| CallFailure {
            class,
            status,
            message: String::new(),
            retry_after,
            request_id: None,
            usage: Usage::default(),
            reached: true,
            simulated: false,
            limits: None,
        };
        let seconds = |n| Some(Duration::from_secs(n));
        use FailureClass::{Account, BadRequest, Throttled, Transient};
        assert_eq!(wait(&failure(Throttled, Some(429), seconds(3))), seconds(3));
        assert_eq!(wait(&failure(Throttled, Some(429), seconds(60))), None);
        assert_eq!(wait(&failure(Transient, Some(503), None)), Some(WAIT));
        assert_eq!(wait(&failure(Transient, None, None)), None);
        assert_eq!(wait(&failure(Account, Some(401), None)), None);
        assert_eq!(wait(&failure(BadRequest, Some(400), None)), None);
    }
}
