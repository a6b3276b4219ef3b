//! Headers of the topics of re-scoring. Bodies are those of `POST /v1/rescore`: a request, an answer, or a problem document.

/// Of a request, and again of its reply: what the requester knows it by.
pub const HEADER_CORRELATION_ID: &str = "correlation-id";
/// Of a request: the topic that the reply goes to, in place of the configured one; only topics of `rescore.topics.reply_to`.
pub const HEADER_REPLY_TO: &str = "reply-to";
/// Of a reply: the status that HTTP would have answered with, such as `200` or `504`.
pub const HEADER_STATUS: &str = "astromech-status";
/// Of a reply: `topic-partition-offset` of its request. Replies are sent at least once; a repeat has the same.
pub const HEADER_REQUEST: &str = "astromech-request";
/// Of a reply: `application/json` or `application/problem+json`.
pub const HEADER_CONTENT_TYPE: &str = "content-type";
/// Headers of a request that its reply carries as they came. A W3C trace context ([`crate::trace`]) is carried on, one span further.
pub const HEADERS_CARRIED: [&str; 2] = [HEADER_CORRELATION_ID, "x-request-id"];
