//! A small OpenTelemetry collector: takes spans over OTLP (gRPC, protobuf) and keeps them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use astromech_schemas::manifest::hex;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::wait::{block_on, spawn};

/// A span as it was sent; ids in hexadecimal digits, attributes as text.
#[derive(Debug, Clone)]
pub struct Span {
    /// The trace.
    pub trace_id: String,
    /// The span.
    pub span_id: String,
    /// The span around it; empty for the first of a trace.
    pub parent_id: String,
    /// Its name.
    pub name: String,
    /// OTLP's number: 1 internal, 2 server, 5 consumer.
    pub kind: i32,
    /// Begin and end, nanoseconds since 1970 UTC.
    pub time: (u64, u64),
    /// Attributes of the span.
    pub attributes: Vec<(String, String)>,
    /// Names of events in it, each with its attributes.
    pub events: Vec<(String, Vec<(String, String)>)>,
    /// `service.name` of whoever sent it.
    pub service: String,
}

impl Span {
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        value_of(&self.attributes, name)
    }
}

/// The value of `name` among `attributes`.
pub fn value_of<'a>(attributes: &'a [(String, String)], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[derive(Debug, Clone, Default)]
struct Store(Arc<Mutex<Vec<Span>>>);

/// The collector, on a free port of 127.0.0.1, until it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    store: Store,
    serving: JoinHandle<()>,
}

impl Collector {
    /// Listens.
    pub fn start() -> Self {
        let listener = block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let store = Store::default();
        let service = TraceServiceServer::new(store.clone());
        let serving = spawn(async move {
            let served = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await;
            served.expect("the collector serves");
        });
        Self { address, store, serving }
    }

    /// Its address, for `telemetry.otlp_endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far, by their beginning.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.store.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        spans.sort_by_key(|span| span.time);
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Store {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let of_sender = attributes(resource.resource.unwrap_or_default().attributes);
            let service = value_of(&of_sender, "service.name").unwrap_or_default().to_owned();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let events = span.events.into_iter().map(|event| (event.name, attributes(event.attributes))).collect();
                store.push(Span {
                    trace_id: hex(&span.trace_id),
                    span_id: hex(&span.span_id),
                    parent_id: hex(&span.parent_span_id),
                    name: span.name,
                    kind: span.kind,
                    time: (span.start_time_unix_nano, span.end_time_unix_nano),
                    attributes: attributes(span.attributes),
                    events,
                    service: service.clone(),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attributes(of: Vec<KeyValue>) -> Vec<(String, String)> {
    of.into_iter().map(|KeyValue { key, value, .. }| (key, text(value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
