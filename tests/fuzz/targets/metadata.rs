//! A call's metadata of any bytes: its timeout is read as the protocol says, and its key stands for one client, or is refused.
#![no_main]

use std::str;
use std::time::{Duration, Instant};

use darkroom_orchestrator::fuzzing::Callers;
use darkroom_service_kit::deadline;
use libfuzzer_sys::fuzz_target;
use tonic::Code;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

const MAX_KEY: usize = 256;

fuzz_target!(|input: &[u8]| {
    let Some((way, rest)) = fuzzing::way_in(input, 3) else { return };
    if way == 0 {
        return check_timeout(rest);
    }
    // Two headers, each absent when it begins with a minus, and perhaps a clients file.
    let mut lines = rest.splitn(3, |byte| *byte == b'\n');
    let mut metadata = MetadataMap::new();
    for name in ["x-api-key", "authorization"] {
        let line = lines.next().filter(|line| !line.starts_with(b"-"));
        if let Some(value) = line.and_then(|line| AsciiMetadataValue::try_from(line).ok()) {
            metadata.insert(name, value);
        }
    }
    let file = lines.next().filter(|_| way == 2).unwrap_or_default();
    let Ok(file) = str::from_utf8(file) else { return };
    check_key(&metadata, (way == 2).then_some(file));
});

fn check_key(metadata: &MetadataMap, file: Option<&str>) {
    let callers = match Callers::new(file) {
        Ok(callers) => callers,
        Err(message) => {
            // An operator's own file: shown at any length.
            assert!(file.is_some() && !message.is_empty());
            return;
        }
    };
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    let key = match (text("x-api-key"), text("authorization")) {
        (Some(key), _) => Some(key),
        (None, value) => value.and_then(|value| value.strip_prefix("Bearer ")),
    };
    match callers.of(metadata) {
        Ok(caller) => {
            let expected = match (key, file) {
                (None, _) => "nobody".to_owned(),
                // One key is one caller, whichever header it comes in.
                (Some(key), None) => {
                    let mut again = MetadataMap::new();
                    again.insert("x-api-key", key.parse().expect("a key that was taken"));
                    callers.of(&again).expect("the same key").identity
                }
                (Some(_), Some(_)) => {
                    caller.identity.strip_prefix("client ").map(|name| format!("client {name}")).expect("a name")
                }
            };
            assert_eq!(caller.identity, expected);
            assert!(caller.identity.len() <= MAX_KEY + "client ".len());
            assert!((0.01..=1000.0).contains(&caller.weight));
        }
        Err(status) => {
            assert!(!metadata.is_empty());
            assert_eq!(status.code(), Code::Unauthenticated);
            fuzzing::check_message(": ", status.message());
        }
    }
}

fn check_timeout(header: &[u8]) {
    let Ok(value) = AsciiMetadataValue::try_from(header) else { return };
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-timeout", value);
    let before = Instant::now();
    let found = deadline::deadline(&metadata).map(|at| at.saturating_duration_since(before));
    // gRPC over HTTP/2, "Requests": one to eight digits and a unit.
    let expected = header.split_last().and_then(|(unit, digits)| {
        let nanoseconds: u128 = match unit {
            b'H' => 3_600_000_000_000,
            b'M' => 60_000_000_000,
            b'S' => 1_000_000_000,
            b'm' => 1_000_000,
            b'u' => 1000,
            b'n' => 1,
            _ => return None,
        };
        if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(digits.iter().fold(0, |value, digit| value * 10 + u128::from(digit - b'0')) * nanoseconds)
    });
    match (found, expected) {
        (None, None) => {}
        (Some(found), Some(expected)) => {
            // A little before the call's own end, and never behind it but for the time that this check took.
            let late = found.as_nanos().saturating_sub(expected);
            let early = expected.saturating_sub(found.as_nanos());
            assert!(late <= before.elapsed().as_nanos(), "{found:?} for {expected} ns");
            assert!(early <= Duration::from_millis(20).as_nanos(), "{found:?} for {expected} ns");
        }
        different => panic!("{different:?} of {:?}", String::from_utf8_lossy(header)),
    }
}
