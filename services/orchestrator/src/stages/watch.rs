//! Looks at one worker again and again: whether it is there, ready, and which model it runs.
//!
//! Asking, rather than holding a `Watch` stream, also finds a worker that is frozen, and needs no word from it to find it gone.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use darkroom_proto::v1::GetInfoRequest;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_proto::v1::text_encoder_client::TextEncoderClient;
use darkroom_proto::v1::vae_client::VaeClient;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Info, Stage, Stages, Worker};

/// One look must be answered within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// A worker whose machine is busy may miss a look. It is taken for away when it has missed as many in a row.
const MISSES: u32 = 3;
/// A worker that is away is looked for more often, from this pause on, so that a fleet that starts together is soon ready.
const EAGER: Duration = Duration::from_millis(50);

/// Runs until it is dropped.
pub(super) async fn watch(stages: Arc<Stages>, worker: Arc<Worker>, interval: Duration) {
    let mut misses = 0;
    let mut pause = EAGER.min(interval);
    loop {
        let looked = timeout(PATIENCE, look(&worker)).await;
        let changed = match looked {
            Ok(Ok(info)) => {
                misses = 0;
                worker.set_ready(info)
            }
            Ok(Err(status)) => worker.set_away(reason(&status)),
            Err(_) => {
                misses += 1;
                let seconds = PATIENCE.as_secs();
                misses >= MISSES && worker.set_away(format!("does not answer within {seconds} s"))
            }
        };
        if changed {
            stages.changed();
        }
        pause = if worker.info().is_some() { interval } else { (pause * 2).min(interval) };
        if timeout(pause, worker.suspected()).await.is_ok() {
            stages.changed();
            pause = EAGER.min(interval);
        }
    }
}

async fn look(worker: &Worker) -> Result<Info, Status> {
    let channel = worker.channel.clone();
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await?;
    if health.get_ref().status() != ServingStatus::Serving {
        return Err(Status::unavailable("is not ready: it loads its model or drains"));
    }
    let ask = GetInfoRequest {};
    Ok(match worker.stage {
        Stage::TextEncoder => Info::TextEncoder(TextEncoderClient::new(channel).get_info(ask).await?.into_inner()),
        Stage::Denoiser => Info::Denoiser(DenoiserClient::new(channel).get_info(ask).await?.into_inner()),
        Stage::Vae => Info::Vae(VaeClient::new(channel).get_info(ask).await?.into_inner()),
    })
}

/// The status in words, down to the cause that tonic keeps to itself ("connection refused").
pub(super) fn reason(status: &Status) -> String {
    let mut deepest: Option<&dyn Error> = status.source();
    while let Some(next) = deepest.and_then(Error::source) {
        deepest = Some(next);
    }
    match deepest {
        Some(cause) => cause.to_string(),
        None if status.code() == Code::Unimplemented => "is no service of this stage".into(),
        None => status.message().to_owned(),
    }
}
