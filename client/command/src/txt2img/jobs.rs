//! Which requests make the pictures that were asked for: prompts, iterations, samples and their seeds.

use std::io::Read;

use anyhow::Context;

use crate::failure::Failure;
use crate::txt2img::flags::{Flags, PromptFlags};
use crate::txt2img::sweep::{Plan, Setting};

/// Characters of a prompt that the contract allows.
const MAX_PROMPT_CHARS: usize = 8192;

/// One request: so many pictures of one prompt, from one seed on, or variations of one seed.
#[derive(Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) prompt: String,
    pub(crate) seed: u64,
    /// For variations.
    pub(crate) variation_seed: Option<u64>,
    pub(crate) num_images: u32,
    /// The first picture's place among all pictures of this run.
    pub(crate) first: u64,
    /// What this one has in place of what the flags say, in a sweep.
    pub(crate) varied: Vec<Setting>,
}

/// The prompts, from the command line or from a file, each checked.
pub(crate) fn prompts(flags: &PromptFlags) -> Result<Vec<String>, Failure> {
    let Some(path) = &flags.from_file else {
        let prompt = flags.positional.as_ref().or(flags.prompt.as_ref()).map_or("", String::as_str);
        check("PROMPT", prompt)?;
        return Ok(vec![prompt.to_owned()]);
    };
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("--from-file: cannot read standard input")?;
        text
    } else {
        let read = std::fs::read_to_string(path);
        read.map_err(|error| Failure::Usage(format!("--from-file: cannot read {}: {error}", path.display())))?
    };
    let mut prompts = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        check(&format!("--from-file: {} line {number}", path.display()), line)?;
        prompts.push(line.to_owned());
    }
    if prompts.is_empty() {
        return Err(Failure::Usage(format!("--from-file: {} holds no prompt, write one a line", path.display())));
    }
    Ok(prompts)
}

/// The requests in their order: every iteration goes through all prompts, and a prompt's samples are split where a request
/// may not hold them all.
///
/// Seeds count on over all pictures; with a fixed code they start again with each prompt and iteration.
pub(crate) fn jobs<'a>(flags: &'a Flags, prompts: &'a [String], max_images: u32) -> impl Iterator<Item = Job> + 'a {
    let picture = &flags.picture;
    let samples = picture.n_samples;
    let rounds = (0..picture.n_iter).flat_map(move |_| prompts);
    (0..).zip(rounds).flat_map(move |(round, prompt): (u64, _)| {
        (0..samples).step_by(max_images.max(1) as usize).map(move |offset| {
            let first = round * u64::from(samples) + u64::from(offset);
            let step = if picture.fixed_code { u64::from(offset) } else { first };
            let num_images = max_images.max(1).min(samples - offset);
            let varied = picture.variation_strength.is_some();
            let seed = picture.seed.wrapping_add(if varied { 0 } else { step });
            let variation_seed = picture.variation_seed.map(|seed| seed.wrapping_add(step));
            Job { prompt: prompt.clone(), seed, variation_seed, num_images, first, varied: Vec::new() }
        })
    })
}

/// The requests of a sweep: a picture for each cell, prompt after prompt. All have the same seed, unless that is what varies.
pub(crate) fn cells<'a>(flags: &'a Flags, prompts: &'a [String], plan: &'a Plan) -> impl Iterator<Item = Job> + 'a {
    let (seed, variation_seed) = (flags.picture.seed, flags.picture.variation_seed);
    let cells = prompts.iter().flat_map(move |prompt| (0..plan.cells()).map(move |cell| (prompt, cell)));
    (0..).zip(cells).map(move |(first, (prompt, cell))| Job {
        prompt: prompt.clone(),
        seed,
        variation_seed,
        num_images: 1,
        first,
        varied: plan.cell(cell),
    })
}

fn check(place: &str, prompt: &str) -> Result<(), Failure> {
    let chars = prompt.chars().count();
    match chars {
        0 => Err(Failure::Usage(format!("{place}: the prompt is empty, say what the picture shows"))),
        1..=MAX_PROMPT_CHARS => Ok(()),
        _ => Err(Failure::Usage(format!("{place}: {chars} characters, at most {MAX_PROMPT_CHARS} are allowed"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn plan(line: &[&str], prompts: &[&str], max_images: u32) -> Vec<(String, u64, u32, u64)> {
        let flags = Line::parse_from([&["txt2img", "x"], line].concat()).flags;
        let prompts: Vec<String> = prompts.iter().map(|&prompt| prompt.to_owned()).collect();
        let jobs = jobs(&flags, &prompts, max_images);
        jobs.map(|job| (job.prompt, job.seed, job.num_images, job.first)).collect()
    }

    #[test]
    fn seeds_count_on_over_prompts_and_iterations() {
        let expected = [("a", 42, 2, 0), ("b", 44, 2, 2), ("a", 46, 2, 4), ("b", 48, 2, 6)];
        let found = plan(&["--n-samples", "2", "--n-iter", "2"], &["a", "b"], 16);
        assert_eq!(found, expected.map(|(prompt, seed, images, first)| (prompt.to_owned(), seed, images, first)));
    }

    #[test]
    fn a_fixed_code_starts_again_with_each_prompt() {
        let found = plan(&["--n-samples", "3", "--fixed-code", "--seed", "7"], &["a", "b"], 2);
        let seeds: Vec<(u64, u32, u64)> =
            found.into_iter().map(|(_, seed, images, first)| (seed, images, first)).collect();
        assert_eq!(seeds, [(7, 2, 0), (9, 1, 2), (7, 2, 3), (9, 1, 5)]);
    }

    #[test]
    fn variations_are_of_one_seed() {
        let line = "txt2img x --n-samples 3 --seed 7 --variation-strength 0.2 --variation-seed 50";
        let flags = Line::parse_from(line.split(' ')).flags;
        let prompts = ["a".to_owned()];
        let seeds: Vec<_> = jobs(&flags, &prompts, 2).map(|job| (job.seed, job.variation_seed)).collect();
        assert_eq!(seeds, [(7, Some(50)), (7, Some(52))]);
    }

    #[test]
    fn prompts_are_checked() {
        assert!(matches!(check("PROMPT", ""), Err(Failure::Usage(_))));
        assert!(matches!(check("PROMPT", &"x".repeat(MAX_PROMPT_CHARS + 1)), Err(Failure::Usage(_))));
        assert!(check("PROMPT", &"ü".repeat(MAX_PROMPT_CHARS)).is_ok());
    }
}
