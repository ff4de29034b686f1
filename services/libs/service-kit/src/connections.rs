//! The connections of one port: how many there may be, what each may leave undone, and which one goes when places are short.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{Metrics, ServerConfig};
use activity::{Activity, Patience};
use origin::Origin;
use table::{Entry, Standing, Table};

pub(crate) use activity::Reason;
pub(crate) use line::{Call, Line, RequestEnd};
pub(crate) use socket::Socket;

mod activity;
mod flood;
mod frames;
mod line;
pub(crate) mod origin;
mod socket;
mod table;

/// Each connection is looked at this often, or four times within their shortest time.
const WATCH: Duration = Duration::from_secs(1);
/// Not all at once: thousands that came together would end together, and come back together, and nobody else had a turn meanwhile.
const WATCHES: u32 = 16;

/// When the connections of a port end, all together.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    /// They take no further call.
    pub(crate) leave: CancellationToken,
    /// They end now.
    pub(crate) cut: CancellationToken,
}

/// What the port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// The connections that are open on one port.
pub(crate) struct Connections {
    port: &'static str,
    protocol: Protocol,
    patience: Patience,
    control_frames: u32,
    seats: Mutex<Seats>,
    ends: Ends,
    open: Gauge,
    closed: Vec<(Reason, Counter)>,
}

struct Seats {
    table: Table,
    lines: HashMap<u64, Weak<Line>>,
    next: u64,
}

impl Connections {
    /// `port` names them in metrics.
    pub(crate) fn new(
        port: &'static str,
        protocol: Protocol,
        config: &ServerConfig,
        metrics: &Metrics,
        ends: Ends,
    ) -> Arc<Self> {
        let share = origin::share(config.max_connections, config.max_address_percent);
        let closed = |reason: Reason| {
            let labels = [("port", port), ("reason", reason.name())];
            (reason, metrics.counter("connections_closed_total", "Connections that a limit closed", &labels))
        };
        Arc::new(Self {
            port,
            protocol,
            patience: Patience {
                handshake: Duration::from_secs(config.handshake_seconds),
                idle: Duration::from_secs(config.idle_seconds),
                stall: Duration::from_secs(config.send_stall_seconds),
            },
            control_frames: config.max_control_frames,
            seats: Mutex::new(Seats {
                table: Table::new(config.max_connections, share),
                lines: HashMap::new(),
                next: 0,
            }),
            ends,
            open: metrics.gauge("connections", "Connections open now", &[("port", port)]),
            closed: Reason::ALL.map(closed).into(),
        })
    }

    /// Gives an accepted connection a place, if need be another one's. `None` when it gets none and is closed.
    pub(crate) fn enter(self: &Arc<Self>, stream: TcpStream, addr: SocketAddr) -> Option<Socket> {
        Some(Socket::new(stream, self.seat(addr)?))
    }

    /// A place for a connection from `addr`.
    pub(crate) fn seat(self: &Arc<Self>, addr: SocketAddr) -> Option<Arc<Line>> {
        let now = Instant::now();
        let (line, victim) = {
            let mut seats = self.seats();
            seats.next += 1;
            let id = seats.next;
            let victim = match seats.table.enter(id, Origin::of(addr), now) {
                Entry::Free => None,
                Entry::Displaced { victim, at_once } => Some((seats.line(victim), at_once)),
                Entry::Refused => {
                    drop(seats);
                    self.count(Reason::Refused);
                    return None;
                }
            };
            let activity = match self.protocol {
                Protocol::Http1 => Activity::of_http1(now),
                Protocol::Http2 => Activity::of_http2(self.control_frames, now),
            };
            let line = Line::new(id, addr, activity, self.clone(), &self.ends);
            seats.lines.insert(id, Arc::downgrade(&line));
            (line, victim)
        };
        if let Some((Some(victim), at_once)) = victim {
            victim.displaced(at_once);
        }
        Some(line)
    }

    /// Closes whoever is worth least: there are no files for another one. False when all are busy.
    pub(crate) fn shed(&self) -> bool {
        let victim = {
            let mut seats = self.seats();
            let victim = seats.table.shed();
            victim.and_then(|victim| seats.line(victim))
        };
        if let Some(victim) = &victim {
            victim.displaced(false);
        }
        victim.is_some()
    }

    /// How many there are.
    pub(crate) fn held(&self) -> usize {
        self.seats().lines.len()
    }

    /// Closes connections whose times are over, until all are cut.
    pub(crate) async fn watch(self: Arc<Self>) {
        let Patience { handshake, idle, stall } = self.patience;
        let every = WATCH.min(handshake.min(idle).min(stall) / 4) / WATCHES;
        let (mut turn, mut skipped) = (0, 0);
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        while self.ends.cut.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = Instant::now();
            let late = now.saturating_duration_since(last) > every + WATCH;
            last = now;
            // This process stood still, and the connections have not had their turn since: a round goes by.
            if late {
                skipped = WATCHES;
            }
            if skipped > 0 {
                skipped -= 1;
                continue;
            }
            turn = (turn + 1) % u64::from(WATCHES);
            // Not under the lock: who is the last to hold a line gives its place back.
            let due = self.seats().lines_where(|id| id % u64::from(WATCHES) == turn);
            for line in due {
                line.watch(&self.patience, now);
            }
        }
    }

    /// Counts an end.
    pub(crate) fn count(&self, reason: Reason) {
        for (_, counter) in self.closed.iter().filter(|(of, _)| *of == reason) {
            counter.increment(1);
        }
    }

    fn settle(&self, id: u64, standing: Standing) {
        self.seats().table.settle(id, standing, Instant::now());
    }

    fn leave(&self, id: u64) {
        let mut seats = self.seats();
        seats.table.leave(id);
        seats.lines.remove(&id);
        drop(seats);
        self.open.decrement(1.0);
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn lines_where(&self, wanted: impl Fn(u64) -> bool) -> Vec<Arc<Line>> {
        self.lines.iter().filter(|(id, _)| wanted(**id)).filter_map(|(_, line)| line.upgrade()).collect()
    }

    fn line(&self, id: u64) -> Option<Arc<Line>> {
        self.lines.get(&id).and_then(Weak::upgrade)
    }
}
