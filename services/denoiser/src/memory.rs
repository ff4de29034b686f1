//! How much memory this process can still take: what the machine has free, and what its control groups leave of that.
//!
//! Linux says both in text files. Elsewhere nothing is known, and nothing is bounded by it.

use std::path::Path;

/// Bytes; `None` where the system does not say.
pub(crate) fn free() -> Option<usize> {
    free_in(|path| std::fs::read_to_string(path).ok())
}

/// The pure part of [`free`]: `read` gives a file's text where there is one.
fn free_in(read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| available(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(|line| left_in_group(line, &read));
    machine.into_iter().chain(groups).min()
}

/// `MemAvailable` of `/proc/meminfo`, which counts in KiB.
fn available(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// Where a generation of control groups keeps what we ask for.
struct Files {
    root: &'static str,
    limit: &'static str,
    usage: &'static str,
    reclaimable: &'static str,
}

const V2: Files =
    Files { root: "/sys/fs/cgroup", limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file " };
const V1: Files = Files {
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file ",
};

/// What the group of one line of `/proc/self/cgroup` and the groups around it leave. Inside a container the path may be the
/// host's, and only the root is there: it is the container's own group.
fn left_in_group(line: &str, read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    let files = match controllers {
        "" => V2,
        list if list.split(',').any(|controller| controller == "memory") => V1,
        _ => return None,
    };
    let number = |folder: &Path, file| read(&folder.join(file))?.trim().parse::<usize>().ok();
    let left = |folder: &Path| {
        let limit = number(folder, files.limit)?;
        let usage = number(folder, files.usage)?;
        // Pages of files go when memory is wanted.
        let stat = read(&folder.join("memory.stat")).unwrap_or_default();
        let reclaimable = stat.lines().find_map(|line| line.strip_prefix(files.reclaimable)?.trim().parse().ok());
        Some(limit.saturating_sub(usage.saturating_sub(reclaimable.unwrap_or(0))))
    };
    let own = Path::new(files.root).join(group.trim_start_matches('/'));
    own.ancestors().take_while(|folder| folder.starts_with(files.root)).filter_map(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_with(files: &[(&str, &str)]) -> Option<usize> {
        free_in(|path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned()))
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
