//! The canonical form of a request's target: the one value that is routed, keyed, purged and
//! forwarded (I8). Pure.
//!
//! RFC 3986 6.2.2: escapes of unreserved characters are decoded, other escapes have upper-case hex
//! digits. Everything else stays as it came: `%2F`, `//`, `;`, `+`, and the query byte for byte.
//! What two parsers could read differently is refused instead of being repaired. Only where a route says
//! `target = "opaque"` the bytes go on as they came: they are then part of the key besides the canonical form.

mod canonical;

pub use canonical::{canonical_path, is_path_byte, is_query_byte};

use std::borrow::Cow;
use std::fmt;

/// The longest host name, with its port, that is taken (RFC 1035 2.3.4, and `:65535`).
const AUTHORITY_BYTES_MAX: usize = 261;

/// Why a target is refused; each is answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TargetError {
    /// A byte that no target may contain, plain or escaped.
    #[error("the target contains a character that is not allowed")]
    Character,
    /// `%` without two hex digits after it, in the path.
    #[error("the target contains a malformed percent-escape")]
    Escape,
    /// `.` or `..` as a segment, in any disguise.
    #[error("the target contains a dot segment")]
    DotSegment,
    /// The path does not begin with exactly one `/`.
    #[error("the target's path must begin with a single /")]
    Path,
    /// Not `host[:port]`.
    #[error("the host is not of the form host[:port]")]
    Host,
    /// A scheme other than http and https.
    #[error("the target's scheme is neither http nor https")]
    Scheme,
    /// Another parser of the same path would come to another route.
    #[error("the target's path could be read in two ways")]
    Ambiguous,
}

/// What a scheme says about an authority's default port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`, port 80.
    Http,
    /// `https`, port 443.
    Https,
}

impl Scheme {
    /// The scheme's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> &'static str {
        match self {
            Self::Http => "80",
            Self::Https => "443",
        }
    }
}

/// `host[:port]`: lower case, without the default port and without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority(String);

impl Authority {
    /// Reads a Host field's value or a URL's authority.
    ///
    /// # Errors
    /// [`TargetError::Host`] where it is not `host[:port]`; user info is not.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Self, TargetError> {
        if text.len() > AUTHORITY_BYTES_MAX {
            return Err(TargetError::Host);
        }
        let (host, port) = split_port(text)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        if !is_host(host) {
            return Err(TargetError::Host);
        }
        let mut canonical = host.to_ascii_lowercase();
        let port = port.trim_start_matches('0');
        if !port.is_empty() && port != scheme.default_port() {
            if port.parse::<u16>().is_err() {
                return Err(TargetError::Host);
            }
            canonical.push(':');
            canonical.push_str(port);
        }
        Ok(Self(canonical))
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without its port.
    #[must_use]
    pub fn host(&self) -> &str {
        split_port(&self.0).map_or(&self.0, |(host, _)| host)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn split_port(text: &str) -> Result<(&str, &str), TargetError> {
    let after_literal = text.rfind(']').map_or(0, |end| end + 1);
    match text.get(after_literal..).and_then(|rest| rest.find(':')) {
        None => Ok((text, "")),
        Some(at) => {
            let (host, port) = text.split_at(after_literal + at);
            let port = port.strip_prefix(':').unwrap_or_default();
            if port.bytes().all(|byte| byte.is_ascii_digit()) {
                Ok((host, port))
            } else {
                Err(TargetError::Host)
            }
        }
    }
}

fn is_host(host: &str) -> bool {
    if let Some(literal) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return literal.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
    // An empty label is no name's: with one, a dot at the end could be taken off more than once.
    host.split('.').all(|label| !label.is_empty() && label.bytes().all(allowed))
}

/// Which form of targets a route forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// The one that is routed.
    Canonical,
    /// The bytes as they came.
    Opaque,
}

/// Whether [`Target::move_to`] has taken another origin form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is the target now.
    Yes,
    /// It is not canonical as it stands.
    No,
}

/// A canonical path and query, and the authority they were asked of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    scheme: Scheme,
    authority: Authority,
    path_and_query: String,
    path_len: usize,
    /// Path and query as they came, where that is another form.
    came: Option<Box<str>>,
    /// Why there is no canonical form, where path and query stand as they came.
    unclear: Option<TargetError>,
}

impl Target {
    /// Makes the canonical target of an authority and an origin-form target (`/path?query`).
    ///
    /// # Errors
    /// The first [`TargetError`] of the path or the query.
    pub fn new(scheme: Scheme, authority: Authority, origin_form: &str) -> Result<Self, TargetError> {
        let (path_and_query, path_len) = canonical::form(origin_form)?;
        Ok(Self { scheme, authority, path_and_query, path_len, came: None, unclear: None })
    }

