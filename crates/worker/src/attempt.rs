//! One claim of one leaf, from its question to an end.
//!
//! Owns the order of question, call and reply. How a question is sent is `ask`'s, what a failed call
//! does `failed`'s, how files are chosen for the leaf `choose`'s. It writes nothing to the store; the
//! end it returns is the outbox's to record.

mod ask;
mod choose;
mod cut;
mod failed;
mod post;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tribunal_core::{
    Attempt, BlobHash, CallKind, Category, FailureClass, LeafTask, Outcome, ReplyForm,
    UngradedReason, Verdict, VerdictSource, Via,
    event::Event,
    ids::TaskKey,
    verdict::{Rationale, Shown, Suspicion},
};
use tribunal_store::{Claim, Reusable};

use self::{
    ask::{NotAsked, OwnMessages},
    choose::{Chosen, NoFiles},
    post::PostedQuestion,
};
use crate::{
    batcher::Batcher,
    parse::{self, Parsed},
    pool::EventSink,
    provider::{Finish, Reply},
    recorded::ContextError,
    retry::{RetryBudget, RetryPolicy},
    rule,
    run_context::{RunContext, Shared},
    trace,
};

/// How a claim ended.
#[derive(Debug)]
pub enum End {
    /// With a verdict, graded or ungraded.
    Verdict(Arc<Verdict>),
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
    /// Posted in a batch: the store has recorded it already, calls included.
    Posted,
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
    /// The last call's place among the pool's: free when its end is stored, so that a kill loses no
    /// more answers than calls may be in flight.
    pub call_place: Option<OwnedSemaphorePermit>,
}

/// What an attempt works with.
pub(crate) struct Asker<'a> {
    /// The run.
    pub run: &'a RunContext,
    /// How patiently.
    pub policy: &'a RetryPolicy,
    /// The pool's retries.
    pub budget: &'a RetryBudget,
    /// The pool's calls in flight: one permit each.
    pub calls: &'a Arc<Semaphore>,
    /// Where questions are posted that go by the batch API.
    pub batcher: &'a Arc<Batcher>,
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
    /// The reply of a batch that the claim brought, until it is read.
    answered: Option<PostedQuestion>,
    task: TaskKey,
    category: Category,
    attempts: Vec<Attempt>,
    /// When the leaf is given up.
    deadline: Option<Instant>,
    /// Transient failures, those of earlier claims included.
    failures: u32,
    /// Refusals of the account before this attempt.
    refusals: u32,
    /// Calls that reached nobody, while nobody has ever answered.
    unreached: u32,
    /// The way that the last call failed on.
    failed_on: Option<usize>,
    /// Whether the last call was to show if a failing endpoint answers again.
    probed: bool,
    shrunk: bool,
    form: ReplyForm,
    /// Hash of the last question, repairs left out.
    prompt: Option<BlobHash>,
    /// What the last question showed.
    shared: Option<Arc<Shared>>,
    /// The files that it showed this leaf, where they were chosen for it.
    chosen: Option<Chosen>,
    /// Whether the judge was asked again for quotes that exist.
    asked_for_evidence: bool,
    /// Bad replies with the question that followed each.
    repairs: Vec<(String, String)>,
    simulated: bool,
    /// The place of the last call among the pool's.
    call_place: Option<OwnedSemaphorePermit>,
}

// === impl Asker ===

