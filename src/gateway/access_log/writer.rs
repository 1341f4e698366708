//! Writes the lines of the access log: as many at once as wait. A file is opened anew every few seconds, so
//! that one that was moved away is let go.

use super::{Line, LogTarget};
use metrics::Counter;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Lines that are written at once.
const BATCH_LINES: usize = 512;
/// How long a file is kept open.
const REOPEN: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    to: LogTarget,
    dropped: Counter,
    open: Option<(File, Instant)>,
    /// Whether the last batch was written: trouble is told once, when it begins.
    is_well: bool,
}

impl Writer {
    pub(super) fn new(to: LogTarget, dropped: Counter) -> Self {
        Self { to, dropped, open: None, is_well: true }
    }

    /// Writes until told to finish, or until nobody can log any more; what waits is written first.
    pub(super) async fn run(mut self, mut lines: mpsc::Receiver<Line>, finish: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_LINES);
        loop {
            let count = tokio::select! {
                biased;
                count = lines.recv_many(&mut batch, BATCH_LINES) => count,
                () = finish.cancelled() => return,
            };
            if count == 0 {
                return;
            }
            self.batch(&batch).await;
            batch.clear();
        }
    }

    async fn batch(&mut self, lines: &[Line]) {
        let mut text = Vec::new();
        for line in lines {
            // A line has nothing that JSON cannot say.
            if serde_json::to_writer(&mut text, line).is_ok() {
                text.push(b'\n');
            }
        }
        let written = self.write(text).await;
        if let Err(cause) = &written {
            self.open = None;
            self.dropped.increment(lines.len() as u64);
            if self.is_well {
                tracing::warn!(%cause, "the access log cannot be written; its lines are dropped");
            }
        }
        self.is_well = written.is_ok();
    }

    async fn write(&mut self, text: Vec<u8>) -> io::Result<()> {
        match &self.to {
            LogTarget::StandardError => {
                // A pipe that nobody empties holds up this thread, and no other.
                let written = tokio::task::spawn_blocking(move || io::stderr().write_all(&text));
                written.await.map_err(io::Error::other)?
            }
            LogTarget::File(path) => {
                let now = Instant::now();
                let (mut file, opened) = match self.open.take() {
                    Some((file, opened)) if now.duration_since(opened) < REOPEN => (file, opened),
                    _ => (open(path).await?, now),
                };
                file.write_all(&text).await?;
                file.flush().await?;
                self.open = Some((file, opened));
                Ok(())
            }
        }
    }
}

async fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o640).open(path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that cannot be written costs its lines, which are counted, and is tried again.
    #[tokio::test]
    async fn what_cannot_be_written_is_counted() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let dropped = ::metrics::with_local_recorder(&recorder, || metrics::counter!("lines_dropped_total"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later").join("access.log");
        let mut writer = Writer::new(LogTarget::File(path.clone()), dropped);
        let line = || Line {
            time: String::new(),
            route: None,
            method: Some("GET".to_owned()),
            status: 200,
            cache_status: "hit",
            bytes: 1,
            seconds: 0.5,
            client: [127, 0, 0, 1].into(),
            change: None,
        };
        writer.batch(&[line(), line()]).await;
        assert!(recorder.handle().render().contains("lines_dropped_total 2"));
        std::fs::create_dir(folder.path().join("later")).unwrap();
        writer.batch(&[line()]).await;
        let expected = "{\"time\":\"\",\"route\":null,\"method\":\"GET\",\"status\":200,\"cache_status\":\"hit\",\
                        \"bytes\":1,\"seconds\":0.5,\"client\":\"127.0.0.1\",\"change\":null}\n";
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }
}
