//! `darkroom inspect`: what a file or folder is, how large, and what it lacks; refusals of what is no model.

use std::fs;
use std::path::Path;

use darkroom_models::inspect::{Inspection, Layout, inspect};
use serde_json::Value;
use testkit::checker::Checker;
use testkit::formats::{Precision, save_tensors};
use testkit::program::{command, output};
use testkit::seeded::Part;

use crate::tiny::Tiny;

fn look(path: &Path) -> anyhow::Result<Inspection> {
    Ok(inspect(path.to_str().expect("a path in UTF-8"))?)
}

const PARTS: [(Part, &str); 3] =
    [(Part::TextEncoder, "text encoder"), (Part::Unet, "UNet"), (Part::Vae, "autoencoder")];

#[test]
fn every_layout_is_told_with_its_sizes() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let averages = tiny.averages();
    let checkpoint = tiny.checkpoint("tiny.ckpt", Some(&averages))?;
    let (single, folder) = (tiny.path("tiny.safetensors"), tiny.path("tiny"));
    tiny.saving(Precision::F16).single_safetensors(&single)?;
    tiny.saving(Precision::F32).folder(&folder)?;
    for (path, layout, dtype, size, averaged) in [
        (&checkpoint, Layout::Checkpoint, "f32", 4, true),
        (&single, Layout::Safetensors, "f16", 2, false),
        (&folder, Layout::DiffusersFolder, "f32", 4, false),
    ] {
        let found = look(path)?;
        let told = path.display();
        assert_eq!((found.name.as_str(), found.layout, found.whole), ("tiny", layout, true), "{told}: {found:?}");
        assert!(found.what.starts_with("Stable Diffusion v1, text to image"), "{}", found.what);
        for (part, name) in PARTS {
            let (tensors, parameters) = tiny.amount(part);
            let amount = &found.part(name).expect("the part is told of").amount;
            assert_eq!((amount.tensors, amount.parameters), (tensors, parameters), "{told}: {name}");
            assert_eq!(amount.bytes, parameters * size, "{told}: {name}");
            assert_eq!(amount.dtypes.get(dtype), Some(&tensors), "{told}: {name}");
        }
        let expected = if averaged { tiny.amount(Part::Unet).0 } else { 0 };
        assert_eq!(found.ema_tensors, expected, "{told}");
    }
    Ok(())
}

#[test]
fn what_lies_beside_the_networks_is_told() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let averages = tiny.averages();
    let mut found = look(&tiny.checkpoint("tiny.ckpt", Some(&averages))?)?.left_out;
    let beside: Vec<String> = found.drain(..).map(|left| left.to_string()).collect();
    for words in ["the moving average (EMA) of the UNet", "tables of the noise schedule", "state of the training"] {
        assert!(beside.iter().any(|line| line.starts_with(words)), "{words}: {beside:?}");
    }
    let folder = tiny.path("with-checker");
    tiny.saving(Precision::F32).folder(&folder)?;
    assert!(look(&folder)?.part("safety checker").is_none());
    Checker::tiny()?.save(&folder.join("safety_checker"), true)?;
    let found = look(&folder)?;
    assert!(found.whole && found.part("safety checker").is_some_and(|part| part.amount.tensors > 0), "{found:?}");
    Ok(())
}

#[test]
fn what_is_missing_or_does_not_fit_is_told_part_by_part() -> anyhow::Result<()> {
    let mut tiny = Tiny::new()?;
    let lost = ["up_blocks.1.resnets.0.norm2.bias", "mid_block.attentions.0.proj_out.weight"];
    tiny.tensors.retain(|tensor| !lost.contains(&tensor.name.as_str()));
    let found = look(&tiny.checkpoint("holes.ckpt", None)?)?;
    assert!(!found.whole);
    let unet = found.part("UNet").expect("a UNet");
    let problem = unet.problems.first().expect("a problem");
    assert!(problem.contains("lacks 2 of the") && lost.iter().all(|name| problem.contains(name)), "{problem}");
    assert!(found.part("text encoder").is_some_and(|part| part.is_whole()), "{found:?}");

    // A part that is not there at all, and a shape that is not the network's.
    let mut tiny = Tiny::new()?;
    tiny.tensors.retain(|tensor| tensor.part != Part::TextEncoder);
    let bent = tiny.tensors.iter_mut().find(|tensor| tensor.name == "decoder.conv_norm_out.bias").expect("a tensor");
    bent.shape = vec![1, bent.shape[0]];
    let found = look(&tiny.checkpoint("bent.ckpt", None)?)?;
    let problems = |name: &str| found.part(name).expect("a part").problems.join("\n");
    assert!(problems("text encoder").contains("holds no text encoder"), "{found:?}");
    assert!(problems("autoencoder").contains("decoder.conv_norm_out.bias"), "{found:?}");
    assert!(found.part("UNet").is_some_and(|part| part.is_whole()) && !found.whole, "{found:?}");
    Ok(())
}

