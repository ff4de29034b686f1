//! LoRAs by name and weight, through the services and the command; `references.rs` has the references' pictures of them.

use std::fs;
use std::path::PathBuf;

use anyhow::ensure;
use darkroom_client::{Code, OutputFormat};
use serde_json::{Value, json};
use testkit::fleet::{Builder, Fleet};
use testkit::program::{command, output};

use crate::asking::{image, refusal, small};

const PROMPT: &str = "a red circle on a white background";

/// The golden LoRAs.
pub(crate) fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/loras/files")
}

/// A fleet whose text encoder and denoiser read this folder.
pub(crate) fn with(folder: PathBuf) -> Builder {
    let of_text = folder.clone();
    Fleet::with_pocket_model()
        .text_encoder(move |config| config.loras = Some(of_text.clone()))
        .denoiser(move |config| config.loras = Some(folder.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn layouts_and_weights_make_their_pictures() -> anyhow::Result<()> {
    let fleet = with(golden()).start().await?;
    let client = fleet.client().await?;
    let models = client.list_models().await?;
    ensure!(models[0].loras == ["every layer", "flat", "flat before", "flat peft"], "{:?}", models[0].loras);
    let ask = || small(PROMPT).output_format(OutputFormat::Webp);
    let plain = image(&client, ask()).await?;
    let flat = image(&client, ask().lora("flat", 0.75)).await?;
    for name in ["flat peft", "flat before"] {
        assert_eq!(image(&client, ask().lora(name, 0.75)).await?.data(), flat.data(), "{name}");
    }
    assert_eq!(image(&client, ask().lora("flat", 0.0)).await?.data(), plain.data());
    let others = [ask().lora("flat", 0.5), ask().lora("flat", 0.75).lora("every layer", 1.0)];
    for request in others {
        let other = image(&client, request).await?;
        assert!(other.data() != plain.data() && other.data() != flat.data());
    }
    assert!(flat.parameters.starts_with(&format!("{PROMPT} <lora:flat:0.75>\n")), "{}", flat.parameters);

    let refused = refusal(&client, ask().lora("ink", 1.0)).await;
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.to_string().contains("use one of every layer, flat, flat before, flat peft"), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_stage_alone_has_is_not_offered() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().denoiser(|config| config.loras = Some(golden())).start().await?;
    let client = fleet.client().await?;
    assert!(client.list_models().await?[0].loras.is_empty());
    let refused = refusal(&client, small(PROMPT).lora("flat", 1.0)).await;
    assert!(refused.to_string().contains("\"flat\" is not known, the model has none"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_file_of_another_model_stops_the_start_by_its_name() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let header = r#"{"lora_unet_up_blocks_3_resnets_0_conv1.lora_down.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
    fs::write(folder.path().join("large.safetensors"), file)?;
    let Err(error) = with(folder.path().to_owned()).start().await else { anyhow::bail!("it was read") };
    let error = format!("{error:#}");
    assert!(error.contains("large.safetensors") && error.contains("lora_unet_up_blocks_3_resnets_0_conv1"), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_command_takes_names_and_weights() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let run = async |flags: &[&str]| {
        let mut command = command("darkroom")?;
        command.args(["txt2img", PROMPT, "--W", "64", "--H", "64", "--steps", "2", "--json", "--loras"]).arg(golden());
        output(command.args(flags).current_dir(&folder)).await
    };
    let done = run(&["--lora", "flat:-0.5", "--lora", "every layer"]).await?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let events = String::from_utf8(done.stdout)?;
    let events: Vec<Value> = events.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let found = |event: &str, field: &str| {
        events.iter().find(|told| told["event"] == event).map(|told| told[field].clone()).unwrap_or_default()
    };
    let expected = json!([{ "name": "flat", "weight": -0.5 }, { "name": "every layer", "weight": 1.0 }]);
    assert_eq!(found("started", "loras"), expected);
    let parameters = found("image", "parameters");
    let written = format!("{PROMPT} <lora:flat:-0.5> <lora:every layer:1>\n");
    assert!(parameters.as_str().is_some_and(|text| text.starts_with(&written)), "{parameters}");
    for (lora, said) in [("flat:x", "--lora"), (":1", "--lora"), ("flat:11", "--lora"), ("ink", "ink")] {
        let refused = run(&["--lora", lora]).await?;
        assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains(said), "{lora}");
    }
    Ok(())
}
