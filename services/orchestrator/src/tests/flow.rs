//! The life of a request, from its events: what comes, in which order, and what ends when the client goes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::{
    GenerateRequest, GetServerInfoRequest, Image, ListModelsRequest, Lora, OutputFormat, PromptSyntax, SafetyVerdict,
    Tensor,
};
use tonic::{Code, Request};

use super::fakes::latent;
use super::fleet::{Fleet, kinds, next, request};

fn images(events: Vec<Event>) -> Vec<Image> {
    let mut images: Vec<Image> = events
        .into_iter()
        .filter_map(|event| match event {
            Event::Image(image) => Some(image),
            _ => None,
        })
        .collect();
    images.sort_by_key(|image| image.image_index);
    images
}

#[tokio::test]
async fn events_come_in_their_order_and_tell_everything() {
    let fleet = Fleet::start().await;
    let (events, status) = fleet.all(GenerateRequest { preview_every: 2, ..request() }).await;
    assert_eq!(status.map(|status| status.message().to_owned()), None);
    assert_eq!(kinds(&events), ["started", "step", "step", "step", "step", "image", "completed"]);

    let Event::Started(started) = &events[0] else { panic!("{events:?}") };
    assert_eq!((started.width, started.seed, started.sampler.as_str()), (64, 42, "plms"));
    let Event::Step(first) = &events[1] else { panic!("{events:?}") };
    assert_eq!((first.step, first.of, first.preview.is_some()), (1, 4, false));
    let Event::Step(second) = &events[2] else { panic!("{events:?}") };
    let preview = second.preview.as_ref().unwrap();
    assert_eq!((preview.width, preview.height, &preview.data[1..4]), (8, 8, &b"PNG"[..]));
    let Event::Completed(completed) = &events[6] else { panic!("{events:?}") };
    assert_eq!((completed.images, completed.failed, completed.warnings.len()), (1, 0, 0));
    assert!(completed.seconds.unwrap().total > 0.0);

    let image = images(events).remove(0);
    assert_eq!((image.seed, image.width, image.height, image.media_type.as_str()), (42, 64, 64, "image/png"));
    assert!(image.parameters.starts_with("a red circle\nSteps: 4, Sampler: PLMS"));
    let picture = image::load_from_memory(&image.data).unwrap().to_rgb8();
    assert_eq!((picture.dimensions(), picture.as_raw()[0]), ((64, 64), 90));
}

#[tokio::test]
async fn what_the_safety_checker_said_comes_with_the_picture_and_latents_were_never_looked_at() {
    let fleet = Fleet::start().await;
    for verdict in [SafetyVerdict::NotChecked, SafetyVerdict::Passed, SafetyVerdict::Flagged] {
        fleet.behaviour.verdict.store(verdict.into(), Ordering::SeqCst);
        let (events, status) = fleet.all(request()).await;
        assert!(status.is_none(), "{status:?}");
        assert_eq!(images(events)[0].safety(), verdict);
    }
    let latents = GenerateRequest { output_format: OutputFormat::Latents.into(), ..request() };
    assert_eq!(images(fleet.all(latents).await.0)[0].safety(), SafetyVerdict::NotChecked);
}

