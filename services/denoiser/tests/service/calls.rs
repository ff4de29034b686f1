//! What calls are answered: streams, refusals, cancellation, deadlines.

use std::time::Duration;

use darkroom_denoiser::Config;
use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1::denoise_event::Event;
use darkroom_proto::v1::{DenoiseRequest, GetInfoRequest, GetLoadRequest, Tensor};
use darkroom_samplers::Sampler;
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use crate::calling::*;

#[tokio::test]
async fn a_stream_tells_acceptance_steps_previews_and_latents() {
    let (handle, mut client) = serve().await;
    let info = client.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.latent_channels, info.cross_attention_dim, info.latent_multiple), (4, WIDTH as u32, 1));
    assert_eq!(info.samplers, Sampler::ALL.map(Sampler::name));
    assert!(info.max_batch >= 1 && info.plan_version >= 1, "{info:?}");
    let defaults = info.defaults.unwrap();
    assert_eq!((defaults.guidance_scale, defaults.width, defaults.sampler.as_str()), (2.0, 128, "plms"));

    let asked = DenoiseRequest { preview_every: 2, ..request(1, 5) };
    let (evaluations, steps, finished) = denoise(&mut client, asked).await.unwrap();
    assert_eq!(evaluations, 6, "PLMS evaluates its second step twice");
    assert_eq!(steps.iter().map(|step| (step.step, step.of)).collect::<Vec<_>>(), [1, 2, 3, 4, 5].map(|n| (n, 5)));
    for step in steps {
        assert_eq!(step.preview.is_some(), step.step % 2 == 0);
        if let Some(preview) = step.preview {
            TensorView::new(&preview, "preview").unwrap().expect_shape(&[8, 12, 3]).unwrap().as_u8().unwrap();
        }
    }
    let view = TensorView::required(finished.latents.as_ref(), "latents").unwrap();
    view.expect_shape(&[4, 8, 12]).unwrap().to_f32().unwrap();
    assert!(finished.seconds > 0.0 && finished.queue_seconds >= 0.0);
    assert_eq!(metric(&handle, "darkroom_steps_total").await, 6.0);
    assert_eq!(metric(&handle, "darkroom_model_info{").await, 1.0);
    handle.drain().await.unwrap();
}

#[tokio::test]
async fn requests_of_all_kinds_share_batches_and_get_the_bytes_they_get_alone() {
    let config = Config { max_batch: Some(16), loras: Some(golden_loras()), ..Config::default() };
    let (handle, mut client) = serve_with(config).await;
    let names = client.get_info(GetInfoRequest {}).await.unwrap().into_inner().loras;
    let names: Vec<_> = names.into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["every layer", "flat", "flat before", "flat peft"]);
    let mut requests = kinds();
    assert!(requests.len() >= 8);
    // A prompt of two chunks among prompts of one.
    let long = |salt| Some(Tensor::from_f32(&[2 * TOKENS, WIDTH], &values(2 * TOKENS, salt)));
    requests.push(DenoiseRequest { prompt_embeds: long(3.0), negative_prompt_embeds: long(4.0), ..request(99, 20) });
    // And one whose negative prompt is the shorter one.
    requests.push(DenoiseRequest { prompt_embeds: long(5.0), ..request(98, 20) });
    // And some with LoRAs, which change the UNet for their own rows alone.
    let with = |loras: &[(&str, f64)]| loras.iter().map(|(name, weight)| lora(name, Some(*weight))).collect();
    requests.push(DenoiseRequest { loras: with(&[("flat", 1.0)]), ..request(97, 20) });
    requests.push(DenoiseRequest { loras: with(&[("flat", -0.5), ("every layer", 0.8)]), ..request(96, 15) });
    requests.push(DenoiseRequest { loras: with(&[("flat", 1.0)]), ..request(95, 10) });
    let mut alone = Vec::new();
    for request in &requests {
        alone.push(denoise(&mut client, request.clone()).await.unwrap().2.latents);
    }
    let batches = async || {
        let (sum, count) = ("darkroom_batch_size_sum", "darkroom_batch_size_count");
        (metric(&handle, sum).await, metric(&handle, count).await)
    };
    let (pictures, calls) = batches().await;
    assert_eq!(pictures, calls, "one picture at a time");

    let mut runs = Vec::new();
    for request in requests {
        let mut client = client.clone();
        let (joined, joins) = tokio::sync::oneshot::channel();
        runs.push(tokio::spawn(async move {
            let mut stream = client.denoise(request).await.unwrap().into_inner();
            let mut joined = Some(joined);
            while let Some(message) = stream.next().await {
                match message.unwrap().event {
                    Some(Event::Finished(finished)) => return finished.latents,
                    Some(Event::Accepted(_)) => {}
                    _ => _ = joined.take().map(|joined| joined.send(())),
                }
            }
            panic!("no latents")
        }));
        // The next one joins when this one has made some way.
        joins.await.unwrap();
    }
    for (run, alone) in runs.into_iter().zip(alone) {
        assert_eq!(run.await.unwrap(), alone);
    }
    let (pictures_after, calls_after) = batches().await;
    assert!(pictures_after - pictures > calls_after - calls, "none was shared");
}

