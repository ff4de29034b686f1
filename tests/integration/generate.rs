//! A request, from the first event to the last: order, settings, seeds, warnings.

use darkroom_client::{Completed, Event, PromptSyntax, Rng, Settings};
use testkit::fleet::{Fleet, Service};
use tokio_stream::StreamExt as _;

use crate::asking::{SIDE, STEPS, events, image, images, small};

const PROMPT: &str = "a red circle on a white background";

#[tokio::test]
async fn events_come_in_their_order() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let events = events(&fleet.client().await?, small(PROMPT).num_images(2)).await?;

    let mut events = events.into_iter().skip_while(|event| matches!(event, Event::Queued(_)));
    assert!(matches!(events.next(), Some(Event::Started(_))));
    let mut events: Vec<Event> = events.collect();
    let Some(Event::Completed(completed)) = events.pop() else { panic!("the last event is no Completed") };
    assert_eq!((completed.images, completed.failed), (2, 0));

    for index in 0..2 {
        let of_picture = events.iter().filter_map(|event| match event {
            Event::Step(step) if step.image_index == index => Some((step.step, step.of)),
            // The picture comes after all of its steps.
            Event::Image(image) if image.image_index == index => Some((u32::MAX, STEPS)),
            _ => None,
        });
        let steps: Vec<(u32, u32)> = of_picture.collect();
        // A reader that is slow may miss steps; those that come count up.
        assert!(steps.len() >= 2 && steps.is_sorted_by(|one, next| one.0 < next.0), "{steps:?}");
        assert!(steps.iter().all(|(_, of)| *of == STEPS), "{steps:?}");
        assert_eq!(steps.last().map(|(step, _)| *step), Some(u32::MAX));
    }
    Ok(())
}

#[tokio::test]
async fn completed_says_where_the_time_went() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let seconds = completed(&events(&fleet.client().await?, small(PROMPT)).await?).seconds;
    assert!(
        seconds.queue >= 0.0 && seconds.text_encoder > 0.0 && seconds.denoiser > 0.0 && seconds.vae > 0.0,
        "{seconds:?}"
    );
    assert!(seconds.total >= seconds.text_encoder + seconds.denoiser, "{seconds:?}");
    Ok(())
}

#[tokio::test]
async fn the_same_request_gives_the_same_bytes() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let first = image(&client, small(PROMPT)).await?;
    assert_eq!(image(&client, small(PROMPT)).await?, first);
    let other = image(&client, small(PROMPT).seed(8)).await?;
    assert_ne!(other.data(), first.data());
    Ok(())
}

#[tokio::test]
async fn picture_i_is_that_of_seed_plus_i() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().denoisers(2).start().await?;
    let client = fleet.client().await?;
    let together = images(&client, small(PROMPT).seed(40).num_images(3)).await?;
    assert_eq!(together.iter().map(|image| image.seed).collect::<Vec<_>>(), [40, 41, 42]);
    for (seed, of_many) in (40..).zip(&together) {
        let alone = image(&client, small(PROMPT).seed(seed)).await?;
        assert_eq!(alone.data(), of_many.data(), "the picture of seed {seed} depends on its company");
    }
    Ok(())
}

#[tokio::test]
async fn a_seed_that_is_left_out_is_drawn_and_told() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let request = || darkroom_client::GenerateRequest::new(PROMPT).width(SIDE).height(SIDE).num_inference_steps(STEPS);
    let drawn = events(&client, request()).await?;
    let seed = settings(&drawn).seed;
    let image = |events: &[Event]| {
        events.iter().find_map(|event| match event {
            Event::Image(image) => Some(image.clone()),
            _ => None,
        })
    };
    assert_eq!(image(&events(&client, request().seed(seed)).await?), image(&drawn));
    assert_ne!(settings(&events(&client, request()).await?).seed, seed);
    Ok(())
}

#[tokio::test]
async fn started_tells_the_models_defaults() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let models = client.list_models().await?;
    let [model] = &models[..] else { panic!("one model: {models:?}") };
    assert_eq!((model.name.as_str(), model.side_multiple, model.min_side), ("pocket", 8, 64));
    assert_eq!(model.max_prompt_tokens, 75);

    // deploy/models/pocket/defaults.json
    let found = settings(&events(&client, darkroom_client::GenerateRequest::new(PROMPT).seed(1)).await?);
    let expected = Settings {
        strength: None,
        sigma_spacing: String::new(),
        prompt_syntax: PromptSyntax::Plain,
        rng: Rng::Cpu,
        variation: None,
        hires: None,
        loras: Vec::new(),
        model: "pocket".into(),
        width: 128,
        height: 128,
        num_images: 1,
        seed: 1,
        sampler: "plms".into(),
        num_inference_steps: 50,
        guidance_scale: 2.0,
        eta: 0.0,
        clip_skip: 0,
    };
    assert_eq!(found, expected);
    let defaults = &model.defaults;
    assert_eq!((defaults.width, defaults.height, defaults.num_inference_steps), (128, 128, 50));
    assert_eq!((defaults.sampler.as_str(), defaults.guidance_scale), ("plms", 2.0));
    Ok(())
}

