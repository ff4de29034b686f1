//! The client against a server that plays a part: by the prompt it answers well, badly, late or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects by panicking")]

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_client::{Client, Code, Error, Event, GenerateRequest, Picture};
use darkroom_proto::v1;
use darkroom_proto::v1::generate_event::Event as Message;
use darkroom_proto::v1::image_generation_server::{ImageGeneration, ImageGenerationServer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

type Events = Pin<Box<dyn Stream<Item = Result<v1::GenerateEvent, Status>> + Send>>;

/// The server; its `signal` is heard when a stream of its was cancelled, and ends one that waits for it.
#[derive(Default)]
struct Actor {
    signal: Arc<Notify>,
}

#[tonic::async_trait]
impl ImageGeneration for Actor {
    type GenerateStream = Events;

    async fn generate(&self, request: Request<v1::GenerateRequest>) -> Result<Response<Events>, Status> {
        let request = request.into_inner();
        let completed = Message::Completed(v1::Completed { images: 1, ..Default::default() });
        let events: Events = match request.prompt.as_str() {
            "busy" => {
                let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
                return Err(Status::with_error_details(Code::ResourceExhausted, "the queue is full", details));
            }
            "never" => return std::future::pending().await,
            "silent" => Box::pin(Silent(Arc::clone(&self.signal))),
            "cut short" => script([Message::Started(started(&request))]),
            "breaks" => Box::pin(tokio_stream::iter([Err(Status::unavailable("vae: no worker is ready"))])),
            "latents" => script([Message::Image(latents(16)), completed]),
            "late end" => {
                let signal = Arc::clone(&self.signal);
                let (said, ended) = tokio::sync::mpsc::unbounded_channel();
                tokio::spawn(async move {
                    _ = said.send(event(completed));
                    signal.notified().await;
                });
                Box::pin(UnboundedReceiverStream::new(ended))
            }
            "breaks at the end" => Box::pin(script([completed]).chain(script_of([Err(Status::unavailable("gone"))]))),
            "lies" => script([Message::Image(latents(12)), completed]),
            _ => script([Message::Queued(v1::Queued::default()), Message::Started(started(&request)), completed]),
        };
        Ok(Response::new(events))
    }

    async fn list_models(&self, _: Request<v1::ListModelsRequest>) -> Result<Response<v1::ListModelsResponse>, Status> {
        std::future::pending().await
    }

    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        Ok(Response::new(v1::GetServerInfoResponse { version: "1.2.3".into(), ..Default::default() }))
    }
}

/// A stream without an event, which tells when it is dropped.
struct Silent(Arc<Notify>);

impl Stream for Silent {
    type Item = Result<v1::GenerateEvent, Status>;

