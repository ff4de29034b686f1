//! `darkroom convert`: the same model in another layout, bit for bit, or a refusal that says why.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use darkroom_models::convert::{ConvertError, ConvertOptions, convert};
use darkroom_models::source::{ModelSource, SourceOptions};
use half::f16;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::checker::Checker;
use testkit::formats::Precision;
use testkit::program::{command, output};
use testkit::seeded::SeededTensor;

use crate::tiny::Tiny;

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    file.iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

impl Tiny {
    /// A full checkpoint, and what its moving average was made of.
    fn full(&self, name: &str) -> anyhow::Result<(PathBuf, Vec<SeededTensor>)> {
        let averages = self.averages();
        Ok((self.checkpoint(name, Some(&averages))?, averages))
    }

    /// Converts and gives the path of the result and what was left out.
    fn convert(&self, from: &Path, to: &str, options: ConvertOptions) -> Result<(PathBuf, Vec<String>), ConvertError> {
        let target = self.path(to);
        let from = from.to_str().expect("a path in UTF-8");
        let converted = convert(from, &target, options, &AtomicBool::new(false))?;
        Ok((target, converted.left_out.iter().map(ToString::to_string).collect()))
    }

    fn as_it_is(&self, from: &Path, to: &str) -> anyhow::Result<PathBuf> {
        Ok(self.convert(from, to, ConvertOptions::default())?.0)
    }

    /// Why a conversion is refused; nothing is left of it.
    fn refusal(&self, from: &Path, to: &str, options: ConvertOptions) -> String {
        let before = names(self.at.path());
        let error = self.convert(from, to, options).expect_err("a refusal");
        assert_eq!(names(self.at.path()), before, "{error}");
        error.to_string()
    }
}

/// The revisions of the text encoder, the UNet and the autoencoder.
fn revisions(path: &Path) -> anyhow::Result<[String; 3]> {
    let source = ModelSource::resolve(path.to_str(), SourceOptions::default())?;
    Ok([source.text_encoder()?.1.revision(), source.unet()?.1.revision(), source.vae()?.1.revision()])
}

fn edit(path: &Path, field: &str, value: Value) -> anyhow::Result<()> {
    let mut json: Value = serde_json::from_slice(&fs::read(path)?)?;
    json[field] = value;
    Ok(fs::write(path, json.to_string())?)
}

#[test]
fn there_and_back_again_no_bit_changes() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let (checkpoint, _) = tiny.full("tiny.ckpt")?;
    let single = tiny.path("saved.safetensors");
    tiny.saving(Precision::F32).single_safetensors(&single)?;

    let first = tiny.as_it_is(&checkpoint, "first.safetensors")?;
    // Names, types, shapes and bytes, as the testkit writes them from the libraries' own code.
    assert!(read(&first) == read(&single), "the checkpoint's tensors");
    let folder = tiny.as_it_is(&first, "folder")?;
    let second = tiny.as_it_is(&folder, "second.safetensors")?;
    assert!(fs::read(&first)? == fs::read(&second)?, "the same tensors are the same file");

    let saved = tiny.path("saved");
    tiny.saving(Precision::F32).folder(&saved)?;
    for part in ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"] {
        let file = format!("{part}.safetensors");
        assert!(read(&folder.join(&file)) == read(&saved.join(&file)), "{file}");
    }
    let expected = revisions(&checkpoint)?;
    for layout in [&first, &folder, &second, &saved] {
        assert_eq!(revisions(layout)?, expected, "{}", layout.display());
    }
    Ok(())
}

#[test]
fn half_precision_is_the_nearest_and_keeps_what_is_half() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let (checkpoint, _) = tiny.full("tiny.ckpt")?;
    let half = ConvertOptions { half: true, ..Default::default() };
    let single = tiny.convert(&checkpoint, "half.safetensors", half)?.0;
    let expected = tiny.path("expected.safetensors");
    tiny.saving(Precision::F16).single_safetensors(&expected)?;
    assert!(read(&single) == read(&expected), "every tensor is rounded to the nearest");
    let folder = tiny.convert(&single, "half", half)?.0;
    assert_eq!(revisions(&folder)?, revisions(&single)?);
    // Nothing is rounded that was not to be.
    let back = tiny.as_it_is(&folder, "back.safetensors")?;
    assert!(fs::read(&back)? == fs::read(&single)?);
    Ok(())
}

