//! A collector gets one whole trace for one request over four processes: one root, right parents, no orphan.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use darkroom_client::{Client, Event, GenerateRequest, TraceContext};
use testkit::collector::{Collector, Span};
use testkit::fleet::Service;
use testkit::processes::Processes;
use tokio_stream::StreamExt as _;

use crate::asking::{image, images, refusal, small};

const PROMPT: &str = "a red circle on a white background";
const CALL: &str = "darkroom.v1.ImageGeneration/Generate";

/// Clocks of one machine may be set while a test runs.
const CLOCK: u64 = 10_000_000;
/// A task that has told its last event ends when it is next run: on a machine with other tests, not at once.
const TASK: u64 = 2_000_000_000;

/// All spans of one request's trace, by the name that its client gave it.
fn trace_of(spans: &[Span], request_id: &str) -> Vec<Span> {
    let named = |span: &&Span| span.name == "request" && span.attributes["darkroom.request_id"] == request_id;
    let request = spans.iter().find(named).unwrap_or_else(|| panic!("no span of request {request_id}: {spans:#?}"));
    spans.iter().filter(|span| span.trace_id == request.trace_id).cloned().collect()
}

/// The span that has no parent among `trace`; it must be the only one, and every other must lie inside its parent.
fn root_of_whole(trace: &[Span]) -> &Span {
    let by_id: BTreeMap<&str, &Span> = trace.iter().map(|span| (span.span_id.as_str(), span)).collect();
    assert_eq!(by_id.len(), trace.len(), "ids are unique");
    let (rest, roots): (Vec<&Span>, Vec<&Span>) = trace.iter().partition(|span| by_id.contains_key(&*span.parent));
    let [root] = roots[..] else { panic!("{} spans have no parent: {roots:#?}", roots.len()) };
    for span in rest {
        let parent = by_id[&*span.parent];
        assert!(span.start <= span.end, "{span:#?}");
        assert!(parent.start <= span.start + CLOCK, "begins before its parent: {span:#?} {parent:#?}");
        assert!(span.end <= parent.end + TASK, "ends long after its parent: {span:#?} {parent:#?}");
    }
    root
}

/// Each span with its parent, as `service name < parent's`, sorted.
fn edges(trace: &[Span]) -> Vec<String> {
    let short = |span: &Span| {
        let service = span.service.trim_start_matches("darkroom-");
        format!("{service} {}", span.name.rsplit('/').next().unwrap_or_default())
    };
    let parent = |span: &Span| trace.iter().find(|other| other.span_id == span.parent).map(short);
    let mut edges: Vec<String> =
        trace.iter().map(|span| format!("{} < {}", short(span), parent(span).unwrap_or_default())).collect();
    edges.sort();
    edges
}

/// What a request for one picture consists of.
const ONE_PICTURE: [&str; 19] = [
    "denoiser Denoise < orchestrator denoise",
    "denoiser compute < denoiser Denoise",
    "denoiser queue < denoiser Denoise",
    "orchestrator Decode < orchestrator decode",
    "orchestrator EncodeText < orchestrator encode_text",
    "orchestrator Generate < ",
    "orchestrator decode < orchestrator image",
    "orchestrator denoise < orchestrator image",
    "orchestrator encode_text < orchestrator request",
    "orchestrator image < orchestrator request",
    "orchestrator picture_file < orchestrator image",
    "orchestrator queue < orchestrator request",
    "orchestrator request < orchestrator Generate",
    "text-encoder EncodeText < orchestrator EncodeText",
    "text-encoder compute < text-encoder EncodeText",
    "text-encoder queue < text-encoder EncodeText",
    "vae Decode < orchestrator Decode",
    "vae compute < vae Decode",
    "vae queue < vae Decode",
];

async fn traced(counts: [usize; 3], collector: &Collector, flags: &[&str]) -> anyhow::Result<Processes> {
    let endpoint = collector.endpoint();
    // The end of every call is told at this level.
    let all = ["--otlp-endpoint", &endpoint, "--log-level", "info,darkroom_service_kit=debug"];
    Processes::start_with(counts, &all, flags).await
}

