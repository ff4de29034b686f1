//! Sends requests when they are due (open), or one after the other (closed), and waits for the last answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use darkroom_client::Error;
use darkroom_client::load::Arrivals;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, sleep_until, timeout_at};

use super::asking::Asking;
use super::flags::Shape;
use super::tally::{End, Tally};

/// A client of a closed load that failed does not come again at once.
const PAUSE: Duration = Duration::from_secs(1);
/// However long a server asks it to stay away.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const MINUTE: f64 = 60.0;

/// What a request's task ends with, or a client's.
type Asked = Result<(), Error>;

/// Runs the whole test. What is still under way at its end is cancelled.
///
/// # Errors
/// What every request would be refused for.
pub(super) async fn drive(asking: Arc<Asking>, tally: Arc<Tally>) -> Result<(), Error> {
    let load = &asking.flags().load;
    let (duration, grace) = (load.duration(), load.grace);
    let mut running = JoinSet::new();
    match load.rate {
        Some(rate) => open(rate / MINUTE, &asking, &tally, &mut running).await?,
        None => closed(&asking, &tally, &mut running),
    }
    // A closed load's clients send until then, and wait for their last answers.
    let sent = if load.rate.is_some() {
        Some(Instant::now())
    } else {
        duration.and_then(|long| tally.begun().checked_add(long))
    };
    let rest = async {
        while let Some(ended) = running.join_next().await {
            settled(ended)?;
        }
        Ok(())
    };
    match sent.and_then(|sent| sent.checked_add(grace)) {
        // Dropping the rest is cancelling it.
        Some(over) => timeout_at(over.into(), rest).await.unwrap_or(Ok(())),
        None => rest.await,
    }
}

/// Requests that do not wait for each other, `rate` a second.
async fn open(rate: f64, asking: &Arc<Asking>, tally: &Arc<Tally>, running: &mut JoinSet<Asked>) -> Result<(), Error> {
    let load = &asking.flags().load;
    let arrivals = match load.arrivals {
        Shape::Constant => Arrivals::constant(rate),
        Shape::Poisson => Arrivals::poisson(rate, asking.seed()),
    };
    let most = load.most_running as usize;
    let (duration, requests) = (load.duration().unwrap_or(Duration::MAX), load.requests.unwrap_or(u64::MAX));
    for (number, at) in (0..requests).zip(arrivals) {
        let Some(due) = tally.begun().checked_add(at).filter(|_| at < duration) else { break };
        wait(due, running).await?;
        if running.len() >= most {
            tally.unsent(due);
            continue;
        }
        let (asking, tally) = (Arc::clone(asking), Arc::clone(tally));
        running.spawn(async move { asking.ask(number, due, &tally).await.map(drop) });
    }
    // The last arrival may lie well before the end of the time.
    match tally.begun().checked_add(duration) {
        Some(end) if load.requests.is_none() => {
            wait(end, running).await?;
            tally.over(duration);
        }
        _ => {}
    }
    Ok(())
}

/// Until `due`, letting go of what ends meanwhile.
async fn wait(due: Instant, running: &mut JoinSet<Asked>) -> Result<(), Error> {
    let mut sleep = std::pin::pin!(sleep_until(due.into()));
    loop {
        tokio::select! {
            // A request that is due is sent before anything else is looked at.
            biased;
            () = &mut sleep => break,
            Some(ended) = running.join_next() => settled(ended)?,
        }
    }
    while let Some(ended) = running.try_join_next() {
        settled(ended)?;
    }
    Ok(())
}

/// Clients that each wait for their answer.
fn closed(asking: &Arc<Asking>, tally: &Arc<Tally>, running: &mut JoinSet<Asked>) {
    let numbers = Arc::new(AtomicU64::new(0));
    for _ in 0..asking.flags().load.most_at_once() {
        let (asking, tally, numbers) = (Arc::clone(asking), Arc::clone(tally), Arc::clone(&numbers));
        running.spawn(async move { ask_again_and_again(&asking, &tally, &numbers).await });
    }
}

async fn ask_again_and_again(asking: &Asking, tally: &Tally, numbers: &AtomicU64) -> Asked {
    let load = &asking.flags().load;
    let (duration, requests) = (load.duration().unwrap_or(Duration::MAX), load.requests.unwrap_or(u64::MAX));
    let over = |pause: Duration| tally.begun().elapsed().saturating_add(pause) >= duration;
    while !over(Duration::ZERO) {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        if number >= requests {
            break;
        }
        let pause = match asking.ask(number, Instant::now(), tally).await? {
            End::Completed(_) => continue,
            End::Refused(_, delay) => delay.unwrap_or(PAUSE).min(LONGEST_PAUSE),
            End::Failed(_) => PAUSE,
        };
        if over(pause) {
            break;
        }
        sleep(pause).await;
    }
    Ok(())
}

/// A task that panicked is a mistake of this program's; its request counts as cut.
fn settled(ended: Result<Asked, JoinError>) -> Asked {
    ended.unwrap_or(Ok(()))
}
