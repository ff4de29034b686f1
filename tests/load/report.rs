//! Figures as a table for people.

use std::fmt::{self, Display, Formatter};

use darkroom_client::load::Percentiles;

use super::figures::{Figures, Spread};

const MIB: f64 = (1 << 20) as f64;

impl Display for Figures {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { seconds, offered, admitted, completed, .. } = self;
        writeln!(
            out,
            "{seconds:.0} s: offered {offered} ({:.1}/s), admitted {admitted}, completed {completed}, cut {}",
            *offered as f64 / seconds,
            self.cut
        )?;
        writeln!(out, "goodput {:.1}/s", self.goodput)?;
        for (what, codes) in [("refused", &self.refused), ("failed", &self.failed)] {
            for (code, count) in codes {
                writeln!(out, "{what} {code}: {count}")?;
            }
        }
        if self.wrong > 0 {
            writeln!(out, "WRONG LATENTS: {}", self.wrong)?;
        }
        writeln!(
            out,
            "{:22}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "milliseconds", "count", "p50", "p90", "p95", "p99", "max"
        )?;
        let rows = [
            ("latency, completed", &self.latency),
            ("latency, refused", &self.refusal),
            ("first event", &self.first_event),
            ("beyond the clock's", &self.added),
            ("the generator late", &self.late),
        ];
        for (name, Percentiles { count, p50, p90, p95, p99, max, .. }) in rows {
            if *count > 0 {
                let [p50, p90, p95, p99, max] = [p50, p90, p95, p99, max].map(|seconds| seconds * 1000.0);
                writeln!(out, "{name:22}{count:>9}{p50:>10.2}{p90:>10.2}{p95:>10.2}{p99:>10.2}{max:>10.2}")?;
            }
        }
        if let Some(Spread { min, median, max }) = self.retry {
            writeln!(
                out,
                "retry after: min {min:.2} s, median {median:.2} s, max {max:.2} s; {} without",
                self.without_retry
            )?;
        }
        writeln!(
            out,
            "events {}, of them positions {}; positions that grew {}",
            self.events, self.positions, self.positions_grew
        )?;
        if self.fairness.shares.len() > 1 {
            for (identity, share) in self.fairness.shares.iter().enumerate() {
                let [due, offered, got, served] =
                    [share.due, share.offered, share.got, share.served].map(|part| part * 100.0);
                writeln!(
                    out,
                    "identity {identity}: due {due:.1} %, offered {offered:.1} %, got {got:.1} %; served {served:.1} % of its own"
                )?;
            }
            writeln!(out, "Jain's index {:.4}", self.fairness.jain)?;
        }
        if let Some((busy, resident)) = self.cost() {
            let [first, most, last] = resident.map(|bytes| bytes as f64 / MIB);
            writeln!(
                out,
                "process: {busy:.2} cores, resident {first:.1} MiB at first, {most:.1} at most, {last:.1} at last"
            )?;
        }
        write!(out, "the generator: {:.2} cores", self.generator)?;
        match self.others {
            Some(others) => writeln!(out, "; others, which are no part of this: {others:.2}")?,
            None => writeln!(out)?,
        }
        if self.late.p99 > 0.005 {
            writeln!(out, "THE GENERATOR COULD NOT KEEP UP: p99 {:.1} ms late", self.late.p99 * 1000.0)?;
        }
        Ok(())
    }
}
