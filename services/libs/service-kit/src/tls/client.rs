//! The side that calls.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{HTTP2, Identity, Named, provider};
use crate::reloading::Reloading;

/// Whom to trust when calling other services, and who calls, as the files say now. Clones share it.
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<Reloading<ClientConfig>>,
}

impl ClientTls {
    /// `settings` name the files for messages: of the authorities, the own certificate and its key. `None` where nothing is configured.
    ///
    /// # Errors
    /// For files that cannot be used, or that lack another; the message names the setting and the file.
    pub fn of(
        settings: [&'static str; 3],
        ca: Option<&Path>,
        cert: Option<&Path>,
        key: Option<&Path>,
    ) -> anyhow::Result<Option<Self>> {
        let [ca_setting, cert_setting, key_setting] = settings;
        let identity =
            Identity::of(Named::of(cert_setting, cert), Named::of(key_setting, key), [cert_setting, key_setting])?;
        let Some(authorities) = Named::of(ca_setting, ca) else {
            if identity.is_some() {
                bail!("{cert_setting} needs {ca_setting} beside it: without it no TLS is spoken");
            }
            return Ok(None);
        };
        let files = [authorities.path.clone()].into_iter().chain(identity.iter().flat_map(Identity::files)).collect();
        let read = move || build(&authorities, identity.as_ref());
        let config = Reloading::new("the certificates for calls of other services", files, read)?;
        Ok(Some(Self { config: Arc::new(config) }))
    }

    /// The handshake with a server that must have a certificate of `name`: a host's name, or an address.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        name: ServerName<'static>,
    ) -> io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(self.config.get()).connect(name, stream).await
    }
}

fn build(authorities: &Named, identity: Option<&Identity>) -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(authorities.authorities()?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (certificates, key) = identity.read()?;
            builder.with_client_auth_cert(certificates, key).with_context(|| identity.place())?
        }
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}
