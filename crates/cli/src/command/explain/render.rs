//! The document of `tribunal explain` as text.
//!
//! Owns its layout. All of it that a rubric, a submission or a judge wrote is passed through
//! `sanitize` first, in one place.

use std::fmt::Write as _;

use tribunal_collector::{
    sanitize, sanitize_line,
    text::{duration, thousands},
};
use tribunal_core::{Category, RunState, Usage};

use super::document::{
    ExplainDocument, LeafState,
    parts::{AttemptDocument, QuoteDocument, RationaleDocument, ShownDocument},
};
use crate::command::evidence::{cut_lines, file_lines};

/// The whole text; `prompt` and `reply` say whether these were asked for.
pub(super) fn render(document: &ExplainDocument, prompt: bool, reply: bool) -> String {
    let mut text = head(document);
    text.push_str(&outcome(document));
    text.push_str(&votes(document));
    if let Some(rationale) = &document.rationale {
        text.push_str(&reasoning(rationale));
    }
    if !document.suspected_injection.is_empty() {
        text.push_str("\nText that addresses the judge; the verdict may not be its own\n");
        for suspicion in &document.suspected_injection {
            let _ = writeln!(text, "  {}:{}", sanitize_line(&suspicion.file), suspicion.line);
            push_block(&mut text, "      | ", &suspicion.text);
        }
    }
    if let Some(shown) = &document.shown {
        text.push_str(&evidence(shown, document.category));
    }
    text.push_str(&attempts(document));
    text.push_str(&hashes(document));
    if prompt {
        text.push_str(&question(document));
    }
    if reply {
        match &document.reply {
            Some(reply) => {
                text.push_str("\nReply\n");
                push_block(&mut text, "  ", reply);
            }
            None => text.push_str("\nReply: none was recorded\n"),
        }
    }
    sanitize(&text)
}

fn head(document: &ExplainDocument) -> String {
    let mut text = String::new();
    let leaf = match (document.leaf, document.canary_expected) {
        (Some(leaf), _) => format!("leaf #{leaf}"),
        (None, Some(_)) => "canary".to_owned(),
        (None, None) => format!("the group at position {}, graded as one", document.position),
    };
    let simulated = if document.simulated { " (simulated)" } else { "" };
    let _ = writeln!(text, "{leaf} `{}` of run {}", sanitize_line(&document.id), document.run);
    let _ = writeln!(text, "judge {}, model {}{simulated}\n", document.judge, document.model);
    for (depth, crumb) in document.breadcrumb.iter().enumerate() {
        push_block(&mut text, &"  ".repeat(depth), &crumb.requirements);
    }
    text.push_str("\nCriterion\n");
    push_block(&mut text, "  ", &document.requirements);
    let fine = document.fine_category.as_ref().map_or(String::new(), |fine| format!(" ({fine})"));
    let (weight, share) = (document.weight, document.share * 100.0);
    let category = document.category;
    let _ = match document.canary_expected {
        Some(right) => {
            writeln!(
                text,
                "  {category}, planted: the only right score is {right}; counts in no score"
            )
        }
        None => {
            writeln!(text, "  {category}{fine}, weight {weight}, {share:.2}% of the root")
        }
    };
    text
}

/// Every vote, where there are several; the one that speaks for the leaf is marked.
fn votes(document: &ExplainDocument) -> String {
    if document.votes.is_empty() {
        return String::new();
    }
    let mut text = "\nVotes\n".to_owned();
    for vote in &document.votes {
        let mark = if vote.sample == document.sample { '*' } else { ' ' };
        let said = match (vote.score, vote.reason) {
            (Some(score), _) => score.to_string(),
            (None, Some(reason)) => reason.name().to_owned(),
            (None, None) => String::new(),
        };
        let weight = match vote.weight {
            1.0 => String::new(),
            weight => format!(", weighs {weight:.3}"),
        };
        let (number, judge) = (vote.sample + 1, sanitize_line(&vote.judge));
        let _ = writeln!(
            text,
            "  {mark} {number} {judge}{weight}: {said}  {}",
            sanitize_line(&vote.explanation)
        );
    }
    text
}

