//! What the HTTP interface counts.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::vitals::{Histograms, MetricSet, Registrar, labels, seconds};

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
        Self {
            requests: r.add("http_requests", "HTTP requests answered"),
            seconds: r.add_seconds("http", "Time to answer an HTTP request", times),
            in_flight: r.add("http_in_flight", "HTTP requests being answered"),
        }
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
