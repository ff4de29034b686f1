//! Model files that cannot be used: the stage says which file and why, never becomes ready, and runs nothing of what is in it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use darkroom_service_kit::{ModelArgs, ServerConfig, ServiceHandle};
use serde_json::Value;
use tempfile::TempDir;
use testkit::fleet::{Fleet, Service};
use testkit::program::Program;
use testkit::scrape::http_get;
use testkit::wait;
use zip::write::SimpleFileOptions;

use crate::asking::{image, small};

/// The embedded model as a folder of its own, to be damaged.
fn pocket() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/models/pocket");
    copy(&from, folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the embedded model") {
        let entry = entry.expect("an entry").path();
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            fs::copy(&entry, &target).expect("a copy");
        }
    }
}

/// Changes a JSON file of a folder.
fn edit(folder: &TempDir, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.path().join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
    change(&mut value);
    fs::write(path, value.to_string()).expect("a file");
}

async fn start(stage: Service, model: &Path) -> anyhow::Result<ServiceHandle> {
    let server = ServerConfig::on_port(0);
    let model = ModelArgs { model: Some(model.display().to_string()), ..Default::default() };
    match stage {
        Service::TextEncoder => {
            darkroom_text_encoder::start(darkroom_text_encoder::Config { server, model, ..Default::default() }).await
        }
        Service::Vae => darkroom_vae::start(darkroom_vae::Config { server, model, ..Default::default() }).await,
        _ => darkroom_denoiser::start(darkroom_denoiser::Config { server, model, ..Default::default() }).await,
    }
}

/// The stage refuses the model with all of `words`, in `ready`, at `/readyz` and as a process.
async fn is_refused(stage: Service, model: &Path, words: &[&str]) -> anyhow::Result<()> {
    let handle = start(stage, model).await?;
    let ready = wait::within("the loader's answer", async { Ok(handle.ready().await) }).await?;
    let message = ready.expect_err("a model that cannot be used").to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
    let (code, page) = http_get(handle.http_addr, "/readyz").await?;
    assert_eq!((code, page.starts_with("failed: ")), (503, true), "{page}");
    assert_eq!(http_get(handle.http_addr, "/healthz").await?.0, 200);

    let mut process =
        Program::service(stage.program(), &["--model", &model.display().to_string(), "--log-level", "error"])?;
    assert_eq!(process.wait().await?.code(), Some(1));
    let lines = process.stderr_lines();
    assert_eq!(lines.len(), 1, "one clear line: {lines:?}");
    for word in [&[stage.program()], words].concat() {
        assert!(lines[0].contains(word), "{word:?} is not in {:?}", lines[0]);
    }
    Ok(())
}

/// The embedded model from a folder works, so that what the tests below refuse is what they changed.
#[tokio::test]
async fn the_undamaged_folder_is_the_embedded_model() -> anyhow::Result<()> {
    let folder = pocket();
    let disk = Fleet::with_model(folder.path()).start().await?;
    let embedded = Fleet::with_pocket_model().start().await?;
    let request = || small("a red circle on a white background").output_format(darkroom_client::OutputFormat::Webp);
    let found = image(&disk.client().await?, request()).await?;
    assert_eq!(found.data(), image(&embedded.client().await?, request()).await?.data());
    Ok(())
}

#[tokio::test]
async fn nothing_there() -> anyhow::Result<()> {
    is_refused(Service::Vae, Path::new("no/such/model.ckpt"), &["no model at no/such/model.ckpt", "diffusers folder"])
        .await
}

#[tokio::test]
async fn a_safetensors_file_cut_short() -> anyhow::Result<()> {
    let folder = pocket();
    let weights = "unet/diffusion_pytorch_model.safetensors";
    let path = folder.path().join(weights);
    let file = fs::File::options().write(true).open(&path)?;
    file.set_len(fs::metadata(&path)?.len() - 1000)?;
    is_refused(Service::Denoiser, folder.path(), &[weights, "cut short"]).await?;

    // Within its header.
    file.set_len(100)?;
    is_refused(Service::Denoiser, folder.path(), &[weights, "cut short"]).await
}

#[tokio::test]
async fn a_safetensors_file_of_noise() -> anyhow::Result<()> {
    let folder = pocket();
    let weights = "vae/diffusion_pytorch_model.safetensors";
    fs::write(folder.path().join(weights), [0xa5; 4096])?;
    is_refused(Service::Vae, folder.path(), &[weights]).await
}

#[tokio::test]
async fn a_config_that_contradicts_its_weights() -> anyhow::Result<()> {
    let folder = pocket();
    edit(&folder, "unet/config.json", |config| config["block_out_channels"] = serde_json::json!([32, 64, 256]));
    let words = ["unet/diffusion_pytorch_model.safetensors", "tensor ", "shape", "expects", "256"];
    is_refused(Service::Denoiser, folder.path(), &words).await
}

