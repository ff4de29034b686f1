//! More than the fleet can do: what it can do gets done, and who is not let in is told so at once.

use super::Setting;
use super::stand::{Clocks, Stand, flags, settle};
use super::table::{Table, rounded};
use testkit::load::figures::Figures;

const STEPS: u32 = 4;
/// Seconds of the runs that only prepare.
const SHORT: f64 = 20.0;
const WARM_UP: f64 = 5.0;

fn fleet(setting: &Setting) -> Clocks {
    let denoisers = setting.denoisers.unwrap_or(8);
    Clocks { denoisers, base: 0.02, per_pixel: 0.00001, batch: 8, tell_spent: false }
}

/// With clocks. What may wait is the bound by which who runs a fleet keeps latency under overload: with a full batch a request takes
/// four evaluations and up to one until its batch begins, which leaves little of 1.5 times what it takes at 80 % load.
pub(crate) async fn clocks(setting: &Setting) -> anyhow::Result<Table> {
    let fleet = fleet(setting);
    let mut table = Table::new(format!("overload: {} clock denoisers, {STEPS} evaluations", fleet.denoisers));
    let computed = fleet.capacity(STEPS);
    table.tell("capacity by the clock", format!("{} /s", rounded(computed)));
    let clients = f64::from(fleet.denoisers) * f64::from(fleet.batch) * 2.0;
    let more = more(STEPS, "--check-latents");
    let stand = Stand::clocks(setting, &fleet, &[]).await?;
    capacity(&stand, &mut table, &more, clients).await?;
    drop(stand);
    let stand = Stand::clocks(setting, &fleet, &["--queue-seconds=0.02"]).await?;
    open(setting, &stand, &mut table, &more, computed).await?;
    Ok(table)
}

/// With the embedded model. Of what may wait: as above. A CPU makes no more pictures in batches of eight than in batches of four, each
/// of which takes half as long: who wants answers soon bounds the batch too.
pub(crate) async fn pocket(setting: &Setting) -> anyhow::Result<Table> {
    const BATCH: &str = "--max-batch=4";
    let mut table = Table::new(format!("pocket-overload: the embedded model, 10 steps, PNG, {BATCH}"));
    let more = more(10, "--png");
    let stand = Stand::pocket(setting, BATCH, &[]).await?;
    let capacity = capacity(&stand, &mut table, &more, 32.0).await?;
    drop(stand);
    let stand = Stand::pocket(setting, BATCH, &["--queue-seconds=0.2"]).await?;
    open(setting, &stand, &mut table, &more, capacity).await?;
    Ok(table)
}

/// What all runs of a scenario have in common.
fn more(steps: u32, flag: &str) -> Vec<String> {
    let mut all = flags(&[("steps", f64::from(steps)), ("warm-up", WARM_UP)]);
    all.push(flag.to_owned());
    all
}

fn with(pairs: &[(&str, f64)], more: &[String]) -> Vec<String> {
    [&flags(pairs), more].concat()
}

/// Requests a second, by a closed loop where all may wait: clients that ask again at once when they are refused would take the processors.
async fn capacity(stand: &Stand, table: &mut Table, more: &[String], clients: f64) -> anyhow::Result<f64> {
    let closed = stand.load(&with(&[("clients", clients), ("seconds", SHORT + WARM_UP)], more)).await?;
    table.tell(format!("closed loop, {clients} clients"), format!("{} /s", rounded(closed.goodput)));
    Ok(closed.goodput)
}

