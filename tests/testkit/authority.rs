//! Certificate authorities for tests of TLS, whose certificates lie in files as an operator's do.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

/// Makes certificates, in files of one folder.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// PEM.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, whose files go into `folder` under its `name`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self { issuer, folder: folder.join(name) };
        std::fs::create_dir_all(&authority.folder)?;
        std::fs::write(authority.ca(), authority.issuer.pem())?;
        Ok(authority)
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for `hosts`, names or addresses, in files called `name`, which are written over.
    ///
    /// # Errors
    /// When a host is none, or the files cannot be written.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> anyhow::Result<Identity> {
        self.issue_with(name, hosts, |_| ())
    }

    /// One that was good until 2001.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_expired(&self, name: &str, hosts: &[&str]) -> anyhow::Result<Identity> {
        self.issue_with(name, hosts, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
        })
    }

    fn issue_with(
        &self,
        name: &str,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> anyhow::Result<Identity> {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts)?;
        change(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let file = |part: &str| self.folder.join(format!("{name}.{part}.pem"));
        let identity = Identity { cert: file("cert"), key: file("key") };
        std::fs::write(&identity.cert, certificate.pem())?;
        std::fs::write(&identity.key, key.serialize_pem())?;
        Ok(identity)
    }
}
