//! `darkroom sweep`: every cell is the picture that `txt2img` or `img2img` makes with its settings, and the grid shows them in order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::fleet::{Fleet, Service};
use testkit::program::{Program, command};

use crate::command::{Run, assert_success, darkroom, files, paths, picture};

const PROMPT: &str = "a red circle on a white background";
const SMALL: [&str; 6] = ["--W", "64", "--H", "64", "--steps", "4"];

async fn run(folder: &TempDir, name: &str, flags: &[&str]) -> anyhow::Result<Run> {
    let run = darkroom(folder, &[&[name], flags].concat()).await?;
    assert_success(&run);
    Ok(run)
}

/// The path of the picture in each cell, by what varies.
fn cells(run: &Run, folder: &Path) -> BTreeMap<String, PathBuf> {
    let images = run.json().into_iter().filter(|event| event["event"] == "image");
    images.map(|image| (image["cell"].to_string(), folder.join(image["path"].as_str().expect("a path")))).collect()
}

/// The part of a picture with its upper left corner at `(x, y)`.
fn part(grid: &RgbImage, (x, y): (u32, u32)) -> RgbImage {
    image::imageops::crop_imm(grid, x, y, 64, 64).to_image()
}

#[tokio::test]
async fn every_cell_is_the_picture_of_its_settings() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let server = format!("http://{}", fleet.address(Service::Orchestrator)?);
    let folder = tempfile::tempdir()?;
    let varied = ["--sampler", "plms,ddim,dpmpp_2m", "--scale", "1.5,4", "--seed", "7"];
    let flags = [&[PROMPT, "--outdir", "swept", "--json"], &SMALL[..], &varied].concat();
    let swept = run(&folder, "sweep", &flags).await?;
    let cells = cells(&swept, folder.path());
    assert_eq!(cells.len(), 6);

    let grid = picture(folder.path().join("swept/grid-0000.png"));
    // The rows' labels at the left, "scale 1.5" being the longest; the columns' above.
    let (left, band) = (9 * 6 - 1 + 6, 7 + 6);
    assert_eq!(grid.dimensions(), (left + 3 * 66, band + 2 * 66));
    for (column, sampler) in (0..).zip(["plms", "ddim", "dpmpp_2m"]) {
        for (row, scale) in (0..).zip([1.5, 4.0]) {
            let cell = &cells[&json!({ "sampler": sampler, "scale": scale }).to_string()];
            let scale = scale.to_string();
            let one = ["--sampler", sampler, "--scale", &scale, "--seed", "7", "--server", &server];
            let alone = run(&folder, "txt2img", &[&[PROMPT, "--outdir", "alone"], &SMALL[..], &one].concat()).await?;
            let alone = folder.path().join(alone.stdout.trim_end());
            assert_eq!(fs::read(&alone)?, fs::read(cell)?, "{sampler} at scale {scale}");
            assert_eq!(
                part(&grid, (left + column * 66, band + row * 66)),
                picture(alone),
                "{sampler} at scale {scale}"
            );
            // Numbered as they stand.
            assert!(cell.ends_with(format!("samples/{:05}.png", row * 3 + column)), "{}", cell.display());
        }
    }
    Ok(())
}

/// CompVis/stable-diffusion, README.md: eight guidance scales with 50 steps of PLMS.
#[tokio::test]
async fn the_references_evaluation_is_one_command() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let line = "--W 64 --H 64 --scale 1.5,2.0,3.0,4.0,5.0,6.0,7.0,8.0 --plms --ddim_steps 50 --json";
    let flags: Vec<&str> = [PROMPT].into_iter().chain(line.split(' ')).collect();
    let swept = run(&folder, "sweep", &flags).await?;
    let events = swept.json();
    let started: Vec<&Value> = events.iter().filter(|event| event["event"] == "started").collect();
    let mut scales: Vec<f64> = started.iter().filter_map(|started| started["guidance_scale"].as_f64()).collect();
    scales.sort_by(f64::total_cmp);
    assert_eq!(scales, [1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    for started in started {
        assert_eq!((&started["sampler"], &started["num_inference_steps"]), (&"plms".into(), &50.into()));
        assert_eq!((&started["seed"], &started["num_images"]), (&42.into(), &1.into()));
        assert_eq!(started["cell"]["scale"], started["guidance_scale"]);
    }
    let samples = (0..8).map(|number| format!("outputs/sweep-samples/samples/{number:05}.png"));
    let mut expected: Vec<PathBuf> = samples.map(PathBuf::from).collect();
    expected.insert(0, "outputs/sweep-samples/grid-0000.png".into());
    assert_eq!(files(folder.path()), expected);
    assert_eq!(picture(folder.path().join(&expected[0])).dimensions(), (2 + 8 * 66, 13 + 66));
    let grids: Vec<&Value> = events.iter().filter(|event| event["event"] == "grid").collect();
    assert_eq!(grids, [&json!({ "event": "grid", "path": expected[0], "prompt": PROMPT })]);
    Ok(())
}

#[tokio::test]
async fn each_prompt_of_a_file_has_a_grid() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("prompts.txt"), format!("{PROMPT}\na blue star on a black background\n"))?;
    let flags = ["--from-file", "prompts.txt", "--outdir", "out", "--skip-save", "--seed", "1,2,3", "--n-rows", "2"];
    let swept = run(&folder, "sweep", &[&SMALL[..], &flags].concat()).await?;
    assert_eq!(files(folder.path()), paths(&["out/grid-0000.png", "out/grid-0001.png", "prompts.txt"]));
    assert_eq!(swept.stdout.lines().count(), 2, "{}", swept.stdout);
    let grids = [0, 1].map(|number| picture(folder.path().join(format!("out/grid-000{number}.png"))));
    for grid in &grids {
        assert_eq!(grid.dimensions(), (2 + 2 * 66, 2 * (13 + 64) + 2));
    }
    assert_ne!(grids[0], grids[1]);
    Ok(())
}

