//! One run against a server: request after request, each event shown, each picture saved as it comes, the grid at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use darkroom_client::{Client, Event, Failed, GenerateRequest, Image, Model, Picture, SafetyVerdict, Step};
use image::RgbImage;
use tokio::task::block_in_place;
use tokio_stream::StreamExt;

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::txt2img::flags::{Flags, Format, Lora};
use crate::txt2img::init::Recipe;
use crate::txt2img::jobs::{Job, jobs};
use crate::txt2img::outdir::OutDir;
use crate::txt2img::progress::Progress;
use crate::txt2img::report::Report;
use crate::txt2img::{grid, npy, warn};

pub(crate) struct Session<'a> {
    client: &'a Client,
    flags: &'a Flags,
    recipe: &'a Recipe,
    prompts: &'a [String],
    /// `None` when nothing is to be saved.
    outdir: Option<Arc<OutDir>>,
    report: Report,
    progress: Progress,
    /// Finished pictures by their place in the run, kept for the grid.
    for_grid: BTreeMap<u64, RgbImage>,
    pictures: u64,
    failed: u64,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        client: &'a Client,
        flags: &'a Flags,
        recipe: &'a Recipe,
        prompts: &'a [String],
        outdir: Option<Arc<OutDir>>,
        report: Report,
    ) -> Self {
        let picture = &flags.picture;
        let pictures = prompts.len() as u64 * u64::from(picture.n_samples) * u64::from(picture.n_iter);
        let progress = Progress::new(pictures);
        let for_grid = BTreeMap::new();
        Self { client, flags, recipe, prompts, outdir, report, progress, for_grid, pictures, failed: 0 }
    }

    /// Makes all pictures. A signal drops the request that runs, which cancels it; what was saved stays.
    pub(crate) async fn run(mut self, interrupts: &mut Interrupts) -> Result<(), Failure> {
        interrupts.unless(self.make_all()).await.ok_or(Failure::Interrupted)??;
        self.save_grid()?;
        match self.failed {
            0 => Ok(()),
            failed => Err(anyhow::anyhow!("{failed} of {} pictures could not be made", self.pictures).into()),
        }
    }

    async fn make_all(&mut self) -> Result<(), Failure> {
        let models = self.client.list_models().await?;
        let model = models.first();
        for job in jobs(self.flags, self.prompts, model.map_or(1, |model| model.max_images)) {
            self.make(&job, model).await?;
        }
        Ok(())
    }

    async fn make(&mut self, job: &Job, model: Option<&Model>) -> Result<(), Failure> {
        let request = request(self.flags, self.recipe, job);
        let request = self.recipe.season(request, self.flags.picture.scale.is_some(), model);
        let mut generation = self.client.generate(request).await?;
        while let Some(event) = generation.next().await {
            let event = event?;
            let path = match &event {
                Event::Queued(queued) => {
                    self.progress.queued(queued);
                    None
                }
                Event::Started(settings) => {
                    self.progress.started(settings);
                    None
                }
                Event::Step(step) => {
                    self.progress.step(step);
                    self.save_preview(job, step)?
                }
                Event::Image(image) => {
                    self.progress.picture_done();
                    self.note_verdict(image);
                    self.save_image(job, image)?
                }
                Event::ImageFailed(failed) => {
                    self.progress.picture_done();
                    self.note_failure(failed);
                    None
                }
                Event::Completed(completed) => {
                    self.progress.say(|| {
                        completed.warnings.iter().for_each(|warning| warn(&warning.field, &warning.message));
                    });
                    None
                }
                _ => None,
            };
            let mut outcome = Ok(());
            self.progress.say(|| outcome = self.report.event(generation.request_id(), &event, path.as_deref()));
            outcome?;
        }
        Ok(())
    }

    fn note_verdict(&self, image: &Image) {
        if image.safety == SafetyVerdict::Flagged {
            self.progress.say(|| {
                let Image { image_index, seed, .. } = image;
                eprintln!(
                    "darkroom: warning: the safety checker flagged picture {image_index} (seed {seed}); where it blocks, the picture is black"
                );
            });
        }
    }

    fn note_failure(&mut self, failed: &Failed) {
        self.failed += 1;
        self.progress.say(|| {
            eprintln!("darkroom: picture {} (seed {}) failed: {}", failed.image_index, failed.seed, failed.message);
        });
    }

    fn save_preview(&self, job: &Job, step: &Step) -> Result<Option<PathBuf>, Failure> {
        let (Some(outdir), Some(preview)) = (&self.outdir, &step.preview) else { return Ok(None) };
        let index = job.first + u64::from(step.image_index);
        Ok(Some(block_in_place(|| outdir.save_preview(index, &preview.data))?))
    }

    fn save_image(&mut self, job: &Job, image: &Image) -> Result<Option<PathBuf>, Failure> {
        let index = job.first + u64::from(image.image_index);
        // In place, not on another thread: a signal then cannot come between the bytes of a file.
        block_in_place(|| {
            if self.wants_grid() {
                let decoded = image::load_from_memory(image.data()).context("cannot read the server's picture")?;
                self.for_grid.insert(index, decoded.into_rgb8());
            }
            let Some(outdir) = self.outdir.as_ref().filter(|_| !self.flags.output.skip_save) else { return Ok(None) };
            let extension = self.flags.output.format.extension();
            let path = match &image.picture {
                Picture::Encoded { data, .. } => outdir.save_sample(index, extension, data)?,
                Picture::Latents(latents) => outdir.save_sample(index, extension, &npy::encode(latents))?,
            };
            Ok(Some(path))
        })
    }

    fn wants_grid(&self) -> bool {
        !self.flags.output.skip_grid && self.flags.output.format != Format::Latents && self.pictures > 1
    }

    fn save_grid(&self) -> Result<(), Failure> {
        let Some(outdir) = self.outdir.as_ref().filter(|_| self.for_grid.len() > 1) else { return Ok(()) };
        let columns = match self.flags.output.n_rows {
            0 => self.flags.picture.n_samples,
            columns => columns,
        };
        let pictures: Vec<&RgbImage> = self.for_grid.values().collect();
        let path = block_in_place(|| outdir.save_grid(&grid::encode(&pictures, columns)?))?;
        self.report.grid(&path)
    }
}