/// The documentation's table: what each span of each service may say.
fn documented() -> BTreeMap<(String, String, String), BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/TRACING.md");
    let text = fs::read_to_string(path).expect("services/TRACING.md");
    let words = |cell: &str| -> Vec<String> {
        cell.split(", ").map(|word| word.trim_matches('`').to_owned()).filter(|word| word != "–").collect()
    };
    let mut documented = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, services, attributes, _] = cells[..] else { panic!("a row has five cells: {row}") };
        let services = match services {
            "stages" => Service::STAGES.map(|stage| stage.name().to_owned()).to_vec(),
            list => words(list),
        };
        for service in services {
            let program = format!("darkroom-{}", service.replace('_', "-"));
            let key = (program, kind.to_owned(), name.trim_matches('`').to_owned());
            let before = documented.insert(key, words(attributes).into_iter().collect());
            assert!(before.is_none(), "documented twice: {row}");
        }
    }
    documented
}

fn agree_with_the_documentation(spans: &[Span]) {
    let mut made: BTreeMap<(String, String, String), BTreeSet<String>> = BTreeMap::new();
    for span in spans {
        let key = (span.service.clone(), span.kind.to_owned(), span.name.clone());
        // Of any span that failed.
        let own = span.attributes.keys().filter(|key| *key != "error.type").cloned();
        made.entry(key).or_default().extend(own);
    }
    assert_eq!(made, documented(), "services/TRACING.md and the services disagree");
}

/// Sends a picture to begin from, and a second pass: all that takes a VAE's encoder.
fn enlarged() -> GenerateRequest {
    small(PROMPT).request_id("enlarged").hires(96, 96)
}

#[tokio::test]
async fn one_request_is_one_whole_trace_over_four_processes() -> anyhow::Result<()> {
    let mut collector = Collector::start().await?;
    let mut fleet = traced([1, 1, 1], &collector, &[]).await?;
    let client = fleet.client().await?;
    image(&client, small(PROMPT).request_id("one")).await?;
    images(&client, small("two green squares on a black background").request_id("pair").num_images(2)).await?;
    image(&client, enlarged()).await?;
    // Just done: the second call gets the same result, and is a trace of its own.
    image(&client, small(PROMPT).request_id("one")).await?;
    refusal(&client, small("")).await;
    drop(client);
    fleet.leave().await?;
    let spans = collector.take();

    let one = trace_of(&spans, "one");
    let root = root_of_whole(&one);
    assert_eq!((root.name.as_str(), root.kind, root.parent.as_str()), (CALL, "server", ""));
    let mut found = edges(&one);
    // Two texts, each a call of its own.
    found.dedup();
    assert_eq!(found, ONE_PICTURE);
    assert!(one.iter().all(|span| !span.failed && span.links.is_empty()), "{one:#?}");
    let services: BTreeSet<&str> = one.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services.len(), 4);
    let instances: BTreeSet<&str> = one.iter().map(|span| span.instance.as_str()).collect();
    assert_eq!(instances.len(), 4, "a process is an instance");
    let stint = one.iter().find(|span| span.name == "denoise").expect("a stint");
    let said = |key: &str| stint.attributes[key].as_str();
    assert_eq!(said("darkroom.attempt"), "0");
    assert_eq!((said("darkroom.first_step"), said("darkroom.steps")), ("1", "4"));
    assert_eq!(said("darkroom.outcome"), "finished");
    assert_eq!(said("darkroom.worker"), fleet.member(Service::Denoiser, 0)?.addresses.grpc.to_string());

    let pair = trace_of(&spans, "pair");
    root_of_whole(&pair);
    for (name, count) in [("request", 1), ("queue", 1 + 2 * 2 + 1), ("image", 2), ("denoise", 2), ("picture_file", 2)] {
        let found = pair.iter().filter(|span| span.name == name).count();
        assert_eq!(found, count, "{name}: {pair:#?}");
    }
    root_of_whole(&trace_of(&spans, "enlarged"));

    let joined = spans.iter().find(|span| span.attributes.contains_key("darkroom.joined")).expect("a call that joined");
    let request = one.iter().find(|span| span.name == "request").expect("the request");
    // It may have come before the task of the first had ended.
    assert!(["running", "finished"].contains(&joined.attributes["darkroom.joined"].as_str()), "{joined:#?}");
    assert_ne!(joined.trace_id, request.trace_id);
    assert_eq!(joined.links, [(request.trace_id.clone(), request.span_id.clone())]);

    let refused = spans.iter().find(|span| span.attributes.contains_key("error.type")).expect("the refusal");
    assert_eq!(refused.attributes["error.type"], "INVALID_ARGUMENT");
    assert!(!refused.failed, "the client's fault is no failure of the server");
    agree_with_the_documentation(&spans);

    let told = spans.iter().any(|span| span.attributes.values().any(|value| value.contains("circle")));
    assert!(!told, "a prompt is in no span");
    logs_name_the_trace(&mut fleet, &request.trace_id)
}

