//! `[[route]]` and what stands below it.

use super::field_changes::Message;
use super::scalar::Bound;
use super::{Check, each};
use crate::cache::policy::{Policy, RequestDirectives, SetCookie, Storing};
use crate::cache::rules::hop_by_hop;
use crate::cache::rules::identity::Identity;
use crate::config::file::{self, Limit, Route, RouteCache, RouteSync};
use crate::config::given::Given;
use crate::gateway::route::PathPattern;
use crate::gateway::{Invalidates, RouteSettings, is_unkeyed};
use crate::rate_limit::{Mode, QuotaKey, QuotaSettings, Scope, Stage};
use crate::source::Protocol;
use crate::sync::{self, KeyTemplate};
use crate::target::TargetForm;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderName, Method, StatusCode};
use std::num::NonZeroU32;
use std::time::Duration;

/// What needs somebody to be let in by name.
const NOBODY_NAMED: (&str, &str) =
    ("nobody is let in by name without the route's access", "set access, or write another");

/// The longest window of a quota.
const PER_MAX: Duration = Duration::from_hours(24);

impl Check<'_, '_> {
    pub(super) fn route(&mut self, given: &Route) -> Option<RouteSettings> {
        let path = self.pattern(&given.path);
        let invalidates = given.invalidates.iter().map(|given| self.invalidates(given)).collect();
        let names: Vec<&Given<String>> = self.file.source.iter().map(|source| &source.name).collect();
        self.known_name(&given.source, &names, "source");
        let access = given.access.as_ref().map(|access| self.known_access(access));
        let upgrade = self.upgrade(&given.upgrade);
        self.unique(given.limit.iter().map(|limit| &limit.name), "limit");
        let limits = each(&given.limit, |limit| self.limit(limit, given.access.as_ref()));
        let scheme = self.public_scheme();
        let host = given.host.as_ref().map(|host| self.authority(host, scheme));
        let methods = given.methods.as_ref().map(|methods| self.methods(methods));
        let timeout = given.timeout.as_ref().map(|timeout| self.duration(timeout, Bound::Positive));
        let strip = given.strip.as_ref().map(|strip| self.path(strip));
        let target = self.target_form(given);
        let body_bytes = given.body.as_ref().map(|body| self.size(body, Bound::ZeroAllowed));
        let let_through = given.let_through.iter().filter_map(|name| self.unkeyed_field(name)).collect();
        let request_fields = self.field_changes(given.request_headers.as_ref(), Message::Request);
        let response_fields = self.field_changes(given.response_headers.as_ref(), Message::Response);
        let cache = self.policy(&given.cache, given.access.as_ref());
        let sync = given.sync.as_ref().map(|sync| self.route_sync(sync, path.as_ref()));
        Some(RouteSettings {
            name: given.name.to_string(),
            host,
            methods,
            access,
            upgrade,
            timeout,
            target,
            strip,
            body_bytes,
            let_through,
            request_fields,
            response_fields,
            invalidates,
            source: given.source.to_string(),
            cache,
            path: path?,
            limits: limits?,
            sync: match sync {
                None => None,
                Some(sync) => Some(sync?),
            },
        })
    }

    fn known_access(&mut self, given: &Given<String>) -> String {
        let names: Vec<&Given<String>> = self.file.access.iter().map(|access| &access.name).collect();
        self.known_name(given, &names, "access");
        given.to_string()
    }

    /// What comes as it is can have nothing taken off.
    fn target_form(&mut self, given: &Route) -> TargetForm {
        match *given.target {
            file::TargetForm::Canonical => return TargetForm::Canonical,
            file::TargetForm::Opaque => {}
        }
        let (message, remedy) = ("forwards targets as they came", "write \"canonical\", or take out");
        if given.strip.is_some() {
            self.report.fault(&given.target.span, message, format!("{remedy} strip"));
        }
        if !given.cache.ignore_query.is_empty() {
            self.report.fault(&given.target.span, message, format!("{remedy} cache.ignore_query"));
        }
        TargetForm::Opaque
    }

