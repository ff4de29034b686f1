//! TLS on a service's own port and towards others, with rustls. Certificates and keys are PEM files that are read again when they change.
//!
//! Three files speak for one side: its certificate with the chain up to an authority, the key of that certificate, and the authorities
//! whose certificates it takes from the other side.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use client::ClientTls;
pub(crate) use server::ServerTls;

mod client;
mod failure;
mod server;

/// The protocol that gRPC is spoken over.
const HTTP2: &[u8] = b"h2";

/// A certificate and its key. Both files, or none.
#[derive(Debug, Clone)]
struct Identity {
    cert: Named,
    key: Named,
}

/// A file with the setting that names it.
#[derive(Debug, Clone)]
struct Named {
    setting: &'static str,
    path: PathBuf,
}

impl Named {
    fn of(setting: &'static str, path: Option<&Path>) -> Option<Self> {
        path.map(|path| Self { setting, path: path.to_owned() })
    }

    /// Says which file is wrong, and for what it was named.
    fn place(&self) -> String {
        format!("{}: {}", self.setting, self.path.display())
    }

    fn certificates(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(self.open()?).collect();
        let found = found.with_context(|| format!("{}: it is no PEM file", self.place()))?;
        ensure!(!found.is_empty(), "{}: there is no certificate in it, it needs one in PEM", self.place());
        Ok(found)
    }

    fn key(&self) -> anyhow::Result<PrivateKeyDer<'static>> {
        // The reader's own error may show what it read.
        let key = PrivateKeyDer::from_pem_reader(self.open()?);
        key.ok().with_context(|| format!("{}: there is no private key in it, it needs one in PEM", self.place()))
    }

    fn authorities(&self) -> anyhow::Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).with_context(|| format!("{}: it is no authority's certificate", self.place()))?;
        }
        Ok(Arc::new(roots))
    }

    fn open(&self) -> anyhow::Result<BufReader<File>> {
        Ok(BufReader::new(File::open(&self.path).with_context(|| format!("{}: cannot be read", self.place()))?))
    }
}

impl Identity {
    /// # Errors
    /// For one without the other.
    fn of(cert: Option<Named>, key: Option<Named>, settings: [&str; 2]) -> anyhow::Result<Option<Self>> {
        let [cert_setting, key_setting] = settings;
        Ok(match (cert, key) {
            (Some(cert), Some(key)) => Some(Self { cert, key }),
            (None, None) => None,
            (Some(_), None) => bail!("{cert_setting} needs {key_setting} beside it"),
            (None, Some(_)) => bail!("{key_setting} needs {cert_setting} beside it"),
        })
    }

    fn read(&self) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        Ok((self.cert.certificates()?, self.key.key()?))
    }

    fn files(&self) -> [PathBuf; 2] {
        [self.cert.path.clone(), self.key.path.clone()]
    }

    /// The context of an error that concerns both: a key of another certificate.
    fn place(&self) -> String {
        format!("{} with {}", self.cert.place(), self.key.place())
    }
}

/// ring, named wherever it is used: nothing depends on which libraries else are in the process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
