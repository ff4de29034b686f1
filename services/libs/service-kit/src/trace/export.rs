//! The way of finished spans to the collector: in batches, by a thread of its own, bounded.
//!
//! A span that ends is put in line and nobody waits for it; when the line is full it is dropped. The SDK's own variables hold for the
//! line and the batches (`OTEL_BSP_*`) and for what the collector wants to see in a call's head (`OTEL_EXPORTER_OTLP_HEADERS`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter};

use crate::{TraceConfig, VERSION};

/// A collector that does not take a batch within this time, all tries together, has not got it.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts to export the spans of the service `name`. Must be called within a tokio runtime of several threads.
pub(crate) fn start(name: &'static str, endpoint: &str, config: &TraceConfig) -> anyhow::Result<SdkTracerProvider> {
    let mut exporter =
        opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
    if endpoint.starts_with("https:") {
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let exporter = exporter.build().with_context(|| format!("otlp_endpoint = {endpoint:?} cannot be used"))?;
    let exporter = Announced { exporter, endpoint: endpoint.to_owned(), lost: AtomicU64::new(0) };
    // A caller that traces has decided whether its trace is recorded.
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_ratio)));
    Ok(SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).build())
        .with_sampler(sampler)
        .with_resource(resource(name))
        .build())
}

/// Who sends the spans. A process on a machine, or a pod, has one id as long as it lives.
fn resource(name: &'static str) -> Resource {
    let host = rustix::system::uname();
    let instance = format!("{}:{}", host.nodename().to_string_lossy(), std::process::id());
    let more = [KeyValue::new("service.instance.id", instance), KeyValue::new("service.version", VERSION)];
    Resource::builder().with_service_name(name).with_attributes(more).build()
}

/// Says once that spans are lost, and once that they are no longer.
#[derive(Debug)]
struct Announced<E> {
    exporter: E,
    endpoint: String,
    /// Spans since the last batch that arrived.
    lost: AtomicU64,
}

impl<E: SpanExporter> SpanExporter for Announced<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        match &result {
            Err(error) => {
                if self.lost.fetch_add(spans, Ordering::Relaxed) == 0 {
                    tracing::warn!(
                        otlp_endpoint = self.endpoint,
                        "spans do not reach the collector, and are lost: {error}"
                    );
                }
            }
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::info!(otlp_endpoint = self.endpoint, lost, "spans reach the collector again");
                }
            }
        }
        result
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
