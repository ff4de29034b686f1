//! Which server is meant, and one that does not answer.

use darkroom_client::{Client, Code, Error};

use crate::failure::Failure;
use crate::server::Credentials;

#[derive(Debug, clap::Args)]
pub(super) struct ServerFlags {
    /// The fleet's orchestrator.
    #[arg(long, value_name = "URI", env = "DARKROOM_SERVER", default_value = "http://127.0.0.1:7000")]
    pub(super) server: String,
    #[command(flatten)]
    credentials: Credentials,
}

impl ServerFlags {
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        self.credentials.connect(&self.server).await.map_err(|failure| match failure {
            Failure::Client(error) => self.failure(error),
            other => other,
        })
    }

    /// An error of a call to the server, which may be that nobody answers.
    pub(super) fn failure(&self, error: Error) -> Failure {
        match error.code() {
            Code::Unavailable | Code::DeadlineExceeded => Failure::NoAnswer(error),
            _ => Failure::Client(error),
        }
    }
}
