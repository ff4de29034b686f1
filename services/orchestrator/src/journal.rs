//! What a request has told so far, so that whoever joins late or reads slowly misses nothing that matters. A plain struct.
//!
//! It is bounded: the last place in the queue, the start, the last steps, every finished picture, the end; and of previews the
//! last of each picture, with older ones while they are small. A reader is a number: everything later than that is news to
//! it. Its name is the readers' to add: one that is told a hundred steps is not written down a hundred times.

use std::collections::{BTreeMap, VecDeque};

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::{GenerateEvent, Step};
use tonic::Status;

/// Steps that are kept for readers who are behind; older ones are skipped.
const RECENT_STEPS: usize = 64;
/// Bytes of previews that are kept besides the last of each picture. Those of small pictures fit, all of them; of large ones
/// a reader who is behind gets the last.
const OLDER_PREVIEWS: usize = 256 << 10;

/// One message of a request's stream.
pub(crate) type Item = Result<GenerateEvent, Status>;

/// What such a message is made of.
pub(crate) type Entry = Result<Event, Status>;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// The number of the newest entry.
    newest: u64,
    queued: Option<(u64, Event)>,
    started: Option<Box<(u64, Event)>>,
    steps: VecDeque<(u64, Step)>,
    /// The number of the last step of each picture that is not finished, and the step itself once it is none of `steps`.
    last_steps: BTreeMap<u32, (u64, Option<Step>)>,
    /// Finished and failed ones.
    images: Vec<(u64, Event)>,
    end: Option<Box<(u64, Entry)>>,
}

impl Journal {
    /// Writes an event down. After the end nothing is taken.
    pub(crate) fn write(&mut self, event: Event) {
        if self.end.is_some() {
            return;
        }
        self.newest += 1;
        let number = self.newest;
        match event {
            Event::Queued(_) => self.queued = Some((number, event)),
            Event::Started(_) => self.started = Some(Box::new((number, event))),
            Event::Step(step) => self.write_step(number, step),
            Event::Image(ref image) => {
                let index = image.image_index;
                self.write_picture(number, index, event);
            }
            Event::ImageFailed(ref failed) => {
                let index = failed.image_index;
                self.write_picture(number, index, event);
            }
            Event::Completed(_) => self.end = Some(Box::new((number, Ok(event)))),
        }
    }

    /// None of its previews is the last one to look at any more.
    fn write_picture(&mut self, number: u64, index: u32, event: Event) {
        self.last_steps.remove(&index);
        self.images.push((number, event));
        self.forget_previews();
    }

    fn write_step(&mut self, number: u64, step: Step) {
        if self.steps.len() == RECENT_STEPS
            && let Some((number, step)) = self.steps.pop_front()
            && let Some((last, kept)) = self.last_steps.get_mut(&step.image_index)
            && *last == number
        {
            *kept = Some(step);
        }
        self.last_steps.insert(step.image_index, (number, None));
        let preview = step.preview.is_some();
        self.steps.push_back((number, step));
        if preview {
            self.forget_previews();
        }
    }

    /// Takes the oldest previews out of steps that have a newer one, as far as all of them are too many.
    fn forget_previews(&mut self) {
        let mut room = OLDER_PREVIEWS;
        let mut newest = Vec::new();
        for (_, step) in self.steps.iter_mut().rev() {
            let Some(preview) = &step.preview else { continue };
            if !newest.contains(&step.image_index) && self.last_steps.contains_key(&step.image_index) {
                newest.push(step.image_index);
                continue;
            }
            match room.checked_sub(preview.data.len()) {
                Some(left) => room = left,
                None => (room, step.preview) = (0, None),
            }
        }
    }

    /// Ends it with a status, unless it has ended.
    pub(crate) fn fail(&mut self, status: Status) {
        if self.end.is_none() {
            self.newest += 1;
            self.end = Some(Box::new((self.newest, Err(status))));
        }
    }

    /// Everything that is news to a reader who has seen all up to `seen`, in order, and the number it has seen then.
    pub(crate) fn since(&self, seen: u64) -> (Vec<Entry>, u64) {
        let recent = self.steps.partition_point(|(number, _)| *number <= seen);
        let images = self.images.partition_point(|(number, _)| *number <= seen);
        let events = self.queued.iter().chain(self.started.as_deref()).chain(&self.images[images..]);
        let steps = self.steps.range(recent..).map(|(number, step)| (*number, step));
        self.tell(events, self.older_last_steps().chain(steps), seen)
    }

    /// The story so far for who comes in the middle: where it stands, not how it got there.
    pub(crate) fn replay(&self) -> (Vec<Entry>, u64) {
        let beginning = self.started.as_deref().or(self.queued.as_ref());
        let is_last =
            |number, step: &Step| matches!(self.last_steps.get(&step.image_index), Some((last, _)) if *last == number);
        let steps =
            self.steps.iter().map(|(number, step)| (*number, step)).filter(|(number, step)| is_last(*number, step));
        self.tell(beginning.into_iter().chain(&self.images), self.older_last_steps().chain(steps), 0)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether all pictures were made.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.end.as_deref(), Some((_, Ok(Event::Completed(completed)))) if completed.failed == 0)
    }

    /// Last steps of pictures that are older than all recent steps.
    fn older_last_steps(&self) -> impl Iterator<Item = (u64, &Step)> {
        self.last_steps.values().filter_map(|(number, step)| Some((*number, step.as_ref()?)))
    }

    /// What is newer than `seen`, copied once and in order. It is little at a time and nearly sorted.
    fn tell<'a>(
        &self,
        events: impl Iterator<Item = &'a (u64, Event)>,
        steps: impl Iterator<Item = (u64, &'a Step)>,
        seen: u64,
    ) -> (Vec<Entry>, u64) {
        let events = events.filter(|(number, _)| *number > seen).map(|(number, event)| (*number, Ok(event.clone())));
        let steps = steps.filter(|(number, _)| *number > seen);
        let steps = steps.map(|(number, step)| (number, Ok(Event::Step(step.clone()))));
        let end = self.end.as_deref().filter(|(number, _)| *number > seen).cloned();
        let mut news: Vec<(u64, Entry)> = events.chain(steps).chain(end).collect();
        news.sort_unstable_by_key(|(number, _)| *number);
        (news.into_iter().map(|(_, entry)| entry).collect(), self.newest)
    }
}

#[cfg(test)]
mod tests;
