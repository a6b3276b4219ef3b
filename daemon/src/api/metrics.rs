//! What the HTTP interface counts.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::vitals::{Histograms, MetricSet, Registrar, labels, seconds};

/// Routes as metrics name them. The paths of a scan must not become time series: they are the last.
pub(super) const ROUTES: [&str; 13] = [
    "/",
    "/favicon.svg",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/embed",
    "/v1/search",
    "/v1/rescore",
    "/v1/info",
    "/v1/generations",
    "/v1/media",
    OTHER,
];
/// A path that is no route.
pub(super) const OTHER: &str = "other";
/// Statuses that rates are asked of, from the start: the first of them would be no increase to a counter that begins with it.
const STATUSES: [u16; 8] = [200, 400, 401, 404, 429, 500, 503, 504];

labels! {
    RequestLabels { route: &'static str, status: u16 }
    RouteLabel { route: &'static str }
}

/// Of requests.
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Histograms<RouteLabel>,
    in_flight: Gauge,
}

impl MetricSet for HttpMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        let times = Histograms::new_with_constructor(seconds);
        let metrics = Self {
            requests: r.add("http_requests", "HTTP requests answered"),
            seconds: r.add_seconds("http", "Time to answer an HTTP request", times),
            in_flight: r.add("http_in_flight", "HTTP requests being answered"),
        };
        for route in ROUTES {
            for status in STATUSES {
                let _ = metrics.requests.get_or_create(&RequestLabels { route, status });
            }
            let _ = metrics.seconds.get_or_create(&RouteLabel { route });
        }
        metrics
    }
}

impl HttpMetrics {
    /// A request of `route` was answered with `status` after `time`.
    pub fn answered(&self, route: &'static str, status: u16, time: Duration) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
        self.seconds.get_or_create(&RouteLabel { route }).observe(time.as_secs_f64());
    }

    /// `requests` are being answered.
    pub fn set_in_flight(&self, requests: usize) {
        self.in_flight.set(requests as i64);
    }

    /// Requests being answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get().max(0) as usize
    }
}
