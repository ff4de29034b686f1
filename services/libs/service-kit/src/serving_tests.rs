//! A served fake, called over real sockets: health, reflection, deadlines, panics, metrics, limits and drain.

use std::time::{Duration, Instant};

use darkroom_proto::v1::vae_client::VaeClient;
use darkroom_proto::v1::vae_server::{Vae, VaeServer};
use darkroom_proto::v1::{
    DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse, GetInfoRequest, Tensor, VaeInfo,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};

use crate::{Metrics, Peer, Server, ServerConfig, ServiceHandle, channel};

mod hostile;
mod limits;
mod raw;

/// Decode takes as long as the latents' first size says, in milliseconds. Encode panics.
struct Fake;

#[tonic::async_trait]
impl Vae for Fake {
    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        let millis = request.get_ref().latents.as_ref().map_or(0, |latents| latents.shape[0]);
        tokio::time::sleep(Duration::from_millis(millis.into())).await;
        Ok(Response::new(DecodeResponse::default()))
    }

    async fn encode(&self, _: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        panic!("a broken handler")
    }

    async fn get_info(&self, request: Request<GetInfoRequest>) -> Result<Response<VaeInfo>, Status> {
        let addr = Peer::of(&request).addr().expect("a call comes from somewhere");
        assert!(addr.ip().is_loopback() && addr.port() != 0, "{addr}");
        Ok(Response::new(VaeInfo { factor: 8, ..VaeInfo::default() }))
    }
}

async fn serve(change: impl FnOnce(&mut ServerConfig)) -> (ServiceHandle, Metrics) {
    let mut config = ServerConfig::on_port(0);
    change(&mut config);
    let metrics = Metrics::new("vae");
    let server = Server::bind("vae", &config, metrics.clone()).await.unwrap();
    (server.service(VaeServer::new(Fake)).serve().unwrap(), metrics)
}

fn channel_to(handle: &ServiceHandle) -> Channel {
    channel::lazy(&handle.grpc_addr.to_string()).unwrap()
}

fn decode_for(millis: u32) -> DecodeRequest {
    DecodeRequest { latents: Some(Tensor { shape: vec![millis], ..Tensor::default() }), intermediate: false }
}

async fn get(handle: &ServiceHandle, path: &str) -> String {
    let mut stream = TcpStream::connect(handle.http_addr).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn health_and_probes_follow_the_latch() {
    let (handle, _) = serve(|_| ()).await;
    let mut health = HealthClient::new(channel_to(&handle));
    let mut watch = health.watch(HealthCheckRequest { service: "darkroom.v1.Vae".into() }).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status, 2);
    assert!(get(&handle, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&handle, "/readyz").await.starts_with("HTTP/1.1 503"));

    handle.readiness().set_waiting("the denoiser is away");
    assert!(get(&handle, "/readyz").await.ends_with("waiting: the denoiser is away\n"));

    handle.readiness().set_ready();
    assert_eq!(watch.next().await.unwrap().unwrap().status, 1);
    let all = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.status, 1);
    assert!(get(&handle, "/readyz").await.starts_with("HTTP/1.1 200"));
    handle.ready().await.unwrap();

    // A drain tells the watcher, ends its stream, and so does not wait for it.
    let started = Instant::now();
    handle.drain().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(watch.next().await.unwrap().unwrap().status, 2);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn reflection_lists_what_is_served_and_no_more() {
    let (handle, _) = serve(|_| ()).await;
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel_to(&handle));
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, ["darkroom.v1.Vae", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]);
}

#[tokio::test]
async fn a_unary_call_ends_at_its_deadline_with_the_right_code() {
    let (handle, metrics) = serve(|_| ()).await;
    let mut client = VaeClient::new(channel_to(&handle));
    let mut request = Request::new(decode_for(5000));
    request.set_timeout(Duration::from_millis(300));
    let status = client.decode(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let counted = r#"darkroom_requests_total{method="darkroom.v1.Vae/Decode",code="DEADLINE_EXCEEDED"} 1"#;
    assert!(metrics.render().contains(counted), "{}", metrics.render());
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline_too() {
    let (handle, _) = serve(|_| ()).await;
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_millis(300));
    let mut watch = HealthClient::new(channel_to(&handle)).watch(request).await.unwrap().into_inner();
    watch.next().await.unwrap().unwrap();
    let status = watch.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[tokio::test]
async fn a_panic_is_one_calls_internal_error() {
    let (handle, metrics) = serve(|_| ()).await;
    let mut client = VaeClient::new(channel_to(&handle));
    let status = client.encode(EncodeRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert_eq!(client.get_info(GetInfoRequest {}).await.unwrap().into_inner().factor, 8);
    assert!(metrics.render().contains(r#"code="INTERNAL"} 1"#));
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let (handle, _) = serve(|_| ()).await;
    let mut client = VaeClient::new(channel_to(&handle));
    client.get_info(GetInfoRequest {}).await.unwrap();
    let text = get(&handle, "/metrics").await;
    assert!(text.contains(r#"darkroom_requests_total{method="darkroom.v1.Vae/GetInfo",code="OK"} 1"#), "{text}");
    assert!(text.contains(r#"darkroom_request_seconds_count{method="darkroom.v1.Vae/GetInfo"} 1"#), "{text}");
    assert!(text.contains(r#"darkroom_connections{port="grpc"} 1"#), "{text}");
}

#[tokio::test]
async fn a_drain_lets_running_calls_finish_and_takes_no_new_connection() {
    let (handle, metrics) = serve(|_| ()).await;
    let gauge = |name: &str| {
        let text = metrics.render();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap()
    };
    assert_eq!((gauge("darkroom_drain_grace_seconds"), gauge("darkroom_drain_seconds")), (30.0, 0.0));
    let addr = handle.grpc_addr;
    let mut client = VaeClient::new(channel_to(&handle));
    client.get_info(GetInfoRequest {}).await.unwrap();
    let running = tokio::spawn(async move { client.decode(decode_for(1200)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    handle.drain().await.unwrap();
    running.await.unwrap().unwrap();
    assert!(gauge("darkroom_drain_seconds") >= 0.5, "it was told while it lasted");
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_call_that_outlasts_the_grace_ends_with_unavailable() {
    let (handle, _) = serve(|config| config.drain_grace_seconds = 0).await;
    let mut client = VaeClient::new(channel_to(&handle));
    client.get_info(GetInfoRequest {}).await.unwrap();
    let running = tokio::spawn(async move { client.decode(decode_for(60_000)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    handle.drain().await.unwrap();
    let status = running.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("its grace period is over"), "{}", status.message());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let (handle, _) = serve(|_| ()).await;
    let mut config = ServerConfig::on_port(0);
    config.grpc_addr = handle.grpc_addr;
    let bound = Server::bind("vae", &config, Metrics::new("vae")).await;
    let error = bound.err().unwrap().to_string();
    assert_eq!(error, format!("vae cannot listen on grpc_addr {}, choose another address or port 0", handle.grpc_addr));
}
