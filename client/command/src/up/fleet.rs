//! All children together: started, awaited, drained in order.

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::service::Service;
use crate::up::plan::Process;
use crate::up::probe;
use crate::up::worker::{self, End, Order};

/// The running processes. Dropping it kills them.
pub(crate) struct Fleet {
    probes: Vec<std::net::SocketAddr>,
    orchestrator: Group,
    stages: Group,
}

/// Processes that are stopped together.
struct Group {
    orders: watch::Sender<Order>,
    running: JoinSet<End>,
}

impl Fleet {
    /// Starts all processes of the plan.
    pub(crate) fn start(plan: &[Process]) -> Result<Self, Failure> {
        let mut fleet = Self {
            probes: plan.iter().map(|process| process.http).collect(),
            orchestrator: Group::new(),
            stages: Group::new(),
        };
        for process in plan {
            let group =
                if process.service == Service::Orchestrator { &mut fleet.orchestrator } else { &mut fleet.stages };
            group.start(process)?;
        }
        Ok(fleet)
    }

    /// Waits until every process is ready, or one has ended.
    pub(crate) async fn ready(&mut self) -> Result<(), End> {
        let probes = self.probes.clone();
        let all_ready = async {
            for address in probes {
                probe::ready(address).await;
            }
        };
        tokio::select! {
            ended = self.first_end() => Err(ended),
            () = all_ready => Ok(()),
        }
    }

    /// Waits for the end of any process.
    pub(crate) async fn first_end(&mut self) -> End {
        tokio::select! {
            ended = self.orchestrator.next_end() => ended,
            ended = self.stages.next_end() => ended,
        }
    }

    /// Lets the orchestrator finish what runs, which needs the stages, then stops the stages. Gives a bad end, if there was one.
    pub(crate) async fn drain(&mut self) -> Result<(), End> {
        let orchestrator = self.orchestrator.drain().await;
        let stages = self.stages.drain().await;
        orchestrator.and(stages)
    }

    /// Stops all at once.
    pub(crate) async fn kill(&mut self) {
        for group in [&mut self.orchestrator, &mut self.stages] {
            group.orders.send_replace(Order::Kill);
            while group.running.join_next().await.is_some() {}
        }
    }
}

impl Group {
    fn new() -> Self {
        Self { orders: watch::Sender::new(Order::Run), running: JoinSet::new() }
    }

    fn start(&mut self, process: &Process) -> anyhow::Result<()> {
        let child = worker::spawn(process)?;
        self.running.spawn(worker::supervise(process.name.clone(), child, self.orders.subscribe()));
        Ok(())
    }

    /// Never resolves once all have ended: there is no further end to wait for.
    async fn next_end(&mut self) -> End {
        match self.running.join_next().await {
            Some(Ok(end)) => end,
            Some(Err(error)) => End { name: "supervision of a service".into(), outcome: Err(error.into()) },
            None => std::future::pending().await,
        }
    }

    async fn drain(&mut self) -> Result<(), End> {
        self.orders.send_replace(Order::Drain);
        let mut outcome = Ok(());
        while !self.running.is_empty() {
            let end = self.next_end().await;
            if !end.succeeded() && outcome.is_ok() {
                outcome = Err(end);
            }
        }
        outcome
    }
}
