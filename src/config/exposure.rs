//! Files that hold secrets, and who else can read them: told once, at the start and by `check`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Whoever is neither the owner nor in the group may read it.
const READABLE_BY_OTHERS: u32 = 0o004;

/// Parts of names of fields whose values are secrets.
const SECRET: [&str; 7] = ["auth", "cookie", "key", "token", "secret", "session", "credential"];

/// Those that everybody on this system can read.
#[must_use]
pub fn exposed(files: &[PathBuf]) -> Vec<&Path> {
    let is_exposed = |file: &Path| {
        std::fs::metadata(file)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & READABLE_BY_OTHERS != 0)
    };
    let mut exposed: Vec<&Path> =
        files.iter().map(PathBuf::as_path).filter(|file| is_exposed(file)).collect();
    exposed.sort_unstable();
    exposed.dedup();
    exposed
}

/// Whether a text that may be a secret is one that stands in the file itself: what the environment gives does not,
/// a digest is none, and of the fields that a route sets only some are.
pub(super) fn is_written_secret(key: &str, text: &str) -> bool {
    let field = key.split_once("_headers.set.").map(|(_, name)| name.to_ascii_lowercase());
    !text.is_empty()
        && !text.contains("${")
        && !key.contains(".sha256[")
        && field.is_none_or(|name| SECRET.iter().any(|part| name.contains(part)))
}

/// Whether a URL has a password of its own.
pub(super) fn is_written_password(text: &str) -> bool {
    let authority = text.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.split_once(':').is_some_and(|(_, password)| is_written_secret("", password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_counts_where_it_is_written_out() {
        for (key, text, is) in [
            ("admin.token", "x", true),
            ("admin.token", "", false),
            ("admin.token", "${ADMIN}", false),
            ("route[0].request_headers.set.X-Tenant", "a", false),
            ("route[0].request_headers.set.X-Api-Key", "a", true),
            ("access[0].key[0].sha256[0]", "00", false),
        ] {
            assert_eq!(is_written_secret(key, text), is, "{key} {text}");
        }
        for (url, has) in [
            ("http://u:p@h/", true),
            ("http://u:${P}@h/", false),
            ("http://u@h/", false),
            ("http://h/a:b@c", false),
            ("redis://:p@h:1/0", true),
            ("unix:/x", false),
        ] {
            assert_eq!(is_written_password(url), has, "{url}");
        }
    }
}
