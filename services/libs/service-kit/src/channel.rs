//! Channels to other services, with the limits that a call between services needs.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Error};

/// A peer that does not accept within this time is taken for down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is probed this often, in use or not, so that a frozen peer is noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// A probe must be answered within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A picture of 512x512 pixels is 768 KiB: with HTTP/2's 64 KiB it would take a dozen round trips.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// A channel that connects with its first call, and again whenever the connection was lost.
///
/// `address` is `host:port` or a URI such as `http://host:port`. It must be called on a tokio runtime.
///
/// # Errors
/// When `address` is no URI.
pub fn lazy(address: &str) -> Result<Channel, Error> {
    let uri = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(uri)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}
