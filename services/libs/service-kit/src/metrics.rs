//! One Prometheus recorder for each service instance, so that several services in one process keep their numbers apart.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::VERSION;

const PREFIX: &str = "darkroom_";

/// A millisecond to ten minutes: a pocket model's step takes a few ms, a full-size picture on a CPU minutes.
const SECONDS: [f64; 18] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Counts of things in one go, such as the pictures of a batch.
const SIZES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Where a metric was registered from; the recorder does not filter by it.
const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in buckets.
    Histogram,
}

/// A metric that this instance has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// With the prefix.
    pub name: String,
    /// What it counts.
    pub kind: MetricKind,
    /// Its meaning, as `/metrics` shows it.
    pub help: &'static str,
    /// Label names, in the order of their first registration.
    pub labels: Vec<&'static str>,
}

/// The metrics of one service instance. Clones share the recorder.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    service: &'static str,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    registered: Mutex<BTreeMap<String, Metric>>,
}

impl Metrics {
    /// A recorder of its own for `service`, with `build_info` in it.
    pub fn new(service: &'static str) -> Self {
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        let inner = Inner { service, recorder, handle, registered: Mutex::default() };
        let metrics = Self { inner: Arc::new(inner) };
        metrics.gauge("build_info", "Always 1; the label says which version runs", &[("version", VERSION)]).set(1.0);
        metrics
    }

    /// The service's name.
    pub fn service(&self) -> &'static str {
        self.inner.service
    }

    /// A counter, shown from now on with the value 0. `name` has no prefix and ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        let key = self.key(MetricKind::Counter, name, help, labels);
        self.inner.recorder.register_counter(&key, &METADATA)
    }

    /// A gauge. `name` has no prefix.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        let key = self.key(MetricKind::Gauge, name, help, labels);
        self.inner.recorder.register_gauge(&key, &METADATA)
    }

    /// A histogram. Names that end in `_seconds` get buckets of a millisecond to ten minutes, all others powers of two.
    pub fn histogram(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        let key = self.key(MetricKind::Histogram, name, help, labels);
        self.inner.recorder.register_histogram(&key, &METADATA)
    }

    /// The Prometheus text of everything registered.
    pub fn render(&self) -> String {
        self.inner.handle.render()
    }

    /// Everything registered so far, by name: what the documentation is held against.
    pub fn registered(&self) -> Vec<Metric> {
        let registered = self.inner.registered.lock().unwrap_or_else(PoisonError::into_inner);
        registered.values().cloned().collect()
    }

    /// Moves recorded samples into their buckets; without it histograms grow until the next render.
    pub(crate) fn run_upkeep(&self) {
        self.inner.handle.run_upkeep();
    }

    fn key(&self, kind: MetricKind, name: &str, help: &'static str, labels: &[(&'static str, &str)]) -> Key {
        let name = format!("{PREFIX}{name}");
        let mut registered = self.inner.registered.lock().unwrap_or_else(PoisonError::into_inner);
        if !registered.contains_key(&name) {
            self.describe(kind, name.clone(), help);
            let labels = labels.iter().map(|(name, _)| *name).collect();
            registered.insert(name.clone(), Metric { name: name.clone(), kind, help, labels });
        }
        let labels = labels.iter().map(|&(name, value)| Label::new(name, value.to_owned())).collect::<Vec<_>>();
        Key::from_parts(name, labels)
    }

    fn describe(&self, kind: MetricKind, name: String, help: &'static str) {
        let unit = name.ends_with("_seconds").then_some(Unit::Seconds);
        let name = KeyName::from(name);
        match kind {
            MetricKind::Counter => self.inner.recorder.describe_counter(name, unit, help.into()),
            MetricKind::Gauge => self.inner.recorder.describe_gauge(name, unit, help.into()),
            MetricKind::Histogram => self.inner.recorder.describe_histogram(name, unit, help.into()),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("service", &self.inner.service).finish_non_exhaustive()
    }
}

fn builder() -> PrometheusBuilder {
    // Both calls fail for empty bucket lists only; a recorder without them would still count, as summaries.
    let with_sizes = PrometheusBuilder::new().set_buckets(&SIZES).unwrap_or_default();
    let seconds = Matcher::Suffix("_seconds".into());
    with_sizes.set_buckets_for_metric(seconds, &SECONDS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_rendered_with_its_help_and_type() {
        let metrics = Metrics::new("vae");
        metrics.counter("requests_total", "Calls answered", &[("method", "Decode"), ("code", "OK")]).increment(2);
        metrics.histogram("request_seconds", "Time to the answer", &[]).record(0.02);
        metrics.histogram("batch_size", "Pictures in a batch", &[]).record(3.0);
        let text = metrics.render();
        for line in [
            "# HELP darkroom_requests_total Calls answered",
            "# TYPE darkroom_requests_total counter",
            r#"darkroom_requests_total{method="Decode",code="OK"} 2"#,
            "# TYPE darkroom_request_seconds histogram",
            r#"darkroom_request_seconds_bucket{le="0.01"} 0"#,
            r#"darkroom_request_seconds_bucket{le="0.025"} 1"#,
            r#"darkroom_batch_size_bucket{le="4"} 1"#,
            &format!(r#"darkroom_build_info{{version="{VERSION}"}} 1"#),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        for metric in metrics.registered() {
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{metric:?}");
        }
    }

    #[test]
    fn instances_do_not_see_each_other() {
        let (one, other) = (Metrics::new("a"), Metrics::new("b"));
        one.counter("images_total", "Pictures", &[]).increment(1);
        assert!(one.render().contains("darkroom_images_total 1"));
        assert!(!other.render().contains("images_total"));
    }
}
