//! How far the work is, on standard error: a bar where somebody watches, else a few plain lines.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use darkroom_client::{Queued, Settings, Step};
use indicatif::{ProgressBar, ProgressStyle};

/// Pictures of one request that are counted: as many as the flags allow.
const MOST_IN_A_REQUEST: u32 = 10_000;
const TEMPLATE: &str = "{bar:30} {pos}/{len} steps  {elapsed} < {eta}  {wide_msg}";

/// Progress over all pictures of a run.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    pictures: u64,
    finished: u64,
    /// Quarters of the steps that were told as plain lines.
    quarters: u64,
    /// What was told of the requests under way, by their first picture's place in the run.
    running: BTreeMap<u64, Running>,
    /// Pictures and steps of the requests before them.
    past_pictures: u64,
    past_steps: u64,
}

/// A request under way.
struct Running {
    /// Steps that each of its pictures has done.
    done: Vec<u64>,
    /// Steps that each of them has.
    of: u64,
}

impl Progress {
    /// For `pictures` in all.
    pub(crate) fn new(pictures: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_message("connected");
            bar
        });
        let running = BTreeMap::new();
        Self { bar, pictures, finished: 0, quarters: 0, running, past_pictures: 0, past_steps: 0 }
    }

    /// The request waits at the server.
    pub(crate) fn queued(&mut self, queued: &Queued) {
        let wait = queued.estimated.map_or_else(String::new, |time| format!(", about {:.0} s", time.as_secs_f64()));
        let text = match queued.position {
            0 => format!("next in the queue{wait}"),
            position => format!("{position} before this one in the queue{wait}"),
        };
        match &self.bar {
            Some(bar) => bar.set_message(text),
            // Of several requests the later ones wait for the earlier ones, which is nothing to tell.
            None if queued.position > 0 && self.running.is_empty() => eprintln!("{text}"),
            None => {}
        }
    }

    /// The work of a request starts, with these settings. `place` is its first picture's in the run.
    pub(crate) fn started(&mut self, place: u64, settings: &Settings) {
        let first = self.running.is_empty() && self.past_pictures == 0;
        let done = vec![0; settings.num_images.min(MOST_IN_A_REQUEST) as usize];
        self.running.insert(place, Running { done, of: settings.num_inference_steps.into() });
        let text = format!(
            "{}: {}x{}, {}, {} steps, scale {}, seed {}",
            settings.model,
            settings.width,
            settings.height,
            settings.sampler,
            settings.num_inference_steps,
            settings.guidance_scale,
            settings.seed
        );
        match &self.bar {
            Some(bar) => {
                if first {
                    bar.set_style(
                        ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar()),
                    );
                    bar.set_position(0);
                }
                bar.set_length(self.all_steps());
                bar.set_message(text);
            }
            None if first => eprintln!("{text}"),
            None => {}
        }
    }

    /// A step of one of the request's pictures is done.
    pub(crate) fn step(&mut self, place: u64, step: &Step) {
        if let Some(running) = self.running.get_mut(&place) {
            // A strength leaves some of the settings' steps out, and a second pass adds some: now it is known.
            running.of = step.of.into();
            running.done(step.image_index, step.step.into());
        }
        self.show();
    }

    /// One of the request's pictures is finished, or failed: its steps will not come again.
    pub(crate) fn picture_done(&mut self, place: u64, image_index: u32) {
        self.finished += 1;
        // Step events are coalesced when a reader is slow; a finished picture has all of its steps.
        if let Some(running) = self.running.get_mut(&place) {
            running.done(image_index, running.of);
        }
        self.show();
    }

    /// All of the request's pictures are done.
    pub(crate) fn completed(&mut self, place: u64) {
        if let Some(running) = self.running.remove(&place) {
            self.past_pictures += running.done.len() as u64;
            self.past_steps += running.all();
        }
    }

    /// Steps of the whole run: pictures that nothing is known of yet have as many as the others on average.
    fn all_steps(&self) -> u64 {
        let pictures = self.past_pictures + self.running.values().map(|running| running.done.len() as u64).sum::<u64>();
        let steps = self.past_steps + self.running.values().map(Running::all).sum::<u64>();
        // A run may have many pictures.
        let all = (u128::from(steps) * u128::from(self.pictures)).checked_div(pictures.into());
        all.and_then(|all| u64::try_from(all).ok()).unwrap_or(steps)
    }

    /// Says `line` above the bar.
    pub(crate) fn say(&self, line: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(line),
            None => line(),
        }
    }

    fn show(&mut self) {
        let steps = self.past_steps + self.running.values().flat_map(|running| &running.done).sum::<u64>();
        if let Some(bar) = &self.bar {
            bar.set_length(self.all_steps());
            bar.set_position(steps);
            return;
        }
        let quarters = (steps * 4).checked_div(self.all_steps()).unwrap_or(0);
        if quarters > self.quarters {
            self.quarters = quarters;
            eprintln!("{} % of the steps, {} of {} pictures", quarters * 25, self.finished, self.pictures);
        }
    }
}

impl Running {
    fn done(&mut self, image_index: u32, steps: u64) {
        if let Some(done) = self.done.get_mut(image_index as usize) {
            *done = steps;
        }
    }

    fn all(&self) -> u64 {
        self.of * self.done.len() as u64
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_to_come_have_the_others_steps_on_average() {
        let mut progress = Progress::new(4);
        assert_eq!(progress.all_steps(), 0);
        progress.running.insert(0, Running { done: vec![0], of: 10 });
        progress.running.insert(1, Running { done: vec![0], of: 20 });
        assert_eq!(progress.all_steps(), 60);
        progress.picture_done(0, 0);
        progress.completed(0);
        assert_eq!(progress.all_steps(), 60);
        // A strength takes some away.
        progress.step(1, &Step { image_index: 0, step: 3, of: 16, preview: None });
        assert_eq!(progress.all_steps(), 52);
        assert_eq!(progress.running[&1].done, [3]);
    }
}
