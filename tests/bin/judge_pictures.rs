//! Draws scenes at random, has them made by Darkroom, and holds how often the pictures are right against the pocket model's
//! rate; or judges pictures from files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use darkroom_client::{Client, GenerateRequest};
use rand::SeedableRng;
use rand::rngs::StdRng;
use testkit::fleet::Fleet;
use testkit::gallery::{self, Exhibit};
use testkit::judge::rates::{POCKET_MODEL, Rates};
use testkit::judge::{Verdict, judge};
use testkit::scenes::Scene;
use testkit::scenes::draw::{self, World};
use testkit::scenes::unseen::unseen;

/// Points that chance may take from the rate of everything right: with 200 pictures, one standard deviation is 3.
const SLACK: f64 = 3.0;

/// Judges how often pictures of the pocket model show what their prompts ask for.
#[derive(Parser)]
struct Flags {
    /// Pictures to draw, every other one of a scene that `deploy/models/pocket/train` leaves out. A picture's seed is its number.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Draws the same prompts again. Left out: a new one, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Draws plain scenes only, of five shapes: one object, two and how they stand, two or three alike.
    #[arg(long)]
    basic: bool,
    /// A running server. Left out: the services are started in this process.
    #[arg(long, value_name = "ADDRESS")]
    server: Option<String>,
    /// The arithmetic of those services: f32, bf16 or auto.
    #[arg(long, default_value = "auto", conflicts_with = "server")]
    precision: String,
    /// The sampler. Left out: the model's.
    #[arg(long)]
    sampler: Option<String>,
    /// The number of steps. Left out: the model's.
    #[arg(long)]
    steps: Option<u32>,
    /// The guidance scale. Left out: the model's.
    #[arg(long)]
    guidance_scale: Option<f64>,
    /// Writes all pictures to this file, those with a fault on magenta.
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    /// Judges this picture instead of drawing any.
    #[arg(long, value_name = "PNG", requires = "prompt", conflicts_with_all = ["count", "seed", "server", "sheet"])]
    picture: Option<PathBuf>,
    /// What that picture should show, in the canonical words of the pocket model's grammar.
    #[arg(long, requires = "picture")]
    prompt: Option<String>,
    /// Judges the pictures of this folder, 0000.png and on, by the lines of its prompts.txt.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["count", "seed", "server", "picture"])]
    pictures: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let flags = Flags::parse();
    let exhibits = match (&flags.picture, &flags.prompt, &flags.pictures) {
        (Some(picture), Some(prompt), _) => {
            let exhibit = of_file(picture, prompt, 0)?;
            println!("{prompt}: {}", faults(&exhibit.verdict));
            return Ok(if exhibit.verdict.all_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        (_, _, Some(folder)) => of_folder(folder)?,
        _ => of_server(&flags).await?,
    };
    Ok(if report(&exhibits, flags.sheet.as_deref())? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn of_file(file: &Path, prompt: &str, seed: u64) -> anyhow::Result<Exhibit> {
    let scene: Scene = prompt.parse()?;
    let picture = image::open(file).with_context(|| format!("cannot read {}", file.display()))?.to_rgb8();
    let verdict = judge(&scene, &picture);
    Ok(Exhibit { scene, seed, picture, verdict })
}

fn of_folder(folder: &Path) -> anyhow::Result<Vec<Exhibit>> {
    let file = folder.join("prompts.txt");
    let prompts = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let numbered = prompts.lines().zip(0..);
    numbered.map(|(prompt, number)| of_file(&folder.join(format!("{number:04}.png")), prompt, number)).collect()
}

async fn of_server(flags: &Flags) -> anyhow::Result<Vec<Exhibit>> {
    let seed = flags.seed.unwrap_or_else(rand::random);
    println!("{} scenes drawn with --seed {seed}", flags.count);
    let mut rng = StdRng::seed_from_u64(seed);
    let world = if flags.basic { World::Basic } else { World::Wide };
    let mut scene = |number: u64| loop {
        let scene = draw::scene(&mut rng, world);
        if unseen(&scene) == (number % 2 == 1) {
            break (scene, number);
        }
    };
    let scenes: Vec<(Scene, u64)> = (0..u64::from(flags.count)).map(&mut scene).collect();

    let change = |mut request: GenerateRequest| {
        if let Some(sampler) = &flags.sampler {
            request = request.sampler(sampler);
        }
        if let Some(steps) = flags.steps {
            request = request.num_inference_steps(steps);
        }
        match flags.guidance_scale {
            Some(scale) => request.guidance_scale(scale),
            None => request,
        }
    };
    match &flags.server {
        Some(address) => gallery::draw(&Client::connect(address).await?, &scenes, change).await,
        None => {
            let fleet = Fleet::with_pocket_model().precision(&flags.precision).start().await?;
            let exhibits = gallery::draw(&fleet.client().await?, &scenes, change).await?;
            fleet.drain().await?;
            Ok(exhibits)
        }
    }
}

/// Prints what is wrong and how often all is right; whether that is often enough.
fn report(exhibits: &[Exhibit], sheet: Option<&Path>) -> anyhow::Result<bool> {
    for Exhibit { scene, seed, verdict, .. } in exhibits.iter().filter(|exhibit| !exhibit.verdict.all_right()) {
        println!("seed {seed:4}  {scene}: {}", faults(verdict));
    }
    if let Some(file) = sheet {
        gallery::contact_sheet(exhibits).save(file).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let verdicts: Vec<Verdict> = exhibits.iter().map(|exhibit| exhibit.verdict).collect();
    let rates = Rates::of(&verdicts);
    let bar = POCKET_MODEL.all_right - SLACK;
    println!("\nRight in % of {} pictures:\n\n{rates}\n\nThe bar for everything right is {bar:.1} %.", verdicts.len());
    Ok(rates.all_right >= bar)
}

/// What is wrong, in words.
fn faults(verdict: &Verdict) -> String {
    let wrong = [
        ("background", !verdict.background),
        ("layout", !verdict.layout),
        ("colour", verdict.colour < 1.0),
        ("shape", verdict.shape < 1.0),
        ("fill", verdict.fill < 1.0),
        ("size", verdict.size == Some(false)),
    ];
    let wrong: Vec<&str> = wrong.iter().filter_map(|(name, wrong)| wrong.then_some(*name)).collect();
    if wrong.is_empty() { "right".into() } else { format!("wrong {}", wrong.join(", ")) }
}
