//! Which server is meant, and one that does not answer.

use darkroom_client::{Client, Code, Error};

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct ServerFlags {
    /// The fleet's orchestrator.
    #[arg(long, value_name = "URI", env = "DARKROOM_SERVER", default_value = "http://127.0.0.1:7000")]
    pub(super) server: String,
    /// The key by which the server knows you, if it gave you one. Better in the environment: others see a command's flags.
    #[arg(long, value_name = "KEY", env = "DARKROOM_API_KEY", hide_env_values = true)]
    pub(super) api_key: Option<String>,
}

impl ServerFlags {
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        crate::server::connect(&self.server, self.api_key.as_deref()).await
    }

    /// An error of a call to the server, which may be that nobody answers.
    pub(super) fn failure(&self, error: Error) -> Failure {
        match error.code() {
            Code::Unavailable | Code::DeadlineExceeded => Failure::NoAnswer(error),
            _ => Failure::Client(error),
        }
    }
}
