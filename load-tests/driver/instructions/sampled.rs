//! What the strict gate takes of a hit's processor time, the system's part included: perf looks at the gateway
//! under load some thousand times a second, and the looks that find it in the gate's code are counted.

use super::gate;
use crate::rivals::client::{Clients, Keys};
use crate::rivals::rows::HIT;
use crate::rivals::server::{Rival, Server, Setting};
use crate::rivals::{CLIENTS, Watch};
use anyhow::{Context, ensure};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long it is looked at, in seconds, and how often in each.
const SECONDS: u64 = 6;
const LOOKS: &str = "4000";
/// Fewer looks say nothing.
const LOOKS_MIN: u64 = 1_000;

/// The line that says it.
pub(super) async fn line(setting: &Setting) -> anyhow::Result<String> {
    let server = Server::start(Rival::Tidegate, setting).await?;
    let pid = *server.pids()?.first().context("the gateway has ended")?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("perf.data");
    let mut clients = Clients::connect(server.address, CLIENTS).await?;
    let mut command = Command::new("perf");
    command.args(["record", "-q", "-e", "cpu-clock", "-F", LOOKS, "-p", &pid.to_string(), "-o"]).arg(&path);
    command.args(["--", "sleep", &SECONDS.to_string()]).stdout(Stdio::null()).kill_on_drop(true);
    let looking =
        command.stderr(Stdio::null()).spawn().context("perf cannot be started: is it installed?")?;
    let watch = Watch::begin(&server)?;
    let answered = clients.run(HIT, &Keys::Any { of: 1, during: Duration::from_secs(SECONDS) }).await?;
    let measured = watch.end(answered)?;
    let looked = looking.wait_with_output().await?;
    ensure!(looked.status.success(), "perf ended with {}", looked.status);
    server.stop().await?;
    let mut command = Command::new("perf");
    command.args(["script", "-F", "ip,dso", "-i"]).arg(&path).kill_on_drop(true);
    let said = command.output().await?;
    let program = setting.binary.to_str().context("an odd path")?;
    let looks = Looks::read(&String::from_utf8_lossy(&said.stdout), program, first_address(&maps, program)?)?;
    ensure!(looks.all >= LOOKS_MIN, "only {} looks", looks.all);
    let (within, micros) = (looks.within(&setting.binary)?, measured.micros());
    let percent = super::percent(within, looks.all);
    Ok(format!(
        "in processor time: {micros:.2} us a hit with the gate, {:.2} without: {percent:.1} % of {} looks found it there \
         (what it calls elsewhere left out)",
        micros * (1.0 - percent / 100.0),
        looks.all
    ))
}

/// What perf saw.
#[derive(Debug, PartialEq, Eq)]
struct Looks {
    all: u64,
    /// Addresses of the program, as they are in its file.
    own: Vec<u64>,
}

impl Looks {
    /// Reads lines of an address and the object that it lies in.
    fn read(said: &str, program: &str, first: u64) -> anyhow::Result<Self> {
        let mut looks = Self { all: 0, own: Vec::new() };
        for line in said.lines().filter(|line| !line.trim().is_empty()) {
            let (address, object) = line.trim().split_once(' ').context("a look without an object")?;
            looks.all += 1;
            if object.trim().trim_matches(['(', ')']) == program {
                let address = u64::from_str_radix(address, 16).context("an odd address")?;
                looks.own.extend(address.checked_sub(first));
            }
        }
        Ok(looks)
    }

    fn within(&self, program: &Path) -> anyhow::Result<u64> {
        let mut addresses = self.own.clone();
        addresses.sort_unstable();
        addresses.dedup();
        let gate = gate::of(program, &addresses)?;
        Ok(u64::try_from(self.own.iter().filter(|address| gate.contains_key(*address)).count())?)
    }
}

/// Where the program begins in memory.
fn first_address(maps: &str, program: &str) -> anyhow::Result<u64> {
    let line = maps.lines().find(|line| line.ends_with(program)).context("the program is not mapped")?;
    let first = line.split('-').next().unwrap_or_default();
    u64::from_str_radix(first, 16).context("an odd line of /proc/PID/maps")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted_and_those_at_the_program_are_where_its_file_has_them() {
        let maps = "5000-6000 r--p 0 fe:00 1 /p/tidegate\n6000-9000 r-xp 1000 fe:00 1 /p/tidegate\n";
        let first = first_address(maps, "/p/tidegate").unwrap();
        let said =
            "    6010 (/p/tidegate)\n ffffffff81000000 ([kernel.kallsyms])\n\n 7f00 (/lib/libc.so.6)\n";
        let looks = Looks::read(said, "/p/tidegate", first).unwrap();
        assert_eq!(looks, Looks { all: 3, own: vec![0x1010] });
        assert!(first_address(maps, "/p/other").is_err());
    }
}