    /// As [`Target::new`], and keeps how it came, for a route that forwards that. Where only such a route may
    /// take it, [`Target::unclear`] says why.
    ///
    /// # Errors
    /// [`TargetError`] of bytes that no target may contain.
    pub fn received(scheme: Scheme, authority: Authority, origin_form: &str) -> Result<Self, TargetError> {
        let (path, query) = canonical::parts(origin_form);
        let (path_and_query, path_len, unclear) = match canonical::form(origin_form) {
            Ok((form, path_len)) => (form, path_len, None),
            Err(error) => {
                let is_sayable = path.starts_with('/')
                    && path.bytes().all(is_path_byte)
                    && query.is_none_or(|query| query.bytes().all(is_query_byte));
                if !is_sayable {
                    return Err(error);
                }
                (origin_form.to_owned(), path.len(), Some(error))
            }
        };
        let came = (path_and_query != origin_form).then(|| origin_form.into());
        Ok(Self { scheme, authority, path_and_query, path_len, came, unclear })
    }

    /// Becomes that of another origin form by the same scheme and authority, where that is canonical as it stands, as
    /// nearly all are; else nothing changes and it says so. No memory is needed for it.
    #[must_use]
    pub fn move_to(&mut self, origin_form: &str) -> Moved {
        let Some(path_len) = canonical::clean_path_len(origin_form) else { return Moved::No };
        self.path_and_query.clear();
        self.path_and_query.push_str(origin_form);
        (self.path_len, self.came, self.unclear) = (path_len, None, None);
        Moved::Yes
    }

    /// Becomes what a route of this form forwards.
    ///
    /// # Errors
    /// Why it has no canonical form, where that is forwarded.
    pub fn take_form(&mut self, form: TargetForm) -> Result<(), TargetError> {
        match (form, self.unclear) {
            (TargetForm::Opaque, _) => {}
            (TargetForm::Canonical, None) => self.came = None,
            (TargetForm::Canonical, Some(error)) => return Err(error),
        }
        Ok(())
    }

    /// Why it has no canonical form; `None` where it has one.
    #[must_use]
    pub const fn unclear(&self) -> Option<TargetError> {
        self.unclear
    }

    /// Path and query as they came, where they are forwarded so and that is not the canonical form.
    #[must_use]
    pub fn came(&self) -> Option<&str> {
        self.came.as_deref()
    }

