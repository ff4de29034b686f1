//! `darkroom status` and `darkroom top`, against fleets of processes that lose some of them.

use std::net::TcpListener;

use serde_json::Value;
use tempfile::TempDir;
use testkit::fleet::Service;
use testkit::processes::Processes;
use testkit::wait;
use tokio_stream::StreamExt as _;

use crate::command::{Run, assert_success, darkroom};

const PROMPT: &str = "a red circle on a white background";
/// Looks often, so that tests need not wait.
const QUICK: [&str; 2] = ["--check-interval-ms", "50"];

/// A folder that nothing is written to, and how to reach the fleet.
struct Operator {
    folder: TempDir,
    server: String,
}

impl Operator {
    fn of(fleet: &Processes) -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, server: fleet.address().to_string() })
    }

    async fn run(&self, flags: &[&str]) -> anyhow::Result<Run> {
        darkroom(&self.folder, &[flags, &["--server", &self.server]].concat()).await
    }

    /// The exit code and the object.
    async fn status(&self) -> anyhow::Result<(Option<i32>, Value)> {
        let run = self.run(&["status", "--json"]).await?;
        let [object] = &run.json()[..] else { panic!("one object: {}", run.stdout) };
        Ok((run.code, object.clone()))
    }

    /// Waits for a status in which the stage's workers are in these states, in this order.
    async fn sees(&self, stage: &str, states: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
        wait::until(&format!("{stage} {states:?}"), async || {
            let (code, object) = self.status().await?;
            let found: Vec<&str> =
                of_stage(&object, stage).iter().filter_map(|worker| worker["state"].as_str()).collect();
            Ok((found == states).then_some((code, object)))
        })
        .await
    }
}