#[test]
fn a_value_that_no_half_has_is_named() -> anyhow::Result<()> {
    let mut tiny = Tiny::new()?;
    let large =
        tiny.tensors.iter_mut().find(|tensor| tensor.name == "conv_norm_out.bias").expect("the UNet's last norm");
    large.data[3] = 1e5;
    let (checkpoint, _) = tiny.full("tiny.ckpt")?;
    let half = ConvertOptions { half: true, ..Default::default() };
    for (target, name) in [("half.safetensors", "model.diffusion_model.out.0.bias"), ("half", "conv_norm_out.bias")] {
        let found = tiny.refusal(&checkpoint, target, half);
        assert!(found.contains(&format!("tensor {name} of")) && found.contains("100000"), "{found}");
    }
    tiny.as_it_is(&checkpoint, "full.safetensors")?;
    Ok(())
}

#[test]
fn the_moving_average_is_taken_when_asked_for() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let (checkpoint, averages) = tiny.full("tiny.ckpt")?;
    let ema = ConvertOptions { ema: true, ..Default::default() };
    let (folder, _) = tiny.convert(&checkpoint, "averaged", ema)?;
    let mixed = Tiny { tensors: averages, ..Tiny::new()? };
    let whole = mixed.path("averages.safetensors");
    mixed.saving(Precision::F32).single_safetensors(&whole)?;
    assert_eq!(revisions(&folder)?[1], revisions(&whole)?[1], "the UNet is the average");
    assert_eq!(revisions(&folder)?[2], revisions(&checkpoint)?[2], "the autoencoder has none");
    let found = tiny.refusal(&folder, "again", ema);
    assert!(found.contains("averaged") && found.contains("one set of weights"), "{found}");
    Ok(())
}

#[test]
fn what_is_left_out_is_told() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let (checkpoint, _) = tiny.full("tiny.ckpt")?;
    let (_, left) = tiny.convert(&checkpoint, "plain.safetensors", ConvertOptions::default())?;
    let has = |left: &[String], words: &[&str]| left.iter().any(|line| words.iter().all(|word| line.contains(word)));
    for words in [
        &["moving average", "model_ema.diffusion_model"][..],
        &["noise schedule", "(1: betas)"],
        &["CLIP's constants", "position_ids"],
        &["state of the training", "epoch", "global_step"],
    ] {
        assert!(has(&left, words), "{words:?}: {left:?}");
    }

    let folder = tiny.path("with-checker");
    tiny.saving(Precision::F32).folder(&folder)?;
    Checker::tiny()?.save(&folder.join("safety_checker"), true)?;
    fs::write(folder.join("defaults.json"), r#"{"guidance_scale": 3}"#)?;
    let (_, left) = tiny.convert(&folder, "no-checker.safetensors", ConvertOptions::default())?;
    for words in [&["safety checker"][..], &["defaults.json"], &["sample_size 8", "64"], &["timestep_spacing"]] {
        assert!(has(&left, words), "{words:?}: {left:?}");
    }
    Ok(())
}

#[test]
fn a_folder_keeps_its_checker_and_its_own_words() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let folder = tiny.path("original");
    tiny.saving(Precision::F32).folder(&folder)?;
    // As the pickle of old; it becomes safetensors under the names of the pickle.
    Checker::tiny()?.save(&folder.join("safety_checker"), true)?;
    Checker::tiny()?.save(&tiny.path("expected"), false)?;
    fs::write(folder.join("defaults.json"), r#"{"guidance_scale": 3}"#)?;
    let half = ConvertOptions { half: true, ..Default::default() };
    let copy = tiny.convert(&folder, "copy", half)?.0;
    let checker = |path: &Path| read(&path.join("model.safetensors"));
    assert!(checker(&copy.join("safety_checker")) == checker(&tiny.path("expected")), "a checker is not rounded");
    for file in ["defaults.json", "unet/config.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json"] {
        assert!(fs::read(copy.join(file))? == fs::read(folder.join(file))?, "{file}");
    }
    let name = "decoder.conv_in.bias";
    let unrounded = tiny.tensors.iter().find(|tensor| tensor.name == name).expect("a tensor");
    let rounded: Vec<u8> = unrounded.data.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    assert_eq!(read(&copy.join("vae/diffusion_pytorch_model.safetensors"))[name].2, rounded);
    Ok(())
}

