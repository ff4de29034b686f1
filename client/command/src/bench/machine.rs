//! What the system tells of the machine and of this process.

use std::fs;
use std::num::NonZeroUsize;
use std::thread;

/// The processor's name, as Linux has it.
pub(crate) fn cpu_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    field(&text, "model name").unwrap_or("unknown CPU").to_owned()
}

/// As many threads as this process may run at once.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The most memory that this process has had so far, where Linux tells.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    peak_of(&fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_of(status: &str) -> Option<u64> {
    let kibibytes: u64 = field(status, "VmHWM")?.strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The value of the first `name: value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 2\nmodel name\t: AMD EPYC 9B45\nmodel name\t: other\n";
        assert_eq!(field(text, "model name"), Some("AMD EPYC 9B45"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn the_peak_is_in_bytes() {
        assert_eq!(peak_of("VmPeak:\t 9 kB\nVmHWM:\t    3 kB\n"), Some(3072));
        assert_eq!(peak_of("VmHWM:\t 3 pages\n"), None);
    }
}
