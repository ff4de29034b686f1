//! A running service and how it ends: not ready, nothing new, finish what runs, stop.

use std::net::SocketAddr;
use std::time::Duration;

use metrics::Gauge;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Metrics, Readiness};

/// Time that calls get to say how they end, and connections to fall apart after they were cut.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// The moments of an end, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// The gRPC port closes; calls on open connections finish.
    pub(crate) accepting: CancellationToken,
    /// The HTTP port closes: it answers probes and scrapes until the last call is done.
    pub(crate) http: CancellationToken,
    /// The grace period is over: calls end with UNAVAILABLE.
    pub(crate) overtime: CancellationToken,
    /// Whatever is left is cut off.
    pub(crate) cut: CancellationToken,
}

impl Stop {
    fn now(&self) {
        self.accepting.cancel();
        self.http.cancel();
        self.overtime.cancel();
        self.cut.cancel();
    }
}

/// How often a drain says how long it has lasted.
const TELL: Duration = Duration::from_millis(500);

/// How long a drain may last, and what the metrics say of it.
#[derive(Debug)]
pub(crate) struct Drain {
    grace: Duration,
    lasted: Gauge,
}

impl Drain {
    pub(crate) fn new(grace: Duration, metrics: &Metrics) -> Self {
        let help = "Seconds that running calls get to finish once the service is told to leave";
        metrics.gauge("drain_grace_seconds", help, &[]).set(grace.as_secs_f64());
        let help = "How long ago the service was told to leave; 0 while it was not";
        Self { grace, lasted: metrics.gauge("drain_seconds", help, &[]) }
    }

    /// Says again and again how long it has lasted.
    async fn tell(lasted: Gauge) {
        let since = Instant::now();
        loop {
            sleep(TELL).await;
            lasted.set(since.elapsed().as_secs_f64());
        }
    }
}

/// A running service. Dropping it stops the service at once and cuts its calls; [`ServiceHandle::drain`] lets them finish.
#[derive(Debug)]
pub struct ServiceHandle {
    /// Where gRPC listens, with the port that was taken.
    pub grpc_addr: SocketAddr,
    /// Where HTTP listens, with the port that was taken.
    pub http_addr: SocketAddr,
    readiness: Readiness,
    stop: Stop,
    drain: Drain,
    grpc: JoinHandle<()>,
    http: JoinHandle<()>,
}

impl ServiceHandle {
    pub(crate) fn new(
        grpc_addr: SocketAddr,
        http_addr: SocketAddr,
        readiness: Readiness,
        stop: Stop,
        drain: Drain,
        grpc: JoinHandle<()>,
        http: JoinHandle<()>,
    ) -> Self {
        Self { grpc_addr, http_addr, readiness, stop, drain, grpc, http }
    }

    /// Waits until the service takes calls.
    ///
    /// # Errors
    /// Why it never will, such as the loader's message.
    pub async fn ready(&self) -> anyhow::Result<()> {
        self.readiness.ready().await
    }

    /// The service's latch.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Turns readiness off, closes the port, lets running calls finish within the grace period, ends the others with
    /// UNAVAILABLE, and stops. A call that did not finish in time is no failure of the service.
    ///
    /// # Errors
    /// When a port's task failed.
    pub async fn drain(mut self) -> anyhow::Result<()> {
        self.readiness.drain();
        self.stop.accepting.cancel();
        let lasted = self.drain.lasted.clone();
        let told = self.stop.cut.clone();
        tokio::spawn(async move { told.run_until_cancelled(Drain::tell(lasted)).await });
        let mut finished = timeout(self.drain.grace, &mut self.grpc).await;
        if finished.is_err() {
            let seconds = self.drain.grace.as_secs();
            tracing::warn!("calls still run after drain_grace_seconds = {seconds}; they end with UNAVAILABLE");
            self.stop.overtime.cancel();
            finished = timeout(CUT_GRACE, &mut self.grpc).await;
        }
        self.stop.now();
        if finished.is_err() {
            finished = timeout(CUT_GRACE, &mut self.grpc).await;
        }
        // A scrape that hangs holds nobody up, and neither does a connection that does not end.
        _ = timeout(CUT_GRACE, &mut self.http).await;
        Ok(finished.unwrap_or(Ok(()))?)
    }
}

impl Drop for ServiceHandle {
    fn drop(&mut self) {
        self.readiness.drain();
        self.stop.now();
    }
}
