//! Asks a service's HTTP port whether it is ready.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Between two questions to a service that still loads.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until `GET /readyz` on `address` answers 200.
pub(crate) async fn ready(address: SocketAddr) {
    while !matches!(ask(address).await, Ok(true)) {
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    // The status line is all that matters, and it comes in one piece: "HTTP/1.1 200 OK".
    let mut line = [0; 12];
    connection.read_exact(&mut line).await?;
    Ok(line.ends_with(b" 200"))
}
