//! The policy as a whole, played in virtual time against a fleet that does what it says.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::job::Priority;

/// Latent pixels of a small picture.
const SMALL: u64 = 100;
/// Seconds of an evaluation of it, however full the batch.
const EVALUATION: f64 = 0.1;

fn limits(requests: usize, seconds: u64) -> Limits {
    Limits { requests, time: Duration::from_secs(seconds), ageing: Duration::from_secs(60) }
}

/// Workers that take `batch` small pictures each.
fn scheduler(workers: usize, batch: u64, limits: Limits, now: Instant) -> Scheduler {
    let mut scheduler = Scheduler::new(limits, 1.0, now);
    let picture = (SMALL, EVALUATION);
    let worker = WorkerSpeed { batch_pixels: batch * SMALL, picture, batch_seconds: EVALUATION };
    scheduler.set_workers(&vec![worker; workers]);
    scheduler
}

fn arrival(client: &Client, images: u32, evaluations: u32, pixels: u64, priority: Priority) -> Arrival {
    let work = Work { images, evaluations, pixels, priority };
    Arrival { client: client.clone(), work, deadline: None, besides: Duration::ZERO, waited: Duration::ZERO }
}

/// One request of a schedule.
#[derive(Debug, Clone)]
struct Plan {
    /// Milliseconds after the one before.
    after: u64,
    client: usize,
    images: u32,
    evaluations: u32,
    pixels: u64,
    priority: Priority,
    /// Milliseconds from its arrival.
    deadline: Option<u64>,
    /// Milliseconds from its arrival until its client goes.
    goes: Option<u64>,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let priority = prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High)];
    let pixels = prop_oneof![6 => Just(SMALL), 3 => Just(4 * SMALL), 1 => Just(50 * SMALL)];
    let who = (0u64..4000, 0usize..4, 1u32..5, 1u32..60);
    let ends = (prop::option::weighted(0.3, 100u64..60_000), prop::option::weighted(0.1, 0u64..20_000));
    let plan = (who, pixels, priority, ends).prop_map(|(who, pixels, priority, (deadline, goes))| {
        let (after, client, images, evaluations) = who;
        Plan { after, client, images, evaluations, pixels, priority, deadline, goes }
    });
    prop::collection::vec(plan, 1..60)
}

/// What happens at a time, in the order in which it does at one and the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Done(SlotId, Ticket),
    Leave(Ticket),
    Arrive(usize),
}

/// What the play keeps of a request.
#[derive(Debug)]
struct Playing {
    plan: Plan,
    arrived: Instant,
    slots: BTreeSet<SlotId>,
    done: u32,
}

