//! What `/proc` says of a process: processor time and memory.

use anyhow::Context;
use std::fs;
use std::time::Duration;

/// What a tick of `/proc/PID/stat` stands for: Linux fixes it at 100 a second for user space.
const TICK: Duration = Duration::from_millis(10);

/// User and system time that a process has spent: `self`, or a number.
pub(crate) fn cpu_time(pid: &str) -> anyhow::Result<Duration> {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?).map(|ticks| TICK * ticks)
}

/// A line of `/proc/PID/status` that is in KiB: `VmRSS`, or `VmHWM`, the most that it ever was.
pub(crate) fn memory_kib(pid: u32, name: &str) -> anyhow::Result<u64> {
    kib(&fs::read_to_string(format!("/proc/{pid}/status"))?, name)
}

/// The memory of this machine.
pub(crate) fn machine_memory_kib() -> anyhow::Result<u64> {
    kib(&fs::read_to_string("/proc/meminfo")?, "MemTotal")
}

fn ticks(stat: &str) -> anyhow::Result<u32> {
    // The name, in brackets, may hold spaces; `utime` and `stime` are fields 14 and 15 of all.
    let after_name = stat.rsplit_once(')').context("an odd /proc/PID/stat")?.1;
    Ok(after_name.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum())
}

fn kib(lines: &str, name: &str) -> anyhow::Result<u64> {
    let value = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = value.and_then(|value| value.trim().strip_suffix(" kB"));
    Ok(number.with_context(|| format!("no {name} in /proc"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_found_in_what_linux_writes() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 5 6 20 0 3 0 100 1 1";
        assert_eq!(ticks(stat).unwrap(), 42);
        assert!(ticks("").is_err());
        let status = "Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t     99 kB\n";
        assert_eq!(kib(status, "VmHWM").unwrap(), 1234);
        assert_eq!(kib(status, "VmRSS").unwrap(), 99);
        assert!(kib(status, "VmPeak").is_err());
    }
}
