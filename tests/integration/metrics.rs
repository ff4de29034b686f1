//! What the services count is what `services/METRICS.md` says, no more and no less.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use testkit::fleet::{Fleet, Service};
use testkit::scrape::Scrape;
use testkit::wait;
use tokio_stream::StreamExt as _;

use crate::asking::{endless, image, refusal, small};

/// What the documentation says of a metric on one service.
#[derive(Debug)]
struct Documented {
    kind: String,
    labels: BTreeSet<String>,
}

/// The documentation's table: each metric on each service that a row names.
fn documented() -> BTreeMap<(Service, String), Documented> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/METRICS.md");
    let text = fs::read_to_string(path).expect("services/METRICS.md");
    let mut documented = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, services, meaning] = cells[..] else { panic!("a row has five cells: {row}") };
        assert!(!meaning.is_empty(), "{name} has no meaning");
        let name = name.trim_matches('`');
        for service in services_of(services) {
            let metric = Documented { kind: kind.into(), labels: words(labels).map(str::to_owned).collect() };
            let before = documented.insert((service, name.to_owned()), metric);
            assert!(before.is_none(), "{name} is documented twice for the {}", service.name());
        }
    }
    documented
}

/// A cell's list of names; a dash is none.
fn words(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(", ").map(|word| word.trim_matches('`')).filter(|word| *word != "–")
}

fn services_of(cell: &str) -> Vec<Service> {
    match cell {
        "all" => Service::ALL.to_vec(),
        "stages" => Service::STAGES.to_vec(),
        list => words(list).map(service).collect(),
    }
}

fn service(name: &str) -> Service {
    let known = Service::ALL.into_iter().find(|service| service.name() == name);
    known.unwrap_or_else(|| panic!("services/METRICS.md names the service {name:?}"))
}

/// Every metric of a page: its type and the names of its labels.
fn written(service: Service, page: &Scrape) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut written: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for sample in &page.samples {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.name.strip_suffix(suffix));
        let name = of_histogram.filter(|name| page.families.contains_key(*name)).unwrap_or(&sample.name);
        let family =
            page.families.get(name).unwrap_or_else(|| panic!("{}: {name} has neither help nor type", service.name()));
        let kind = family.kind.clone().unwrap_or_else(|| panic!("{}: {name} has no type", service.name()));
        assert!(family.help.as_ref().is_some_and(|help| !help.is_empty()), "{}: {name} has no help", service.name());
        let labels = sample.labels.keys().filter(|label| *label != "le").cloned();
        written.entry(name.into()).or_insert_with(|| (kind, BTreeSet::new())).1.extend(labels);
    }
    written
}

