//! What a request has told so far, so that whoever joins late or reads slowly misses nothing that matters. A plain struct.
//!
//! It is bounded: the last place in the queue, the start, the last steps, every finished picture, the end. A reader is a
//! number: everything later than that is news to it.

use std::collections::{BTreeMap, VecDeque};

use darkroom_proto::v1::GenerateEvent;
use darkroom_proto::v1::generate_event::Event;
use tonic::Status;

/// Steps that are kept for readers who are behind; older ones are skipped.
const RECENT_STEPS: usize = 64;

/// One message of a request's stream.
pub(crate) type Item = Result<GenerateEvent, Status>;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// The number of the newest entry.
    newest: u64,
    queued: Option<(u64, GenerateEvent)>,
    started: Option<(u64, GenerateEvent)>,
    steps: VecDeque<(u64, GenerateEvent)>,
    /// Of each picture that is not finished.
    last_steps: BTreeMap<u32, (u64, GenerateEvent)>,
    /// Finished and failed ones.
    images: Vec<(u64, GenerateEvent)>,
    end: Option<(u64, Item)>,
}

impl Journal {
    /// Writes an event down. After the end nothing is taken.
    pub(crate) fn write(&mut self, event: GenerateEvent) {
        if self.end.is_some() {
            return;
        }
        self.newest += 1;
        let entry = (self.newest, event);
        match &entry.1.event {
            Some(Event::Queued(_)) => self.queued = Some(entry),
            Some(Event::Started(_)) => self.started = Some(entry),
            Some(Event::Step(step)) => {
                self.last_steps.insert(step.image_index, entry.clone());
                if self.steps.len() == RECENT_STEPS {
                    self.steps.pop_front();
                }
                self.steps.push_back(entry);
            }
            Some(Event::Image(image)) => {
                self.last_steps.remove(&image.image_index);
                self.images.push(entry);
            }
            Some(Event::ImageFailed(failed)) => {
                self.last_steps.remove(&failed.image_index);
                self.images.push(entry);
            }
            Some(Event::Completed(_)) => self.end = Some((entry.0, Ok(entry.1))),
            None => {}
        }
    }

    /// Ends it with a status, unless it has ended.
    pub(crate) fn fail(&mut self, status: Status) {
        if self.end.is_none() {
            self.newest += 1;
            self.end = Some((self.newest, Err(status)));
        }
    }

    /// Everything that is news to a reader who has seen all up to `seen`, in order, and the number it has seen then.
    pub(crate) fn since(&self, seen: u64) -> (Vec<Item>, u64) {
        let steps = self.steps.iter().chain(self.last_steps.values());
        self.collect(self.queued.iter().chain(&self.started).chain(steps).chain(&self.images), seen)
    }

    /// The story so far for who comes in the middle: where it stands, not how it got there.
    pub(crate) fn replay(&self) -> (Vec<Item>, u64) {
        let beginning = self.started.as_ref().or(self.queued.as_ref());
        self.collect(beginning.into_iter().chain(self.last_steps.values()).chain(&self.images), 0)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether all pictures were made.
    pub(crate) fn is_whole(&self) -> bool {
        let event = self.end.as_ref().and_then(|(_, end)| end.as_ref().ok()).and_then(|end| end.event.as_ref());
        matches!(event, Some(Event::Completed(completed)) if completed.failed == 0)
    }

    /// Bytes of pictures, which is nearly all that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let of = |event: &GenerateEvent| match &event.event {
            Some(Event::Image(image)) => {
                image.data.len() + image.latents.as_ref().map_or(0, |latents| latents.data.len())
            }
            _ => 0,
        };
        self.images.iter().map(|(_, event)| of(event)).sum()
    }

    fn collect<'a>(&'a self, events: impl Iterator<Item = &'a (u64, GenerateEvent)>, seen: u64) -> (Vec<Item>, u64) {
        let events = events.map(|(number, event)| (*number, Ok(event.clone())));
        // A step may be both recent and its picture's last.
        let news: BTreeMap<u64, Item> = events.chain(self.end.clone()).filter(|(number, _)| *number > seen).collect();
        (news.into_values().collect(), self.newest)
    }
}

#[cfg(test)]
mod tests;
