//! How far the test is, on standard error: a line where somebody watches, else one now and then.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::tally::Tally;
use crate::operate::span::told;

const DRAWN: Duration = Duration::from_millis(250);
const WRITTEN: Duration = Duration::from_secs(10);

/// Tells it until it is stopped.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    task: JoinHandle<()>,
}

impl Progress {
    pub(super) fn start(tally: &Arc<Tally>) -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        let (line, tally) = (bar.clone(), Arc::clone(tally));
        let task = tokio::spawn(async move {
            loop {
                sleep(if line.is_some() { DRAWN } else { WRITTEN }).await;
                let [offered, running, completed, refused] = tally.so_far();
                let after = told(tally.begun().elapsed());
                let text =
                    format!("{after}: {offered} offered, {running} running, {completed} completed, {refused} refused");
                match &line {
                    Some(line) => {
                        line.set_message(text);
                        line.tick();
                    }
                    None => eprintln!("{text}"),
                }
            }
        });
        Self { bar, task }
    }

    pub(super) fn stop(self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
