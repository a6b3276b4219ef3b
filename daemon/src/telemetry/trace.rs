//! Traces that go through the daemon: continued where a caller sends one, started where not. Nothing is exported; the trace's id is in
//! the logs, and what the daemon sends on carries it.

use astromech_schemas::TraceContext;
use astromech_schemas::trace::{HEADER_TRACEPARENT, HEADER_TRACESTATE};
use uuid::Uuid;

use crate::source::{Header, Record};

/// The context of a span of our own: in the trace of `parent`, else in a new one.
pub(crate) fn enter(parent: Option<&TraceContext>) -> TraceContext {
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

/// The context of a span of our own in the trace that `record` carries; `None` where it carries none.
pub(crate) fn enter_record(record: &Record) -> Option<TraceContext> {
    let parent = TraceContext::parse(record.header(HEADER_TRACEPARENT)?, record.header(HEADER_TRACESTATE))?;
    Some(enter(Some(&parent)))
}

/// The headers of a record that carries `context` on.
pub(crate) fn headers(context: Option<&TraceContext>) -> Vec<Header> {
    let Some(context) = context else { return Vec::new() };
    let header = |name: &str, value: String| Header { name: name.to_owned(), value: Some(value.into_bytes()) };
    let state = context.state().map(|state| header(HEADER_TRACESTATE, state.to_owned()));
    std::iter::once(header(HEADER_TRACEPARENT, context.to_string())).chain(state).collect()
}
