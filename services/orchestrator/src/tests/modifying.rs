//! Requests that begin from a picture: what the stages are asked for, and what is refused.

use std::io::Cursor;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::{DenoiseInit, GenerateRequest, Hires, Rng, StrengthWay, Tensor, Variation};
use image::{GrayImage, ImageFormat, Luma, RgbImage};
use tonic::Code;

use super::fakes::Trouble;
use super::fleet::{Fleet, request};

/// One colour all over, whose red says which.
fn picture(red: u8, width: u32, height: u32) -> Bytes {
    file(RgbImage::from_pixel(width, height, [red, 30, 40].into()))
}

/// The right half is to be made anew.
fn mask() -> Bytes {
    file(GrayImage::from_fn(64, 64, |x, _| Luma([if x < 32 { 0 } else { 255 }])))
}

fn file(picture: impl Into<image::DynamicImage>) -> Bytes {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

fn modify() -> GenerateRequest {
    GenerateRequest { init_image: picture(10, 64, 64), ..request() }
}

fn inits(fleet: &Fleet) -> Vec<DenoiseInit> {
    fleet.behaviour.denoised.lock().unwrap().iter().map(|request| request.init.clone().unwrap()).collect()
}

fn first_value(tensor: Option<&Tensor>) -> f32 {
    TensorView::required(tensor, "tensor").unwrap().to_f32().unwrap()[0]
}

fn pixels(events: &[Event]) -> RgbImage {
    let image = events.iter().find_map(|event| if let Event::Image(image) = event { Some(image) } else { None });
    image::load_from_memory(&image.unwrap().data).unwrap().to_rgb8()
}

#[tokio::test]
async fn the_picture_is_encoded_once_with_each_pictures_seed() {
    let fleet = Fleet::start().await;
    let asked = GenerateRequest { num_images: Some(2), strength: Some(0.5), ..modify() };
    let (events, status) = fleet.all(asked).await;
    assert!(status.is_none(), "{status:?}");
    let Event::Started(started) = &events[0] else { panic!("{events:?}") };
    assert_eq!(started.strength, Some(0.5));
    let encoded = fleet.behaviour.encoded.lock().unwrap().clone();
    assert_eq!(encoded.len(), 1);
    assert_eq!((encoded[0].seeds.clone(), encoded[0].draws_before, &encoded[0].mask), (vec![42, 43], 0, &None));
    let mut found: Vec<f32> = inits(&fleet).iter().map(|init| first_value(init.latents.as_ref())).collect();
    found.sort_by(f32::total_cmp);
    assert_eq!(found, [52.0, 53.0]);
    assert!(inits(&fleet).iter().all(|init| init.strength == 0.5 && init.mask.is_none()));
}

#[tokio::test]
async fn its_size_is_the_pictures_own_unless_another_is_said() {
    let fleet = Fleet::start().await;
    let shape = |fleet: &Fleet| fleet.behaviour.encoded.lock().unwrap().last().unwrap().image.clone().unwrap().shape;
    fleet.all(GenerateRequest { init_image: picture(10, 100, 135), ..request() }).await;
    assert_eq!(shape(&fleet), [128, 96, 3]);
    fleet.all(GenerateRequest { width: Some(72), height: Some(80), ..modify() }).await;
    assert_eq!(shape(&fleet), [80, 72, 3]);
}

#[tokio::test]
async fn where_the_mask_is_black_the_picture_stays() {
    let fleet = Fleet::start().await;
    let (events, status) = fleet.all(GenerateRequest { mask_image: mask(), ..modify() }).await;
    assert!(status.is_none(), "{status:?}");
    let result = pixels(&events);
    assert_eq!((result.get_pixel(31, 5).0, result.get_pixel(32, 5).0), ([10, 30, 40], [90, 90, 90]));
    let init = inits(&fleet).remove(0);
    assert_eq!((init.strength, init.masked_latents), (1.0, None));
    let expected: Vec<f32> = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0].repeat(8);
    assert_eq!(init.mask, Some(Tensor::from_f32(&[8, 8], &expected)));
}

#[tokio::test]
async fn an_inpainting_model_sees_the_masked_picture() {
    let fleet = Fleet::start().await;
    fleet.behaviour.inpainting.store(true, Ordering::SeqCst);
    // The orchestrator hears of it when it asks again.
    while fleet.all(request()).await.1.is_none_or(|status| status.code() != Code::InvalidArgument) {}
    let (_, status) = fleet.all(request()).await;
    let message = "init_image: this model only repaints: it needs an init_image and a mask_image";
    assert_eq!(status.unwrap().message(), message);
    let (_, status) = fleet.all(modify()).await;
    assert!(status.unwrap().message().starts_with("mask_image: this model only repaints"));

    fleet.behaviour.denoised.lock().unwrap().clear();
    for (strength, draws) in [(None, vec![1]), (Some(0.5), vec![0, 2])] {
        fleet.behaviour.encoded.lock().unwrap().clear();
        let (_, status) = fleet.all(GenerateRequest { mask_image: mask(), strength, ..modify() }).await;
        assert!(status.is_none(), "{status:?}");
        let encoded = fleet.behaviour.encoded.lock().unwrap().clone();
        assert_eq!(encoded.iter().map(|request| request.draws_before).collect::<Vec<_>>(), draws);
        let init = inits(&fleet).pop().unwrap();
        assert_eq!(first_value(init.masked_latents.as_ref()), 152.0);
        assert_eq!(init.latents.is_some(), strength.is_some());
    }
}

