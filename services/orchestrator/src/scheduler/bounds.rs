//! What waits, and who is let in: the queue is bounded in requests and in work, and no client can fill it for the others.
//!
//! A client may hold so much of a bound as it leaves free, three times over (dynamic thresholds: Choudhury and Hahne, IEEE/ACM
//! Transactions on Networking, 1998). One alone stops at three quarters, a second then at three quarters of what is left,
//! and as the queue moves on their parts grow alike; there is always room for one who comes new.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::refusal::{Bound, Full};
use super::work::duration;
use crate::clients::Identity;

/// So many times what is left free a client may hold.
const SHARE: f64 = 3.0;
/// A single request counts for this part of the bound at most: one that is larger than all of it must not shut out everybody.
const LARGEST: f64 = 0.25;
/// Nobody needs to try again sooner, or is sent away for longer.
const LEAST_RETRY: Duration = Duration::from_secs(1);
const MOST_RETRY: Duration = Duration::from_secs(60);

/// What one client has waiting.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    requests: usize,
    work: u64,
    /// Of the bound in work; less than `work` where requests are larger than what one may count for.
    counted: f64,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Waiting {
    limit: usize,
    /// Of which `limit` is a part that changes, where there are several queues.
    of: usize,
    all: Held,
    clients: HashMap<Identity, Held>,
    /// Work that was refused and told to come back, less what the fleet could have done since: those who come back find others
    /// like them, and are told times one after the other.
    outside: f64,
    outside_at: Option<Instant>,
}