#[tokio::test]
async fn a_config_with_more_layers_than_weights() -> anyhow::Result<()> {
    let folder = pocket();
    edit(&folder, "text_encoder/config.json", |config| config["num_hidden_layers"] = 4.into());
    let words = ["text_encoder/model.safetensors", "layers.3", "missing", "[96"];
    is_refused(Service::TextEncoder, folder.path(), &words).await
}

#[tokio::test]
async fn parts_that_do_not_belong_together() -> anyhow::Result<()> {
    let folder = pocket();
    edit(&folder, "unet/config.json", |config| config["cross_attention_dim"] = 768.into());
    is_refused(Service::Denoiser, folder.path(), &["unet/config.json", "cross_attention_dim", "768", "96"]).await
}

#[tokio::test]
async fn a_config_that_is_no_json() -> anyhow::Result<()> {
    let folder = pocket();
    fs::write(folder.path().join("vae/config.json"), "{")?;
    is_refused(Service::Vae, folder.path(), &["vae/config.json", "not JSON"]).await
}

#[tokio::test]
async fn a_folder_of_stable_diffusion_xl() -> anyhow::Result<()> {
    let folder = pocket();
    edit(&folder, "model_index.json", |index| {
        index["_class_name"] = "StableDiffusionXLPipeline".into();
        index["text_encoder_2"] = serde_json::json!(["transformers", "CLIPTextModelWithProjection"]);
    });
    is_refused(Service::TextEncoder, folder.path(), &["model_index.json", "Stable Diffusion XL"]).await
}

#[tokio::test]
async fn a_folder_that_predicts_v() -> anyhow::Result<()> {
    let folder = pocket();
    edit(&folder, "scheduler/scheduler_config.json", |config| config["prediction_type"] = "v_prediction".into());
    is_refused(Service::Denoiser, folder.path(), &["scheduler_config.json", "v_prediction"]).await
}

#[tokio::test]
async fn a_file_of_stable_diffusion_xl() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sd_xl_base_1.0.safetensors");
    let names =
        ["conditioner.embedders.0.transformer.text_model.final_layer_norm.bias", "model.diffusion_model.out.2.bias"];
    let data = [0; 16];
    let views = names.map(|name| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![4], &data).expect("16 bytes"))
    });
    fs::write(&file, safetensors::serialize(views, None)?)?;
    is_refused(Service::Denoiser, &file, &["sd_xl_base_1.0.safetensors", "Stable Diffusion XL"]).await
}

/// A torch archive with nothing but a pickle.
fn checkpoint(folder: &TempDir, pickle: &[u8]) -> PathBuf {
    let path = folder.path().join("model.ckpt");
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).expect("a file"));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (entry, bytes) in [("archive/data.pkl", pickle), ("archive/version", b"3\n")] {
        archive.start_file(entry, stored).expect("an entry");
        archive.write_all(bytes).expect("an entry");
    }
    archive.finish().expect("an archive");
    path
}

#[tokio::test]
async fn a_checkpoint_that_wants_to_run_a_command() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mark = folder.path().join("it-ran");
    // `posix.system("touch …")`: what Python would do on loading it, protocol 0.
    let pickle = format!("cposix\nsystem\n(S'touch {}'\ntR.", mark.display());
    let file = checkpoint(&folder, pickle.as_bytes());
    is_refused(Service::Denoiser, &file, &["model.ckpt"]).await?;
    assert!(!mark.exists(), "the command of the checkpoint ran");
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_with_a_command_among_its_weights() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mark = folder.path().join("it-ran");
    // {"state_dict": {}, "x": posix.system("touch …")}
    let pickle = format!("(dS'state_dict'\n(dsS'x'\ncposix\nsystem\n(S'touch {}'\ntRs.", mark.display());
    let file = checkpoint(&folder, pickle.as_bytes());
    is_refused(Service::Denoiser, &file, &["model.ckpt"]).await?;
    assert!(!mark.exists(), "the command of the checkpoint ran");
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_of_nonsense() -> anyhow::Result<()> {
    // Bytes that are no opcodes; a stack that runs empty; an end that never comes; memory that was never written; a list of
    // four thousand million elements; frames longer than the file.
    let pickles: [&[u8]; 6] = [
        b"\xff\xfe\xfd",
        b"\x80\x02R.",
        b"\x80\x02}q\x00",
        b"\x80\x02h\x07.",
        b"\x80\x02X\xff\xff\xff\xffa.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
    ];
    for pickle in pickles {
        let folder = tempfile::tempdir()?;
        let file = checkpoint(&folder, pickle);
        is_refused(Service::Vae, &file, &["model.ckpt", "malformed"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_cut_short() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/weights/lightning.ckpt");
    let bytes = fs::read(whole)?;
    let file = folder.path().join("half.ckpt");
    fs::write(&file, &bytes[..bytes.len() / 2])?;
    is_refused(Service::Denoiser, &file, &["half.ckpt", "cut short"]).await
}