#[test]
fn averages_of_a_part_only_are_counted() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let mut averages = tiny.averages();
    let before = tiny.amount(Part::Unet).0;
    averages.retain(|tensor| !tensor.name.starts_with("mid_block."));
    let lost = before - averages.iter().filter(|tensor| tensor.part == Part::Unet).count();
    assert!(lost > 0);
    assert_eq!(look(&tiny.checkpoint("some.ckpt", Some(&averages))?)?.ema_tensors, before - lost);
    Ok(())
}

#[test]
fn other_families_are_called_by_their_names() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    for (tensor, what) in [
        ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "a LoRA"),
        ("conditioner.embedders.0.transformer.text_model.final_layer_norm.weight", "Stable Diffusion XL"),
        ("cond_stage_model.model.ln_final.weight", "Stable Diffusion 2"),
        ("emb_params", "a textual inversion"),
    ] {
        let path = tiny.path("other.safetensors");
        save_tensors(&[(tensor.to_owned(), vec![2, 3], vec![0.0; 6])], Precision::F32, false, &path)?;
        let found = look(&path)?;
        assert!(found.what.contains(what) && !found.whole && found.parts.is_empty(), "{found:?}");
        assert_eq!((found.total.tensors, found.total.parameters, found.total.bytes), (1, 6, 24));
    }
    Ok(())
}

#[test]
fn what_is_no_model_is_refused_by_name() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let whole = fs::read(tiny.checkpoint("whole.ckpt", None)?)?;
    for (name, bytes) in [("short.ckpt", &whole[..whole.len() / 2]), ("noise.bin", &[0xa5; 4096][..]), ("empty", &[])] {
        let path = tiny.path(name);
        fs::write(&path, bytes)?;
        let error = look(&path).expect_err(name).to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
    let error = look(&tiny.path("nowhere")).expect_err("nothing there").to_string();
    assert!(error.contains("no model at"), "{error}");
    Ok(())
}

async fn darkroom(flags: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
    let output = output(command("darkroom")?.arg("inspect").args(flags)).await?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_a_sheet_or_json_and_its_code_says_whether_all_is_there() -> anyhow::Result<()> {
    let (code, sheet, stderr) = darkroom(&["pocket"]).await?;
    assert_eq!(code, Some(0), "{stderr}");
    for words in ["pocket: Stable Diffusion v1, text to image, 128×128", "UNet", "EMA weights: none", "whole: nothing"]
    {
        assert!(sheet.contains(words), "{words}: {sheet}");
    }
    let (code, json, stderr) = darkroom(&["pocket", "--json"]).await?;
    let json: Value = serde_json::from_str(&json)?;
    assert_eq!(
        (code, &json["whole"], &json["layout"]),
        (Some(0), &true.into(), &"diffusers_folder".into()),
        "{stderr}"
    );
    assert_eq!(json["parts"][1]["config"]["in_channels"], 4);

    let mut tiny = Tiny::new()?;
    tiny.tensors.retain(|tensor| tensor.part != Part::Vae);
    let path = tiny.checkpoint("holes.ckpt", None)?;
    let (code, sheet, stderr) = darkroom(&[path.to_str().expect("a path in UTF-8")]).await?;
    assert_eq!(code, Some(1), "{sheet}");
    assert!(sheet.contains("problem: autoencoder: ") && !sheet.contains("whole:"), "{sheet}");
    assert!(stderr.contains("is not a whole Stable Diffusion v1 model"), "{stderr}");
    Ok(())
}
