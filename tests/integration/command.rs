//! The `darkroom` command as people type it: files, flags, JSON, exit codes, and `up`.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use image::RgbImage;
use serde_json::Value;
use tempfile::TempDir;
use testkit::fleet::{Fleet, Service};
use testkit::program::{Program, command, output};
use testkit::wait;

const PROMPT: &str = "a red circle on a white background";
/// Small and quick.
const SMALL: [&str; 6] = ["--W", "64", "--H", "64", "--steps", "4"];

/// How a run ended.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn json(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }
}

/// Runs `darkroom` in `folder`.
pub(crate) async fn darkroom(folder: &TempDir, flags: &[&str]) -> anyhow::Result<Run> {
    let output = output(command("darkroom")?.args(flags).current_dir(folder)).await?;
    Ok(Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

async fn txt2img(folder: &TempDir, flags: &[&str]) -> anyhow::Result<Run> {
    darkroom(folder, &[&["txt2img"], &SMALL[..], flags].concat()).await
}

pub(crate) fn assert_success(run: &Run) {
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

pub(crate) fn picture(path: impl AsRef<Path>) -> RgbImage {
    let path = path.as_ref();
    image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into_rgb8()
}

/// All files in a folder and below, relative to it.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).expect("it lies below").to_owned());
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn paths(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

#[tokio::test]
async fn the_first_command_writes_a_picture() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let run = darkroom(&folder, &["txt2img", PROMPT]).await?;
    assert_success(&run);
    let path = "outputs/txt2img-samples/samples/00000.png";
    assert_eq!(run.stdout.trim_end(), path);
    assert_eq!(picture(folder.path().join(path)).dimensions(), (128, 128));
    assert_eq!(files(folder.path()), paths(&[path]));
    Ok(())
}

#[tokio::test]
async fn pictures_count_on_and_a_grid_shows_them_all() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    assert_success(&txt2img(&folder, &[PROMPT, "--outdir", "out"]).await?);
    let run = txt2img(&folder, &[PROMPT, "--outdir", "out", "--n-samples", "2", "--n-iter", "2"]).await?;
    assert_success(&run);
    let samples = [0, 1, 2, 3, 4].map(|number| format!("out/samples/{number:05}.png"));
    let mut expected: Vec<PathBuf> = samples.iter().map(PathBuf::from).collect();
    expected.insert(0, "out/grid-0000.png".into());
    assert_eq!(files(folder.path()), expected);

    // The same prompt and seed, so the second run's first picture is the first run's.
    let pictures: Vec<RgbImage> = samples.iter().map(|sample| picture(folder.path().join(sample))).collect();
    assert_eq!(pictures[0], pictures[1]);
    // Two in a row, two pixels between: as torchvision's make_grid.
    let grid = picture(folder.path().join("out/grid-0000.png"));
    assert_eq!(grid.dimensions(), (2 + 2 * 66, 2 + 2 * 66));
    let cell = |x, y| image::imageops::crop_imm(&grid, x, y, 64, 64).to_image();
    assert_eq!([cell(2, 2), cell(68, 2), cell(2, 68), cell(68, 68)], pictures[1..]);
    Ok(())
}

#[tokio::test]
async fn nothing_is_saved_that_is_skipped() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    assert_success(&txt2img(&folder, &[PROMPT, "--outdir", "out", "--n-samples", "2", "--skip-grid"]).await?);
    assert_eq!(files(folder.path()), paths(&["out/samples/00000.png", "out/samples/00001.png"]));
    let folder = tempfile::tempdir()?;
    assert_success(&txt2img(&folder, &[PROMPT, "--outdir", "out", "--n-samples", "2", "--skip-save"]).await?);
    assert_eq!(files(folder.path()), paths(&["out/grid-0000.png"]));
    Ok(())
}

#[tokio::test]
async fn json_tells_every_event_on_a_line() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let run = txt2img(&folder, &[PROMPT, "--outdir", "out", "--json", "--n-samples", "2", "--seed", "9"]).await?;
    assert_success(&run);
    let events = run.json();
    let of_kind = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    let [started] = of_kind("started")[..] else { panic!("one started: {events:?}") };
    assert_eq!((&started["model"], &started["seed"], &started["width"]), (&"pocket".into(), &9.into(), &64.into()));
    let images = of_kind("image");
    // Made together, so either may be done first.
    let seeds: BTreeSet<Option<u64>> = images.iter().map(|image| image["seed"].as_u64()).collect();
    assert_eq!(seeds, BTreeSet::from([Some(9), Some(10)]));
    for image in images {
        assert!(folder.path().join(image["path"].as_str().expect("a path")).is_file());
    }
    assert!(!of_kind("step").is_empty());
    let [completed] = of_kind("completed")[..] else { panic!("one completed: {events:?}") };
    assert_eq!(completed["images"], 2);
    assert_eq!(events.last().map(|event| &event["event"]), Some(&"grid".into()));
    Ok(())
}

