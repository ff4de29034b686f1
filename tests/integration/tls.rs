//! TLS from end to end: a fleet whose stages take nobody without a certificate, and everybody whom it does not let in.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use darkroom_client::{Client, Event, GenerateRequest, Tls};
use darkroom_proto::v1::GetInfoRequest;
use darkroom_proto::v1::vae_client::VaeClient;
use darkroom_service_kit::{ClientTls, channel};
use testkit::authority::{Authority, Identity};
use testkit::fleet::{Fleet, Service};
use testkit::program::{Addresses, Program};
use testkit::scrape::{Scrape, http_get};
use testkit::wait;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

const FAILED: &str = "darkroom_tls_handshakes_failed_total";
const SETTINGS: [&str; 3] = ["ca", "cert", "key"];

/// All files of a fleet.
struct Files {
    stages: Authority,
    public: Authority,
    foreign: Authority,
    stage: Identity,
    door: Identity,
    orchestrator: Identity,
    _folder: tempfile::TempDir,
}

impl Files {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = |name| Authority::new(folder.path(), name);
        let (stages, public, foreign) = (authority("stages")?, authority("public")?, authority("foreign")?);
        Ok(Self {
            stage: stages.issue("stage", &["localhost", "127.0.0.1"])?,
            orchestrator: stages.issue("orchestrator", &["orchestrator"])?,
            door: public.issue("door", &["localhost", "127.0.0.1"])?,
            stages,
            public,
            foreign,
            _folder: folder,
        })
    }

    /// What makes a stage take its orchestrator alone.
    fn stage_flags(&self) -> Vec<String> {
        let ca = self.stages.ca();
        flags(&[("tls-cert", &self.stage.cert), ("tls-key", &self.stage.key), ("tls-client-ca", &ca)])
    }

    fn orchestrator_flags(&self) -> Vec<String> {
        let ca = self.stages.ca();
        flags(&[
            ("tls-cert", &self.door.cert),
            ("tls-key", &self.door.key),
            ("stages-ca", &ca),
            ("stages-cert", &self.orchestrator.cert),
            ("stages-key", &self.orchestrator.key),
        ])
    }
}

fn flags(files: &[(&str, &Path)]) -> Vec<String> {
    files.iter().map(|(flag, path)| format!("--{flag}={}", path.display())).collect()
}

async fn start(service: Service, flags: &[String]) -> anyhow::Result<(Program, Addresses)> {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let program = Program::service(service.program(), &flags)?;
    let addresses = program.addresses().await?;
    Ok((program, addresses))
}

/// A stage that is ready.
async fn stage(service: Service, flags: &[String]) -> anyhow::Result<(Program, Addresses)> {
    let (program, addresses) = start(service, &[flags, &["--threads=1".into()]].concat()).await?;
    program.ready().await?;
    Ok((program, addresses))
}

async fn count(addresses: Addresses, metric: &str, reason: &str) -> anyhow::Result<f64> {
    let (_, page) = http_get(addresses.http, "/metrics").await?;
    Ok(Scrape::parse(&page)?.sum(metric, &[("reason", reason)]))
}

/// The picture of one request.
async fn picture(client: &Client) -> anyhow::Result<Vec<u8>> {
    let request = GenerateRequest::new("a red circle on a white background").seed(7).num_inference_steps(4);
    let mut generation = client.generate(request).await?;
    let mut data = Vec::new();
    while let Some(event) = generation.next().await {
        if let Event::Image(image) = event? {
            data = image.data().to_vec();
        }
    }
    Ok(data)
}

/// What a caller with these certificates hears of a VAE service.
async fn call(vae: Addresses, tls: Option<&ClientTls>) -> anyhow::Result<Result<(), Status>> {
    let channel = channel::lazy_over(tls, &vae.grpc.to_string(), None)?;
    Ok(VaeClient::new(channel).get_info(GetInfoRequest {}).await.map(drop))
}

