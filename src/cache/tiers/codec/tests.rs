use super::*;
use crate::cache::tiers::testing::{settings, varying};
use crate::redis::LogPosition;
use crate::secret::Secret;
use proptest::prelude::*;

const KEY: &[u8] = b"the key";
const STAMP: Stamp = Stamp { epoch: 3, position: LogPosition { millis: 5, sequence: 1 } };

fn stored() -> StoredResponse {
    let mut stored = varying("de", "body", Timestamp::from_millis(7));
    let mut fields = stored.fields.to_map();
    fields.append("x-binary", HeaderValue::from_bytes(b"\xff").unwrap());
    stored.fields = fields.into();
    stored.tags = vec!["t".into()].into();
    stored.early =
        Early::decide(Duration::from_millis(250), stored.freshness_lifetime.duration(), stored.reuse);
    stored
}

fn codec(namespace: &str, secret: Option<&str>) -> Codec {
    let secret = secret.map(|secret| Secret::new(secret.into()));
    Codec::new(&SharedSettings { namespace: namespace.into(), secret, ..settings() })
}

fn plain() -> Codec {
    codec("n", None)
}

fn authenticated() -> Codec {
    codec("n", Some("secret"))
}

fn encoded(codec: &Codec) -> Vec<u8> {
    let stored = stored();
    let packed = Packed::new(&stored.body, &stored.fields);
    codec.encode_response(KEY, &stored, STAMP, &packed).unwrap()
}

/// The response and its stamp, unpacked.
fn opened(codec: &Codec, key: &[u8], bytes: Vec<u8>) -> Result<(StoredResponse, Stamp), DecodeError> {
    match codec.decode(key, &bytes.into())? {
        Value::Response(packed) => {
            let stamp = packed.stamp;
            Ok((packed.open(1 << 20)?, stamp))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    for codec in [plain(), authenticated()] {
        assert_eq!(opened(&codec, KEY, encoded(&codec)), Ok((stored(), STAMP)));
        assert_eq!(opened(&codec, b"another", encoded(&codec)), Err(DecodeError::Key));
        let marker = VaryMarker { names: vec![http::header::ACCEPT], generation: 9 };
        let bytes = codec.encode_marker(KEY, &marker).unwrap();
        assert_eq!(codec.decode(KEY, &bytes.into()), Ok(Value::Variants(marker)));
        let bytes = codec.encode_piece(KEY, b"piece").unwrap();
        assert_eq!(codec.decode(KEY, &bytes.into()), Ok(Value::Piece(Bytes::from_static(b"piece"))));
    }
}

#[test]
fn only_who_has_the_secret_and_the_namespace_is_believed() {
    let codecs =
        [plain(), authenticated(), codec("n", Some("other")), codec("m", Some("secret")), codec("m", None)];
    for (writer, codec) in codecs.iter().enumerate() {
        for (reader, own) in codecs.iter().enumerate() {
            let expected = match (writer, reader) {
                _ if writer == reader => Ok((stored(), STAMP)),
                (0, 4) | (4, 0) | (1, 3) | (3, 1) => Err(DecodeError::Key),
                (0 | 4, _) | (_, 0 | 4) => Err(DecodeError::Unauthenticated),
                _ => Err(DecodeError::Altered),
            };
            assert_eq!(opened(own, KEY, encoded(codec)), expected, "{writer} {reader}");
        }
    }
}

/// What a build with version 3 wrote.
#[test]
fn the_version_before_is_read_where_there_is_no_secret() {
    let response = include_bytes!("response.v3").to_vec();
    assert_eq!(opened(&plain(), KEY, response.clone()), Ok((stored(), STAMP)));
    assert_eq!(opened(&plain(), b"another", response.clone()), Err(DecodeError::Key));
    assert_eq!(opened(&authenticated(), KEY, response), Err(DecodeError::Unauthenticated));
    let marker = VaryMarker { names: vec![http::header::ACCEPT], generation: 9 };
    let bytes = Bytes::from_static(include_bytes!("marker.v3"));
    assert_eq!(plain().decode(KEY, &bytes), Ok(Value::Variants(marker)));
}

#[test]
fn other_versions_and_unknown_flags_are_misses() {
    for (position, value) in [(4, 77), (4, 5), (4, 2), (5, 2), (5, 77)] {
        for codec in [plain(), authenticated()] {
            let mut bytes = encoded(&codec);
            bytes[position] = value;
            assert_eq!(opened(&codec, KEY, bytes), Err(DecodeError::Version), "{position}: {value}");
        }
    }
}

proptest! {
    #[test]
    fn one_altered_byte_is_a_miss(at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        for codec in [plain(), authenticated()] {
            let mut bytes = encoded(&codec);
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert!(codec.decode(KEY, &bytes.into()).is_err());
        }
    }

    #[test]
    fn no_bytes_panic(content in prop::collection::vec(any::<u8>(), 0..300), meta_length in 0..300_u32) {
        prop_assert!(plain().decode(KEY, &Bytes::from(content.clone())).is_err());
        prop_assert!(authenticated().decode(KEY, &Bytes::from(content.clone())).is_err());
        // Also with everything right around what is read last.
        for (version, key) in [(VERSION, &b"n\0the key"[..]), (VERSION_BEFORE, KEY)] {
            let mut bytes = [&MAGIC[..], &[version, 0]].concat();
            bytes.extend(u32::try_from(key.len()).unwrap().to_be_bytes());
            bytes.extend(meta_length.to_be_bytes());
            bytes.extend(key);
            bytes.extend(&content);
            let checksum = rapidhash_v3(&bytes);
            bytes.extend(checksum.to_be_bytes());
            let decoded = plain().decode(KEY, &bytes.into());
            prop_assert!(!matches!(decoded, Err(DecodeError::Altered | DecodeError::Key)));
        }
    }
}
