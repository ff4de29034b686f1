//! A collector of traces, as an operator's would be: takes spans by OTLP over gRPC, and keeps them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A running collector. Dropping it stops it.
pub struct Collector {
    address: SocketAddr,
    arriving: UnboundedReceiver<Span>,
    server: AbortHandle,
}

/// A span as it arrived; ids are hexadecimal.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`.
    pub instance: String,
    /// `service.version`.
    pub version: String,
    /// The trace.
    pub trace_id: String,
    /// Its own.
    pub span_id: String,
    /// Empty for a root.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// "internal", "server" or "client".
    pub kind: &'static str,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds since 1970.
    pub end: u64,
    /// All of them as text.
    pub attributes: BTreeMap<String, String>,
    /// Traces and spans that it points at.
    pub links: Vec<(String, String)>,
    /// Whether it says that it failed.
    pub failed: bool,
}

impl Collector {
    /// Starts one on any free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (spans, arriving) = unbounded_channel();
        let service = TraceServiceServer::new(Inbox { spans });
        let server = tonic::transport::Server::builder().add_service(service);
        let server = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { address, arriving, server: server.abort_handle() })
    }

    /// Where spans are to be sent.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has arrived since the last call.
    pub fn take(&mut self) -> Vec<Span> {
        let mut spans = Vec::new();
        while let Ok(span) = self.arriving.try_recv() {
            spans.push(span);
        }
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Inbox {
    spans: UnboundedSender<Span>,
}

#[tonic::async_trait]
impl TraceService for Inbox {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let resource = texts(of_resource.resource.unwrap_or_default().attributes);
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                // A test that is over no longer looks.
                _ = self.spans.send(read(&resource, span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(resource: &BTreeMap<String, String>, span: opentelemetry_proto::tonic::trace::v1::Span) -> Span {
    let said = |key: &str| resource.get(key).cloned().unwrap_or_default();
    let kind = match span.kind() {
        opentelemetry_proto::tonic::trace::v1::span::SpanKind::Server => "server",
        opentelemetry_proto::tonic::trace::v1::span::SpanKind::Client => "client",
        _ => "internal",
    };
    Span {
        service: said("service.name"),
        instance: said("service.instance.id"),
        version: said("service.version"),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        failed: span.status.is_some_and(|status| status.code() == StatusCode::Error),
        attributes: texts(span.attributes),
        name: span.name,
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |KeyValue { key, value, .. }| Some((key, text(value?.value?)));
    attributes.into_iter().filter_map(pair).collect()
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