fn outcome(document: &ExplainDocument) -> String {
    let mut text = "\nOutcome\n".to_owned();
    let reason = document.reason.map_or("", |reason| reason.name());
    let _ = match (document.state, document.score) {
        (LeafState::Graded, Some(score)) => writeln!(text, "  score {score}"),
        (LeafState::Graded | LeafState::Ungraded, _) => writeln!(text, "  ungraded: {reason}"),
        (LeafState::Pending, _) => {
            writeln!(text, "  pending: it waits for a worker, or is in work")
        }
        (LeafState::Dead, _) => {
            let class = document.class.map_or(String::new(), |class| format!(", class {class}"));
            writeln!(text, "  given up: {reason}{class}; `tribunal retry` puts it back")
        }
        (LeafState::Cancelled, _) => writeln!(text, "  cancelled with its run"),
        (LeafState::NotQueued, _) => {
            writeln!(text, "  not queued: the same `tribunal submit` again completes the queue")
        }
    };
    if let Some(detail) = &document.detail {
        push_block(&mut text, "  ", detail);
    }
    if document.state == LeafState::Pending && document.run_state == RunState::Paused {
        let reason = document.run_reason.as_deref().unwrap_or("nobody said why");
        let _ = writeln!(text, "  the run is paused: {reason}");
    }
    let at = document.graded_at.as_ref().map_or(String::new(), |at| format!(" at {at}"));
    let by = match document.decided_by {
        Some("rule") => format!("the rule {}", document.rule.as_deref().unwrap_or_default()),
        Some("reused") => {
            format!("an earlier verdict, of run {}", document.reused_from.as_deref().unwrap_or("?"))
        }
        Some(_) => format!("the judge {}", document.answered_by.as_deref().unwrap_or_default()),
        None => return text,
    };
    let _ = writeln!(text, "  decided by {by}{at}");
    text
}

fn reasoning(rationale: &RationaleDocument) -> String {
    let mut text = String::new();
    for (title, words) in [
        ("Expectations", &rationale.expectations),
        ("Reality", &rationale.reality),
        ("Explanation", &rationale.explanation),
    ] {
        if !words.trim().is_empty() {
            let _ = writeln!(text, "\n{title}");
            push_block(&mut text, "  ", words);
        }
    }
    if let Some(confidence) = rationale.confidence {
        let _ = writeln!(text, "\nConfidence {confidence}");
    }
    if !rationale.evidence.is_empty() {
        text.push_str("\nEvidence quoted by the judge\n");
    }
    for QuoteDocument { file, lines, quote, verified } in &rationale.evidence {
        let mark = match verified {
            Some(true) => "verified",
            Some(false) => "not found",
            None => "not checked",
        };
        let lines = if lines.is_empty() { String::new() } else { format!(":{lines}") };
        let _ = writeln!(text, "  [{mark}] {}", sanitize_line(&format!("{file}{lines}")));
        push_block(&mut text, "      | ", quote);
    }
    text
}

fn evidence(shown: &ShownDocument, category: Category) -> String {
    let mut text = format!("\nShown for {category}");
    if let Some(tokens) = shown.tokens {
        let _ = write!(text, ", {} tokens", thousands(tokens as u64));
    }
    if let Some(form) = shown.reply_form {
        let _ = write!(text, ", asked for {}", form.name());
    }
    text.push('\n');
    if shown.shrunk {
        text.push_str("  shrunk: the judge's context was smaller than expected\n");
    }
    if !shown.parts.is_empty() {
        let _ = writeln!(text, "  with {}", shown.parts.join(", "));
    }
    text.push_str(&cut_lines(&shown.cuts));
    if let Some(method) = shown.selection {
        let whom = if method.is_shared() { "the leaves of its parent" } else { "this leaf" };
        let files = match shown.selected.is_empty() {
            true => "none".to_owned(),
            false => sanitize_line(&shown.selected.join(", ")),
        };
        let _ = writeln!(text, "  chosen for {whom} ({method}): {files}");
    }
    text.push_str(&file_lines(&shown.files));
    text
}

