//! Traces that go through the daemon: continued where a caller sends one, started where not. The trace's id is in the logs, and what the
//! daemon sends on carries it. Spans are exported where `telemetry.otlp_endpoint` names a collector; without one the
//! spans of stages are not even made.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, Ordering};

use astromech_schemas::TraceContext;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

/// Target of the spans of stages.
pub const STAGE_TARGET: &str = "astromech::stage";

static EXPORTING: AtomicBool = AtomicBool::new(false);

/// Whether spans go to a collector; set once, before anything is read.
pub fn set_exporting(exporting: bool) {
    EXPORTING.store(exporting, Ordering::Release);
}

/// The span of one stage of a record or a request, inside the span that is entered.
#[macro_export]
macro_rules! stage_span {
    ($name:literal) => {
        tracing::trace_span!(target: $crate::trace::STAGE_TARGET, $name)
    };
    ($name:literal, $($fields:tt)+) => {
        tracing::trace_span!(target: $crate::trace::STAGE_TARGET, $name, $($fields)+)
    };
}
pub use crate::stage_span;

/// The context of a record's `span`: in the trace of `parent`; without one in a trace of its own where spans are exported, else in none.
pub fn enter_record(span: &Span, parent: Option<&TraceContext>) -> Option<TraceContext> {
    adopt(span, parent, "consumer").or_else(|| parent.map(|parent| enter(Some(parent))))
}

/// The context of a request's `span`: in the trace of `parent`, else in a new one.
pub fn enter_request(span: &Span, parent: Option<&TraceContext>) -> TraceContext {
    adopt(span, parent, "server").unwrap_or_else(|| enter(parent))
}

/// Makes `span` a part of `parent`'s trace, and returns its place in it; `None` where spans are not exported.
fn adopt(span: &Span, parent: Option<&TraceContext>, kind: &'static str) -> Option<TraceContext> {
    if !EXPORTING.load(Ordering::Acquire) {
        return None;
    }
    span.record("otel.kind", kind);
    if let Some(parent) = parent {
        let context = opentelemetry::Context::new().with_remote_span_context(remote(parent));
        // A parent can be set until the context is asked for once; so both are done here, before anything is logged in the span.
        // It is new and this is the first that is asked of it.
        span.set_parent(context).ok()?;
    }
    let context = span.context();
    let ours = context.span().span_context().clone();
    let (trace_id, span_id) = (ours.trace_id().to_bytes(), ours.span_id().to_bytes());
    let context = match parent {
        _ if !ours.is_valid() => return None,
        Some(parent) => parent.child(span_id),
        None => TraceContext::start(trace_id, span_id),
    };
    Some(context.sampled(ours.is_sampled()))
}

fn remote(parent: &TraceContext) -> SpanContext {
    let (trace_id, span_id) = parent.ids();
    let flags = if parent.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = parent.state().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    SpanContext::new(TraceId::from_bytes(trace_id), SpanId::from_bytes(span_id), flags, true, state)
}

/// The context of a span of our own: in the trace of `parent`, else in a new one.
fn enter(parent: Option<&TraceContext>) -> TraceContext {
    match parent {
        Some(parent) => parent.child(span_id()),
        None => TraceContext::start(Uuid::new_v4().into_bytes(), span_id()),
    }
}

/// Half of a random UUID: never all zeros, because its variant is in it.
fn span_id() -> [u8; 8] {
    let (_, half) = Uuid::new_v4().as_u64_pair();
    half.to_be_bytes()
}