impl Waiting {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, of: limit, all: Held::default(), clients: HashMap::new(), outside: 0.0, outside_at: None }
    }

    /// So many requests may wait now, as other queues hold some of all places. Those that wait do so in any case.
    pub(super) fn set_limit(&mut self, limit: usize, of: usize) {
        (self.limit, self.of) = (limit, of);
    }

    /// Requests without any slot.
    pub(super) fn requests(&self) -> usize {
        self.all.requests
    }

    /// Of all pictures without a slot.
    pub(super) fn work(&self) -> u64 {
        self.all.work
    }

    /// Whether a request of so much work may wait. `bound` is the work that may; `throughput` is what the fleet does in a second.
    ///
    /// # Errors
    /// [`Full`], and the request counts as one that will come back.
    pub(super) fn let_in(
        &mut self,
        identity: &Identity,
        work: u64,
        bound: f64,
        throughput: f64,
        now: Instant,
    ) -> Result<(), Full> {
        let own = self.clients.get(identity).copied().unwrap_or_default();
        let counted = (work as f64).min(LARGEST * bound);
        let seconds = |work: f64| work / throughput;
        let Held { requests, work: all_work, counted: all } = self.all;
        let (free_requests, free) = (self.limit.saturating_sub(requests), bound - all);
        let mean = all_work as f64 / requests.max(1) as f64;
        let (bound, excess) = if free_requests == 0 {
            match self.limit == self.of {
                true => (Bound::Requests { waiting: requests }, mean),
                false => (Bound::ModelRequests { waiting: requests, limit: self.of }, mean),
            }
        } else if own.requests > 0 && (own.requests + 1) as f64 > SHARE * (free_requests - 1) as f64 {
            (Bound::OwnRequests { own: own.requests, limit: self.of }, mean)
        } else if counted > free {
            (Bound::Work { waiting: seconds(all_work as f64), limit: seconds(bound) }, counted - free)
        } else if own.counted > 0.0 && own.counted + counted > SHARE * (free - counted) {
            let part = own.counted / all.max(f64::MIN_POSITIVE);
            let excess = (own.counted + counted - SHARE * (free - counted)) / (SHARE + part);
            (Bound::OwnWork { own: seconds(own.work as f64), limit: seconds(bound) }, excess)
        } else {
            return Ok(());
        };
        let passed = self.outside_at.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.outside = (self.outside - passed * throughput).max(0.0);
        let retry_after = duration(seconds(excess + self.outside)).clamp(LEAST_RETRY, MOST_RETRY);
        self.outside = (self.outside + counted).min(throughput * MOST_RETRY.as_secs_f64());
        Err(Full { bound, retry_after })
    }

    /// A request waits. `bound` as above.
    pub(super) fn add(&mut self, identity: &Identity, work: u64, bound: f64) {
        let counted = (work as f64).min(LARGEST * bound);
        for held in [&mut self.all, self.clients.entry(identity.clone()).or_default()] {
            held.requests += 1;
            held.work = held.work.saturating_add(work);
            held.counted += counted;
        }
    }

    /// So much of a client's work waits no longer, and with it one of its requests, if that has got its first slot or has gone.
    pub(super) fn take(&mut self, identity: &Identity, work: u64, request: bool) {
        let Some(own) = self.clients.get_mut(identity) else { return };
        let part = if own.work == 0 { 1.0 } else { work as f64 / own.work as f64 };
        let counted = if work >= own.work { own.counted } else { own.counted * part };
        for held in [&mut self.all, &mut *own] {
            held.requests -= usize::from(request);
            held.work = held.work.saturating_sub(work);
            held.counted = (held.counted - counted).max(0.0);
        }
        if own.requests == 0 && own.work == 0 {
            self.clients.remove(identity);
        }
        if self.clients.is_empty() {
            // What rounding left.
            self.all = Held::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bound of 100 units, of which the fleet does 10 in a second.
    const BOUND: f64 = 100.0;
    const THROUGHPUT: f64 = 10.0;

    fn try_to(waiting: &mut Waiting, name: &str, work: u64, now: Instant) -> Result<(), Full> {
        let identity: Identity = name.into();
        waiting.let_in(&identity, work, BOUND, THROUGHPUT, now)?;
        waiting.add(&identity, work, BOUND);
        Ok(())
    }

    /// Lets as much in as there is room for.
    fn fill(waiting: &mut Waiting, name: &str, work: u64, now: Instant) -> usize {
        (0..).take_while(|_| try_to(waiting, name, work, now).is_ok()).count()
    }

    #[test]
    fn one_client_leaves_room_for_the_next() {
        let (mut waiting, now) = (Waiting::new(1000), Instant::now());
        assert_eq!(fill(&mut waiting, "a", 1, now), 75);
        assert_eq!(fill(&mut waiting, "b", 1, now), 18);
        assert_eq!(fill(&mut waiting, "c", 1, now), 5);
        // As the queue moves on, their parts grow alike.
        for _ in 0..3000 {
            for name in ["a", "b", "c"] {
                let identity: Identity = name.into();
                if waiting.clients.contains_key(&identity) {
                    waiting.take(&identity, 1, true);
                }
                fill(&mut waiting, name, 1, now);
            }
        }
        let parts = ["a", "b", "c"].map(|name| waiting.clients[name].work);
        assert!(parts.iter().all(|part| (28..=32).contains(part)), "{parts:?}");
    }

    #[test]
    fn places_are_shared_in_the_same_way() {
        let (mut waiting, now) = (Waiting::new(8), Instant::now());
        assert_eq!(fill(&mut waiting, "a", 0, now), 6);
        let full = try_to(&mut waiting, "a", 0, now).unwrap_err();
        assert_eq!(
            full.to_string(),
            "6 requests of this client wait already; of this server's 8 places the rest is kept for other clients; try again in 1.0 s"
        );
        assert_eq!((fill(&mut waiting, "b", 0, now), fill(&mut waiting, "c", 0, now)), (1, 1));
        let full = try_to(&mut waiting, "d", 0, now).unwrap_err();
        assert!(full.to_string().starts_with("8 requests wait already, which is this server's limit"), "{full}");
        assert_eq!(Waiting::new(1).limit, fill(&mut Waiting::new(1), "a", 0, now));
    }

    #[test]
    fn a_request_larger_than_the_bound_does_not_shut_the_door() {
        let (mut waiting, now) = (Waiting::new(1000), Instant::now());
        try_to(&mut waiting, "a", 1_000_000, now).unwrap();
        assert_eq!(fill(&mut waiting, "b", 1, now), 56);
        waiting.take(&"a".into(), 500_000, true);
        waiting.take(&"a".into(), 500_000, false);
        assert_eq!((waiting.all.counted.round(), waiting.requests()), (56.0, 56));
    }

    #[test]
    fn those_sent_away_are_told_times_one_after_the_other() {
        let (mut waiting, now) = (Waiting::new(1000), Instant::now());
        fill(&mut waiting, "a", 25, now);
        let mut retry = |after| {
            let full = try_to(&mut waiting, "a", 25, now + Duration::from_secs(after)).unwrap_err();
            full.retry_after.as_secs_f64().round() as u64
        };
        // One was sent away while filling up.
        let told = [0, 0, 0].map(&mut retry);
        assert!(told.windows(2).all(|pair| pair[1] >= pair[0] + 2), "{told:?}");
        assert!(retry(600) <= 3, "they could all have come in");
        assert_eq!([0; 60].map(&mut retry)[59], 60);
    }
}
