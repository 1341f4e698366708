//! Source and destination compared item by item, over HTTP against both.

use super::client::Http;
use super::source::{ITEMS, Item};
use futures_util::StreamExt;
use std::net::SocketAddr;

/// Items compared at once.
const COMPARED_AT_ONCE: usize = 16;

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) items: u64,
    /// The numbers of the items that differ, in order.
    pub(super) differing: Vec<u32>,
}

impl Comparison {
    pub(super) fn converged(&self) -> bool {
        self.differing.is_empty()
    }
}

/// Compares every item.
///
/// # Errors
/// Where one of the two cannot be asked: that says nothing about their items.
pub(super) async fn compare(
    http: &Http,
    source: SocketAddr,
    destination: SocketAddr,
) -> anyhow::Result<Comparison> {
    let pairs = futures_util::stream::iter(1..=ITEMS).map(|id| async move {
        let at_source: Item = http.json(&format!("http://{source}/items/{id}")).await?;
        let at_destination: Item = http.json(&format!("http://{destination}/items/{id}")).await?;
        anyhow::Ok((id, at_source == at_destination))
    });
    let mut compared = pairs.buffered(COMPARED_AT_ONCE);
    let mut differing = Vec::new();
    while let Some(pair) = compared.next().await {
        let (id, identical) = pair?;
        if !identical {
            differing.push(id);
        }
    }
    Ok(Comparison { items: u64::from(ITEMS), differing })
}

#[cfg(test)]
mod tests {
    use super::super::destination::{Honesty, RESERVED, SampleDestination};
    use super::super::source::SampleSource;
    use super::*;
    use http::Method;
    use serde_json::json;

    /// Writes one item at both, as a gateway would; the destination may refuse for a while.
    async fn write(http: &Http, source: &SampleSource, destination: &SampleDestination, id: u32) {
        let body = json!({ "name": "changed", "stock": 1 });
        let acknowledged = destination.acknowledged();
        let url = format!("http://{}/items/{id}", source.address);
        assert_eq!(http.call(Method::PUT, &url, "test", Some(&body)).await.unwrap().status, 200);
        for _ in 0..50 {
            let url = format!("http://{}/items/{id}", destination.address);
            http.call(Method::PUT, &url, "test", Some(&body)).await.unwrap();
            if destination.acknowledged() > acknowledged {
                return;
            }
        }
        panic!("the destination never acknowledged");
    }

    /// The comparison can fail: what the destination acknowledges without applying is a difference.
    #[tokio::test]
    async fn a_dropped_delivery_is_a_difference() {
        let http = Http::new();
        let source = SampleSource::start().await.unwrap();
        for (honesty, differing) in [(Honesty::Applies, vec![]), (Honesty::DropsReserved, vec![RESERVED])] {
            let destination = SampleDestination::start(honesty).await.unwrap();
            let url = format!("http://{}/items/{RESERVED}", source.address);
            let initial = serde_json::to_value(Item::initial(RESERVED)).unwrap();
            http.call(Method::PUT, &url, "test", Some(&initial)).await.unwrap();
            write(&http, &source, &destination, RESERVED).await;
            let found = compare(&http, source.address, destination.address).await.unwrap();
            assert_eq!(found.differing, differing, "{honesty:?}");
        }
    }
}
