//! The orchestrator and three fakes on free ports of this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_proto::v1::denoiser_server::DenoiserServer;
use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::image_generation_client::ImageGenerationClient;
use darkroom_proto::v1::text_encoder_server::TextEncoderServer;
use darkroom_proto::v1::vae_server::VaeServer;
use darkroom_proto::v1::{GenerateEvent, GenerateRequest};
use darkroom_service_kit::{Metrics, Server, ServerConfig, ServiceHandle, channel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::fakes::{Behaviour, FakeDenoiser, FakeTextEncoder, FakeVae};
use crate::stages::discovery::{Resolver, SystemResolver};
use crate::{Config, ModelTable};

/// Nothing here takes longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Fleet {
    pub(super) behaviour: Arc<Behaviour>,
    pub(super) text_encoder: ServiceHandle,
    pub(super) denoiser: ServiceHandle,
    pub(super) vae: ServiceHandle,
    pub(super) orchestrator: ServiceHandle,
    pub(super) client: ImageGenerationClient<Channel>,
}

async fn bind(name: &'static str) -> Server {
    bind_at(name, ServerConfig::on_port(0).grpc_addr).await
}

async fn bind_at(name: &'static str, grpc_addr: SocketAddr) -> Server {
    let config = ServerConfig { grpc_addr, ..ServerConfig::on_port(0) };
    // The port may still be held by who is being dropped.
    let until = Instant::now() + PATIENCE;
    let server = loop {
        match Server::bind(name, &config, Metrics::new(name)).await {
            Ok(server) => break server,
            Err(error) => assert!(Instant::now() < until, "{error:#}"),
        }
        sleep(Duration::from_millis(10)).await;
    };
    server.readiness().set_ready();
    server
}

/// A fake on a free port.
pub(super) async fn text_encoder(behaviour: &Arc<Behaviour>) -> ServiceHandle {
    let fake = TextEncoderServer::new(FakeTextEncoder(Arc::clone(behaviour)));
    bind("text-encoder").await.service(fake).serve().unwrap()
}

/// A fake on a free port.
pub(super) async fn denoiser(behaviour: &Arc<Behaviour>) -> ServiceHandle {
    denoiser_at(ServerConfig::on_port(0).grpc_addr, behaviour).await
}

/// A fake on a port of the test's choice.
pub(super) async fn denoiser_at(address: SocketAddr, behaviour: &Arc<Behaviour>) -> ServiceHandle {
    let fake = DenoiserServer::new(FakeDenoiser(Arc::clone(behaviour)));
    bind_at("denoiser", address).await.service(fake).serve().unwrap()
}

/// A fake on a free port.
pub(super) async fn vae(behaviour: &Arc<Behaviour>) -> ServiceHandle {
    bind("vae").await.service(VaeServer::new(FakeVae(Arc::clone(behaviour)))).serve().unwrap()
}

