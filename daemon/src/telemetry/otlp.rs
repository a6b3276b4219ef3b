//! Spans to an OpenTelemetry collector over OTLP (gRPC).
//!
//! A span that ends goes into a queue of [`QUEUE_MAX`]; a thread of its own sends batches. Where the collector is down or slow the queue
//! fills and further spans are dropped: nothing else waits for it. What ended, what was sent and what was not taken is counted.
//!
//! The batch processor's thread is outside of tokio; the gRPC channel must be made inside. The SDK reads much from `OTEL_*`: resource, address,
//! time-outs, queue and sampler are set, so that the configuration decides; headers (a collector's token) are left to the environment.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanProcessor};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tracing::{Level, Metadata, warn};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;

use super::log::{Boxed, LogError, init};
use crate::config::{LogConfig, TelemetryConfig};
use crate::vitals::trace::{self, STAGE_TARGET};
use crate::vitals::{Meter, MetricSet, Metrics, Registrar, WarnLimiter, labels};

/// Most spans that wait for the collector; further ones are dropped.
const QUEUE_MAX: usize = 4096;
/// Most spans of one request.
const BATCH_MAX: usize = 512;
/// Longest wait for a batch to fill.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for one answer of the collector.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest wait at the end for what is in the queue.
const END_MAX: Duration = Duration::from_secs(5);

/// What became of a span that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpanOutcome {
    /// It ended, and goes into the queue where there is room.
    Ended,
    /// The collector took it.
    Exported,
    /// The collector did not take it.
    Failed,
}

impl SpanOutcome {
    /// The word in labels.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Exported => "exported",
            Self::Failed => "failed",
        }
    }
}

labels! {
    OutcomeLabel { outcome: &'static str }
}

/// Of the spans that are exported.
#[derive(Debug)]
pub struct SpanMetrics {
    spans: Family<OutcomeLabel, Counter>,
}

impl MetricSet for SpanMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        let metrics = Self { spans: r.add("trace_spans", "Spans that ended, that the collector took, and that it did not take") };
        for outcome in [SpanOutcome::Ended, SpanOutcome::Exported, SpanOutcome::Failed] {
            metrics.count(outcome, 0);
        }
        metrics
    }
}

impl SpanMetrics {
    fn count(&self, outcome: SpanOutcome, spans: usize) {
        self.spans.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc_by(spans as u64);
    }
}

/// The exporter, where one is configured.
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sets logging up, and the exporter where `telemetry` names a collector. Called inside the runtime that sends the spans.
    ///
    /// # Errors
    /// Logging was set up before, or the address is none.
    pub fn init(log: &LogConfig, telemetry: Option<&TelemetryConfig>, metrics: &Metrics) -> Result<Self, LogError> {
        let provider = telemetry.map(|telemetry| provider(telemetry, metrics)).transpose()?;
        let layer = provider.as_ref().map(layer);
        let exporting = layer.is_some();
        init(log.format, &log.level, layer)?;
        trace::set_exporting(exporting);
        Ok(Self(provider))
    }

    /// Sends what is in the queue, for at most `END_MAX`.
    pub async fn end(self) {
        let Some(provider) = self.0 else { return };
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(END_MAX)).await;
        if let Ok(Err(error)) = ended {
            warn!(%error, "the last spans were not sent");
        }
    }
}

fn provider(telemetry: &TelemetryConfig, metrics: &Metrics) -> Result<SdkTracerProvider, LogError> {
    let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(&telemetry.otlp_endpoint).with_timeout(ANSWER_MAX);
    if telemetry.otlp_endpoint.starts_with("https") {
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
    }
    let exporter = exporter.build().map_err(|error| LogError::Exporter(error.to_string()))?;
    let queue = BatchConfigBuilder::default().with_max_queue_size(QUEUE_MAX).with_max_export_batch_size(BATCH_MAX);
    let queue = queue.with_scheduled_delay(BATCH_WAIT).build();
    let metrics = metrics.of::<SpanMetrics>();
    let watched = Watched { exporter, metrics: metrics.clone(), warnings: WarnLimiter::new() };
    let processor = Counted { queue: BatchSpanProcessor::builder(watched).with_batch_config(queue).build(), metrics };
    // Not out of the environment, as the default is: the configuration alone says who sends.
    let resource = Resource::builder_empty().with_attributes([
        KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ]);
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(telemetry.sampling_ratio)));
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_sampler(sampler).with_resource(resource.build()).build())
}

fn layer(provider: &SdkTracerProvider) -> Boxed {
    let tracer = provider.tracer_with_scope(InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build());
    let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false).with_target(false);
    layer.with_tracked_inactivity(false).with_filter(filter_fn(is_exported)).boxed()
}

/// Spans of records, requests and stages, and warnings as events in them.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let ours = metadata.target().starts_with(env!("CARGO_PKG_NAME"));
    let wanted = if metadata.is_span() {
        *metadata.level() <= Level::INFO || metadata.target() == STAGE_TARGET
    } else {
        *metadata.level() <= Level::WARN
    };
    ours && wanted
}

/// Counts what goes into the queue: with what comes out of it that tells what was dropped.
#[derive(Debug)]
struct Counted {
    queue: BatchSpanProcessor,
    metrics: Meter<SpanMetrics>,
}

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut opentelemetry_sdk::trace::Span, context: &opentelemetry::Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.metrics.count(SpanOutcome::Ended, 1);
        self.queue.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// Counts what is sent, and says when it is not.
#[derive(Debug)]
struct Watched {
    exporter: SpanExporter,
    metrics: Meter<SpanMetrics>,
    warnings: WarnLimiter,
}

impl opentelemetry_sdk::trace::SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        self.metrics.count(if sent.is_ok() { SpanOutcome::Exported } else { SpanOutcome::Failed }, spans);
        if let Err(error) = &sent
            && let Some(repeated) = self.warnings.due("")
        {
            warn!(%error, spans, repeated, "spans were not taken by the collector and are lost; nothing else waits for it");
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
