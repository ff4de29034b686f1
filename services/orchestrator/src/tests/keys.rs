//! Who may ask, and for how much: keys, their limits, and what is written down of each call.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::{GenerateRequest, GetServerInfoRequest, ListModelsRequest};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::time::sleep;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::fleet::{Fleet, PATIENCE, next, request};

const FILE: &str = r#"
    [[client]]
    name = "studio"
    key = "studio-key"
    [[client]]
    name = "gone"
    key = "gone-key"
    revoked = true
    [[client]]
    name = "hasty"
    key = "hasty-key"
    requests_per_minute = 2
    [[client]]
    name = "busy"
    key = "busy-key"
    max_running = 1
    [[client]]
    name = "daily"
    key = "daily-key"
    images_per_day = 3
"#;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

async fn guarded(clients: &NamedTempFile, audit: &Path) -> Fleet {
    Fleet::with(|config| {
        config.clients_file = Some(clients.path().to_owned());
        config.audit_log = Some(audit.to_owned());
        config.require_key = true;
    })
    .await
}

fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let key: MetadataValue<Ascii> = key.parse().unwrap();
    request.metadata_mut().insert("x-api-key", key);
    request
}

fn long() -> GenerateRequest {
    GenerateRequest { num_inference_steps: Some(1000), ..request() }
}