/// Plays a schedule and checks at each moment what must always hold. Returns how many were let in and how many were done.
fn play(plans: &[Plan], workers: usize, batch: u64) -> Result<(usize, usize), TestCaseError> {
    let start = Instant::now();
    let mut scheduler = scheduler(workers, batch, limits(20, 600), start);
    let clients: Vec<Client> =
        (1..=4).map(|n| Client { weight: f64::from(n), ..Client::named(&n.to_string()) }).collect();
    let mut happenings = BTreeSet::new();
    let mut at = start;
    for (index, plan) in plans.iter().enumerate() {
        at += Duration::from_millis(plan.after);
        happenings.insert((at, Happening::Arrive(index)));
    }
    let mut playing: HashMap<Ticket, Playing> = HashMap::new();
    let (mut given, mut let_in, mut done) = (BTreeSet::new(), 0, 0);
    while let Some((now, happening)) = happenings.pop_first() {
        match happening {
            Happening::Arrive(index) => {
                let plan = plans[index].clone();
                let mut arrival =
                    arrival(&clients[plan.client], plan.images, plan.evaluations, plan.pixels, plan.priority);
                arrival.deadline = plan.deadline.map(|after| now + Duration::from_millis(after));
                match scheduler.push(arrival, now) {
                    Ok(ticket) => {
                        let_in += 1;
                        if let Some(goes) = plan.goes {
                            happenings.insert((now + Duration::from_millis(goes), Happening::Leave(ticket)));
                        }
                        if let Some(latest) = scheduler.latest_start(ticket) {
                            let after = latest.max(now) + Duration::from_nanos(1);
                            happenings.insert((after, Happening::Leave(ticket)));
                        }
                        playing.insert(ticket, Playing { plan, arrived: now, slots: BTreeSet::new(), done: 0 });
                    }
                    Err(Refusal::Full(full)) => {
                        let delay = full.retry_after.as_secs_f64();
                        prop_assert!((1.0..=60.0).contains(&delay), "{full}");
                    }
                    Err(Refusal::Late(late)) => {
                        prop_assert!(plan.deadline.is_some() && late.earliest() > late.left, "{late}");
                    }
                }
            }
            // Only those that still wait leave at their latest start; those whose clients go leave whatever they do.
            Happening::Leave(ticket) => {
                let gone = |one: &Playing| {
                    let goes = one.plan.goes.is_some_and(|goes| one.arrived + Duration::from_millis(goes) <= now);
                    goes || one.slots.is_empty() && one.done == 0
                };
                if playing.get(&ticket).is_some_and(gone)
                    && let Some(one) = playing.remove(&ticket)
                {
                    scheduler.leave(ticket);
                    one.slots.into_iter().for_each(|slot| scheduler.release(slot));
                }
            }
            Happening::Done(slot, ticket) => {
                if let Some(one) = playing.get_mut(&ticket)
                    && one.slots.remove(&slot)
                {
                    scheduler.progress(slot, 1, 1);
                    scheduler.release(slot);
                    one.done += 1;
                    if one.done == one.plan.images {
                        scheduler.leave(ticket);
                        playing.remove(&ticket);
                        done += 1;
                    }
                }
            }
        }
        while let Some(Grant { ticket, slot, waited }) = scheduler.grant(now) {
            prop_assert!(given.insert(slot), "a slot was given twice");
            let one = playing.get_mut(&ticket).expect("a slot for one who is there");
            prop_assert_eq!(waited.is_some(), one.slots.is_empty() && one.done == 0);
            one.slots.insert(slot);
            prop_assert!(one.slots.len() as u32 + one.done <= one.plan.images, "more slots than pictures");
            if let (Some(after), Some(waited)) = (one.plan.deadline, waited) {
                prop_assert!(waited <= Duration::from_millis(after), "it starts after its deadline");
            }
            let seconds = EVALUATION * f64::from(one.plan.evaluations);
            happenings.insert((now + Duration::from_secs_f64(seconds), Happening::Done(slot, ticket)));
        }
        let capacity = workers as u64 * batch * SMALL;
        prop_assert!(scheduler.used <= capacity, "{} of {capacity} pixels run", scheduler.used);
        prop_assert!(scheduler.waiting.requests() <= 20);
        prop_assert!(scheduler.used > 0 || scheduler.sizes.is_empty(), "all stands still while somebody waits");
        let standings = scheduler.forecast().standings();
        prop_assert_eq!(standings.len(), scheduler.depth());
    }
    prop_assert!(playing.is_empty(), "never ended: {playing:?}");
    prop_assert_eq!((scheduler.used, scheduler.running_work, scheduler.waiting.work()), (0, 0, 0));
    prop_assert!(scheduler.entries.is_empty() && scheduler.hungry.is_empty() && scheduler.sizes.is_empty());
    Ok((let_in, done))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever comes: capacity and bounds are kept, each picture gets one slot, nobody starts past the deadline, nothing is lost.
    #[test]
    fn nothing_is_lost_or_done_twice(plans in plans(), workers in 1usize..4, batch in 1u64..6) {
        let (let_in, done) = play(&plans, workers, batch)?;
        prop_assert!(done <= let_in);
        // Who neither goes nor has a deadline is done, once let in.
        if plans.iter().all(|plan| plan.deadline.is_none() && plan.goes.is_none()) {
            prop_assert_eq!(done, let_in);
        }
    }

    /// Clients that always have something waiting get work by their weights, within 10 %.
    #[test]
    fn shares_are_fair(
        weights in prop::collection::vec(1u32..5, 2..5),
        sizes in prop::collection::vec((1u32..4, 5u32..50), 5),
        batch in 1u64..5,
    ) {
        let start = Instant::now();
        let mut scheduler = scheduler(2, batch, limits(10_000, 1_000_000), start);
        let clients: Vec<Client> = weights
            .iter()
            .enumerate()
            .map(|(index, weight)| Client { weight: f64::from(*weight), ..Client::named(&index.to_string()) })
            .collect();
        let mut owner = HashMap::new();
        let mut count = 0;
        let mut push = |scheduler: &mut Scheduler, owner: &mut HashMap<Ticket, usize>, index: usize, now| {
            let (images, evaluations) = sizes[(count + index) % sizes.len()];
            count += 1;
            let arrival = arrival(&clients[index], images, evaluations, SMALL, Priority::Normal);
            owner.insert(scheduler.push(arrival, now).expect("there is room"), index);
        };
        for _ in 0..4 {
            (0..clients.len()).for_each(|index| push(&mut scheduler, &mut owner, index, start));
        }
        let (mut ends, mut work, mut now) = (BTreeSet::new(), vec![0.0; clients.len()], start);
        for _ in 0..3000 {
            while let Some(grant) = scheduler.grant(now) {
                let index = owner[&grant.ticket];
                let entry = &scheduler.entries[&grant.ticket];
                let (evaluations, last) = (entry.work.evaluations, entry.images_waiting == 0);
                work[index] += f64::from(evaluations);
                ends.insert((now + Duration::from_secs_f64(EVALUATION * f64::from(evaluations)), grant.slot, grant.ticket, last));
                if last {
                    push(&mut scheduler, &mut owner, index, now);
                }
            }
            let (at, slot, ticket, last) = ends.pop_first().expect("somebody runs");
            now = at;
            scheduler.progress(slot, 1, 1);
            scheduler.release(slot);
            if last {
                scheduler.leave(ticket);
            }
        }
        let (all, all_weights): (f64, u32) = (work.iter().sum(), weights.iter().sum());
        for (done, weight) in work.iter().zip(&weights) {
            let fair = all * f64::from(*weight) / f64::from(all_weights);
            prop_assert!((done / fair - 1.0).abs() < 0.1, "{done} of {all}, {fair} would be fair: {work:?} {weights:?}");
        }
    }
}

