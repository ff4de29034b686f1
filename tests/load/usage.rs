//! What a process takes, as the kernel counts it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Ticks a second in `/proc/PID/stat`: part of the kernel's interface.
const TICKS: f64 = 100.0;
const PAUSE: Duration = Duration::from_millis(500);

/// One look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds from the first look.
    pub at: f64,
    /// Bytes that are resident.
    pub resident: u64,
    /// Seconds of processors, all together.
    pub processor: f64,
}

/// Looks at a process now.
///
/// # Errors
/// When it is not there.
pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).with_context(|| path)
    };
    let status = read("status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: u64 =
        resident.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).context("no VmRSS")?;
    Ok(Usage { at: 0.0, resident: kibibytes << 10, processor: processor(&read("stat")?).context("no processor time")? })
}

/// Seconds that the machine's processors have been busy, all together.
///
/// # Errors
/// Where the kernel does not say so.
pub fn machine() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    busy(&stat).context("no line of all processors")
}

/// Every column of the first line but idle and waiting for a disk; those after the eighth are counted in others already.
fn busy(stat: &str) -> Option<f64> {
    let columns = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8).enumerate();
    let busy = columns.filter(|(column, _)| ![3, 4].contains(column));
    let ticks: Option<f64> = busy.map(|(_, ticks)| ticks.parse::<f64>().ok()).sum();
    Some(ticks? / TICKS)
}

/// `utime` and `stime`, fields 14 and 15. The second field is a name in brackets, which may hold anything.
fn processor(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(|field| field.parse::<f64>().ok());
    Some((ticks.next()?? + ticks.next()??) / TICKS)
}

/// Looks again and again until it is stopped.
pub struct Watch {
    stop: watch::Sender<()>,
    task: JoinHandle<Vec<Usage>>,
}

impl Watch {
    /// Begins now.
    #[must_use]
    pub fn start(pid: u32) -> Self {
        let (stop, mut stopped) = watch::channel(());
        let task = tokio::spawn(async move {
            let (begun, mut looks) = (Instant::now(), Vec::new());
            loop {
                if let Ok(look) = usage(pid) {
                    looks.push(Usage { at: begun.elapsed().as_secs_f64(), ..look });
                }
                if tokio::time::timeout(PAUSE, stopped.changed()).await.is_ok() {
                    return looks;
                }
            }
        });
        Self { stop, task }
    }

    /// All looks, with one more.
    pub async fn stop(self) -> Vec<Usage> {
        _ = self.stop.send(());
        self.task.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_matter() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(processor(stat), Some(3.0));
    }

    #[test]
    fn idle_time_is_not_busy() {
        assert_eq!(busy("cpu  100 20 30 4000 500 6 4 40 7 8\ncpu0 1 2 3"), Some(2.0));
        assert_eq!(busy("intr 1 2 3"), None);
    }

    #[test]
    fn this_process_takes_something() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.resident > 1 << 20, "{usage:?}");
    }
}
