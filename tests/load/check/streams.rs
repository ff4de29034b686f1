//! Ten thousand requests that wait at once: all are let in and told their place, and each takes little.

use super::Setting;
use super::stand::{Clocks, Stand, flags};
use super::table::{Table, rounded};
use testkit::load::figures::Figures;

const STREAMS: u32 = 10_000;
/// Of the orchestrator: 256 calls on each of them.
const CONNECTIONS: f64 = 50.0;
const SECONDS: f64 = 60.0;
const KIB: f64 = 1024.0;

/// A fleet so slow that nearly everybody waits. Bytes that were resident before are the first look.
async fn hold(setting: &Setting) -> anyhow::Result<Figures> {
    let fleet = Clocks { denoisers: 1, base: 10.0, per_pixel: 0.0, batch: 8, tell_spent: false };
    // One caller alone is given three quarters of the queue, and the work is as much as it is.
    let limits = [
        format!("--queue-limit={}", 2 * STREAMS),
        "--queue-seconds=10000000".into(),
        format!("--max-calls={}", 2 * STREAMS),
    ];
    let stand = Stand::clocks(setting, &fleet, &limits.each_ref().map(String::as_str)).await?;
    stand.load(&flags(&[("hold", f64::from(STREAMS)), ("seconds", SECONDS), ("connections", CONNECTIONS)])).await
}

/// Whether all are there.
pub(crate) async fn streams(setting: &Setting) -> anyhow::Result<Table> {
    let figures = hold(setting).await?;
    let mut table = Table::new(format!("streams: {STREAMS} requests that wait for {SECONDS} s"));
    table.at_least("let in and told so", figures.admitted as f64, f64::from(STREAMS), "");
    let lost = figures.failed.values().chain(figures.refused.values()).sum::<usize>();
    table.at_most("refused or failed", lost as f64, 0.0, "");
    table.tell("places told, to each", rounded(figures.positions as f64 / f64::from(STREAMS)));
    table.at_most("requests whose place went back", figures.positions_grew as f64, 0.0, "");
    table.at_most("until the first event, p99", figures.first_event.p99, 1.0, "s");
    table.processors("meanwhile", &figures);
    Ok(table)
}

/// What they take.
pub(crate) async fn memory(setting: &Setting) -> anyhow::Result<Table> {
    let figures = hold(setting).await?;
    let mut table = Table::new(format!("memory: {STREAMS} requests that wait"));
    let (_, [before, most, _]) = figures.cost().unwrap_or_default();
    table.tell("resident before, at most", format!("{} MiB, {} MiB", before >> 20, most >> 20));
    let each = most.saturating_sub(before) as f64 / KIB / f64::from(STREAMS);
    table.at_most("a waiting request", each, 64.0, "KiB");
    table.at_least("let in", figures.admitted as f64, f64::from(STREAMS), "");
    Ok(table)
}
