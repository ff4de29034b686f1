//! What the orchestrator adds: the time of a request less what its worker's clock counted, and less what the same is without an
//! orchestrator, which is the generator's, the wire's and the timers' part.

use darkroom_client::load::Percentiles;

use super::Setting;
use super::stand::{Clocks, Stand, flags};
use super::table::{Table, rounded};

const STEPS: f64 = 4.0;
/// Half of what the orchestrator is held to.
const RATE: f64 = 500.0;
/// Of the runs against one denoiser.
const DIRECT_RATE: f64 = 100.0;
const WARM_UP: f64 = 3.0;
const SECONDS: f64 = 20.0;

pub(crate) async fn run(setting: &Setting) -> anyhow::Result<Table> {
    let denoisers = setting.denoisers.unwrap_or(32);
    let fleet = Clocks { denoisers, base: 0.005, per_pixel: 0.0, batch: 8, tell_spent: true };
    let stand = Stand::clocks(setting, &fleet, &[]).await?;
    let with = |rate: f64, more: &str| {
        let pairs = [("rate", rate), ("seconds", WARM_UP + SECONDS), ("warm-up", WARM_UP), ("steps", STEPS)];
        let mut all = flags(&pairs);
        all.push(more.into());
        all
    };
    let direct = stand.load_at(&stand.denoisers[0], &with(DIRECT_RATE, "--direct")).await?.added;
    let figures = stand.load(&with(RATE, "--read-spent")).await?;
    let added = figures.added;
    let mut table = Table::new(format!("latency: {denoisers} clock denoisers, {RATE} requests a second"));
    let told = |of: Percentiles| {
        let [p50, p95, p99] = [of.p50, of.p95, of.p99].map(|seconds| rounded(1000.0 * seconds));
        format!("{p50} ms, {p95} ms, {p99} ms")
    };
    table.tell("beyond the clock's time, without an orchestrator: p50, p95, p99", told(direct));
    table.tell("beyond the clock's time, with it: p50, p95, p99", told(added));
    table.at_most("added, p50", 1000.0 * (added.p50 - direct.p50), 2.0, "ms");
    // Who is slow with it may have been quick without: only the middle is taken off.
    table.at_most("added, p99", 1000.0 * (added.p99 - direct.p50), 20.0, "ms");
    table.at_least("completed, of the offered", 100.0 * figures.completed as f64 / figures.offered as f64, 100.0, "%");
    table.processors("with it", &figures);
    table.tell("the generator late, p99", format!("{} ms", rounded(1000.0 * figures.late.p99)));
    Ok(table)
}
