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

/// What may wait, in seconds of the whole fleet: the bound by which who runs this keeps latency under overload. It is less than half of what a
/// request takes at 80 % load, and many times what comes in the time that an answer takes.
const WAITING: &str = "--queue-seconds=0.1";

/// With clocks.
pub(crate) async fn clocks(setting: &Setting) -> anyhow::Result<Table> {
    let fleet = fleet(setting);
    let stand = Stand::clocks(setting, &fleet, &[WAITING]).await?;
    let computed = fleet.capacity(STEPS);
    let mut table = Table::new(format!("overload: {} clock denoisers, {STEPS} evaluations", fleet.denoisers));
    table.tell("capacity by the clock", format!("{} /s", rounded(computed)));
    let clients = f64::from(fleet.denoisers) * f64::from(fleet.batch) * 2.0;
    let more = ["--check-latents".to_owned()];
    run(setting, &stand, &mut table, &more, clients, f64::from(STEPS), Some(computed)).await?;
    Ok(table)
}

/// With the embedded model.
pub(crate) async fn pocket(setting: &Setting) -> anyhow::Result<Table> {
    let stand = Stand::pocket(setting).await?;
    let mut table = Table::new("pocket-overload: the embedded model, 10 steps, PNG");
    run(setting, &stand, &mut table, &["--png".to_owned()], 32.0, 10.0, None).await?;
    Ok(table)
}

/// Closed for the capacity, open at 80 % of it, open at twice as much.
async fn run(
    setting: &Setting,
    stand: &Stand,
    table: &mut Table,
    more: &[String],
    clients: f64,
    steps: f64,
    computed: Option<f64>,
) -> anyhow::Result<()> {
    let with = |pairs: &[(&str, f64)]| {
        let mut all = flags(pairs);
        all.extend(flags(&[("steps", steps), ("warm-up", WARM_UP)]));
        all.extend_from_slice(more);
        all
    };
    let closed = stand.load(&with(&[("clients", clients), ("seconds", SHORT)])).await?;
    table.tell(format!("closed loop, {clients} clients"), format!("{} /s", rounded(closed.goodput)));
    let capacity = computed.unwrap_or(closed.goodput);
    let usual = stand.load(&with(&[("rate", 0.8 * capacity), ("seconds", SHORT + WARM_UP)])).await?;
    settle().await;
    let heavy = stand.load(&with(&[("rate", 2.0 * capacity), ("seconds", setting.seconds + WARM_UP)])).await?;
    table.tell("at 80 %: p50, p95", format!("{} s, {} s", rounded(usual.latency.p50), rounded(usual.latency.p95)));
    table.tell("offered at twice the capacity", format!("{} /s", rounded(heavy.offered as f64 / heavy.seconds)));
    table.at_least("goodput, of the capacity", 100.0 * heavy.goodput / capacity, 95.0, "%");
    table.at_most("p95 of the admitted, to that at 80 %", heavy.latency.p95 / usual.latency.p95, 1.5, "times");
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