#[test]
fn a_low_priority_is_not_starved() {
    let start = Instant::now();
    let mut scheduler = scheduler(1, 1, limits(1000, 10_000), start);
    let (busy, low) = (Client::named("busy"), Client::named("low"));
    scheduler.push(arrival(&busy, 1, 10, SMALL, Priority::High), start).unwrap();
    let mine = scheduler.push(arrival(&low, 1, 10, SMALL, Priority::Low), start).unwrap();
    let mut now = start;
    loop {
        scheduler.push(arrival(&busy, 1, 10, SMALL, Priority::High), now).unwrap();
        let grant = scheduler.grant(now).unwrap();
        if grant.ticket == mine {
            break;
        }
        assert!(now <= start + Duration::from_secs(60), "it has its turn");
        now += Duration::from_secs(1);
        scheduler.progress(grant.slot, 1, 1);
        scheduler.release(grant.slot);
        scheduler.leave(grant.ticket);
    }
    assert_eq!(now, start + Duration::from_secs(60));
}

#[test]
fn a_large_picture_holds_nobody_up_and_comes_to_its_turn() {
    let start = Instant::now();
    let mut scheduler = scheduler(1, 4, limits(100, 10_000), start);
    let client = Client::named("a");
    let [first, second] =
        [0, 1].map(|_| scheduler.push(arrival(&client, 1, 10, SMALL, Priority::Normal), start).unwrap());
    let slots = [scheduler.grant(start).unwrap(), scheduler.grant(start).unwrap()];
    assert_eq!(slots.map(|grant| grant.ticket), [first, second]);
    let large = scheduler.push(arrival(&Client::named("b"), 1, 10, 4 * SMALL, Priority::Normal), start).unwrap();
    let mut running: VecDeque<Grant> = slots.into();
    let mut passed = 0;
    loop {
        scheduler.push(arrival(&client, 1, 10, SMALL, Priority::Normal), start).unwrap();
        while let Some(grant) = scheduler.grant(start) {
            passed += 1;
            running.push_back(grant);
        }
        if running.back().is_some_and(|grant| grant.ticket == large) {
            break;
        }
        let Some(grant) = running.pop_front() else { panic!("all stands still") };
        scheduler.progress(grant.slot, 1, 1);
        scheduler.release(grant.slot);
        scheduler.leave(grant.ticket);
    }
    assert!((2..=PASSES + 1).contains(&passed), "{passed}");
}

