//! The text encoder with the embedded model, called over gRPC.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by panicking")]

use std::path::Path;
use std::time::Duration;

use darkroom_models::stage::{Device, Precision};
use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1::text_encoder_client::TextEncoderClient;
use darkroom_proto::v1::{EncodeTextRequest, GetInfoRequest, Lora, PromptSyntax, TextEmbedding};
use darkroom_service_kit::{ModelArgs, ServerConfig, ServiceHandle};
use darkroom_text_encoder::{Config, start};
use tonic::transport::Channel;
use tonic::{Code, Request};

async fn connect(handle: &ServiceHandle) -> TextEncoderClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", handle.grpc_addr)).unwrap();
    TextEncoderClient::new(endpoint.connect().await.unwrap())
}

async fn serve() -> (ServiceHandle, TextEncoderClient<Channel>) {
    serve_with(Config::default()).await
}

async fn serve_with(config: Config) -> (ServiceHandle, TextEncoderClient<Channel>) {
    let handle = start(Config { server: ServerConfig::on_port(0), ..config }).await.unwrap();
    handle.ready().await.unwrap();
    let client = connect(&handle).await;
    (handle, client)
}

fn request(prompts: &[&str]) -> EncodeTextRequest {
    EncodeTextRequest { prompts: prompts.iter().map(ToString::to_string).collect(), ..Default::default() }
}

fn weighted(prompts: &[&str]) -> EncodeTextRequest {
    EncodeTextRequest { syntax: PromptSyntax::Weighted.into(), ..request(prompts) }
}

/// Rows and values of an embedding.
fn values(embedding: &TextEmbedding) -> (usize, Vec<f32>) {
    let view = TensorView::required(embedding.prompt_embeds.as_ref(), "prompt_embeds").unwrap();
    (view.shape()[0], view.to_f32().unwrap())
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
    assert_eq!(embedding.dropped_tokens, 26);
}

#[tokio::test]
async fn weighted_prompts_have_as_many_windows_as_they_need_and_share_passes() {
    let (_handle, mut client) = serve().await;
    let info = client.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.max_windows, 13);
    let long = "circle ".repeat(400);
    let texts = ["a (red:1.5) circle", &long, "a red circle", &long, &long, "one BREAK two"];
    let together = client.encode_text(weighted(&texts)).await.unwrap().into_inner().embeddings;
    let rows: Vec<usize> = together.iter().map(|embedding| values(embedding).0 / 77).collect();
    assert_eq!(rows, [1, 6, 1, 6, 6, 2]);
    for (text, embedding) in texts.iter().zip(&together) {
        let alone = client.encode_text(weighted(&[text])).await.unwrap().into_inner().embeddings.remove(0);
        assert_eq!(alone, *embedding, "{text}");
    }
    // Without brackets it is what the reference makes of it; with them it is not.
    let plain = client.encode_text(request(&["a red circle", "a (red:1.5) circle"])).await.unwrap().into_inner();
    assert_eq!(plain.embeddings[0], together[2]);
    assert_ne!(values(&plain.embeddings[1]), values(&together[0]));
}

#[tokio::test]
async fn a_weighted_prompt_without_an_end_is_cut_and_that_is_told() {
    let (_handle, mut client) = serve().await;
    let endless = format!("{}heart", "circle ".repeat(13 * 75));
    let embedding = client.encode_text(weighted(&[&endless])).await.unwrap().into_inner().embeddings.remove(0);
    assert_eq!(values(&embedding).0, 13 * 77);
    assert_eq!(
        (embedding.token_count, embedding.dropped_tokens, embedding.dropped_text.as_str()),
        (13 * 75 + 1, 1, "heart")
    );
}

#[tokio::test]
async fn a_folder_of_inversions_adds_words_and_another_revision() {
    let (_plain, mut plain) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let tensor: Vec<u8> = (0..2 * 96).flat_map(|i| ((i % 7) as f32 / 7.0).to_le_bytes()).collect();
    let header = r#"{"<glow>":{"dtype":"F32","shape":[2,96],"data_offsets":[0,768]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &tensor].concat();
    std::fs::write(folder.path().join("glowing.safetensors"), file).unwrap();
    let config = Config { textual_inversions: Some(folder.path().to_owned()), ..Config::default() };
    let (_handle, mut client) = serve_with(config).await;

    let info = client.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.textual_inversions, ["<glow>", "glowing"]);
    let revision = plain.get_info(GetInfoRequest {}).await.unwrap().into_inner().stage.unwrap().revision;
    assert_ne!(info.stage.unwrap().revision, revision);
    let texts = ["a <glow> circle", "a glowing circle", "a Glowing circle", "a red circle"];
    let found = client.encode_text(request(&texts)).await.unwrap().into_inner().embeddings;
    assert_eq!(found.iter().map(|embedding| embedding.token_count).collect::<Vec<_>>(), [4, 4, 4, 3]);
    assert_eq!((values(&found[0]), values(&found[0])), (values(&found[1]), values(&found[2])));
    let before = plain.encode_text(request(&texts)).await.unwrap().into_inner().embeddings;
    assert_ne!(values(&found[0]), values(&before[0]));
    assert_eq!(found[3], before[3], "what names no inversion stays as it is");
}

#[tokio::test]
async fn loras_change_the_texts_that_name_them() {
    let (_plain, mut plain) = serve().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/loras/files");
    let (_handle, mut client) = serve_with(Config { loras: Some(folder), ..Config::default() }).await;
    let text = || request(&["a red circle"]);
    let info = client.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    let names: Vec<&str> = info.loras.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["every layer", "flat", "flat before", "flat peft"]);
    let lora = |name: &str, weight| Lora { name: name.into(), weight };
    let with = |loras: Vec<Lora>| EncodeTextRequest { loras, ..text() };
    let before = plain.encode_text(text()).await.unwrap().into_inner();
    let flat = client.encode_text(with(vec![lora("flat", None)])).await.unwrap().into_inner();
    assert_ne!(flat, before);
    assert_eq!(client.encode_text(with(vec![lora("flat", Some(1.0))])).await.unwrap().into_inner(), flat);
    assert_eq!(client.encode_text(text()).await.unwrap().into_inner(), before);
    for (loras, message) in [
        (vec![lora("ink", None)], "loras: \"ink\" is not known, known: every layer, flat, flat before, flat peft"),
        (vec![lora("flat", Some(11.0))], "loras.weight: 11 is not in -10 to 10"),
    ] {
        let status = client.encode_text(with(loras)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
    }
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
        (
            EncodeTextRequest { syntax: 3, ..request(&["a"]) },
            "syntax: 3 is not known, use PLAIN or WEIGHTED".to_owned(),
        ),
        (
            weighted(&["a", "(b:1.2.3)"]),
            "prompts[1]: a word's weight is 1.2.3; expected a number from -1000 to 1000".to_owned(),
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
