//! Who asks: the clients of a file, each with its key, share and highest priority, and keys that are not in it.

use std::io::Write as _;
use std::time::Instant;

use darkroom_client::{Client, Code, Event, Priority};
use tempfile::NamedTempFile;
use testkit::fleet::{Fleet, Service};
use testkit::wait;

use crate::asking::{busy, events, next, refusal, small};

const PROMPT: &str = "a red circle on a white background";

fn file() -> anyhow::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    write!(
        file,
        r#"
        [[client]]
        name = "studio"
        key = "studio-key"

        [[client]]
        name = "visitors"
        key = "visitors-key"
        max_priority = "normal"
        "#
    )?;
    Ok(file)
}

/// One picture at a time, for those whom the file names.
async fn fleet(file: &NamedTempFile) -> anyhow::Result<Fleet> {
    let path = file.path().to_owned();
    Fleet::with_pocket_model()
        .denoiser(|config| config.max_batch = Some(1))
        .orchestrator(move |config| config.clients_file = Some(path.clone()))
        .start()
        .await
}

async fn with_key(fleet: &Fleet, key: &str) -> anyhow::Result<Client> {
    Ok(Client::builder().api_key(key)?.connect(fleet.address(Service::Orchestrator)?.to_string()).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_file_does_not_have_is_refused_and_not_repeated() -> anyhow::Result<()> {
    let file = file()?;
    let fleet = fleet(&file).await?;
    let error = refusal(&with_key(&fleet, "stolen-key").await?, small(PROMPT)).await;
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    assert!(!error.to_string().contains("stolen"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_priority_above_a_clients_highest_is_lowered_and_said_so() -> anyhow::Result<()> {
    let file = file()?;
    let fleet = fleet(&file).await?;
    for (key, lowered) in [("visitors-key", true), ("studio-key", false)] {
        let request = small(PROMPT).priority(Priority::High);
        let events = events(&with_key(&fleet, key).await?, request).await?;
        let Some(Event::Completed(completed)) = events.last() else { anyhow::bail!("{events:?}") };
        let warned = completed.warnings.iter().any(|warning| warning.field == "priority");
        assert_eq!(warned, lowered, "{key}: {:?}", completed.warnings);
    }
    Ok(())
}

/// The one who asks for much waits for its own; the other's request goes between them, though it came last.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_many_requests_does_not_delay_one_with_few() -> anyhow::Result<()> {
    let file = file()?;
    let fleet = fleet(&file).await?;
    let (studio, visitor) = (with_key(&fleet, "studio-key").await?, with_key(&fleet, "visitors-key").await?);
    let mut running = busy(&studio, PROMPT).await?;
    // Of the usual size: no two of them fit.
    let alone = small(PROMPT).width(128).height(128);
    let mut of_studio = Vec::new();
    for seed in 0..4 {
        of_studio.push(studio.generate(alone.clone().seed(seed)).await?);
    }
    let of_visitor = visitor.generate(alone.seed(9)).await?;
    wait::until("five that wait", async || {
        let depth = fleet.metrics(Service::Orchestrator).await?.sum("darkroom_queue_depth", &[]);
        Ok((depth == 5.0).then_some(()))
    })
    .await?;
    // Something is done for the studio meanwhile.
    next(&mut running, |event| matches!(event, Event::Step(_)).then_some(())).await?;
    drop(running);
    let mut all = tokio::task::JoinSet::<anyhow::Result<(Instant, usize)>>::new();
    for (index, mut generation) in of_studio.into_iter().chain([of_visitor]).enumerate() {
        all.spawn(async move {
            let begun = |event| matches!(event, Event::Started(_)).then(Instant::now);
            let begun = next(&mut generation, begun).await?;
            // To its end: one that is cancelled counts for little.
            next(&mut generation, |event| matches!(event, Event::Completed(_)).then_some(())).await?;
            Ok((begun, index))
        });
    }
    let mut begun = all.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    begun.sort();
    let order: Vec<usize> = begun.iter().map(|(_, index)| *index).collect();
    assert_eq!(order, [4, 0, 1, 2, 3], "4 is the visitor's");
    Ok(())
}
