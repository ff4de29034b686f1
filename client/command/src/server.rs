//! How a command reaches a server.

use darkroom_client::{Client, Error};

/// Connects to `address` as whom `api_key` names.
pub(crate) async fn connect(address: &str, api_key: Option<&str>) -> Result<Client, Error> {
    let builder = match api_key {
        Some(key) => Client::builder().api_key(key)?,
        None => Client::builder(),
    };
    builder.connect(address).await
}