fn caller(ca: &Path, identity: Option<&Identity>) -> anyhow::Result<Option<ClientTls>> {
    let [cert, key] = [identity.map(|identity| &*identity.cert), identity.map(|identity| &*identity.key)];
    ClientTls::of(SETTINGS, Some(ca), cert, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_behind_mutual_tls_draws_the_same_picture() -> anyhow::Result<()> {
    let files = Files::new()?;
    let mut members = Vec::new();
    for service in Service::STAGES {
        members.push(stage(service, &files.stage_flags()).await?);
    }
    let [text, denoiser, vae] = [0, 1, 2].map(|n: usize| members[n].1);
    // One by its address, one by its name, and one by a name that is resolved: there the certificate is of the name.
    let lists = [
        format!("--text-encoders={}", text.grpc),
        format!("--denoisers=dns:///localhost:{}", denoiser.grpc.port()),
        format!("--vaes=https://localhost:{}", vae.grpc.port()),
    ];
    let (_orchestrator, door) =
        start(Service::Orchestrator, &[&lists[..], &files.orchestrator_flags()].concat()).await?;
    wait::until("readiness behind TLS", async || Ok((http_get(door.http, "/readyz").await?.0 == 200).then_some(())))
        .await?;

    let tls = Tls::new().authorities(std::fs::read(files.public.ca())?);
    let client = Client::builder().tls(tls.clone()).connect(format!("https://localhost:{}", door.grpc.port())).await?;
    let plain = Fleet::with_pocket_model().start().await?;
    assert_eq!(picture(&client).await?, picture(&plain.client().await?).await?);

    // Who speaks no TLS, or trusts others, learns nothing at the door.
    assert!(Client::connect(format!("http://{}", door.grpc)).await?.list_models().await.is_err());
    let foreign = Tls::new().authorities(std::fs::read(files.foreign.ca())?);
    let error = Client::builder().tls(foreign).connect(format!("https://{}", door.grpc)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    wait::until("count of plain clients", async || Ok((count(door, FAILED, "no_tls").await? >= 1.0).then_some(())))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_lets_in_whom_its_authority_knows_and_nobody_else() -> anyhow::Result<()> {
    let files = Files::new()?;
    let (_vae, vae) = stage(Service::Vae, &files.stage_flags()).await?;
    let ca = files.stages.ca();
    let good = caller(&ca, Some(&files.orchestrator))?;
    let expired = files.stages.issue_expired("expired", &["orchestrator"])?;
    let foreign = files.foreign.issue("orchestrator", &["orchestrator"])?;
    assert_eq!(call(vae, good.as_ref()).await?.map_err(|status| status.code()), Ok(()));

    for (reason, tls) in [
        ("no_certificate", caller(&ca, None)?),
        ("expired", caller(&ca, Some(&expired))?),
        ("unknown_authority", caller(&ca, Some(&foreign))?),
        ("no_tls", None),
    ] {
        let status = call(vae, tls.as_ref()).await?.expect_err(reason);
        // To gRPC this is a connection that broke before anything was said, and which code that is depends on when; nothing of the
        // service is in it.
        let broken = [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled];
        assert!(broken.contains(&status.code()) && status.source().is_some(), "{reason}: {status:?}");
        assert!(!format!("{status:?}").contains("pocket"), "{status:?}");
        wait::until(reason, async || Ok((count(vae, FAILED, reason).await? >= 1.0).then_some(()))).await?;
    }
    // The caller does not trust the stage either when its certificate is another's.
    let error = call(vae, caller(&files.public.ca(), Some(&files.orchestrator))?.as_ref()).await?.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    wait::until("its alert", async || Ok((count(vae, FAILED, "refused_by_client").await? >= 1.0).then_some(())))
        .await?;
    assert_eq!(call(vae, good.as_ref()).await?.map_err(|status| status.code()), Ok(()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_while_the_service_runs() -> anyhow::Result<()> {
    let files = Files::new()?;
    let mut flags = files.stage_flags();
    flags.push("--handshake-seconds=1".into());
    let (_vae, vae) = stage(Service::Vae, &flags).await?;
    let old = caller(&files.stages.ca(), Some(&files.orchestrator))?;
    assert!(call(vae, old.as_ref()).await?.is_ok());

    // A key that belongs to another certificate: what was there stays.
    let foreign = files.foreign.issue("stage", &["127.0.0.1"])?;
    std::fs::copy(&foreign.key, &files.stage.key)?;
    // Longer than the time between two looks at the files.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(call(vae, old.as_ref()).await?.is_ok());

    // Then all of it.
    std::fs::copy(&foreign.cert, &files.stage.cert)?;
    std::fs::copy(files.foreign.ca(), files.stages.ca())?;
    let client = files.foreign.issue("client", &["client"])?;
    let new = caller(&files.foreign.ca(), Some(&client))?;
    wait::until("the new certificates", async || Ok(call(vae, new.as_ref()).await?.ok())).await?;
    // `old` follows its files as well, and they have changed too: its own certificate is the last thing that is still the old one's.
    wait::until("the end of the old ones", async || Ok(call(vae, old.as_ref()).await?.err().map(drop))).await?;

    // One who begins and says nothing more is let go after its time.
    let started = Instant::now();
    let mut half = tokio::net::TcpStream::connect(vae.grpc).await?;
    tokio::io::AsyncWriteExt::write_all(&mut half, &[22, 3, 1]).await?;
    let ended = wait::within("the end of half a handshake", async {
        Ok(tokio::io::AsyncReadExt::read(&mut half, &mut [0; 64]).await)
    });
    assert!(matches!(ended.await?, Ok(0) | Err(_)) && started.elapsed() >= Duration::from_millis(900));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_with_anothers_certificate_gets_no_work_and_says_why() -> anyhow::Result<()> {
    let files = Files::new()?;
    let other = files.stages.issue("other", &["other.example"])?;
    let ca = files.stages.ca();
    let wrong = flags(&[("tls-cert", &other.cert), ("tls-key", &other.key), ("tls-client-ca", &ca)]);
    let (_vae, vae) = stage(Service::Vae, &wrong).await?;
    let lists =
        [format!("--vaes={}", vae.grpc), "--text-encoders=127.0.0.1:1".into(), "--denoisers=127.0.0.1:1".into()];
    let (_orchestrator, door) =
        start(Service::Orchestrator, &[&lists[..], &files.orchestrator_flags()].concat()).await?;
    let tls = Tls::new().authorities(std::fs::read(files.public.ca())?);
    let client = Client::builder().tls(tls).connect(format!("https://{}", door.grpc)).await?;
    wait::until("why it gets no work", async || {
        let info = client.server_info().await?;
        let worker = info.workers.into_iter().find(|worker| worker.stage == "vae");
        Ok(worker.filter(|worker| !worker.ready && worker.problem.contains("certificate")).map(drop))
    })
    .await
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_when_a_service_starts() -> anyhow::Result<()> {
    let files = Files::new()?;
    let missing = PathBuf::from("missing.pem");
    let other = files.stages.issue("other", &["127.0.0.1"])?;
    let mixed = flags(&[("tls-cert", &files.stage.cert), ("tls-key", &other.key)]);
    for (service, flags, parts) in [
        (Service::Vae, flags(&[("tls-cert", &files.stage.cert)]), vec!["tls_cert needs tls_key beside it"]),
        (Service::Vae, flags(&[("tls-client-ca", &missing)]), vec!["tls_client_ca needs tls_cert and tls_key"]),
        (Service::Vae, flags(&[("tls-cert", &missing), ("tls-key", &missing)]), vec!["tls_cert: missing.pem"]),
        (Service::Vae, mixed, vec!["tls_cert", "tls_key"]),
        (
            Service::Vae,
            flags(&[("tls-cert", &files.stage.cert), ("tls-key", &files.stage.cert)]),
            vec!["tls_key", "there is no private key in it"],
        ),
        (Service::Orchestrator, flags(&[("stages-cert", &other.cert)]), vec!["stages_cert needs stages_key"]),
        (Service::Orchestrator, vec!["--vaes=https://localhost:1".into()], vec!["vaes", "TLS needs an authority"]),
        (Service::Orchestrator, vec!["--require-key".into()], vec!["require_key needs clients_file"]),
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut program = Program::service(service.program(), &flags)?;
        let status = program.wait().await?;
        let said = program.stderr_lines().join("\n");
        assert!(!status.success() && parts.iter().all(|part| said.contains(part)), "{flags:?}: {status}: {said}");
        assert!(!said.contains("BEGIN"), "{said}");
    }
    Ok(())
}
