//! Looks at one worker again and again: whether it is there, ready, which model it runs, and how much it has to do.
//!
//! Asking, rather than holding a `Watch` stream, also finds a worker that is frozen, and needs no word from it to find it gone.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_proto::v1::text_encoder_client::TextEncoderClient;
use darkroom_proto::v1::vae_client::VaeClient;
use darkroom_proto::v1::{GetInfoRequest, GetLoadRequest, GetLoadResponse};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::ledger::Load;
use super::worker::Away;
use super::{Info, Stage, Stages, Worker};

/// One look must be answered within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// A worker whose machine is busy may miss a look. It is taken for away when it has missed as many in a row.
const MISSES: u32 = 3;
/// A worker that is away is looked for more often, from this pause on, so that a fleet that starts together is soon ready.
const EAGER: Duration = Duration::from_millis(50);

/// What a look found.
struct Seen {
    /// `None`: it answers, and takes no work.
    info: Option<Info>,
    load: Option<Load>,
}

/// Runs until the worker is retired and has nothing of ours to do, or until it is dropped.
pub(super) async fn watch(stages: Arc<Stages>, worker: Arc<Worker>, interval: Duration) {
    let mut misses = 0;
    let mut pause = EAGER.min(interval);
    loop {
        let asked = Instant::now();
        let looked = timeout(PATIENCE, look(&worker)).await;
        let changed = match looked {
            Ok(Ok(Seen { info, load })) => {
                misses = 0;
                worker.answered(load, asked);
                match info {
                    Some(info) => worker.set_ready(info),
                    None => worker.set_not_ready(),
                }
            }
            Ok(Err(status)) => worker.set_unreachable(reason(&status)),
            Err(_) => {
                misses += 1;
                let seconds = PATIENCE.as_secs();
                misses >= MISSES && worker.set_away(Away::Silent, format!("does not answer within {seconds} s"))
            }
        };
        if worker.is_forgotten() && stages.forget(&worker) {
            stages.changed();
            return;
        }
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

async fn look(worker: &Worker) -> Result<Seen, Status> {
    let channel = worker.channel.clone();
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    let serving = match health {
        Ok(health) => health.get_ref().status() == ServingStatus::Serving,
        // What a service that drains says of itself: it has taken its name off the list.
        Err(status) if status.code() == Code::NotFound => false,
        Err(status) => return Err(status),
    };
    let load = match worker.stage {
        // Work of ours may run there, ready or not. A worker that cannot tell its load is one without.
        Stage::Denoiser => DenoiserClient::new(channel.clone()).get_load(GetLoadRequest {}).await.ok(),
        Stage::TextEncoder | Stage::Vae => None,
    };
    let load = load.map(tonic::Response::into_inner);
    let draining = load.is_some_and(|load| load.draining);
    let load = load.as_ref().map(Load::from);
    if !serving || draining {
        return Ok(Seen { info: None, load });
    }
    let ask = GetInfoRequest {};
    let info = match worker.stage {
        Stage::TextEncoder => Info::TextEncoder(TextEncoderClient::new(channel).get_info(ask).await?.into_inner()),
        Stage::Denoiser => Info::Denoiser(DenoiserClient::new(channel).get_info(ask).await?.into_inner()),
        Stage::Vae => Info::Vae(VaeClient::new(channel).get_info(ask).await?.into_inner()),
    };
    Ok(Seen { info: Some(info), load })
}

impl From<&GetLoadResponse> for Load {
    fn from(message: &GetLoadResponse) -> Self {
        Self {
            running: message.running,
            waiting: message.waiting,
            remaining_evaluations: message.remaining_evaluations,
            running_pixels: message.running_pixels,
            step_seconds: message.step_seconds,
            remaining_seconds: message.remaining_seconds,
            picture_seconds: message.picture_seconds,
            batch_seconds: message.batch_seconds,
        }
    }
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
