//! A disk that fills up (I2, I11): 507 before the source is asked, reads and deliveries go on, and room comes back by
//! itself. Where mounting is allowed the disk is a small tmpfs; a limit of the file's size stands in for
//! it in any case.

use crate::support::{
    Ask, EVERYTHING, Gateway, InventorySource, RecordingDestination, SYNC, Setup, eventually,
};
use std::path::{Path, PathBuf};
use std::process::Command;

const DISK_BYTES: u64 = 24 << 20;

/// A tmpfs that is gone with the test.
struct Disk(PathBuf);

impl Disk {
    /// `None`: mounting is not allowed.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // One that stays is seen by the temporary folder, which cannot be removed.
        drop(Command::new("umount").arg(&self.0).status());
    }
}

/// Writes until it is full, looks, and lets it deliver; everything acknowledged must arrive.
async fn fill(gateway: &Gateway, source: &InventorySource, destination: &RecordingDestination) {
    assert_eq!(gateway.admin_post("/v1/destinations/search/pause", &serde_json::json!({})).await.status, 200);
    let body = "x".repeat(256 << 10);
    let mut acknowledged = 0;
    let refused = loop {
        let answer = gateway.put(&format!("/items/{acknowledged}"), &body).await;
        if answer.status != 200 {
            break answer;
        }
        acknowledged += 1;
        assert!(acknowledged < 200, "it is never full");
    };
    refused.assert_problem(507);
    assert!(!refused.field("Retry-After").is_empty(), "{refused:?}");
    assert_eq!(source.applied.all().len(), acknowledged, "a refused write is not sent to the source");
    let ready = gateway.admin_get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["parts"]["journal"]), (503, &serde_json::json!("full")));
    assert_eq!(gateway.get("/items/0").await.status, 200, "reads go on");

    gateway.admin_post("/v1/destinations/search/resume", &serde_json::json!({})).await;
    destination.wait_for(acknowledged).await;
    eventually("delivered changes go, and writes are taken again", async || {
        gateway.send(Ask::put("/items/last", "last")).await.status == 200
    })
    .await;
    assert_eq!(gateway.admin_get("/readyz").await.status, 200);
    destination.wait_for_body("last").await;
    let mut ids: Vec<_> = destination.deliveries.all().into_iter().map(|delivery| delivery.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), acknowledged + 1);
}

async fn world() -> (InventorySource, RecordingDestination, Setup) {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let text = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    let setup = Setup::new(text);
    (source, destination, setup)
}

#[tokio::test]
async fn i2_a_full_disk_refuses_writes_before_the_source_and_recovers() {
    let (source, destination, setup) = world().await;
    let disk = Disk::mount(&setup.data());
    if disk.is_none() {
        eprintln!("no tmpfs can be mounted: the limit of the file's size stands in");
        return;
    }
    eprintln!("on a tmpfs of {DISK_BYTES} bytes");
    let gateway = setup.start().await;
    fill(&gateway, &source, &destination).await;
    assert!(gateway.terminate().await.status.success());
}

#[tokio::test]
async fn i2_a_file_that_may_not_grow_refuses_writes_before_the_source_and_recovers() {
    let (source, destination, setup) = world().await;
    let gateway = setup.start().await;
    let limited = Command::new("prlimit")
        .arg(format!("--pid={}", gateway.process()))
        .arg(format!("--fsize={DISK_BYTES}"))
        .status();
    assert!(limited.is_ok_and(|status| status.success()), "prlimit is there with util-linux");
    fill(&gateway, &source, &destination).await;
    assert!(gateway.terminate().await.status.success());
}

#[tokio::test]
async fn i10_max_size_counts_used_pages() {
    let (source, destination, setup) = world().await;
    let gateway = setup.sync("max_size = \"8MiB\"").start().await;
    fill(&gateway, &source, &destination).await;
    assert!(gateway.terminate().await.status.success());
}

/// Others fill the disk to the last byte: what is reserved keeps deliveries going, and room comes back by itself.
#[tokio::test]
async fn i2_i11_deliveries_go_on_where_others_fill_the_disk() {
    let (source, destination, setup) = world().await;
    let Some(disk) = Disk::mount(&setup.data()) else {
        eprintln!("no tmpfs can be mounted: only the reserve's own tests ran");
        return;
    };
    let gateway = setup.start().await;
    for number in 0..8 {
        gateway.put(&format!("/items/{number}"), "before").await;
    }
    destination.wait_for(8).await;
    let pause = |what: &str| format!("/v1/destinations/search/{what}");
    assert_eq!(gateway.admin_post(&pause("pause"), &serde_json::json!({})).await.status, 200);
    for number in 0..8 {
        gateway.put(&format!("/items/{number}"), "waits").await;
    }
    let taken = disk.0.join("somebody-else");
    let mut file = std::fs::File::create(&taken).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    drop(file);
    let asked = source.applied.all().len();
    let body = "x".repeat(64 << 10);
    eventually("writes are refused for want of room", async || {
        let answer = gateway.put("/items/refused", &body).await;
        answer.status == 507 && !answer.field("Retry-After").is_empty()
    })
    .await;
    let applied = source.applied.all().len();
    for _ in 0..4 {
        gateway.put("/items/refused", &body).await.assert_problem(507);
    }
    assert_eq!(source.applied.all().len(), applied, "the source is not asked");
    assert_eq!(gateway.get("/items/0").await.status, 200, "reads go on");
    let ready = gateway.admin_get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["parts"]["journal"]), (503, &serde_json::json!("full")));
    assert_eq!(gateway.admin_post(&pause("resume"), &serde_json::json!({})).await.status, 200);
    eventually("what waits is delivered and settled on a full disk", async || {
        let shown = gateway.destination("search").await;
        shown["pending"] == 0 && shown["in_flight"] == 0
    })
    .await;
    assert_eq!(destination.deliveries.all().len(), 8 + 8 + (applied - asked), "each once");
    // Also over a kill: to open it takes room, too.
    gateway.kill().await;
    let gateway = setup.start().await;
    gateway.put("/items/refused", &body).await.assert_problem(507);
    std::fs::remove_file(&taken).unwrap();
    eventually("writes are taken again", async || gateway.put("/items/last", "last").await.status == 200)
        .await;
    destination.wait_for_body("last").await;
    eventually("the reserve is taken again", async || disk.0.join("reserve").exists()).await;
    assert_eq!(gateway.admin_get("/readyz").await.status, 200);
    assert!(gateway.terminate().await.status.success());
}