/// Open at 80 % of the capacity, and at twice as much.
async fn open(
    setting: &Setting,
    stand: &Stand,
    table: &mut Table,
    more: &[String],
    capacity: f64,
) -> anyhow::Result<()> {
    let usual = stand.load(&with(&[("rate", 0.8 * capacity), ("seconds", setting.seconds + WARM_UP)], more)).await?;
    table.tell("at 80 %: p50, p95", format!("{} s, {} s", rounded(usual.latency.p50), rounded(usual.latency.p95)));
    let served = 100.0 * usual.goodput * usual.seconds / usual.offered as f64;
    table.tell("at 80 %: served", format!("{} %", rounded(served)));
    settle().await;
    let heavy = stand.load(&with(&[("rate", 2.0 * capacity), ("seconds", setting.seconds + WARM_UP)], more)).await?;
    table.tell("offered at twice the capacity", format!("{} /s", rounded(heavy.offered as f64 / heavy.seconds)));
    table.at_least("goodput, of the capacity", 100.0 * heavy.goodput / capacity, 95.0, "%");
    let latency = heavy.latency.p95 / usual.latency.p95;
    table.at_most("p95 of the admitted, to that at 80 %", latency, 1.5, "times");
    refusals(table, &heavy);
    if let Some(growth) = growth(&heavy) {
        table.at_most("resident at the end, to that after a third", growth, 1.1, "times");
    }
    table.at_most("requests that failed after they were let in", failures(&heavy) as f64, 0.0, "");
    table.at_most("wrong latents", (usual.wrong + heavy.wrong) as f64, 0.0, "");
    table.at_least("processes that still run, of all", f64::from(u8::from(stand.is_whole())), 1.0, "");
    table.at_most("the generator's own lateness, p99", heavy.late.p99, 0.02, "s");
    table.processors("at 80 %", &usual);
    table.processors("at twice the capacity", &heavy);
    Ok(())
}

/// One caller asks for eight parts of ten, two for one each; all are due the same.
pub(crate) async fn fairness(setting: &Setting) -> anyhow::Result<Table> {
    let fleet = fleet(setting);
    let stand = Stand::clocks(setting, &fleet, &[]).await?;
    let capacity = fleet.capacity(STEPS);
    let mut table = Table::new("fairness: three callers ask for 8 : 1 : 1, at three times the capacity");
    let mut all = flags(&[
        ("rate", 3.0 * capacity),
        ("seconds", setting.seconds),
        ("warm-up", WARM_UP),
        ("steps", f64::from(STEPS)),
        ("identities", 3.0),
    ]);
    all.push("--shares=8,1,1".into());
    let figures = stand.load(&all).await?;
    for (caller, share) in figures.fairness.shares.iter().enumerate() {
        let [offered, got, served] = [share.offered, share.got, share.served].map(|part| rounded(100.0 * part));
        table.tell(
            format!("caller {caller}: offered, got; served of its own"),
            format!("{offered} %, {got} %; {served} %"),
        );
    }
    table.tell("goodput, of the capacity", format!("{} %", rounded(100.0 * figures.goodput / capacity)));
    for (caller, share) in figures.fairness.shares.iter().enumerate() {
        // Who is served all that it asks for can get no more.
        let got = (share.got / share.due).max(share.served);
        table.at_least(format!("caller {caller}: got, of what it is due or asks for"), 100.0 * got, 90.0, "%");
    }
    table.processors("meanwhile", &figures);
    Ok(table)
}

fn refusals(table: &mut Table, figures: &Figures) {
    table.at_most("refusals answered, p99", 1000.0 * figures.refusal.p99, 50.0, "ms");
    if let Some(retry) = figures.retry {
        let told = [retry.min, retry.median, retry.max].map(rounded);
        table.tell("retry delay told: least, median, most", format!("{} s, {} s, {} s", told[0], told[1], told[2]));
        table.at_most("the longest retry delay", retry.max, 60.0, "s");
    }
    table.at_most("refusals for want of room without a delay", figures.without_retry as f64, 0.0, "");
}

fn failures(figures: &Figures) -> usize {
    figures.failed.values().sum()
}

/// Resident bytes at the end, by those after a third of the time.
fn growth(figures: &Figures) -> Option<f64> {
    let (_, [.., last]) = figures.cost()?;
    let third = figures.usage.get(figures.usage.len() / 3)?;
    Some(last as f64 / third.resident as f64)
}
