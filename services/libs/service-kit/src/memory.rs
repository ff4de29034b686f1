//! This process's memory: what it holds, what it may hold, and how much it can still take, by what the machine has and by what
//! its control groups leave of that.
//!
//! Linux says all of it in text files. Elsewhere nothing is known, and nothing is bounded by it.

use std::path::{Path, PathBuf};

use metrics::Gauge;

use crate::Metrics;

/// Bytes that this process can still take; `None` where the system does not say.
pub fn free() -> Option<usize> {
    free_in(file)
}

/// What every service tells of its memory.
pub(crate) struct MemoryGauges {
    used: Gauge,
    limit: Gauge,
}

impl MemoryGauges {
    /// Registers them.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let used = metrics.gauge("memory_bytes", "Memory of this process that the system cannot take back", &[]);
        let limit = metrics.gauge("memory_limit_bytes", "Memory that this process may hold", &[]);
        let gauges = Self { used, limit };
        gauges.update();
        gauges
    }

    pub(crate) fn update(&self) {
        self.used.set(used_in(file).unwrap_or_default() as f64);
        self.limit.set(limit_in(file).unwrap_or_default() as f64);
    }
}

fn file(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

// The pure parts: `read` gives a file's text where there is one.

fn free_in(read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| kibibytes(&text, "MemAvailable:"));
    machine.into_iter().chain(groups(&read).filter_map(|(files, folder)| left_in(files, &folder, &read))).min()
}

/// The tightest limit around this process: of its control groups, else the machine's memory.
fn limit_in(read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| kibibytes(&text, "MemTotal:"));
    machine.into_iter().chain(groups(&read).filter_map(|(files, folder)| number(&read, &folder, files.limit))).min()
}

/// What belongs to no file: pages of files, such as mapped weights, go when memory is wanted.
fn used_in(read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let status = read(Path::new("/proc/self/status"))?;
    Some(kibibytes(&status, "RssAnon:")?.saturating_add(kibibytes(&status, "RssShmem:")?))
}

/// The bytes behind `key` in one of Linux's lists, which count in KiB.
fn kibibytes(list: &str, key: &str) -> Option<usize> {
    let line = list.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// Where a generation of control groups keeps what we ask for.
struct Files {
    root: &'static str,
    limit: &'static str,
    usage: &'static str,
    reclaimable: &'static str,
}

static V2: Files =
    Files { root: "/sys/fs/cgroup", limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file " };
static V1: Files = Files {
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file ",
};

/// The folders of the control groups that this process is in, each before the group around it. Inside a container the path may
/// be the host's, and only the root is there: it is the container's own group.
fn groups(read: impl Fn(&Path) -> Option<String>) -> impl Iterator<Item = (&'static Files, PathBuf)> {
    let lines = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let named: Vec<(&'static Files, PathBuf)> = lines.lines().filter_map(named_in).collect();
    named.into_iter().flat_map(|(files, own)| {
        let around: Vec<_> =
            own.ancestors().take_while(|folder| folder.starts_with(files.root)).map(Path::to_owned).collect();
        around.into_iter().map(move |folder| (files, folder))
    })
}

/// The group that a line of `/proc/self/cgroup` names, where memory is counted by it.
fn named_in(line: &str) -> Option<(&'static Files, PathBuf)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    let files = match controllers {
        "" => &V2,
        list if list.split(',').any(|controller| controller == "memory") => &V1,
        _ => return None,
    };
    Some((files, Path::new(files.root).join(group.trim_start_matches('/'))))
}

/// What a group's limit leaves.
fn left_in(files: &Files, folder: &Path, read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let limit = number(&read, folder, files.limit)?;
    let usage = number(&read, folder, files.usage)?;
    // Pages of files go when memory is wanted.
    let stat = read(&folder.join("memory.stat")).unwrap_or_default();
    let reclaimable = stat.lines().find_map(|line| line.strip_prefix(files.reclaimable)?.trim().parse().ok());
    Some(limit.saturating_sub(usage.saturating_sub(reclaimable.unwrap_or(0))))
}

fn number(read: impl Fn(&Path) -> Option<String>, folder: &Path, file: &str) -> Option<usize> {
    read(&folder.join(file))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(files: &'a [(&str, &str)]) -> impl Fn(&Path) -> Option<String> + 'a {
        |path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
    }

    fn free_with(files: &[(&str, &str)]) -> Option<usize> {
        free_in(found(files))
    }

    #[test]
    fn what_is_held_and_what_may_be_held_have_the_same_measure() {
        let status =
            ("/proc/self/status", "VmRSS:\t  900 kB\nRssAnon:\t  500 kB\nRssFile:\t  390 kB\nRssShmem:\t  10 kB\n");
        assert_eq!(used_in(found(&[status])), Some(510 << 10));
        let meminfo = ("/proc/meminfo", "MemTotal: 8000 kB\nMemAvailable: 100 kB\n");
        assert_eq!(limit_in(found(&[meminfo])), Some(8000 << 10));
        let group = ("/proc/self/cgroup", "0::/pod/engine\n");
        let limits =
            [("/sys/fs/cgroup/pod/engine/memory.max", "max\n"), ("/sys/fs/cgroup/pod/memory.max", "3000000\n")];
        assert_eq!(limit_in(found(&[meminfo, group, limits[0], limits[1]])), Some(3_000_000));
        assert_eq!((used_in(found(&[])), limit_in(found(&[]))), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_holds_less_than_it_may() {
        let (used, limit) = (used_in(file).unwrap(), limit_in(file).unwrap());
        assert!(0 < used && used < limit, "{used} of {limit}");
    }

    #[test]
    fn the_tightest_of_machine_and_groups_counts() {
        let meminfo = ("/proc/meminfo", "MemTotal: 24105000 kB\nMemFree: 900 kB\nMemAvailable:   8000 kB\n");
        assert_eq!(free_with(&[meminfo]), Some(8000 << 10));
        let group = ("/proc/self/cgroup", "0::/pod/engine\n");
        let inner = [("/sys/fs/cgroup/pod/engine/memory.max", "max\n"), ("/sys/fs/cgroup/pod/memory.max", "3000000\n")];
        let usage = ("/sys/fs/cgroup/pod/memory.current", "1000000\n");
        let stat = ("/sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file 400000\n");
        assert_eq!(free_with(&[meminfo, group, inner[0], inner[1], usage, stat]), Some(2_400_000));
    }

    #[test]
    fn the_first_generation_of_groups_is_read_too() {
        let files = [
            ("/proc/self/cgroup", "9:cpu:/a\n4:memory:/docker/0123\n0::/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "6000\n"),
        ];
        assert_eq!(free_with(&files), Some(0), "over the limit, nothing is left");
        assert_eq!(free_with(&[]), None);
        assert_eq!(free_with(&[("/proc/meminfo", "MemAvailable: many kB"), ("/proc/self/cgroup", "nonsense")]), None);
    }
}
