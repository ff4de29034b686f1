//! The controller against the worked examples of its documentation, and against arbitrary metrics.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn policy(change: Change, seconds: u32) -> Policy {
    Policy { change, period: seconds * SECOND }
}

/// Looks every 15 s at a metric that calls for `wanted` replicas, and says what there was after each look.
fn course(hpa: &mut Hpa, begin: u32, wanted: &[u32], now: Instant) -> Vec<u32> {
    let mut replicas = begin;
    let step = |(look, wanted): (u32, &u32)| {
        let metric = f64::from(*wanted) * hpa.settings.targets[0];
        replicas = hpa.sync(&[metric], replicas, now + look * SYNC_PERIOD);
        replicas
    };
    (0..).zip(wanted).map(step).collect()
}

/// Without windows or limits.
fn free(target: f64) -> Settings {
    let mut settings = Settings::usual(1, 1000, &[target]);
    settings.up.policies = vec![policy(Change::Pods(1000), 15)];
    settings.down.window = Duration::ZERO;
    settings
}

/// "Algorithm details": 200m where 100m is wanted doubles the replicas, 50m halves them. With a target per replica the metric is divided
/// by their number first.
#[test]
fn twice_the_target_doubles_and_half_of_it_halves() {
    let now = Instant::now();
    let after = |each: f64| Hpa::new(free(0.1)).sync(&[each * 4.0], 4, now);
    assert_eq!([after(0.2), after(0.05), after(0.1)], [8, 2, 4]);
}

/// The same section: nothing changes within 0.1 of the target, and what is more is rounded up.
#[test]
fn near_the_target_nothing_changes() {
    let now = Instant::now();
    let after = |metric| Hpa::new(free(10.0)).sync(&[metric], 10, now);
    assert_eq!([after(91.0), after(109.0)], [10, 10]);
    assert_eq!([after(89.0), after(111.0)], [9, 12]);
    assert_eq!(after(0.0), 1, "the least that there may be");
}

/// "Scaling policies": of four pods and ten percent a minute the larger change holds. 80 replicas lose 8, then 8 of the 72 that are left,
/// as 7.2 is rounded up; from 40 on it is four.
#[test]
fn the_policy_that_allows_more_holds() {
    let mut settings = Settings::usual(10, 100, &[1.0]);
    settings.down.window = Duration::ZERO;
    settings.down.policies = vec![policy(Change::Pods(4), 60), policy(Change::Percent(10), 60)];
    let mut hpa = Hpa::new(settings);
    let looks = course(&mut hpa, 80, &[10; 53], Instant::now());
    let minutes: Vec<u32> = looks.into_iter().step_by(4).collect();
    assert_eq!(minutes, [72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16, 12, 10][..minutes.len()]);
}

/// "Example: limit scale down rate", with `selectPolicy: Min`: five pods a minute where ten percent would be more.
#[test]
fn the_policy_that_allows_less_holds_where_it_is_asked_for() {
    let mut settings = Settings::usual(1, 200, &[1.0]);
    settings.down.window = Duration::ZERO;
    settings.down.select = Select::Least;
    settings.down.policies = vec![policy(Change::Percent(10), 60), policy(Change::Pods(5), 60)];
    let looks = course(&mut Hpa::new(settings.clone()), 100, &[1; 9], Instant::now());
    assert_eq!(looks, [95, 95, 95, 95, 90, 90, 90, 90, 85]);
    settings.down.select = Select::Nothing;
    assert_eq!(course(&mut Hpa::new(settings), 100, &[1; 3], Instant::now()), [100, 100, 100]);
}

/// The first user story of the enhancement proposal 853: 900 percent a look take one replica to a thousand in three.
#[test]
fn as_fast_as_possible() {
    let mut settings = Settings::usual(1, 1000, &[1.0]);
    settings.up.policies = vec![policy(Change::Percent(900), 15)];
    assert_eq!(course(&mut Hpa::new(settings), 1, &[5000; 4], Instant::now()), [10, 100, 1000, 1000]);
}

