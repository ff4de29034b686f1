//! Channels to other services, with the limits that a call between services needs.

use std::io;
use std::time::Duration;

use anyhow::Context;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::ClientTls;

/// A peer that does not accept within this time is taken for down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is probed this often, in use or not, so that a frozen peer is noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// A probe must be answered within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A picture of 512x512 pixels is 768 KiB: with HTTP/2's 64 KiB it would take a dozen round trips.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// A channel without TLS that connects with its first call, and again whenever the connection was lost.
///
/// `address` is `host:port` or a URI such as `http://host:port`. It must be called on a tokio runtime.
///
/// # Errors
/// When `address` is no URI, or begins with `https`.
pub fn lazy(address: &str) -> anyhow::Result<Channel> {
    lazy_over(None, address, None)
}

/// As [`lazy`], over `tls` where there is one, whatever the address's scheme. Then the other side must have a certificate of `name`, or
/// of the address's own host where there is no `name`.
///
/// # Errors
/// As [`lazy`], and for a host that no certificate can be of.
pub fn lazy_over(tls: Option<&ClientTls>, address: &str, name: Option<&str>) -> anyhow::Result<Channel> {
    let plain = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://")).unwrap_or(address);
    anyhow::ensure!(!plain.contains("://"), "it is of a scheme that is not spoken here");
    let Some(tls) = tls else {
        anyhow::ensure!(!address.starts_with("https://"), "TLS needs an authority to trust, and none is configured");
        return Ok(endpoint(plain)?.connect_lazy());
    };
    let endpoint = endpoint(plain)?;
    let host = endpoint.uri().host().context("it has no host")?;
    // Without the brackets of an IPv6 address.
    let name = name.unwrap_or(host).trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(name.to_owned()).with_context(|| format!("{name:?} is no name of a host"))?;
    // What is told to the server; where to connect stays as it is, and so is no business of tonic's own TLS.
    let origin: Uri = format!("https://{plain}").parse()?;
    let tls = tls.clone();
    Ok(endpoint.origin(origin).connect_with_connector_lazy(service_fn(move |uri: Uri| {
        let (tls, name) = (tls.clone(), name.clone());
        async move {
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(tls.connect(stream, name).await?))
        }
    })))
}

fn endpoint(plain: &str) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(format!("http://{plain}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}
