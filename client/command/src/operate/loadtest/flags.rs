//! The flags of `darkroom loadtest`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use darkroom_client::{GenerateRequest, Priority};

use crate::failure::Failure;
use crate::operate::server::ServerFlags;
use crate::operate::span::span;
use crate::txt2img::{self, Format, PromptFlags, scale, side};

/// What the embedded model knows, and any other draws somehow.
const PROMPTS: [&str; 8] = [
    "a red circle on a white background",
    "a large yellow star on a blue background",
    "two green hearts on a black background",
    "a purple square left of an orange triangle on a white background",
    "a small blue triangle on a yellow background",
    "a green star above a red square on a white background",
    "two white circles on a purple background",
    "an orange heart on a green background",
];
/// Where neither --duration nor --requests says when to end.
const DURATION: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Of the random arrivals and the pictures: a run with the same seed asks for the same at the same times. Without it, drawn at
    /// random and told.
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Write one JSON object instead of the table.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten, next_help_heading = "Server")]
    pub(super) server: ServerFlags,
    #[command(flatten, next_help_heading = "Load")]
    pub(super) load: LoadFlags,
    #[command(flatten, next_help_heading = "What is asked for")]
    wish: WishFlags,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("kind").args(["rate", "concurrency"]).required(true)))]
pub(super) struct LoadFlags {
    /// Open load: requests a minute, above 0 to 600000, whatever becomes of those before.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// How they come: each by itself at random, or equally far apart.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Shape::Poisson, conflicts_with = "concurrency")]
    pub(super) arrivals: Shape,
    /// Closed load: so many clients, each of which asks again when it has its answer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) concurrency: Option<u16>,
    /// How long requests are sent: seconds, or with s, m or h behind the number. Without this and --requests, a minute.
    #[arg(long, value_name = "TIME", value_parser = span)]
    duration: Option<Duration>,
    /// How many requests are sent at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) requests: Option<u64>,
    /// How long to wait for answers after the last request; what is under way then is cancelled.
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "5m")]
    pub(super) grace: Duration,
    /// Requests under way at once at most. One that is due beyond that is not sent, and counts as unsent.
    #[arg(long, value_name = "N", default_value_t = 2048, conflicts_with = "concurrency", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) most_running: u32,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
struct WishFlags {
    /// A file with a prompt a line, which take turns, or - for standard input. Without it and --prompt, eight of drawn scenes.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    from_file: Option<PathBuf>,
    /// One prompt for all.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The model to ask, by its name there. Without it, the server's first.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Steps of the sampler, 1 to 1000. This and what follows: without it, the model's own.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: Option<u32>,
    /// Guidance scale, 0 to 50.
    #[arg(long, value_name = "X", value_parser = scale)]
    scale: Option<f64>,
    /// The sampler, by its name.
    #[arg(long, value_name = "NAME")]
    sampler: Option<String>,
    /// Width in pixels, a multiple of 8 from 64 to 2048.
    #[arg(long, visible_alias = "W", value_name = "PIXELS", value_parser = side)]
    width: Option<u32>,
    /// Height in pixels, a multiple of 8 from 64 to 2048.
    #[arg(long, visible_alias = "H", value_name = "PIXELS", value_parser = side)]
    height: Option<u32>,
    /// Pictures a request.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    n_samples: u32,
    /// How the pictures come.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Png)]
    format: Format,
    /// Of the requests.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Class::Normal)]
    priority: Class,
    /// Each request's deadline, from when it is sent. Without it, none.
    #[arg(long, value_name = "TIME", value_parser = span)]
    deadline: Option<Duration>,
}

/// How requests come where they do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    Poisson,
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Class {
    Low,
    Normal,
    High,
}

impl Flags {
    /// What is asked for, in turns.
    pub(super) fn prompts(&self) -> Result<Vec<String>, Failure> {
        let WishFlags { from_file, prompt, .. } = &self.wish;
        if from_file.is_none() && prompt.is_none() {
            return Ok(PROMPTS.map(String::from).to_vec());
        }
        txt2img::prompts(&PromptFlags { positional: None, prompt: prompt.clone(), from_file: from_file.clone() })
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.wish.model.as_deref()
    }

    pub(super) fn n_samples(&self) -> u32 {
        self.wish.n_samples
    }

    /// A request for `prompt`. What no flag says stays out of it, so that the model's own defaults hold.
    pub(super) fn request(&self, prompt: &str, seed: u64) -> GenerateRequest {
        let wish = &self.wish;
        let mut request = GenerateRequest::new(prompt)
            .seed(seed)
            .num_images(wish.n_samples)
            .output_format(wish.format.into())
            .priority(wish.priority.into());
        if let Some(model) = &wish.model {
            request = request.model(model);
        }
        if let Some(steps) = wish.steps {
            request = request.num_inference_steps(steps);
        }
        if let Some(scale) = wish.scale {
            request = request.guidance_scale(scale);
        }
        if let Some(sampler) = &wish.sampler {
            request = request.sampler(sampler);
        }
        if let Some(width) = wish.width {
            request = request.width(width);
        }
        if let Some(height) = wish.height {
            request = request.height(height);
        }
        if let Some(deadline) = wish.deadline {
            request = request.deadline(deadline);
        }
        request
    }
}

impl LoadFlags {
    /// How long requests are sent; `None`: until there were enough.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.duration.or(self.requests.is_none().then_some(DURATION))
    }

    /// Requests that can be under way at once.
    pub(super) fn most_at_once(&self) -> usize {
        self.concurrency.map_or(self.most_running as usize, usize::from)
    }
}

impl From<Class> for Priority {
    fn from(class: Class) -> Self {
        match class {
            Class::Low => Self::Low,
            Class::Normal => Self::Normal,
            Class::High => Self::High,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 600_000.0 => Ok(rate),
        _ => Err("allowed are numbers above 0, to 600000".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(line: &str) -> Result<Flags, String> {
        let line = Line::try_parse_from(format!("loadtest {line}").split_whitespace());
        line.map(|line| line.flags).map_err(|error| error.to_string())
    }

    #[test]
    fn a_load_is_open_or_closed() {
        assert_eq!(parse("--rate 30").unwrap().load.most_at_once(), 2048);
        assert_eq!(parse("--concurrency 3").unwrap().load.most_at_once(), 3);
        for wrong in [
            "",
            "--rate 0",
            "--rate NaN",
            "--rate 1 --concurrency 1",
            "--concurrency 0",
            "--concurrency 2 --arrivals poisson",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn it_ends_by_what_is_given() {
        assert_eq!(parse("--rate 1").unwrap().load.duration(), Some(Duration::from_secs(60)));
        assert_eq!(parse("--rate 1 --requests 5").unwrap().load.duration(), None);
        let both = parse("--rate 1 --requests 5 --duration 2m").unwrap().load;
        assert_eq!((both.duration(), both.requests), (Some(Duration::from_secs(120)), Some(5)));
    }

    #[test]
    fn the_default_prompts_are_there_unless_others_are() {
        assert_eq!(parse("--rate 1").unwrap().prompts().unwrap().len(), PROMPTS.len());
        assert_eq!(parse("--rate 1 --prompt x").unwrap().prompts().unwrap(), ["x"]);
        assert!(parse("--rate 1 --from-file /nowhere/at/all").unwrap().prompts().is_err());
    }
}
