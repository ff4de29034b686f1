//! Channels to other services, with the limits that a call between services needs.

use std::time::Duration;

use anyhow::Context;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint};
use tower::{BoxError, ServiceExt, service_fn};

use crate::ClientTls;

/// A peer that does not accept within this time is taken for down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What was sent must be acknowledged by the peer's system within this time, or the connection ends with all its calls
/// (`TCP_USER_TIMEOUT`, RFC 5482). It finds a network that drops packets, whichever way; a process that is frozen or busy
/// acknowledges as long as its buffers last.
#[cfg(target_os = "linux")]
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);
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
        return Ok(endpoint(plain)?.connect_with_connector_lazy(tcp()));
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
            let stream = tcp().oneshot(uri).await?.into_inner();
            Ok::<_, BoxError>(TokioIo::new(tls.connect(stream, name).await?))
        }
    })))
}

fn endpoint(plain: &str) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(format!("http://{plain}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Makes the connections under all channels. tonic's own has no setting for what waits to be acknowledged.
fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT));
    tcp
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use socket2::SockRef;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_nobody_acknowledges_ends_within_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let stream = tcp().oneshot(uri).await.unwrap().into_inner();
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(ACKNOWLEDGE_TIMEOUT));
        assert!(stream.nodelay().unwrap());
    }
}