/// The request for a job. What no flag says stays out of it, so that the model's own defaults hold.
fn request(flags: &Flags, recipe: &Recipe, job: &Job) -> GenerateRequest {
    let (picture, output) = (&flags.picture, &flags.output);
    let mut request = GenerateRequest::new(&job.prompt)
        .negative_prompt(&picture.negative_prompt)
        .num_images(job.num_images)
        .seed(job.seed)
        .preview_every(output.preview_every)
        .output_format(output.format.into());
    if let Some(sampler) = picture.sampler().or(recipe.sampler) {
        request = request.sampler(sampler);
    }
    if let Some(steps) = picture.steps {
        request = request.num_inference_steps(steps);
    }
    if let Some(scale) = picture.scale {
        request = request.guidance_scale(scale);
    }
    if let Some(spacing) = &picture.sigma_spacing {
        request = request.sigma_spacing(spacing);
    }
    if let Some(rng) = picture.rng {
        request = request.rng(rng.into());
    }
    if let Some(syntax) = picture.prompt_syntax {
        request = request.prompt_syntax(syntax.into());
    }
    for Lora { name, weight } in &picture.lora {
        request = request.lora(name, *weight);
    }
    if let Some(strength) = picture.variation_strength {
        request = request.variation_strength(strength);
    }
    if let Some(seed) = job.variation_seed {
        request = request.variation_seed(seed);
    }
    // Command lines of the reference say 0 with any sampler; the server takes it with ddim alone.
    if let Some(eta) = picture.eta.filter(|&eta| eta > 0.0) {
        request = request.eta(eta);
    }
    if let Some(width) = picture.width {
        request = request.width(width);
    }
    if let Some(height) = picture.height {
        request = request.height(height);
    }
    if let Some((width, height)) = picture.hires {
        request = request.hires(width, height);
    }
    if let Some(strength) = picture.hires_strength {
        request = request.hires_strength(strength);
    }
    if let Some(layers) = picture.clip_skip {
        request = request.clip_skip(layers);
    }
    request
}
