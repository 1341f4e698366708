//! Which addresses of the program are code of the strict gate, whatever it was inlined into.

use anyhow::{Context, ensure};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the gate on the bytes lies in the sources.
const SOURCES: &str = "src/gateway/gate/";

/// Those of `addresses` that come from the gate's sources, each with its line there.
pub(crate) fn of(program: &Path, addresses: &[u64]) -> anyhow::Result<HashMap<u64, String>> {
    let mut asked = Command::new("addr2line")
        .args(["-a", "-i", "-e"])
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("addr2line (of binutils) cannot be started")?;
    let mut input = asked.stdin.take().context("no input")?;
    let mut text = String::new();
    for address in addresses {
        writeln!(text, "{address:#x}")?;
    }
    // It answers while it is still asked.
    let asking = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let said = asked.wait_with_output()?;
    asking.join().map_err(|_| anyhow::anyhow!("addr2line was not asked"))??;
    let found = found(&String::from_utf8_lossy(&said.stdout));
    ensure!(!found.is_empty(), "no line of {SOURCES} in {}: make instructions builds it", program.display());
    Ok(found)
}

/// Reads blocks of an address and the lines that it belongs to, the innermost first.
fn found(said: &str) -> HashMap<u64, String> {
    let (mut found, mut address) = (HashMap::new(), None);
    for line in said.lines() {
        if let Some(number) = line.strip_prefix("0x") {
            address = u64::from_str_radix(number, 16).ok();
        } else if let Some((_, place)) = line.split_once(SOURCES) {
            let place = place.split(' ').next().unwrap_or_default().to_owned();
            // Of several lines the first, which is the innermost.
            found.extend(address.take().map(|address| (address, place)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_the_gates_where_it_or_anything_around_it_is() {
        let said = "0x0010\n/rust/core/slice.rs:1\n/x/src/gateway/gate/head.rs:2\n/x/src/gateway/connection.rs:3\n\
                    0x20\n/x/src/gateway/connection.rs:3\n0x00000030\n/x/src/gateway/gate/mod.rs:9 (discriminator 2)\n\
                    0x40\n??:0\n";
        let place = |place: &str| place.to_owned();
        assert_eq!(found(said), HashMap::from([(0x10, place("head.rs:2")), (0x30, place("mod.rs:9"))]));
    }
}
