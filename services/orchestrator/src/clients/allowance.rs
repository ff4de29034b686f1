//! How much a client may ask for: calls a minute, requests at once, pictures a day. A plain struct that is told the time.
//!
//! It lives in memory: each orchestrator counts for itself, and one that starts again begins anew.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Client, Identity};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: u64 = 86_400;
/// A request that runs ends when it ends: this is a guess at when to look again.
const SOON: Duration = Duration::from_secs(1);

/// What the clients file allows one client; `None` is without bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Calls of Generate, refused ones and joins too. As many may come at once as in a minute.
    pub(crate) requests_per_minute: Option<u32>,
    /// Requests that wait or run.
    pub(crate) max_running: Option<u32>,
    /// Pictures from midnight to midnight, UTC. Those that were not made count for nothing.
    pub(crate) images_per_day: Option<u32>,
}

/// A limit is reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{limit}: {message}")]
pub(crate) struct Over {
    /// Which one, as in the file.
    pub(crate) limit: &'static str,
    pub(crate) message: String,
    /// When to try again; `None` where that is in vain.
    pub(crate) retry_after: Option<Duration>,
}

/// All who have limits, and what they have had.
#[derive(Debug, Default)]
pub(super) struct Usage(HashMap<Identity, Account>);

#[derive(Debug, Default)]
struct Account {
    /// When the calls so far are paid for, at the pace of the limit.
    paid: Option<Instant>,
    running: u32,
    /// Since the epoch.
    day: u64,
    images: u32,
}

impl Usage {
    /// Another call.
    ///
    /// # Errors
    /// [`Over`], and then the call counts for nothing.
    pub(super) fn call(&mut self, client: &Client, now: Instant) -> Result<(), Over> {
        let Some(limit) = client.limits.requests_per_minute else { return Ok(()) };
        let account = self.account(client, now);
        // The generic cell rate algorithm (ITU-T I.371): each call costs its part of a minute, and a minute may be owed.
        let paid = account.paid.map_or(now, |paid| paid.max(now)) + MINUTE / limit;
        let owed = paid.saturating_duration_since(now);
        if owed > MINUTE {
            return Err(Over {
                limit: "requests_per_minute",
                message: format!("this key may call {limit} times a minute"),
                retry_after: Some(owed - MINUTE),
            });
        }
        account.paid = Some(paid);
        Ok(())
    }

    /// A new request for `images`, at `unix` seconds since the epoch. Says whether it is counted: then it must
    /// [leave](Self::leave) in the end, whatever the file says of its client by then.
    ///
    /// # Errors
    /// [`Over`], and then nothing is counted.
    pub(super) fn enter(&mut self, client: &Client, images: u32, now: Instant, unix: u64) -> Result<bool, Over> {
        let Limits { max_running, images_per_day, .. } = client.limits;
        if max_running.is_none() && images_per_day.is_none() {
            return Ok(false);
        }
        let account = self.account(client, now);
        if account.day != unix / DAY {
            (account.day, account.images) = (unix / DAY, 0);
        }
        if let Some(limit) = max_running.filter(|limit| account.running >= *limit) {
            return Err(Over {
                limit: "max_running",
                message: format!("this key may have {limit} requests at once, and {} wait or run", account.running),
                retry_after: Some(SOON),
            });
        }
        if let Some(limit) = images_per_day.filter(|limit| account.images.saturating_add(images) > *limit) {
            let left = limit.saturating_sub(account.images);
            return Err(Over {
                limit: "images_per_day",
                message: format!(
                    "this request asks for {images} pictures; this key may have {limit} a day, and {left} are left"
                ),
                retry_after: (images <= limit).then(|| Duration::from_secs(DAY - unix % DAY)),
            });
        }
        account.running += 1;
        account.images = account.images.saturating_add(images);
        Ok(true)
    }

    /// A counted request that entered at `unix` is over; `unmade` of its pictures were not made.
    pub(super) fn leave(&mut self, identity: &Identity, unmade: u32, unix: u64) {
        let Some(account) = self.0.get_mut(identity) else { return };
        account.running = account.running.saturating_sub(1);
        if account.day == unix / DAY {
            account.images = account.images.saturating_sub(unmade);
        }
    }

