//! Records in the traces that they carry: a record's span, and the headers of what is sent on in its trace.

use astromech_schemas::TraceContext;
use astromech_schemas::trace::{HEADER_TRACEPARENT, HEADER_TRACESTATE};
use tracing::Span;

use super::record::{Header, Record};
use astromech_vitals::trace;

/// Longest key that is logged, characters.
const KEY_CHARS_MAX: usize = 64;

/// The span of one record from being read to its acknowledgement: its coordinates are in every line that is logged inside.
#[derive(Debug, Clone)]
pub struct RecordSpan {
    span: Span,
    context: Option<TraceContext>,
}

impl RecordSpan {
    /// In the trace that `record` carries; without one it is in a trace of its own where spans are exported, else in none.
    pub fn of(record: &Record) -> Self {
        let key = record.key.as_deref().map(|key| String::from_utf8_lossy(key).chars().take(KEY_CHARS_MAX).collect::<String>());
        // An error's level: a log that holds only errors must have the coordinates too.
        let span = tracing::error_span!(
            target: "astromech::record",
            "record",
            topic = &*record.topic,
            partition = record.partition,
            offset = record.offset,
            key,
            trace_id = tracing::field::Empty,
            otel.kind = tracing::field::Empty,
        );
        let parent = parent_of(record);
        let context = trace::enter_record(&span, parent.as_ref());
        if let Some(context) = &context {
            span.record("trace_id", context.trace_id());
        }
        Self { span, context }
    }

    /// The span itself.
    pub const fn span(&self) -> &Span {
        &self.span
    }

    /// Our span in the record's trace.
    pub const fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }
}

/// What `record` carries; `None` where it carries none.
fn parent_of(record: &Record) -> Option<TraceContext> {
    TraceContext::parse(record.header(HEADER_TRACEPARENT)?, record.header(HEADER_TRACESTATE))
}

/// The headers of a record that carries `context` on.
pub fn trace_headers(context: Option<&TraceContext>) -> Vec<Header> {
    let Some(context) = context else { return Vec::new() };
    let header = |name: &str, value: String| Header { name: name.to_owned(), value: Some(value.into_bytes()) };
    let state = context.state().map(|state| header(HEADER_TRACESTATE, state.to_owned()));
    std::iter::once(header(HEADER_TRACEPARENT, context.to_string())).chain(state).collect()
}
