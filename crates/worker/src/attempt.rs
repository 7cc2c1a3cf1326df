//! One claim of one leaf, from its question to an end.
//!
//! Owns the order of question, call and reply. What a failed call does is `failed`'s. It writes
//! nothing to the store; the end it returns is the outbox's to record.

mod failed;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use tribunal_core::{
    Attempt, BlobHash, CallKind, Category, FailureClass, Outcome, ReplyForm, UngradedReason, Usage,
    Verdict, VerdictSource,
    event::Event,
    ids::TaskKey,
    verdict::{Rationale, Shown},
};
use tribunal_store::Claim;

use crate::{
    parse::{self, Parsed},
    pool::EventSink,
    provider::{CallFailure, Finish, Message, Question, Reply},
    recorded::ContextError,
    retry::{RetryBudget, RetryPolicy},
    rule,
    run_context::{RunContext, Shared},
};

/// How a claim ended.
#[derive(Debug)]
pub enum End {
    /// With a verdict, graded or ungraded.
    Verdict(Box<Verdict>),
    /// Back to the queue.
    Retry {
        /// Why.
        class: FailureClass,
        /// Not to be claimed before.
        delay: Duration,
        /// Failures charged to the leaf.
        charged: u32,
        /// The last message.
        error: String,
    },
    /// Given up.
    Dead {
        /// Why.
        class: FailureClass,
        /// The last message.
        error: String,
    },
    /// Given back without a charge: stopped, cancelled or lost.
    Release,
    /// Given back without a charge, and the run is to pause.
    Pause {
        /// What the provider said, and what to do.
        reason: String,
    },
}

/// The end of a claim, with every call made under it.
#[derive(Debug)]
pub struct Attempted {
    /// How it ended.
    pub end: End,
    /// The calls, in order.
    pub attempts: Vec<Attempt>,
}

/// What an attempt works with.
pub struct Asker<'a> {
    /// The run.
    pub run: &'a RunContext,
    /// How patiently.
    pub policy: &'a RetryPolicy,
    /// The pool's retries.
    pub budget: &'a RetryBudget,
    /// The pool's calls in flight: one permit each.
    pub calls: &'a Semaphore,
    /// Where facts go.
    pub events: &'a dyn EventSink,
    /// Ends the attempt: the lease is lost or cancelled, or the pool stops at once.
    pub stop: &'a CancellationToken,
    /// The pool is to end: a call in flight may finish, a failed one is not tried again.
    pub drain: &'a CancellationToken,
}

/// The state of one attempt.
struct Turn<'a> {
    asker: &'a Asker<'a>,
    claim: &'a Claim,
    task: TaskKey,
    category: Category,
    attempts: Vec<Attempt>,
    /// Transient failures, those of earlier claims included.
    failures: u32,
    /// Refusals of the account before this attempt.
    refusals: u32,
    /// Calls that reached nobody, while nobody has ever answered.
    unreached: u32,
    shrunk: bool,
    form: ReplyForm,
    /// Hash of the last question, repairs left out.
    prompt: Option<BlobHash>,
    /// What the last question showed.
    shared: Option<Arc<Shared>>,
    /// Whether the judge was asked again for quotes that exist.
    asked_for_evidence: bool,
    /// Bad replies with the question that followed each.
    repairs: Vec<(String, String)>,
    simulated: bool,
}

// === impl Asker ===

impl Asker<'_> {
    /// Asks the judge about the claimed leaf until there is an end.
    ///
    /// # Errors
    ///
    /// The run's record or the store cannot be used; the leaf is not to blame.
    pub async fn attempt(&self, claim: &Claim) -> Result<Attempted, ContextError> {
        let task = TaskKey {
            run: claim.run.clone(),
            position: claim.task.position,
            sample: claim.task.sample,
        };
        let mut turn = Turn {
            asker: self,
            claim,
            task,
            category: claim.task.category,
            attempts: Vec::new(),
            failures: claim.failures,
            refusals: self.run.health.refusals(),
            unreached: 0,
            shrunk: false,
            form: self.run.form(),
            prompt: None,
            shared: None,
            asked_for_evidence: false,
            repairs: Vec::new(),
            simulated: false,
        };
        let end = match &claim.task.rule {
            Some(rule) => turn.by_rule(rule),
            None => turn.ask_until_end().await?,
        };
        if let End::Pause { .. } = end {
            self.run.health.refused();
        }
        Ok(Attempted { end, attempts: turn.attempts })
    }
}

// === impl Turn ===

