//! The batch in virtual time.

use std::sync::{Arc, Mutex};

use darkroom_engine::LatentSize;

use super::*;

/// What happened to a request, in milliseconds from the start.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Evaluated(u32, u64),
    Finished { queued: u64, computed: u64 },
    Expired,
}

#[derive(Clone)]
struct Ear {
    start: Instant,
    gone: Arc<Mutex<bool>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Listener for Ear {
    fn is_gone(&self) -> bool {
        *self.gone.lock().unwrap()
    }

    fn evaluated(&mut self, done: u32, at: Instant) {
        self.heard.lock().unwrap().push(Heard::Evaluated(done, millis(at - self.start)));
    }

    fn finished(self, queued: Duration, computed: Duration) {
        self.heard.lock().unwrap().push(Heard::Finished { queued: millis(queued), computed: millis(computed) });
    }

    fn expired(self) {
        self.heard.lock().unwrap().push(Heard::Expired);
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_micros().div_ceil(1000) as u64
}

struct World {
    start: Instant,
    batch: Batch<Ear>,
}

impl World {
    /// 10 ms an evaluation and 10 ms more for each guided picture of 8×8; two of them run at once, one waits.
    fn new() -> Self {
        let pace = Pace { base: 0.010, per_pixel: 0.010 / 128.0 };
        let budget = Budget { pixels: 256, bytes: usize::MAX, pictures: usize::MAX };
        Self { start: Instant::now(), batch: Batch::new(pace, budget, 1) }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn push(&mut self, at: u64, side: usize, evaluations: u32, deadline: Option<u64>) -> Result<Ear, Option<Duration>> {
        let ear = Ear { start: self.start, gone: Arc::default(), heard: Arc::default() };
        let cost = Cost { size: LatentSize { height: side, width: side }, rows: 2, bytes: 0 };
        let job = Job { listener: ear.clone(), cost, evaluations, entered: self.at(at) };
        self.batch.push(job, deadline.map(|deadline| self.at(deadline)))?;
        Ok(ear)
    }

    fn advance(&mut self, at: u64) -> Option<u64> {
        self.batch.advance(self.at(at)).map(|due| millis(due - self.start))
    }
}

fn heard(ear: &Ear) -> Vec<Heard> {
    ear.heard.lock().unwrap().clone()
}

#[test]
fn requests_join_and_leave_between_evaluations() {
    let mut world = World::new();
    let first = world.push(0, 8, 2, None).unwrap();
    assert_eq!(world.advance(0), Some(20));
    let second = world.push(5, 8, 2, None).unwrap();
    assert_eq!(world.advance(20), Some(50), "both share the next evaluation");
    assert_eq!(world.advance(50), Some(70), "the second one is alone again");
    assert_eq!(world.advance(70), None);
    assert_eq!(heard(&first), [Heard::Evaluated(1, 20), Heard::Finished { queued: 0, computed: 50 }]);
    assert_eq!(heard(&second), [Heard::Evaluated(1, 50), Heard::Finished { queued: 15, computed: 50 }]);
}

#[test]
fn a_late_look_costs_no_time() {
    let mut world = World::new();
    let ear = world.push(0, 8, 3, None).unwrap();
    // Nobody looks for a second: all is done as it was due, and who came meanwhile did not join before it came.
    world.advance(0);
    let late = world.push(100, 8, 1, None).unwrap();
    assert_eq!(world.advance(1000), None);
    assert_eq!(heard(&ear).last(), Some(&Heard::Finished { queued: 0, computed: 60 }));
    assert_eq!(heard(&late), [Heard::Finished { queued: 0, computed: 20 }]);
}

#[test]
fn the_line_is_bounded_and_says_when_to_come_again() {
    let mut world = World::new();
    let ears: Vec<_> = (0..2)
        .map(|_| {
            let ear = world.push(0, 8, 4, None).unwrap();
            world.advance(0);
            ear
        })
        .collect();
    // The first began alone and takes 20 ms; then both run.
    world.advance(20);
    world.push(21, 8, 1, None).unwrap();
    let full = world.push(22, 8, 1, None).err().unwrap();
    assert_eq!(full.map(millis), Some(66), "three evaluations of 22 ms, as smoothed");
    *ears[0].gone.lock().unwrap() = true;
    world.advance(50);
    assert_eq!(world.batch.load().running, 2, "the one that waited has the place of the one that left");
    assert_eq!(heard(&ears[0]).last(), Some(&Heard::Expired));
}

#[test]
fn sizes_take_turns_and_deadlines_end_work() {
    let mut world = World::new();
    let small = world.push(0, 4, 4, Some(45)).unwrap();
    world.advance(0);
    let large = world.push(1, 8, 1, None).unwrap();
    // 12.5 ms for the small one, which at equal work is first again, and then 20 for the large one.
    assert_eq!(world.advance(13), Some(25));
    assert_eq!(world.advance(25), Some(45));
    world.advance(45);
    assert_eq!(heard(&large).last(), Some(&Heard::Finished { queued: 12, computed: 33 }));
    assert_eq!(heard(&small).last(), Some(&Heard::Expired));
    assert_eq!(world.batch.load(), Load { step_seconds: world.batch.step_seconds, ..Load::default() });
}

#[test]
fn the_load_counts_what_runs_and_what_waits() {
    let mut world = World::new();
    for _ in 0..2 {
        world.push(0, 8, 2, None).unwrap();
        world.advance(0);
    }
    let load = world.batch.load();
    assert_eq!((load.running, load.waiting, load.remaining_evaluations), (1, 1, 4));
    assert!((load.remaining_seconds - 0.060).abs() < 1e-9, "two evaluations of 30 ms: {load:?}");
}
