//! What an answer costs in instructions: callgrind counts those of the real binary between two words, so that
//! neither the start nor the warming-up is in it. `make instructions`.
//!
//! Unlike processor time the count hardly changes from run to run, so that a small growth shows.

mod budget;
mod gate;
mod profile;
mod sampled;

use crate::rivals::client::{Ask, Clients, Keys};
use crate::rivals::origin::Origin;
use crate::rivals::rows;
use crate::rivals::server::{Place, Setting, free_ports};
use crate::rivals::tidegate::{self, Spoken};
use ::tidegate::clock::Clock;
use anyhow::{Context, bail, ensure};
use budget::{Budget, Standing};
use profile::Profile;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Answers before those that are counted.
const WARM_UP: u64 = 500;
/// Answers that are counted.
const COUNTED: u64 = 2_000;
/// Functions that are shown of each.
const SHOWN: usize = 25;
/// Characters of a function's name that are shown.
const NAME_MAX: usize = 100;
/// What the gate on the bytes may take of a hit, in percent.
const GATE_MAX_PERCENT: f64 = 5.0;
/// Lines of the gate that are named.
const GATE_LINES: usize = 10;
/// More dumps than there are kinds of answers.
const DUMPS_MAX: u32 = 9;
/// The longest wait for the gateway to answer under valgrind.
const READY_WAIT_MAX: Duration = Duration::from_mins(1);
/// Between two looks whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The longest wait for valgrind to do as it is told, or to end.
const CONTROL_WAIT_MAX: Duration = Duration::from_mins(1);
/// The longest time for a number of answers.
const ANSWERS_WAIT_MAX: Duration = Duration::from_mins(3);
/// What the driver asks like: what most clients send.
const FIELDS: &str = "User-Agent: load\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n";
const UNCHANGED_FIELDS: &str =
    "User-Agent: load\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nIf-None-Match: \"v1\"\r\n";
/// The answer that the gate is held against.
const HIT: &str = "hit";

/// How it is asked for.
#[derive(Debug, clap::Args)]
#[group(id = "instructions")]
pub(crate) struct Options {
    /// Instructions: renews the budget instead of holding the count against it.
    #[arg(long)]
    write: bool,
    /// Instructions: the budget.
    #[arg(long, value_name = "FILE", default_value = "load-tests/instructions.toml")]
    budget: PathBuf,
}

/// Counts each kind of answer; an error where one is over its budget.
pub(crate) async fn count(options: &Options, binary: &Path) -> anyhow::Result<()> {
    let origin = Origin::start(Clock::system().wall()).await?;
    let gateway = Counted::start(binary, origin.address).await?;
    let asks = [
        (HIT, Ask { fields: FIELDS, ..rows::HIT }),
        ("304", Ask { fields: UNCHANGED_FIELDS, ..rows::UNCHANGED }),
        ("forward", Ask { fields: FIELDS, ..rows::PASS }),
    ];
    let mut dumps = Vec::new();
    for (name, ask) in asks {
        dumps.push((name, gateway.answers(ask, &origin).await.with_context(|| name)?));
    }
    let setting = gateway.setting.clone();
    gateway.stop().await?;
    let mut lines = Vec::new();
    let mut counted = Vec::new();
    for (name, dump) in &dumps {
        let profile = Profile::read(dump, &setting.binary.to_string_lossy())?;
        ensure!(profile.total > 0, "callgrind has counted nothing for {name}");
        lines.extend(table(name, &profile));
        counted.push((*name, profile.total / COUNTED));
        if *name == HIT {
            lines.extend(gate_lines(&profile, &setting.binary)?);
            let sampled = sampled::line(&setting).await;
            lines.push(sampled.unwrap_or_else(|fault| format!("in processor time: left out: {fault:#}")));
        }
    }
    let over = judged(options, &counted, &mut lines)?;
    crate::report::print_lines(&format!("instructions: {COUNTED} answers of each kind"), &lines)?;
    ensure!(over == 0, "{over} kinds of answers cost more than their budget");
    Ok(())
}

/// Holds the counts against the budget, or writes them there; how many are over it.
fn judged(options: &Options, counted: &[(&str, u64)], lines: &mut Vec<String>) -> anyhow::Result<usize> {
    if options.write {
        let budget = Budget {
            date: humantime::format_rfc3339_seconds(Clock::system().wall()).to_string(),
            commit: crate::report::commit(),
            rustc: crate::report::compiler(),
            instructions: counted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        };
        budget.write(&options.budget)?;
        lines.push(format!("\n{} has them now", options.budget.display()));
        return Ok(0);
    }
    let budget = Budget::read(&options.budget)?;
    lines.push(format!("\nbudget of {} ({}, {})\n", budget.commit, budget.date, budget.rustc));
    lines.push("| answer | instructions | budget | |\n|---|---|---|---|".to_owned());
    let mut over = 0;
    for (name, count) in counted {
        let most = budget.of(name)?;
        let standing = Standing::of(*count, most);
        over += usize::from(standing == Standing::Over);
        lines.push(format!("| {name} | {count} | {most} | {} |", standing.as_str()));
    }
    Ok(over)
}

fn table(name: &str, profile: &Profile) -> Vec<String> {
    let mut lines = vec![
        format!("\n{name}: {} instructions an answer, with all that each function calls\n", {
            profile.total / COUNTED
        }),
        "| whole | own | function |\n|---|---|---|".to_owned(),
    ];
    for (function, cost) in profile.dearest(SHOWN) {
        let function: String = function.chars().take(NAME_MAX).collect();
        lines.push(format!(
            "| {} | {} | `{function}` |",
            cost.whole(profile.total) / COUNTED,
            cost.own / COUNTED
        ));
    }
    lines
}