fn attempts(document: &ExplainDocument) -> String {
    if document.attempts.is_empty() {
        return "\nNo calls\n".to_owned();
    }
    let mut text = "\nCalls\n".to_owned();
    for (number, attempt) in document.attempts.iter().enumerate() {
        text.push_str(&call(number + 1, attempt));
    }
    let (tokens, cost) = (tokens(&document.usage), cost(document.cost_usd));
    let _ = writeln!(text, "  together {tokens}, {cost}");
    text
}

fn call(number: usize, attempt: &AttemptDocument) -> String {
    let class = attempt.class.map_or("usable", |class| class.name());
    let status = attempt.status.map_or("no answer".to_owned(), |status| status.to_string());
    let request = attempt.request_id.as_ref().map_or(String::new(), |id| format!(", id {id}"));
    let mut text = format!(
        "  {number}. {}: {class} ({status}), waited {}, took {}, {}, {}{request}\n",
        attempt.kind,
        duration(attempt.waited_ms),
        duration(attempt.latency_ms),
        tokens(&attempt.usage),
        cost(attempt.cost_usd),
    );
    if let Some(endpoint) = &attempt.endpoint {
        push_block(&mut text, "     ", &format!("at {endpoint}"));
    }
    if let Some(possible) = &attempt.possible {
        let most =
            format!("may have used {}, {}", tokens(&possible.usage), cost(possible.cost_usd));
        push_block(&mut text, "     ", &most);
    }
    if let Some(error) = &attempt.error {
        push_block(&mut text, "     ", error);
    }
    text
}

fn tokens(usage: &Usage) -> String {
    let cached = match usage.cached {
        0 => String::new(),
        cached => format!(" ({} cached)", thousands(cached)),
    };
    format!("{}{cached} + {} tokens", thousands(usage.input), thousands(usage.output))
}

fn cost(usd: Option<f64>) -> String {
    usd.map_or("price unknown".to_owned(), |usd| format!("${usd:.4}"))
}

fn hashes(document: &ExplainDocument) -> String {
    let mut text = "\nHashes\n".to_owned();
    let hashes = &document.hashes;
    for (name, hash) in [
        ("content key", hashes.content_key.as_deref()),
        ("evidence", hashes.evidence.as_deref()),
        ("prompt", hashes.prompt.as_deref()),
        ("prompt set", Some(hashes.prompt_set.as_str())),
        ("rubric", Some(hashes.rubric.as_str())),
        ("submission", Some(hashes.submission.as_str())),
    ] {
        if let Some(hash) = hash {
            let _ = writeln!(text, "  {name:<12} {hash}");
        }
    }
    text
}

fn question(document: &ExplainDocument) -> String {
    let Some(messages) = &document.prompt else {
        return "\nPrompt: none, a rule decided\n".to_owned();
    };
    let mut text = "\nPrompt\n".to_owned();
    for message in messages {
        let _ = writeln!(text, "--- {} ---", message.role);
        push_block(&mut text, "", &message.content);
    }
    let repaired = document.attempts.iter().any(|attempt| attempt.kind == "repair");
    if repaired {
        text.push_str("(the judge was then asked again, after an answer that could not be used)\n");
    }
    text
}

/// The text's lines, each behind `indent`.
fn push_block(text: &mut String, indent: &str, block: &str) {
    for line in block.trim_end().lines() {
        let _ = writeln!(text, "{}", format!("{indent}{line}").trim_end());
    }
}