#[tokio::test]
async fn pictures_of_one_request_have_consecutive_seeds_and_prompts_are_encoded_once() {
    let fleet = Fleet::start().await;
    for _ in 0..2 {
        let (events, status) = fleet.all(GenerateRequest { num_images: Some(3), ..request() }).await;
        assert!(status.is_none(), "{status:?}");
        let seeds: Vec<u64> = images(events).iter().map(|image| image.seed).collect();
        assert_eq!(seeds, [42, 43, 44]);
    }
    let texts = fleet.behaviour.texts.lock().unwrap().clone();
    assert_eq!(texts.len(), 2, "each text once: {texts:?}");
    let metrics = fleet.metrics().await;
    for line in [
        "darkroom_prompt_cache_hits_total 2",
        "darkroom_prompt_cache_misses_total 2",
        "darkroom_images_total 6",
        "darkroom_queue_depth 0",
        "darkroom_queued_work_seconds 0",
        r#"darkroom_workers{stage="vae",state="ready"} 1"#,
        r#"darkroom_tensor_bytes_total{stage="vae",direction="received"} 73728"#,
        r#"darkroom_stage_seconds_count{stage="denoiser"} 6"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn scale_one_leaves_the_unconditional_half_out() {
    let fleet = Fleet::start().await;
    let (_, status) = fleet.all(GenerateRequest { guidance_scale: Some(1.0), ..request() }).await;
    assert!(status.is_none(), "{status:?}");
    assert!(fleet.behaviour.denoised.lock().unwrap()[0].negative_prompt_embeds.is_none());
    assert_eq!(*fleet.behaviour.texts.lock().unwrap(), ["a red circle"]);
}

#[tokio::test]
async fn one_failed_picture_leaves_the_others_alone() {
    let fleet = Fleet::start().await;
    fleet.behaviour.bad_seeds.lock().unwrap().push(43);
    let (events, status) = fleet.all(GenerateRequest { num_images: Some(3), ..request() }).await;
    assert!(status.is_none(), "{status:?}");
    let failed = events.iter().find_map(|event| match event {
        Event::ImageFailed(failed) => Some(failed),
        _ => None,
    });
    let failed = failed.unwrap();
    assert_eq!((failed.image_index, failed.seed, failed.code), (1, 43, Code::Internal as i32));
    assert!(failed.message.contains("the fake fails"), "{}", failed.message);
    let Some(Event::Completed(completed)) = events.last() else { panic!("{events:?}") };
    assert_eq!((completed.images, completed.failed), (2, 1));
}

#[tokio::test]
async fn when_all_pictures_fail_the_stream_ends_with_their_status() {
    let fleet = Fleet::start().await;
    fleet.behaviour.bad_seeds.lock().unwrap().push(42);
    let (events, status) = fleet.all(request()).await;
    assert_eq!(kinds(&events).last(), Some(&"image_failed"));
    let status = status.unwrap();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().starts_with("denoiser at 127.0.0.1:"), "{status:?}");
}

#[tokio::test]
async fn a_client_that_goes_ends_the_work() {
    let fleet = Fleet::start().await;
    fleet.set_step_time(Duration::from_millis(20));
    let long = GenerateRequest { num_images: Some(2), num_inference_steps: Some(1000), ..request() };
    let mut stream = fleet.generate(GenerateRequest { request_id: "long".into(), ..long.clone() }).await.unwrap();
    while !matches!(next(&mut stream).await, Event::Step(_)) {}
    drop(stream);
    fleet.eventually("the end of both streams", |fleet| fleet.behaviour.cancelled.load(Ordering::SeqCst) == 2).await;

    // Its name, its slots and its work are given back.
    let mut again = fleet.generate(GenerateRequest { request_id: "long".into(), ..long }).await.unwrap();
    assert!(matches!(next(&mut again).await, Event::Started(_)));
}

#[tokio::test]
async fn a_deadline_ends_the_stream_and_is_passed_on() {
    let fleet = Fleet::start().await;
    fleet.set_step_time(Duration::from_millis(20));
    let mut long = Request::new(GenerateRequest { num_inference_steps: Some(1000), ..request() });
    long.set_timeout(Duration::from_millis(800));
    let (events, status) = fleet.all(long).await;
    assert!(kinds(&events).contains(&"step"), "{events:?}");
    assert_eq!(status.unwrap().code(), Code::DeadlineExceeded);
    assert_eq!(fleet.behaviour.deadlines.load(Ordering::SeqCst), 1);
    fleet.eventually("the end of the stream", |fleet| fleet.behaviour.cancelled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn dropped_words_are_told() {
    let fleet = Fleet::start().await;
    let prompt = "one two three four five six seven eight".to_owned();
    let (events, _) = fleet.all(GenerateRequest { prompt, negative_prompt: "blur".into(), ..request() }).await;
    let Some(Event::Completed(completed)) = events.last() else { panic!("{events:?}") };
    assert_eq!(completed.warnings.len(), 1);
    assert_eq!(completed.warnings[0].field, "prompt");
    assert_eq!(completed.warnings[0].message, "prompt: 8 tokens, the last 2 were left out: 'seven eight'");
}

#[tokio::test]
async fn weighted_prompts_have_as_many_windows_as_they_need() {
    let fleet = Fleet::start().await;
    let weighted = |prompt: &str| GenerateRequest {
        prompt: prompt.into(),
        prompt_syntax: PromptSyntax::Weighted.into(),
        ..request()
    };
    let (events, _) = fleet.all(weighted("one two three four five six seven eight")).await;
    let Some(Event::Completed(completed)) = events.last() else { panic!("{events:?}") };
    assert_eq!(completed.warnings, []);
    let Some(Event::Started(started)) = events.iter().find(|event| matches!(event, Event::Started(_))) else {
        panic!("{events:?}")
    };
    assert_eq!(started.prompt_syntax(), PromptSyntax::Weighted);
    let sent = fleet.behaviour.denoised.lock().unwrap()[0].clone();
    let rows = |tensor: Option<Tensor>| tensor.unwrap().shape[0];
    assert_eq!((rows(sent.prompt_embeds), rows(sent.negative_prompt_embeds)), (16, 8));

    // A refusal of the text encoder's has the client's name for the text.
    let (_, status) = fleet.all(weighted("one (bad:..)")).await;
    let status = status.unwrap();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "prompt: a word's weight is .."));
    let negative = GenerateRequest { negative_prompt: "(bad:..)".into(), ..weighted("one") };
    assert_eq!(fleet.all(negative).await.1.unwrap().message(), "negative_prompt: a word's weight is ..");
}

