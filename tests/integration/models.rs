//! Several models in one orchestrator, each with denoisers of its own: every one gives the bytes that it gives alone.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use darkroom_client::{Client, Code, GenerateRequest};
use darkroom_orchestrator::ModelTable;
use darkroom_service_kit::{ServerConfig, ServiceHandle};
use testkit::fleet::{Fleet, Service};
use testkit::formats::{Precision, Saving};
use testkit::program::{command, output};
use testkit::seeded::{self, Configs};
use testkit::wait;

use crate::asking::{image, refusal, small};
use crate::finished_pictures::copy;

/// Any; the weights follow from it.
const SEED: u64 = 9;
const PROMPT: &str = "a red circle on a white background";

/// A model of other sizes than the embedded one.
fn tiny(folder: &Path) -> anyhow::Result<PathBuf> {
    let (configs, path) = (Configs::tiny()?, folder.join("tiny"));
    let tensors = seeded::model(&configs, SEED);
    Saving { configs: &configs, tensors: &tensors, precision: Precision::F32 }.folder(&path)?;
    Ok(path)
}

/// The embedded model with two numbers of its UNet changed: text encoder and VAE stay the same, as with a fine-tune.
fn variant(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("variant");
    copy(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/models/pocket"), &path)?;
    let file = path.join("unet/diffusion_pytorch_model.safetensors");
    let mut bytes = std::fs::read(&file)?;
    let at = {
        let tensors = safetensors::SafeTensors::deserialize(&bytes)?;
        tensors.tensor("conv_out.bias")?.data().as_ptr().addr() - bytes.as_ptr().addr()
    };
    // f16, and no two are alike.
    ensure!(bytes[at..at + 2] != bytes[at + 2..at + 4]);
    bytes.swap(at, at + 2);
    bytes.swap(at + 1, at + 3);
    std::fs::write(&file, bytes)?;
    Ok(path)
}

fn addresses(fleet: &Fleet, stage: Service) -> Vec<String> {
    fleet.addresses(stage).map(|address| address.to_string()).collect()
}

/// Three fleets of one model each, and one orchestrator more that serves all three models: the embedded one and its variant by one text encoder
/// and one VAE.
struct Side {
    alone: [(&'static str, Fleet); 3],
    _orchestrator: ServiceHandle,
    client: Client,
    address: String,
}

async fn side_by_side(folder: &Path) -> anyhow::Result<Side> {
    let (tiny, variant) = (tiny(folder)?, variant(folder)?);
    let pocket = Fleet::with_pocket_model().start().await?;
    let tiny = Fleet::with_model(tiny).start().await?;
    let variant = Fleet::with_model(variant).start().await?;
    let table = |name: &str, fleet: &Fleet, own: bool| {
        let list = |stage| own.then(|| addresses(fleet, stage));
        ModelTable {
            name: name.into(),
            denoisers: addresses(fleet, Service::Denoiser),
            text_encoders: list(Service::TextEncoder),
            vaes: list(Service::Vae),
        }
    };
    let orchestrator = darkroom_orchestrator::start(darkroom_orchestrator::Config {
        server: ServerConfig::on_port(0),
        text_encoders: addresses(&pocket, Service::TextEncoder),
        vaes: addresses(&pocket, Service::Vae),
        model: vec![table("pocket", &pocket, false), table("tiny", &tiny, true), table("variant", &variant, false)],
        check_interval_ms: 50,
        ..Default::default()
    })
    .await?;
    let address = orchestrator.grpc_addr.to_string();
    let client = Client::connect(address.clone()).await?;
    wait::until("three models", async || {
        let models = client.list_models().await?;
        Ok((models.len() == 3 && models.iter().all(|model| model.problem.is_empty())).then_some(()))
    })
    .await?;
    let alone = [("pocket", pocket), ("tiny", tiny), ("variant", variant)];
    Ok(Side { alone, _orchestrator: orchestrator, client, address })
}

#[tokio::test(flavor = "multi_thread")]
async fn models_side_by_side_give_the_bytes_that_each_gives_alone() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let side = side_by_side(folder.path()).await?;
    let ask = |seed| small(PROMPT).guidance_scale(4.0).seed(seed);
    let of = |name: &str, seed| -> GenerateRequest { ask(seed).model(name) };
    // All at once, as they would come.
    let mut running = tokio::task::JoinSet::new();
    for (at, seed) in (0..side.alone.len()).flat_map(|at| [(at, 1), (at, 2)]) {
        let (client, request) = (side.client.clone(), of(side.alone[at].0, seed));
        running.spawn(async move { anyhow::Ok((at, seed, image(&client, request).await?)) });
    }
    let mut pictures = Vec::new();
    while let Some(made) = running.join_next().await {
        let (at, seed, together) = made??;
        let alone = image(&side.alone[at].1.client().await?, ask(seed)).await?;
        ensure!(together.data() == alone.data(), "{} makes another picture, seed {seed}", side.alone[at].0);
        pictures.push(together.data().to_vec());
    }
    pictures.sort();
    pictures.dedup();
    assert_eq!(pictures.len(), 6, "the models and the seeds differ");

    // Without a name it is the first; one that nobody has is refused with those that there are.
    ensure!(image(&side.client, ask(1)).await?.data() == image(&side.client, of("pocket", 1)).await?.data());
    let error = refusal(&side.client, of("tony", 1)).await;
    assert_eq!(error.code(), Code::InvalidArgument);
    ensure!(
        error.to_string().contains(r#""tony" is not served here, known are "pocket", "tiny", "variant""#),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_names_one_of_a_servers_models() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let side = side_by_side(folder.path()).await?;
    let run = async |name: &str| {
        let server = format!("http://{}", side.address);
        let args = [
            "txt2img", PROMPT, "--server", &server, "--model", name, "--steps", "2", "--W", "64", "--H", "64", "--json",
        ];
        let output = output(command("darkroom")?.args(args).current_dir(folder.path())).await?;
        anyhow::Ok([String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?])
    };
    let [told, said] = run("variant").await?;
    ensure!(told.contains(r#""model":"variant""#), "{told}{said}");
    let [_, said] = run("sd-v1-4.ckpt").await?;
    ensure!(said.contains(r#"model: "sd-v1-4.ckpt" is not served here"#), "{said}");
    Ok(())
}