#[tokio::test]
async fn who_goes_on_elsewhere_takes_the_picture_along() {
    let fleet = Fleet::start().await;
    *fleet.behaviour.trouble.lock().unwrap() = Some((2, Trouble::Dies));
    let (events, status) = fleet.all(GenerateRequest { mask_image: mask(), ..modify() }).await;
    // The only denoiser dies at every second evaluation, but gets further each time.
    assert!(status.is_none(), "{status:?} {events:?}");
    let inits = inits(&fleet);
    assert!(inits.len() > 1);
    assert!(inits.iter().all(|init| *init == inits[0]));
    assert_eq!(fleet.behaviour.encoded.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn only_the_same_picture_joins() {
    let fleet = Fleet::start().await;
    fleet.set_step_time(std::time::Duration::from_millis(50));
    let named = GenerateRequest { request_id: "mine".into(), ..modify() };
    let running = fleet.generate(named.clone()).await.unwrap();
    let other = fleet.generate(GenerateRequest { init_image: picture(11, 64, 64), ..named.clone() }).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    let (events, status) = fleet.all(named).await;
    assert!(status.is_none() && matches!(events.last(), Some(Event::Completed(_))), "{status:?}");
    drop(running);
    assert_eq!(fleet.behaviour.denoised.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn pictures_that_cannot_be_used_are_refused_and_leave_nothing_behind() {
    let fleet = Fleet::with(|config| config.max_inputs_mib = 1).await;
    let whole = picture(10, 64, 64);
    let half = whole.slice(..whole.len() / 2);
    let cases = [
        (
            GenerateRequest { init_image: "no picture".into(), ..request() },
            "init_image: is no picture that is known here",
        ),
        (GenerateRequest { init_image: half.clone(), ..request() }, "init_image: cannot be read as a picture"),
        (GenerateRequest { mask_image: half, ..modify() }, "mask_image: cannot be read as a picture"),
        (
            GenerateRequest { init_image: picture(10, 40, 64), ..request() },
            "init_image: is 40x64 pixels, say a width and a height",
        ),
    ];
    for (request, message) in cases {
        let (_, status) = fleet.all(request).await;
        let status = status.unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(message), "{}", status.message());
    }
    // More than a mebibyte of pictures is kept while they run, and nothing afterwards.
    fleet.set_step_time(std::time::Duration::from_millis(200));
    let large = GenerateRequest { init_image: picture(10, 512, 512), ..request() };
    let held = [fleet.generate(large.clone()).await.unwrap(), fleet.generate(large.clone()).await.unwrap()];
    let (_, status) = fleet.all(large.clone()).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("pictures of 1 MiB are kept for requests"), "{}", status.message());
    drop(held);
    fleet.metric_becomes("darkroom_inputs_bytes", 0.0).await;
    fleet.set_step_time(std::time::Duration::ZERO);
    assert!(fleet.all(large).await.1.is_none());
}

#[tokio::test]
async fn the_way_travels_as_it_was_said() {
    let fleet = Fleet::start().await;
    let way = StrengthWay::Compvis.into();
    fleet.all(GenerateRequest { sampler: "ddim".into(), strength_way: way, ..modify() }).await;
    assert_eq!(inits(&fleet).remove(0).way, way);
}

#[tokio::test]
async fn a_second_pass_begins_from_the_enlarged_picture_and_its_steps_count_on() {
    let fleet = Fleet::start().await;
    let hires = Some(Hires { width: 128, height: 96, strength: Some(0.5) });
    let asked = GenerateRequest { hires, num_inference_steps: Some(8), rng: Rng::Cuda.into(), ..request() };
    let (events, status) = fleet.all(asked).await;
    assert!(status.is_none(), "{status:?}");
    let steps = events.iter().filter_map(|event| if let Event::Step(step) = event { Some(step) } else { None });
    let steps: Vec<(u32, u32)> = steps.map(|step| (step.step, step.of)).collect();
    assert_eq!(steps, (1..=12).map(|step| (step, 12)).collect::<Vec<_>>());
    assert_eq!(pixels(&events).dimensions(), (128, 96));

    let denoised = fleet.behaviour.denoised.lock().unwrap().clone();
    let sizes: Vec<_> = denoised.iter().map(|request| (request.latent_width, request.latent_height)).collect();
    assert_eq!(sizes, [(8, 8), (16, 12)]);
    assert!(denoised.iter().all(|request| request.rng() == Rng::Cuda && request.seed == 42));
    let init = denoised[1].init.as_ref().unwrap();
    assert_eq!((denoised[0].init.is_none(), init.strength, init.mask.is_none()), (true, 0.5, true));
    // The fake decodes 90 everywhere, and its latents are that and the seed.
    assert_eq!(first_value(init.latents.as_ref()), 132.0);
    let encoded = fleet.behaviour.encoded.lock().unwrap().clone();
    assert_eq!((encoded.len(), encoded[0].rng()), (1, Rng::Cuda));
    assert_eq!(*fleet.behaviour.intermediate.lock().unwrap(), [true, false]);
}

#[tokio::test]
async fn variations_are_of_one_seed_each_towards_another() {
    let fleet = Fleet::start().await;
    let asked =
        GenerateRequest { num_images: Some(2), variation_strength: Some(0.25), variation_seed: Some(7), ..request() };
    let (events, status) = fleet.all(asked).await;
    assert!(status.is_none(), "{status:?}");
    let Event::Started(started) = &events[0] else { panic!("{events:?}") };
    assert_eq!(started.variation, Some(Variation { seed: 7, strength: 0.25 }));
    let denoised = fleet.behaviour.denoised.lock().unwrap();
    let mut towards: Vec<_> = denoised.iter().map(|request| (request.seed, request.variation.unwrap().seed)).collect();
    towards.sort_unstable();
    assert_eq!(towards, [(42, 7), (42, 8)]);
}
