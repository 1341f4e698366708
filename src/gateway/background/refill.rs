//! After a soft purge the hottest of what it has made stale is validated before somebody asks for it: a
//! bounded number, one after the other, each only where its source has a place to spare.

use super::{Cause, begin};
use crate::cache::{CacheKey, StoredResponse};
use crate::gateway::content::Content;
use crate::gateway::request::{Asks, Client, Request, RequestId, Trust};
use crate::gateway::route::Route;
use crate::gateway::{Gateway, InForce};
use crate::redis::Patience;
use crate::target::{Authority, Scheme, Target};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, Method, Version};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The most that one purge has validated.
const REFILLED_MAX: usize = 100;
/// Between the beginnings of two.
const PAUSE: Duration = Duration::from_millis(20);

/// Refills after soft purges until it is dropped.
pub(crate) async fn refill(in_force: Arc<InForce>) {
    let cache = Arc::clone(&in_force.gateway().cache);
    loop {
        cache.refill_wanted().await;
        let gateway = in_force.gateway();
        for (key, stored) in gateway.cache.hottest_stale(REFILLED_MAX) {
            if let Some((route, request)) = asked(&gateway, &key, &stored) {
                begin(Cause::Purged, &gateway, &route, (&key, &request), &stored);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A request that selects a stored response; `None` where only a client can send it, because it says who
/// asks, or has content.
fn asked(gateway: &Gateway, key: &CacheKey, stored: &StoredResponse) -> Option<(Arc<Route>, Request)> {
    let scheme = if key.scheme() == "https" { Scheme::Https } else { Scheme::Http };
    let authority = Authority::parse(key.authority(), scheme).ok()?;
    let query = key.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = Target::new(scheme, authority, &format!("{}{query}", key.path())).ok()?;
    let mut fields = HeaderMap::new();
    for (name, value) in &stored.selecting_fields {
        if [AUTHORIZATION, COOKIE].contains(name) {
            return None;
        }
        if let Some(value) = value {
            fields.append(name.clone(), value.clone());
        }
    }
    let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut request = Request {
        method: Method::GET,
        target,
        version: Version::HTTP_11,
        content: Content::None,
        interim: None,
        client: Client { address: own, peer: own, trust: Trust::Nobody },
        id: RequestId::of(&fields),
        asks: Asks::of(&fields),
        fields,
        min_version: None,
        patience: Patience::none(),
        tls: None,
        deadline: Instant::now() + gateway.settings.request_timeout,
    };
    let route = gateway.routes.settle(&mut request).ok()?;
    (route.key(&request.target, &request.fields) == *key).then(|| (Arc::clone(route), request))
}