    /// A name that has to be among others.
    fn known_name(&mut self, given: &Given<String>, names: &[&Given<String>], kind: &str) {
        if names.iter().any(|name| name.as_str() == given.as_str()) {
            return;
        }
        let listed: Vec<&str> =
            names.iter().map(|name| name.as_str()).filter(|name| !name.is_empty()).collect();
        let remedy = match listed.as_slice() {
            [] => format!("add a [[{kind}]] of that name"),
            listed => format!("add a [[{kind}]] of that name, or name one of: {}", listed.join(", ")),
        };
        self.report.fault(&given.span, format!("unknown {kind} {:?}", given.as_str()), remedy);
    }

    fn pattern(&mut self, given: &Given<String>) -> Option<PathPattern> {
        let remedy = "write one such as \"/items\", \"/items/{id}\" or \"/items/{*rest}\"";
        if given.contains('?') {
            self.report.refuse(&given.span, "a path has no query", remedy);
        }
        PathPattern::parse(given)
            .map_err(|cause| self.report.fault(&given.span, cause.to_string(), remedy))
            .ok()
    }

    /// A field that is removed from what strangers send, unless it is let through.
    fn unkeyed_field(&mut self, given: &Given<String>) -> Option<HeaderName> {
        let is_own = |name: &str| {
            matches!(name, "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host")
        };
        let name = given.parse::<HeaderName>().ok();
        let name = name.filter(|name| is_unkeyed(name.as_str()) && !is_own(name.as_str()));
        if name.is_none() {
            let message = "is no field that is removed, or Tidegate writes it";
            self.report.fault(&given.span, message, "write one such as \"X-Original-URL\"");
        }
        name
    }

    fn methods(&mut self, given: &file::Texts) -> Vec<Method> {
        if given.is_empty() {
            self.report.fault(&given.span, "no method would ever match", "name one, or leave it out for all");
        }
        let mut methods = Vec::with_capacity(given.len());
        for text in given.iter() {
            match Method::from_bytes(text.as_bytes()) {
                Ok(Method::CONNECT | Method::TRACE) => {
                    self.report.fault(&text.span, "CONNECT and TRACE are never forwarded", "leave it out");
                }
                // Methods are case-sensitive (RFC 9110 9.1): "get" would match nothing.
                Ok(method) if !text.bytes().any(|byte| byte.is_ascii_lowercase()) => methods.push(method),
                Ok(_) => {
                    let remedy = "write it in capital letters, such as \"GET\"";
                    self.report.fault(&text.span, "methods are written in capital letters", remedy);
                }
                Err(_) => self.report.fault(&text.span, "is no method", "write one such as \"GET\""),
            }
        }
        methods
    }

    fn upgrade(&mut self, given: &file::Texts) -> Vec<Protocol> {
        let mut protocols = Vec::with_capacity(given.len());
        for text in given.iter() {
            match Protocol::parse(text) {
                Ok(protocol) if protocols.contains(&protocol) => {
                    self.report.fault(&text.span, "is there twice", "leave one of them out");
                }
                Ok(protocol) => protocols.push(protocol),
                Err(cause) => {
                    self.report.fault(&text.span, cause.to_string(), "write one such as \"websocket\"");
                }
            }
        }
        protocols
    }

    fn invalidates(&mut self, given: &Given<String>) -> Invalidates {
        if let Some(tag) = given.strip_prefix("tag:") {
            return Invalidates::Tag(self.tag(given, tag));
        }
        match given.strip_suffix('*') {
            Some(prefix) => Invalidates::Prefix(self.path_text(given, prefix)),
            None => Invalidates::Path(self.path(given)),
        }
    }

