//! One denoiser of the simulation: the engine's batch on a clock, and what it has told since somebody listened.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use darkroom_engine::Cost;

use crate::load::clock::Facts;
use crate::load::clock::batch::{Batch, Job, Listener};

/// A picture by its number.
pub(super) type PictureId = u64;

/// What is told of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum News {
    /// So many evaluations are behind it here.
    Evaluated(u32),
    /// All are, in so long.
    Finished(Duration),
}

struct Ear {
    picture: PictureId,
    heard: Rc<RefCell<Vec<(PictureId, News)>>>,
}

impl Listener for Ear {
    fn is_gone(&self) -> bool {
        false
    }

    fn evaluated(&mut self, done: u32, _: Instant) {
        self.heard.borrow_mut().push((self.picture, News::Evaluated(done)));
    }

    fn finished(self, _: Duration, computed: Duration) {
        self.heard.borrow_mut().push((self.picture, News::Finished(computed)));
    }

    fn expired(self) {}
}

/// See the module's text.
pub(super) struct Worker {
    batch: Batch<Ear>,
    heard: Rc<RefCell<Vec<(PictureId, News)>>>,
    /// It was told to leave, and takes nothing new.
    pub(super) draining: bool,
    /// When it has something to say, as far as somebody waits for it.
    pub(super) due: Option<Instant>,
}

impl Worker {
    pub(super) fn new(facts: &Facts) -> Self {
        let batch = Batch::new(facts.pace, facts.budget(), usize::MAX >> 1);
        Self { batch, heard: Rc::default(), draining: false, due: None }
    }

    /// A picture, with so many evaluations left.
    pub(super) fn push(&mut self, picture: PictureId, cost: Cost, evaluations: u32, now: Instant) {
        let listener = Ear { picture, heard: Rc::clone(&self.heard) };
        // The line is as good as endless: the scheduler's slots bound it.
        _ = self.batch.push(Job { listener, cost, evaluations, entered: now }, None);
    }

    /// Does all that is due by `now`, and says when the next thing is.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Instant> {
        self.batch.advance(now)
    }

    /// What it told since the last time.
    pub(super) fn news(&mut self) -> Vec<(PictureId, News)> {
        std::mem::take(&mut *self.heard.borrow_mut())
    }

    /// Everybody goes on elsewhere.
    pub(super) fn hand_over(&mut self) -> Vec<PictureId> {
        self.batch.clear().into_iter().map(|ear| ear.picture).collect()
    }

    /// Seconds of work before it.
    pub(super) fn backlog(&self) -> f64 {
        self.batch.load().remaining_seconds
    }
}
