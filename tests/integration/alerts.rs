//! Prometheus' rules and the dashboards ask for metrics that there are, and every alert has a test and says what to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn file(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands behind `key` in each line that has it.
fn values<'a>(text: &'a str, key: &str) -> BTreeSet<&'a str> {
    text.lines().filter_map(|line| line.split_once(key)).map(|(_, value)| value.trim()).collect()
}

/// Words of metrics' letters that begin with `prefix`.
fn metrics<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
    words.filter(|word| word.starts_with(prefix)).collect()
}

/// Without comments, which may speak of anything.
fn rules(name: &str) -> String {
    let text = file(&format!("deploy/prometheus/rules/{name}.yml"));
    text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n")
}

#[test]
fn rules_ask_for_metrics_that_there_are() {
    let (recording, alerts, documented) = (rules("recording"), rules("alerts"), file("services/METRICS.md"));
    let boards = ["throughput", "workers", "requests"].map(|name| file(&format!("deploy/dashboards/{name}.json")));
    let texts = [&recording, &alerts].into_iter().chain(&boards);
    let asked: BTreeSet<&str> = texts.flat_map(|text| metrics(text, "darkroom_")).collect();
    assert!(asked.len() > 30, "{asked:?}");
    for metric in asked {
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|part| metric.strip_suffix(part)).unwrap_or(metric);
        assert!(documented.contains(&format!("| `{name}` |")), "services/METRICS.md has no {name}");
    }
    let recorded = values(&recording, "- record: ");
    for series in ["fleet:", "model:"].into_iter().flat_map(|level| metrics(&alerts, level)) {
        assert!(recorded.contains(series), "nothing records {series}");
    }
}

#[test]
fn every_alert_has_a_test_and_says_what_to_do() {
    let (alerts, tests, readme) =
        (rules("alerts"), file("deploy/prometheus/tests/alerts.yml"), file("deploy/prometheus/README.md"));
    let (named, headings) = (values(&alerts, "- alert: "), values(&readme, "### "));
    assert!(named.len() >= 15, "{named:?}");
    assert_eq!(named, headings, "each alert has a heading");
    for alert in named {
        let own = &alerts[alerts.find(&format!("- alert: {alert}\n")).expect("it stands there")..];
        let own = own.split("- alert: ").nth(1).expect("its text");
        assert!(
            own.contains(&format!("README.md#{}\n", alert.to_lowercase()))
                || own.trim_end().ends_with(&alert.to_lowercase())
        );
        assert!(own.contains("severity: page") || own.contains("severity: ticket"), "{alert} has no severity");
        assert!(
            tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n")),
            "no test drives {alert} to fire"
        );
        assert!(tests.contains(&format!("alertname: {alert}, exp_alerts: []")), "no test sees {alert} silent");
    }
}