#[tokio::test]
async fn every_sampler_makes_a_picture_of_its_own() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let samplers = client.list_models().await?.remove(0).samplers;
    for expected in ["plms", "ddim", "dpmpp_2m", "euler", "euler_a", "heun", "dpm2", "unipc"] {
        assert!(samplers.iter().any(|name| name == expected), "{expected} is not in {samplers:?}");
    }
    let mut pictures: Vec<(String, Vec<u8>)> = Vec::new();
    // Over the same timesteps DDPM and Euler's ancestral step are one: a draw from the posterior (DDIM with an eta of 1).
    for name in samplers.into_iter().filter(|name| name != "ddpm") {
        let latents = small(PROMPT).sampler(&name).output_format(darkroom_client::OutputFormat::Webp);
        let picture = image(&client, latents).await?.data().to_vec();
        if let Some((same, _)) = pictures.iter().find(|(_, other)| *other == picture) {
            panic!("{name} and {same} give the same picture");
        }
        pictures.push((name, picture));
    }
    Ok(())
}

#[tokio::test]
async fn settings_change_the_picture() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let plain = || small(PROMPT).sampler("ddim").output_format(darkroom_client::OutputFormat::Webp);
    let reference = image(&client, plain()).await?;
    let changes = [
        ("negative_prompt", plain().negative_prompt("a blue square on a black background")),
        ("guidance_scale", plain().guidance_scale(5.0)),
        ("guidance_scale 1", plain().guidance_scale(1.0)),
        ("guidance_scale 0", plain().guidance_scale(0.0)),
        ("num_inference_steps", plain().num_inference_steps(STEPS + 1)),
        ("eta", plain().eta(1.0)),
        ("clip_skip", plain().clip_skip(1)),
    ];
    for (what, request) in changes {
        assert_ne!(image(&client, request).await?.data(), reference.data(), "{what} changes nothing");
    }
    Ok(())
}

#[tokio::test]
async fn a_negative_prompt_does_nothing_without_guidance() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let unguided = || small(PROMPT).guidance_scale(1.0).output_format(darkroom_client::OutputFormat::Webp);
    let plain = image(&client, unguided()).await?;
    let negative = image(&client, unguided().negative_prompt("a blue square on a black background")).await?;
    assert_eq!(negative.data(), plain.data());
    Ok(())
}

#[tokio::test]
async fn what_a_prompt_lost_is_told() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let kept = "red ".repeat(75);
    let warnings = completed(&events(&client, small(&format!("{kept}a blue star"))).await?).warnings;
    let [warning] = &warnings[..] else { panic!("one warning: {warnings:?}") };
    assert_eq!(warning.field, "prompt");
    assert!(warning.message.contains("a blue star"), "{}", warning.message);
    assert!(!warning.message.contains("red"), "{}", warning.message);

    let negative = small(PROMPT).negative_prompt(format!("{kept}a green heart"));
    let warnings = completed(&events(&client, negative).await?).warnings;
    assert_eq!(warnings.iter().map(|warning| warning.field.as_str()).collect::<Vec<_>>(), ["negative_prompt"]);

    assert!(completed(&events(&client, small(kept.trim())).await?).warnings.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_empty_prompt_is_encoded_once() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let encoded =
        async || Ok::<_, anyhow::Error>(fleet.metrics(Service::TextEncoder).await?.sum("darkroom_prompts_total", &[]));
    image(&client, small("a red circle on a white background")).await?;
    let before = encoded().await?;
    image(&client, small("a blue circle on a white background")).await?;
    image(&client, small("a green circle on a white background")).await?;
    assert_eq!(encoded().await? - before, 2.0, "only the two prompts themselves");
    Ok(())
}

#[tokio::test]
async fn a_request_keeps_its_name() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let named = client.generate(small(PROMPT).request_id("mine-1")).await?;
    assert_eq!(named.request_id(), "mine-1");
    // While it runs, the name stands for it alone.
    let taken = client.generate(crate::asking::endless(PROMPT).request_id("mine-2")).await?;
    let refused = crate::asking::refusal(&client, small(PROMPT).request_id("mine-2")).await;
    assert_eq!(refused.code(), darkroom_client::Code::AlreadyExists, "{refused}");
    drop(taken);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_joins_and_nothing_is_computed_twice() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let named = || small(PROMPT).sampler("ddim").num_inference_steps(100).request_id("mine");
    let mut first = client.generate(named()).await?;
    while !matches!(first.next().await.transpose()?, None | Some(Event::Step(_))) {}
    // Once while it runs, and once when it is done.
    let joined = image(&client, named()).await?;
    let late = image(&client, named()).await?;
    let mut own = None;
    while let Some(event) = first.next().await {
        if let Event::Image(image) = event? {
            own = Some(image);
        }
    }
    assert_eq!(own.as_ref(), Some(&joined));
    assert_eq!(joined, late);
    let evaluations = fleet.metrics(Service::Denoiser).await?.sum("darkroom_steps_total", &[]);
    assert_eq!(evaluations, 100.0);
    Ok(())
}

fn settings(events: &[Event]) -> Settings {
    let found = events.iter().find_map(|event| match event {
        Event::Started(settings) => Some(settings.clone()),
        _ => None,
    });
    found.expect("a Started")
}

fn completed(events: &[Event]) -> Completed {
    match events.last() {
        Some(Event::Completed(completed)) => completed.clone(),
        other => panic!("the last event is {other:?}"),
    }
}