impl Fleet {
    pub(super) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// A fleet whose orchestrator's configuration is changed by `change`; ready.
    pub(super) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let fleet = Self::unready(change).await;
        timeout(PATIENCE, fleet.orchestrator.ready()).await.unwrap().unwrap();
        fleet
    }

    /// The same for two models that have text encoder and VAE in common: "fake", and "other", whose denoisers are at these addresses.
    /// Without waiting for it.
    pub(super) async fn of_two(other: &[SocketAddr], change: impl FnOnce(&mut Config)) -> Self {
        Self::unready(|config| {
            let table = |name: &str, denoisers| {
                let (name, text_encoders, vaes) = (name.to_owned(), None, None);
                ModelTable { name, denoisers, text_encoders, vaes }
            };
            let own = std::mem::replace(&mut config.denoisers, Config::default().denoisers);
            let others = other.iter().map(ToString::to_string).collect();
            config.model = vec![table("fake", own), table("other", others)];
            change(config);
        })
        .await
    }

    /// The same, without waiting for it.
    pub(super) async fn unready(change: impl FnOnce(&mut Config)) -> Self {
        Self::resolving(Arc::new(SystemResolver), change).await
    }

    /// The same, with another answer to where names lead.
    pub(super) async fn resolving(resolver: Arc<dyn Resolver>, change: impl FnOnce(&mut Config)) -> Self {
        let behaviour = Arc::new(Behaviour::default());
        let text_encoder = text_encoder(&behaviour).await;
        let denoiser = denoiser(&behaviour).await;
        let vae = vae(&behaviour).await;
        let mut config = Config {
            text_encoders: vec![text_encoder.grpc_addr.to_string()],
            denoisers: vec![denoiser.grpc_addr.to_string()],
            vaes: vec![vae.grpc_addr.to_string()],
            check_interval_ms: 50,
            server: ServerConfig::on_port(0),
            ..Config::default()
        };
        change(&mut config);
        let orchestrator = crate::start::start_with(config, resolver).await.unwrap();
        let client = ImageGenerationClient::new(channel::lazy(&orchestrator.grpc_addr.to_string()).unwrap());
        Self { behaviour, text_encoder, denoiser, vae, orchestrator, client }
    }

    pub(super) fn set_step_time(&self, step_time: Duration) {
        *self.behaviour.step_time.lock().unwrap() = step_time;
    }

    pub(super) async fn generate(
        &self,
        request: impl tonic::IntoRequest<GenerateRequest>,
    ) -> Result<Streaming<GenerateEvent>, Status> {
        let request: Request<GenerateRequest> = request.into_request();
        Ok(self.client.clone().generate(request).await?.into_inner())
    }

    /// All events, and the status if the stream does not end well.
    pub(super) async fn all(&self, request: impl tonic::IntoRequest<GenerateRequest>) -> (Vec<Event>, Option<Status>) {
        match self.generate(request).await {
            Ok(mut stream) => timeout(PATIENCE, rest(&mut stream)).await.unwrap(),
            Err(status) => (Vec::new(), Some(status)),
        }
    }

    /// Waits until `condition` holds.
    pub(super) async fn eventually(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < until, "{what} never came");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// One sample of the orchestrator's, as it stands in the page after its name and labels; 0 when it is not there.
    pub(super) async fn metric(&self, series: &str) -> f64 {
        let page = self.metrics().await;
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a sample is at least so large.
    pub(super) async fn eventually_metric(&self, series: &str, least: f64) {
        let until = Instant::now() + PATIENCE;
        while self.metric(series).await < least {
            assert!(Instant::now() < until, "{series} never came to {least}:\n{}", self.metrics().await);
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a sample is what it should be.
    pub(super) async fn metric_becomes(&self, series: &str, value: f64) {
        let until = Instant::now() + PATIENCE;
        while self.metric(series).await != value {
            assert!(Instant::now() < until, "{series} never became {value}:\n{}", self.metrics().await);
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.orchestrator.http_addr).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

async fn rest(stream: &mut Streaming<GenerateEvent>) -> (Vec<Event>, Option<Status>) {
    let mut events = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(event)) => events.push(event.event.unwrap()),
            Ok(None) => return (events, None),
            Err(status) => return (events, Some(status)),
        }
    }
}

pub(super) async fn next(stream: &mut Streaming<GenerateEvent>) -> Event {
    let event = timeout(PATIENCE, stream.message()).await.unwrap();
    event.unwrap().unwrap().event.unwrap()
}

pub(super) fn request() -> GenerateRequest {
    GenerateRequest { prompt: "a red circle".into(), seed: Some(42), ..GenerateRequest::default() }
}

/// One word an event.
pub(super) fn kinds(events: &[Event]) -> Vec<&'static str> {
    let kind = |event: &Event| match event {
        Event::Queued(_) => "queued",
        Event::Started(_) => "started",
        Event::Step(_) => "step",
        Event::Image(_) => "image",
        Event::ImageFailed(_) => "image_failed",
        Event::Completed(_) => "completed",
    };
    events.iter().map(kind).collect()
}
