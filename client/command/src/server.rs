//! How a command reaches a server: as whom, and over TLS whom it trusts.

use std::path::{Path, PathBuf};

use darkroom_client::{Client, Tls};

use crate::failure::Failure;

/// The flags of every command that calls a server.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Credentials {
    /// The key by which the server knows you, if it gave you one. Better in the environment: others see a command's flags.
    #[arg(long, value_name = "KEY", env = "DARKROOM_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// Authorities to trust at an https:// server, a PEM file. Without it: the system's.
    #[arg(long, value_name = "FILE", env = "DARKROOM_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// Your certificate with its chain, a PEM file, for a server that asks for one.
    #[arg(long, value_name = "FILE", env = "DARKROOM_CLIENT_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of your certificate, a PEM file.
    #[arg(long, value_name = "FILE", env = "DARKROOM_CLIENT_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Credentials {
    /// Connects to `address`.
    pub(crate) async fn connect(&self, address: &str) -> Result<Client, Failure> {
        let mut builder = Client::builder();
        if let Some(key) = &self.api_key {
            builder = builder.api_key(key)?;
        }
        // Files in the environment are for servers that speak TLS, and no hindrance for others.
        if address.starts_with("https://") {
            builder = builder.tls(self.tls()?);
        }
        Ok(builder.connect(address).await?)
    }

    fn tls(&self) -> Result<Tls, Failure> {
        let mut tls = Tls::new();
        if let Some(ca) = &self.tls_ca {
            tls = tls.authorities(read("--tls-ca", ca)?);
        }
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            tls = tls.identity(read("--tls-cert", cert)?, read("--tls-key", key)?);
        }
        Ok(tls)
    }
}

fn read(flag: &str, file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::Usage(format!("{flag}: cannot read {}: {error}", file.display())))
}
