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

fn decode(latents: Option<Tensor>) -> DecodeRequest {
    DecodeRequest { latents, intermediate: false }
}

/// A red square on white, `height` × `width`.
fn drawing(height: usize, width: usize) -> Tensor {
    let pixel = |y: usize, x: usize| {
        let inside = (height / 4..3 * height / 4).contains(&y) && (width / 4..3 * width / 4).contains(&x);
        if inside { [220, 40, 40] } else { [250, 250, 250] }
    };
    let bytes = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(y, x))).collect::<Vec<u8>>();
    Tensor::from_u8(&[height, width, 3], bytes)
}

#[tokio::test]
async fn a_picture_survives_the_way_there_and_back() {
    let (handle, mut client) = serve().await;
    let info = client.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.latent_channels, info.factor, info.max_side), (4, 8, 128));
    let image = drawing(64, 96);
    let encode = EncodeRequest { image: Some(image.clone()), ..EncodeRequest::default() };
    let latents = client.encode(encode.clone()).await.unwrap().into_inner().latents;
    TensorView::required(latents.as_ref(), "latents").unwrap().expect_shape(&[1, 4, 8, 12]).unwrap();
    let mut latents = latents.unwrap();
    latents.shape.remove(0);
    let decoded = client.decode(decode(Some(latents.clone()))).await.unwrap().into_inner().image.unwrap();
    let view = TensorView::new(&decoded, "image").unwrap().expect_shape(&[64, 96, 3]).unwrap();
    let pairs = view.as_u8().unwrap().iter().zip(image.data.iter());
    let error = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / (64.0 * 96.0 * 3.0);
    assert!(error < 12.0, "mean error of {error} levels");

    let drawn = |seeds: &[u64]| EncodeRequest { seeds: seeds.to_vec(), ..encode.clone() };
    let first = client.encode(drawn(&[1])).await.unwrap().into_inner().latents.unwrap();
    assert_eq!(first.shape, [1, 4, 8, 12]);
    let both = client.encode(drawn(&[2, 1])).await.unwrap().into_inner().latents.unwrap();
    assert_eq!(both.shape, [2, 4, 8, 12]);
    let (second, again) = both.data.split_at(first.data.len());
    assert_eq!(first.data, again);
    assert_ne!(first.data, second);
    assert_ne!(first.data, latents.data);
    handle.drain().await.unwrap();
}

#[tokio::test]
async fn a_large_picture_in_bands_is_the_undivided_one_and_nobody_elses() {
    let config = |undivided_pixels| Config { server: ServerConfig::on_port(0), undivided_pixels, ..Config::default() };
    let handles =
        [start(config(u32::MAX)).await.unwrap(), start(config(Config::default().undivided_pixels)).await.unwrap()];
    let latents = |side: usize, phase: f32| {
        let values: Vec<f32> = (0..4 * side * side).map(|i| (i as f32 * 0.37 + phase).sin()).collect();
        DecodeRequest { latents: Some(Tensor::from_f32(&[4, side, side], &values)), intermediate: true }
    };
    // Large and small at once, so that each waits for others.
    let requests = [latents(128, 0.0), latents(8, 1.0), latents(128, 2.0)];
    let mut pictures = Vec::new();
    for handle in &handles {
        handle.ready().await.unwrap();
        let client = connect(handle).await;
        let calls = requests.each_ref().map(|request| {
            let (mut client, request) = (client.clone(), request.clone());
            tokio::spawn(async move { client.decode(request).await.unwrap().into_inner().image.unwrap() })
        });
        let [a, b, c] = calls;
        pictures.push([a.await.unwrap(), b.await.unwrap(), c.await.unwrap()]);
    }
    assert_eq!(pictures[0][0].shape, [1024, 1024, 3]);
    assert!(pictures[0] == pictures[1], "a CPU gives the same bits");
    assert_ne!(pictures[0][0].data, pictures[0][2].data);

    let encode = EncodeRequest { image: Some(pictures[0][0].clone()), ..EncodeRequest::default() };
    let mut latents = Vec::new();
    for handle in &handles {
        latents.push(connect(handle).await.encode(encode.clone()).await.unwrap().into_inner().latents.unwrap());
    }
    assert_eq!(latents[0].shape, [1, 4, 128, 128]);
    assert!(latents[0] == latents[1]);
}

#[tokio::test]
async fn the_encoder_does_not_see_what_is_masked() {
    let (_handle, mut client) = serve().await;
    let mask: Vec<u8> = (0..64 * 64).map(|i| if i % 64 < 32 { 255 } else { 0 }).collect();
    let mask = Tensor::from_u8(&[64, 64], mask);
    let mut left_changed = drawing(64, 64);
    let mut data = left_changed.data.to_vec();
    data.chunks_exact_mut(3).enumerate().filter(|(i, _)| i % 64 < 32).for_each(|(_, pixel)| pixel.fill(9));
    left_changed.data = data.into();
    let encode = async |client: &mut VaeClient<Channel>, image, mask: Option<&Tensor>| {
        let request = EncodeRequest { image: Some(image), mask: mask.cloned(), ..EncodeRequest::default() };
        client.encode(request).await.unwrap().into_inner().latents.unwrap()
    };
    let pictures = [drawing(64, 64), left_changed];
    let masked = [
        encode(&mut client, pictures[0].clone(), Some(&mask)).await,
        encode(&mut client, pictures[1].clone(), Some(&mask)).await,
    ];
    assert_eq!(masked[0], masked[1]);
    assert_ne!(
        encode(&mut client, pictures[0].clone(), None).await,
        encode(&mut client, pictures[1].clone(), None).await
    );
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
        let status = client.decode(decode(latents)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
    }
}

#[tokio::test]
async fn pictures_that_do_not_fit_are_refused_by_name() {
    let (_handle, mut client) = serve().await;
    let side = "8 to 128 in multiples of 8";
    let encode = |height, width| EncodeRequest { image: Some(drawing(height, width)), ..EncodeRequest::default() };
    for (height, width) in [(64, 60), (8, 136)] {
        let status = client.encode(encode(height, width)).await.unwrap_err();
        let message = format!("image: the shape [{height}, {width}, 3] is not [{side}, {side}, 3]");
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message.as_str()));
    }
    let refused = [
        (EncodeRequest { seeds: vec![0; 17], ..encode(8, 8) }, "seeds: 17 were sent, at most 16 are allowed"),
        (EncodeRequest { draws_before: 3, ..encode(8, 8) }, "draws_before: 3 is not in 0 to 2"),
        (
            EncodeRequest { mask: Some(Tensor::from_u8(&[8, 9], vec![0; 72])), ..encode(8, 8) },
            "mask: expected the shape [8, 8], found [8, 9]",
        ),
    ];
    for (request, message) in refused {
        let status = client.encode(request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
    }
}
