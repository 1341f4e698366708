//! Figures of the process itself, read from `/proc/self` when scraped (Linux; elsewhere they are
//! absent), under the names that Prometheus gives them.

use std::fmt::Write as _;
use std::fs;

/// Clock ticks a second in `/proc`: the kernel's `USER_HZ`, 100 on every machine Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What `/proc` says of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    start_seconds: Option<f64>,
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    open_fds: Option<usize>,
    max_fds: Option<u64>,
}

/// Appends the figures in the Prometheus text format.
pub(super) fn render(text: &mut String) {
    write_figures(text, read());
}

fn read() -> Figures {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
    Figures {
        start_seconds: start_seconds(&stat, &machine),
        cpu_seconds: cpu_seconds(&stat),
        resident_bytes: resident_bytes(&status),
        open_fds: fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
        max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
    }
}

/// Field `number` (from 1, as `man proc_pid_stat` counts) of a stat line. The second is the command's name in
/// parentheses and may itself contain anything.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, machine: &str) -> Option<f64> {
    let boot: f64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    kilobytes.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn write_figures(text: &mut String, figures: Figures) {
    let lines = [
        (
            "process_start_time_seconds",
            "gauge",
            "Start of the process in seconds since the Unix epoch.",
            figures.start_seconds.map(|value| value.to_string()),
        ),
        (
            "process_cpu_seconds_total",
            "counter",
            "User and system time spent.",
            figures.cpu_seconds.map(|value| value.to_string()),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            figures.resident_bytes.map(|value| value.to_string()),
        ),
        ("process_open_fds", "gauge", "Open descriptors.", figures.open_fds.map(|value| value.to_string())),
        (
            "process_max_fds",
            "gauge",
            "Descriptors that may be open.",
            figures.max_fds.map(|value| value.to_string()),
        ),
    ];
    for (name, kind, help, value) in lines {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n")
                .unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a ) b) S 1 7 7 0 -1 4194560 5 0 0 0 150 50 0 0 20 0 4 0 12345 1 1 1";

    #[test]
    fn proc_is_read_by_its_field_numbers() {
        assert_eq!(cpu_seconds(STAT), Some(2.0), "fields 14 and 15, whatever the name contains");
        assert_eq!(start_seconds(STAT, "cpu 1 2\nbtime 1000\n"), Some(1123.45));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(cpu_seconds("cut off"), None);
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let mut text = String::new();
        write_figures(&mut text, Figures { open_fds: Some(9), ..Figures::default() });
        let expected = "# HELP process_open_fds Open descriptors.\n# TYPE process_open_fds gauge\nprocess_open_fds 9\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_all_figures() {
        let figures = read();
        assert!(figures.start_seconds.is_some_and(|seconds| seconds > 1.0e9), "{figures:?}");
        assert!(
            figures.cpu_seconds.is_some() && figures.open_fds.is_some_and(|count| count > 2),
            "{figures:?}"
        );
        assert!(figures.resident_bytes.is_some_and(|bytes| bytes > 1_000_000), "{figures:?}");
    }
}
