//! The side that is called.

use std::io;
use std::sync::Arc;

use anyhow::{Context, bail};
use metrics::Counter;
use rustls::ServerConfig as Rustls;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::failure::{REASONS, Reason, reason};
use super::{HTTP2, Identity, Named, provider};
use crate::reloading::Reloading;
use crate::{Metrics, ServerConfig};

/// Takes TLS connections as the files of the configuration say now.
#[derive(Clone)]
pub(crate) struct ServerTls {
    config: Arc<Reloading<Rustls>>,
    failed: Arc<[(Reason, Counter)]>,
}

impl ServerTls {
    /// `None` where nothing is configured.
    ///
    /// # Errors
    /// For files that cannot be used, or that lack another; the message names the setting and the file.
    pub(crate) fn of(config: &ServerConfig, metrics: &Metrics) -> anyhow::Result<Option<Self>> {
        let cert = Named::of("tls_cert", config.tls_cert.as_deref());
        let key = Named::of("tls_key", config.tls_key.as_deref());
        let clients = Named::of("tls_client_ca", config.tls_client_ca.as_deref());
        let failed = REASONS.map(|reason| {
            let help = "TLS handshakes that came to nothing, by what was wrong";
            (reason, metrics.counter("tls_handshakes_failed_total", help, &[("reason", reason)]))
        });
        let Some(identity) = Identity::of(cert, key, ["tls_cert", "tls_key"])? else {
            if clients.is_some() {
                bail!("tls_client_ca needs tls_cert and tls_key beside it: without them no certificate is asked for");
            }
            return Ok(None);
        };
        let files = identity.files().into_iter().chain(clients.iter().map(|file| file.path.clone())).collect();
        let read = move || build(&identity, clients.as_ref());
        let config = Reloading::new("the certificates of the gRPC port", files, read)?;
        Ok(Some(Self { config: Arc::new(config), failed: failed.into() }))
    }

    /// The handshake. Whoever waits for it bounds its time.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let accepted = TlsAcceptor::from(self.config.get()).accept(stream).await;
        if let Err(error) = &accepted {
            let found = reason(error);
            for (_, counter) in self.failed.iter().filter(|(reason, _)| *reason == found) {
                counter.increment(1);
            }
        }
        accepted
    }
}

fn build(identity: &Identity, clients: Option<&Named>) -> anyhow::Result<Rustls> {
    let builder = Rustls::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(file.authorities()?, provider());
            builder.with_client_cert_verifier(verifier.build().with_context(|| file.place())?)
        }
    };
    let (certificates, key) = identity.read()?;
    let mut config = builder.with_single_cert(certificates, key).with_context(|| identity.place())?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}
