//! Logs to standard error, for people or for collectors, and spans to a collector of traces.

use std::fmt;
use std::io::{IsTerminal, stderr};
use std::thread;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::oneshot;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

use crate::trace::{self, export};
use crate::{LogFormat, ServerConfig};

/// The last spans get so long to reach the collector when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Spans come from here alone: libraries have their own, which say nothing of a request.
const OURS: &str = "darkroom";

/// Starts logging for this process. A process that logs already keeps what it has, so that tests may call it often.
///
/// # Errors
/// When `filter` cannot be read.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    installed(Registry::default().with(logs(filter, format)?));
    Ok(())
}

/// Starts logging, and tracing if the settings say where to, for the process of the service `name`. Must be called within a tokio runtime
/// of several threads.
///
/// # Errors
/// When the settings hold a filter or an endpoint that cannot be used.
pub fn start(name: &'static str, config: &ServerConfig) -> anyhow::Result<Telemetry> {
    let logs = logs(&config.log_level, config.log_format)?;
    let Some(endpoint) = &config.trace.otlp_endpoint else {
        installed(Registry::default().with(logs));
        return Ok(Telemetry { spans: None });
    };
    let provider = export::start(name, endpoint, &config.trace)?;
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(OURS))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_our_span).with_max_level_hint(LevelFilter::INFO));
    if installed(Registry::default().with(logs).with(spans)) {
        trace::turn_on();
    }
    Ok(Telemetry { spans: Some(provider) })
}

/// What is to be done for logs and spans when the process ends.
#[derive(Debug)]
#[must_use = "spans that were not sent yet are lost without `end`"]
pub struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends what is left of the spans, and waits for that within a bound.
    pub async fn end(self) {
        let Some(provider) = self.spans else { return };
        let (told, ended) = oneshot::channel();
        // It blocks, and a runtime would wait for it at its own end.
        thread::spawn(move || told.send(provider.shutdown_with_timeout(LAST_SPANS)));
        match tokio::time::timeout(2 * LAST_SPANS, ended).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!("the last spans did not reach the collector: {error}"),
            _ => tracing::warn!("the last spans did not reach the collector in time"),
        }
    }
}

/// Whether it is this process's now.
fn installed(subscriber: impl SubscriberInitExt) -> bool {
    let installed = subscriber.try_init();
    if installed.is_err() {
        tracing::debug!("logging was started before, its settings stay");
    }
    installed.is_ok()
}

/// Events as lines. Without anybody else who asks for spans, none are made.
fn logs(filter: &str, format: LogFormat) -> anyhow::Result<Box<dyn Layer<Registry> + Send + Sync>> {
    let events = filter_fn(|metadata| !metadata.is_span()).with_max_level_hint(LevelFilter::TRACE);
    let filter = EnvFilter::try_new(filter)?.and(events);
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    Ok(match format {
        LogFormat::Text => lines.with_target(false).with_filter(filter).boxed(),
        LogFormat::Json => {
            let json = Format::default().json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.fmt_fields(JsonFields::new()).event_format(WithIds(json)).with_filter(filter).boxed()
        }
    })
}

fn is_our_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with(OURS)
}

/// Lines of JSON that end with the ids of the span that they were written in, where there is one.
struct WithIds(Format<Json>);

impl<S, N> FormatEvent<S, N> for WithIds
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some((trace, span)) = trace::with_current(|span| (span.trace_id(), span.span_id())) else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(fields) => writeln!(writer, "{fields},\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"}}"),
            None => writer.write_str(&line),
        }
    }
}

/// Now, as log lines have it: RFC 3339, UTC.
pub fn timestamp() -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Refuses a filter that [`init`] could not read, while the configuration is read.
pub(crate) fn check_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing::{Level, enabled, info_span};

    use super::*;

    #[test]
    fn logs_alone_make_no_span_whatever_they_show() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let subscriber = Registry::default().with(logs("trace", format).unwrap());
            with_default(subscriber, || {
                assert!(enabled!(Level::TRACE));
                assert!(info_span!("request").is_disabled());
            });
        }
    }
}
