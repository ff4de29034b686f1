//! What came of a test, as a table for people or as JSON.

use std::fmt;

use darkroom_client::load::{Percentiles, Samples};
use serde_json::{Map, Value, json};

use super::asking::Asking;
use super::flags::Shape;
use super::tally::{Figures, Refusals};
use crate::operate::span::told;
use crate::operate::table::{Column, Table};

/// All that is told.
pub(super) struct Report<'a> {
    pub(super) asking: &'a Asking,
    pub(super) interrupted: bool,
    pub(super) figures: Figures,
}

/// A row of the table, its name in JSON, and its samples.
type Row = (&'static str, &'static str, fn(&Figures) -> &Samples);

const ROWS: [Row; 9] = [
    ("latency", "latency", |figures| &figures.latency),
    ("  first event", "first_event", |figures| &figures.first_event),
    ("server", "server", |figures| &figures.server),
    ("  queue", "queue", |figures| &figures.queue),
    ("  text encoder", "text_encoder", |figures| &figures.text_encoder),
    ("  denoiser", "denoiser", |figures| &figures.denoiser),
    ("  VAE", "vae", |figures| &figures.vae),
    ("refusal", "refusal", |figures| &figures.refusal),
    ("late", "late", |figures| &figures.late),
];

/// A percentile's title, and itself.
type Part = (&'static str, fn(&Percentiles) -> f64);

const PARTS: [Part; 6] = [
    ("mean", |of| of.mean),
    ("p50", |of| of.p50),
    ("p90", |of| of.p90),
    ("p95", |of| of.p95),
    ("p99", |of| of.p99),
    ("max", |of| of.max),
];

impl Report<'_> {
    fn arrivals(&self) -> &'static str {
        let load = &self.asking.flags().load;
        match (load.concurrency, load.arrivals) {
            (Some(_), _) => "closed",
            (None, Shape::Poisson) => "poisson",
            (None, Shape::Constant) => "constant",
        }
    }

    /// For programs; `--help` explains the fields.
    pub(super) fn json(&self) -> Value {
        let Self { asking, interrupted, figures } = self;
        let load = &asking.flags().load;
        let seconds: Map<String, Value> =
            ROWS.iter().map(|(_, name, samples)| ((*name).to_owned(), json!(samples(figures).percentiles()))).collect();
        let refusals = figures.refused.iter().map(|(code, Refusals { count, without_delay, delays })| {
            let delays = delays.map(|told| json!({ "min": told.min, "mean": told.mean(), "max": told.max }));
            (code.clone(), json!({ "count": count, "without_delay": without_delay, "retry_seconds": delays }))
        });
        json!({
            "server": asking.flags().server.server,
            "version": asking.version,
            "model": asking.model,
            "arrivals": self.arrivals(),
            "rate_per_minute": load.rate,
            "concurrency": load.concurrency,
            "seed": asking.seed(),
            "interrupted": interrupted,
            "sending_seconds": figures.sending.as_secs_f64(),
            "seconds": figures.lasted.as_secs_f64(),
            "requests": {
                "offered": figures.offered,
                "completed": figures.completed,
                "refused": figures.refused(),
                "failed": figures.failed(),
                "cut": figures.running(),
                "unsent": figures.unsent,
            },
            "images": {
                "made": figures.images,
                "failed": figures.failed_images,
                "per_minute": figures.images_a_minute(),
            },
            "seconds_of": seconds,
            "refusals": refusals.collect::<Map<_, _>>(),
            "failures": figures.failed,
        })
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asking, interrupted, figures } = self;
        let load = &asking.flags().load;
        let how = match (load.concurrency, load.rate) {
            (Some(1), _) => "one client".to_owned(),
            (Some(clients), _) => format!("{clients} clients"),
            (None, rate) => format!("{} arrivals, {} a minute", self.arrivals(), rate.unwrap_or_default()),
        };
        let Asking { version, model, .. } = asking;
        writeln!(f, "darkroom {version} at {}, model {model}", asking.flags().server.server)?;
        writeln!(f, "{how}, seed {}", asking.seed())?;
        let end = if *interrupted { ", interrupted" } else { "" };
        writeln!(f, "requests for {}, {} in all{end}", told(figures.sending), told(figures.lasted))?;

        let (refused, failed) = (figures.refused(), figures.failed());
        write!(f, "\nrequests  {} offered: {} completed", figures.offered, figures.completed)?;
        write!(f, ", {refused} refused, {failed} failed, {} cut", figures.running())?;
        if figures.unsent > 0 {
            write!(f, ", {} unsent: {} others were under way", figures.unsent, load.most_running)?;
        }
        write!(f, "\nimages    {}, {:.1} a minute", figures.images, figures.images_a_minute())?;
        if figures.failed_images > 0 {
            write!(f, "; {} failed", figures.failed_images)?;
        }
        writeln!(f, "\n")?;
        f.write_str(&times(figures).lines(None).join("\n"))?;

        if !figures.refused.is_empty() || !figures.failed.is_empty() {
            writeln!(f)?;
        }
        for (code, Refusals { count, without_delay, delays }) in &figures.refused {
            write!(f, "\nrefused   {count} {code}")?;
            if let Some(told) = delays {
                write!(f, ", told to come again in {:.2} to {:.2} s (mean {:.2} s)", told.min, told.max, told.mean())?;
            }
            if *without_delay > 0 && delays.is_some() {
                write!(f, ", {without_delay} without a time")?;
            }
        }
        for (code, count) in &figures.failed {
            write!(f, "\nfailed    {count} {code}")?;
        }
        Ok(())
    }
}

/// What nothing is known of is left out.
fn times(figures: &Figures) -> Table {
    let rows: Vec<(&str, Percentiles)> = ROWS
        .iter()
        .map(|(title, _, samples)| (*title, samples(figures).percentiles()))
        .filter(|(_, percentiles)| percentiles.count > 0)
        .collect();
    let titles = rows.iter().map(|(title, _)| (*title).to_owned()).collect();
    let counts = rows.iter().map(|(_, of)| of.count.to_string()).collect();
    let part = |(title, part): &Part| {
        (Column::numbers(title, 1), rows.iter().map(|(_, of)| format!("{:.3}", part(of))).collect())
    };
    let first = [(Column::words("seconds", 1), titles), (Column::numbers("count", 1), counts)];
    Table::new(first.into_iter().chain(PARTS.iter().map(part)))
}