    /// Accounts with nothing in them go when another is opened: files change, and clients with them.
    fn account(&mut self, client: &Client, now: Instant) -> &mut Account {
        if !self.0.contains_key(&client.identity) {
            self.0.retain(|_, account| {
                account.running > 0 || account.images > 0 || account.paid.is_some_and(|paid| paid > now)
            });
        }
        self.0.entry(client.identity.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 20_000 * DAY + DAY / 2;

    fn client(limits: Limits) -> Client {
        Client { limits, ..Client::named("client a") }
    }

    #[test]
    fn calls_a_minute_may_come_at_once_and_then_at_their_pace() {
        let client = client(Limits { requests_per_minute: Some(6), ..Limits::default() });
        let (mut usage, start) = (Usage::default(), Instant::now());
        let mut at =
            |seconds| usage.call(&client, start + Duration::from_secs(seconds)).map_err(|over| over.retry_after);
        assert_eq!([0; 6].map(&mut at), [Ok(()); 6]);
        assert_eq!(at(0), Err(Some(Duration::from_secs(10))));
        assert_eq!(at(4), Err(Some(Duration::from_secs(6))));
        assert_eq!((at(10), at(10)), (Ok(()), Err(Some(Duration::from_secs(10)))));
        // An hour saves up no more than a minute.
        assert_eq!([3600; 7].map(&mut at).iter().filter(|call| call.is_ok()).count(), 6);
    }

    #[test]
    fn requests_at_once_are_counted_until_they_leave() {
        let client = client(Limits { max_running: Some(2), ..Limits::default() });
        let (mut usage, now) = (Usage::default(), Instant::now());
        usage.enter(&client, 1, now, NOON).unwrap();
        usage.enter(&client, 1, now, NOON).unwrap();
        let over = usage.enter(&client, 1, now, NOON).unwrap_err();
        assert_eq!(over.to_string(), "max_running: this key may have 2 requests at once, and 2 wait or run");
        usage.leave(&client.identity, 1, NOON);
        usage.enter(&client, 1, now, NOON).unwrap();
    }

    #[test]
    fn pictures_a_day_come_back_when_they_were_not_made_and_at_midnight() {
        let client = client(Limits { images_per_day: Some(5), ..Limits::default() });
        let (mut usage, now) = (Usage::default(), Instant::now());
        usage.enter(&client, 4, now, NOON).unwrap();
        let over = usage.enter(&client, 2, now, NOON).unwrap_err();
        assert!(over.message.contains("may have 5 a day, and 1 are left"), "{over}");
        assert_eq!(over.retry_after, Some(Duration::from_secs(DAY / 2)));
        assert_eq!(usage.enter(&client, 6, now, NOON).unwrap_err().retry_after, None, "it never fits");
        usage.leave(&client.identity, 1, NOON);
        usage.enter(&client, 2, now, NOON).unwrap();
        assert!(usage.enter(&client, 1, now, NOON).is_err());
        // Yesterday's request gives nothing back today.
        usage.enter(&client, 5, now, NOON + DAY).unwrap();
        usage.leave(&client.identity, 2, NOON);
        assert!(usage.enter(&client, 1, now, NOON + DAY).is_err());
    }

    #[test]
    fn who_has_no_limits_has_no_account_and_empty_ones_go() {
        let (mut usage, now) = (Usage::default(), Instant::now());
        let free = client(Limits::default());
        usage.call(&free, now).unwrap();
        assert!(!usage.enter(&free, u32::MAX, now, NOON).unwrap());
        assert!(usage.0.is_empty());
        let limits = Limits { requests_per_minute: Some(60), ..Limits::default() };
        for index in 0..100 {
            let one = Client { limits, ..Client::named(&format!("client {index}")) };
            usage.call(&one, now + Duration::from_secs(60 * index)).unwrap();
        }
        assert_eq!(usage.0.len(), 1);
    }
}