#[test]
fn pictures_that_lost_their_worker_go_on_before_new_ones_begin() {
    let start = Instant::now();
    let worker = WorkerSpeed { batch_pixels: 2 * SMALL, picture: (SMALL, EVALUATION), batch_seconds: EVALUATION };
    let mut scheduler = scheduler(2, 2, limits(100, 10_000), start);
    let client = Client::named("a");
    scheduler.push(arrival(&client, 4, 10, SMALL, Priority::Normal), start).unwrap();
    let slots: Vec<SlotId> = std::iter::from_fn(|| scheduler.grant(start)).map(|grant| grant.slot).collect();
    assert_eq!(slots.len(), 4);
    let new = scheduler.push(arrival(&client, 1, 10, SMALL, Priority::High), start).unwrap();

    // One of two workers goes, with two of the four.
    scheduler.set_workers(&[worker]);
    scheduler.park(slots[2]);
    scheduler.park(slots[3]);
    scheduler.park(slots[3]);
    assert_eq!((scheduler.resume(), scheduler.grant(start)), (None, None), "the other one is full");
    scheduler.release(slots[0]);
    assert_eq!((scheduler.resume(), scheduler.resume(), scheduler.grant(start)), (Some(slots[2]), None, None));
    scheduler.release(slots[1]);
    scheduler.release(slots[3]);
    assert_eq!((scheduler.resume(), scheduler.grant(start).unwrap().ticket), (None, new));
    scheduler.release(slots[2]);
    assert_eq!(scheduler.used, SMALL);
}

#[test]
fn a_slot_is_free_before_the_last_step_unless_its_picture_must_be_held() {
    let start = Instant::now();
    let mut scheduler = scheduler(1, 1, limits(100, 10_000), start);
    let client = Client::named("a");
    for _ in 0..3 {
        scheduler.push(arrival(&client, 1, 10, SMALL, Priority::Normal), start).unwrap();
    }
    let first = scheduler.grant(start).unwrap().slot;
    scheduler.progress(first, 8, 10);
    assert_eq!((scheduler.used, scheduler.grant(start)), (SMALL, None));
    scheduler.progress(first, 9, 10);
    let second = scheduler.grant(start).unwrap().slot;
    assert_eq!((scheduler.used, scheduler.running_work), (SMALL, 11 * SMALL));

    // The first one is denoised and cannot go on: it and the second one take more than there is until it can.
    scheduler.progress(first, 10, 10);
    scheduler.hold(first);
    scheduler.hold(first);
    assert_eq!(scheduler.used, 2 * SMALL);
    scheduler.progress(second, 9, 10);
    assert_eq!((scheduler.used, scheduler.grant(start)), (SMALL, None));
    scheduler.release(first);

    // One that loses its worker in its last step needs its place again.
    let third = scheduler.grant(start).unwrap().slot;
    scheduler.park(second);
    assert_eq!((scheduler.used, scheduler.resume()), (SMALL, None));
    scheduler.release(third);
    assert_eq!((scheduler.resume(), scheduler.used), (Some(second), SMALL));
    scheduler.release(second);
    assert_eq!((scheduler.used, scheduler.running_work), (0, 0));
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_with_the_earliest_time() {
    let start = Instant::now();
    let mut scheduler = scheduler(1, 1, limits(100, 10_000), start);
    let client = Client::named("a");
    let due = |seconds| Some(start + Duration::from_secs(seconds));
    let ask = |seconds| Arrival { deadline: due(seconds), ..arrival(&client, 1, 100, SMALL, Priority::Normal) };
    // 100 evaluations take 10 s.
    let Err(Refusal::Late(late)) = scheduler.push(ask(9), start) else { panic!("it was let in") };
    assert_eq!((late.wait, late.earliest()), (Duration::ZERO, Duration::from_secs(10)));
    let ticket = scheduler.push(ask(11), start).unwrap();
    let grant = scheduler.grant(start).unwrap();
    let Err(Refusal::Late(late)) = scheduler.push(ask(15), start) else { panic!("it was let in") };
    assert_eq!(late.earliest(), Duration::from_secs(20));
    let waiting = scheduler.push(ask(21), start).unwrap();
    assert_eq!(scheduler.latest_start(waiting), Some(start + Duration::from_secs(13)));
    assert!(!scheduler.is_lost(grant.slot, start + Duration::from_secs(3)));
    assert!(scheduler.is_lost(grant.slot, start + Duration::from_secs(4)));
    scheduler.leave(ticket);
}
