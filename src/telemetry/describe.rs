//! HELP, TYPE and unit of every metric.

use super::metrics as names;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// How a metric moves.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Up only.
    Counter,
    /// Both ways.
    Gauge,
    /// Counted by size.
    Histogram,
}

const METRICS: &[(&str, Kind, Unit, &str)] = &[
    (
        names::TIER_UNREADABLE,
        Kind::Counter,
        Unit::Count,
        "Values of the shared tier that were not used, by reason.",
    ),
    (names::VARIANTS_DROPPED, Kind::Counter, Unit::Count, "Variants dropped because a key had too many."),
    (
        names::TAGS_DROPPED,
        Kind::Counter,
        Unit::Count,
        "Tags of stored responses beyond the bounds: a purge by them does not find the response.",
    ),
    (
        names::PURGE_LAG,
        Kind::Histogram,
        Unit::Seconds,
        "From a purge's entry into the log of purges, by another gateway, to its being applied here.",
    ),
    (
        names::CHECKPOINTS_READ,
        Kind::Counter,
        Unit::Count,
        "Checkpoints of the log of purges that were looked for at a start or after a gap, by result.",
    ),
    (
        names::CHECKPOINTS_WRITTEN,
        Kind::Counter,
        Unit::Count,
        "Checkpoints of the log of purges that this gateway wrote, by result.",
    ),
    (
        names::FILL_TURNS,
        Kind::Counter,
        Unit::Count,
        "Misses while other replicas are at work: this one asked (taken), found what another had asked for \
         (found), or waited for nothing (missing, not-storable, late).",
    ),
    (
        names::PURGE_FOLLOWERS,
        Kind::Gauge,
        Unit::Count,
        "Gateways that follow the log of purges, this one included.",
    ),
    (names::STORES_FENCED, Kind::Counter, Unit::Count, "Responses not stored because a purge came between."),
    (names::BUILD_INFO, Kind::Gauge, Unit::Count, "Always 1; the version of this build."),
    (
        names::CONFIG_INFO,
        Kind::Gauge,
        Unit::Count,
        "Always 1; the SHA-256 of the configuration file in force.",
    ),
    (
        names::CONFIG_RELOADS,
        Kind::Counter,
        Unit::Count,
        "Reloads of the configuration, by what came of them.",
    ),
    (
        names::CONFIG_LAST_RELOAD,
        Kind::Gauge,
        Unit::Seconds,
        "When the configuration was reloaded last, in seconds since the Unix epoch.",
    ),
    (
        names::CONFIG_LAST_SUCCESS,
        Kind::Gauge,
        Unit::Seconds,
        "When the configuration was read last without a fault, in seconds since the Unix epoch.",
    ),
    (
        names::CONFIG_LAST_SUCCESSFUL,
        Kind::Gauge,
        Unit::Count,
        "1 where the last reload was not refused, or there was none.",
    ),
    (names::REQUESTS, Kind::Counter, Unit::Count, "Requests answered."),
    (
        names::REQUEST_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "Time until the head of an answer: of what is stored (hit), of a forward, or Tidegate's own.",
    ),
    (
        names::ACCESS_LOG_DROPPED,
        Kind::Counter,
        Unit::Count,
        "Lines of the access log that were dropped: its queue was full, or its file cannot be written.",
    ),
    (names::SPANS_SENT, Kind::Counter, Unit::Count, "Spans that the collector has taken."),
    (
        names::SPANS_DROPPED,
        Kind::Counter,
        Unit::Count,
        "Spans that were dropped: too many wait (queue-full), the collector refused them, or is unreachable.",
    ),
    (
        names::SOURCE_REQUESTS,
        Kind::Counter,
        Unit::Count,
        "Forwards to a source, by the reason for them (RFC 9211 fwd, or an own cause).",
    ),
    (names::SOURCE_IN_FLIGHT, Kind::Gauge, Unit::Count, "Requests to a source under way."),
    (
        names::SOURCE_CONCURRENCY,
        Kind::Gauge,
        Unit::Count,
        "The most requests that a source gets at once now.",
    ),
    (names::SOURCE_WAITING, Kind::Gauge, Unit::Count, "Requests that wait for a place toward a source."),
    (
        names::SOURCE_REFUSED,
        Kind::Counter,
        Unit::Count,
        "Requests that were not sent to a source: no place in time (busy), or its breaker is open (breaker).",
    ),
    (
        names::SOURCE_RETRIES,
        Kind::Counter,
        Unit::Count,
        "Requests that were sent again (sent), or would have been if the budget allowed it (over-budget).",
    ),
    (
        names::SOURCE_FAILURES,
        Kind::Counter,
        Unit::Count,
        "Exchanges with an address that failed: no answer, none that can be used, or 502, 503, 504.",
    ),
    (
        names::SOURCE_BODIES_BROKEN,
        Kind::Counter,
        Unit::Count,
        "Bodies of a source's answers that broke off (broken) or stood still for body_idle (idle).",
    ),
    (names::SOURCE_EJECTED, Kind::Gauge, Unit::Count, "1 while an address of a source is ejected."),
    (
        names::SOURCE_BREAKER,
        Kind::Gauge,
        Unit::Count,
        "The breaker toward a source: 0 closed, 1 half-open, 2 open.",
    ),
    (names::SOURCE_CHECKS, Kind::Counter, Unit::Count, "Active checks of a source's addresses."),
    (names::SOURCE_SECONDS, Kind::Histogram, Unit::Seconds, "Time until the head of a source's answer."),
    (names::COLLAPSED, Kind::Counter, Unit::Count, "Requests answered by another request's forward."),
    (
        names::UNWAITED,
        Kind::Counter,
        Unit::Count,
        "Requests that waited too long for another's forward (wait-timeout), or of too many (follower-limit).",
    ),
    (
        names::EXTRA_LEADERS,
        Kind::Counter,
        Unit::Count,
        "Second forwards for what others wait for, because no head had come for long.",
    ),
    (names::FILLS, Kind::Gauge, Unit::Count, "Fills under way."),
    (names::FOLLOWERS, Kind::Gauge, Unit::Count, "Clients that wait for fills or read along."),
    (
        names::IN_FLIGHT_BYTES,
        Kind::Gauge,
        Unit::Bytes,
        "Bytes of bodies in flight: copies that fills hold, request contents, 64 KiB for each forward.",
    ),
    (
        names::SHED,
        Kind::Counter,
        Unit::Count,
        "Given up near server.limits.in_flight: background work, copies (not stored), forwards (503).",
    ),
    (
        names::MARKERS,
        Kind::Gauge,
        Unit::Count,
        "Keys whose answers may not be stored, so that nobody waits for them (hit-for-miss).",
    ),
    (names::MARKERS_MADE, Kind::Counter, Unit::Count, "Hit-for-miss markers made, by why not stored."),
    (
        names::VALIDATIONS,
        Kind::Counter,
        Unit::Count,
        "Validations of stored responses in the background, by cause and what came of them.",
    ),
    (
        names::QUOTA_DENIED,
        Kind::Counter,
        Unit::Count,
        "Requests that a quota denied, or in shadow mode would have denied.",
    ),
    (
        names::QUOTA_SHARES,
        Kind::Counter,
        Unit::Count,
        "Requests judged by this gateway's share of shared quotas, because Redis did not answer.",
    ),
    (names::REPLICAS, Kind::Gauge, Unit::Count, "Gateways that have shared quotas together, as last heard."),
    (names::CONNECTIONS, Kind::Gauge, Unit::Count, "Connections open on public listeners."),
    (
        names::TLS_HANDSHAKES,
        Kind::Counter,
        Unit::Count,
        "Handshakes of TLS with clients, and what became of them.",
    ),
    (names::TUNNELS, Kind::Gauge, Unit::Count, "Tunnels open after an upgrade."),
    (names::TUNNELS_ENDED, Kind::Counter, Unit::Count, "Tunnels that ended, and how."),
    (
        names::ACCESS_DENIED,
        Kind::Counter,
        Unit::Count,
        "Requests that were not let in (route.access), by route and reason.",
    ),
    (
        names::ACCESS_KEY_FETCHES,
        Kind::Counter,
        Unit::Count,
        "Fetches of the keys that tokens are verified by, by result.",
    ),
    (
        names::REFUSED,
        Kind::Counter,
        Unit::Count,
        "Requests refused by the strict gate, and connections beyond a bound.",
    ),
    (names::CONTENT_REFUSED, Kind::Counter, Unit::Count, "Requests whose content was not taken, and why."),
    (
        names::READERS_CUT,
        Kind::Counter,
        Unit::Count,
        "Readers that were cut: under server.limits.body_rate (body-rate), or too far behind a body that is not \
         kept whole (window).",
    ),
    (
        names::INTERIM_DROPPED,
        Kind::Counter,
        Unit::Count,
        "Interim responses (1xx) of sources that their client was not sent.",
    ),
    (names::PANICS, Kind::Counter, Unit::Count, "Requests whose handling panicked."),
    (names::TIER_LOOKUPS, Kind::Counter, Unit::Count, "Lookups of a tier, by result."),
    (names::TIER_SECONDS, Kind::Histogram, Unit::Seconds, "Duration of operations of the shared tier."),
    (names::MEMORY_BYTES, Kind::Gauge, Unit::Bytes, "Bytes of stored responses kept in memory."),
    (names::MEMORY_RESPONSES, Kind::Gauge, Unit::Count, "Stored responses kept in memory."),
    (names::STORED, Kind::Counter, Unit::Count, "Responses stored."),
    (names::TIER_DROPPED, Kind::Counter, Unit::Count, "Writes to the shared tier that were dropped."),
    (
        names::REDIS_BREAKER,
        Kind::Gauge,
        Unit::Count,
        "The breaker toward Redis: 0 closed, 1 half-open, 2 open.",
    ),
    (names::PURGES, Kind::Counter, Unit::Count, "Purges applied."),
    (names::JOURNAL_COMMITS, Kind::Counter, Unit::Count, "Commits of the journal."),
    (names::JOURNAL_BATCH, Kind::Histogram, Unit::Count, "Records per commit of the journal."),
    (
        names::JOURNAL_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "Duration of commits of the journal, fsync included.",
    ),
    (names::JOURNAL_USED, Kind::Gauge, Unit::Bytes, "Bytes of the journal's pages in use."),
    (names::JOURNAL_MAX, Kind::Gauge, Unit::Bytes, "Bytes that the journal may use at most."),
    (names::JOURNAL_STATE, Kind::Gauge, Unit::Count, "1 for the state that the journal is in, else 0."),
    (names::JOURNAL_DAMAGED, Kind::Counter, Unit::Count, "Records of the journal that were found damaged."),
    (
        names::IDEMPOTENCY,
        Kind::Counter,
        Unit::Count,
        "Writes with an Idempotency-Key that were answered again or refused, or whose answer was not kept.",
    ),
    (names::CHANGES, Kind::Counter, Unit::Count, "Changes that reached a state."),
    (names::DESTINATION_PENDING, Kind::Gauge, Unit::Count, "Deliveries that wait."),
    (names::DESTINATION_IN_FLIGHT, Kind::Gauge, Unit::Count, "Attempts under way."),
    (
        names::DESTINATION_LAG,
        Kind::Gauge,
        Unit::Seconds,
        "Age of the oldest change that waits, is in flight or held.",
    ),
    (names::DEAD_LETTERS, Kind::Gauge, Unit::Count, "Dead letters kept."),
    (names::PARKED_KEYS, Kind::Gauge, Unit::Count, "Keys that wait behind a dead letter."),
    (
        names::DESTINATION_HELD,
        Kind::Gauge,
        Unit::Count,
        "1 while a destination is held: its breaker is open, or it refuses Tidegate as such.",
    ),
    (names::DESTINATION_PAUSED, Kind::Gauge, Unit::Count, "1 while an operator has paused a destination."),
    (
        names::DESTINATION_DETACHED,
        Kind::Gauge,
        Unit::Count,
        "1 while a destination is detached: nothing is kept for it.",
    ),
    (
        names::DROPPED,
        Kind::Counter,
        Unit::Count,
        "Deliveries given up because their destination is not configured any more.",
    ),
    (names::ATTEMPTS, Kind::Counter, Unit::Count, "Attempts to deliver, by outcome."),
    (
        names::DELIVERIES_UNREAD,
        Kind::Counter,
        Unit::Count,
        "Reads of sources for format = \"state\" that did not tell what to send.",
    ),
    (
        names::ACCEPTED_WAITING,
        Kind::Gauge,
        Unit::Count,
        "Accepted changes that their source has not done yet.",
    ),
    (names::ACCEPTED_LAG, Kind::Gauge, Unit::Seconds, "Age of the oldest of the accepted changes that wait."),
    (names::ACCEPTED_ATTEMPTS, Kind::Counter, Unit::Count, "Attempts to send accepted changes, by outcome."),
    (names::SOURCE_DEAD_LETTERS, Kind::Gauge, Unit::Count, "Accepted changes that their source has refused."),
    (
        names::DESTINATION_BREAKER,
        Kind::Gauge,
        Unit::Count,
        "The breaker toward a destination: 0 closed, 1 half-open, 2 open.",
    ),
];

/// What a metric means.
pub(super) fn help(name: &str) -> &'static str {
    METRICS.iter().find(|(described, ..)| *described == name).map_or("", |(.., help)| help)
}

/// Tells the recorder what every metric means.
pub(super) fn describe() {
    for &(name, kind, unit, help) in METRICS {
        match kind {
            Kind::Counter => describe_counter!(name, unit, help),
            Kind::Gauge => describe_gauge!(name, unit, help),
            Kind::Histogram => describe_histogram!(name, unit, help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_described_once() {
        let named: Vec<&str> = include_str!("metrics.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1))
            .collect();
        assert!(named.len() > 20, "the names are found");
        for name in &named {
            let rows = METRICS.iter().filter(|(described, ..)| described == name).count();
            assert_eq!(rows, 1, "{name} needs one row in METRICS");
        }
        assert_eq!(named.len(), METRICS.len());
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for (name, kind, ..) in METRICS {
            assert!(name.starts_with("tidegate_"), "{name}");
            assert_eq!(name.ends_with("_total"), matches!(kind, Kind::Counter), "{name}");
        }
    }
}
