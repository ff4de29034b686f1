//! Ten thousand connections that never get on, and others that must not notice.

use std::time::Duration;

use super::Setting;
use super::stand::{Clocks, Stand, flags};
use super::table::{Table, rounded};
use testkit::program::{self, Program};

const CONNECTIONS: usize = 10_000;
const STEPS: f64 = 4.0;
const WARM_UP: f64 = 3.0;
/// Seconds until a slow peer that was closed comes again.
const SLOW: f64 = 10.0;
/// Until all are open.
const OPENING: Duration = Duration::from_secs(15);

/// With room for all of them: none has to make way for another.
pub(crate) async fn roomy(setting: &Setting) -> anyhow::Result<Table> {
    let places = [format!("--max-connections={}", CONNECTIONS + 1000), format!("--max-calls={CONNECTIONS}")];
    let flags = [places[0].as_str(), &places[1], "--max-address-percent=100"];
    run(setting, "room for all of them", &flags, SLOW).await
}

/// With the bounds that an orchestrator has by itself, which leave no room for them.
pub(crate) async fn usual(setting: &Setting) -> anyhow::Result<Table> {
    run(setting, "the usual bounds", &[], SLOW).await
}

/// The same when all who are closed come again at once: thousands of new connections a second, for which both sides need processors.
pub(crate) async fn flood(setting: &Setting) -> anyhow::Result<Table> {
    run(setting, "the usual bounds, reopened after a second", &[], 1.0).await
}

async fn run(setting: &Setting, bounds: &str, bounds_flags: &[&str], rest: f64) -> anyhow::Result<Table> {
    let denoisers = setting.denoisers.unwrap_or(8);
    let fleet = Clocks { denoisers, base: 0.02, per_pixel: 0.00001, batch: 8, tell_spent: false };
    let stand = Stand::clocks(setting, &fleet, bounds_flags).await?;
    let rate = 0.5 * fleet.capacity(STEPS as u32);
    let seconds = setting.seconds / 2.0;
    let all = flags(&[("rate", rate), ("seconds", WARM_UP + seconds), ("warm-up", WARM_UP), ("steps", STEPS)]);
    let alone = stand.load(&all).await?;
    let peers = [stand.address.clone(), format!("--connections={CONNECTIONS}"), format!("--rest={rest}")];
    let peers = Program::start(program::command("slow-peers")?.args(peers))?;
    tokio::time::sleep(OPENING).await;
    let among = stand.load(&all).await?;

    let mut table =
        Table::new(format!("slow-peers: {CONNECTIONS} connections that never get on, {bounds}, others at half load"));
    if let Some(line) = peers.stdout_lines().last() {
        table.tell("the connections at the end", line.clone());
    }
    table.tell("p50 without, with", format!("{} s, {} s", rounded(alone.latency.p50), rounded(among.latency.p50)));
    table.tell("p95 without, with", format!("{} s, {} s", rounded(alone.latency.p95), rounded(among.latency.p95)));
    table.at_most("p95 with them, to that without", among.latency.p95 / alone.latency.p95, 1.25, "times");
    table.at_least("completed, of the offered", 100.0 * among.completed as f64 / among.offered as f64, 100.0, "%");
    if let Some((_, resident)) = among.cost() {
        let [first, most, last] = resident.map(|bytes| bytes >> 20);
        let told = format!("{first} MiB, {most} MiB, {last} MiB");
        table.tell("orchestrator: resident at first, at most, at last", told);
    }
    table.processors("without", &alone);
    table.processors("with", &among);
    table.at_least("processes that still run, of all", f64::from(u8::from(stand.is_whole())), 1.0, "");
    Ok(table)
}
