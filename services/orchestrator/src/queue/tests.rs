//! The order, the bound and the estimates, in invented time.

use super::*;

fn work(images: u32, priority: Priority) -> Work {
    Work { images, steps: 10, per_step: 128, priority }
}

fn queue(limit: usize, slots: usize) -> (Queue, Instant) {
    let mut queue = Queue::new(limit, 1.0 / 128.0);
    queue.set_slots(slots);
    (queue, Instant::now())
}

fn turn(queue: &mut Queue, now: Instant) -> Option<(Ticket, Option<u64>)> {
    queue.grant(now).map(|grant| (grant.ticket, grant.waited.map(|waited| waited.as_secs())))
}

#[test]
fn priority_then_age() {
    let (mut queue, now) = queue(10, 0);
    let tickets = [Priority::Normal, Priority::Low, Priority::High, Priority::Normal, Priority::High]
        .map(|priority| queue.push(work(1, priority), now).unwrap());
    assert_eq!(tickets.map(|ticket| queue.standing(ticket).unwrap().position), [2, 4, 0, 3, 1]);
    queue.set_slots(5);
    let turns = std::iter::from_fn(|| queue.grant(now)).map(|grant| grant.ticket).collect::<Vec<_>>();
    assert_eq!(turns, [2, 4, 0, 3, 1].map(|i| tickets[i]));
    assert_eq!(queue.depth(), 0);
}

#[test]
fn pictures_of_one_request_take_slots_as_they_come() {
    let (mut queue, now) = queue(10, 2);
    let big = queue.push(work(3, Priority::Normal), now).unwrap();
    let small = queue.push(work(1, Priority::Normal), now).unwrap();
    let later = now + Duration::from_secs(2);
    assert_eq!(turn(&mut queue, later), Some((big, Some(2))));
    assert_eq!(turn(&mut queue, later), Some((big, None)));
    assert_eq!(turn(&mut queue, later), None);
    assert_eq!(queue.standing(big), None);
    assert_eq!(queue.standing(small).unwrap().position, 1);
    queue.release();
    assert_eq!(turn(&mut queue, later), Some((big, None)));
    queue.release();
    assert_eq!(turn(&mut queue, later), Some((small, Some(2))));
}

#[test]
fn a_full_queue_refuses_with_a_delay_but_a_free_slot_never_does() {
    let (mut queue, now) = queue(1, 1);
    queue.push(work(1, Priority::Normal), now).unwrap();
    queue.grant(now).unwrap();
    queue.push(work(1, Priority::Normal), now).unwrap();
    let full = queue.push(work(1, Priority::High), now).unwrap_err();
    assert_eq!(full, Full { waiting: 1, retry_after: Duration::from_secs(10) });
    assert_eq!(full.to_string(), "1 requests wait already, which is this server's limit; try again in 10 s");

    let (mut idle, now) = self::queue(0, 1);
    idle.push(work(1, Priority::Normal), now).unwrap();
}

#[test]
fn leaving_gives_everything_back() {
    let (mut queue, now) = queue(10, 1);
    let first = queue.push(work(2, Priority::Normal), now).unwrap();
    let second = queue.push(work(1, Priority::Normal), now).unwrap();
    queue.grant(now).unwrap();
    queue.leave(second);
    assert_eq!(queue.depth(), 0);
    queue.leave(first);
    assert_eq!(queue.work_seconds(), 0.0);
    assert_eq!(queue.grant(now), None);
    queue.release();
    let third = queue.push(work(1, Priority::Low), now).unwrap();
    assert_eq!(queue.grant(now).unwrap().ticket, third);
}

#[test]
fn estimates_follow_what_was_measured() {
    let (mut queue, now) = queue(10, 2);
    let running = queue.push(work(2, Priority::Normal), now).unwrap();
    queue.grant(now).unwrap();
    queue.grant(now).unwrap();
    let waiting = queue.push(work(1, Priority::Normal), now).unwrap();
    assert_eq!(queue.standing(waiting).unwrap().estimated, None);
    // Assumed: a second a step. Two pictures run and one waits, of ten steps each.
    assert_eq!(queue.work_seconds(), 30.0);
    queue.steps_gone(running, 5);
    assert_eq!(queue.work_seconds(), 25.0);
    // Measured: two seconds a step; fifteen steps are left, in two slots.
    queue.measure(running, 20.0);
    assert_eq!(queue.work_seconds(), 50.0);
    assert_eq!(queue.standing(waiting).unwrap().estimated, Some(Duration::from_secs(15)));
    queue.measure(running, f64::NAN);
    assert_eq!(queue.work_seconds(), 50.0);
}