/// Lines of all four processes name the trace.
fn logs_name_the_trace(fleet: &mut Processes, trace_id: &str) -> anyhow::Result<()> {
    let mut logs = vec![fleet.orchestrator().stderr_lines()];
    for stage in Service::STAGES {
        logs.push(fleet.member(stage, 0)?.program.stderr_lines());
    }
    for lines in logs {
        let lines: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
        let of_trace: Vec<_> = lines.iter().filter(|line| line["trace_id"] == trace_id).collect();
        assert!(of_trace.iter().any(|line| line["message"] == "call ended"), "{lines:#?}");
        let ids = of_trace.iter().all(|line| line["span_id"].as_str().is_some_and(|id| id.len() == 16));
        assert!(ids, "{of_trace:#?}");
    }
    Ok(())
}

/// Draws a picture, and kills the first denoiser when `at` steps are done.
async fn killed_at(fleet: &mut Processes, client: &Client, request: GenerateRequest, at: u32) -> anyhow::Result<()> {
    let mut generation = client.generate(request).await?;
    let mut killed = false;
    while let Some(event) = generation.next().await {
        if matches!(event?, Event::Step(step) if step.step >= at) && !killed {
            killed = true;
            for n in 0..2 {
                let member = fleet.member(Service::Denoiser, n)?;
                if member.metrics().await?.sum("darkroom_steps_total", &[]) > 0.0 {
                    member.kill().await?;
                }
            }
        }
    }
    anyhow::ensure!(killed, "it was over too soon");
    Ok(())
}

