//! One child process: started under its service's name, told to stop by SIGTERM, never outliving this process.

use std::fmt;
use std::io;
use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::service::STOP_WITH_STDIN;
use crate::up::plan::Process;

/// What a child is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Run,
    /// Finish what runs, then stop.
    Drain,
    /// Stop at once.
    Kill,
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) name: String,
    pub(crate) outcome: io::Result<ExitStatus>,
}

/// Starts the child.
pub(crate) fn spawn(process: &Process) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("cannot find this program")?;
    Command::new(program)
        .arg0(process.service.program())
        .args(&process.flags)
        .env(STOP_WITH_STDIN, "1")
        .stdin(Stdio::piped())
        // The ready line is the only thing on standard output.
        .stdout(Stdio::null())
        // Its own group: a terminal's Ctrl-C reaches this process alone, which stops the services in their order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start the {}", process.name))
}

/// Follows the orders until the child has ended.
pub(crate) async fn supervise(name: String, mut child: Child, mut orders: watch::Receiver<Order>) -> End {
    // Held open as long as this task lives; `wait` would close it.
    let _lifeline = child.stdin.take();
    let outcome = loop {
        tokio::select! {
            outcome = child.wait() => break outcome,
            changed = orders.changed() => {
                let order = if changed.is_ok() { *orders.borrow_and_update() } else { Order::Kill };
                if let Err(error) = pass_on(&mut child, order) {
                    eprintln!("darkroom: cannot stop the {name}: {error}");
                }
                if changed.is_err() {
                    break child.wait().await;
                }
            }
        }
    };
    End { name, outcome }
}

fn pass_on(child: &mut Child, order: Order) -> io::Result<()> {
    match order {
        Order::Run => Ok(()),
        Order::Kill => child.start_kill(),
        Order::Drain => {
            // An id is there until `wait` has answered, so it cannot belong to another process yet.
            let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            Ok(pid.map_or(Ok(()), |pid| kill_process(pid, Signal::TERM))?)
        }
    }
}

impl End {
    pub(crate) fn succeeded(&self) -> bool {
        self.outcome.as_ref().is_ok_and(ExitStatus::success)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(status) => write!(f, "the {} ended with {status}", self.name),
            Err(error) => write!(f, "the {} was lost: {error}", self.name),
        }
    }
}
