//! How far the work is, on standard error: a bar where somebody watches, else a few plain lines.

use std::io::IsTerminal;

use darkroom_client::{Queued, Settings, Step};
use indicatif::{ProgressBar, ProgressStyle};

const TEMPLATE: &str = "{bar:30} {pos}/{len} steps  {elapsed} < {eta}  {wide_msg}";

/// Progress over all pictures of a run.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    pictures: u64,
    finished: u64,
    /// Quarters of the steps that were told as plain lines.
    quarters: u64,
    steps: u64,
    steps_of_a_picture: u64,
}

impl Progress {
    /// For `pictures` in all.
    pub(crate) fn new(pictures: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_message("connected");
            bar
        });
        Self { bar, pictures, finished: 0, quarters: 0, steps: 0, steps_of_a_picture: 0 }
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
            None if queued.position > 0 => eprintln!("{text}"),
            None => {}
        }
    }

    /// The work begins, with these settings.
    pub(crate) fn started(&mut self, settings: &Settings) {
        let first = self.steps_of_a_picture == 0;
        self.steps_of_a_picture = u64::from(settings.num_inference_steps);
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
                    bar.set_length(self.pictures * self.steps_of_a_picture);
                    bar.set_position(0);
                }
                bar.set_message(text);
            }
            None if first => eprintln!("{text}"),
            None => {}
        }
    }

    /// One more step of some picture is done.
    pub(crate) fn step(&mut self, step: &Step) {
        self.steps += 1;
        // A strength leaves some of the settings' steps out, and a second pass adds some: now it is known.
        self.steps_of_a_picture = step.of.into();
        if let Some(bar) = &self.bar {
            bar.set_length(self.pictures * self.steps_of_a_picture);
        }
        self.show();
    }

    /// A picture is finished, or failed: its steps will not come again.
    pub(crate) fn picture_done(&mut self) {
        self.finished += 1;
        // Step events are coalesced when a reader is slow; a finished picture has all of its steps.
        self.steps = self.steps.max(self.finished * self.steps_of_a_picture);
        self.show();
    }

    /// Says `line` above the bar.
    pub(crate) fn say(&self, line: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(line),
            None => line(),
        }
    }

    fn show(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.steps);
            return;
        }
        let quarters = (self.steps * 4).checked_div(self.pictures * self.steps_of_a_picture).unwrap_or(0);
        if quarters > self.quarters {
            self.quarters = quarters;
            eprintln!("{} % of the steps, {} of {} pictures", quarters * 25, self.finished, self.pictures);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
