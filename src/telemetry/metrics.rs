//! The names of all metrics; each is written once, here. What each means to an operator (its HELP
//! text and unit) stands in `describe.rs`; a test asks for both.

pub use super::exporter::{Metrics, install};

/// Always 1, by `version`.
pub const BUILD_INFO: &str = "tidegate_build_info";

/// Always 1, by the `digest` of the configuration in force.
pub const CONFIG_INFO: &str = "tidegate_config_info";
/// Reloads of the configuration, by `result` (applied, unchanged, refused).
pub const CONFIG_RELOADS: &str = "tidegate_config_reloads_total";
/// When the configuration was reloaded last, whatever came of it.
pub const CONFIG_LAST_RELOAD: &str = "tidegate_config_last_reload_timestamp_seconds";
/// When it was read last without a fault; the start counts.
pub const CONFIG_LAST_SUCCESS: &str = "tidegate_config_last_reload_success_timestamp_seconds";
/// 1 where the last reload was not refused.
pub const CONFIG_LAST_SUCCESSFUL: &str = "tidegate_config_last_reload_successful";

/// Spans that the collector has taken.
pub const SPANS_SENT: &str = "tidegate_spans_sent_total";
/// Spans that were dropped, by `reason` (queue-full, refused, unreachable).
pub const SPANS_DROPPED: &str = "tidegate_spans_dropped_total";
/// Requests by `route` and `cache_status`.
pub const REQUESTS: &str = "tidegate_requests_total";
/// Seconds until the head of an answer, by `route` and `served` (hit, forward, own).
pub const REQUEST_SECONDS: &str = "tidegate_request_head_seconds";
/// Lines of the access log that were dropped: its queue was full, or its file cannot be written.
pub const ACCESS_LOG_DROPPED: &str = "tidegate_access_log_dropped_total";
/// Requests to a source by `source` and `reason` (RFC 9211 `fwd`, or an own cause).
pub const SOURCE_REQUESTS: &str = "tidegate_source_requests_total";
/// Requests to a source under way, by `source`.
pub const SOURCE_IN_FLIGHT: &str = "tidegate_source_in_flight";
/// Requests that a source gets at once at most, by `source`.
pub const SOURCE_CONCURRENCY: &str = "tidegate_source_concurrency_limit";
/// Seconds until the head of a source's answer, by `source`.
pub const SOURCE_SECONDS: &str = "tidegate_source_head_seconds";
/// Requests that wait for a place toward a source, by `source`.
pub const SOURCE_WAITING: &str = "tidegate_source_waiting";
/// Requests that were not sent to a source, by `source` and `reason` (busy, breaker).
pub const SOURCE_REFUSED: &str = "tidegate_source_refused_total";
/// Requests sent again, by `source` and `result` (sent, over-budget).
pub const SOURCE_RETRIES: &str = "tidegate_source_retries_total";
/// Exchanges that failed, by `source` and `address`.
pub const SOURCE_FAILURES: &str = "tidegate_source_failures_total";
/// Bodies of a source's answers that ended early, by `source` and `reason` (broken, idle).
pub const SOURCE_BODIES_BROKEN: &str = "tidegate_source_bodies_broken_total";
/// 1 while an address is ejected, by `source` and `address`.
pub const SOURCE_EJECTED: &str = "tidegate_source_ejected";
/// 0 closed, 1 half-open, 2 open: the breaker toward a source, by `source`.
pub const SOURCE_BREAKER: &str = "tidegate_source_breaker_state";
/// Active checks, by `source`, `address` and `result` (good, failed).
pub const SOURCE_CHECKS: &str = "tidegate_source_health_checks_total";
/// Followers answered by somebody else's forward, by `route`.
pub const COLLAPSED: &str = "tidegate_collapsed_total";
/// Requests that did not get what they waited for, by `route` and `reason`.
pub const UNWAITED: &str = "tidegate_collapse_refused_total";
/// Fills of which a second forward was begun, because no head came, by `source`.
pub const EXTRA_LEADERS: &str = "tidegate_extra_leaders_total";
/// Fills under way.
pub const FILLS: &str = "tidegate_fills";
/// Clients that wait for fills or read along.
pub const FOLLOWERS: &str = "tidegate_followers";
/// Keys whose answers may not be stored, so that nobody waits for them (hit-for-miss).
pub const MARKERS: &str = "tidegate_hit_for_miss_markers";
/// Markers made, by `reason`.
pub const MARKERS_MADE: &str = "tidegate_hit_for_miss_total";
/// Validations in the background, by `cause` and `result`.
pub const VALIDATIONS: &str = "tidegate_background_validations_total";
/// Bytes of bodies in flight that are held.
pub const IN_FLIGHT_BYTES: &str = "tidegate_in_flight_bytes";
/// What was given up near the bound of bodies in flight, by `work` (background, copy, forward).
pub const SHED: &str = "tidegate_shed_total";
/// Requests that a quota denied, by `route` and `limit`.
pub const QUOTA_DENIED: &str = "tidegate_quota_denied_total";
/// Requests that were judged by this gateway's share of shared quotas, by `route`.
pub const QUOTA_SHARES: &str = "tidegate_quota_local_share_total";
/// Gateways that have shared quotas together, as last heard.
pub const REPLICAS: &str = "tidegate_replicas";
/// Connections open on public listeners.
pub const CONNECTIONS: &str = "tidegate_connections";
/// Handshakes of TLS with clients, by `result` (done, timeout, not-tls, certificate, incompatible, alert,
/// closed).
pub const TLS_HANDSHAKES: &str = "tidegate_tls_handshakes_total";
/// Tunnels open, by `route`.
pub const TUNNELS: &str = "tidegate_tunnels";
/// Tunnels that ended, by `route` and `end` (closed, broken, idle, cut).
pub const TUNNELS_ENDED: &str = "tidegate_tunnels_ended_total";
/// Requests that were not let in, by `route` and `reason`.
pub const ACCESS_DENIED: &str = "tidegate_access_denied_total";
/// Fetches of the keys that tokens are verified by, by `result` (fetched, failed).
pub const ACCESS_KEY_FETCHES: &str = "tidegate_access_key_fetches_total";
/// Requests refused before routing, by `reason`.
pub const REFUSED: &str = "tidegate_refused_total";
/// Requests whose content was not taken, by `reason` (too-large, too-slow, broken, no-room).
pub const CONTENT_REFUSED: &str = "tidegate_content_refused_total";
/// Readers that were cut because they were too slow, by `reason` (body-rate, window).
pub const READERS_CUT: &str = "tidegate_readers_cut_total";
/// Interim responses (1xx) of sources that their client was not sent: over a bound, or it did not read.
pub const INTERIM_DROPPED: &str = "tidegate_interim_dropped_total";
/// Requests whose handling panicked.
pub const PANICS: &str = "tidegate_panics_total";
/// Lookups by `tier` and `result`.
pub const TIER_LOOKUPS: &str = "tidegate_tier_lookups_total";
/// Seconds of a shared-tier operation, by `operation`.
pub const TIER_SECONDS: &str = "tidegate_tier_seconds";
/// Bytes kept in memory.
pub const MEMORY_BYTES: &str = "tidegate_memory_bytes";
/// Responses kept in memory.
pub const MEMORY_RESPONSES: &str = "tidegate_memory_responses";
/// Responses stored, by `tier`.
pub const STORED: &str = "tidegate_stored_total";
/// Writes to the shared tier that were dropped, by `reason`.
pub const TIER_DROPPED: &str = "tidegate_tier_dropped_total";
/// Values of the shared tier that were not used, by `reason`: purged, expired, altered, foreign,
/// unauthenticated, version, envelope, meta, body.
pub const TIER_UNREADABLE: &str = "tidegate_tier_unreadable_total";
/// Variants dropped because a key had too many.
pub const VARIANTS_DROPPED: &str = "tidegate_variants_dropped_total";
/// Tags of stored responses that were dropped at the bounds.
pub const TAGS_DROPPED: &str = "tidegate_tags_dropped_total";
/// Responses not stored because a purge came between.
pub const STORES_FENCED: &str = "tidegate_stores_fenced_total";
/// 0 closed, 1 half-open, 2 open: the breaker toward Redis.
pub const REDIS_BREAKER: &str = "tidegate_redis_breaker_state";
/// Seconds from a purge's entry into the log to its being applied by another gateway.
pub const PURGE_LAG: &str = "tidegate_purge_lag_seconds";
/// Checkpoints of the log of purges that were looked for, by `result` (used, missing, unreadable, other-epoch,
/// behind, ahead, unsound, coarser, unavailable).
pub const CHECKPOINTS_READ: &str = "tidegate_purge_checkpoints_read_total";
/// Checkpoints of the log of purges that this gateway wrote, by `result`.
pub const CHECKPOINTS_WRITTEN: &str = "tidegate_purge_checkpoints_written_total";
/// Misses that concern several replicas, by `result` (taken, found, missing, not-storable, late).
pub const FILL_TURNS: &str = "tidegate_fill_turns_total";
/// Gateways of the namespace that follow the log of purges, this one included.
pub const PURGE_FOLLOWERS: &str = "tidegate_purge_followers";
/// Purges applied, by `kind` and `mode`.
pub const PURGES: &str = "tidegate_purges_total";
/// Commits of the journal.
pub const JOURNAL_COMMITS: &str = "tidegate_journal_commits_total";
/// Records per commit.
pub const JOURNAL_BATCH: &str = "tidegate_journal_batch_records";
/// Seconds per commit, fsync included.
pub const JOURNAL_SECONDS: &str = "tidegate_journal_commit_seconds";
/// Bytes of the journal's pages in use.
pub const JOURNAL_USED: &str = "tidegate_journal_used_bytes";
/// Bytes that the journal may use at most (`sync.max_size`).
pub const JOURNAL_MAX: &str = "tidegate_journal_max_bytes";
/// 1 for the state that the journal is in, by `state` (accepts, full, unavailable, damaged).
pub const JOURNAL_STATE: &str = "tidegate_journal_state";
/// Records of the journal that were found damaged.
pub const JOURNAL_DAMAGED: &str = "tidegate_journal_damaged_total";
/// Changes by `state`.
pub const CHANGES: &str = "tidegate_changes_total";
/// Writes with an Idempotency-Key that were not simply sent, by `result` (answered, running, other-content,
/// in-doubt, unkept, damaged, crowded, unavailable, not-kept).
pub const IDEMPOTENCY: &str = "tidegate_idempotency_total";
/// Deliveries that wait, by `destination`.
pub const DESTINATION_PENDING: &str = "tidegate_destination_pending";
/// Attempts under way, by `destination`.
pub const DESTINATION_IN_FLIGHT: &str = "tidegate_destination_in_flight";
/// Age of the oldest unsettled change, by `destination`; computed when scraped.
pub const DESTINATION_LAG: &str = "tidegate_destination_lag_seconds";
/// Dead letters kept, by `destination`.
pub const DEAD_LETTERS: &str = "tidegate_dead_letters";
/// Keys that wait behind a dead letter, by `destination`.
pub const PARKED_KEYS: &str = "tidegate_destination_parked_keys";
/// 1 while a destination is held, by `destination`; computed when scraped.
pub const DESTINATION_HELD: &str = "tidegate_destination_held";
/// 1 while an operator has paused a destination, by `destination`; computed when scraped.
pub const DESTINATION_PAUSED: &str = "tidegate_destination_paused";
/// 1 while a destination is detached, by `destination`.
pub const DESTINATION_DETACHED: &str = "tidegate_destination_detached";
/// Deliveries given up with their `destination`, which is not configured any more.
pub const DROPPED: &str = "tidegate_deliveries_dropped_total";
/// Attempts by `destination` and `outcome`.
pub const ATTEMPTS: &str = "tidegate_attempts_total";
/// Reads of sources for `format = "state"` that did not tell what to send, by destination and source.
pub const DELIVERIES_UNREAD: &str = "tidegate_deliveries_unread_total";
/// Accepted changes that their source has not done yet, by `source`.
pub const ACCEPTED_WAITING: &str = "tidegate_accepted_waiting";
/// Age of the oldest of them, by `source`; computed when scraped.
pub const ACCEPTED_LAG: &str = "tidegate_accepted_lag_seconds";
/// Attempts to send them, by `source` and `outcome`.
pub const ACCEPTED_ATTEMPTS: &str = "tidegate_accepted_attempts_total";
/// Dead letters of sources kept, by `source`.
pub const SOURCE_DEAD_LETTERS: &str = "tidegate_source_dead_letters";
/// 0 closed, 1 half-open, 2 open, by `destination`.
pub const DESTINATION_BREAKER: &str = "tidegate_destination_breaker_state";