fn of_stage<'a>(status: &'a Value, stage: &str) -> Vec<&'a Value> {
    status["workers"].as_array().expect("workers").iter().filter(|worker| worker["stage"] == stage).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_who_is_there_and_who_was_killed() -> anyhow::Result<()> {
    let mut fleet = Processes::start([1, 2, 1], &QUICK).await?;
    let operator = Operator::of(&fleet)?;
    let (code, status) = operator.status().await?;
    assert_eq!((code, &status["ready"], &status["problem"]), (Some(0), &true.into(), &Value::Null), "{status}");
    assert_eq!((&status["queue"]["depth"], &status["queue"]["limit"]), (&0.into(), &1024.into()));
    assert_eq!(status["stages"][0], serde_json::json!({ "stage": "denoiser", "workers": 2, "ready": 2 }));
    for worker in status["workers"].as_array().expect("workers") {
        assert_eq!((&worker["state"], &worker["model"]), (&"ready".into(), &"pocket".into()), "{worker}");
        assert_eq!(worker["revision"].as_str().map(str::len), Some(64), "{worker}");
        assert!(worker["seen_seconds_ago"].is_number(), "{worker}");
        assert_eq!(
            worker["load"]["batch_pixels"].as_u64().is_some_and(|pixels| pixels > 0),
            worker["stage"] == "denoiser"
        );
    }
    let table = operator.run(&["status"]).await?;
    assert_success(&table);
    assert_eq!(table.stdout.matches(" ready  ").count(), 4, "{}", table.stdout);

    let revision = of_stage(&status, "denoiser")[1]["revision"].clone();
    fleet.member(Service::Denoiser, 1)?.kill().await?;
    let (code, status) = operator.sees("denoiser", &["ready", "unreachable"]).await?;
    assert_eq!((code, &status["ready"]), (Some(0), &true.into()), "one is enough: {status}");
    let gone = of_stage(&status, "denoiser")[1];
    assert_eq!((&gone["ready"], &gone["revision"]), (&false.into(), &revision), "{gone}");
    assert!(gone["problem"].as_str().is_some_and(|why| !why.is_empty()), "{gone}");
    let table = operator.run(&["status"]).await?;
    assert_success(&table);
    let last = table.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with(&format!("denoiser {}: ", gone["address"].as_str().unwrap_or("?"))), "{}", table.stdout);

    fleet.member(Service::Denoiser, 0)?.kill().await?;
    let (code, status) = operator.sees("denoiser", &["unreachable", "unreachable"]).await?;
    assert_eq!((code, &status["ready"], &status["answers"]), (Some(3), &false.into(), &true.into()));
    assert!(status["problem"].as_str().is_some_and(|why| why.starts_with("denoiser: no worker is ready")), "{status}");
    let run = operator.run(&["status"]).await?;
    assert_eq!(run.code, Some(3));
    assert_eq!(run.stderr, "darkroom: the fleet cannot serve\n");
    assert!(
        run.stdout.contains(": not ready, ") && run.stdout.contains("denoiser: no worker is ready"),
        "{}",
        run.stdout
    );

    // It comes back where it was.
    fleet.member(Service::Denoiser, 0)?.start_again()?;
    assert_eq!(operator.sees("denoiser", &["ready", "unreachable"]).await?.0, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_who_drains() -> anyhow::Result<()> {
    let mut fleet = Processes::start([1, 1, 1], &QUICK).await?;
    let operator = Operator::of(&fleet)?;
    let client = fleet.client().await?;
    let request = darkroom_client::GenerateRequest::new(PROMPT).num_inference_steps(1000);
    let mut generation = client.generate(request).await?;
    wait::within("a step", async {
        while !matches!(generation.next().await.transpose()?, None | Some(darkroom_client::Event::Step(_))) {}
        Ok(())
    })
    .await?;
    let busy = wait::until("the load", async || {
        let (_, status) = operator.status().await?;
        Ok((of_stage(&status, "denoiser")[0]["load"]["running"] == 1).then_some(status))
    });
    let status = busy.await?;
    assert_eq!((&status["queue"]["running"], &of_stage(&status, "denoiser")[0]["calls"]), (&1.into(), &1.into()));
    assert!(status["queue"]["work_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{status}");
    let load = &of_stage(&status, "denoiser")[0]["load"];
    assert!(load["running_pixels"].as_u64() > Some(0) && load["remaining_seconds"].as_f64() > Some(0.0), "{load}");

    fleet.member(Service::Denoiser, 0)?.program.terminate().await?;
    let (code, _) = operator.sees("denoiser", &["draining"]).await?;
    assert_eq!(code, Some(3), "nobody takes anything new");
    Ok(())
}

#[tokio::test]
async fn nobody_there_has_an_exit_code_of_its_own() -> anyhow::Result<()> {
    // Bound and dropped: nobody listens on it.
    let server = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let operator = Operator { folder: tempfile::tempdir()?, server };
    let (code, status) = operator.status().await?;
    assert_eq!((code, &status["answers"], &status["ready"]), (Some(4), &false.into(), &false.into()), "{status}");
    for command in [&["status"][..], &["top", "--count", "1"], &["loadtest", "--rate", "60"]] {
        let run = operator.run(command).await?;
        assert_eq!((run.code, run.stdout.as_str()), (Some(4), ""), "{command:?}: {}", run.stderr);
        assert!(run.stderr.starts_with("darkroom: cannot connect to "), "{}", run.stderr);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn top_writes_a_block_a_look_where_there_is_no_terminal() -> anyhow::Result<()> {
    let fleet = Processes::start([1, 1, 1], &QUICK).await?;
    let operator = Operator::of(&fleet)?;
    let small = ["txt2img", PROMPT, "--W", "64", "--H", "64", "--steps", "4", "--skip-save", "--skip-grid"];
    assert_success(&operator.run(&small).await?);
    let run = operator.run(&["top", "--interval", "0.1s", "--count", "2"]).await?;
    assert_success(&run);
    let blocks: Vec<Vec<&str>> =
        run.stdout.trim_end().split("\n\ndarkroom ").map(|block| block.lines().collect()).collect();
    let [first, second] = &blocks[..] else { panic!("two blocks: {}", run.stdout) };
    assert_eq!(first.len(), second.len());
    assert!(!run.stdout.contains('\x1b'), "{:?}", run.stdout);
    // Since the orchestrator's start there was a picture; between the looks there was none.
    let images = |block: &[&str]| {
        let words: Vec<&str> = block[1].split([' ', ',']).collect();
        let at = words.iter().position(|word| *word == "images/min").expect("a rate");
        words[at - 1].parse::<f64>()
    };
    assert!(images(first)? > 0.0 && images(second)? == 0.0, "{}", run.stdout);
    assert_eq!(second.iter().filter(|line| line.contains(" ready ")).count(), 3, "{}", run.stdout);
    Ok(())
}
