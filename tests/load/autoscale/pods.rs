//! Pods that start and leave as a cluster lets them: when, which first, and what they cost.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What a cluster takes its time for, in seconds from and to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delays {
    /// From the decision to the first ready answer: scheduling, start, weights, warm-up.
    pub start: (f64, f64),
    /// On a node that has to be made first: that, and the image.
    pub cold_node: (f64, f64),
    /// Nodes, a pod each, that are there whatever happens.
    pub warm_nodes: u32,
    /// A node that nobody is on goes after so long.
    pub idle_node: Duration,
    /// Until the orchestrator has found a new pod: it looks names up every 5 s, and at a worker every second.
    pub found: (f64, f64),
    /// From the decision to SIGTERM.
    pub stop: (f64, f64),
}

impl Delays {
    /// Weights of v1 from a node's disk, and a node for everybody.
    pub const WARM: Self = Self {
        start: (20.0, 60.0),
        cold_node: (120.0, 240.0),
        warm_nodes: u32::MAX,
        // The cluster autoscaler's `scale-down-unneeded-time`.
        idle_node: Duration::from_secs(600),
        found: (0.0, 6.0),
        stop: (0.5, 2.0),
    };

    /// The same with two nodes; more are made when they are needed.
    pub const COLD: Self = Self { warm_nodes: 2, ..Self::WARM };
}

/// A pod by its number: later ones are greater.
pub type PodId = u64;

#[derive(Debug)]
struct Pod {
    id: PodId,
    created: Instant,
    /// It takes work.
    ready: Option<Instant>,
}

/// All pods that were not told to leave, and the cost of all.
#[derive(Debug)]
pub struct Pods {
    delays: Delays,
    rng: StdRng,
    alive: Vec<Pod>,
    /// Nodes that a pod has left, and when.
    idle: Vec<Instant>,
    next: PodId,
    /// Seconds of all pods that are gone.
    spent: f64,
}

/// A pod that was told to leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leaving {
    /// Which.
    pub id: PodId,
    /// It had taken work.
    pub was_ready: bool,
    /// When it hears of it.
    pub told: Instant,
    created: Instant,
}

impl Pods {
    /// None yet.
    #[must_use]
    pub fn new(delays: Delays, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ 0x0070_0d50);
        Self { delays, rng, alive: Vec::new(), idle: Vec::new(), next: 0, spent: 0.0 }
    }

    /// Those that were asked for and not told to leave.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.alive.len() as u32
    }

    /// Another one: when it is ready and found.
    pub fn start(&mut self, now: Instant) -> (PodId, Instant) {
        let (id, node) = (self.next, self.node(now));
        self.next += 1;
        self.alive.push(Pod { id, created: now, ready: None });
        let Delays { start, found, .. } = self.delays;
        (id, now + node + self.draw(start) + self.draw(found))
    }

    /// It is ready, unless it was told to leave meanwhile.
    pub fn ready(&mut self, id: PodId, now: Instant) -> bool {
        let pod = self.alive.iter_mut().find(|pod| pod.id == id);
        pod.map(|pod| pod.ready = Some(now)).is_some()
    }

    /// One is told to leave: one that is not ready, else the one that became so last, as a ReplicaSet ranks them
    /// (`ActivePodsWithRanks` in kubernetes/kubernetes' `pkg/controller/controller_utils.go`).
    pub fn stop(&mut self, now: Instant) -> Option<Leaving> {
        let rank = |pod: &&Pod| (pod.ready.is_none(), pod.ready, pod.created, pod.id);
        let chosen = self.alive.iter().max_by_key(rank)?.id;
        let at = self.alive.iter().position(|pod| pod.id == chosen)?;
        let Pod { id, created, ready } = self.alive.remove(at);
        let told = now + self.draw(self.delays.stop);
        Some(Leaving { id, was_ready: ready.is_some(), told, created })
    }

    /// One that was told to leave is gone.
    pub fn gone(&mut self, leaving: &Leaving, now: Instant) {
        self.spent += (now - leaving.created).as_secs_f64();
        self.idle.push(now);
    }

    /// Seconds of all pods so far.
    #[must_use]
    pub fn spent(&self, now: Instant) -> f64 {
        self.spent + self.alive.iter().map(|pod| (now - pod.created).as_secs_f64()).sum::<f64>()
    }

    /// How long the next pod waits for its node.
    fn node(&mut self, now: Instant) -> Duration {
        let Delays { warm_nodes, idle_node, cold_node, .. } = self.delays;
        self.idle.retain(|since| now - *since < idle_node);
        // Whoever is not on a warm node is on one that was made; of those, some wait for their next pod.
        if self.count() < warm_nodes || self.idle.pop().is_some() { Duration::ZERO } else { self.draw(cold_node) }
    }

    fn draw(&mut self, (from, to): (f64, f64)) -> Duration {
        Duration::from_secs_f64(from + (to - from) * self.rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn delays() -> Delays {
        Delays {
            start: (10.0, 10.0),
            cold_node: (100.0, 100.0),
            warm_nodes: 1,
            idle_node: 600 * SECOND,
            found: (1.0, 1.0),
            stop: (2.0, 2.0),
        }
    }

    #[test]
    fn a_pod_beyond_the_warm_nodes_waits_for_its_own_until_one_is_left_over() {
        let (mut pods, now) = (Pods::new(delays(), 1), Instant::now());
        assert_eq!(pods.start(now).1, now + 11 * SECOND);
        let (second, ready) = pods.start(now);
        assert_eq!(ready, now + 111 * SECOND);
        assert!(pods.ready(second, ready));
        let leaving = pods.stop(now + 200 * SECOND).unwrap();
        pods.gone(&leaving, now + 210 * SECOND);
        assert_eq!(pods.start(now + 300 * SECOND).1, now + 311 * SECOND, "its node is still there");
        assert_eq!(pods.start(now + 300 * SECOND).1, now + 411 * SECOND);
    }

    #[test]
    fn who_is_not_ready_leaves_first_and_then_who_became_so_last() {
        let (mut pods, now) = (Pods::new(delays(), 1), Instant::now());
        let ids: Vec<PodId> = (0..3).map(|_| pods.start(now).0).collect();
        assert!(pods.ready(ids[1], now + SECOND) && pods.ready(ids[0], now + 2 * SECOND));
        let left: Vec<_> = (0..3).map(|_| pods.stop(now + 3 * SECOND).unwrap()).collect();
        assert_eq!(left.iter().map(|one| one.id).collect::<Vec<_>>(), [ids[2], ids[0], ids[1]]);
        assert_eq!(left.iter().map(|one| one.was_ready).collect::<Vec<_>>(), [false, true, true]);
        assert!(!pods.ready(ids[2], now + 4 * SECOND), "it is not awaited any more");
        for one in &left {
            pods.gone(one, one.told);
        }
        assert_eq!((pods.count(), pods.spent(now + 100 * SECOND)), (0, 15.0));
    }
}
