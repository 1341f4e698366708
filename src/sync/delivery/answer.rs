//! What is kept of the answer of a destination, or of a source, for operators: bounded, printable, and without the secrets
//! that Tidegate sent, should the destination repeat them.

use super::percent::decoded;
use crate::secret::{Endpoint, REDACTED, Secret};
use crate::sync::settings::DestinationSettings;
use crate::sync::signature::SigningKey;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use url::Url;

/// What is read of an answer; the connection is not used again when there is more.
const READ_BYTES_MAX: usize = 64 * 1024;
/// What is kept of it with a dead letter.
const KEPT_BYTES_MAX: usize = 1024;
/// A shorter text is no secret: it would stand in every answer.
const SECRET_BYTES_MIN: usize = 4;

/// Keeps answers of one destination or source.
#[derive(Debug)]
pub(crate) struct Keeper {
    secrets: Vec<Secret>,
    /// What is held until it is redacted: a secret that begins in what is kept is whole in it.
    held_bytes_max: usize,
}

impl Keeper {
    pub(super) fn new(settings: &DestinationSettings, authorization: Option<&Secret>) -> Self {
        let values = settings.headers.iter().map(|(_, value)| value).chain(authorization);
        let values = values.chain(settings.secrets.iter().map(SigningKey::text));
        Self::of(values, std::iter::once(&settings.url))
    }

    /// One that knows which secrets were sent, and to which URLs: their user info and query may be secrets.
    pub(crate) fn of<'a>(
        sent: impl Iterator<Item = &'a Secret>,
        urls: impl Iterator<Item = &'a Endpoint>,
    ) -> Self {
        let mut secrets = Vec::new();
        for value in sent.cloned().chain(urls.flat_map(|url| within(url.expose()))) {
            // What follows a scheme (`Bearer ..`) is the secret itself.
            secrets.extend(value.expose().rsplit_once(' ').map(|(_, last)| Secret::new(last.to_owned())));
            secrets.push(value);
        }
        secrets.retain(|secret| secret.expose().len() >= SECRET_BYTES_MIN);
        // The longest first: of a secret within a secret nothing is left.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        let longest = secrets.first().map_or(0, |secret| secret.expose().len());
        Self { secrets, held_bytes_max: KEPT_BYTES_MAX + longest }
    }

    /// Reads an answer to its end or its bound, keeping its beginning.
    pub(crate) async fn read<B>(&self, mut body: B, held: &mut BytesMut)
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut read = 0_usize;
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            read = read.saturating_add(data.len());
            let wanted = data.len().min(self.held_bytes_max.saturating_sub(held.len()));
            held.extend_from_slice(data.get(..wanted).unwrap_or_default());
            if read > READ_BYTES_MAX {
                break;
            }
        }
    }

    /// What operators see of the beginning of an answer.
    pub(crate) fn shown(&self, held: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(held).into_owned();
        for secret in &self.secrets {
            text = text.replace(secret.expose(), REDACTED);
        }
        let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || turns(c);
        let printable = |c: char| if steers(c) { '\u{fffd}' } else { c };
        let mut text: String = text.chars().map(printable).collect();
        text.truncate(text.floor_char_boundary(KEPT_BYTES_MAX));
        text
    }
}

/// Whether a character turns round what is shown behind it (UAX 9).
const fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What in a URL may be secret, as it stands there and as it is meant.
fn within(url: &Url) -> Vec<Secret> {
    let user_info = url.password().into_iter();
    let query = url.query().unwrap_or_default();
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let raw: Vec<&str> = user_info.chain(std::iter::once(query)).chain(values).collect();
    let meant = raw.iter().flat_map(|text| {
        let of_form = text.replace('+', " ");
        [decoded(text), decoded(&of_form)].map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    });
    let all = raw.iter().map(|text| (*text).to_owned()).chain(meant);
    all.map(Secret::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(secrets: &[&str]) -> Keeper {
        let secrets: Vec<_> = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        Keeper { secrets, held_bytes_max: KEPT_BYTES_MAX + 100 }
    }

    #[test]
    fn answers_are_printable_and_bounded() {
        let keeper = keeper(&[]);
        for (held, shown) in [
            (b"{\"a\": 1}\n\tb".to_vec(), "{\"a\": 1}\n\tb".to_owned()),
            ("\u{202e}live\u{2066}".into(), "\u{fffd}live\u{fffd}".to_owned()),
            (b"a\x00b\x1b[31m\r\xff".to_vec(), "a\u{fffd}b\u{fffd}[31m\u{fffd}\u{fffd}".to_owned()),
            (vec![b'x'; 2000], "x".repeat(1024)),
            ("\u{20ac}".repeat(400).into_bytes(), "\u{20ac}".repeat(341)),
            (vec![0xff; 1100], "\u{fffd}".repeat(341)),
        ] {
            assert_eq!(keeper.shown(&held), shown);
        }
    }

    #[test]
    fn i12_secrets_that_come_back_are_not_kept() {
        let keeper = keeper(&["Bearer canary-1", "canary-1", "canary-2"]);
        let shown = keeper.shown(b"got Bearer canary-1, canary-1 and canary-2");
        assert_eq!(shown, "got redacted, redacted and redacted");
        let edge = format!("{}canary-2 and so on", "x".repeat(KEPT_BYTES_MAX - 4));
        let shown = keeper.shown(edge.as_bytes());
        assert!(shown.ends_with("xreda") || shown.ends_with("xxreda"), "{shown}");
        assert!(!shown.contains("cana"));
    }

    #[test]
    fn i12_what_was_sent_within_a_url_is_not_kept() {
        let url = "http://me:pass%2Fword@h/in?token=canary%2F1+x&canary-2&v=1&other=canary-3";
        let url = Endpoint::new(Url::parse(url).unwrap());
        let keeper = Keeper::of(std::iter::empty(), std::iter::once(&url));
        for (answer, shown) in [
            ("at /in?token=canary%2F1+x&canary-2&v=1&other=canary-3", "at /in?redacted"),
            ("token canary%2F1+x", "token redacted"),
            ("token canary/1+x, canary/1 x", "token redacted, redacted"),
            ("canary-2 and canary-3 of v=1", "redacted and redacted of v=1"),
            ("pass%2Fword pass/word", "redacted redacted"),
        ] {
            assert_eq!(keeper.shown(answer.as_bytes()), shown);
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_left() {
        let endless = futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(hyper::body::Frame::data(Bytes::from_static(&[b'x'; 4096])))
        });
        let mut held = BytesMut::new();
        let body = http_body_util::StreamBody::new(endless);
        tokio::time::timeout(std::time::Duration::from_secs(5), keeper(&[]).read(body, &mut held))
            .await
            .unwrap();
        assert_eq!(held.len(), KEPT_BYTES_MAX + 100);
    }
}
