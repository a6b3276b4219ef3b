//! The form in which metrics are answered: OpenMetrics, or the older text form of Prometheus, as `Accept` asks.

use std::fmt::Write as _;

use axum::http::{HeaderMap, header};

use crate::vitals::METRICS_CONTENT_TYPE;

/// Content type of the older form.
const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A form of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// What Prometheus reads since 0.0.4, and most other tools.
    Text,
}

impl Exposition {
    /// The form that `headers` like best: OpenMetrics where both are alike, the text form where neither is named, because who asks for
    /// something else (a browser, an old agent) can read that one.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter();
        let accept: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        if accept.is_empty() {
            return Self::OpenMetrics;
        }
        let accept = accept.join(",");
        let (open, text) = (Self::OpenMetrics.quality(&accept), Self::Text.quality(&accept));
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// Content type of the answer.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => METRICS_CONTENT_TYPE,
            Self::Text => TEXT_CONTENT_TYPE,
        }
    }

    /// `metrics`, which are in OpenMetrics, in this form.
    pub(super) fn write(self, metrics: String) -> String {
        match self {
            Self::OpenMetrics => metrics,
            Self::Text => to_text(&metrics),
        }
    }

    /// The weight that `accept` gives this form: that of the range that names it most closely (RFC 9110 §12.5.1).
    fn quality(self, accept: &str) -> f32 {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let closeness = self.closeness(&parts.next()?.to_ascii_lowercase())?;
            let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            Some((closeness, quality.map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0))))
        });
        let closest = ranges.fold((0, 0.0_f32), |best: (u8, f32), range| match range.0.cmp(&best.0) {
            std::cmp::Ordering::Greater => range,
            std::cmp::Ordering::Equal if range.1 > best.1 => range,
            _ => best,
        });
        closest.1
    }

    fn closeness(self, range: &str) -> Option<u8> {
        let (exact, group) = match self {
            Self::OpenMetrics => ("application/openmetrics-text", "application/*"),
            Self::Text => ("text/plain", "text/*"),
        };
        match range {
            _ if range == exact => Some(3),
            _ if range == group => Some(2),
            "*/*" => Some(1),
            _ => None,
        }
    }
}

/// OpenMetrics in the older form: a counter's family has the name of its samples, and units and the end are not told. None of ours
/// has exemplars.
fn to_text(metrics: &str) -> String {
    let mut text = String::with_capacity(metrics.len());
    let mut help = None;
    for line in metrics.lines() {
        if let Some(told) = line.strip_prefix("# HELP ") {
            help = told.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|told| told.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            // Writing to a String can't fail.
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                let _ = writeln!(text, "# HELP {name}{suffix} {}", help.replace("\\\"", "\""));
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn wanted(accept: &'static str) -> Exposition {
        Exposition::wanted(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
    }

    #[test]
    fn who_asks_gets_the_form_that_they_like_best() {
        assert_eq!(Exposition::wanted(&HeaderMap::new()), Exposition::OpenMetrics);
        for accept in [
            "*/*",
            "application/openmetrics-text",
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            "Application/OpenMetrics-Text; version=1.0.0; charset=utf-8",
            "application/openmetrics-text, text/plain",
        ] {
            assert_eq!(wanted(accept), Exposition::OpenMetrics, "{accept}");
        }
        for accept in [
            "text/plain",
            "text/plain;version=0.0.4",
            "text/*;q=0.3",
            "text/plain, */*;q=0.1",
            "application/openmetrics-text;q=0.1,text/plain;q=0.2",
            "application/openmetrics-text;q=0, */*",
            "text/html,application/xhtml+xml,application/xml;q=0.9",
            "application/json",
            "",
        ] {
            assert_eq!(wanted(accept), Exposition::Text, "{accept}");
        }
    }

    #[test]
    fn the_older_form_names_counters_as_their_samples_and_has_no_end() {
        let open = "# HELP a_told Times.\n# TYPE a_told counter\na_told_total{x=\"# {\"} 1\n\
                    # HELP a_wait_seconds Wait \\\"s\\\".\n# TYPE a_wait_seconds histogram\n# UNIT a_wait_seconds seconds\n\
                    a_wait_seconds_sum 0.5\n# TYPE a_odd unknown\na_odd 1\n# EOF\n";
        let text = "# HELP a_told_total Times.\n# TYPE a_told_total counter\na_told_total{x=\"# {\"} 1\n\
                    # HELP a_wait_seconds Wait \"s\".\n# TYPE a_wait_seconds histogram\na_wait_seconds_sum 0.5\n\
                    # TYPE a_odd untyped\na_odd 1\n";
        assert_eq!(Exposition::Text.write(open.to_owned()), text);
        assert_eq!(Exposition::OpenMetrics.write(open.to_owned()), open);
    }
}