fn lines(audit: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(audit).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// So many lines, as soon as they are there.
async fn written(audit: &Path, count: usize) -> Vec<Value> {
    let until = Instant::now() + PATIENCE;
    loop {
        let lines = lines(audit);
        if lines.len() >= count {
            return lines;
        }
        assert!(Instant::now() < until, "{} of {count} lines came", lines.len());
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn nobody_comes_in_without_a_key_that_is_good() {
    let (clients, folder) = (file(FILE), tempfile::tempdir().unwrap());
    let audit = folder.path().join("audit.jsonl");
    let fleet = guarded(&clients, &audit).await;
    let mut client = fleet.client.clone();

    let mut refused: Vec<(&str, Status)> = Vec::new();
    refused.push(("missing", client.generate(request()).await.unwrap_err()));
    refused.push(("missing", client.list_models(ListModelsRequest {}).await.unwrap_err()));
    refused.push(("missing", client.get_server_info(GetServerInfoRequest {}).await.unwrap_err()));
    refused.push(("unknown", client.generate(with_key("studio-keY", request())).await.unwrap_err()));
    refused.push(("revoked", client.generate(with_key("gone-key", request())).await.unwrap_err()));
    let long = "k".repeat(300);
    refused.push(("malformed", client.list_models(with_key(&long, ListModelsRequest {})).await.unwrap_err()));
    for (why, status) in &refused {
        assert_eq!(status.code(), Code::Unauthenticated, "{why}: {status:?}");
        for secret in ["studio-key", "studio-keY", "gone-key", "kkk"] {
            assert!(!format!("{status:?}").contains(secret), "{why}: {status:?}");
        }
    }
    for (why, count) in [("missing", 3.0), ("unknown", 1.0), ("revoked", 1.0), ("malformed", 1.0)] {
        let series = format!("darkroom_auth_failures_total{{reason=\"{why}\"}}");
        assert_eq!(fleet.metric(&series).await, count, "{why}");
    }

    let (events, status) = fleet.all(with_key("studio-key", request())).await;
    assert!(status.is_none() && matches!(events.last(), Some(Event::Completed(_))), "{status:?}");
    client.list_models(with_key("studio-key", ListModelsRequest {})).await.unwrap();
    let page = fleet.metrics().await;

    let lines = written(&audit, 8).await;
    let codes: Vec<&str> = lines.iter().map(|line| line["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["UNAUTHENTICATED"; 6].into_iter().chain(["OK", "OK"]).collect::<Vec<_>>());
    let drawn = &lines[6];
    assert_eq!((&drawn["client"], &drawn["method"]), (&"client studio".into(), &"Generate".into()));
    assert_eq!((&drawn["images"], &drawn["images_sent"]), (&1.into(), &1.into()));
    assert!(drawn["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{drawn}");
    assert!(!drawn["request_id"].as_str().unwrap().is_empty() && drawn["seconds"].as_f64().unwrap() > 0.0, "{drawn}");
    let written = std::fs::read_to_string(&audit).unwrap() + &page;
    for secret in ["-key", "kkk", "red circle"] {
        assert!(!written.contains(secret), "{secret} stands in the audit log or the metrics");
    }
}

#[tokio::test]
async fn each_limit_refuses_with_its_name_and_is_counted() {
    let (clients, folder) = (file(FILE), tempfile::tempdir().unwrap());
    let fleet = guarded(&clients, &folder.path().join("audit.jsonl")).await;

    let mut over = Vec::new();
    for _ in 0..2 {
        assert!(fleet.all(with_key("hasty-key", request())).await.1.is_none());
    }
    over.push(("requests_per_minute", fleet.all(with_key("hasty-key", request())).await.1.unwrap()));

    fleet.set_step_time(Duration::from_millis(20));
    let mut running = fleet.generate(with_key("busy-key", long())).await.unwrap();
    while !matches!(next(&mut running).await, Event::Step(_)) {}
    over.push(("max_running", fleet.all(with_key("busy-key", request())).await.1.unwrap()));
    drop(running);
    fleet.set_step_time(Duration::ZERO);
    // What was cancelled makes room, as soon as the server knows.
    let until = Instant::now() + PATIENCE;
    while let Some(status) = fleet.all(with_key("busy-key", request())).await.1 {
        assert!(Instant::now() < until && status.code() == Code::ResourceExhausted, "{status:?}");
    }

    let pictures = |count| GenerateRequest { num_images: Some(count), ..request() };
    assert!(fleet.all(with_key("daily-key", pictures(2))).await.1.is_none());
    over.push(("images_per_day", fleet.all(with_key("daily-key", pictures(2))).await.1.unwrap()));
    // A wrong request costs none of them.
    let wrong = GenerateRequest { width: Some(7), ..pictures(1) };
    assert_eq!(fleet.all(with_key("daily-key", wrong)).await.1.unwrap().code(), Code::InvalidArgument);
    assert!(fleet.all(with_key("daily-key", pictures(1))).await.1.is_none());
    // Others are not concerned.
    assert!(fleet.all(with_key("studio-key", pictures(4))).await.1.is_none());

    for (limit, status) in over {
        assert_eq!(status.code(), Code::ResourceExhausted, "{limit}: {status:?}");
        assert!(status.message().starts_with(&format!("{limit}: ")), "{status:?}");
        assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO, "{status:?}");
        assert!(status.get_details_quota_failure().unwrap().violations[0].subject.starts_with("client "), "{status:?}");
        let counted = fleet.metric(&format!("darkroom_quota_refusals_total{{limit=\"{limit}\"}}")).await;
        assert!(counted >= 1.0, "{limit}");
    }
}

#[tokio::test]
async fn a_key_is_given_and_taken_back_while_the_server_runs() {
    let (clients, folder) = (file(FILE), tempfile::tempdir().unwrap());
    let fleet = guarded(&clients, &folder.path().join("audit.jsonl")).await;
    fleet.set_step_time(Duration::from_millis(2));
    let mut running = fleet.generate(with_key("studio-key", long())).await.unwrap();
    while !matches!(next(&mut running).await, Event::Step(_)) {}

    // A file that cannot be used changes nothing.
    std::fs::write(clients.path(), "[[client]]").unwrap();
    sleep(Duration::from_millis(1100)).await;
    assert!(fleet.all(with_key("busy-key", request())).await.1.is_none());

    std::fs::write(clients.path(), "[[client]]\nname = \"new\"\nkey = \"new-key\"\n").unwrap();
    let until = Instant::now() + PATIENCE;
    let mut client = fleet.client.clone();
    while client.list_models(with_key("studio-key", ListModelsRequest {})).await.is_ok() {
        assert!(Instant::now() < until, "the file is never read again");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(fleet.all(with_key("new-key", request())).await.1.is_none());
    // What runs goes on.
    while !matches!(next(&mut running).await, Event::Completed(_)) {}
}

#[tokio::test]
async fn who_waits_for_the_first_denoiser_counts_among_what_may_run() {
    let (clients, folder) = (file(FILE), tempfile::tempdir().unwrap());
    let fleet = Fleet::unready(|config| {
        config.clients_file = Some(clients.path().to_owned());
        config.audit_log = Some(folder.path().join("audit.jsonl"));
        config.denoisers = vec!["127.0.0.1:1".into()];
        config.no_worker_wait_seconds = 60;
    })
    .await;
    let waiting = tokio::spawn({
        let mut client = fleet.client.clone();
        async move { client.generate(with_key("busy-key", request())).await.map(drop) }
    });
    fleet.eventually_metric("darkroom_queue_depth", 1.0).await;
    let status = fleet.client.clone().generate(with_key("busy-key", request())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("max_running: "), "{status:?}");
    // Who gives up makes room.
    waiting.abort();
    fleet.metric_becomes("darkroom_queue_depth", 0.0).await;
    let mut again = with_key("busy-key", request());
    again.set_timeout(Duration::from_millis(300));
    let status = fleet.client.clone().generate(again).await.unwrap_err();
    assert_ne!(status.code(), Code::ResourceExhausted, "{status:?}");
}