#[test]
fn a_folder_that_a_single_file_cannot_say_is_refused_by_field() -> anyhow::Result<()> {
    for (file, field, value, words) in [
        (
            "unet/config.json",
            "norm_num_groups",
            json!(16),
            "unet: norm_num_groups is 16, a single file's reader takes 32",
        ),
        ("unet/config.json", "attention_head_dim", json!(4), "unet: num_attention_heads is [4,4,4]"),
        (
            "vae/config.json",
            "scaling_factor",
            json!(0.5),
            "vae: scaling_factor is 0.5, a single file's reader takes 0.18215",
        ),
        ("text_encoder/config.json", "layer_norm_eps", json!(1e-6), "text_encoder: layer_norm_eps is "),
        ("scheduler/scheduler_config.json", "beta_end", json!(0.02), "scheduler: beta_end is 0.02, a single"),
        (
            "scheduler/scheduler_config.json",
            "timestep_spacing",
            json!("trailing"),
            "scheduler: timestep_spacing is \"trailing\"",
        ),
        ("tokenizer/tokenizer_config.json", "pad_token", json!("!"), "tokenizer: its vocabulary is not CLIP's"),
    ] {
        let tiny = Tiny::new()?;
        let folder = tiny.path("folder");
        tiny.saving(Precision::F32).folder(&folder)?;
        edit(&folder.join(file), field, value)?;
        let found = tiny.refusal(&folder, "single.safetensors", ConvertOptions::default());
        assert!(found.contains("cannot become a single file") && found.contains(words), "{found}");
        // As a folder it can say it.
        tiny.as_it_is(&folder, "copy")?;
    }
    Ok(())
}

#[test]
fn what_is_missing_is_named() -> anyhow::Result<()> {
    let mut tiny = Tiny::new()?;
    let lost = ["up_blocks.1.resnets.0.norm2.bias", "mid_block.attentions.0.proj_out.weight"];
    tiny.tensors.retain(|tensor| !lost.contains(&tensor.name.as_str()));
    let single = tiny.path("holes.safetensors");
    tiny.saving(Precision::F32).single_safetensors(&single)?;
    let found = tiny.refusal(&single, "folder", ConvertOptions::default());
    assert!(found.contains("lacks 2 of the") && found.contains("tensors of its UNet"), "{found}");
    assert!(lost.iter().all(|name| found.contains(name)), "{found}");
    Ok(())
}

#[test]
fn files_that_are_no_model_are_refused_by_name() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let (checkpoint, _) = tiny.full("tiny.ckpt")?;
    let single = tiny.as_it_is(&checkpoint, "whole.safetensors")?;
    let (checkpoint, single) = (fs::read(checkpoint)?, fs::read(single)?);
    let header = usize::try_from(u64::from_le_bytes(*single.first_chunk().expect("a length")))?;
    let mut lying = single.clone();
    lying[..8].copy_from_slice(&(header as u64 * 1000).to_le_bytes());
    let mut huge = single.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let text =
        String::from_utf8(single[8..8 + header].to_vec())?.replacen("\"data_offsets\":[0,", "\"data_offsets\":[1,", 1);
    let overlapping = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &single[8 + header..]].concat();
    for (name, bytes, words) in [
        ("short.ckpt", &checkpoint[..checkpoint.len() / 2], "cut short"),
        ("short.safetensors", &single[..single.len() - 7], "cut short"),
        ("lying.safetensors", &lying[..], "cut short"),
        ("huge.safetensors", &huge[..], "announces a header of"),
        ("overlapping.safetensors", &overlapping[..], "header is invalid"),
        ("noise.safetensors", &[0xa5; 4096][..], "neither a safetensors file nor a torch checkpoint"),
        ("empty.ckpt", &[][..], "neither a safetensors file nor a torch checkpoint"),
    ] {
        let path = tiny.path(name);
        fs::write(&path, bytes)?;
        let found = tiny.refusal(&path, "target", ConvertOptions::default());
        assert!(found.contains(name) && found.contains(words), "{name}: {found}");
    }
    Ok(())
}

