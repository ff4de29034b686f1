//! What is counted from the start on and can be read again, for those who ask over gRPC: a metric can only be added to.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;

/// A number that only grows, and the metric that shows it, where there is one.
#[derive(Default)]
pub(crate) struct Total {
    count: AtomicU64,
    metric: Option<Counter>,
}

impl Total {
    pub(crate) fn shown_as(metric: Counter) -> Self {
        Self { metric: Some(metric), ..Self::default() }
    }

    pub(crate) fn increment(&self, by: u64) {
        self.count.fetch_add(by, Ordering::Relaxed);
        if let Some(metric) = &self.metric {
            metric.increment(by);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
