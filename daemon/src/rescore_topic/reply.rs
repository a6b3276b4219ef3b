//! A reply, ready to be sent.

use astromech_schemas::TraceContext;
use astromech_schemas::rescore::RescoreResponse;
use astromech_schemas::rescore_topic::{HEADER_CONTENT_TYPE, HEADER_REPLY_TO, HEADER_REQUEST, HEADER_STATUS, HEADERS_CARRIED};
use serde::Serialize;

use crate::config::RescoreTopics;
use crate::problem::Problem;
use crate::source::{Header, Record, trace_headers};

/// What a reply answers.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    /// The request.
    pub(super) record: &'a Record,
    /// Our span in the trace that the request carries.
    pub(super) context: Option<&'a TraceContext>,
}

/// Status of an answer.
const OK: u16 = 200;

/// A reply, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Where it goes.
    pub topic: String,
    /// The status that HTTP would have answered with.
    pub status: u16,
    /// JSON: an answer or a problem document.
    pub body: Vec<u8>,
    /// Headers of the record.
    pub headers: Vec<Header>,
}

/// The topic that a request's reply goes to.
pub(super) fn topic(record: &Record, topics: &RescoreTopics) -> Result<String, Problem> {
    let Some(wanted) = record.header(HEADER_REPLY_TO) else { return Ok(topics.reply.clone()) };
    let allowed = std::iter::once(&topics.reply).chain(&topics.reply_to).find(|topic| topic.as_bytes() == wanted);
    allowed.cloned().ok_or_else(|| {
        let problem = format!("`{}` is no topic that replies may go to", String::from_utf8_lossy(wanted));
        let fix = "name rescore.topics.reply or one of rescore.topics.reply_to in the header, or leave it out";
        Problem::invalid(HEADER_REPLY_TO, &problem, fix)
    })
}

impl Reply {
    pub(super) fn answer(topic: String, to: To<'_>, response: &RescoreResponse) -> Self {
        match json(response) {
            Ok(body) => Self { topic, status: OK, headers: headers(to, OK, "application/json"), body },
            Err(problem) => Self::problem(topic, to, problem),
        }
    }

    pub(super) fn problem(topic: String, to: To<'_>, problem: Problem) -> Self {
        let document = problem.into_document();
        let headers = headers(to, document.status, "application/problem+json");
        // A document of strings and a number is always JSON.
        Self { topic, status: document.status, body: json(&document).unwrap_or_default(), headers }
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|error| Problem::internal(&error))
}

fn headers(to: To<'_>, status: u16, content_type: &str) -> Vec<Header> {
    let To { record, context } = to;
    let carried = record.headers.iter().filter(|header| HEADERS_CARRIED.contains(&header.name.as_str())).cloned();
    let request = format!("{}-{}-{}", record.topic, record.partition, record.offset);
    let own = [(HEADER_STATUS, status.to_string()), (HEADER_CONTENT_TYPE, content_type.to_owned()), (HEADER_REQUEST, request)];
    let own = own.map(|(name, value)| Header { name: name.to_owned(), value: Some(value.into_bytes()) });
    carried.chain(trace_headers(context)).chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::RecordSpan;

    fn record(headers: &[(&str, &str)]) -> Record {
        let header = |(name, value): &(&str, &str)| Header { name: (*name).to_owned(), value: Some(value.as_bytes().to_vec()) };
        Record {
            topic: "asks".into(),
            partition: 2,
            offset: 41,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: headers.iter().map(header).collect(),
        }
    }

    fn topics() -> RescoreTopics {
        RescoreTopics {
            request: "asks".to_owned(),
            reply: "replies".to_owned(),
            reply_to: vec!["team-a".to_owned()],
            group: "g".to_owned(),
            requests_in_flight_max: 1,
        }
    }

    #[test]
    fn replies_go_to_listed_topics_only() {
        let to = |headers: &[(&str, &str)]| topic(&record(headers), &topics()).map_err(|problem| problem.into_document().detail);
        assert_eq!(to(&[]).unwrap(), "replies");
        assert_eq!(to(&[("reply-to", "team-a")]).unwrap(), "team-a");
        let refused = to(&[("reply-to", "payments")]).unwrap_err();
        assert!(refused.contains("`payments`") && refused.contains("rescore.topics.reply_to"), "{refused}");
    }

    #[test]
    fn a_reply_carries_the_correlation_the_trace_and_where_its_request_lies() {
        const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-";
        let parent = format!("{TRACE}00f067aa0ba902b7-01");
        let asked = record(&[("correlation-id", "c1"), ("traceparent", &parent), ("tracestate", "a=1"), ("cookie", "secret")]);
        let span = RecordSpan::of(&asked);
        let context = span.context();
        let to = To { record: &asked, context };
        let reply = Reply::problem("replies".to_owned(), to, Problem::invalid("candidates", "there are none", "send one"));
        let text = |header: &Header| String::from_utf8(header.value.clone().unwrap()).unwrap();
        let found: Vec<(String, String)> = reply.headers.iter().map(|header| (header.name.clone(), text(header))).collect();
        let own_span = format!("{TRACE}{}-01", context.unwrap().span_id());
        assert_ne!(own_span, parent);
        let expected = [
            ("correlation-id", "c1"),
            ("traceparent", &own_span),
            ("tracestate", "a=1"),
            ("astromech-status", "400"),
            ("content-type", "application/problem+json"),
            ("astromech-request", "asks-2-41"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(String::from_utf8(reply.body).unwrap().contains("candidates: there are none; fix: send one"));
    }

    #[test]
    fn what_is_no_trace_context_is_not_carried_on() {
        for headers in [&[("traceparent", "00-1-2-01")][..], &[("tracestate", "a=1")], &[]] {
            assert_eq!(RecordSpan::of(&record(headers)).context(), None);
        }
    }
}