/// A fleet whose configuration names its model, and in which all has happened: pictures, a refusal, a prompt too long, a cancelled
/// request.
async fn eventful_fleet() -> anyhow::Result<Fleet> {
    let named = |config: &mut darkroom_orchestrator::Config| {
        let denoisers = std::mem::replace(&mut config.denoisers, darkroom_orchestrator::Config::default().denoisers);
        let (name, text_encoders, vaes) = ("pocket".into(), None, None);
        config.model.push(darkroom_orchestrator::ModelTable { name, denoisers, text_encoders, vaes });
    };
    let fleet = Fleet::with_pocket_model().orchestrator(named).start().await?;
    let client = fleet.client().await?;
    image(&client, small("a red circle on a white background").preview_every(1)).await?;
    image(&client, small(&"red ".repeat(100))).await?;
    refusal(&client, small("")).await;
    let mut cancelled = client.generate(endless("a blue star on a white background")).await?;
    wait::within("a step", async {
        while !matches!(cancelled.next().await.transpose()?, None | Some(darkroom_client::Event::Step(_))) {}
        Ok(())
    })
    .await?;
    drop(cancelled);
    fleet.metric_reaches(Service::Denoiser, "darkroom_wasted_steps_total", &[], 1.0).await?;
    fleet.metric_reaches(Service::Orchestrator, "darkroom_requests_total", &[("code", "CANCELLED")], 1.0).await?;
    Ok(fleet)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_and_the_services_agree() -> anyhow::Result<()> {
    let fleet = eventful_fleet().await?;
    let documented = documented();
    let mut wrong = Vec::new();
    for service in Service::ALL {
        let who = service.name();
        let written = written(service, &fleet.metrics(service).await?);
        for (name, (kind, labels)) in &written {
            match documented.get(&(service, name.clone())) {
                None => wrong.push(format!("{who} writes {name}, which is not documented for it")),
                Some(metric) if metric.kind != *kind || metric.labels != *labels => {
                    wrong.push(format!(
                        "{who}: {name} is a {kind} with the labels {labels:?}, documented is {metric:?}"
                    ));
                }
                Some(_) => {}
            }
        }
        for (_, name) in documented.keys().filter(|(of, name)| *of == service && !written.contains_key(name)) {
            wrong.push(format!("{who} never writes {name}, which is documented for it"));
        }
    }
    assert!(wrong.is_empty(), "services/METRICS.md and the services disagree:\n{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_model_is_named_its_label_is_not_there_and_all_others_are() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    image(&fleet.client().await?, small("a red circle on a white background")).await?;
    let documented = documented();
    let mut bare = 0;
    for (name, (_, labels)) in written(Service::Orchestrator, &fleet.metrics(Service::Orchestrator).await?) {
        let mut expected = documented[&(Service::Orchestrator, name.clone())].labels.clone();
        // This one is there to name it.
        bare += u32::from(name != "darkroom_model_info" && expected.remove("model"));
        assert_eq!(labels, expected, "{name}");
    }
    assert!(bare >= 10, "{bare} have such a label");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_follow_the_conventions() -> anyhow::Result<()> {
    let fleet = eventful_fleet().await?;
    for service in Service::ALL {
        for (name, (kind, labels)) in written(service, &fleet.metrics(service).await?) {
            assert!(name.starts_with("darkroom_"), "{name} has no prefix");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            // Nothing per request: its labels would grow without end.
            let per_request = labels.iter().find(|label| ["request_id", "prompt", "seed"].contains(&label.as_str()));
            assert_eq!(per_request, None, "{name}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_add_up() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    for seed in 0..3 {
        image(&client, small("a red circle on a white background").sampler("ddim").seed(seed)).await?;
    }
    refusal(&client, small("")).await;

    let orchestrator = fleet.metrics(Service::Orchestrator).await?;
    let generate = ("method", "darkroom.v1.ImageGeneration/Generate");
    let counted = |code| orchestrator.sum("darkroom_requests_total", &[generate, ("code", code)]);
    assert_eq!((counted("OK"), counted("INVALID_ARGUMENT")), (3.0, 1.0));
    assert_eq!(orchestrator.sum("darkroom_request_seconds_count", &[generate]), 4.0);
    assert_eq!(orchestrator.sum("darkroom_images_total", &[]), 3.0);
    assert_eq!(orchestrator.sum("darkroom_queue_depth", &[]), 0.0);

    let denoiser = fleet.metrics(Service::Denoiser).await?;
    assert_eq!(denoiser.sum("darkroom_steps_total", &[]), 3.0 * f64::from(crate::asking::STEPS));
    assert_eq!(denoiser.sum("darkroom_wasted_steps_total", &[]), 0.0);
    assert_eq!(denoiser.sum("darkroom_step_seconds_count", &[]), denoiser.sum("darkroom_batch_size_count", &[]));
    // Latents of a 64×64 picture: 4 × 8 × 8 f32. DDIM keeps nothing else, so a checkpoint is as large; how many there are depends on
    // how fast things go.
    assert_eq!(denoiser.sum("darkroom_tensor_bytes_total", &[("direction", "sent")]), 3.0 * 1024.0);
    let told = denoiser.sum("darkroom_checkpoints_total", &[("direction", "sent")]);
    assert!(told > 0.0);
    assert_eq!(denoiser.sum("darkroom_checkpoint_bytes_total", &[("direction", "sent")]), told * 1024.0);
    assert_eq!(orchestrator.sum("darkroom_resumes_total", &[]), 0.0);

    let vae = fleet.metrics(Service::Vae).await?;
    assert_eq!(vae.sum("darkroom_pictures_total", &[("direction", "decode")]), 3.0);
    assert_eq!(vae.sum("darkroom_tensor_bytes_total", &[("direction", "received")]), 3.0 * 1024.0);
    Ok(())
}