#[tokio::test]
async fn prompts_come_from_a_file() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("prompts.txt"), format!("{PROMPT}\n\na blue star on a black background\n"))?;
    let run = txt2img(&folder, &["--from-file", "prompts.txt", "--outdir", "out", "--json", "--fixed-code"]).await?;
    assert_success(&run);
    let events = run.json();
    let images = events.iter().filter(|event| event["event"] == "image");
    let parameters: Vec<&str> = images.filter_map(|image| image["parameters"].as_str()).collect();
    assert_eq!(parameters.len(), 2);
    assert!(parameters[0].starts_with(PROMPT) && parameters[1].starts_with("a blue star"), "{parameters:?}");
    assert!(parameters.iter().all(|parameters| parameters.contains("Seed: 42")), "{parameters:?}");
    Ok(())
}

/// The reference's own command line: underscores, its names, the prompt by a flag.
#[tokio::test]
async fn the_references_command_line_works() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let line = "txt2img --plms --ddim_steps 4 --n_samples 2 --n_iter 1 --n_rows 1 --scale 7.5 --H 64 --W 72 --seed 3 --fixed_code \
                --ddim_eta 0.0 --outdir out --precision full --json --prompt";
    let flags: Vec<&str> = line.split_whitespace().chain([PROMPT]).collect();
    let run = darkroom(&folder, &flags).await?;
    assert_success(&run);
    let started = &run.json()[..].iter().find(|event| event["event"] == "started").expect("started").clone();
    assert_eq!((&started["sampler"], &started["num_inference_steps"]), (&"plms".into(), &4.into()));
    assert_eq!((&started["guidance_scale"], &started["num_images"]), (&7.5.into(), &2.into()));
    assert_eq!((&started["width"], &started["height"]), (&72.into(), &64.into()));
    // One in a row.
    assert_eq!(picture(folder.path().join("out/grid-0000.png")).dimensions(), (2 + 74, 2 + 2 * 66));
    Ok(())
}

/// CompVis/stable-diffusion, README.md: its two command lines with the script's name changed.
#[tokio::test]
async fn the_command_lines_of_the_references_readme_work() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let run =
        darkroom(&folder, &["txt2img", "--prompt", "a photograph of an astronaut riding a horse", "--plms"]).await?;
    assert_success(&run);
    assert_eq!(run.stdout.trim_end(), "outputs/txt2img-samples/samples/00000.png");

    picture(folder.path().join(run.stdout.trim_end())).save(folder.path().join("path-to-img.jpg"))?;
    let prompt = "A fantasy landscape, trending on artstation";
    let flags = ["img2img", "--prompt", prompt, "--init-img", "path-to-img.jpg", "--strength", "0.8"];
    let run = darkroom(&folder, &flags).await?;
    assert_success(&run);
    assert_eq!(run.stdout.trim_end(), "outputs/img2img-samples/samples/00000.png");
    Ok(())
}

#[tokio::test]
async fn what_the_references_flags_cannot_mean_is_said() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let run = txt2img(&folder, &[PROMPT, "--config", "configs/v1-inference.yaml", "--C", "4", "--f", "8"]).await?;
    assert_success(&run);
    assert!(run.stderr.contains("darkroom: note: --config: configs/v1-inference.yaml is not read"), "{}", run.stderr);
    for (flags, word) in [(&["--laion400m"][..], "--laion400m"), (&["--C", "3"], "--C"), (&["--f", "16"], "--f")] {
        let run = txt2img(&folder, &[&[PROMPT], flags].concat()).await?;
        assert_eq!(run.code, Some(2), "{flags:?}: {}", run.stderr);
        assert!(run.stderr.starts_with("darkroom: ") && run.stderr.contains(word), "{}", run.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn wrong_flags_end_with_2_and_name_themselves() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let wrong: [(&[&str], &str); 9] = [
        (&["txt2img"], "PROMPT"),
        (&["txt2img", ""], "PROMPT"),
        (&["txt2img", PROMPT, "--width", "500"], "--width"),
        (&["txt2img", PROMPT, "--steps", "0"], "--steps"),
        (&["txt2img", PROMPT, "--scale", "NaN"], "--scale"),
        (&["txt2img", PROMPT, "--no-such-flag"], "--no-such-flag"),
        (&["txt2img", PROMPT, "--from-file", "x"], "--from-file"),
        (&["txt2img", "--from-file", "missing.txt"], "missing.txt"),
        // Refused by the fleet, which knows the samplers.
        (&["txt2img", PROMPT, "--sampler", "magic"], "--sampler"),
    ];
    for (flags, word) in wrong {
        let run = darkroom(&folder, flags).await?;
        assert_eq!(run.code, Some(2), "{flags:?}: {}", run.stderr);
        let says_who = run.stderr.lines().any(|line| line.starts_with("darkroom: "));
        assert!(says_who && run.stderr.contains(word), "{flags:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{flags:?}");
    }
    assert!(files(folder.path()).iter().all(|file| file.extension().is_none_or(|extension| extension != "png")));
    Ok(())
}

#[tokio::test]
async fn an_outdir_that_cannot_be_written_fails_before_computing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("taken"), "a file")?;
    // No model either: were it looked for, that would be the error.
    let run = txt2img(&folder, &[PROMPT, "--outdir", "taken/out", "--model", "no/such/model"]).await?;
    assert_ne!(run.code, Some(0));
    assert!(run.stderr.contains("--outdir") && run.stderr.contains("taken"), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    Ok(())
}