#[tokio::test]
async fn a_picture_to_begin_from_may_be_lost_more_or_less() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let sketch = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/models/pocket/plms.png");
    let sketch = sketch.to_str().expect("text");
    let common = [&[PROMPT, "--init-img", sketch, "--seed", "5"], &SMALL[..]].concat();
    let flags = [&common[..], &["--outdir", "swept", "--json", "--strength", "0.5,0.9"]].concat();
    let cells = cells(&run(&folder, "sweep", &flags).await?, folder.path());
    for strength in ["0.5", "0.9"] {
        let flags = [&common[..], &["--outdir", "alone", "--strength", strength]].concat();
        let alone = run(&folder, "img2img", &flags).await?;
        let alone = fs::read(folder.path().join(alone.stdout.trim_end()))?;
        assert_eq!(fs::read(&cells[&format!("{{\"strength\":{strength}}}")])?, alone, "strength {strength}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_with_little_room_gets_fewer_at_once() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model()
        .orchestrator(|config| config.queue_limit = 2)
        .denoiser(|config| config.max_batch = Some(1))
        .start()
        .await?;
    let server = format!("http://{}", fleet.address(Service::Orchestrator)?);
    let folder = tempfile::tempdir()?;
    let flags = [PROMPT, "--outdir", "out", "--server", &server, "--seed", "1,2,3,4,5,6,7,8,9"];
    let swept = run(&folder, "sweep", &[&flags[..], &SMALL].concat()).await?;
    assert_eq!(swept.stdout.lines().count(), 10, "{}", swept.stdout);
    let metrics = fleet.metrics(Service::Orchestrator).await?;
    let refused = metrics.sum("darkroom_requests_total", &[("code", "RESOURCE_EXHAUSTED")]);
    assert!(refused > 0.0, "the server had room for all of them");
    Ok(())
}

#[tokio::test]
async fn wrong_sweeps_end_with_2_and_save_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let wrong: [(&[&str], &str); 7] = [
        (&[PROMPT], "nothing varies"),
        (&["--scale", "1,2"], "PROMPT"),
        (&[PROMPT, "--scale", "1,2", "--seed", "1,2", "--steps", "4,5"], "--scale, --seed and --steps"),
        (&[PROMPT, "--scale", "1,99"], "--scale"),
        (&[PROMPT, "--seed", "1,2", "--n-samples", "3"], "--n-samples"),
        (&[PROMPT, "--seed", "1,2", "--laion400m"], "--laion400m"),
        // Refused by the fleet, which knows the samplers.
        (&[PROMPT, "--sampler", "magic,plms"], "--sampler"),
    ];
    for (flags, word) in wrong {
        let run = darkroom(&folder, &[&["sweep"], flags].concat()).await?;
        assert_eq!(run.code, Some(2), "{flags:?}: {}", run.stderr);
        let says_who = run.stderr.lines().any(|line| line.starts_with("darkroom: "));
        assert!(says_who && run.stderr.contains(word), "{flags:?}: {}", run.stderr);
    }
    let pictures = files(folder.path());
    assert!(pictures.is_empty(), "{pictures:?}");
    Ok(())
}

#[tokio::test]
async fn an_interrupt_keeps_the_finished_cells() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let seeds = (0..256).map(|seed: u32| seed.to_string()).collect::<Vec<_>>().join(",");
    let flags = ["sweep", PROMPT, "--W", "64", "--H", "64", "--steps", "20", "--outdir", "out", "--seed", &seeds];
    let mut run = Program::start(command("darkroom")?.args(flags).current_dir(&folder))?;
    let saved = run.stdout("the first picture's path", |line| line.ends_with(".png").then(|| line.to_owned())).await?;
    run.interrupt().await?;
    assert_eq!(run.wait().await?.code(), Some(130), "{:?}", run.stderr_lines());
    picture(folder.path().join(saved));
    // No half-written file stays, and no grid with holes.
    for file in files(folder.path()) {
        assert!(file.starts_with("out/samples") && file.extension().is_some_and(|extension| extension == "png"));
    }
    Ok(())
}
