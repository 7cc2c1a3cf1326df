//! The check against endpoints of every temper.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tribunal_worker::provider::{self, CallFailure, Finish, Message, Question, Reply};

use super::*;
use crate::config::Config;

/// An endpoint that answers as a closure wants, and remembers how it was asked.
struct Fake<F> {
    answer: F,
    asked: Mutex<Vec<(ReplyForm, String)>>,
}

type Answer = Result<Reply, CallFailure>;

#[async_trait]
impl<F: Fn(&JudgeSpec, usize) -> Answer + Send + Sync> Provider for Fake<F> {
    fn prefix(&self, _: &JudgeSpec, _: &[Message<'_>]) -> Bytes {
        Bytes::new()
    }

    fn parameters(
        &self,
        _: &JudgeSpec,
        _: ReplyForm,
        _: provider::Answer,
        _: &BTreeMap<String, String>,
    ) -> Bytes {
        Bytes::new()
    }

    async fn ask(&self, question: &Question<'_>) -> Answer {
        let mut asked = self.asked.lock().expect("not poisoned");
        asked.push((question.judge.reply_form, question.judge.output_cap_field.clone()));
        (self.answer)(question.judge, asked.len())
    }
}

fn reply(content: &str) -> Reply {
    Reply {
        content: content.to_owned(),
        finish: Finish::Stop,
        model: "model-2026".to_owned(),
        usage: Usage { input: 1_500, cached: 1_408, output: 20 },
        reports_usage: true,
        reports_cached: true,
        simulated: false,
        status: 200,
        request_id: None,
        limits: None,
    }
}

fn verdict(form: ReplyForm) -> Reply {
    match form {
        ReplyForm::Text => reply("# Explanation\nIt adds.\n\n# Score\n1"),
        _ => reply(&json!({"explanation": "It adds.", "score": 1}).to_string()),
    }
}

fn failure(class: FailureClass, status: Option<u16>, message: &str) -> CallFailure {
    CallFailure {
        class,
        status,
        message: message.to_owned(),
        retry_after: Some(Duration::ZERO),
        request_id: None,
        usage: Usage::default(),
        reached: status.is_some(),
        simulated: false,
        limits: None,
    }
}

/// The document, the exit and the calls of a check of this endpoint.
async fn check(
    answer: impl Fn(&JudgeSpec, usize) -> Answer + Send + Sync,
) -> (serde_json::Value, Exit, Vec<(ReplyForm, String)>) {
    let config = Config::load(None, &[]).expect("the defaults are valid");
    let judge = config.adhoc_judge("http://127.0.0.1:1/v1", "some-model").expect("a judge");
    let fake = Fake { answer, asked: Mutex::default() };
    let findings = findings(&fake, &judge.spec).await;
    let document = findings.document(&judge.spec, &judge.facts).expect("a document");
    assert!(render(&document).contains("some-model"));
    let document = serde_json::to_value(document).expect("JSON");
    (document, findings.exit(), fake.asked.into_inner().expect("not poisoned"))
}

#[tokio::test]
async fn what_works_is_suggested_in_order() {
    let (document, exit, asked) = check(|judge, _| match judge.reply_form {
        ReplyForm::JsonSchema => {
            Err(failure(FailureClass::BadRequest, Some(400), "no response_format"))
        }
        form => Ok(verdict(form)),
    })
    .await;
    assert_eq!(exit, Exit::Complete);
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert_eq!(asked[3].0, ReplyForm::JsonObject);
    assert_eq!(document["forms"]["json_schema"]["class"], "bad_request");
    assert_eq!(document["forms"]["json_schema"]["works"], false);
    assert_eq!(document["forms"]["text"]["works"], true);
    assert_eq!(document["model_answered"], "model-2026");
    assert_eq!(document["cached_tokens_reported"], true);
    assert_eq!(document["cached_tokens"], 1_408);
    let suggestion = document["suggestion"].as_str().expect("text");
    assert!(suggestion.contains("reply_forms = [\"json_object\", \"text\"]"), "{suggestion}");
}

#[tokio::test]
async fn the_cap_is_tried_under_its_other_name() {
    let (document, exit, asked) = check(|judge, _| match judge.output_cap_field.as_str() {
        "max_tokens" => Err(failure(
            FailureClass::BadRequest,
            Some(400),
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.",
        )),
        _ => Ok(verdict(judge.reply_form)),
    })
    .await;
    assert_eq!(exit, Exit::Complete);
    // One refusal, then the other name for all.
    let caps: Vec<&str> = asked.iter().map(|(_, cap)| cap.as_str()).collect();
    let other = "max_completion_tokens";
    assert_eq!(caps, ["max_tokens", other, other, other, other]);
    let suggestion = document["suggestion"].as_str().expect("text");
    assert!(suggestion.contains("output_cap_field = \"max_completion_tokens\""), "{suggestion}");
}

#[tokio::test]
async fn an_account_that_is_refused_is_asked_once() {
    let refused = |status, message: &'static str| {
        move |_: &JudgeSpec, _| Err(failure(FailureClass::Account, Some(status), message))
    };
    let (document, exit, asked) = check(refused(401, "wrong key")).await;
    assert_eq!((exit, asked.len()), (Exit::Refused, 1));
    assert_eq!(document["forms"]["json_schema"]["message"], "wrong key");
    assert_eq!(document["forms"]["text"]["latency_ms"], serde_json::Value::Null);
    assert_eq!((&document["reachable"], &document["suggestion"]), (&json!(true), &json!("")));
    assert_eq!(document["cached_tokens_reported"], serde_json::Value::Null);
    // Some routers say 404 to a form that no provider of the model takes.
    let (_, exit, asked) = check(refused(404, "no such model")).await;
    assert_eq!((exit, asked.len()), (Exit::Refused, 3));
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_called_once() {
    let (document, exit, asked) =
        check(|_, _| Err(failure(FailureClass::Transient, None, "cannot connect"))).await;
    assert_eq!((exit, asked.len()), (Exit::Refused, 1));
    assert_eq!(document["reachable"], false);
}

#[tokio::test]
async fn answers_that_cannot_be_used_fail_the_check() {
    let (document, exit, _) = check(|_, _| Ok(reply("It looks fine to me."))).await;
    assert_eq!(exit, Exit::CheckFailed);
    assert_eq!(document["forms"]["text"]["class"], serde_json::Value::Null);
    let said = document["forms"]["json_object"]["message"].as_str().expect("why");
    assert!(said.starts_with("the answer cannot be used: "), "{said}");
    let (document, exit, _) =
        check(|_, _| Ok(Reply { finish: Finish::Length, ..reply("{\"score\"") })).await;
    assert_eq!(exit, Exit::CheckFailed);
    let said = document["forms"]["json_schema"]["message"].as_str().expect("why");
    assert!(said.contains("cut off at 2048 tokens"), "{said}");
}

#[tokio::test]
async fn a_throttled_call_is_made_again() {
    let (document, exit, asked) = check(|judge, call| match call {
        1 => Err(failure(FailureClass::Throttled, Some(429), "slow down")),
        _ => Ok(verdict(judge.reply_form)),
    })
    .await;
    assert_eq!((exit, asked.len()), (Exit::Complete, 5));
    assert_eq!(document["forms"]["json_schema"]["works"], true);
}
