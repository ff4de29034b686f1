//! Figures beside their bounds.

use std::fmt::{self, Display, Formatter};

use testkit::load::figures::Figures;

/// One figure.
struct Row {
    what: String,
    figure: String,
    bound: String,
    holds: Option<bool>,
}

/// A scenario's figures.
pub(crate) struct Table {
    title: String,
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new() }
    }

    /// A figure that only tells.
    pub(crate) fn tell(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        self.rows.push(Row { what: what.into(), figure: figure.into(), bound: String::new(), holds: None });
    }

    /// A figure that must be small.
    pub(crate) fn at_most(&mut self, what: impl Into<String>, figure: f64, bound: f64, unit: &str) {
        self.bounded(what, figure, bound, "≤", figure <= bound, unit);
    }

    /// A figure that must be large.
    pub(crate) fn at_least(&mut self, what: impl Into<String>, figure: f64, bound: f64, unit: &str) {
        self.bounded(what, figure, bound, "≥", figure >= bound, unit);
    }

    fn bounded(&mut self, what: impl Into<String>, figure: f64, bound: f64, sign: &str, holds: bool, unit: &str) {
        let number = |value: f64| format!("{} {unit}", rounded(value)).trim_end().to_owned();
        let (figure, bound) = (number(figure), format!("{sign} {}", number(bound)));
        self.rows.push(Row { what: what.into(), figure, bound, holds: Some(holds) });
    }

    /// Where the processors were while `figures` were taken. On a machine that is busy with something else no figure of time says anything.
    pub(crate) fn processors(&mut self, what: &str, figures: &Figures) {
        let orchestrator = figures.cost().map_or(0.0, |(cores, _)| cores);
        let others = figures.others.unwrap_or_default();
        let told = format!("{orchestrator:.2}, {:.2}, {others:.2}", figures.generator);
        self.tell(format!("{what}: cores of the orchestrator, the generator, and what is no part of this"), told);
    }

    /// Whether no bound is missed.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds != Some(false))
    }
}

/// Three digits that say something.
pub(crate) fn rounded(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Display for Table {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "## {}\n\n| what | figure | bound | holds |\n| --- | --- | --- | --- |", self.title)?;
        for Row { what, figure, bound, holds } in &self.rows {
            let holds = holds.map_or("", |holds| if holds { "yes" } else { "NO" });
            writeln!(out, "| {what} | {figure} | {bound} | {holds} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bound_that_is_missed_is_enough() {
        let mut table = Table::new("title");
        table.tell("rate", "12/s");
        table.at_least("goodput", 123.4, 100.0, "/s");
        assert!(table.holds());
        table.at_most("p99", 0.0513, 0.05, "s");
        assert!(!table.holds());
        let text = table.to_string();
        assert!(text.contains("| goodput | 123 /s | ≥ 100 /s | yes |"), "{text}");
        assert!(text.contains("| p99 | 0.051 s | ≤ 0.050 s | NO |"), "{text}");
    }
}
