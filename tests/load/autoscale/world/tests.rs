//! Scenes as a whole: nothing is lost, the same seed is the same day, and what is shipped does what it was chosen for.

use darkroom_proto::v1::Priority;

use super::*;
use crate::load::autoscale::figures::OBJECTIVE;
use crate::load::autoscale::scene::{Choice, MOST, Machine, Trace};

const SEED: u64 = 7;

fn scene(trace: Trace, choice: Choice) -> Scene {
    Scene::new(Machine::Middle, trace, SEED, choice)
}

#[test]
fn a_burst_is_served_within_bounds_and_is_the_same_every_time() {
    let scene = scene(Trace::Burst, Choice::SHIPPED);
    let figures = play(&scene).unwrap();
    assert!(figures.requests > 4000);
    assert_eq!((figures.refused, figures.unserved, figures.lost), (0, 0, 0));
    assert_eq!((figures.wait.count, figures.latency.count), (figures.requests, figures.requests));
    let most = figures.points.iter().map(|point| point.replicas).max();
    assert!(most > Some(8) && most <= Some(MOST), "{most:?}");
    assert_eq!(figures, play(&scene).unwrap());
    let other = play(&Scene { seed: SEED + 1, ..scene }).unwrap();
    assert_ne!(figures.wait, other.wait);
}

#[test]
fn a_steady_load_keeps_replicas_still_where_it_is_seen_and_not_where_the_queue_is_all_there_is() {
    let both = play(&scene(Trace::Steady, Choice::SHIPPED)).unwrap();
    let alone = play(&scene(Trace::Steady, Choice { load: None, ..Choice::SHIPPED })).unwrap();
    assert!(both.wait.p95 <= OBJECTIVE, "{:?}", both.wait);
    assert!(both.scalings * 4 < alone.scalings, "{} and {}", both.scalings, alone.scalings);
    assert!(both.replica_seconds < alone.replica_seconds, "{} and {}", both.replica_seconds, alone.replica_seconds);
    // As much as four can do, at 0.8 of what five can.
    assert!((4.0..6.5).contains(&both.mean_replicas()), "{}", both.mean_replicas());
}

#[test]
fn one_request_brings_one_replica_from_nothing_which_goes_when_it_has_cooled_down() {
    let scene = scene(Trace::Steady, Choice::SHIPPED);
    let at = Duration::from_secs(100);
    let one = Arrival { at, identity: 0, priority: Priority::Normal, side: 128, steps: 50 };
    let figures = play_trace(&scene, vec![one], Duration::from_secs(1200));
    assert_eq!(figures.latency.count, 1);
    // A scrape, a look and the slowest start, and no faster than the quickest.
    assert!((20.0..15.0 + 15.0 + 60.0 + 6.0).contains(&figures.wait.max), "{:?}", figures.wait);
    let replicas: Vec<u32> = figures.points.iter().map(|point| point.replicas).collect();
    assert_eq!((replicas[0], replicas.iter().max(), replicas.last()), (0, Some(&1), Some(&0)), "{replicas:?}");
    assert_eq!(figures.scalings, 2);

    let impatient = Scene { no_worker_wait: Duration::from_secs(5), ..scene };
    let figures = play_trace(&impatient, vec![one], Duration::from_secs(1200));
    assert_eq!((figures.latency.count, figures.unserved, figures.lost), (0, 1, 0));
}
