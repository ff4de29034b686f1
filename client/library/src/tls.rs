//! Whom a client trusts, and how it proves who it is, on a connection to `https://…`.

use std::fmt;

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Certificates in PEM, as files hold them. Without authorities of its own a client trusts those of the system.
#[derive(Clone, Default)]
pub struct Tls {
    authorities: Option<Vec<u8>>,
    identity: Option<[Vec<u8>; 2]>,
}

impl Tls {
    /// Trusts the system's authorities, and shows no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these authorities, and no others.
    pub fn authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(pem.into());
        self
    }

    /// Shows the server a certificate with its chain, where the server asks for one.
    pub fn identity(mut self, certificate_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.identity = Some([certificate_pem.into(), key_pem.into()]);
        self
    }

    pub(crate) fn config(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new();
        let config = match &self.authorities {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_native_roots(),
        };
        match &self.identity {
            Some([certificate, key]) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        }
    }
}

/// Never the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (authorities, identity) = (self.authorities.is_some(), self.identity.is_some());
        f.debug_struct("Tls").field("authorities", &authorities).field("identity", &identity).finish()
    }
}
