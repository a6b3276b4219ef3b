//! W3C trace context of requests: see [`crate::vitals`].

use astromech_schemas::TraceContext;
use astromech_schemas::trace::{HEADER_TRACEPARENT, HEADER_TRACESTATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;

use crate::vitals::trace;

const TRACEPARENT: HeaderName = HeaderName::from_static(HEADER_TRACEPARENT);
const TRACESTATE: HeaderName = HeaderName::from_static(HEADER_TRACESTATE);

/// The context of this daemon's part of the request, which `span` is: in the client's trace where it sends one, else in a new one.
pub(super) fn enter(span: &Span, headers: &HeaderMap) -> TraceContext {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let parent = match (parents.next(), parents.next()) {
        (Some(parent), None) => TraceContext::parse(parent.as_bytes(), state(headers).as_deref()),
        // Of two nobody knows which is meant.
        _ => None,
    };
    trace::enter_request(span, parent.as_ref())
}

/// A `tracestate` may be split over several headers.
fn state(headers: &HeaderMap) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b','))
}

/// Tells the client which span answered.
pub(super) fn answer(context: &TraceContext, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(&context.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
    if let Some(Ok(value)) = context.state().map(HeaderValue::from_str) {
        headers.insert(TRACESTATE, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(of: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_trace_is_continued_in_a_span_of_our_own_with_its_state() {
        let sent = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1"), (TRACESTATE, "b=2")]);
        let context = enter(&Span::none(), &sent);
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(context.span_id(), "00f067aa0ba902b7");
        let mut sent = HeaderMap::new();
        answer(&context, &mut sent);
        assert_eq!(sent[TRACEPARENT], format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", context.span_id()));
        assert_eq!(sent[TRACESTATE], "a=1,b=2");
    }

    #[test]
    fn what_is_no_one_context_starts_a_trace() {
        for of in [&[][..], &[(TRACEPARENT, "00-x")], &[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)], &[(TRACESTATE, "a=1")]] {
            let (one, other) = (enter(&Span::none(), &headers(of)), enter(&Span::none(), &headers(of)));
            assert_ne!(one.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
            assert_ne!(one.trace_id(), other.trace_id());
            assert_eq!(one.state(), None);
            assert_eq!(TraceContext::parse(one.to_string().as_bytes(), None), Some(one));
        }
    }
}
