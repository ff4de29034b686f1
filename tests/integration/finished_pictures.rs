//! What is done to finished pictures: the watermark, the safety checker, and whose word counts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use darkroom_client::{GenerateRequest, Image, SafetyVerdict};
use darkroom_proto::v1::vae_client::VaeClient;
use darkroom_proto::v1::{self, GetInfoRequest, SafetyPolicy};
use darkroom_service_kit::ServerConfig;
use darkroom_vae::watermark::{self, TEXT};
use darkroom_vae::{Config, Policy, Switch};
use testkit::checker::Checker;
use testkit::fleet::{Fleet, Service};
use testkit::program::{command, output};

use crate::asking::image;

/// Sides of a picture that is just large enough for the watermark, and of one that is not.
const SIDES: [u32; 2] = [256, 248];

fn request(side: u32) -> GenerateRequest {
    GenerateRequest::new("a red circle on a white background").width(side).height(side).num_inference_steps(2).seed(7)
}

async fn picture(fleet: &Fleet, side: u32) -> Result<(Image, Vec<u8>)> {
    let image = image(&fleet.client().await?, request(side)).await?;
    let rgb = ::image::load_from_memory(image.data())?.into_rgb8().into_raw();
    Ok((image, rgb))
}

fn signed(rgb: &[u8], side: u32) -> bool {
    watermark::extract(rgb, side as usize, side as usize, TEXT.len()).is_some_and(|found| found == TEXT)
}

/// A fleet whose VAE has a safety checker in a folder of its own.
async fn with_checker(folder: &Path, policy: Option<Policy>) -> Result<Fleet> {
    let folder = folder.to_owned();
    let vae = move |config: &mut Config| {
        config.safety_checker = Some(folder.clone());
        config.safety_policy = policy;
    };
    Fleet::with_pocket_model().vae(vae).start().await
}