/// What the gate takes of a hit.
fn gate_lines(profile: &Profile, program: &Path) -> anyhow::Result<Vec<String>> {
    let mut addresses: Vec<_> = profile.places.iter().map(|place| place.address).collect();
    addresses.extend(profile.places.iter().filter_map(profile::Place::callee));
    addresses.sort_unstable();
    addresses.dedup();
    let gate = gate::of(program, &addresses)?;
    let mut by_line = BTreeMap::<&str, u64>::new();
    for place in profile.within(|address| gate.contains_key(&address)) {
        let line = gate.get(&place.address).map_or("", String::as_str);
        *by_line.entry(line).or_default() += place.instructions;
    }
    let within = by_line.values().sum();
    let percent = percent(within, profile.total);
    let verdict = if percent > GATE_MAX_PERCENT { "SHORT" } else { "pass" };
    let each = within / COUNTED;
    let mut lines = vec![format!(
        "\nthe strict gate on the bytes: {each} instructions of a hit, {percent:.1} %, bound {GATE_MAX_PERCENT} %: {verdict}"
    )];
    let mut dearest: Vec<_> = by_line.into_iter().collect();
    dearest.sort_by_key(|(_, spent)| std::cmp::Reverse(*spent));
    let named = |(line, spent): &(&str, u64)| format!("{line} {}", spent / COUNTED);
    let dearest: Vec<_> = dearest.iter().take(GATE_LINES).map(named).collect();
    lines.push(format!("its dearest lines: {}", dearest.join(", ")));
    Ok(lines)
}

fn percent(part: u64, whole: u64) -> f64 {
    let thousandths = part.saturating_mul(100_000) / whole.max(1);
    f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX)) / 1_000.0
}

/// The gateway under callgrind.
struct Counted {
    setting: Setting,
    address: SocketAddr,
    folder: TempDir,
    child: Child,
}

impl Counted {
    async fn start(binary: &Path, source: SocketAddr) -> anyhow::Result<Self> {
        let binary = fs::canonicalize(binary).with_context(|| binary.display().to_string())?;
        let folder = tempfile::tempdir()?;
        let [port, second_port, _] = free_ports()?;
        let (cert, key) = (PathBuf::new(), PathBuf::new());
        let setting = Setting { binary, source, cert, key };
        let place = Place {
            setting: setting.clone(),
            folder: folder.path().to_path_buf(),
            port,
            second_port,
            third_port: second_port,
        };
        let config = tidegate::configure(&place, Spoken::Plain, 1)?;
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--instr-atstart=no", "--dump-instr=yes", "--dump-line=no"]);
        command.args(["--compress-strings=no", "--compress-pos=no"]);
        command.arg(format!("--callgrind-out-file={}", folder.path().join("out").display()));
        command.arg(&setting.binary).args(["serve", "--config"]).arg(config).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().context("valgrind cannot be started: is it installed?")?;
        let mut counted = Self { setting, address: SocketAddr::from(([127, 0, 0, 1], port)), folder, child };
        counted.until_ready().await?;
        Ok(counted)
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let begun_at = Instant::now();
        while let Err(fault) = Clients::connect(self.address, 1).await {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            if let Some(status) = self.child.try_wait()? {
                bail!("the gateway ended with {status}:\n{}", log());
            }
            if begun_at.elapsed() > READY_WAIT_MAX {
                return Err(fault.context(format!("not ready after {READY_WAIT_MAX:?}:\n{}", log())));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// What callgrind has counted for some answers on one connection.
    async fn answers(&self, ask: Ask, origin: &Origin) -> anyhow::Result<String> {
        let mut clients = Clients::connect(self.address, 1).await?;
        clients.run(ask, &Keys::again(WARM_UP)).await?;
        self.told(&["-i", "on"]).await?;
        let asked = origin.asked();
        let counted = Keys::again(COUNTED);
        let answered = timeout(ANSWERS_WAIT_MAX, clients.run(ask, &counted)).await.context("too slow")??;
        self.told(&["-i", "off"]).await?;
        let forwarded = origin.asked() - asked;
        let expected = if ask.folder == rows::PASS.folder { answered } else { 0 };
        ensure!(answered == COUNTED && forwarded == expected, "{answered} answers, {forwarded} forwards");
        // Counts begin again with each dump.
        self.told(&["-d", ask.folder]).await?;
        self.newest_dump()
    }

    async fn told(&self, words: &[&str]) -> anyhow::Result<()> {
        let pid = self.child.id().context("the gateway has ended")?.to_string();
        let mut command = Command::new("callgrind_control");
        command.args(words).arg(pid).kill_on_drop(true);
        let said = timeout(CONTROL_WAIT_MAX, command.output()).await.context("valgrind does not react")?;
        let said = said.context("callgrind_control (of valgrind) cannot be started")?;
        ensure!(said.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
        Ok(())
    }

    /// Dumps are numbered from 1.
    fn newest_dump(&self) -> anyhow::Result<String> {
        let dump = |number: u32| self.folder.path().join(format!("out.{number}"));
        let newest = (1..=DUMPS_MAX).rev().map(dump).find(|path| path.exists()).context("no dump")?;
        Ok(fs::read_to_string(newest)?)
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_three_digits() {
        for (part, whole, share) in [(0, 0, 0.0), (1, 20, 5.0), (1, 3, 33.333)] {
            assert!((percent(part, whole) - share).abs() < 1e-9, "{part} of {whole}");
        }
    }
}