    /// What its source is asked for.
    #[must_use]
    pub fn as_forwarded(&self) -> Cow<'_, Self> {
        let Some(came) = &self.came else { return Cow::Borrowed(self) };
        Cow::Owned(Self {
            scheme: self.scheme,
            authority: self.authority.clone(),
            path_and_query: came.to_string(),
            path_len: canonical::parts(came).0.len(),
            came: None,
            unclear: self.unclear,
        })
    }

    /// Reads an absolute URL, as purge and explain take them.
    ///
    /// # Errors
    /// The first [`TargetError`] found.
    pub fn parse_absolute(url: &str) -> Result<Self, TargetError> {
        Self::parse_absolute_in(url, TargetForm::Canonical)
    }

    /// The same for what a route of this form is asked for.
    ///
    /// # Errors
    /// The first [`TargetError`] found.
    pub fn parse_absolute_in(url: &str, form: TargetForm) -> Result<Self, TargetError> {
        let (scheme, rest) = url.split_once("://").ok_or(TargetError::Scheme)?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
            _ if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
            _ => return Err(TargetError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, origin_form) = rest.split_at(end);
        let authority = Authority::parse(authority, scheme)?;
        let mut target = match origin_form.bytes().next() {
            Some(b'/') => Self::received(scheme, authority, origin_form),
            Some(b'#') => Err(TargetError::Character),
            _ => Self::received(scheme, authority, &format!("/{origin_form}")),
        }?;
        target.take_form(form)?;
        Ok(target)
    }

    /// The scheme by which it was asked.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The canonical authority.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The canonical path, beginning with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path_and_query.get(..self.path_len).unwrap_or("/")
    }

    /// The query without its `?`, byte for byte as it came; `None` where there was no `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.get(self.path_len + 1..)
    }

    /// Path and query as they are forwarded.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// The same target with another query.
    #[must_use]
    pub fn with_query(mut self, query: Option<&str>) -> Self {
        self.path_and_query.truncate(self.path_len);
        if let Some(query) = query {
            self.path_and_query.push('?');
            self.path_and_query.push_str(query);
        }
        self
    }

    /// The same target without a prefix of whole segments; itself where the prefix does not fit.
    #[must_use]
    pub fn strip(self, prefix: &str) -> Self {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let rest = match self.path().strip_prefix(prefix) {
            Some("") => "/",
            // A rest that begins with // would be read as an authority by the next parser.
            Some(rest) if rest.starts_with('/') && !rest.starts_with("//") => rest,
            _ => return self,
        };
        let (path_len, mut path_and_query) = (rest.len(), rest.to_owned());
        if let Some(query) = self.query() {
            path_and_query.push('?');
            path_and_query.push_str(query);
        }
        Self { path_and_query, path_len, ..self }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority, self.path_and_query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(origin_form: &str) -> Result<String, TargetError> {
        let authority = Authority::parse("h", Scheme::Http)?;
        Target::new(Scheme::Http, authority, origin_form).map(|target| target.path_and_query().to_owned())
    }

    #[test]
    fn i8_one_canonical_form() {
        for (given, canonical) in [
            ("/", "/"),
            ("/%7euser/%61", "/~user/a"),
            ("/a%2fb", "/a%2Fb"),
            ("/a//b;c=1+2", "/a//b;c=1+2"),
            ("/a?b=%7e&a=%zz", "/a?b=%7e&a=%zz"),
            ("/a?", "/a?"),
            ("/%C3%a9", "/%C3%A9"),
            ("/...", "/..."),
        ] {
            assert_eq!(target(given).as_deref(), Ok(canonical), "{given}");
            assert_eq!(target(canonical).as_deref(), Ok(canonical), "canonical is a fixed point");
        }
    }

    #[test]
    fn i8_ambiguous_targets_are_refused() {
        for (given, error) in [
            ("/a/../b", TargetError::DotSegment),
            ("/a/%2e%2E/b", TargetError::DotSegment),
            ("/a%2f..%2fb", TargetError::DotSegment),
            ("/a/..;x=1/b", TargetError::DotSegment),
            ("/.", TargetError::DotSegment),
            ("/a%5c..", TargetError::Character),
            ("/a\\b", TargetError::Character),
            ("/a#b", TargetError::Character),
            ("/<a>", TargetError::Character),
            ("/`a`", TargetError::Character),
            ("/a?<b>", TargetError::Character),
            ("/a?\"b\"", TargetError::Character),
            ("/a%00", TargetError::Character),
            ("/a%0d%0a", TargetError::Character),
            ("/\u{e9}", TargetError::Character),
            ("/a?\u{e9}", TargetError::Character),
            ("/%4", TargetError::Escape),
            ("/%zz", TargetError::Escape),
            ("//a", TargetError::Path),
            ("a", TargetError::Path),
            ("", TargetError::Path),
        ] {
            assert_eq!(target(given), Err(error), "{given}");
        }
    }

    #[test]
    fn authorities_have_one_form() {
        for (given, canonical) in [
            ("EXAMPLE.com:80", "example.com"),
            ("example.com.", "example.com"),
            ("example.com:", "example.com"),
            ("example.com:0080", "example.com"),
            ("example.com:8080", "example.com:8080"),
            ("[::1]:81", "[::1]:81"),
        ] {
            let authority = Authority::parse(given, Scheme::Http).unwrap();
            assert_eq!(authority.as_str(), canonical);
        }
        for refused in [
            "", ":80", "a, b", "a@b", "a/b", "a:b", "a:1:2", "[::1", "a b", "h:99999", "[x]", "a..", ".",
            ".a", "a..b",
        ] {
            assert_eq!(Authority::parse(refused, Scheme::Http), Err(TargetError::Host), "{refused}");
        }
    }

    #[test]
    fn i8_an_opaque_target_keeps_its_bytes_beside_its_canonical_form() {
        for (came, canonical, unclear) in [
            ("/a", "/a", None),
            ("/%61%2fb?c", "/a%2Fb?c", None),
            ("/a/../b", "/a/../b", Some(TargetError::DotSegment)),
            ("//a?b", "//a?b", Some(TargetError::Path)),
            ("/a%5Cb", "/a%5Cb", Some(TargetError::Character)),
            ("/a%zz", "/a%zz", Some(TargetError::Escape)),
        ] {
            let authority = Authority::parse("h", Scheme::Http).unwrap();
            let target = Target::received(Scheme::Http, authority, came).unwrap();
            assert_eq!((target.path_and_query(), target.unclear()), (canonical, unclear), "{came}");
            assert_eq!(target.as_forwarded().path_and_query(), came);
            let (mut opaque, mut settled) = (target.clone(), target);
            assert_eq!(opaque.take_form(TargetForm::Opaque), Ok(()));
            assert_eq!(opaque.as_forwarded().path_and_query(), came);
            assert_eq!(settled.take_form(TargetForm::Canonical), unclear.map_or(Ok(()), Err), "{came}");
            assert!(unclear.is_some() || settled.as_forwarded().path_and_query() == canonical);
        }
        for refused in ["/a\\b", "/a#b", "/\u{e9}", "/a b", "a"] {
            let authority = Authority::parse("h", Scheme::Http).unwrap();
            assert!(Target::received(Scheme::Http, authority, refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn absolute_urls_and_stripping() {
        let target = Target::parse_absolute("http://H:80?a=1").unwrap();
        assert_eq!(target.to_string(), "http://h/?a=1");
        let target = Target::parse_absolute("https://h/api/items?x").unwrap();
        assert_eq!(target.clone().strip("/api").path_and_query(), "/items?x");
        assert_eq!(target.clone().strip("/ap").path_and_query(), "/api/items?x");
        assert_eq!(target.strip("/api/items/").path_and_query(), "/?x");
        assert_eq!(Target::parse_absolute("ftp://h/"), Err(TargetError::Scheme));
        assert_eq!(Target::parse_absolute("/items"), Err(TargetError::Scheme));
    }
}
