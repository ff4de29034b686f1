//! Draws scenes at random, has them made by Darkroom, and holds how often the pictures are right against the pocket model's
//! rate; or judges one picture from a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use darkroom_client::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::fleet::Fleet;
use testkit::gallery::{self, Exhibit};
use testkit::judge::rates::{POCKET_MODEL, Rates};
use testkit::judge::{Verdict, judge};
use testkit::scenes::{Scene, draw};

/// Points that chance may take from the rate of everything right: with 200 pictures, one standard deviation is 3.
const SLACK: f64 = 3.0;

/// Judges how often pictures of the pocket model show what their prompts ask for.
#[derive(Parser)]
struct Flags {
    /// Pictures to draw.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Draws the same prompts and seeds again. Left out: a new one, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// A running server. Left out: the services are started in this process.
    #[arg(long, value_name = "ADDRESS")]
    server: Option<String>,
    /// Writes all pictures to this file, those with a fault on magenta.
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    /// Judges this picture instead of drawing any.
    #[arg(long, value_name = "PNG", requires = "prompt", conflicts_with_all = ["count", "seed", "server", "sheet"])]
    picture: Option<PathBuf>,
    /// What that picture should show, in the canonical words of the pocket model's grammar.
    #[arg(long, requires = "picture")]
    prompt: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let flags = Flags::parse();
    let right = match (&flags.picture, &flags.prompt) {
        (Some(picture), Some(prompt)) => judge_file(picture, prompt)?,
        _ => judge_server(&flags).await?,
    };
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge_file(file: &Path, prompt: &str) -> anyhow::Result<bool> {
    let scene: Scene = prompt.parse()?;
    let picture = image::open(file).with_context(|| format!("cannot read {}", file.display()))?.to_rgb8();
    let verdict = judge(&scene, &picture);
    println!("{prompt}: {}", faults(&verdict));
    Ok(verdict.all_right())
}

async fn judge_server(flags: &Flags) -> anyhow::Result<bool> {
    let seed = flags.seed.unwrap_or_else(rand::random);
    println!("{} scenes drawn with --seed {seed}", flags.count);
    let mut rng = StdRng::seed_from_u64(seed);
    let scenes: Vec<(Scene, u64)> = (0..flags.count).map(|_| (draw::scene(&mut rng), rng.random())).collect();

    let exhibits = match &flags.server {
        Some(address) => gallery::draw(&Client::connect(address).await?, &scenes).await?,
        None => {
            let fleet = Fleet::with_pocket_model().start().await?;
            let exhibits = gallery::draw(&fleet.client().await?, &scenes).await?;
            fleet.drain().await?;
            exhibits
        }
    };
    for Exhibit { scene, seed, verdict, .. } in exhibits.iter().filter(|exhibit| !exhibit.verdict.all_right()) {
        println!("seed {seed:20}  {scene}: {}", faults(verdict));
    }
    if let Some(file) = &flags.sheet {
        gallery::contact_sheet(&exhibits).save(file).with_context(|| format!("cannot write {}", file.display()))?;
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
        ("size", verdict.size == Some(false)),
    ];
    let wrong: Vec<&str> = wrong.iter().filter_map(|(name, wrong)| wrong.then_some(*name)).collect();
    if wrong.is_empty() { "right".into() } else { format!("wrong {}", wrong.join(", ")) }
}