    fn tag(&mut self, given: &Given<String>, tag: &str) -> String {
        if tag.is_empty() || !tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
            let message = "a tag is visible ASCII characters without commas";
            self.report.fault(&given.span, message, "write one such as \"items\"");
        }
        tag.to_owned()
    }

    fn policy(&mut self, given: &RouteCache, access: Option<&Given<String>>) -> Policy {
        let mut negative = Vec::with_capacity(given.negative.len());
        for (status, lifetime) in &given.negative {
            let duration = self.duration(lifetime, Bound::ZeroAllowed);
            match StatusCode::from_bytes(status.as_bytes()) {
                Ok(status) if (200..500).contains(&status.as_u16()) => negative.push((status, duration)),
                Ok(_) | Err(_) => {
                    let message = "its key must be a status from 200 to 499";
                    self.report.fault(&lifetime.span, message, "write one such as \"404\"");
                }
            }
        }
        for parameter in &given.ignore_query {
            let name = parameter.strip_suffix('*').unwrap_or(parameter);
            if parameter.is_empty() || name.contains(['*', '&', '=']) {
                let message = "is no name of a query parameter with an optional * at its end";
                self.report.fault(&parameter.span, message, "write one such as \"utm_*\"");
            }
        }
        Policy {
            storing: if *given.enabled { Storing::Enabled } else { Storing::Disabled },
            ttl: given.ttl.as_ref().map(|ttl| self.duration(ttl, Bound::ZeroAllowed)),
            stale_while_revalidate: self.duration(&given.stale_while_revalidate, Bound::ZeroAllowed),
            stale_if_error: self.duration(&given.stale_if_error, Bound::ZeroAllowed),
            stale_on_disconnect: *given.stale_on_disconnect,
            heuristic: *given.heuristic,
            ignore_query: given.ignore_query.iter().map(|parameter| parameter.to_string()).collect(),
            identity: self.identity(&given.identity, access),
            negative,
            set_cookie: if *given.store_set_cookie { SetCookie::Stored } else { SetCookie::NotStored },
            request_directives: match *given.request_directives {
                file::RequestDirectives::Ignore => RequestDirectives::Ignore,
                file::RequestDirectives::Honour => RequestDirectives::Honour,
            },
            tags: given.tags.iter().map(|tag| self.tag(tag, tag)).collect(),
        }
    }

    fn identity(&mut self, given: &Given<String>, access: Option<&Given<String>>) -> Identity {
        let (message, remedy) = match given.split_once(':') {
            None if given.as_str() == "shared" => return Identity::Shared,
            None if given.as_str() == "access" && access.is_some() => return Identity::Access,
            None if given.as_str() == "access" => NOBODY_NAMED,
            Some(("header", name)) => match name.parse() {
                Ok(name) if is_end_to_end(&name) => return Identity::Header(name),
                Ok(_) => ("a connection's own field tells nobody's clients apart", "name another field"),
                Err(_) => ("is no name of a field", "write one such as \"header:X-User\""),
            },
            Some(("cookie", name)) if name.parse::<HeaderName>().is_ok() => {
                return Identity::Cookie(name.to_owned());
            }
            None | Some(_) => ("must be shared, access, header:Name or cookie:name", "write \"shared\""),
        };
        self.report.fault(&given.span, message, remedy);
        Identity::Shared
    }

    fn limit(&mut self, given: &Given<Limit>, access: Option<&Given<String>>) -> Option<QuotaSettings> {
        let requests: u32 = self.count(&given.requests, 1..=i64::from(u32::MAX));
        let burst = given.burst.as_ref().map(|burst| self.count(burst, 1..=i64::from(u32::MAX)));
        let per = self.duration(&given.per, Bound::Positive);
        if per > PER_MAX {
            self.report.fault(&given.per.span, "must be at most a day", "write a shorter time");
        }
        let key = match given.key.split_once(':') {
            None if given.key.as_str() == "client" => Some(QuotaKey::Client),
            None if given.key.as_str() == "route" => Some(QuotaKey::Route),
            None if given.key.as_str() == "identity" && access.is_some() => Some(QuotaKey::Identity),
            None if given.key.as_str() == "identity" => {
                self.report.fault(&given.key.span, NOBODY_NAMED.0, NOBODY_NAMED.1);
                None
            }
            None if given.key.as_str() == "certificate" => self.certificate_key(&given.key),
            Some(("header", name)) => self.field_name(&given.key, name).map(QuotaKey::Header),
            None | Some(_) => {
                let message = "must be client, route, certificate, identity or header:Name";
                self.report.fault(&given.key.span, message, "write \"client\"");
                None
            }
        };
        if *given.scope == file::Scope::Shared && self.file.cache.shared.is_none() {
            let message = "shared quotas need [cache.shared]";
            self.report.fault(&given.scope.span, message, "add [cache.shared], or write \"local\"");
        }
        Some(QuotaSettings {
            name: given.name.to_string(),
            requests: NonZeroU32::new(requests)?,
            burst: NonZeroU32::new(burst.unwrap_or(requests))?,
            per,
            key: key?,
            mode: match *given.mode {
                file::LimitMode::Enforce => Mode::Enforce,
                file::LimitMode::Shadow => Mode::Shadow,
            },
            stage: match *given.stage {
                file::Stage::Edge => Stage::Edge,
                file::Stage::Source => Stage::Source,
            },
            scope: match *given.scope {
                file::Scope::Local => Scope::Local,
                file::Scope::Shared => Scope::Shared,
            },
        })
    }

    /// Clients show a certificate only where they are asked for one.
    fn certificate_key(&mut self, given: &Given<String>) -> Option<QuotaKey> {
        if self.file.server.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) {
            let message = "clients show no certificate without server.tls.client_ca";
            self.report.fault(&given.span, message, "set client_ca, or write \"client\"");
            return None;
        }
        Some(QuotaKey::Certificate)
    }

    fn route_sync(&mut self, given: &RouteSync, path: Option<&PathPattern>) -> Option<sync::RouteSync> {
        let mode = match (*given.mode, *given.on_refusal) {
            (file::SyncMode::Accept, file::OnRefusal::Skip) => sync::SyncMode::Accept(sync::OnRefusal::Skip),
            (file::SyncMode::Accept, file::OnRefusal::ParkKey) => {
                sync::SyncMode::Accept(sync::OnRefusal::ParkKey)
            }
            (file::SyncMode::Through, file::OnRefusal::Skip) => sync::SyncMode::Through,
            (file::SyncMode::Through, file::OnRefusal::ParkKey) => {
                let message = "a refusal parks nothing where mode is \"through\": its client is told";
                self.report.fault(
                    &given.on_refusal.span,
                    message,
                    "leave it out, or write mode = \"accept\"",
                );
                sync::SyncMode::Through
            }
        };
        if given.destinations.is_empty() {
            let remedy = "name one, or leave [route.sync] out";
            self.report.fault(&given.destinations.span, "there is no destination", remedy);
        }
        let names: Vec<_> = self.file.destination.iter().map(|destination| &destination.name).collect();
        for (index, destination) in given.destinations.iter().enumerate() {
            self.known_name(destination, &names, "destination");
            let before = given.destinations.iter().take(index);
            if before.into_iter().any(|other| other.as_str() == destination.as_str()) {
                self.report.fault(&destination.span, "is named twice", "name it once");
            }
        }
        let body_bytes_max = self.size(&given.body, Bound::Positive);
        // Without a sound pattern nobody can tell which names a key may use.
        let key = KeyTemplate::parse(&given.key, &path?.names()).map_err(|cause| {
            let remedy =
                "use {location}, {path}, a name of the route's path, {header:Name} or {json:/pointer}";
            self.report.fault(&given.key.span, cause.to_string(), remedy);
        });
        Some(sync::RouteSync {
            key: key.ok()?,
            destinations: given.destinations.iter().map(|destination| destination.to_string()).collect(),
            body_bytes_max,
            mode,
        })
    }
}

/// Whether a field is the client's own word, and reaches the source.
fn is_end_to_end(name: &HeaderName) -> bool {
    !hop_by_hop::is_hop_by_hop(name) && *name != HOST && *name != CONTENT_LENGTH
}
