//! The most that gets through the orchestrator when nothing behind it takes any time to speak of.

use super::Setting;
use super::stand::{Clocks, Stand, flags};
use super::table::{Table, rounded};

/// Requests a second that a request of four evaluations is held to.
const BOUND: f64 = 1000.0;
const WARM_UP: f64 = 3.0;
const SECONDS: f64 = 20.0;

/// With so many evaluations a request.
pub(crate) async fn run(setting: &Setting, evaluations: u32) -> anyhow::Result<Table> {
    let denoisers = setting.denoisers.unwrap_or(32);
    let fleet = Clocks { denoisers, base: 0.001, per_pixel: 0.0, batch: 8, tell_spent: false };
    let stand = Stand::clocks(setting, &fleet, &[]).await?;
    let mut table = Table::new(format!("throughput: {denoisers} clock denoisers, {evaluations} evaluations, latents"));
    table.tell("capacity by the clock", format!("{} /s", rounded(fleet.capacity(evaluations))));
    let mut most: f64 = 0.0;
    for clients in [32.0, 128.0, 512.0] {
        let mut all = flags(&[
            ("clients", clients),
            ("seconds", WARM_UP + SECONDS),
            ("warm-up", WARM_UP),
            ("steps", f64::from(evaluations)),
        ]);
        all.push("--check-latents".into());
        let figures = stand.load(&all).await?;
        let [p50, p99] = [figures.latency.p50, figures.latency.p99].map(|seconds| rounded(1000.0 * seconds));
        let told = format!("{} /s, {p50} ms, {p99} ms", rounded(figures.goodput));
        table.tell(format!("{clients} clients: goodput, p50, p99"), told);
        table.processors(&format!("{clients} clients"), &figures);
        table.at_most(
            format!("{clients} clients: failed, refused or wrong"),
            (figures.offered - figures.completed - figures.cut) as f64,
            0.0,
            "",
        );
        most = most.max(figures.goodput);
    }
    match evaluations {
        4 => table.at_least("requests a second", most, BOUND, "/s"),
        _ => table.tell("requests a second", format!("{} /s", rounded(most))),
    }
    Ok(table)
}
