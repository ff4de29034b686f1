//! A denoiser without a model: its one number a picture depends on every evaluation before, so that a resume that loses or
//! repeats one shows in the result.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use darkroom_proto::v1::denoise_event::Event;
use darkroom_proto::v1::denoiser_server::Denoiser;
use darkroom_proto::v1::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Behaviour, Trouble, denoiser_info};
use crate::stages::Stage;

pub(crate) struct FakeDenoiser(pub(crate) Arc<Behaviour>);

/// Every element of the latents after `evaluations`.
pub(crate) fn latent(seed: u64, evaluations: u32) -> f32 {
    (0..evaluations).fold(seed as f32, evaluate)
}

fn evaluate(value: f32, evaluation: u32) -> f32 {
    value * 0.5 + evaluation as f32
}

#[tonic::async_trait]
impl Denoiser for FakeDenoiser {
    type DenoiseStream = ReceiverStream<Result<DenoiseEvent, Status>>;

    async fn denoise(&self, request: Request<DenoiseRequest>) -> Result<Response<Self::DenoiseStream>, Status> {
        let behaviour = Arc::clone(&self.0);
        behaviour.deadlines.fetch_add(u32::from(request.metadata().contains_key("grpc-timeout")), Ordering::SeqCst);
        let request = request.into_inner();
        behaviour.denoised.lock().unwrap().push(request.clone());
        behaviour.refuse(Stage::Denoiser)?;
        let takes = match behaviour.plan_version.load(Ordering::SeqCst) {
            0 => denoiser_info().plan_version,
            other => other,
        };
        if request.resume_from.as_ref().is_some_and(|checkpoint| checkpoint.plan_version != takes) {
            return Err(Status::failed_precondition("plan_version: another one"));
        }
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let run = Run { request, behaviour: &behaviour, sender };
            let ended = tokio::select! {
                ended = run.events() => ended,
                () = behaviour.die.notified() => run.dies().await,
            };
            if ended.is_none() {
                behaviour.cancelled.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<DenoiserInfo>, Status> {
        let inpainting = self.0.inpainting.load(Ordering::SeqCst);
        Ok(Response::new(DenoiserInfo { stage: self.0.stage_info(), inpainting, ..denoiser_info() }))
    }

    async fn get_load(&self, _: Request<GetLoadRequest>) -> Result<Response<GetLoadResponse>, Status> {
        self.0.loads_told.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(*self.0.load.lock().unwrap()))
    }
}

/// One picture.
struct Run<'a> {
    request: DenoiseRequest,
    behaviour: &'a Behaviour,
    sender: mpsc::Sender<Result<DenoiseEvent, Status>>,
}

impl Run<'_> {
    /// All events; `None` when the listener has gone.
    async fn events(&self) -> Option<()> {
        let Self { request, behaviour, .. } = self;
        let strength = request.init.as_ref().map_or(1.0, |init| init.strength);
        let of = (f64::from(request.num_inference_steps) * strength) as u32;
        let (mut value, from) = match &request.resume_from {
            Some(checkpoint) => (first(checkpoint), checkpoint.evaluation),
            None => (request.seed as f32, 0),
        };
        self.pause().await;
        self.send(Event::Accepted(DenoiseAccepted { evaluations: of - from })).await?;
        if self.trouble(0) == Some(Trouble::DrainsWaiting) {
            self.send(Event::Draining(DenoiseDraining {})).await?;
            self.pause().await;
        }
        for evaluation in from..of {
            self.pause().await;
            behaviour.evaluations.lock().unwrap().push((request.seed, evaluation));
            value = evaluate(value, evaluation);
            let step = evaluation + 1;
            self.send(Event::Step(DenoiseStep { step, of, preview: self.preview(step) })).await?;
            if behaviour.bad_seeds.lock().unwrap().contains(&request.seed) {
                return self.sender.send(Err(Status::internal("the fake fails"))).await.ok();
            }
            self.send(Event::Checkpoint(self.checkpoint(step, value))).await?;
            match self.trouble(step) {
                Some(Trouble::Dies) => return self.dies().await,
                Some(Trouble::Hangs) => {
                    self.sender.closed().await;
                    return None;
                }
                Some(Trouble::Drains) => self.send(Event::Draining(DenoiseDraining {})).await?,
                Some(Trouble::Echoes) => self.echo(step, of).await?,
                Some(Trouble::DrainsWaiting) | None => {}
            }
        }
        self.pause().await;
        self.send(self.finished(value)).await
    }

    fn trouble(&self, evaluations: u32) -> Option<Trouble> {
        let trouble = *self.behaviour.trouble.lock().unwrap();
        trouble.filter(|(after, _)| *after == evaluations).map(|(_, trouble)| trouble)
    }

    /// Everything that could do harm, under the number of a try that is over.
    async fn echo(&self, step: u32, of: u32) -> Option<()> {
        let attempt = self.request.attempt.wrapping_sub(1);
        let step = Event::Step(DenoiseStep { step: step + 1, of, preview: None });
        for event in [step, Event::Checkpoint(self.checkpoint(of, -1.0)), self.finished(-1.0)] {
            self.sender.send(Ok(DenoiseEvent { event: Some(event), attempt })).await.ok()?;
        }
        Some(())
    }

    async fn dies(&self) -> Option<()> {
        self.sender.send(Err(Status::unavailable("the fake dies"))).await.ok()
    }

    async fn pause(&self) {
        let pause = *self.behaviour.step_time.lock().unwrap();
        tokio::time::sleep(pause).await;
    }

    async fn send(&self, event: Event) -> Option<()> {
        let event = DenoiseEvent { event: Some(event), attempt: self.request.attempt };
        self.sender.send(Ok(event)).await.ok()
    }

    fn tensor(&self, value: f32) -> Option<Tensor> {
        let (height, width) = (self.request.latent_height as usize, self.request.latent_width as usize);
        Some(Tensor::from_f32(&[4, height, width], &vec![value; 4 * height * width]))
    }

    fn finished(&self, value: f32) -> Event {
        Event::Finished(DenoiseFinished { latents: self.tensor(value), seconds: 0.1, queue_seconds: 0.0 })
    }

    fn checkpoint(&self, evaluation: u32, value: f32) -> Checkpoint {
        let states = vec![StateTensor { name: "latents".into(), tensor: self.tensor(value) }];
        Checkpoint { plan_version: denoiser_info().plan_version, evaluation, states, noise_draws: 0 }
    }

    fn preview(&self, step: u32) -> Option<Tensor> {
        let Self { request, .. } = self;
        let (height, width) = (request.latent_height as usize, request.latent_width as usize);
        let asked = request.preview_every != 0 && step.is_multiple_of(request.preview_every);
        asked.then(|| Tensor::from_u8(&[height, width, 3], vec![200; height * width * 3]))
    }
}

/// The value that a checkpoint holds.
fn first(checkpoint: &Checkpoint) -> f32 {
    let data = checkpoint.states.first().and_then(|state| state.tensor.as_ref()).map(|tensor| &tensor.data[..4]);
    data.map_or(f32::NAN, |bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
}