#[tokio::test]
async fn loras_reach_the_stages_that_use_them() {
    let fleet = Fleet::start().await;
    let lora = |name: &str, weight| Lora { name: name.into(), weight };
    let with = |loras: &[Lora]| GenerateRequest { loras: loras.to_vec(), ..request() };
    let loras = [lora("ink", Some(0.5)), lora("flat", None)];
    let full = [lora("ink", Some(0.5)), lora("flat", Some(1.0))];
    let (events, status) = fleet.all(with(&loras)).await;
    assert!(status.is_none(), "{status:?}");
    let Some(Event::Started(started)) = events.iter().find(|event| matches!(event, Event::Started(_))) else {
        panic!("{events:?}")
    };
    assert_eq!(started.loras, full);
    assert!(images(events)[0].parameters.starts_with("a red circle <lora:ink:0.5> <lora:flat:1>\n"));
    assert_eq!(fleet.behaviour.denoised.lock().unwrap()[0].loras, full);
    // Prompt and negative prompt, with them and without: no embedding stands for another.
    let (_, status) = fleet.all(request()).await;
    assert!(status.is_none(), "{status:?}");
    let asked = fleet.behaviour.text_loras.lock().unwrap().clone();
    assert_eq!(asked, [full.to_vec(), full.to_vec(), vec![], vec![]]);

    let (_, status) = fleet.all(with(&[lora("oil", None)])).await;
    let status = status.unwrap();
    let expected = "loras: \"oil\" is not known, use one of flat, ink";
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, expected));
}

#[tokio::test]
async fn latents_come_as_they_are() {
    let fleet = Fleet::start().await;
    let (events, _) = fleet.all(GenerateRequest { output_format: OutputFormat::Latents.into(), ..request() }).await;
    let image = images(events).remove(0);
    assert!(image.data.is_empty() && image.media_type.is_empty());
    let latents = image.latents.unwrap();
    assert_eq!(latents.shape, [4, 8, 8]);
    assert_eq!(latents.data[..4], latent(42, 4).to_le_bytes());
}

#[tokio::test]
async fn models_and_workers_are_listed() {
    let fleet = Fleet::start().await;
    let models = fleet.client.clone().list_models(ListModelsRequest {}).await.unwrap().into_inner().models;
    assert_eq!((models[0].name.as_str(), models[0].max_side, models[0].max_prompt_tokens), ("fake", 512, 6));
    assert_eq!(models[0].textual_inversions, ["<cat-toy>"]);
    assert_eq!(models[0].loras, ["flat", "ink"]);
    let info = fleet.client.clone().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.queue_limit, 1024);
    let workers: Vec<_> = info.workers.iter().map(|worker| (worker.stage.as_str(), worker.ready)).collect();
    assert_eq!(workers, [("text_encoder", true), ("denoiser", true), ("vae", true)]);
}
