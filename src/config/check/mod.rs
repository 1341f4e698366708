//! The shapes of a file become [`Settings`]: what a schema cannot say is checked here, all of it in
//! one run. Where a value is wrong its fault is noted and some other value stands in for it; the
//! caller drops the settings of a report with faults.

mod access;
mod admin;
mod delivery;
mod field_changes;
mod route;
mod scalar;
mod server;
mod source;
mod telemetry;
mod tls;

use super::fault::Report;
use super::file::{self, File, Shared};
use super::given::Given;
use super::{Keys, Settings};
use crate::{cache, gateway, sync};
use scalar::Bound;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings of a file; `None` where a fault left nothing to build from.
pub(super) fn settings(file: &File, base: &Path, report: &mut Report<'_>) -> Option<Settings> {
    let mut check = Check { report, base, file, secret_files: Vec::new() };
    check.names();
    let threads = check.threads();
    let (listen, operators) = check.listeners();
    let admin = check.admin(operators);
    let shared = file.cache.shared.as_ref().map(|shared| check.shared(shared));
    let cache = cache::Settings {
        memory_bytes: check.size(&file.cache.memory, Bound::ZeroAllowed),
        memory_object_bytes: check.size(&file.cache.memory_object, Bound::Positive),
        shared: shared.flatten(),
    };
    let sources = each(&file.source, |source| check.source(source));
    let at_sources = file.source.iter().map(|source| check.accepted_writes(source)).collect();
    let destinations = each(&file.destination, |destination| check.destination(destination));
    let routes = each(&file.route, |route| check.route(route));
    let access = each(&file.access, |access| check.access(access));
    let journal = check.journal();
    let gateway = check.gateway(listen);
    let spans = check.spans(&file.telemetry);
    // Every check has run: from here on what is missing has its fault.
    let (sources, destinations, routes, access) = (sources?, destinations?, routes?, access?);
    let sync = sync::Settings {
        source_timeouts: sources.iter().map(|source| longest_timeout(source, &routes)).collect(),
        sources: at_sources,
        destinations,
        ..journal
    };
    let gateway = gateway::Settings { access, routes, ..gateway };
    let redacted = serde_json::to_value(file).ok()?;
    let (keys, digest, secret_files) = (Keys::default(), String::new(), check.secret_files);
    let admin = admin?;
    Some(Settings {
        threads,
        gateway,
        admin,
        cache,
        sources,
        sync,
        spans,
        redacted,
        keys,
        digest,
        secret_files,
    })
}

/// A source's name, and how long it may act at most on a request of any route.
fn longest_timeout(
    source: &crate::source::Settings,
    routes: &[gateway::RouteSettings],
) -> (String, Duration) {
    let own = routes.iter().filter(|route| route.source == source.name);
    let longest = own.filter_map(|route| route.timeout).max().unwrap_or_default();
    (source.name.clone(), longest.max(source.timeout))
}

/// Checks every element, so that the faults of all are found, and gives them if all are sound.
fn each<T, U>(given: &[Given<T>], mut check: impl FnMut(&Given<T>) -> Option<U>) -> Option<Vec<U>> {
    let checked: Vec<Option<U>> = given.iter().map(&mut check).collect();
    checked.into_iter().collect()
}

/// One run over a file.
struct Check<'a, 't> {
    report: &'a mut Report<'t>,
    base: &'a Path,
    file: &'a File,
    /// Where keys of certificates are.
    secret_files: Vec<PathBuf>,
}

impl Check<'_, '_> {
    /// Names are unique per kind, and there is something to serve.
    fn names(&mut self) {
        let file = self.file;
        self.unique(file.source.iter().map(|source| &source.name), "source");
        self.unique(file.destination.iter().map(|destination| &destination.name), "destination");
        self.unique(file.access.iter().map(|access| &access.name), "access");
        self.unique(file.route.iter().map(|route| &route.name), "route");
        for (is_missing, name) in [(file.source.is_empty(), "source"), (file.route.is_empty(), "route")] {
            if is_missing {
                let remedy = format!("add a [[{name}]]");
                self.report.fault_at(0, name.to_owned(), format!("there is no {name}"), remedy);
            }
        }
    }

    fn unique<'n>(&mut self, names: impl Iterator<Item = &'n Given<String>>, kind: &str) {
        let mut seen = HashSet::new();
        for name in names {
            self.name(name);
            if !seen.insert(name.as_str()) {
                let message = format!("{kind} {:?} is there twice", name.as_str());
                self.report.fault(&name.span, message, "give each its own name");
            }
        }
    }

    /// A name goes to logs, metrics and fields: visible ASCII and spaces, without quotes.
    fn name(&mut self, name: &Given<String>) {
        let fits = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if name.trim().is_empty() || name.len() > scalar::NAME_BYTES_MAX || !name.bytes().all(fits) {
            let message = "must be 1 to 100 visible ASCII characters without quotes and backslashes";
            self.report.fault(&name.span, message, "choose another name");
        }
    }

    fn shared(&mut self, shared: &Given<Shared>) -> Option<cache::SharedSettings> {
        let namespace_fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}');
        let namespace = shared.namespace.to_string();
        if namespace.is_empty() || namespace.len() > 100 || !namespace.bytes().all(namespace_fits) {
            let message = "must be 1 to 100 visible ASCII characters without braces";
            self.report.fault(&shared.namespace.span, message, "choose another namespace");
        }
        let redis = self.redis(&shared.redis, shared.ca.as_ref());
        let settings = cache::SharedSettings {
            redis: redis?,
            namespace,
            object_bytes: self.size(&shared.object, Bound::Positive),
            secret: shared.secret.secret(),
            hash_keys: *shared.hash_keys,
            max_unverified: self.duration(&shared.max_unverified, Bound::ZeroAllowed),
            lease: self.duration(&shared.lease, Bound::ZeroAllowed),
            data: Some(self.base.join(self.file.sync.data.as_str())),
        };
        Some(settings)
    }

    fn journal(&mut self) -> sync::Settings {
        let journal = &self.file.sync;
        if journal.data.is_empty() {
            self.report.refuse(&journal.data.span, "is empty", "name a folder, such as \"data\"");
        }
        let folder = self.base.join(journal.data.as_str());
        sync::Settings {
            data: folder,
            retention: self.duration(&journal.retention, Bound::ZeroAllowed),
            max_size_bytes: self.size(&journal.max_size, Bound::Positive),
            destinations: Vec::new(),
            removed: match *journal.removed {
                file::Removed::Drain => sync::Removed::Drain,
                file::Removed::Drop => sync::Removed::Drop,
            },
            sources: Vec::new(),
            source_timeouts: Vec::new(),
        }
    }
}
