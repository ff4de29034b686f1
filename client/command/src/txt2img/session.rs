//! One run against a server: request after request, or a sweep's several at a time; each event shown, each picture saved as it comes.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use anyhow::Context;
use darkroom_client::{
    Client, Code, Error, Event, Failed, Generation, Image, Picture, SafetyVerdict, Settings, Step, Warning,
};
use image::RgbImage;
use tokio::task::block_in_place;
use tokio_stream::Stream;

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::txt2img::flags::{Flags, Format};
use crate::txt2img::grids::Grids;
use crate::txt2img::init::Recipe;
use crate::txt2img::jobs::{Job, cells, jobs};
use crate::txt2img::outdir::OutDir;
use crate::txt2img::progress::Progress;
use crate::txt2img::report::Report;
use crate::txt2img::request::request;
use crate::txt2img::sweep::Setting;
use crate::txt2img::{npy, warn};

/// Requests of a sweep that are under way at once at most. The denoisers batch them.
const MOST_AT_ONCE: usize = 16;

pub(crate) struct Session<'a> {
    client: &'a Client,
    flags: &'a Flags,
    recipe: &'a Recipe,
    prompts: &'a [String],
    /// `None` when nothing is to be saved.
    outdir: Option<Arc<OutDir>>,
    report: Report,
    progress: Progress,
    grids: Grids<'a>,
    /// Warnings that a sweep's other cells need not repeat: prompt, field, message.
    warned: BTreeSet<(String, String, String)>,
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
        let (picture, output) = (&flags.picture, &flags.output);
        let each = match &recipe.sweep {
            Some(plan) => plan.cells() as u64,
            None => u64::from(picture.n_samples) * u64::from(picture.n_iter),
        };
        let pictures = prompts.len() as u64 * each;
        let wanted = !output.skip_grid && output.format != Format::Latents && pictures > 1;
        let grids = Grids::new(flags, recipe.sweep.as_ref(), wanted);
        let progress = Progress::new(pictures);
        let warned = BTreeSet::new();
        Self { client, flags, recipe, prompts, outdir, report, progress, grids, warned, pictures, failed: 0 }
    }

    /// Makes all pictures. A signal drops the requests that run, which cancels them; what was saved stays.
    pub(crate) async fn run(mut self, interrupts: &mut Interrupts) -> Result<(), Failure> {
        interrupts.unless(self.make_all()).await.ok_or(Failure::Interrupted)??;
        if let Some(grid) = self.grids.last()? {
            self.save_grid(&grid, None)?;
        }
        match self.failed {
            0 => Ok(()),
            failed => Err(anyhow::anyhow!("{failed} of {} pictures could not be made", self.pictures).into()),
        }
    }

    async fn make_all(&mut self) -> Result<(), Failure> {
        let models = self.client.list_models().await?;
        let (flags, recipe, prompts) = (self.flags, self.recipe, self.prompts);
        // A name that the server does not have is its own to refuse, with those that it has.
        let asked = flags.compute.remote_model();
        let model = models.iter().find(|model| asked.is_none_or(|name| name == model.name));
        let max_images = model.map_or(1, |model| model.max_images.max(1));
        let (mut jobs, mut at_once): (Box<dyn Iterator<Item = Job> + Send>, usize) = match &recipe.sweep {
            Some(plan) => {
                self.progress.say(|| eprintln!("{} pictures of each prompt: {plan}", plan.cells()));
                (Box::new(cells(flags, prompts, plan)), (max_images as usize).clamp(1, MOST_AT_ONCE))
            }
            None => (Box::new(jobs(flags, prompts, max_images)), 1),
        };
        let mut running: Vec<(Job, Generation)> = Vec::new();
        // What the server had no room for yet.
        let mut again = Vec::new();
        loop {
            while running.len() < at_once
                && let Some(job) = again.pop().or_else(|| jobs.next())
            {
                match self.client.generate(request(flags, recipe, &job, model)).await {
                    Ok(generation) => running.push((job, generation)),
                    Err(error) if is_crowd(&error, running.len()) => {
                        at_once = running.len();
                        again.push(job);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let Some((place, event)) = next(&mut running).await else { return Ok(()) };
            match event {
                Some(Err(error)) if is_crowd(&error, running.len() - 1) => {
                    at_once = running.len() - 1;
                    again.push(running.remove(place).0);
                }
                Some(event) => {
                    let (job, generation) = &running[place];
                    self.show(job, generation.request_id(), &event?)?;
                }
                None => drop(running.remove(place)),
            }
        }
    }

    fn show(&mut self, job: &Job, request_id: &str, event: &Event) -> Result<(), Failure> {
        let mut path = None;
        let mut grid = None;
        match event {
            Event::Queued(queued) => self.progress.queued(queued),
            Event::Started(settings) => {
                self.progress.started(job.first, settings);
                self.check_grid(settings)?;
            }
            Event::Step(step) => {
                self.progress.step(job.first, step);
                path = self.save_preview(job, step)?;
            }
            Event::Image(image) => {
                self.progress.picture_done(job.first, image.image_index);
                self.note_verdict(job, image);
                (path, grid) = self.save_image(job, image)?;
            }
            Event::ImageFailed(failed) => {
                self.progress.picture_done(job.first, failed.image_index);
                self.note_failure(job, failed);
                grid = self.grids.missing(job.first + u64::from(failed.image_index))?;
            }
            Event::Completed(completed) => {
                self.progress.completed(job.first);
                self.note_warnings(job, &completed.warnings);
            }
            _ => {}
        }
        let mut outcome = Ok(());
        self.progress.say(|| outcome = self.report.event(request_id, event, path.as_deref(), &job.varied));
        outcome?;
        grid.map_or(Ok(()), |grid| self.save_grid(&grid, Some(&job.prompt)))
    }

    /// Before the first step of a picture: a grid that cannot be drawn is not worth the wait.
    fn check_grid(&self, settings: &Settings) -> Result<(), Failure> {
        let (width, height) =
            settings.hires.map_or((settings.width, settings.height), |hires| (hires.width, hires.height));
        self.grids.check(width, height)
    }

    fn note_verdict(&self, job: &Job, image: &Image) {
        if image.safety == SafetyVerdict::Flagged {
            let picture = named(job, image.image_index, image.seed);
            self.progress.say(|| {
                eprintln!(
                    "darkroom: warning: the safety checker flagged {picture}; where it blocks, the picture is black"
                );
            });
        }
    }

    fn note_failure(&mut self, job: &Job, failed: &Failed) {
        self.failed += 1;
        let picture = named(job, failed.image_index, failed.seed);
        self.progress.say(|| eprintln!("darkroom: {picture} failed: {}", failed.message));
    }

    fn note_warnings(&mut self, job: &Job, warnings: &[Warning]) {
        for Warning { field, message } in warnings {
            let new = job.varied.is_empty() || self.warned.insert((job.prompt.clone(), field.clone(), message.clone()));
            if new {
                self.progress.say(|| warn(field, message));
            }
        }
    }

    fn save_preview(&self, job: &Job, step: &Step) -> Result<Option<PathBuf>, Failure> {
        let (Some(outdir), Some(preview)) = (&self.outdir, &step.preview) else { return Ok(None) };
        let index = job.first + u64::from(step.image_index);
        Ok(Some(block_in_place(|| outdir.save_preview(index, &preview.data))?))
    }

    /// Where the picture was saved, and the grid that it completes.
    fn save_image(&mut self, job: &Job, image: &Image) -> Result<(Option<PathBuf>, Option<RgbImage>), Failure> {
        let index = job.first + u64::from(image.image_index);
        // In place, not on another thread: a signal then cannot come between the bytes of a file.
        block_in_place(|| {
            let mut grid = None;
            if self.grids.wanted() {
                let decoded = image::load_from_memory(image.data()).context("cannot read the server's picture")?;
                grid = self.grids.put(index, decoded.into_rgb8())?;
            }
            let Some(outdir) = self.outdir.as_ref().filter(|_| !self.flags.output.skip_save) else {
                return Ok((None, grid));
            };
            let extension = self.flags.output.format.extension();
            let path = match &image.picture {
                Picture::Encoded { data, .. } => outdir.save_sample(index, extension, data)?,
                Picture::Latents(latents) => outdir.save_sample(index, extension, &npy::encode(latents))?,
            };
            Ok((Some(path), grid))
        })
    }

    fn save_grid(&self, grid: &RgbImage, prompt: Option<&str>) -> Result<(), Failure> {
        let Some(outdir) = &self.outdir else { return Ok(()) };
        let path = block_in_place(|| outdir.save_grid(&crate::txt2img::grid::png(grid)?))?;
        let mut outcome = Ok(());
        self.progress.say(|| outcome = self.report.grid(&path, prompt));
        outcome
    }
}

/// Whether a request was refused because there are enough others, `ours` among them: it has its turn when one of these is done.
fn is_crowd(error: &Error, ours: usize) -> bool {
    error.code() == Code::ResourceExhausted && ours > 0
}

/// What any of the requests tells next, and which it is; `None` instead of an event: it has ended. Nothing when there is none.
async fn next(running: &mut [(Job, Generation)]) -> Option<(usize, Option<Result<Event, Error>>)> {
    if running.is_empty() {
        return None;
    }
    poll_fn(|context| {
        for (place, (_, generation)) in running.iter_mut().enumerate() {
            if let Poll::Ready(event) = Pin::new(generation).poll_next(context) {
                return Poll::Ready(Some((place, event)));
            }
        }
        Poll::Pending
    })
    .await
}

/// A picture, for people: by its place in the request, or by what is varied.
fn named(job: &Job, image_index: u32, seed: u64) -> String {
    match &job.varied[..] {
        [] => format!("picture {image_index} (seed {seed})"),
        varied => varied.iter().map(Setting::to_string).collect::<Vec<_>>().join(", "),
    }
}