async fn info(fleet: &Fleet) -> Result<v1::VaeInfo> {
    Ok(VaeClient::new(fleet.channel(Service::Vae)?).get_info(GetInfoRequest {}).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_pictures_are_signed_unless_the_operator_says_otherwise() -> Result<()> {
    let plain = Fleet::with_pocket_model().vae(|config| config.watermark = Switch::Off).start().await?;
    let fleet = Fleet::with_pocket_model().start().await?;
    let [large, small] = SIDES;
    let (image, rgb) = picture(&fleet, large).await?;
    let (_, unsigned) = picture(&plain, large).await?;
    assert_eq!(image.safety, SafetyVerdict::NotChecked);
    let mut expected = unsigned.clone();
    assert!(watermark::embed(&mut expected, large as usize, large as usize, TEXT));
    assert!(rgb == expected && rgb != unsigned, "the picture with its watermark, and nothing else");
    assert!(!signed(&unsigned, large));
    assert!(picture(&fleet, small).await?.1 == picture(&plain, small).await?.1, "too small for the method");

    let metrics = fleet.metrics(Service::Vae).await?;
    assert_eq!(metrics.sum("darkroom_watermarked_pictures_total", &[]), 1.0);
    assert_eq!(metrics.sum("darkroom_pictures_total", &[("direction", "decode")]), 2.0);
    let (with, without) = (info(&fleet).await?, info(&plain).await?);
    assert_eq!((with.watermark, without.watermark, with.safety_policy()), (true, false, SafetyPolicy::Off));
    assert_ne!(with.stage.map(|stage| stage.revision), without.stage.map(|stage| stage.revision));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flagged_picture_is_black_or_marked_and_others_pass() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (all, none) = (folder.path().join("all"), folder.path().join("none"));
    Checker::that_flags_all()?.save(&all, false)?;
    Checker::tiny()?.save(&none, true)?;
    let [side, _] = SIDES;
    let unchecked = picture(&Fleet::with_pocket_model().start().await?, side).await?.1;

    let fleet = with_checker(&all, None).await?;
    let (image, rgb) = picture(&fleet, side).await?;
    assert_eq!(image.safety, SafetyVerdict::Flagged);
    assert!(rgb.iter().all(|byte| *byte == 0), "block is the default, and black is black");
    let metrics = fleet.metrics(Service::Vae).await?;
    assert_eq!(metrics.sum("darkroom_safety_verdicts_total", &[("verdict", "flagged")]), 1.0);
    let blocking = info(&fleet).await?;
    assert_eq!((blocking.safety_policy(), blocking.safety_revision.len()), (SafetyPolicy::Block, 64));
    drop(fleet);

    let mut revisions = vec![blocking.stage.map(|stage| stage.revision)];
    for (folder, policy, verdict) in [
        (&all, Some(Policy::Mark), SafetyVerdict::Flagged),
        (&none, Some(Policy::Block), SafetyVerdict::Passed),
        (&all, Some(Policy::Off), SafetyVerdict::NotChecked),
    ] {
        let fleet = with_checker(folder, policy).await?;
        let (image, rgb) = picture(&fleet, side).await?;
        assert_eq!(image.safety, verdict, "{policy:?}");
        assert!(rgb == unchecked, "{policy:?}: the picture is as it was");
        revisions.push(info(&fleet).await?.stage.map(|stage| stage.revision));
    }
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len(), 4, "each treats pictures in another way");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intermediate_picture_is_neither_signed_nor_looked_at() -> Result<()> {
    let folder = tempfile::tempdir()?;
    Checker::that_flags_all()?.save(folder.path(), false)?;
    let fleet = with_checker(folder.path(), Some(Policy::Mark)).await?;
    let mut vae = VaeClient::new(fleet.channel(Service::Vae)?);
    let latents: Vec<f32> = (0..4 * 32 * 32).map(|i| (i as f32 * 0.01).sin()).collect();
    let mut decode = async |intermediate| -> Result<(Vec<u8>, v1::SafetyVerdict)> {
        let latents = Some(v1::Tensor::from_f32(&[4, 32, 32], &latents));
        let answer = vae.decode(v1::DecodeRequest { latents, intermediate }).await?.into_inner();
        Ok((answer.image.clone().context("no image")?.data.into(), answer.safety()))
    };
    let (mut raw, verdict) = decode(true).await?;
    assert_eq!(verdict, v1::SafetyVerdict::NotChecked);
    let (finished, verdict) = decode(false).await?;
    assert_eq!(verdict, v1::SafetyVerdict::Flagged);
    assert_ne!(raw, finished);
    assert!(watermark::embed(&mut raw, 256, 256, TEXT));
    assert_eq!(raw, finished);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_folder_brings_its_own_checker_and_a_policy_needs_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("pocket");
    copy(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/models/pocket"), &model)?;
    let config = |policy| {
        let server = ServerConfig::on_port(0);
        let args = darkroom_service_kit::ModelArgs { model: model.to_str().map(Into::into), ..Default::default() };
        Config { server, model: args, safety_policy: policy, ..Default::default() }
    };
    for policy in [Policy::Block, Policy::Mark] {
        let error = darkroom_vae::start(config(Some(policy))).await?.ready().await.err().context("it is ready")?;
        ensure!(error.to_string().contains(&format!("safety_policy is {policy}, and pocket brings no")), "{error:#}");
    }
    Checker::that_flags_all()?.save(&model.join("safety_checker"), false)?;
    let handle = darkroom_vae::start(config(None)).await?;
    handle.ready().await?;
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", handle.grpc_addr))?.connect().await?;
    let info = VaeClient::new(channel).get_info(GetInfoRequest {}).await?.into_inner();
    assert_eq!(info.safety_policy(), SafetyPolicy::Block);

    // Half of a checker is an error, not no checker.
    std::fs::remove_file(model.join("safety_checker/model.safetensors"))?;
    let error = darkroom_vae::start(config(None)).await?.ready().await.err().context("it is ready")?;
    ensure!(error.to_string().contains("holds no weights in safety_checker"), "{error:#}");
    darkroom_vae::start(config(Some(Policy::Off))).await?.ready().await?;
    Ok(())
}

#[tokio::test]
async fn the_command_warns_of_flagged_pictures_and_a_server_decides_for_itself() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("checked");
    copy(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/models/pocket"), &model)?;
    Checker::that_flags_all()?.save(&model.join("safety_checker"), false)?;
    let run = async |flags: &[&str]| -> Result<(Option<i32>, String, String)> {
        let usual = ["txt2img", "a red circle", "--W", "256", "--H", "256", "--steps", "2", "--json"];
        let output = output(command("darkroom")?.args(usual).args(flags).current_dir(&folder)).await?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    };
    let saved = |number: u32| -> Result<Vec<u8>> {
        let path = folder.path().join(format!("outputs/txt2img-samples/samples/{number:05}.png"));
        Ok(::image::open(path)?.into_rgb8().into_raw())
    };
    let (code, stdout, stderr) = run(&["--model", "checked"]).await?;
    ensure!(code == Some(0) && stdout.contains(r#""safety":"flagged""#), "{stdout}{stderr}");
    ensure!(stderr.contains("the safety checker flagged picture 0 (seed 42)"), "{stderr}");
    assert!(saved(0)?.iter().all(|byte| *byte == 0));

    let (code, stdout, stderr) = run(&["--model", "checked", "--no-safety-check"]).await?;
    ensure!(code == Some(0) && stdout.contains(r#""safety":"not_checked""#) && !stderr.contains("flagged"), "{stderr}");
    let (code, _, stderr) = run(&["--model", "checked", "--no-safety-check", "--no-watermark"]).await?;
    ensure!(code == Some(0), "{stderr}");
    let mut expected = saved(2)?;
    assert!(watermark::embed(&mut expected, 256, 256, TEXT));
    assert!(saved(1)? == expected, "with and without the watermark");

    for flag in ["--no-watermark", "--no-safety-check"] {
        let (code, _, stderr) = run(&["--server", "http://127.0.0.1:9", flag]).await?;
        assert_eq!(code, Some(2), "{stderr}");
        ensure!(stderr.contains(&format!("{flag}: the server http://127.0.0.1:9 decides this")), "{stderr}");
    }
    Ok(())
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if entry.is_dir() { copy(&entry, &to.join(name))? } else { _ = std::fs::copy(&entry, to.join(name))? }
    }
    Ok(())
}
