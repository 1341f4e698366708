//! Bodies in the shared tier are compressed where it pays, and cut into pieces where they are large,
//! so that none holds up the small reads of others.

use crate::cache::stored::StoredFields;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of one piece; a body of at most so many is not cut. Redis sends them within a millisecond.
pub(crate) const PIECE_BYTES: usize = 128 * 1024;
/// A body of at most so many bytes is kept as it is.
const COMPRESSED_FROM: usize = 1024;
/// Fast; higher ones gain little on text.
const LEVEL: i32 = 1;
/// Packing and unpacking so many bytes is not done where requests are answered.
const SLOW_FROM: u64 = 256 * 1024;
/// At least an eighth must be gained, because every read pays for it.
const GAIN_MIN: usize = 8;

/// Types of content that are compressed already, or as good as.
const DENSE: [&str; 7] =
    ["image/", "audio/", "video/", "font/woff", "application/zip", "application/gzip", "application/zstd"];

/// How a body lies in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packing {
    pub(crate) coding: Coding,
    /// Bytes of the body itself.
    pub(crate) length: u64,
    /// `None`: behind the meta data.
    pub(crate) pieces: Option<Pieces>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Coding {
    Plain,
    Zstd,
}

/// The pieces of a body, which stand under keys of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pieces {
    /// SHA-256 of the packed bytes, cut: equal bodies have the same pieces, others never.
    pub(crate) digest: [u8; 16],
    pub(crate) count: u32,
}

/// A body as it goes to Redis.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) packing: Packing,
    pub(crate) bytes: Bytes,
}

impl Pieces {
    /// The packed body has more bytes than this.
    pub(crate) fn bytes_min(self) -> u64 {
        u64::from(self.count.saturating_sub(1)) * PIECE_BYTES as u64
    }
}

impl Packed {
    /// Compresses a body if that pays. Takes its time: some milliseconds for a MiB.
    pub(crate) fn new(body: &Bytes, fields: &StoredFields) -> Self {
        let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let compressed =
            is_compressible(body, fields).then(|| zstd::bulk::compress(body, LEVEL).ok()).flatten();
        let gains = |packed: &Vec<u8>| packed.len() <= body.len() - body.len() / GAIN_MIN;
        match compressed.filter(gains) {
            Some(packed) => Self::coded(Coding::Zstd, packed.into(), length),
            None => Self::plain(body),
        }
    }

    /// Leaves a body as it is.
    pub(crate) fn plain(body: &Bytes) -> Self {
        Self::coded(Coding::Plain, body.clone(), u64::try_from(body.len()).unwrap_or(u64::MAX))
    }

    fn coded(coding: Coding, bytes: Bytes, length: u64) -> Self {
        let pieces = (bytes.len() > PIECE_BYTES).then(|| Pieces {
            digest: Sha256::digest(&bytes).first_chunk().copied().unwrap_or_default(),
            count: u32::try_from(bytes.len().div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX),
        });
        Self { packing: Packing { coding, length, pieces }, bytes }
    }
}

/// The body that was packed; `None` where it is not as long as was said, or longer than allowed.
pub(crate) fn unpack(packing: Packing, bytes: Bytes, length_max: u64) -> Option<Bytes> {
    let length = usize::try_from(packing.length).ok().filter(|_| packing.length <= length_max)?;
    let body = match packing.coding {
        Coding::Plain => bytes,
        Coding::Zstd => zstd::bulk::decompress(&bytes, length).ok()?.into(),
    };
    (body.len() == length).then_some(body)
}

/// Whether packing or unpacking a body of so many bytes would hold others up.
pub(crate) const fn is_slow(length: u64) -> bool {
    length > SLOW_FROM
}

fn is_compressible(body: &Bytes, fields: &StoredFields) -> bool {
    let content_type = fields.get(&CONTENT_TYPE).and_then(|value| std::str::from_utf8(value).ok());
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    let is_text = content_type.starts_with("image/svg");
    let is_dense = DENSE.iter().any(|dense| content_type.starts_with(dense)) && !is_text;
    body.len() > COMPRESSED_FROM && fields.get(&CONTENT_ENCODING).is_none() && !is_dense
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn fields(content_type: &'static str) -> StoredFields {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]).into()
    }

    fn noise(length: usize) -> Bytes {
        let mut random = fastrand::Rng::with_seed(7);
        std::iter::repeat_with(|| random.u8(..)).take(length).collect()
    }

    #[test]
    fn what_is_compressed_and_what_is_cut() {
        let text = |length| Bytes::from("tidegate ".repeat(length / 9 + 1)[..length].to_owned());
        let coded = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("br"))]).into();
        for (what, body, fields, coding, pieces) in [
            ("empty", text(0), fields("text/html"), Coding::Plain, None),
            ("short", text(1024), fields("text/html"), Coding::Plain, None),
            ("text", text(1025), fields("text/html"), Coding::Zstd, None),
            ("untyped", text(5000), HeaderMap::new().into(), Coding::Zstd, None),
            ("svg", text(5000), fields("Image/SVG+xml"), Coding::Zstd, None),
            ("an image", text(5000), fields("IMAGE/png"), Coding::Plain, None),
            ("coded already", text(5000), coded, Coding::Plain, None),
            ("nothing gained", noise(5000), fields("application/octet-stream"), Coding::Plain, None),
            ("large text", text(1 << 20), fields("text/plain"), Coding::Zstd, None),
            ("just whole", noise(PIECE_BYTES), fields("image/png"), Coding::Plain, None),
            ("cut", noise(PIECE_BYTES + 1), fields("image/png"), Coding::Plain, Some(2)),
            ("cut evenly", noise(PIECE_BYTES * 3), fields("image/png"), Coding::Plain, Some(3)),
        ] {
            let packed = Packed::new(&body, &fields);
            assert_eq!(packed.packing.coding, coding, "{what}");
            assert_eq!(packed.packing.pieces.map(|pieces| pieces.count), pieces, "{what}");
            assert_eq!(unpack(packed.packing, packed.bytes, 1 << 20), Some(body), "{what}");
        }
    }

    #[test]
    fn i10_no_more_is_unpacked_than_was_said_and_is_allowed() {
        let packed = Packed::new(&Bytes::from(vec![0; 1 << 20]), &HeaderMap::new().into());
        assert!(packed.bytes.len() < 1024, "a bomb");
        let said = |length| Packing { length, ..packed.packing };
        for (length, most) in
            [(1 << 10, 1 << 20), ((1 << 20) - 1, 1 << 20), (1 << 20, (1 << 20) - 1), (1 << 21, 1 << 22)]
        {
            assert_eq!(unpack(said(length), packed.bytes.clone(), most), None, "{length} of {most}");
        }
        assert!(unpack(said(1 << 20), packed.bytes.clone(), 1 << 20).is_some());
        let plain = Packing { coding: Coding::Plain, length: 3, pieces: None };
        assert_eq!(unpack(plain, Bytes::from_static(b"four"), 10), None);
    }
}
