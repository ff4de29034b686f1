//! One request, from when it is due to its end.

use std::time::Instant;

use darkroom_client::{Client, Code, Error, Event, GenerateRequest};
use tokio_stream::StreamExt;

use super::flags::Flags;
use super::tally::{End, Tally};
use crate::failure::Failure;

/// Requests at once on one connection. A server takes 256 by default, and further ones would wait here.
const ON_A_CONNECTION: usize = 128;

/// Whom to ask, and for what.
#[derive(Debug)]
pub(super) struct Asking {
    flags: Flags,
    prompts: Vec<String>,
    seed: u64,
    clients: Vec<Client>,
    /// What the server said of itself before the test.
    pub(super) version: String,
    pub(super) model: String,
}

impl Asking {
    /// Opens all connections, and refuses what the server would refuse of every request.
    pub(super) async fn connect(flags: Flags, prompts: Vec<String>, seed: u64) -> Result<Self, Failure> {
        let server = &flags.server;
        let first = server.connect().await?;
        let info = first.server_info().await.map_err(|error| server.failure(error))?;
        if !info.ready {
            return Err(Failure::NotReady(format!("the fleet cannot serve: {}", info.problem)));
        }
        let models = first.list_models().await?;
        let mut clients = vec![first];
        for _ in 1..flags.load.most_at_once().div_ceil(ON_A_CONNECTION) {
            clients.push(server.connect().await?);
        }
        let model = match flags.model() {
            Some(name) => models.iter().find(|model| model.name == name),
            None => models.first(),
        };
        let Some(model) = model else {
            let names: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
            return Err(Failure::Usage(format!("--model: the server has {}", names.join(", "))));
        };
        if flags.n_samples() > model.max_images {
            return Err(Failure::Usage(format!("--n-samples: this server makes {} at most", model.max_images)));
        }
        let model = model.name.clone();
        Ok(Self { flags, prompts, seed, clients, version: info.version, model })
    }

    pub(super) fn flags(&self) -> &Flags {
        &self.flags
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    fn request(&self, number: u64) -> GenerateRequest {
        let turn = number as usize % self.prompts.len().max(1);
        let prompt = self.prompts.get(turn).map_or("", String::as_str);
        // As far apart as the pictures of a request can be many.
        self.flags.request(prompt, self.seed.wrapping_add(number.wrapping_mul(self.flags.n_samples().into())))
    }

    /// Asks the `number`-th time and follows the answer to its end, which it returns besides writing it down.
    ///
    /// # Errors
    /// What would be the answer to every other request, too: there is no sense in going on.
    pub(super) async fn ask(&self, number: u64, due: Instant, tally: &Tally) -> Result<End, Error> {
        tally.sent(due);
        let client = &self.clients[number as usize % self.clients.len()];
        let mut first_event = None;
        let followed = async {
            let mut generation = client.generate(self.request(number)).await?;
            while let Some(event) = generation.next().await {
                let event = event?;
                first_event.get_or_insert_with(|| due.elapsed());
                match event {
                    Event::Image(_) => tally.image(),
                    Event::ImageFailed(_) => tally.image_failed(),
                    Event::Completed(completed) => return Ok(End::Completed(completed.seconds)),
                    _ => {}
                }
            }
            // The library ends no stream well without its last event.
            Err(Error::Contract("the stream ended early".into()))
        };
        let end = match followed.await {
            Ok(end) => end,
            Err(error) if first_event.is_some() => End::Failed(error.code()),
            Err(error) if is_hopeless(error.code()) => return Err(error),
            Err(error) => End::Refused(error.code(), error.retry_after()),
        };
        tally.ended(due, first_event, &end);
        Ok(end)
    }
}

/// Whether a request that is refused so would be refused at any other time.
fn is_hopeless(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented)
}
