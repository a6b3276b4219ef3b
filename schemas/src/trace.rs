//! W3C Trace Context, level 1: `traceparent` and `tracestate`, as HTTP and Kafka headers carry them.
//!
//! What is not exactly of the recommendation's form is as if it were not there: a trace is started anew rather than continued wrongly.

use std::fmt;

use crate::hexadecimal::{self, decode};

/// Header: version, trace, span and flags.
pub const HEADER_TRACEPARENT: &str = "traceparent";
/// Header: what tracing systems add, handed on as it came.
pub const HEADER_TRACESTATE: &str = "tracestate";

/// Length of a `traceparent` of version 00, bytes.
const TRACEPARENT_BYTES: usize = 55;
/// Flags that are known: sampled (level 1) and random (level 2). Others are set to zero, as the recommendation asks.
const FLAGS_KNOWN: u8 = 0b11;
/// The caller records this trace.
const FLAG_SAMPLED: u8 = 0b01;
/// Longest `tracestate` that is handed on, bytes: what every implementation has to take.
const TRACESTATE_BYTES_MAX: usize = 512;
/// Most members of a `tracestate`.
const TRACESTATE_MEMBERS_MAX: usize = 32;
/// Longest key, and longest value, of a member of a `tracestate`, bytes.
const MEMBER_BYTES_MAX: usize = 256;

/// Where a request stands in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: Option<String>,
}

impl TraceContext {
    /// Reads both headers; `None` where `traceparent` is not of the recommendation's form. A `tracestate` that is not is left out.
    pub fn parse(traceparent: &[u8], tracestate: Option<&[u8]>) -> Option<Self> {
        let (fields, rest) = traceparent.split_at_checked(TRACEPARENT_BYTES)?;
        let [version, trace_id, span_id, flags] = split(fields)?;
        let version = decode::<1>(version)?[0];
        // Version 00 ends here; a later one may go on behind a dash, and 255 is none.
        let ends = if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|byte| *byte == b'-') };
        let (trace_id, span_id, [flags]) = (decode::<16>(trace_id)?, decode::<8>(span_id)?, decode::<1>(flags)?);
        if version == u8::MAX || !ends || trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(Self { trace_id, span_id, flags: flags & FLAGS_KNOWN, state: tracestate.and_then(checked_state) })
    }

    /// A new trace that nobody has asked to record.
    pub const fn start(trace_id: [u8; 16], span_id: [u8; 8]) -> Self {
        Self { trace_id, span_id, flags: 0, state: None }
    }

    /// The same trace, one span further on.
    #[must_use]
    pub fn child(&self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..self.clone() }
    }

    /// The same, with the mark whether somebody records it.
    #[must_use]
    pub const fn sampled(mut self, sampled: bool) -> Self {
        self.flags = if sampled { self.flags | FLAG_SAMPLED } else { self.flags & !FLAG_SAMPLED };
        self
    }

    /// Whether the one who sent it records it.
    pub const fn is_sampled(&self) -> bool {
        self.flags & FLAG_SAMPLED != 0
    }

    /// Trace and span, as bytes.
    pub const fn ids(&self) -> ([u8; 16], [u8; 8]) {
        (self.trace_id, self.span_id)
    }

    /// The trace, 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        hexadecimal::encode(&self.trace_id)
    }

    /// The span, 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        hexadecimal::encode(&self.span_id)
    }

    /// The `tracestate`, where there is one.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl fmt::Display for TraceContext {
    /// The `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id(), self.span_id(), self.flags)
    }
}

fn split(fields: &[u8]) -> Option<[&[u8]; 4]> {
    let mut parts = fields.split(|byte| *byte == b'-');
    let found = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(found)
}

fn checked_state(state: &[u8]) -> Option<String> {
    let state = std::str::from_utf8(state).ok().filter(|state| state.len() <= TRACESTATE_BYTES_MAX)?;
    let members: Vec<&str> = state.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|m| !m.is_empty()).collect();
    let keys: Vec<&str> = members.iter().map(|member| key_of(member)).collect::<Option<_>>()?;
    let repeated = keys.iter().enumerate().any(|(at, key)| keys[..at].contains(key));
    let fits = (1..=TRACESTATE_MEMBERS_MAX).contains(&members.len());
    (fits && !repeated).then(|| members.join(","))
}

/// The key of a well-formed member.
fn key_of(member: &str) -> Option<&str> {
    let (key, value) = member.split_once('=')?;
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let key_is_right = (1..=MEMBER_BYTES_MAX).contains(&key.len())
        && letter(key.as_bytes()[0])
        && key.bytes().all(|byte| letter(byte) || b"_-*/@".contains(&byte))
        && key.matches('@').count() <= 1;
    let value_is_right =
        (1..=MEMBER_BYTES_MAX).contains(&value.len()) && value.bytes().all(|byte| (0x20..=0x7e).contains(&byte) && byte != b'=');
    (key_is_right && value_is_right).then_some(key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_back() {
        let context = TraceContext::parse(PARENT.as_bytes(), Some(b"rojo=00f067aa0ba902b7, congo@t=t61rcWkgMzE")).unwrap();
        assert_eq!(context.to_string(), PARENT);
        assert_eq!(context.state(), Some("rojo=00f067aa0ba902b7,congo@t=t61rcWkgMzE"));
        let child = context.child([0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(child.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000009-01");
        assert_eq!(child.state(), context.state());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = PARENT.replacen("00", "cc", 1);
        for (text, flags) in [(later.clone(), "01"), (format!("{later}-what"), "01"), (later.replace("-01", "-ff"), "03")] {
            let context = TraceContext::parse(text.as_bytes(), None).unwrap();
            assert!(context.to_string().starts_with("00-4bf9") && context.to_string().ends_with(flags), "{text}: {context}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_no_context() {
        let wrong = [
            String::new(),
            PARENT[..54].to_owned(),
            format!("{PARENT}0"),
            format!("{PARENT}-00"),
            PARENT.to_uppercase(),
            PARENT.replacen("00", "ff", 1),
            PARENT.replace('-', "_"),
            PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            PARENT.replace("00f067aa0ba902b7", "00f067aa0ba902b-"),
            PARENT.replace("4bf9", "4bg9"),
            format!(" {}", &PARENT[..54]),
            PARENT.replacen("00", "cc", 1) + "0",
        ];
        for text in wrong {
            assert_eq!(TraceContext::parse(text.as_bytes(), None), None, "{text}");
        }
    }

    #[test]
    fn a_tracestate_that_is_not_of_the_form_is_left_out_and_the_trace_goes_on() {
        let many = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        let long = format!("k={},l={},m=v", "v".repeat(256), "v".repeat(256));
        for state in ["", ",", "a", "a=", "A=b", "a=b=c", "a=b,a=c", "a=\u{e9}", "a@b@c=d", "a b=c", &many, &long] {
            let context = TraceContext::parse(PARENT.as_bytes(), Some(state.as_bytes())).unwrap();
            assert_eq!(context.state(), None, "{state}");
        }
    }
}