impl Asker<'_> {
    /// Asks the judge about the claimed leaf until there is an end.
    ///
    /// # Errors
    ///
    /// The run's record or the store cannot be used; the leaf is not to blame.
    pub(crate) async fn attempt(&self, claim: &Claim) -> Result<Attempted, ContextError> {
        let task = TaskKey {
            run: claim.run.clone(),
            position: claim.task.position,
            sample: claim.task.sample,
        };
        let mut turn = Turn {
            asker: self,
            claim,
            answered: PostedQuestion::of(claim),
            task,
            category: claim.task.category,
            attempts: Vec::new(),
            deadline: self
                .policy
                .leaf_deadline
                .map(|d| Instant::now() + d.saturating_sub(claim.age)),
            failures: claim.failures,
            refusals: self.run.health.refusals(),
            unreached: 0,
            failed_on: None,
            probed: false,
            shrunk: false,
            form: self.run.form(),
            prompt: None,
            shared: None,
            chosen: None,
            asked_for_evidence: false,
            repairs: Vec::new(),
            simulated: false,
            call_place: None,
        };
        let mut end = match (&claim.task.rule, &claim.reusable) {
            (Some(rule), _) => turn.by_rule(rule),
            // What is answered is paid for.
            (None, Some(reusable)) if turn.answered.is_none() => turn.reused(reusable),
            (None, _) => turn.ask_until_end().await?,
        };
        match &mut end {
            End::Pause { .. } => self.run.health.refused(),
            End::Verdict(_) | End::Posted => turn.forget_own_group(),
            End::Retry { delay, .. } => *delay = turn.before_deadline(*delay),
            End::Dead { .. } | End::Release => {}
        }
        if matches!(end, End::Release | End::Pause { .. }) {
            // The next claim brings the batch's reply again.
            turn.attempts.retain(|attempt| attempt.via == Via::Live);
        }
        Ok(Attempted { end, attempts: turn.attempts, call_place: turn.call_place })
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

    /// Which of its judge's votes on the leaf this is, from 0.
    fn vote(&self) -> u32 {
        self.asker.run.run.spec.ballot().own_sample(self.claim.task.sample)
    }

    /// The verdict of another run with the same content key, as this leaf's.
    fn reused(&self, reusable: &Reusable) -> End {
        let Reusable { run, verdict } = reusable;
        let source = match &verdict.source {
            // It was taken over there too: what counts is who asked.
            source @ VerdictSource::Reused { .. } => source.clone(),
            _ => VerdictSource::Reused { run: run.to_string() },
        };
        let LeafTask { position, sample, ref id, .. } = self.claim.task;
        let verdict = Verdict { position, sample, id: id.clone(), source, ..verdict.clone() };
        End::Verdict(Arc::new(verdict))
    }

    async fn ask_until_end(&mut self) -> Result<End, ContextError> {
        let run = self.asker.run;
        let Some((rubric, index)) = run.run.leaf(self.claim.task.position) else {
            let error = "the run's rubric has no node at this position".to_owned();
            return Ok(End::Dead { class: FailureClass::Internal, error });
        };
        loop {
            let posted = self.answered.as_ref().map(|posted| posted.form);
            self.form = posted.unwrap_or_else(|| run.form());
            let shared = run.shared(self.category, self.shrunk).await?;
            self.shared = Some(Arc::clone(&shared));
            match self.choose(&shared, rubric, index).await {
                Ok(()) => {}
                Err(NoFiles::Shrunk) => continue,
                Err(NoFiles::End(end)) => return Ok(*end),
                Err(NoFiles::Context(error)) => return Err(error),
            }
            let prompts = run.run.prompts_about(rubric, self.form);
            let chosen = self.chosen.as_ref().map(|chosen| &chosen.files.selected);
            let files = chosen.map_or(&[][..], |selected| &selected.files);
            let leaf = prompts.leaf(index, files).map_err(unusable)?;
            // Files are most of the message, and were counted when they were chosen.
            let first_tokens = match chosen {
                Some(selected) => {
                    let rest = prompts.leaf(index, &[]).map_err(unusable)?;
                    Some(run.meter.tokens(&rest) + selected.tokens as u64)
                }
                None => None,
            };
            self.prompt = Some(shared.prompt_hash(&leaf));
            let repairs = std::mem::take(&mut self.repairs);
            let kind = if repairs.is_empty() { CallKind::Judge } else { CallKind::Repair };
            let group = self.chosen.as_ref().map(|chosen| Arc::clone(&chosen.group));
            let group = group.as_deref();
            let own = OwnMessages { kind, group, first: &leaf, first_tokens, repairs: &repairs };
            let asked = match self.answered.take() {
                Some(posted) => self.reply_of(posted).await.map_err(NotAsked::Context),
                // What has to be mended is asked live.
                None if self.claim.via == Via::Batch && repairs.is_empty() && !self.shrunk => {
                    return self.post(&shared, own).await;
                }
                None => self.ask(&shared, own).await,
            };
            self.repairs = repairs;
            let end = match asked {
                Ok(Ok(reply)) => self.read(reply)?,
                Ok(Err(failure)) => self.failed(failure).await,
                Err(NotAsked::End(end)) => return Ok(*end),
                Err(NotAsked::Context(error)) => return Err(error),
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
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
            let repair = run.run.repair(&problem, self.category, false)?;
            self.repairs.push((shown_again(&reply.content), repair));
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
        End::Verdict(Arc::new(Verdict {
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
            suspected_injection: self.suspicions(),
            graded_ms: now_ms(),
        }))
    }

    /// The quotes marked as standing in what was shown, or not.
    fn verified(&self, mut parsed: Parsed) -> Parsed {
        if let Some(shared) = &self.shared {
            let own = self.chosen.as_ref().map(|chosen| &chosen.files.texts);
            shared.texts.verify(own, &mut parsed.rationale.evidence);
        }
        parsed
    }

    /// Text shown that addresses the judge.
    fn suspicions(&self) -> Vec<Suspicion> {
        let shared = self.shared.iter().flat_map(|shared| &shared.suspicions);
        let chosen = self.chosen.iter().flat_map(|chosen| &chosen.files.suspicions);
        shared.chain(chosen).cloned().collect()
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
            selected: self
                .chosen
                .as_ref()
                .map_or_else(Vec::new, |c| c.files.selected.paths.clone()),
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
        let latency = self.attempts.last().map_or(0, |last| last.latency_ms);
        self.report(Duration::from_millis(latency));
    }

    /// Says how the last call ended.
    fn report(&self, latency: Duration) {
        let Some(attempt) = self.attempts.last() else { return };
        trace::call_ended(self.attempts.len(), attempt);
        self.asker.events.event(Event::CallEnded {
            task: self.task.clone(),
            kind: attempt.kind,
            via: attempt.via,
            class: attempt.class,
            usage: attempt.usage,
            latency,
            cost_usd: attempt.cost_usd,
            simulated: self.simulated,
        });
    }
}

/// Characters of a bad reply that the judge is shown again.
const SHOWN_OF_BAD_REPLY: usize = 4_000;

/// A bad reply as the judge is shown it again: a long answer that was cut off is no use to it, nor its
/// price.
fn shown_again(content: &str) -> String {
    content.chars().take(SHOWN_OF_BAD_REPLY).collect()
}

fn unusable(error: impl std::fmt::Display) -> ContextError {
    ContextError::Unusable(error.to_string())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
