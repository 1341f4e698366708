//! What `/proc` says of a server and everything it has started: processor time and memory.
//!
//! A server is measured as the whole tree of its processes, so that one that works in children pays
//! for them as one that works in threads pays for these.

use anyhow::Context;
use std::fs;
use std::time::Duration;

/// What a tick of `/proc/PID/stat` stands for: Linux fixes it at 100 a second for user space.
const TICK: Duration = Duration::from_millis(10);
/// The fields of `/proc/PID/stat` behind the name: the parent, and user and system time, a process's
/// own and that of the children which it has waited for.
const PARENT_FIELD: usize = 1;
const TIME_FIELDS: std::ops::Range<usize> = 11..15;

/// A line of `/proc/PID/stat`, as far as it is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    ticks: u32,
}

/// User and system time of `root` and all its descendants, those that have ended included.
pub(crate) fn cpu_time(root: u32) -> anyhow::Result<Duration> {
    let ticks: u32 = family(root, &all()?).iter().map(|member| member.ticks).sum();
    Ok(TICK * ticks)
}

/// `root` and all its descendants that run.
pub(crate) fn pids(root: u32) -> anyhow::Result<Vec<u32>> {
    Ok(family(root, &all()?).iter().map(|member| member.pid).collect())
}

/// How often the threads of `root` and all its descendants have waited for something to do, so far.
pub(crate) fn sleeps(root: u32) -> anyhow::Result<u64> {
    let mut sleeps = 0;
    for pid in pids(root)? {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end meanwhile.
            let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
            sleeps += status.lines().find_map(sleeps_of).unwrap_or_default();
        }
    }
    Ok(sleeps)
}

fn sleeps_of(line: &str) -> Option<u64> {
    line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok()
}

/// Bytes of memory that `root` and all its descendants hold; what several of them share counts once.
pub(crate) fn memory_bytes(root: u32) -> anyhow::Result<u64> {
    let mut kib = 0;
    for member in family(root, &all()?) {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", member.pid))?;
        kib += proportional_kib(&rollup)?;
    }
    Ok(kib << 10)
}

/// All processes of this machine; one that ends meanwhile is left out.
fn all() -> anyhow::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Ok(line) = fs::read_to_string(format!("/proc/{pid}/stat")) {
            found.push(stat(pid, &line)?);
        }
    }
    Ok(found)
}

fn stat(pid: u32, line: &str) -> anyhow::Result<Stat> {
    // The name, in brackets, may hold spaces and brackets.
    let after_name = line.rsplit_once(')').context("an odd /proc/PID/stat")?.1;
    let fields: Vec<_> = after_name.split_whitespace().collect();
    let parent = fields.get(PARENT_FIELD).context("no parent in /proc/PID/stat")?.parse()?;
    let times = fields.get(TIME_FIELDS).context("no times in /proc/PID/stat")?;
    Ok(Stat { pid, parent, ticks: times.iter().map(|field| field.parse().unwrap_or(0)).sum() })
}

/// `root`, its children, theirs, and so on.
fn family(root: u32, all: &[Stat]) -> Vec<Stat> {
    let mut members: Vec<_> = all.iter().filter(|one| one.pid == root).copied().collect();
    let mut next = 0;
    while let Some(elder) = members.get(next).copied() {
        members.extend(all.iter().filter(|one| one.parent == elder.pid));
        next += 1;
    }
    members
}

fn proportional_kib(rollup: &str) -> anyhow::Result<u64> {
    let value = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = value.and_then(|value| value.trim().strip_suffix(" kB"));
    Ok(number.context("no Pss in /proc/PID/smaps_rollup")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_name() {
        let line = "7 (a b) c) S 3 7 7 0 -1 4194560 100 0 0 0 31 11 5 6 20 0 3 0 100 1 1";
        assert_eq!(stat(7, line).unwrap(), Stat { pid: 7, parent: 3, ticks: 53 });
        assert!(stat(7, "7 (a").is_err());
        assert!(stat(7, "7 (a) S 1 2").is_err());
    }

    #[test]
    fn a_family_is_all_descendants_and_nobody_else() {
        let of = |pid, parent| Stat { pid, parent, ticks: 1 };
        let all = [of(1, 0), of(5, 1), of(6, 5), of(4, 6), of(7, 1), of(8, 5)];
        let pids = |root| family(root, &all).iter().map(|one| one.pid).collect::<Vec<_>>();
        assert_eq!(pids(5), [5, 6, 8, 4]);
        assert_eq!(pids(9), [0; 0], "one that has ended has none");
    }

    #[test]
    fn own_time_and_memory_can_be_read() {
        cpu_time(std::process::id()).unwrap();
        assert!(memory_bytes(std::process::id()).unwrap() > 1 << 16);
        assert!(sleeps(std::process::id()).is_ok());
        assert_eq!(sleeps_of("voluntary_ctxt_switches:\t12"), Some(12));
        assert_eq!(sleeps_of("nonvoluntary_ctxt_switches:\t12"), None);
        assert_eq!(proportional_kib("Rss:   9 kB\nPss:    12 kB\n").unwrap(), 12);
        assert!(proportional_kib("Rss: 9 kB").is_err());
    }
}
