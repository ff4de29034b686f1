//! What was measured, as a table for people or as JSON.

use std::fmt;
use std::time::Duration;

use darkroom_models::stage::{Identity, LayerGroup};
use serde_json::{Map, Value, json};

use super::flags::Stage;
use super::workload::Job;

/// Everything that a run found out.
pub(crate) struct Report {
    pub(crate) job: Job,
    pub(crate) model: String,
    pub(crate) identity: Identity,
    pub(crate) cpu: String,
    pub(crate) threads: usize,
    pub(crate) load: Duration,
    /// The first step after loading: the warm-up, which does not count.
    pub(crate) first: Duration,
    /// Each round.
    pub(crate) rounds: Vec<Duration>,
    /// Of all rounds together. Empty on a GPU.
    pub(crate) groups: Vec<(LayerGroup, Duration)>,
    /// Of the whole process, loading included.
    pub(crate) peak_memory_bytes: Option<u64>,
}

impl Report {
    /// A JSON object; its fields are explained in `--help`.
    pub(crate) fn json(&self) -> Value {
        let seconds: Vec<f64> = self.rounds.iter().map(Duration::as_secs_f64).collect();
        let groups: Map<String, Value> =
            self.groups_a_round().into_iter().map(|(group, seconds)| (group.to_string(), seconds.into())).collect();
        let sized = self.job.stage != Stage::Text;
        json!({
            "stage": self.job.stage.name(),
            "model": self.model,
            "revision": self.identity.revision,
            "device": self.identity.device.to_string(),
            "precision": self.identity.precision.to_string(),
            "threads": self.threads,
            "cpu": self.cpu,
            "width": sized.then_some(self.job.width),
            "height": sized.then_some(self.job.height),
            "batch": self.job.batch,
            "undivided": self.job.undivided,
            "load_seconds": self.load.as_secs_f64(),
            "first_seconds": self.first.as_secs_f64(),
            "seconds": seconds,
            "median_seconds": median(&seconds),
            "groups": groups,
            "peak_memory_bytes": self.peak_memory_bytes,
        })
    }

    /// Seconds of an average round by layer group, the longest first. What is not spent inside an operation is "other".
    fn groups_a_round(&self) -> Vec<(LayerGroup, f64)> {
        let named = self.groups.iter().filter(|(group, _)| *group != LayerGroup::Other);
        let mut groups: Vec<(LayerGroup, Duration)> = named.copied().collect();
        if groups.is_empty() {
            return Vec::new();
        }
        let (all, inside): (Duration, Duration) =
            (self.rounds.iter().sum(), groups.iter().map(|(_, spent)| *spent).sum());
        groups.push((LayerGroup::Other, all.saturating_sub(inside)));
        groups.sort_by_key(|(_, spent)| std::cmp::Reverse(*spent));
        let rounds = self.rounds.len() as f64;
        groups.into_iter().map(|(group, spent)| (group, spent.as_secs_f64() / rounds)).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Job { stage, width, height, batch, undivided, .. } = self.job;
        write!(f, "{} of {}: {}", stage.name(), self.model, stage.round())?;
        if stage != Stage::Text {
            write!(f, ", {width}x{height}")?;
        }
        if batch > 1 {
            write!(f, ", {batch} pictures")?;
        }
        if undivided {
            write!(f, ", undivided")?;
        }
        writeln!(f)?;

        let seconds: Vec<f64> = self.rounds.iter().map(Duration::as_secs_f64).collect();
        let each: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.4}")).collect();
        writeln!(f, "  cpu          {}, {} threads", self.cpu, self.threads)?;
        writeln!(f, "  device       {} in {}", self.identity.device, self.identity.precision)?;
        writeln!(f, "  load         {:.4} s", self.load.as_secs_f64())?;
        writeln!(f, "  first step   {:.4} s", self.first.as_secs_f64())?;
        writeln!(f, "  rounds       {} s", each.join("  "))?;
        write!(f, "  median       {:.4} s", median(&seconds))?;
        if let Some(bytes) = self.peak_memory_bytes {
            write!(f, "\n  peak memory  {:.2} GiB, loading included", bytes as f64 / f64::from(1 << 30))?;
        }
        let groups = self.groups_a_round();
        let all: f64 = groups.iter().map(|(_, seconds)| seconds).sum();
        if !groups.is_empty() {
            write!(f, "\n\nwhere the time goes, in an average round:")?;
        }
        for (group, seconds) in groups {
            write!(f, "\n  {group:22}  {seconds:8.4} s  {:5.1} %", 100.0 * seconds / all)?;
        }
        Ok(())
    }
}

/// The middle one, or what lies between the middle two.
fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        Some(upper) if sorted.len().is_multiple_of(2) => f64::midpoint(sorted[middle - 1], *upper),
        Some(middle) => *middle,
        None => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use darkroom_models::stage::{Device, Precision};

    use super::*;

    fn report() -> Report {
        let millis = Duration::from_millis;
        let identity = Identity { revision: "r".into(), precision: Precision::Bf16, device: Device::Cpu };
        Report {
            job: Job { stage: Stage::Unet, width: 128, height: 64, factor: 8, batch: 1, undivided: false },
            model: "pocket".into(),
            identity,
            cpu: "CPU".into(),
            threads: 2,
            load: millis(500),
            first: millis(300),
            rounds: vec![millis(250), millis(150), millis(200)],
            groups: vec![
                (LayerGroup::Linear, millis(120)),
                (LayerGroup::Norm, millis(300)),
                (LayerGroup::Other, millis(5)),
            ],
            peak_memory_bytes: Some(3 << 29),
        }
    }

    #[test]
    fn groups_are_of_one_round_and_sum_up_to_it() {
        let json = report().json();
        let group = |name: &str| (json["groups"][name].as_f64().unwrap() * 1e6).round();
        assert_eq!((group("normalisation"), group("linear"), group("other")), (100_000.0, 40_000.0, 60_000.0));
        assert_eq!((&json["median_seconds"], &json["precision"]), (&0.2.into(), &"bf16".into()));
    }

    #[test]
    fn the_table_says_it_all() {
        let table = report().to_string();
        for part in [
            "unet of pocket: a guided step, 128x64\n",
            "0.2500  0.1500  0.2000 s",
            "1.50 GiB",
            "normalisation           ",
        ] {
            assert!(table.contains(part), "{part:?} is not in\n{table}");
        }
        assert!(table.ends_with("linear                    0.0400 s   20.0 %"), "{table}");
    }

    #[test]
    fn a_gpu_has_no_groups() {
        let report = Report { groups: Vec::new(), ..report() };
        assert_eq!(report.json()["groups"], json!({}));
        assert!(!report.to_string().contains("where the time goes"));
    }

    #[test]
    fn the_median_of_two_lies_between_them() {
        assert_eq!(median(&[3.0, 1.0]), 2.0);
        assert_eq!(median(&[5.0, 1.0, 2.0]), 2.0);
    }
}
