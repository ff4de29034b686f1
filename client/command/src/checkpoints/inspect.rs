//! `darkroom inspect`: what a model file or folder is.

use std::fmt::{self, Write as _};

use darkroom_models::inspect::{Amount, Inspection, Layout, inspect};
use serde_json::Value;

use crate::failure::Failure;
use crate::txt2img::print;

/// The most problems of a part that are shown; --json has more.
const PROBLEMS_SHOWN: usize = 5;

pub(crate) const JSON_FIELDS: &str = "\
--json prints one object: name, layout (diffusers_folder, safetensors, checkpoint), what, whole,
total, parts, ema_tensors, problems, schedule, left_out. total and each of parts count tensors,
parameters and bytes, and the tensors of each type (dtypes); a part also has file, config,
problems (up to 20) and more_problems.";

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// A diffusers folder, a .safetensors or a .ckpt file, or "pocket" for the embedded model.
    model: String,
    /// Print one JSON object, with the configuration of every part and with more of the problems.
    #[arg(long)]
    json: bool,
}

/// Prints what the model is; a model that is not whole is a failure after that.
pub(crate) fn run(flags: &Flags) -> Result<(), Failure> {
    let inspection = inspect(&flags.model).map_err(|error| Failure::Failed(error.into()))?;
    if flags.json {
        let json = serde_json::to_string_pretty(&inspection).map_err(|error| Failure::Failed(error.into()))?;
        print(json)?;
    } else {
        print(Sheet(&inspection).to_string().trim_end())?;
    }
    if inspection.whole {
        return Ok(());
    }
    Err(Failure::Failed(anyhow::anyhow!("{} is not a whole Stable Diffusion v1 model", flags.model)))
}

/// An inspection as people read it.
struct Sheet<'a>(&'a Inspection);

impl fmt::Display for Sheet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(model) = self;
        writeln!(f, "{}: {}", model.name, model.what)?;
        let layout = match model.layout {
            Layout::DiffusersFolder => "a diffusers folder",
            Layout::Safetensors => "one safetensors file",
            Layout::Checkpoint => "one torch checkpoint",
        };
        let Amount { tensors, bytes, .. } = &model.total;
        writeln!(f, "layout: {layout}; {tensors} tensors, {}", Bytes(*bytes))?;
        if !model.parts.is_empty() {
            writeln!(f, "\n{:<16}{:>8}{:>14}{:>12}  type", "part", "tensors", "parameters", "size")?;
        }
        for part in &model.parts {
            let Amount { tensors, parameters, bytes, dtypes } = &part.amount;
            let types: Vec<String> = match dtypes.len() {
                0 | 1 => dtypes.keys().cloned().collect(),
                _ => dtypes.iter().map(|(dtype, count)| format!("{dtype} ({count})")).collect(),
            };
            let millions = format!("{:.1} M", *parameters as f64 / 1e6);
            let (size, types) = (Bytes(*bytes).to_string(), types.join(", "));
            writeln!(f, "{:<16}{tensors:>8}{millions:>14}{size:>12}  {types}", part.part)?;
        }
        f.write_char('\n')?;
        if !model.parts.is_empty() {
            writeln!(f, "EMA weights: {}", Ema(model))?;
        }
        if let Some(schedule) = &model.schedule {
            writeln!(f, "schedule: {}", Schedule(schedule, model.layout))?;
        }
        for left in &model.left_out {
            writeln!(f, "beside: {left}")?;
        }
        self.verdict(f)
    }
}

impl Sheet<'_> {
    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(model) = self;
        for part in &model.parts {
            for problem in part.problems.iter().take(PROBLEMS_SHOWN) {
                writeln!(f, "problem: {}: {problem}", part.part)?;
            }
            let more = part.problems.len().saturating_sub(PROBLEMS_SHOWN) + part.more_problems;
            if more > 0 {
                writeln!(f, "problem: {}: and {more} more of this kind", part.part)?;
            }
        }
        for problem in &model.problems {
            writeln!(f, "problem: {problem}")?;
        }
        if model.whole { writeln!(f, "whole: nothing is missing") } else { Ok(()) }
    }
}

/// What there is of averaged weights, and what to do about it.
struct Ema<'a>(&'a Inspection);

impl fmt::Display for Ema<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(model) = self;
        match (model.ema_tensors, model.unet_tensors()) {
            (0, _) => f.write_str("none beside the UNet's own"),
            (averages, all) if averages >= all => {
                write!(f, "beside the UNet's own, of all {all} tensors (--ema takes them)")
            }
            (averages, all) => write!(f, "of {averages} of the UNet's {all} tensors only; they cannot be used"),
        }
    }
}

/// The noise schedule in a line.
struct Schedule<'a>(&'a Value, Layout);

impl fmt::Display for Schedule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(schedule, layout) = self;
        let text = |field: &str| schedule[field].as_str().unwrap_or("?").to_owned();
        let (kind, predicts) = (text("beta_schedule"), text("prediction_type"));
        let (from, to, steps) = (&schedule["beta_start"], &schedule["beta_end"], &schedule["num_train_timesteps"]);
        write!(f, "{kind}, betas {from} to {to}, {steps} timesteps, predicts {predicts}")?;
        match layout {
            Layout::DiffusersFolder => Ok(()),
            Layout::Safetensors | Layout::Checkpoint => f.write_str(" (v1's: a single file carries none)"),
        }
    }
}

/// A size in bytes, in decimal units.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MB", self.0 as f64 / 1e6)
    }
}
