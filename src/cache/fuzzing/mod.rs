//! What must hold for any bytes: the checks of the fuzz targets (`fuzz/`), replayed over the kept corpora
//! by `make test`. Only built for those two.

pub mod cache_control;
pub mod codec;
pub mod dates;
pub mod ranges;
pub mod vary;

use crate::cache::purge::Fence;
use crate::cache::rules::early::Early;
use crate::cache::stored::{Few, Millis, Reuse, StoredResponse, Uses};
use crate::clock::Timestamp;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::time::Duration;

/// Field lines of one input; further ones are left out.
const LINES_MAX: usize = 16;

/// The lines of an input as values of one field; what no field can carry is left out.
fn lines<'a>(data: &'a [u8], name: &HeaderName) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let values = data.split(|byte| *byte == b'\n').take(LINES_MAX);
    for value in values.filter_map(|line: &'a [u8]| HeaderValue::from_bytes(line).ok()) {
        fields.append(name.clone(), value);
    }
    fields
}

/// A stored response with this content.
fn stored(body: Bytes) -> StoredResponse {
    StoredResponse {
        status: StatusCode::OK,
        fields: HeaderMap::new().into(),
        body,
        received_at: Timestamp::from_millis(1_700_000_000_000),
        initial_age: Millis::ZERO,
        freshness_lifetime: Duration::from_mins(1).into(),
        reuse: Reuse::WhileFresh,
        selecting_fields: Few::default(),
        tags: Few::default(),
        fence: Fence::default(),
        early: Early::NEVER,
        uses: Uses::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(target: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 10, "{inputs} inputs in {}", folder.display());
    }

    #[test]
    fn kept_corpora_hold() {
        replay("cache_control", super::cache_control::check);
        replay("codec", super::codec::check);
        replay("dates", super::dates::check);
        replay("ranges", super::ranges::check);
        replay("vary", super::vary::check);
    }
}