impl Turn<'_> {
    fn by_rule(&self, rule: &str) -> End {
        let task = &self.claim.task;
        let Some((score, explanation)) = rule::decide(rule, task.position, task.sample) else {
            let error = format!("this tribunal does not know the rule `{rule}`; upgrade it");
            return End::Dead { class: FailureClass::Internal, error };
        };
        let rationale = Rationale { explanation, ..Rationale::default() };
        let source = VerdictSource::Rule { name: rule.to_owned() };
        let outcome = Outcome::Graded { score };
        self.verdict(outcome, source, rationale, self.asker.run.run.spec.judge.model.clone(), None)
    }

    async fn ask_until_end(&mut self) -> Result<End, ContextError> {
        let Asker { run, stop, drain, calls, .. } = *self.asker;
        let Some(index) = run.run.rubric.by_position(self.claim.task.position) else {
            let error = "the run's rubric has no node at this position".to_owned();
            return Ok(End::Dead { class: FailureClass::Internal, error });
        };
        loop {
            self.form = run.form();
            let leaf = run.run.prompts(self.form).leaf(index, &[]).map_err(unusable)?;
            let shared = run.shared(self.category, self.shrunk).await?;
            self.prompt = Some(shared.prompt_hash(&leaf));
            self.shared = Some(Arc::clone(&shared));
            let mut place = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Release),
                place = shared.warm.place() => place,
            };
            if run.health.refusals() != self.refusals {
                // Whoever went ahead was refused for all.
                return Ok(End::Release);
            }
            // More leaves are claimed than calls may be in flight. One that has not begun when
            // the pool is to end goes back as it is.
            let call = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Release),
                () = drain.cancelled(), if self.attempts.is_empty() => return Ok(End::Release),
                call = calls.acquire() => call,
            };
            let waited = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Release),
                waited = run.limiter.permit() => waited,
            };
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Release),
                asked = place.during(self.call(&shared, &leaf, waited)) => asked,
            };
            match &asked {
                Ok(_) => place.answered(),
                Err(failure) if failure.class == FailureClass::Refused => place.answered(),
                Err(_) => drop(place),
            }
            drop(call);
            let end = match asked {
                Ok(reply) => self.read(reply)?,
                Err(failure) => self.failed(failure).await,
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// Sends the question and records the call.
    async fn call(
        &mut self,
        shared: &Shared,
        leaf: &str,
        waited: Duration,
    ) -> Result<Reply, CallFailure> {
        let run = self.asker.run;
        let mut messages = vec![Message { role: "user", content: leaf }];
        for (answer, repair) in &self.repairs {
            messages.push(Message { role: "assistant", content: answer });
            messages.push(Message { role: "user", content: repair });
        }
        let fractional = self.category.is_fractional();
        let question = Question {
            judge: &run.run.spec.judge,
            form: self.form,
            prefix: shared.prefix.clone(),
            messages,
            fractional,
            cache_key: run.cache_key(shared),
        };
        let kind = if self.repairs.is_empty() { CallKind::Judge } else { CallKind::Repair };
        run.health.trying();
        let (start, started_ms) = (Instant::now(), now_ms());
        let asked = run.provider.ask(&question).await;
        let latency = start.elapsed();
        let attempt = match &asked {
            Ok(reply) => {
                run.health.succeeded();
                self.simulated |= reply.simulated;
                Attempt {
                    kind,
                    class: None,
                    status: Some(reply.status),
                    error: String::new(),
                    request_id: reply.request_id.clone(),
                    started_ms,
                    waited_ms: millis(waited),
                    latency_ms: millis(latency),
                    usage: reply.usage,
                }
            }
            Err(failure) => {
                if failure.reached {
                    run.health.reached();
                }
                self.simulated |= failure.simulated;
                Attempt {
                    kind,
                    class: Some(failure.class),
                    status: failure.status,
                    error: failure.message.clone(),
                    request_id: failure.request_id.clone(),
                    started_ms,
                    waited_ms: millis(waited),
                    latency_ms: millis(latency),
                    usage: failure.usage,
                }
            }
        };
        if asked.is_err() {
            self.report(&attempt, latency);
        }
        self.attempts.push(attempt);
        asked
    }

    /// A reply to a verdict, or to another question.
    fn read(&mut self, reply: Reply) -> Result<Option<End>, ContextError> {
        let Asker { run, policy, budget, .. } = *self.asker;
        let parsed = parse::parse(&reply.content, self.form, self.category);
        let parsed = parsed.map(|parsed| self.verified(parsed));
        let problem = match (parsed, reply.finish) {
            (Ok(parsed), Finish::Stop | Finish::Other) if self.lacks_evidence(&parsed) => {
                self.asked_for_evidence = true;
                "what it quotes as evidence does not stand in the file it names; quote lines \
                 exactly as they stand, or change the verdict"
                    .to_owned()
            }
            (Ok(parsed), Finish::Stop | Finish::Other) => {
                budget.earn();
                self.report_last(None, "");
                let Parsed { score, rationale } = parsed;
                let outcome = Outcome::Graded { score };
                let source = VerdictSource::Judge;
                let content = Some(reply.content);
                return Ok(Some(self.verdict(outcome, source, rationale, reply.model, content)));
            }
            (_, Finish::Length) => {
                let cap = run.run.spec.judge.max_output_tokens;
                format!("it was cut off at {cap} tokens; be shorter")
            }
            (Err(problem), _) => problem.0,
        };
        self.report_last(Some(FailureClass::BadReply), &problem);
        if self.repairs.len() < policy.bad_reply_attempts as usize {
            let repair = run.run.repair(&problem, self.category)?;
            // A long answer that was cut off is no use to the judge, nor its price.
            let shown: String = reply.content.chars().take(SHOWN_OF_BAD_REPLY).collect();
            self.repairs.push((shown, repair));
            return Ok(None);
        }
        let asked = self.repairs.len() + 1;
        let words = format!("no usable answer in {asked} tries; the last one: {problem}");
        let reason = UngradedReason::Unparseable;
        Ok(Some(self.ungraded(reason, words, reply.model, Some(reply.content))))
    }

    fn ungraded(
        &self,
        reason: UngradedReason,
        words: String,
        model: String,
        reply: Option<String>,
    ) -> End {
        let rationale = Rationale { explanation: words, ..Rationale::default() };
        let outcome = Outcome::Ungraded { reason };
        self.verdict(outcome, VerdictSource::Judge, rationale, model, reply)
    }

    fn verdict(
        &self,
        outcome: Outcome,
        source: VerdictSource,
        rationale: Rationale,
        model: String,
        reply: Option<String>,
    ) -> End {
        let task = &self.claim.task;
        End::Verdict(Box::new(Verdict {
            position: task.position,
            sample: task.sample,
            id: task.id.clone(),
            outcome,
            source,
            rationale,
            content_key: task.content_key,
            model,
            simulated: self.simulated || self.asker.run.run.spec.judge.is_builtin_sim(),
            reply,
            shown: self.shown(),
            suspected_injection: self
                .shared
                .as_ref()
                .map_or_else(Vec::new, |shared| shared.suspicions.clone()),
            graded_ms: now_ms(),
        }))
    }

    /// The quotes marked as standing in what was shown, or not.
    fn verified(&self, mut parsed: Parsed) -> Parsed {
        if let Some(shared) = &self.shared {
            shared.texts.verify(&mut parsed.rationale.evidence);
        }
        parsed
    }

    /// Whether the verdict is to be sent back for its quotes: once, where the run requires it.
    fn lacks_evidence(&self, parsed: &Parsed) -> bool {
        let quotes = &parsed.rationale.evidence;
        let unfounded = quotes.iter().any(|quote| quote.verified == Some(false));
        let none = parsed.score > 0.0 && quotes.is_empty() && self.form != ReplyForm::Text;
        self.asker.run.run.spec.require_evidence && !self.asked_for_evidence && (unfounded || none)
    }

    /// What the judge was shown; nothing where no judge was asked.
    fn shown(&self) -> Shown {
        if self.shared.is_none() {
            return Shown::default();
        }
        Shown {
            evidence: self.asker.run.run.spec.evidence.get(&self.category).copied(),
            shrunk: self.shrunk,
            selected: Vec::new(),
            reply_form: Some(self.form),
            prompt: self.prompt,
        }
    }

    /// Sets the last call's class, now that its reply was read, and reports it.
    fn report_last(&mut self, class: Option<FailureClass>, error: &str) {
        if let Some(last) = self.attempts.last_mut() {
            last.class = class;
            last.error = error.to_owned();
        }
        if let Some(last) = self.attempts.last() {
            self.report(last, Duration::from_millis(last.latency_ms));
        }
    }

    fn report(&self, attempt: &Attempt, latency: Duration) {
        let usage: Usage = attempt.usage;
        self.asker.events.event(Event::CallEnded {
            task: self.task.clone(),
            kind: attempt.kind,
            class: attempt.class,
            usage,
            latency,
            simulated: self.simulated,
        });
    }
}

/// Characters of a bad reply that the judge is shown again.
const SHOWN_OF_BAD_REPLY: usize = 4_000;

fn unusable(error: impl std::fmt::Display) -> ContextError {
    ContextError::Unusable(error.to_string())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
