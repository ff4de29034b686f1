//! The autoencoder with the embedded model, called over gRPC.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by panicking")]

use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1::vae_client::VaeClient;
use darkroom_proto::v1::{DecodeRequest, EncodeRequest, GetInfoRequest, Tensor};
use darkroom_service_kit::{ServerConfig, ServiceHandle};
use darkroom_vae::{Config, start};
use tonic::Code;
use tonic::transport::Channel;

async fn connect(handle: &ServiceHandle) -> VaeClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", handle.grpc_addr)).unwrap();
    VaeClient::new(endpoint.connect().await.unwrap())
}

async fn serve() -> (ServiceHandle, VaeClient<Channel>) {
    let handle = start(Config { server: ServerConfig::on_port(0), max_side: 128, ..Config::default() }).await.unwrap();
    handle.ready().await.unwrap();
    let client = connect(&handle).await;
    (handle, client)
}

/// A red square on white, `height` × `width`.
fn drawing(height: usize, width: usize) -> Tensor {
    let pixel = |y: usize, x: usize| {
        let inside = (height / 4..3 * height / 4).contains(&y) && (width / 4..3 * width / 4).contains(&x);
        if inside { [220, 40, 40] } else { [250, 250, 250] }
    };
    let bytes = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(y, x))).collect();
    Tensor::from_u8(&[height, width, 3], bytes)
}

#[tokio::test]
async fn a_picture_survives_the_way_there_and_back() {
    let (handle, mut client) = serve().await;
    let info = client.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.latent_channels, info.factor, info.max_side), (4, 8, 128));
    let image = drawing(64, 96);
    let encode = EncodeRequest { image: Some(image.clone()), seed: None };
    let latents = client.encode(encode.clone()).await.unwrap().into_inner().latents;
    TensorView::required(latents.as_ref(), "latents").unwrap().expect_shape(&[4, 8, 12]).unwrap();
    let decoded = client.decode(DecodeRequest { latents: latents.clone() }).await.unwrap().into_inner().image.unwrap();
    let view = TensorView::new(&decoded, "image").unwrap().expect_shape(&[64, 96, 3]).unwrap();
    let pairs = view.as_u8().unwrap().iter().zip(image.data.iter());
    let error = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / (64.0 * 96.0 * 3.0);
    assert!(error < 12.0, "mean error of {error} levels");

    let drawn = |seed| EncodeRequest { seed, ..encode.clone() };
    let first = client.encode(drawn(Some(1))).await.unwrap().into_inner().latents;
    assert_eq!(first, client.encode(drawn(Some(1))).await.unwrap().into_inner().latents);
    assert_ne!(first, client.encode(drawn(Some(2))).await.unwrap().into_inner().latents);
    assert_ne!(first, latents);
    handle.drain().await.unwrap();
}

#[tokio::test]
async fn latents_that_do_not_fit_are_refused_by_name() {
    let (_handle, mut client) = serve().await;
    let lying = Tensor { shape: vec![4, 8, 9], ..Tensor::from_f32(&[4, 8, 8], &[0.0; 256]) };
    let cases = [
        (None, "latents: no tensor was sent"),
        (Some(Tensor::from_f32(&[3, 8, 8], &[0.0; 192])), "latents: the shape [3, 8, 8] is not [4, 1 to 16, 1 to 16]"),
        (Some(Tensor::from_f32(&[4, 1, 17], &[0.0; 68])), "latents: the shape [4, 1, 17] is not [4, 1 to 16, 1 to 16]"),
        (Some(Tensor::from_u8(&[4, 8, 8], vec![0; 256])), "latents: expected f32, found u8"),
        (Some(lying), "latents: f32 [4, 8, 9] takes 1152 bytes of data, found 1024"),
        (
            Some(Tensor::from_f32(&[4, 1, 1], &[0.0, f32::NAN, 0.0, 0.0])),
            "latents: element 1 is NaN, every element must be finite",
        ),
    ];
    for (latents, message) in cases {
        let status = client.decode(DecodeRequest { latents }).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
    }
}

#[tokio::test]
async fn pictures_that_do_not_fit_are_refused_by_name() {
    let (_handle, mut client) = serve().await;
    let side = "8 to 128 in multiples of 8";
    for (height, width) in [(64, 60), (8, 136)] {
        let status =
            client.encode(EncodeRequest { image: Some(drawing(height, width)), seed: None }).await.unwrap_err();
        let message = format!("image: the shape [{height}, {width}, 3] is not [{side}, {side}, 3]");
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message.as_str()));
    }
}
