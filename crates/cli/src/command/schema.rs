//! `tribunal schema COMMAND`: the JSON Schema of a command's document.
//!
//! Owns the list of documents. The schemas are generated from the types that are printed.

use clap::Args;
use schemars::{Schema, schema_for};
use serde_json::{Value, json};
use tribunal_audit::{AuditDocument, sheet::Sheet};
use tribunal_collector::{compare::Comparison, results::ResultsTable};
use tribunal_tune::document::TuneDocument;

use crate::{
    batch::document::BatchDocument,
    calibration::CalibratedDocument,
    command::{
        control::ControlDocument,
        evidence::EvidenceDocument,
        explain::document::ExplainDocument,
        judge::check::JudgeCheckDocument,
        plan::{BatchPlanDocument, PlanDocument},
        prompt::{PromptCheckDocument, PromptDocument},
        report::ReportDocument,
        serve::ServeDocument,
        status::StatusDocument,
        store::{
            StoreCheckDocument, StoreInitDocument, StoreMoveDocument, StorePruneDocument,
            StoreVacuumDocument,
        },
        submit::SubmitDocument,
        work::WorkDocument,
        workers::{DrainDocument, WorkersDocument},
    },
    config::document::{ConfigCheck, ConfigShow},
    document::{RescoreDocument, RubricCheckDocument, RubricShowDocument},
    exit::Exit,
    output,
};

/// Arguments of `tribunal schema`.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// The command, such as `grade` or `rubric show`; lists them all without
    command: Vec<String>,
}

fn documents() -> Vec<(&'static str, Schema)> {
    vec![
        ("rubric show", schema_for!(RubricShowDocument)),
        ("rubric check", schema_for!(RubricCheckDocument)),
        ("rescore", schema_for!(RescoreDocument)),
        ("prompt", schema_for!(PromptDocument)),
        ("prompt check", schema_for!(PromptCheckDocument)),
        ("plan", schema_for!(PlanDocument)),
        ("grade", schema_for!(CalibratedDocument)),
        ("collect", schema_for!(CalibratedDocument)),
        ("batch", schema_for!(BatchDocument)),
        ("batch plan", schema_for!(BatchPlanDocument)),
        ("submit", schema_for!(SubmitDocument)),
        ("work", schema_for!(WorkDocument)),
        ("status", schema_for!(StatusDocument)),
        ("pause", schema_for!(ControlDocument)),
        ("resume", schema_for!(ControlDocument)),
        ("cancel", schema_for!(ControlDocument)),
        ("retry", schema_for!(ControlDocument)),
        ("weight", schema_for!(ControlDocument)),
        ("priority", schema_for!(ControlDocument)),
        ("workers", schema_for!(WorkersDocument)),
        ("drain", schema_for!(DrainDocument)),
        ("store init", schema_for!(StoreInitDocument)),
        ("store check", schema_for!(StoreCheckDocument)),
        ("store move", schema_for!(StoreMoveDocument)),
        ("store vacuum", schema_for!(StoreVacuumDocument)),
        ("store prune", schema_for!(StorePruneDocument)),
        ("table", schema_for!(ResultsTable)),
        ("compare", schema_for!(Comparison)),
        ("explain", schema_for!(ExplainDocument)),
        ("audit", schema_for!(AuditDocument)),
        ("audit next", schema_for!(Sheet)),
        ("tune", schema_for!(TuneDocument)),
        ("report", schema_for!(ReportDocument)),
        ("serve", schema_for!(ServeDocument)),
        ("evidence", schema_for!(EvidenceDocument)),
        ("judge check", schema_for!(JudgeCheckDocument)),
        ("config show", schema_for!(ConfigShow)),
        ("config check", schema_for!(ConfigCheck)),
    ]
}

/// Runs `tribunal schema`.
///
/// # Errors
///
/// No command with this name prints a document.
pub(crate) fn run(args: SchemaArgs) -> anyhow::Result<Exit> {
    let documents = documents();
    let name = args.command.join(" ");
    if name.is_empty() {
        let names: Vec<&str> = documents.iter().map(|(name, _)| *name).collect();
        output::print_text(&format!("{}\n", names.join("\n")))?;
        return Ok(Exit::Complete);
    }
    let Some((_, schema)) = documents.iter().find(|(known, _)| *known == name) else {
        anyhow::bail!("no document of `{name}`; `tribunal schema` lists them");
    };
    output::print_text(&format!("{}\n", serde_json::to_string_pretty(&named(&name, schema))?))?;
    Ok(Exit::Complete)
}

/// The document's schema with the `schema` field that every document begins with.
fn named(command: &str, schema: &Schema) -> Value {
    let mut value = schema.as_value().clone();
    let tag = json!({"type": "string", "const": format!("tribunal.{command}/1")});
    if let Some(properties) = value.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("schema".to_owned(), tag);
    }
    if let Some(required) = value.get_mut("required").and_then(Value::as_array_mut) {
        required.insert(0, json!("schema"));
    }
    value
}