#[tokio::test]
async fn a_dropped_stream_stops_within_one_evaluation() {
    let (handle, mut client) = serve().await;
    let mut stream = client.denoise(request(1, 1000)).await.unwrap().into_inner();
    let first = stream.next().await.unwrap().unwrap();
    let Some(Event::Accepted(accepted)) = first.event else { panic!("{first:?}") };
    stream.next().await.unwrap().unwrap();
    drop(stream);
    until("the slot is free", async || {
        let mut client = client.clone();
        let load = client.get_load(GetLoadRequest {}).await.unwrap().into_inner();
        load.running + load.waiting == 0
    })
    .await;
    let wasted = metric(&handle, r#"darkroom_wasted_steps_total{reason="cancelled"}"#).await;
    let computed = metric(&handle, "darkroom_steps_total").await;
    assert_eq!(wasted, computed);
    assert!(wasted >= 1.0 && wasted < f64::from(accepted.evaluations), "{wasted}");
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_has_begun() {
    let (handle, mut client) = serve().await;
    let mut call = Request::new(DenoiseRequest { latent_height: 32, latent_width: 32, ..request(1, 1000) });
    call.set_timeout(Duration::from_millis(300));
    let status = denoise(&mut client, call).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    until("the work is counted as wasted", async || {
        metric(&handle, r#"darkroom_wasted_steps_total{reason="deadline"}"#).await > 0.0
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_delay() {
    let (_handle, client) = serve_with(Config { max_batch: Some(1), queue_limit: 1, ..Config::default() }).await;
    let mut streams = Vec::new();
    let refused = loop {
        assert!(streams.len() < 3, "one runs, one waits, the third is refused");
        match client.clone().denoise(request(1, 1000)).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                stream.next().await.unwrap().unwrap();
                if streams.is_empty() {
                    // Its first step: it has left the queue.
                    stream.next().await.unwrap().unwrap();
                }
                streams.push(stream);
            }
            Err(status) => break status,
        }
    };
    assert_eq!(streams.len(), 2);
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "denoiser: all 1 places in the queue are taken; try again later");
    assert!(!refused.details().is_empty(), "a retry delay");
}

#[tokio::test]
async fn refusals_name_the_field_the_value_and_the_range() {
    let (_handle, mut client) = serve().await;
    let base = || request(1, 5);
    let narrow = Some(Tensor::from_f32(&[77, 95], &[0.0; 77 * 95]));
    let endless = Some(Tensor::from_f32(&[1025, 96], &[0.0; 1025 * 96]));
    let nan = Some(Tensor::from_f32(&[1, 96], &[f32::NAN; 96]));
    let cases = [
        (DenoiseRequest { latent_height: 0, ..base() }, "latent_height: 0 is not in 1 to 256"),
        (DenoiseRequest { latent_width: 12_500, ..base() }, "latent_width: 12500 is not in 1 to 256"),
        (
            DenoiseRequest { sampler: "dpm_fast".into(), ..base() },
            &format!("sampler: \"dpm_fast\" is not one of {}", Sampler::ALL.map(Sampler::name).join(", ")),
        ),
        (
            DenoiseRequest { sampler: "x".repeat(1 << 20), ..base() },
            &format!("sampler: \"{}\"… is not one of {}", "x".repeat(80), Sampler::ALL.map(Sampler::name).join(", ")),
        ),
        (DenoiseRequest { num_inference_steps: 0, ..base() }, "num_inference_steps: 0 is not in 1 to 1000"),
        (DenoiseRequest { num_inference_steps: 100_000, ..base() }, "num_inference_steps: 100000 is not in 1 to 1000"),
        (DenoiseRequest { guidance_scale: f64::NAN, ..base() }, "guidance_scale: NaN is not in 0 to 50"),
        (DenoiseRequest { guidance_scale: 50.5, ..base() }, "guidance_scale: 50.5 is not in 0 to 50"),
        (DenoiseRequest { eta: -0.1, ..base() }, "eta: -0.1 is not in 0 to 1"),
        (
            DenoiseRequest { eta: 0.5, ..base() },
            "eta: eta is 0.5, but the sampler plms has none: leave it 0 or use ddim",
        ),
        (DenoiseRequest { prompt_embeds: None, ..base() }, "prompt_embeds: no tensor was sent"),
        (
            DenoiseRequest { prompt_embeds: narrow, ..base() },
            "prompt_embeds: the shape [77, 95] is not [1 to 1024 tokens, 96]",
        ),
        (
            DenoiseRequest { negative_prompt_embeds: endless, ..base() },
            "negative_prompt_embeds: the shape [1025, 96] is not [1 to 1024 tokens, 96]",
        ),
        (
            DenoiseRequest { prompt_embeds: nan, guidance_scale: 1.0, negative_prompt_embeds: None, ..base() },
            "prompt_embeds: element 0 is NaN, every element must be finite",
        ),
        (
            DenoiseRequest { negative_prompt_embeds: None, ..base() },
            "negative_prompt_embeds: guidance_scale 2 needs them; only exactly 1 does not",
        ),
        (DenoiseRequest { loras: vec![lora("ink", None)], ..base() }, "loras: \"ink\" is not known, none was loaded"),
        (
            DenoiseRequest { guidance_scale: 1.0, ..base() },
            "negative_prompt_embeds: they are not used at guidance_scale 1; leave them out",
        ),
    ];
    for (request, message) in cases {
        let status = denoise(&mut client, request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
    }
}

#[tokio::test]
async fn a_drain_finishes_what_runs() {
    let (handle, mut client) = serve().await;
    let running = tokio::spawn({
        let mut client = client.clone();
        async move { denoise(&mut client, request(1, 60)).await }
    });
    until("it runs", async || client.get_load(GetLoadRequest {}).await.unwrap().into_inner().running == 1).await;
    handle.drain().await.unwrap();
    let (_, steps, _) = running.await.unwrap().unwrap();
    assert_eq!(steps.last().map(|step| step.step), Some(60));
}
