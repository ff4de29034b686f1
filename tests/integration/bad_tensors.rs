//! Tensors that lie, sent straight to the stages: refused before anything is allocated from them.

use darkroom_proto::v1;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_proto::v1::vae_client::VaeClient;
use testkit::fleet::{Fleet, Service};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The pocket model's text width.
const WIDTH: usize = 96;
const LATENTS: [usize; 3] = [4, 8, 8];

/// What a test does to a good tensor.
type Damage = fn(&mut v1::Tensor);

/// Each kind of lie, with words of its refusal.
const LIES: [(Damage, &str); 8] = [
    (|tensor| tensor.data.truncate(tensor.data.len() - 1), "bytes of data"),
    (|tensor| tensor.shape[0] = 4_000_000_000, "bytes of data"),
    (|tensor| tensor.shape = vec![u32::MAX; 8], "more elements than can be counted"),
    (|tensor| tensor.shape[0] = 0, "holds a zero"),
    (|tensor| tensor.shape = vec![1; 9], "9 dimensions"),
    (|tensor| tensor.dtype = 77, "dtype 77 is not known"),
    (
        |tensor| {
            let shape: Vec<usize> = tensor.shape.iter().map(|size| *size as usize).collect();
            *tensor = v1::Tensor::from_u8(&shape, vec![0; shape.iter().product()]);
        },
        "expected f32",
    ),
    (
        |tensor| {
            let mut data = tensor.data.to_vec();
            data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
            tensor.data = data.into();
        },
        "element 1 is NaN",
    ),
];

fn denoise_request() -> v1::DenoiseRequest {
    let embeds = v1::Tensor::from_f32(&[77, WIDTH], &[0.5; 77 * WIDTH]);
    v1::DenoiseRequest {
        latent_height: 8,
        latent_width: 8,
        prompt_embeds: Some(embeds.clone()),
        negative_prompt_embeds: Some(embeds),
        sampler: "ddim".into(),
        num_inference_steps: 2,
        guidance_scale: 2.0,
        ..Default::default()
    }
}

fn decode_request() -> v1::DecodeRequest {
    v1::DecodeRequest { latents: Some(v1::Tensor::from_f32(&LATENTS, &[0.5; 256])), intermediate: false }
}

fn assert_refused(status: &Status, field: &str, words: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains(words), "{words:?} is not in {:?}", status.message());
    let violations = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
}

#[tokio::test]
async fn the_denoiser_refuses_tensors_that_lie() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let mut denoiser = DenoiserClient::new(fleet.channel(Service::Denoiser)?);
    for (damage, words) in LIES {
        let mut request = denoise_request();
        damage(request.prompt_embeds.as_mut().expect("it was put there"));
        assert_refused(&denoiser.denoise(request).await.expect_err(words), "prompt_embeds", words);

        let mut request = denoise_request();
        damage(request.negative_prompt_embeds.as_mut().expect("it was put there"));
        assert_refused(&denoiser.denoise(request).await.expect_err(words), "negative_prompt_embeds", words);
    }
    let mut events = denoiser.denoise(denoise_request()).await?.into_inner();
    let mut last = None;
    while let Some(event) = events.message().await? {
        last = event.event;
    }
    assert!(matches!(last, Some(v1::denoise_event::Event::Finished(_))), "{last:?}");
    Ok(())
}

#[tokio::test]
async fn the_denoiser_refuses_tensors_of_another_model() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let mut denoiser = DenoiserClient::new(fleet.channel(Service::Denoiser)?);
    let other = || Some(v1::Tensor::from_f32(&[77, 768], &vec![0.5; 77 * 768]));
    let request = v1::DenoiseRequest { prompt_embeds: other(), negative_prompt_embeds: other(), ..denoise_request() };
    assert_refused(&denoiser.denoise(request).await.expect_err("another width"), "prompt_embeds", "[77, 768]");

    let request = v1::DenoiseRequest { prompt_embeds: None, ..denoise_request() };
    assert_refused(&denoiser.denoise(request).await.expect_err("nothing"), "prompt_embeds", "no tensor was sent");
    let request = v1::DenoiseRequest { negative_prompt_embeds: None, ..denoise_request() };
    assert_refused(
        &denoiser.denoise(request).await.expect_err("half of it"),
        "negative_prompt_embeds",
        "guidance_scale 2",
    );
    Ok(())
}

#[tokio::test]
async fn the_denoiser_checks_its_numbers_itself() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let mut denoiser = DenoiserClient::new(fleet.channel(Service::Denoiser)?);
    let good = denoise_request;
    let bad = [
        ("latent_height", "0", v1::DenoiseRequest { latent_height: 0, ..good() }),
        ("latent_width", "4000000000", v1::DenoiseRequest { latent_width: 4_000_000_000, ..good() }),
        ("sampler", "magic", v1::DenoiseRequest { sampler: "magic".into(), ..good() }),
        ("num_inference_steps", "100000", v1::DenoiseRequest { num_inference_steps: 100_000, ..good() }),
        ("guidance_scale", "NaN", v1::DenoiseRequest { guidance_scale: f64::NAN, ..good() }),
        ("eta", "inf", v1::DenoiseRequest { eta: f64::INFINITY, ..good() }),
    ];
    for (field, words, request) in bad {
        assert_refused(&denoiser.denoise(request).await.expect_err(field), field, words);
    }
    Ok(())
}

#[tokio::test]
async fn the_vae_refuses_tensors_that_lie() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let mut vae = VaeClient::new(fleet.channel(Service::Vae)?);
    for (damage, words) in LIES {
        let mut request = decode_request();
        damage(request.latents.as_mut().expect("it was put there"));
        assert_refused(&vae.decode(request).await.expect_err(words), "latents", words);
    }
    let wrong = v1::Tensor::from_f32(&[3, 8, 8], &[0.5; 192]);
    let request = v1::DecodeRequest { latents: Some(wrong), intermediate: false };
    assert_refused(&vae.decode(request).await.expect_err("another model"), "latents", "[3, 8, 8]");

    let image = vae.decode(decode_request()).await?.into_inner().image.expect("a picture");
    assert_eq!(image.shape, [64, 64, 3]);

    let odd = v1::EncodeRequest {
        image: Some(v1::Tensor::from_u8(&[64, 60, 3], vec![0; 64 * 60 * 3])),
        ..Default::default()
    };
    assert_refused(&vae.encode(odd).await.expect_err("an odd side"), "image", "[64, 60, 3]");
    let latents =
        vae.encode(v1::EncodeRequest { image: Some(image), ..Default::default() }).await?.into_inner().latents;
    assert_eq!(latents.expect("latents").shape, [1, 4, 8, 8]);
    Ok(())
}