/// "Default behavior": four pods or twice as many every 15 s upwards, whichever is more.
#[test]
fn the_default_doubles_or_adds_four() {
    let mut hpa = Hpa::new(Settings::usual(1, 100, &[1.0]));
    assert_eq!(course(&mut hpa, 1, &[100; 7], Instant::now()), [5, 10, 20, 40, 80, 100, 100]);
}

/// "Stabilization window": of all that was recommended within it the highest is taken on the way down.
#[test]
fn the_way_down_waits_for_the_window() {
    let mut settings = free(1.0);
    settings.down.window = 60 * SECOND;
    let mut hpa = Hpa::new(settings);
    let looks = course(&mut hpa, 10, &[10, 4, 8, 3, 3, 3, 3, 3, 3], Instant::now());
    assert_eq!(looks, [10, 10, 10, 10, 8, 8, 3, 3, 3]);
}

/// The same upwards: the lowest.
#[test]
fn the_way_up_waits_for_its_window() {
    let mut settings = free(1.0);
    settings.up.window = 30 * SECOND;
    let mut hpa = Hpa::new(settings);
    assert_eq!(course(&mut hpa, 2, &[2, 9, 7, 7], Instant::now()), [2, 2, 7, 7]);
}

/// "Support for multiple metrics": the largest of what they ask for.
#[test]
fn of_several_metrics_the_one_that_asks_for_most_has_its_way() {
    let now = Instant::now();
    let both = Settings { targets: vec![10.0, 0.5], ..free(1.0) };
    let after = |first, second| Hpa::new(both.clone()).sync(&[first, second], 4, now);
    assert_eq!([after(80.0, 0.5), after(10.0, 3.5), after(10.0, 1.5)], [8, 7, 3]);
}

#[test]
fn bounds_come_first_and_none_stays_none() {
    let now = Instant::now();
    let mut hpa = Hpa::new(Settings::usual(2, 5, &[1.0]));
    assert_eq!(hpa.sync(&[0.0], 9, now), 5);
    assert_eq!(hpa.sync(&[100.0], 1, now), 2);
    assert_eq!(hpa.sync(&[100.0], 0, now), 0, "from zero it is KEDA's turn");
}

fn rules() -> impl Strategy<Value = Rules> {
    let change = prop_oneof![(1u32..9).prop_map(Change::Pods), (1u32..=200).prop_map(Change::Percent)];
    let policies = prop::collection::vec((change, 1u32..120).prop_map(|(change, period)| policy(change, period)), 1..4);
    let select = prop_oneof![Just(Select::Most), Just(Select::Least), Just(Select::Nothing)];
    (0u32..600, policies, select).prop_map(|(window, policies, select)| Rules {
        window: window * SECOND,
        policies,
        select,
    })
}

proptest! {
    #[test]
    fn replicas_stay_in_bounds_and_move_only_beyond_the_tolerance(
        (up, down) in (rules(), rules()),
        (min, more) in (1u32..5, 0u32..40),
        target in 0.1..100.0f64,
        metrics in prop::collection::vec(0.0..5000.0f64, 1..80),
    ) {
        let settings = Settings { min, max: min + more, targets: vec![target], tolerance: 0.1, up, down };
        let (mut hpa, now) = (Hpa::new(settings.clone()), Instant::now());
        let mut replicas = min;
        for (look, metric) in (0..).zip(metrics) {
            let next = hpa.sync(&[metric], replicas, now + look * SYNC_PERIOD);
            prop_assert!((min..=min + more).contains(&next), "{next} of {min} to {}", min + more);
            let ratio = metric / (target * f64::from(replicas));
            if (ratio - 1.0).abs() < settings.tolerance - 0.01 {
                prop_assert_eq!(next, replicas, "at {} of the target", ratio);
            }
            replicas = next;
        }
    }
}
