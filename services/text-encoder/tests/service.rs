//! The text encoder with the embedded model, called over gRPC.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by panicking")]

use std::time::Duration;

use darkroom_models::stage::{Device, Precision};
use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1::text_encoder_client::TextEncoderClient;
use darkroom_proto::v1::{EncodeTextRequest, GetInfoRequest};
use darkroom_service_kit::{ModelArgs, ServerConfig, ServiceHandle};
use darkroom_text_encoder::{Config, start};
use tonic::transport::Channel;
use tonic::{Code, Request};

async fn connect(handle: &ServiceHandle) -> TextEncoderClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", handle.grpc_addr)).unwrap();
    TextEncoderClient::new(endpoint.connect().await.unwrap())
}

async fn serve() -> (ServiceHandle, TextEncoderClient<Channel>) {
    let handle = start(Config { server: ServerConfig::on_port(0), ..Config::default() }).await.unwrap();
    handle.ready().await.unwrap();
    let client = connect(&handle).await;
    (handle, client)
}

fn request(prompts: &[&str]) -> EncodeTextRequest {
    EncodeTextRequest { prompts: prompts.iter().map(ToString::to_string).collect(), clip_skip: 0 }
}

#[tokio::test]
async fn prompts_become_embeddings_and_company_changes_nothing() {
    let (handle, mut client) = serve().await;
    let info = client.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    let stage = info.stage.unwrap();
    let precision = Precision::Auto.on(Device::Cpu).to_string();
    assert_eq!((stage.model, stage.precision, stage.device), ("pocket".into(), precision, "cpu".into()));
    assert_eq!(stage.revision.len(), 64);
    let shape = [info.max_tokens as usize, info.hidden_size as usize];
    assert_eq!(shape, [77, 96]);

    let both = client.encode_text(request(&["a red circle", ""])).await.unwrap().into_inner().embeddings;
    assert_eq!(both.len(), 2);
    for embedding in &both {
        let view = TensorView::required(embedding.prompt_embeds.as_ref(), "prompt_embeds").unwrap();
        view.expect_shape(&shape).unwrap().to_f32().unwrap();
        assert_eq!(embedding.dropped_text, "");
    }
    assert_eq!((both[0].token_count, both[1].token_count), (3, 0));
    let alone = client.encode_text(request(&[""])).await.unwrap().into_inner().embeddings;
    assert_eq!(alone[0], both[1]);
    handle.drain().await.unwrap();
}

#[tokio::test]
async fn what_does_not_fit_is_told() {
    let (_handle, mut client) = serve().await;
    let long = "circle ".repeat(100) + "heart";
    let embedding = client.encode_text(request(&[&long])).await.unwrap().into_inner().embeddings.remove(0);
    assert_eq!(embedding.token_count, 101);
    assert!(embedding.dropped_text.ends_with("circle heart"), "{}", embedding.dropped_text);
}

#[tokio::test]
async fn refusals_name_the_field_the_value_and_the_range() {
    let (_handle, mut client) = serve().await;
    let long = "x".repeat(8193);
    let layers = client.get_info(GetInfoRequest {}).await.unwrap().into_inner().num_layers;
    let cases = [
        (request(&[]), "prompts: 0 texts are not in 1 to 16".to_owned()),
        (request(&["a"; 17]), "prompts: 17 texts are not in 1 to 16".to_owned()),
        (request(&["a", &long]), "prompts[1]: 8193 characters are more than 8192".to_owned()),
        (
            EncodeTextRequest { clip_skip: layers, ..request(&["a"]) },
            format!("clip_skip: {layers} is not in 0 to {}", layers - 1),
        ),
    ];
    for (request, message) in cases {
        let status = client.encode_text(request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message.as_str()));
    }
}

#[tokio::test]
async fn a_deadline_ends_a_call() {
    let (_handle, mut client) = serve().await;
    let mut late = Request::new(request(&["a red circle"; 16]));
    late.set_timeout(Duration::from_micros(1));
    let status = client.encode_text(late).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
}

#[tokio::test]
async fn a_model_that_is_not_there_is_the_answer_to_ready() {
    let model = ModelArgs { model: Some("no/such/model".into()), ..ModelArgs::default() };
    let config = Config { server: ServerConfig::on_port(0), model, ..Config::default() };
    let handle = start(config).await.unwrap();
    let error = handle.ready().await.unwrap_err().to_string();
    assert!(error.contains("no/such/model"), "{error}");
    let mut client = connect(&handle).await;
    assert_eq!(client.encode_text(request(&["a"])).await.unwrap_err().code(), Code::Unavailable);
}
