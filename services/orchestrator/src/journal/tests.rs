//! Readers from the start, in the middle and behind.

use darkroom_proto::v1::{Completed, Image, ImageFailed, Preview, Queued, Started};
use proptest::prelude::*;
use tonic::Code;

use super::*;

fn step(image_index: u32, step: u32) -> Event {
    Event::Step(Step { image_index, step, of: 1000, preview: None })
}

fn image(image_index: u32) -> Event {
    Event::Image(Image { image_index, data: vec![1; 10].into(), ..Image::default() })
}

fn queued(position: u32) -> Event {
    Event::Queued(Queued { position, estimated_seconds: 0.0 })
}

fn story() -> Vec<Event> {
    vec![
        queued(1),
        queued(0),
        Event::Started(Started::default()),
        step(0, 1),
        step(1, 1),
        step(0, 2),
        image(0),
        step(1, 2),
    ]
}

fn written(events: &[Event]) -> Journal {
    let mut journal = Journal::default();
    for event in events {
        journal.write(event.clone());
    }
    journal
}

fn good(items: Vec<Entry>) -> Vec<Event> {
    items.into_iter().map(Result::unwrap).collect()
}

#[test]
fn who_reads_along_sees_everything_in_order() {
    let (mut journal, mut seen, mut read) = (Journal::default(), 0, Vec::new());
    for event in story() {
        journal.write(event);
        let (news, newest) = journal.since(seen);
        read.extend(good(news));
        seen = newest;
    }
    assert_eq!(read, story());
    assert_eq!(journal.since(seen).0.len(), 0);
}

#[test]
fn who_comes_in_the_middle_sees_where_it_stands() {
    let journal = written(&story());
    let (items, seen) = journal.replay();
    assert_eq!(good(items), [Event::Started(Started::default()), image(0), step(1, 2)]);
    assert_eq!(journal.since(seen).0.len(), 0);
    assert_eq!(good(written(&story()[..2]).replay().0), [queued(0)]);
}

#[test]
fn who_is_behind_misses_steps_and_no_picture() {
    let mut journal = written(&[image(0)]);
    for number in 1..=1000 {
        journal.write(step(1, number));
    }
    journal.write(Event::ImageFailed(ImageFailed { image_index: 2, ..ImageFailed::default() }));
    let items = good(journal.since(0).0);
    assert_eq!(items[0], image(0));
    assert_eq!(items.len(), 1 + RECENT_STEPS + 1);
    assert_eq!(items[RECENT_STEPS], step(1, 1000));
}

fn previewed(image_index: u32, number: u32, bytes: usize) -> Event {
    let preview = Some(Preview { data: vec![1; bytes].into(), ..Preview::default() });
    Event::Step(Step { image_index, step: number, of: 1000, preview })
}

/// Picture, step and whether its preview is there.
fn previews(items: Vec<Entry>) -> Vec<(u32, u32, bool)> {
    let step = |event: Event| match event {
        Event::Step(step) => Some((step.image_index, step.step, step.preview.is_some())),
        _ => None,
    };
    good(items).into_iter().filter_map(step).collect()
}

#[test]
fn large_previews_give_way_to_newer_ones_of_their_picture() {
    let large = OLDER_PREVIEWS;
    let mut journal = written(&[previewed(0, 1, large), previewed(1, 1, large), previewed(0, 2, large)]);
    assert_eq!(previews(journal.since(0).0), [(0, 1, true), (1, 1, true), (0, 2, true)]);
    journal.write(previewed(0, 3, large));
    assert_eq!(previews(journal.since(0).0), [(0, 1, false), (1, 1, true), (0, 2, true), (0, 3, true)]);
    // A step without one takes none away.
    journal.write(step(1, 2));
    assert_eq!(previews(journal.since(0).0)[1], (1, 1, true));
    assert_eq!(previews(journal.replay().0), [(0, 3, true), (1, 2, false)]);
}

#[test]
fn small_previews_are_all_kept_for_who_is_behind() {
    let steps: Vec<_> =
        (1..=RECENT_STEPS as u32).map(|number| previewed(0, number, OLDER_PREVIEWS / RECENT_STEPS)).collect();
    assert!(previews(written(&steps).since(0).0).iter().all(|(_, _, preview)| *preview));
}

#[test]
fn the_end_is_the_end() {
    let mut journal = written(&[image(0), Event::Completed(Completed::default())]);
    journal.write(image(1));
    journal.fail(Status::internal("late"));
    assert!(journal.has_ended() && journal.is_whole());
    assert_eq!(good(journal.since(0).0).len(), 2);

    let mut journal = Journal::default();
    journal.fail(Status::unavailable("first"));
    journal.fail(Status::internal("second"));
    let (items, _) = journal.replay();
    assert_eq!(items[0].as_ref().unwrap_err().code(), Code::Unavailable);
    assert!(journal.has_ended() && !journal.is_whole());
    let failed = Event::Completed(Completed { failed: 1, ..Completed::default() });
    assert!(!written(&[failed]).is_whole());
}

proptest! {
    /// However many pictures tell previews of whatever size: what is kept stays within its bound.
    #[test]
    fn previews_are_bounded(steps in prop::collection::vec((0u32..4, 0usize..(1 << 20), 0u8..9), 1..200)) {
        let (mut journal, mut newest) = (Journal::default(), BTreeMap::new());
        for (number, (index, bytes, end)) in steps.into_iter().enumerate() {
            match end {
                0 => {
                    journal.write(image(index));
                    newest.remove(&index);
                }
                _ => {
                    journal.write(previewed(index, number as u32 + 1, bytes));
                    newest.insert(index, bytes);
                }
            }
            let kept: usize = good(journal.since(0).0).iter().map(|event| match event {
                Event::Step(Step { preview: Some(preview), .. }) => preview.data.len(),
                _ => 0,
            }).sum();
            prop_assert!(kept <= OLDER_PREVIEWS + newest.values().sum::<usize>(), "{}", kept);
        }
    }

    /// However rarely it looks: a reader never sees an event twice or out of order, sees every picture, and the last step.
    #[test]
    fn a_reader_never_sees_anything_twice(
        kinds in prop::collection::vec((0u8..8, 0u32..3), 1..300),
        looks in prop::collection::vec(any::<bool>(), 300),
    ) {
        let (mut journal, mut seen, mut read) = (Journal::default(), 0, Vec::new());
        let (mut number, mut images, mut last) = (0, 0, None);
        for ((kind, index), look) in kinds.into_iter().zip(looks) {
            number += 1;
            if kind == 0 {
                images += 1;
                // The seed tells pictures apart.
                journal.write(Event::Image(Image { image_index: index, seed: number, ..Image::default() }));
            } else {
                last = Some(step(index, number as u32));
                journal.write(step(index, number as u32));
            }
            if look {
                let (news, newest) = journal.since(seen);
                read.extend(good(news));
                seen = newest;
            }
        }
        read.extend(good(journal.since(seen).0));
        let numbers: Vec<u64> = read.iter().map(|event| match event {
            Event::Image(image) => image.seed,
            Event::Step(step) => step.step.into(),
            _ => 0,
        }).collect();
        prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        prop_assert_eq!(read.iter().filter(|event| matches!(event, Event::Image(_))).count(), images);
        if let Some(last) = last {
            prop_assert!(read.contains(&last));
        }
    }
}