    fn poll_next(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn script<const N: usize>(messages: [Message; N]) -> Events {
    script_of(messages.map(event))
}

fn event(message: Message) -> Result<v1::GenerateEvent, Status> {
    Ok(v1::GenerateEvent { request_id: "r-1".into(), event: Some(message) })
}

fn script_of<const N: usize>(items: [Result<v1::GenerateEvent, Status>; N]) -> Events {
    Box::pin(tokio_stream::iter(items))
}

fn started(request: &v1::GenerateRequest) -> v1::Started {
    v1::Started { seed: request.seed.unwrap_or(5), num_images: request.num_images.unwrap_or(1), ..Default::default() }
}

/// Latents of shape [1, 2, 2] with this many bytes; 16 are right.
fn latents(bytes: usize) -> v1::Image {
    let tensor = v1::Tensor { dtype: v1::Dtype::F32.into(), shape: vec![1, 2, 2], data: vec![0; bytes].into() };
    v1::Image { latents: Some(tensor), ..Default::default() }
}

async fn connect() -> (Client, Arc<Notify>) {
    let actor = Actor::default();
    let signal = Arc::clone(&actor.signal);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(ImageGenerationServer::new(actor));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let client = Client::builder().call_timeout(Duration::from_millis(100)).connect(address.to_string()).await;
    (client.unwrap(), signal)
}

async fn events(prompt: &str) -> Vec<Result<Event, Error>> {
    let (client, _) = connect().await;
    client.generate(GenerateRequest::new(prompt)).await.unwrap().collect().await
}

#[tokio::test]
async fn events_come_in_order_and_the_stream_ends_after_the_last() {
    let (client, _) = connect().await;
    let mut generation = client.generate(GenerateRequest::new("a red circle").seed(9)).await.unwrap();
    assert_eq!(generation.request_id(), "");
    assert!(matches!(generation.next().await, Some(Ok(Event::Queued(queued))) if queued.estimated.is_none()));
    assert_eq!(generation.request_id(), "r-1");
    assert!(matches!(generation.next().await, Some(Ok(Event::Started(settings))) if settings.seed == 9));
    assert!(matches!(generation.next().await, Some(Ok(Event::Completed(done))) if done.images == 1));
    assert!(generation.next().await.is_none());
    assert!(generation.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_ends_too_soon_is_an_error() {
    let events = events("cut short").await;
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].as_ref().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn what_was_completed_is_completed_however_the_stream_ends() {
    let events = events("breaks at the end").await;
    assert!(matches!(events[..], [Ok(Event::Completed(_))]), "{events:?}");
}

/// Callers let go after the last event, and the client's HTTP/2 gives up a connection with 1024 streams that were let go before
/// their end came in.
#[tokio::test]
async fn the_last_event_comes_with_the_end_of_the_stream() {
    let (client, end) = connect().await;
    let mut generation = client.generate(GenerateRequest::new("late end")).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), generation.next()).await.is_err());
    end.notify_one();
    assert!(matches!(generation.next().await, Some(Ok(Event::Completed(_)))));
}

#[tokio::test]
async fn an_error_in_the_stream_is_its_last_item() {
    let events = events("breaks").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].as_ref().unwrap_err().to_string(), "vae: no worker is ready");
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let (client, _) = connect().await;
    let error = client.generate(GenerateRequest::new("busy")).await.unwrap_err();
    assert_eq!((error.code(), error.retry_after()), (Code::ResourceExhausted, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn latents_are_checked() {
    let events = events("latents").await;
    let Ok(Event::Image(image)) = &events[0] else { panic!("{events:?}") };
    assert!(
        matches!(&image.picture, Picture::Latents(latents) if latents.shape == [1, 2, 2] && latents.values == [0.0; 4])
    );

    let events = self::events("lies").await;
    assert!(matches!(events[..], [Err(Error::Contract(_))]), "{events:?}");
}

#[tokio::test]
async fn dropping_a_generation_cancels_it() {
    let (client, dropped) = connect().await;
    let generation = client.generate(GenerateRequest::new("silent")).await.unwrap();
    drop(generation);
    tokio::time::timeout(Duration::from_secs(5), dropped.notified())
        .await
        .expect("the server's stream was not dropped");
}

#[tokio::test]
async fn a_deadline_holds_even_when_the_server_is_silent() {
    let (client, dropped) = connect().await;
    for prompt in ["never", "silent"] {
        let asked = Instant::now();
        let request = GenerateRequest::new(prompt).deadline(Duration::from_millis(50));
        let error = match client.generate(request).await {
            Ok(mut generation) => generation.next().await.unwrap().unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code(), Code::DeadlineExceeded, "{prompt}: {error}");
        assert!(asked.elapsed() < Duration::from_secs(3));
    }
    // Giving up cancels: the stream is dropped together with the generation.
    tokio::time::timeout(Duration::from_secs(5), dropped.notified())
        .await
        .expect("the server's stream was not dropped");
}

#[tokio::test]
async fn short_calls_have_a_timeout_of_their_own() {
    let (client, _) = connect().await;
    assert_eq!(client.server_info().await.unwrap().version, "1.2.3");
    assert_eq!(client.list_models().await.unwrap_err().code(), Code::DeadlineExceeded);
}
