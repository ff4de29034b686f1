//! The settings of tracing: where spans go, and how many of the traces that begin here.

use http::Uri;
use serde::{Deserialize, Serialize};

/// A part of every service's settings, flattened into [`ServerConfig`](crate::ServerConfig).
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
pub struct TraceConfig {
    /// The collector that spans are sent to, by OTLP over gRPC: http://HOST:4317, or https:// with a certificate that the system trusts.
    /// Without it nothing is traced.
    #[arg(long, value_name = "URL", help_heading = "Server", value_parser = endpoint)]
    pub otlp_endpoint: Option<String>,
    /// Share of the traces that begin here which are recorded, 0 to 1. A caller that traces has decided for its own.
    #[arg(long, value_name = "X", help_heading = "Server", value_parser = ratio)]
    pub trace_ratio: f64,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { otlp_endpoint: None, trace_ratio: 1.0 }
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}; use http://HOST:4317"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("it begins with neither http:// nor https://".into());
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err("a name and password have no place in it; OTEL_EXPORTER_OTLP_HEADERS can carry them".into());
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("OTLP over gRPC has no path; use the collector's gRPC port, http://HOST:4317".into());
    }
    Ok(text.to_owned())
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|error| format!("{error}"))?;
    // NaN is in no range.
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(format!("{text} is not in 0 to 1")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_of_a_grpc_port() {
        for good in ["http://collector:4317", "https://collector.example:4317/", "http://[::1]:4317"] {
            assert_eq!(endpoint(good).as_deref(), Ok(good));
        }
        let bad =
            ["", "collector:4317", "grpc://collector:4317", "http://", "http://c:4318/v1/traces", "http://c/?a=b"];
        for bad in bad {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
        let refused = endpoint("http://me:secret@collector:4317").unwrap_err();
        assert!(refused.contains("OTEL_EXPORTER_OTLP_HEADERS") && !refused.contains("secret"), "{refused}");
    }

    #[test]
    fn a_ratio_is_a_share() {
        for (text, share) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0)] {
            assert_eq!(ratio(text), Ok(share));
        }
        for bad in ["", "-0.1", "1.01", "NaN", "inf", "half"] {
            assert!(ratio(bad).is_err(), "{bad}");
        }
    }
}
