//! Logs to standard error, for people or for collectors.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::LogFormat;

/// Starts logging for this process. A process that logs already keeps what it has, so that tests may call it often.
///
/// # Errors
/// When `filter` cannot be read.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before, its settings stay");
    }
    Ok(())
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