#[tokio::test]
async fn a_model_that_is_not_there_is_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let run = txt2img(&folder, &[PROMPT, "--ckpt", "no/such/model.ckpt"]).await?;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let last = run.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("darkroom: ") && last.contains("no/such/model.ckpt"), "{}", run.stderr);
    Ok(())
}

#[tokio::test]
async fn a_server_makes_the_same_picture() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let server = format!("http://{}", fleet.address(Service::Orchestrator)?);
    let folder = tempfile::tempdir()?;
    assert_success(&txt2img(&folder, &[PROMPT, "--outdir", "far", "--server", &server]).await?);
    assert_success(&txt2img(&folder, &[PROMPT, "--outdir", "near"]).await?);
    let bytes = |outdir| fs::read(folder.path().join(outdir).join("samples/00000.png"));
    assert_eq!(bytes("far")?, bytes("near")?);
    let images = fleet.metrics(Service::Orchestrator).await?.sum("darkroom_images_total", &[]);
    assert_eq!(images, 1.0, "the server made one of them");
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // Port 9 is for discarding; nobody listens there.
    let run = txt2img(&folder, &[PROMPT, "--server", "http://127.0.0.1:9"]).await?;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("127.0.0.1:9"), "{}", run.stderr);
    Ok(())
}

#[tokio::test]
async fn an_interrupt_keeps_what_is_finished() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let flags = ["txt2img", PROMPT, "--W", "64", "--H", "64", "--steps", "20", "--n-iter", "10000", "--outdir", "out"];
    let mut run = Program::start(command("darkroom")?.args(flags).current_dir(&folder))?;
    let saved = run.stdout("the first picture's path", |line| line.ends_with(".png").then(|| line.to_owned())).await?;
    run.interrupt().await?;
    assert_eq!(run.wait().await?.code(), Some(130), "{:?}", run.stderr_lines());
    picture(folder.path().join(saved));
    // No half-written file stays.
    assert!(files(folder.path()).iter().all(|file| file.extension().is_some_and(|extension| extension == "png")));
    Ok(())
}

#[tokio::test]
async fn up_runs_the_whole_fleet_until_told_to_stop() -> anyhow::Result<()> {
    let base = free_ports()?;
    let flags = ["up", "--denoisers", "2", "--threads", "1", "--port-base", &base.to_string()];
    let mut up = Program::start(command("darkroom")?.args(flags))?;
    let ready = up.stdout("the ready line", |line| line.starts_with("ready: ").then(|| line.to_owned())).await?;
    let server = format!("http://127.0.0.1:{base}");
    assert!(ready.contains(&server), "{ready}");
    let children = children(up.id()?)?;
    assert_eq!(children.len(), 5, "four kinds of service, two denoisers: {children:?}");

    let folder = tempfile::tempdir()?;
    assert_success(&txt2img(&folder, &[PROMPT, "--outdir", "out", "--server", &server]).await?);

    up.terminate().await?;
    assert_eq!(up.wait().await?.code(), Some(0), "{:?}", up.stderr_lines());
    assert_eq!(up.stdout_lines(), [ready], "one ready line and nothing else");
    for child in children {
        assert!(!is_alive(child), "{child} outlived its parent");
    }
    Ok(())
}

#[tokio::test]
async fn up_leaves_no_child_behind_when_it_is_killed() -> anyhow::Result<()> {
    let base = free_ports()?;
    let up = Program::start(command("darkroom")?.args(["up", "--threads", "1", "--port-base", &base.to_string()]))?;
    up.stdout("the ready line", |line| line.starts_with("ready: ").then_some(())).await?;
    let children = children(up.id()?)?;
    assert_eq!(children.len(), 4);
    // Dropping a program kills it, so it cannot tell its children.
    drop(up);
    wait::until("the end of all children", async || Ok(children.iter().all(|child| !is_alive(*child)).then_some(())))
        .await
}

/// A port with so many free ones after it, and 1000 above, as a fleet needs. No two calls give the same.
fn free_ports() -> anyhow::Result<u16> {
    /// Below the ports that systems give to clients.
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
    loop {
        let base = NEXT.fetch_add(10, Ordering::Relaxed);
        anyhow::ensure!(base < 31_000, "no five free ports in a row");
        let ports = (base..base + 5).chain(base + 1000..base + 1005);
        let bound: Result<Vec<TcpListener>, _> = ports.map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        if bound.is_ok() {
            return Ok(base);
        }
    }
}

/// The processes whose parent is `pid`, as Linux tells.
fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if parent(child) == Some(pid) {
            children.push(child);
        }
    }
    Ok(children)
}

/// `pid (name) state parent …`, where the name may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process runs; one that ended and was not yet reaped does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
