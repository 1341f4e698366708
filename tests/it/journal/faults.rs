//! EIO and ENOSPC at the n-th write or sync of the journal's files, by a library that is preloaded into the
//! real binary (I2, I11): nothing acknowledged is lost, the process lives, reads go on, and it resumes.
//! `TIDEGATE_TORTURE` fails every call from the first to the last.

use crate::support::{
    Answer, Ask, EVERYTHING, InventorySource, RecordingDestination, SYNC, Setup, answers_within, eventually,
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

/// Writes that every run gets acknowledged.
const WRITES: usize = 5;
/// Runs at once.
const AT_ONCE: usize = 4;
/// Between two of the calls that fail, so many do not, the more the later.
const SPREAD_PERCENT: usize = 45;
/// Linux's numbers.
const ERRORS: [(&str, u32); 2] = [("EIO", 5), ("ENOSPC", 28)];
/// After a fault the journal is back within this time.
const BACK_WITHIN: Duration = Duration::from_secs(45);

async fn shim(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&source, include_str!("shim.c")).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let output = compiler.output().await.expect("there is a C compiler, as for SQLite");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

struct World {
    source: InventorySource,
    destination: RecordingDestination,
    shim: PathBuf,
    _folder: TempDir,
}

/// What fails in a run.
#[derive(Clone, Copy, Debug)]
struct Fault {
    calls: &'static str,
    from: usize,
    count: usize,
    error: (&'static str, u32),
}

impl World {
    fn setup(&self, fault: Fault) -> Setup {
        let text = format!(
            "{}timeout = \"3s\"\n{}{EVERYTHING}{SYNC}",
            self.source.table(),
            self.destination.table("search")
        );
        let mut setup = Setup::new(text);
        let (data, shim) = (setup.data(), self.shim.display().to_string());
        for (name, value) in [
            ("LD_PRELOAD", shim.as_str()),
            ("SHIM_FOLDER", &data.display().to_string()),
            ("SHIM_CALLS", fault.calls),
            ("SHIM_FROM", &fault.from.to_string()),
            ("SHIM_COUNT", &fault.count.to_string()),
            ("SHIM_ERRNO", &fault.error.1.to_string()),
        ] {
            setup.environment(name, value);
        }
        setup
    }

    /// Writes through a fault, kills, and starts again without it; whether anything failed.
    async fn run(&self, fault: Fault) -> bool {
        let mut setup = self.setup(fault);
        let mut acknowledged = Vec::new();
        let log = match setup.try_start().await {
            Err(exit) => {
                assert_eq!(exit.status.code(), Some(1), "{fault:?}: {}", exit.stderr);
                assert!(exit.stderr.contains("tidegate: the journal in"), "{fault:?}: {}", exit.stderr);
                exit.stderr
            }
            Ok(gateway) => {
                for number in 0..WRITES {
                    let name = format!("{}-{}-{}-{number}", fault.calls, fault.from, fault.error.0);
                    let accepted = answers_within(BACK_WITHIN, async || {
                        let ask = if number % 2 == 0 {
                            Ask::put(&format!("/items/{name}"), name.as_str())
                        } else {
                            Ask::post("/orders", name.as_str())
                        };
                        let answer = gateway.send(ask).await;
                        if answer.status / 100 == 2 {
                            acknowledged.push(answer.field("Tidegate-Change").to_owned());
                            return true;
                        }
                        refused_well(&answer, fault);
                        let read = gateway.get(&format!("/items/unknown-{name}")).await;
                        assert_eq!(read.status, 404, "{fault:?}: reads go on: {read:?}");
                        false
                    });
                    assert!(accepted.await, "{fault:?}: not accepted again\n{}", gateway.log_text());
                }
                eventually("it is ready", async || gateway.admin_get("/readyz").await.status == 200).await;
                if fault.from.is_multiple_of(2) { gateway.kill().await } else { gateway.terminate().await }
                    .stderr
            }
        };
        setup.environment("LD_PRELOAD", "");
        let gateway = setup.start().await;
        let wanted: BTreeSet<String> = acknowledged.into_iter().collect();
        let arrived = answers_within(BACK_WITHIN, async || {
            let all = self.destination.deliveries.all();
            let got: BTreeSet<&str> = all.iter().map(|delivery| delivery.id.as_str()).collect();
            wanted.iter().all(|id| got.contains(id.as_str()))
        });
        assert!(arrived.await, "{fault:?}: acknowledged and lost\n{log}\n{}", gateway.log_text());
        gateway.kill().await;
        log.contains("shim: ")
    }
}

/// A write that cannot be recorded is refused with its reason and when to come again; one whose source
/// has answered already says that it is not known.
fn refused_well(answer: &Answer, fault: Fault) {
    assert!([500, 503, 507].contains(&answer.status), "{fault:?}: {answer:?}");
    assert_eq!(answer.field("Content-Type"), "application/problem+json", "{fault:?}: {answer:?}");
    let tells = if answer.status == 500 { "Tidegate-Change" } else { "Retry-After" };
    assert!(!answer.field(tells).is_empty(), "{fault:?}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i11_nothing_acknowledged_is_lost_whichever_call_of_the_disk_fails() {
    let folder = TempDir::new().unwrap();
    let world = World {
        source: InventorySource::start().await,
        destination: RecordingDestination::start().await,
        shim: shim(folder.path()).await,
        _folder: folder,
    };
    let every = std::env::var_os("TIDEGATE_TORTURE").is_some();
    for calls in ["sync", "write"] {
        let (mut from, mut fired, mut over) = (1, 0, false);
        let mut running = FuturesUnordered::new();
        while !over || !running.is_empty() {
            while !over && running.len() < AT_ONCE {
                let fault = Fault { calls, from, count: 1 + 4 * (from % 2), error: ERRORS[from / 2 % 2] };
                running.push(world.run(fault));
                from += if every { 1 } else { 1 + from * SPREAD_PERCENT / 100 };
            }
            match running.next().await {
                Some(true) => fired += 1,
                // The call that should fail was never made: later ones are not either.
                Some(false) | None => over = true,
            }
        }
        eprintln!("{calls}: {fired} faults, the last one at call {from} or before");
        assert!(fired >= 5, "the library is not called by {calls}: {fired}");
    }
}
