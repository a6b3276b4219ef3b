//! `[telemetry]`.

use url::Url;

use super::Resolver;
use crate::config::types::TelemetryConfig;

impl Resolver<'_> {
    /// `None` where no collector is named.
    pub(super) fn telemetry(&mut self) -> Option<TelemetryConfig> {
        let view = self.view("telemetry");
        let endpoint = view.text("otlp_endpoint").to_owned();
        if endpoint.is_empty() {
            return None;
        }
        let usable = Url::parse(&endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !usable {
            let problem = format!("`{endpoint}` is no address of a collector");
            self.error(view, "otlp_endpoint", problem, "write \"http://127.0.0.1:4317\", or https for TLS");
        }
        Some(TelemetryConfig { otlp_endpoint: endpoint, sampling_ratio: view.float("sampling_ratio") })
    }
}
