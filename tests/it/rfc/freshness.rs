//! RFC 9111 4.2, 5.2, 5.3; RFC 9213.

use super::{get, play, row};
use crate::support::Reply;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_2_1_which_lifetime_counts() {
    let reused = |name: &str, control: &str| {
        row(format!("4.2.1 {name}"))
            .filled(Reply::ok("a").cache_control(control))
            .then(get().reused().text("a"))
    };
    let forwarded = |name: &str, control: &str| {
        row(format!("4.2.1 {name}")).filled(Reply::ok("a").cache_control(control)).then(get().forwarded())
    };
    play(
        "",
        [
            reused("s-maxage before max-age", "s-maxage=60, max-age=0"),
            forwarded("s-maxage before max-age", "max-age=60, s-maxage=0"),
        ],
    )
    .await;
}
