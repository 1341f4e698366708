//! What follows from an answered write: what it made old is forgotten, and an answer that is a
//! representation of the target is kept for later reads.

use super::body::Body;
use super::cache_status::{CacheStatus, Stored};
use super::forward::{self, Head};
use super::forwarded::X_FORWARDED_PROTO;
use super::kept::{Keeping, Kept, Whole};
use super::made_old;
use super::reply::Answer;
use super::request::Request;
use super::route::Route;
use super::{Gateway, RouteSettings};
use crate::cache::rules::{
    Exchange, ForwardReason, NoStoreReason, RequestHead, ResponseHead, invalidation, post, tags,
};
use crate::cache::{Applied, Cache, Fence, Purge, PurgeMode, Standing};
use crate::clock::Timestamp;
use crate::in_flight::Work;
use crate::redis::Patience;
use crate::source::{HostSent, Source, SourceBody};
use crate::sync::WriteSource;
use crate::target::{Authority, Scheme, Target};
use http::header::{CONTENT_LOCATION, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Body as _;
use std::sync::Arc;
use std::time::Duration;

/// A write that is about to be sent.
#[derive(Debug)]
pub(crate) struct Written {
    method: Method,
    /// As the client asked for it.
    target: Target,
    request_fields: HeaderMap,
    /// As the source may speak of it, in the source's own space but for the base path: of the origin
    /// that the client asked, and of the one that the source was asked by.
    told: Vec<Target>,
    /// As `told`, of the source's own URLs, whatever Host it was sent.
    own: Vec<Target>,
    requested_at: Timestamp,
    fence: Fence,
    /// What the write may still wait for Redis.
    patience: Patience,
}

/// What follows from an answer to a write.
pub(crate) struct Aftermath {
    pub fate: Fate,
    /// The purge of what it made old; `None`: nothing is known to have changed.
    pub applied: Option<Applied>,
}

/// What becomes of the answer itself.
pub(crate) enum Fate {
    Passed(Stored),
    Kept(Box<Keeping>),
}

impl Fate {
    /// The answer for the client.
    pub(crate) fn answer(self, mut response: Response<SourceBody>) -> Answer {
        let came_in = response.version();
        forward::pass_on(response.headers_mut(), came_in);
        let status = response.status();
        let (response, stored) = match self {
            Self::Passed(stored) => (response.map(Body::forwarded), stored),
            Self::Kept(keeping) => {
                (response.map(|body| Body::Kept(Box::new(Kept::new(body, *keeping)))), Stored::Yes)
            }
        };
        let status = CacheStatus::Forwarded { reason: ForwardReason::Method, status, stored };
        Answer { response, status, quota: None }
    }
}

impl Written {
    /// What is known before the source is called.
    pub(crate) fn begin(gateway: &Gateway, route: &Route, request: &Request, head: &Head) -> Self {
        let field = |name| head.fields.get(name).and_then(|value| value.to_str().ok());
        let client_scheme = scheme_of(field(X_FORWARDED_PROTO).unwrap_or_default());
        let at = |scheme, authority| Target::new(scheme, authority, &head.path_and_query).ok();
        let parsed = |(scheme, text): (Scheme, String)| at(scheme, Authority::parse(&text, scheme).ok()?);
        let own: Vec<Target> = route.source.authorities().filter_map(parsed).collect();
        let sent = match (&route.source.settings().host, own.first(), field(HOST)) {
            // The Host is that of the address which is asked: of one of them.
            (HostSent::Source, _, _) => own.clone(),
            (HostSent::Client | HostSent::Name(_), Some(first), Some(host)) => {
                parsed((first.scheme(), host.to_owned())).into_iter().collect()
            }
            (HostSent::Client | HostSent::Name(_), _, _) => Vec::new(),
        };
        let asked = at(client_scheme, request.target.authority().clone());
        Self {
            method: request.method.clone(),
            target: request.target.clone(),
            request_fields: request.fields.clone(),
            told: asked.into_iter().chain(sent).collect(),
            own,
            requested_at: gateway.clock.now(),
            fence: gateway.cache.fence(),
            patience: request.patience.handed_on(Duration::ZERO),
        }
    }

    /// What is known of an accepted write before its source is called; `None` where its target is none
    /// any more. The scheme that its client spoke is not kept: both are its origin.
    pub(crate) fn accepted(cache: &Cache, source: &Source, write: &WriteSource, host: &str) -> Option<Self> {
        let at = |scheme, authority: &str| {
            Target::new(scheme, Authority::parse(authority, scheme).ok()?, &write.path_and_query).ok()
        };
        let schemes = [Scheme::Http, Scheme::Https];
        let client = Authority::parse(&write.authority, Scheme::Http).ok()?;
        let asked = schemes.into_iter().filter_map(|scheme| at(scheme, &write.authority));
        let sent = schemes.into_iter().filter_map(|scheme| at(scheme, host));
        Some(Self {
            method: write.method.clone(),
            target: Target::received(Scheme::Http, client, &write.client_path_and_query).ok()?,
            request_fields: HeaderMap::new(),
            told: asked.chain(sent).collect(),
            own: source.authorities().filter_map(|(scheme, authority)| at(scheme, &authority)).collect(),
            requested_at: Timestamp::default(),
            fence: cache.fence(),
            patience: Patience::none(),
        })
    }

    pub(crate) const fn method(&self) -> &Method {
        &self.method
    }

    /// What a reference of the source's means, in its own space.
    pub(crate) fn located(&self, reference: &HeaderValue) -> Option<Target> {
        self.told.iter().chain(&self.own).find_map(|base| invalidation::resolve(base, reference))
    }

    /// Moves the fence of everything that the answered write made old (RFC 9111 4.4): before the client
    /// hears of it (I5). Then decides whether the answer is kept for reads (RFC 9110 9.3.3).
    ///
    /// What is kept carries the number of the write's own purge, though its forward began before: what
    /// this write made old is not its own answer. That is right only if nothing else that the answer
    /// falls under was purged since the forward began, because the source may have made the answer
    /// before that other change. Two looks prove it. The first is behind a fence taken now: purges up to
    /// it have set their marks, so judging by the fence of the beginning finds each of them. The second
    /// is the number of the own purge: numbers are given one by one, to the purges of other gateways
    /// too, when they are read from the log; if it directly follows that fence, nothing came between.
    ///
    /// A purge that comes later has a higher number, here because it is applied later, and elsewhere
    /// because positions in the log are only ever translated to the safe side: until this gateway has
    /// read its own purge back as the newest that it knows, the stamp that goes with the answer into the
    /// shared tier is one from before it, so that there the answer is taken as old.
    pub(crate) async fn answered(
        &self,
        gateway: &Arc<Gateway>,
        route: &Route,
        response: &Response<SourceBody>,
    ) -> Aftermath {
        let received_at = gateway.clock.now();
        let head = ResponseHead { status: response.status(), fields: response.headers() };
        let purges = self.made_old(&route.source, &route.settings, head);
        if purges.is_empty() {
            return Aftermath { fate: Fate::Passed(Stored::NotConsidered), applied: None };
        }
        if !post::represents_target(&self.method, head, &self.asked_at_source(route)) {
            let applied = gateway.cache.purge_within(purges, PurgeMode::Hard, &self.patience).await;
            let applied = Some(applied);
            return Aftermath { fate: Fate::Passed(Stored::NotConsidered), applied };
        }
        let key = route.key(&self.target, &self.request_fields);
        let policy = &route.settings.cache;
        let before = gateway.cache.fence();
        let answer_tags = tags::of_response(head.fields, &policy.tags);
        let standing = gateway.cache.standing(&key, Some(&answer_tags), self.fence);
        let applied = gateway.cache.purge_within(purges, PurgeMode::Hard, &self.patience).await;
        let own = Fence(applied.seq);
        let fate = |fate| Aftermath { fate, applied: Some(applied) };
        if standing != Standing::Valid || own != Fence(before.0 + 1) {
            return fate(Fate::Passed(Stored::No(NoStoreReason::Purged)));
        }
        let bytes = response.body().size_hint().exact().unwrap_or_default();
        if bytes > gateway.cache.object_bytes_max() {
            return fate(Fate::Passed(Stored::No(NoStoreReason::TooLarge)));
        }
        let mut fields = head.fields.clone();
        forward::sign(&mut fields, response.version());
        let (requested_at, jitter) = (self.requested_at, fastrand::f64());
        let exchange = Exchange { requested_at, received_at, fence: own, jitter };
        let request = RequestHead { method: &self.method, fields: &self.request_fields };
        fate(match post::admit(request, ResponseHead { fields: &fields, ..head }, policy, &exchange) {
            Err(reason) => Fate::Passed(Stored::No(reason)),
            Ok(_) if !gateway.in_flight.admits_copy(bytes) => {
                Fate::Passed(Stored::No(NoStoreReason::Overload))
            }
            Ok(admitted) => Fate::Kept(Box::new(Keeping::Whole(Whole {
                cache: Arc::clone(&gateway.cache),
                key,
                admitted,
                request_fields: self.request_fields.clone(),
                share: gateway.in_flight.share(Work::Copy),
            }))),
        })
    }

    /// The write's target as the source was asked for it, the base path of one of its URLs in front.
    fn asked_at_source(&self, route: &Route) -> Vec<Target> {
        let bases = route.source.base_paths();
        let with_base = |target: &Target, base: &str| {
            let path = format!("{base}{}", target.path_and_query());
            Target::new(target.scheme(), target.authority().clone(), &path).ok()
        };
        // Another spelling is another resource there.
        if self.target.came().is_some() {
            return Vec::new();
        }
        let with_each = |target| bases.iter().filter_map(move |base| with_base(target, base));
        self.told.iter().flat_map(with_each).collect()
    }

    /// Everything that an answer makes old.
    pub(crate) fn made_old(
        &self,
        source: &Source,
        settings: &RouteSettings,
        response: ResponseHead<'_>,
    ) -> Vec<Purge> {
        let mut purges = invalidation::invalidated(&self.target, response);
        if purges.is_empty() {
            return purges;
        }
        let references =
            [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|name| response.fields.get(name));
        let base_paths = source.base_paths();
        // Only what is of the origin of a target that was asked: not of the source's URL (RFC 9111 4.4).
        let named = |reference| self.told.iter().find_map(|base| invalidation::resolve(base, reference));
        let paths = references
            .filter_map(named)
            .flat_map(|located| client_paths(&located, &base_paths, settings.strip.as_deref()));
        let authority = self.target.authority().as_str();
        let named = paths.map(|path| Purge::Path { authority: authority.to_owned(), path });
        for purge in named.chain(made_old(&settings.invalidates, authority, self.target.path())) {
            if !purges.contains(&purge) {
                purges.push(purge);
            }
        }
        purges
    }
}

fn scheme_of(name: &str) -> Scheme {
    if name.eq_ignore_ascii_case("https") { Scheme::Https } else { Scheme::Http }
}

/// The paths by which clients may know what the source names: as it stands, without the base path of
/// each of the source's URLs, and each with the prefix that `strip` takes off.
fn client_paths(located: &Target, base_paths: &[&str], strip: Option<&str>) -> Vec<String> {
    let mut paths = vec![located.path().to_owned()];
    for base in base_paths {
        let without_base = located.clone().strip(base);
        if !paths.iter().any(|path| path == without_base.path()) {
            paths.push(without_base.path().to_owned());
        }
    }
    if let Some(prefix) = strip.map(|prefix| prefix.trim_end_matches('/')) {
        let behind_prefix: Vec<String> = paths.iter().map(|path| format!("{prefix}{path}")).collect();
        paths.extend(behind_prefix);
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i5_what_a_source_names_is_found_as_clients_know_it() {
        for (base, strip, located, paths) in [
            (&["/"][..], None, "/items/7", &["/items/7"][..]),
            (&["/v2"][..], None, "/v2/items/7", &["/v2/items/7", "/items/7"]),
            (&["/v2"][..], None, "/v20/items/7", &["/v20/items/7"]),
            (&["/"][..], Some("/api"), "/items/7", &["/items/7", "/api/items/7"]),
            (&["/"][..], Some("/api/"), "/apis/7", &["/apis/7", "/api/apis/7"]),
            (&["/v2/"][..], Some("/api"), "/v2/a", &["/v2/a", "/a", "/api/v2/a", "/api/a"]),
            (&["/v1", "/v2"], None, "/v2/a", &["/v2/a", "/a"]),
        ] {
            let target = Target::parse_absolute(&format!("http://h{located}")).unwrap();
            assert_eq!(client_paths(&target, base, strip), paths, "{base:?} {strip:?} {located}");
        }
    }

    #[test]
    fn a_source_may_name_itself_by_the_host_that_it_was_sent_or_by_its_own() {
        let target = |url| Target::parse_absolute(url).unwrap();
        let written = Written {
            method: Method::POST,
            target: target("http://clients.example/items"),
            request_fields: HeaderMap::new(),
            told: vec![target("http://clients.example/items"), target("http://sent.example/items")],
            own: vec![target("http://source:8080/items")],
            requested_at: Timestamp::default(),
            fence: Fence(0),
            patience: Patience::none(),
        };
        for (reference, path) in [
            ("/items/7", Some("/items/7")),
            ("http://clients.example/items/7", Some("/items/7")),
            ("http://sent.example/items/7", Some("/items/7")),
            ("http://source:8080/items/7", Some("/items/7")),
            ("http://source/items/7", None),
        ] {
            let located = written.located(&HeaderValue::from_static(reference));
            assert_eq!(located.as_ref().map(Target::path), path, "{reference}");
        }
    }
}
