//! Which of a connection's times is over when.

use super::*;

const PATIENCE: Patience =
    Patience { handshake: Duration::from_secs(10), idle: Duration::from_secs(300), stall: Duration::from_secs(60) };

/// The preface and empty settings.
const HANDSHAKE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// HEADERS that do not end.
const HALF_A_HEAD: &[u8] = b"\0\0\x01\x01\0\0\0\0\x01x";
/// Their end.
const ITS_END: &[u8] = b"\0\0\0\x09\x04\0\0\0\x01";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";

struct Play {
    start: Instant,
    activity: Activity,
}

impl Play {
    fn http2() -> Self {
        let start = Instant::now();
        Self { start, activity: Activity::of_http2(100, start) }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// The second after which it is closed, and what for.
    fn end(&self) -> Option<(u64, Reason)> {
        (0..1000).find_map(|second| Some((second, self.activity.overdue(&PATIENCE, self.at(second))?)))
    }
}

#[test]
fn a_handshake_must_end() {
    let mut play = Play::http2();
    assert_eq!(play.end(), Some((10, Reason::Handshake)));
    let (most, last) = HANDSHAKE.split_at(HANDSHAKE.len() - 1);
    assert!(play.activity.received(most, play.at(5)));
    assert_eq!(play.end(), Some((10, Reason::Handshake)));
    play.activity.received(last, play.at(9));
    assert_eq!(play.end(), Some((300, Reason::Idle)));
    assert_eq!(play.activity.standing(), Standing::HalfOpen);
}

#[test]
fn a_head_that_has_begun_must_end() {
    let mut play = Play::http2();
    play.activity.received(HANDSHAKE, play.at(0));
    play.activity.received(HALF_A_HEAD, play.at(20));
    assert_eq!(play.end(), Some((30, Reason::Handshake)));
    play.activity.received(ITS_END, play.at(25));
    assert_eq!(play.end(), Some((300, Reason::Idle)));
    // One after the other in the same read: the second has its own time.
    play.activity.received(HALF_A_HEAD, play.at(40));
    play.activity.received(&[ITS_END, HALF_A_HEAD].concat(), play.at(45));
    assert_eq!(play.end(), Some((55, Reason::Handshake)));
}

#[test]
fn http1_has_the_same_time_for_each_head() {
    let mut play = Play::http2();
    play.activity = Activity::of_http1(play.start);
    assert_eq!(play.end(), Some((10, Reason::Handshake)));
    play.activity.received(b"GET ", play.at(3));
    assert_eq!(play.end(), Some((10, Reason::Handshake)));
    let call = play.activity.begin(true);
    play.activity.received(b"GET ", play.at(4));
    assert_eq!(play.end(), None);
    play.activity.end(call, play.at(20));
    assert_eq!(play.end(), Some((320, Reason::Idle)));
    play.activity.received(b"G", play.at(100));
    assert_eq!(play.end(), Some((110, Reason::Handshake)));
}

#[test]
fn a_call_that_runs_may_run_as_long_as_it_is_read() {
    let mut play = Play::http2();
    play.activity.received(HANDSHAKE, play.at(0));
    let call = play.activity.begin(false);
    assert_eq!(play.activity.standing(), Standing::HalfOpen);
    play.activity.whole(call);
    assert_eq!(play.activity.standing(), Standing::Busy);
    play.activity.leave(play.at(0));
    assert_eq!(play.end(), None);
    assert!(!play.activity.outstays(play.at(1000)));

    play.activity.handed(call, Some(play.at(100)));
    assert_eq!(play.end(), Some((160, Reason::Stalled)));
    play.activity.handed(call, None);
    assert_eq!(play.end(), None);

    play.activity.writable(false, play.at(200));
    play.activity.writable(false, play.at(250));
    assert_eq!(play.end(), Some((260, Reason::Stalled)));
    play.activity.writable(true, play.at(255));
    assert_eq!(play.end(), None);

    play.activity.end(call, play.at(400));
    assert_eq!(play.activity.standing(), Standing::Idle);
    assert_eq!(play.end(), Some((700, Reason::Idle)));
    assert!(play.activity.outstays(play.at(400)));
}

#[test]
fn a_flood_is_seen_and_answers_allow_more() {
    let mut play = Play::http2();
    let now = play.at(0);
    assert!(play.activity.received(HANDSHAKE, now));
    let many = PING.repeat(99);
    assert!(play.activity.received(&many, now));
    assert!(!play.activity.received(PING, now));
    // Empty settings of ours, no answer; then an empty frame of data, four pings' worth.
    play.activity.sent(b"\0\0\0\x04\0\0\0\0\0");
    assert!(!play.activity.received(PING, now));
    play.activity.sent(b"\0\0\0\0\0\0\0\0\x01");
    assert!(play.activity.received(&PING.repeat(4), now));
    assert!(!play.activity.received(PING, now));
    assert!(play.activity.between_frames());
    play.activity.sent(b"\0\0");
    assert!(!play.activity.between_frames());
}