/// Runs `darkroom` in a folder: exit code, standard output and standard error.
async fn darkroom(folder: &TempDir, flags: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
    let output = output(command("darkroom")?.args(flags).current_dir(folder)).await?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_converted_model_makes_the_same_picture() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    let (checkpoint, _) = tiny.full("tiny.ckpt")?;
    let folder = &tiny.at;
    fs::create_dir(folder.path().join("to"))?;
    let mut pictures = Vec::new();
    // A PNG tells the model's name: here all are called tiny.
    for (model, from) in
        [("tiny.ckpt", None), ("to/tiny.safetensors", Some("tiny.ckpt")), ("to/tiny", Some("to/tiny.safetensors"))]
    {
        if let Some(from) = from {
            let (code, stdout, stderr) = darkroom(folder, &["convert", from, model]).await?;
            assert_eq!((code, stdout.trim_end()), (Some(0), model), "{stderr}");
            let told = stderr.contains("darkroom: left out: the moving average (EMA) of the UNet");
            assert_eq!(told, from == "tiny.ckpt", "{stderr}");
        }
        let outdir = format!("out-{}", pictures.len());
        let flags = ["txt2img", "a photograph of an astronaut", "--model", model, "--outdir", &outdir];
        let small = ["--W", "64", "--H", "64", "--steps", "3"];
        let (code, _, stderr) = darkroom(folder, &[&flags[..], &small].concat()).await?;
        assert_eq!(code, Some(0), "{stderr}");
        pictures.push(fs::read(folder.path().join(outdir).join("samples/00000.png"))?);
    }
    assert!(pictures.iter().all(|picture| *picture == pictures[0]), "{} makes another picture", checkpoint.display());
    Ok(())
}

#[tokio::test]
async fn nothing_is_overwritten_and_wrong_targets_end_with_2() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("taken.safetensors"), "mine")?;
    fs::create_dir(folder.path().join("taken"))?;
    std::os::unix::fs::symlink("nowhere", folder.path().join("dangling"))?;
    for (target, words) in [
        ("taken.safetensors", "taken.safetensors exists already"),
        ("taken", "taken exists already"),
        ("dangling", "dangling exists already"),
        ("model.ckpt", "pickles are read and never written"),
        ("no/such/place", "the folder that it would lie in does not exist"),
        ("..", "exists already"),
    ] {
        let (code, stdout, stderr) = darkroom(&folder, &["convert", "pocket", target]).await?;
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{target}: {stderr}");
        assert!(stderr.starts_with("darkroom: TARGET: ") && stderr.contains(words), "{stderr}");
    }
    let (code, _, stderr) = darkroom(&folder, &["convert", "no/such/model", "target"]).await?;
    assert!(code == Some(1) && stderr.contains("no model at no/such/model"), "{stderr}");
    let (code, _, stderr) = darkroom(&folder, &["convert", "pocket", "pocket.safetensors"]).await?;
    assert!(code == Some(1) && stderr.contains("its vocabulary is not CLIP's"), "{stderr}");
    assert_eq!(names(folder.path()), ["dangling", "taken", "taken.safetensors"]);
    assert_eq!(fs::read(folder.path().join("taken.safetensors"))?, b"mine");
    Ok(())
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing() -> anyhow::Result<()> {
    let tiny = Tiny::new()?;
    for target in ["stopped.safetensors", "stopped"] {
        let source = tiny.path("tiny.safetensors");
        if !source.exists() {
            tiny.saving(Precision::F32).single_safetensors(&source)?;
        }
        let stopped = convert(
            source.to_str().expect("UTF-8"),
            &tiny.path(target),
            ConvertOptions::default(),
            &AtomicBool::new(true),
        );
        assert!(matches!(stopped, Err(ConvertError::Stopped)), "{stopped:?}");
        assert_eq!(names(tiny.at.path()), ["tiny.safetensors"]);
    }
    Ok(())
}
