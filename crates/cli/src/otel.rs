//! Traces to an OpenTelemetry collector, where the environment names one.
//!
//! Owns the exporter, and which trace a leaf is in. What a span holds is the worker's `trace`. The
//! settings are OpenTelemetry's own variables:
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>. An exporter that
//! reaches nobody says so in the log, and holds up no leaf.

use std::{cell::Cell, env, sync::OnceLock, time::Duration};

use opentelemetry::{
    Context, KeyValue, SpanId, TraceId,
    trace::{SpanBuilder, TraceContextExt as _, Tracer, TracerProvider as _},
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    resource::EnvResourceDetector,
    trace::{IdGenerator, RandomIdGenerator, SdkTracer, SdkTracerProvider},
};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};
use tribunal_worker::trace::GEN_AI;

/// How long the process waits at its end for the last spans to be taken.
const LAST_WORDS: Duration = Duration::from_secs(5);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Whether the environment names a collector, and does not turn traces off.
fn wanted() -> bool {
    let set = |name| env::var(name).is_ok_and(|value| !value.is_empty());
    let is = |name, word: &str| env::var(name).is_ok_and(|value| value.eq_ignore_ascii_case(word));
    (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        && !is("OTEL_SDK_DISABLED", "true")
        && !is("OTEL_TRACES_EXPORTER", "none")
}

/// What makes spans of the leaves' and calls'; nothing where no collector is named.
///
/// # Errors
///
/// The variables say what no exporter can do.
pub(crate) fn layer<S>() -> Result<Option<impl Layer<S>>, String>
where
    S: tracing::Subscriber + for<'s> LookupSpan<'s>,
{
    if !wanted() {
        return Ok(None);
    }
    let exporter = SpanExporter::builder().with_http().build();
    let exporter = exporter.map_err(|error| format!("no traces: {error}"))?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_id_generator(LeafIds(RandomIdGenerator::default()))
        .with_batch_exporter(exporter)
        .build();
    let tracer = LeafTracer(provider.tracer("tribunal"));
    let _ = PROVIDER.set(provider);
    // The span of a leaf is there at every level, and the lines about it are the log's.
    let spans = Targets::new()
        .with_target(GEN_AI, tracing::Level::INFO)
        .with_target("tribunal_worker::trace", tracing::Level::ERROR);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(spans);
    Ok(Some(layer))
}

/// Hands over what is left. To be called where blocking is allowed, once everything has ended.
pub(crate) fn end() {
    if let Some(provider) = PROVIDER.get() {
        // What goes wrong the exporter has said in the log.
        let _ = provider.shutdown_with_timeout(LAST_WORDS);
    }
}

/// Who sends. What the environment says of it wins.
fn resource() -> Resource {
    let own = Resource::builder_empty()
        .with_service_name("tribunal")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => own.with_service_name(name),
        _ => own,
    }
    .build()
}

thread_local! {
    /// The trace of the next span that has no parent.
    static NEXT: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Puts every claim of a leaf, by whichever worker, into the leaf's trace.
#[derive(Debug)]
struct LeafTracer(SdkTracer);

/// Gives the trace that the tracer has put down, or a random one.
#[derive(Debug)]
struct LeafIds(RandomIdGenerator);

// === impl LeafTracer ===

impl Tracer for LeafTracer {
    type Span = <SdkTracer as Tracer>::Span;

    fn build_with_context(&self, mut builder: SpanBuilder, parent: &Context) -> Self::Span {
        let attributes = builder.attributes.get_or_insert_default();
        if !parent.span().span_context().is_valid() {
            NEXT.set(trace_of(attributes));
        }
        for attribute in attributes {
            if let name @ ("run" | "leaf" | "position" | "sample" | "lease") =
                attribute.key.as_str()
            {
                attribute.key = format!("tribunal.{name}").into();
            }
        }
        self.0.build_with_context(builder, parent)
    }
}

// === impl LeafIds ===

impl IdGenerator for LeafIds {
    fn new_trace_id(&self) -> TraceId {
        NEXT.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

/// The trace of the leaf whose span has these attributes: of all its claims, and of all its samples.
fn trace_of(attributes: &[KeyValue]) -> Option<TraceId> {
    let value = |name| attributes.iter().find(|a| a.key.as_str() == name).map(|a| &a.value);
    let (run, position) = (value("run")?, value("position")?);
    let hash = blake3::hash(format!("{run}/{position}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    Some(TraceId::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leafs_claims_are_in_one_trace_and_other_leaves_are_not() {
        let claim = |position: i64, sample: i64| {
            trace_of(&[
                KeyValue::new("sample", sample),
                KeyValue::new("run", "r1"),
                // Published rubrics repeat ids.
                KeyValue::new("leaf", "an id"),
                KeyValue::new("position", position),
            ])
        };
        assert!(claim(3, 0).is_some());
        assert_eq!(claim(3, 0), claim(3, 1));
        assert_ne!(claim(3, 0), claim(4, 0));
        assert_eq!(trace_of(&[KeyValue::new("run", "r1")]), None);
    }
}