#[tokio::test]
async fn each_workers_part_in_a_picture_is_a_span() -> anyhow::Result<()> {
    let mut collector = Collector::start().await?;
    let mut fleet = traced([1, 2, 1], &collector, &["--check-interval-ms", "100"]).await?;
    let client = fleet.client().await?;
    let request = small(PROMPT).request_id("killed").num_inference_steps(200).sampler("euler_a");
    killed_at(&mut fleet, &client, request, 100).await?;
    drop(client);
    for n in 0..2 {
        let member = fleet.member(Service::Denoiser, n)?;
        if member.program.id().is_err() {
            // The one that lives is told to leave below, with the others.
            member.start_again()?;
            member.program.addresses().await?;
        }
    }
    fleet.leave().await?;

    let spans = trace_of(&collector.take(), "killed");
    // What the killed process had sent by then has lost its parent with it.
    let denoisers = spans.iter().filter(|span| span.service == "darkroom-denoiser").map(|span| &span.instance);
    let only_the_living = denoisers.collect::<BTreeSet<_>>().len() == 1;
    let judged = spans.iter().filter(|span| only_the_living || span.service != "darkroom-denoiser");
    root_of_whole(&judged.cloned().collect::<Vec<_>>());

    let mut stints: Vec<&Span> = spans.iter().filter(|span| span.name == "denoise").collect();
    stints.sort_by_key(|span| span.start);
    let said = |n: usize, key: &str| stints[n].attributes[key].clone();
    let number = |n, key| said(n, key).parse::<u32>().expect("a number");
    assert_eq!(stints.len(), 2, "{stints:#?}");
    assert_eq!((said(0, "darkroom.outcome"), said(1, "darkroom.outcome")), ("died".into(), "finished".into()));
    assert_eq!((said(0, "darkroom.attempt"), said(1, "darkroom.attempt")), ("0".into(), "1".into()));
    assert_ne!(said(0, "darkroom.worker"), said(1, "darkroom.worker"));
    assert!(stints[0].failed && stints[0].attributes["error.type"] == "UNAVAILABLE", "{stints:#?}");
    let (first, done) = (number(1, "darkroom.first_step"), number(0, "darkroom.steps"));
    // A checkpoint is behind its step, and the last one may not have come.
    assert!(done >= 100 && first > 1 && first <= done + 1, "{stints:#?}");
    assert_eq!(first - 1 + number(1, "darkroom.steps"), 200);
    Ok(())
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn caller(sampled: bool) -> anyhow::Result<TraceContext> {
    Ok(TraceContext::new(format!("00-{TRACE}-{SPAN}-0{}", u8::from(sampled)))?)
}

#[tokio::test]
async fn a_callers_decision_is_kept_and_all_others_are_by_the_ratio() -> anyhow::Result<()> {
    let mut collector = Collector::start().await?;
    let mut fleet = traced([1, 1, 1], &collector, &["--trace-ratio", "0"]).await?;
    let client = fleet.client().await?;
    image(&client, small(PROMPT).request_id("unseen")).await?;
    image(&client, small(PROMPT).request_id("followed").trace_context(caller(true)?)).await?;
    image(&client, small(PROMPT).request_id("declined").trace_context(caller(false)?)).await?;
    drop(client);
    fleet.leave().await?;
    let spans = collector.take();
    let followed = trace_of(&spans, "followed");
    assert_eq!(followed.len(), spans.len(), "nothing else is recorded: {spans:#?}");
    let root = root_of_whole(&followed);
    assert_eq!((root.name.as_str(), root.trace_id.as_str(), root.parent.as_str()), (CALL, TRACE, SPAN));
    Ok(())
}

#[tokio::test]
async fn strangers_decide_nothing_where_they_are_only_pointed_at() -> anyhow::Result<()> {
    let mut collector = Collector::start().await?;
    let mut fleet = traced([1, 1, 1], &collector, &["--caller-traces", "link"]).await?;
    let client = fleet.client().await?;
    // Sampled or not, the trace is ours, recorded by our ratio.
    image(&client, small(PROMPT).request_id("own").trace_context(caller(false)?)).await?;
    drop(client);
    fleet.leave().await?;
    let own = trace_of(&collector.take(), "own");
    let root = root_of_whole(&own);
    assert_ne!(root.trace_id, TRACE);
    assert_eq!((root.parent.as_str(), &root.links), ("", &vec![(TRACE.to_owned(), SPAN.to_owned())]));
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_disturbs_nobody() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let endpoint = collector.endpoint();
    drop(collector);
    let mut fleet = Processes::start_with([1, 1, 1], &["--otlp-endpoint", &endpoint], &[]).await?;
    let client = fleet.client().await?;
    for seed in 0..3 {
        image(&client, small(PROMPT).seed(seed)).await?;
    }
    drop(client);
    // They end well, and within the patience of this test.
    fleet.leave().await?;
    let lines = fleet.orchestrator().stderr_lines();
    let lost = lines.iter().filter(|line| line.contains("spans do not reach the collector")).count();
    assert_eq!(lost, 1, "{lines:#?}");
    Ok(())
}
