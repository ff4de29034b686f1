//! Who gives way to whom, by example and under arbitrary comings and goings.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::*;

fn origin(number: u8) -> Origin {
    Origin::of(SocketAddr::from((Ipv4Addr::new(192, 0, 2, number), 1)))
}

/// Fills a table: each letter is a connection of its origin, a capital one with a running call, `?` after it half-open.
fn table(places: usize, share: usize, seats: &str, now: Instant) -> Table {
    let mut table = Table::new(places, share);
    let letters: Vec<char> = seats.chars().collect();
    let seats = letters.iter().enumerate().filter(|(_, letter)| letter.is_ascii_alphabetic());
    for (id, (at, letter)) in (0..).zip(seats) {
        assert_eq!(table.enter(id, origin(letter.to_ascii_lowercase() as u8), now), Entry::Free);
        let half_open = letters.get(at + 1) == Some(&'?');
        let standing = if letter.is_ascii_uppercase() { Standing::Busy } else { Standing::Idle };
        if !half_open {
            table.settle(id, standing, now);
        }
    }
    table
}

fn enters(seats: &str, letter: char, after: Duration) -> Option<u64> {
    let now = Instant::now();
    let places = seats.chars().filter(char::is_ascii_alphabetic).count();
    match table(places, places, seats, now).enter(99, origin(letter as u8), now + after) {
        Entry::Displaced { victim, .. } => Some(victim),
        Entry::Refused => None,
        Entry::Free => panic!("{seats} is full"),
    }
}

#[test]
fn whoever_is_worth_least_gives_way() {
    let at_once = Duration::ZERO;
    // Half-open ones first, then the longest idle, never a busy one.
    assert_eq!(enters("aBc?a?", 'd', at_once), Some(2));
    assert_eq!(enters("Aba", 'd', at_once), Some(2));
    assert_eq!(enters("ABA", 'd', at_once), None);
    // Of those that hold most, though another has waited longer.
    assert_eq!(enters("baa", 'c', at_once), Some(1));
    // One that is just coming in is no spoil for who has more.
    assert_eq!(enters("aaab?", 'a', at_once), Some(0));
    assert_eq!(enters("aaab?", 'a', STALE), Some(3));
    // A flood displaces itself, and leaves alone who holds less.
    assert_eq!(enters("bba?a?a?", 'a', at_once), Some(2));
    assert_eq!(enters("bba?a?a?", 'b', at_once), Some(2));
    assert_eq!(enters("bbAAA", 'a', at_once), None);
    // Many origins with little each are a flood as well.
    assert_eq!(enters("eea?b?c?", 'd', at_once), Some(4));
}

#[test]
fn an_origin_gets_no_more_than_its_share() {
    let now = Instant::now();
    let mut table = table(4, 2, "aA", now);
    assert_eq!(table.enter(7, origin(b'a'), now), Entry::Displaced { victim: 0, at_once: false });
    table.settle(7, Standing::Busy, now);
    assert_eq!(table.enter(8, origin(b'a'), now), Entry::Refused);
    assert_eq!(table.enter(9, origin(b'b'), now), Entry::Free);
}

#[test]
fn few_may_take_their_time_to_leave() {
    let now = Instant::now();
    let mut table = table(2, 2, "aa", now);
    assert_eq!(table.enter(7, origin(b'b'), now), Entry::Displaced { victim: 0, at_once: false });
    assert_eq!(table.enter(8, origin(b'b'), now + STALE), Entry::Displaced { victim: 7, at_once: true });
    table.leave(0);
    table.leave(7);
    assert_eq!(table.shed(), Some(8));
    assert_eq!(table.shed(), Some(1));
    assert_eq!(table.shed(), None);
}

#[derive(Debug, Clone)]
enum Event {
    Enter(u8),
    Settle(usize, Standing),
    Leave(usize),
    Shed,
    Wait(u16),
}

fn event() -> impl Strategy<Value = Event> {
    let standing = prop_oneof![Just(Standing::HalfOpen), Just(Standing::Idle), Just(Standing::Busy)];
    prop_oneof![
        6 => (0..4u8).prop_map(Event::Enter),
        4 => (any::<usize>(), standing).prop_map(|(at, standing)| Event::Settle(at, standing)),
        2 => any::<usize>().prop_map(Event::Leave),
        1 => Just(Event::Shed),
        1 => (0..2000u16).prop_map(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn what_must_hold_holds_whatever_comes(
        places in 1..9usize, share in 1..9usize, events in prop::collection::vec(event(), 1..200),
    ) {
        let mut table = Table::new(places, share);
        let mut now = Instant::now();
        // The same, told again in the plainest way.
        let mut seated: BTreeMap<u64, (Origin, Standing)> = BTreeMap::new();
        let held = |seated: &BTreeMap<u64, (Origin, Standing)>, of| seated.values().filter(|(origin, _)| *origin == of).count();
        for (id, event) in (0..).zip(events) {
            match event {
                Event::Enter(number) => {
                    let origin = origin(number);
                    let mine = held(&seated, origin);
                    match table.enter(id, origin, now) {
                        Entry::Free => prop_assert!(seated.len() < places && mine < share),
                        Entry::Refused => {
                            prop_assert!(seated.len() == places || mine >= share.min(places));
                            let spare = seated.values().filter(|(_, standing)| *standing != Standing::Busy);
                            for (owner, _) in spare {
                                prop_assert!(*owner != origin);
                                prop_assert!(mine >= share.min(places) || held(&seated, *owner) <= mine);
                            }
                            continue;
                        }
                        Entry::Displaced { victim, .. } => {
                            let (owner, standing) = seated.remove(&victim).expect("a victim has a place");
                            prop_assert_ne!(standing, Standing::Busy);
                            // What is idle gives way only to who holds less, or to its own.
                            let before = held(&seated, owner) + 1;
                            prop_assert!(standing == Standing::HalfOpen || owner == origin || before > mine);
                        }
                    }
                    seated.insert(id, (origin, Standing::HalfOpen));
                }
                Event::Settle(at, standing) => {
                    if let Some(id) = seated.keys().nth(at % seated.len().max(1)).copied() {
                        table.settle(id, standing, now);
                        seated.get_mut(&id).expect("it is there").1 = standing;
                    }
                }
                Event::Leave(at) => {
                    if let Some(id) = seated.keys().nth(at % seated.len().max(1)).copied() {
                        table.leave(id);
                        seated.remove(&id);
                    }
                }
                Event::Shed => match table.shed() {
                    Some(victim) => {
                        let (_, standing) = seated.remove(&victim).expect("a victim has a place");
                        prop_assert_ne!(standing, Standing::Busy);
                    }
                    None => prop_assert!(seated.values().all(|(_, standing)| *standing == Standing::Busy)),
                },
                Event::Wait(millis) => now += Duration::from_millis(millis.into()),
            }
            prop_assert!(seated.len() <= places);
            prop_assert_eq!(table.seats.len(), seated.len());
            let spare = seated.values().filter(|(_, standing)| *standing != Standing::Busy).count();
            prop_assert_eq!(table.holders.values().map(|holder| holder.spare.len()).sum::<usize>(), spare);
        }
    }
}
