//! Whole runs: open, where arrivals come when they are due, and closed, where each client waits for its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::target::Target;
use crate::load::arrivals::Arrival;
use crate::load::outcome::Outcome;

/// Until the first arrival, so that it is not late already.
const LEAD: Duration = Duration::from_millis(50);

/// Sends each request when it is due and waits for all ends, `grace` beyond the last arrival at most, or until `until` has passed where
/// that is later.
///
/// # Errors
/// When a task panics.
pub async fn open(
    target: &Target,
    trace: Vec<Arrival>,
    until: Duration,
    grace: Duration,
) -> anyhow::Result<Vec<Outcome>> {
    let begun = Instant::now() + LEAD;
    let last = trace.last().map_or(Duration::ZERO, |arrival| arrival.at);
    let over = begun + until.max(last) + grace;
    let (target, runtime) = (target.clone(), Handle::current());
    // The runtime's timers tick in milliseconds. A thread sleeps more exactly, and is not behind any task in a line.
    let sending = std::thread::spawn(move || {
        let _entered = runtime.enter();
        let mut asking = JoinSet::new();
        for (number, arrival) in trace.into_iter().enumerate() {
            std::thread::sleep((begun + arrival.at).saturating_duration_since(Instant::now()));
            let target = target.clone();
            asking.spawn(async move { target.ask(number as u64, arrival, begun, Some(over)).await });
        }
        asking
    });
    let sent = tokio::task::spawn_blocking(move || sending.join());
    let mut asking = sent.await?.ok().context("the sending thread failed")?;
    let mut outcomes = Vec::with_capacity(asking.len());
    while let Some(outcome) = asking.join_next().await {
        outcomes.push(outcome?);
    }
    Ok(outcomes)
}

/// `clients` ask again as soon as they have an answer, for `seconds`. Each request is as `like`, and due when it is sent.
///
/// # Errors
/// When a task panics.
pub async fn closed(target: &Target, clients: usize, like: Arrival, seconds: Duration) -> anyhow::Result<Vec<Outcome>> {
    let begun = Instant::now();
    let numbers = Arc::new(AtomicU64::new(0));
    let mut asking = JoinSet::new();
    for _ in 0..clients {
        let (target, numbers) = (target.clone(), Arc::clone(&numbers));
        asking.spawn(async move {
            let mut outcomes = Vec::new();
            while begun.elapsed() < seconds {
                let arrival = Arrival { at: begun.elapsed(), ..like };
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                outcomes.push(target.ask(number, arrival, begun, None).await);
            }
            outcomes
        });
    }
    let mut outcomes = Vec::new();
    while let Some(some) = asking.join_next().await {
        outcomes.append(&mut some?);
    }
    Ok(outcomes)
}
