//! Everything the collector says about itself, in OpenMetrics: one field per fact, named after its stage.
//!
//! Whoever lets something go counts it here, with its reason. The words used as label values are closed enums or
//! literals; nothing a peer sends becomes a label, except the names of agents' access points, which come from the
//! inventory.

pub use extranet_agent::self_stats::{Counters, count as count_many};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

/// A counter for each configured thing (an export target, ...).
pub type NamedCounters = Family<[(&'static str, String); 1], Counter>;
/// A gauge for each configured thing.
pub type NamedGauges = Family<[(&'static str, String); 1], Gauge>;

/// Adds one to the counter with this reason.
pub fn count(counters: &Counters, reason: &'static str) {
    count_many(counters, reason, 1);
}

extranet_agent::statistics! {
    "extranet_collector";

    /// TCP connections accepted.
    listen_accepted: Counter = "listen_accepted";
    /// Connections open now, handshakes included.
    listen_open: Gauge = "listen_open";
    /// Connections closed before they reached a service, by reason.
    listen_dropped: Counters = "listen_dropped";
    /// TLS handshakes completed, by server name and whether a session was resumed.
    listen_handshakes: Counters = "listen_handshakes";
    /// TCP payload read from agents.
    listen_received: Counter = "listen_received", Unit::Bytes;
    /// TCP payload written to agents.
    listen_sent: Counter = "listen_sent", Unit::Bytes;
    /// Certificates issued, by reason.
    enrol_issued: Counters = "enrol_issued";
    /// Enrolments and renewals refused, by reason.
    enrol_refused: Counters = "enrol_refused";
    /// Streams opened.
    session_opened: Counter = "session_opened";
    /// Streams closed, by reason.
    session_closed: Counters = "session_closed";
    /// Streams open now.
    session_open: Gauge = "session_open";
    /// Batches received, heartbeats included.
    session_batches: Counter = "session_batches";
    /// Batches without records: heartbeats.
    session_heartbeats: Counter = "session_heartbeats";
    /// Messages of agents, or parts of them, that were skipped, by reason.
    session_skipped: Counters = "session_skipped";
    /// Clock estimates that were replaced because an agent's clock moved.
    session_clock_moved: Counter = "session_clock_moved";
    /// Records received, by what became of them: new, resent, refused, `not_durable`.
    ingest_records: Counters = "ingest_records";
    /// Samples in new records.
    ingest_samples: Counter = "ingest_samples";
    /// Bytes of blocks with new records.
    ingest_blocks: Counter = "ingest_blocks", Unit::Bytes;
    /// Records of the ingest log appended and durable.
    ingest_logged: Counter = "ingest_logged";
    /// Group commits of the ingest log.
    ingest_commits: Counter = "ingest_commits";
    /// Commands waiting for the ingest thread.
    ingest_waiting: Gauge = "ingest_waiting";
    /// Inputs that could not be made durable, by reason.
    ingest_failed: Counters = "ingest_failed";
    /// Bytes of the ingest log on disk.
    ingest_log: Gauge = "ingest_log", Unit::Bytes;
    /// Log records applied to the catalogue.
    store_applied: Counter = "store_applied";
    /// Durable log records not applied to the catalogue yet.
    store_lag: Gauge = "store_lag_records";
    /// Log records or parts of them that were skipped, by reason.
    store_skipped: Counters = "store_skipped";
    /// Failed transactions of the catalogue, each retried.
    store_failed: Counter = "store_failed";
    /// Assignments compiled because a plan or the inventory changed.
    fleet_assignments: Counter = "fleet_assignments";
    /// Assignments sent to agents.
    fleet_assignments_sent: Counter = "fleet_assignments_sent";
    /// On-demand measurements, by reason: answered, refused, timeout, `not_connected`.
    fleet_measurements: Counters = "fleet_measurements";
    /// Changes of state of access points, by the new state.
    state_changes: Counters = "state_changes";
    /// Access points that are down now.
    state_down: Gauge = "state_down";
    /// Slots whose judgement late records changed.
    state_corrected: Counter = "state_corrected_slots";
    /// Alerts opened.
    alert_opened: Counter = "alert_opened";
    /// Alerts resolved.
    alert_resolved: Counter = "alert_resolved";
    /// Alerts not opened because an access point above is down.
    alert_suppressed: Counter = "alert_suppressed";
    /// Posts to Alertmanager, by reason: ok or why not.
    alert_posts: Counters = "alert_posts";
    /// Alerts and resolutions that no Alertmanager has taken yet.
    alert_waiting: Gauge = "alert_waiting";
    /// Security events raised, late ones included.
    security_raised: Counter = "security_raised";
    /// Security events whose alert has to wait because there are too many, by rule.
    security_suppressed: Counters = "security_suppressed";
    /// Messages written to a syslog receiver, by target; some may come twice.
    syslog_sent: NamedCounters = "syslog_sent";
    /// Connections to a syslog receiver that failed or broke, by target.
    syslog_lost: NamedCounters = "syslog_lost";
    /// Entries that were forgotten before a syslog receiver got them, by target.
    syslog_forgotten: NamedCounters = "syslog_forgotten";
    /// Entries not written to a syslog receiver yet, by target.
    syslog_waiting: NamedGauges = "syslog_waiting";
    /// Samples acknowledged by a metrics engine, by target.
    export_samples: NamedCounters = "export_samples";
    /// Requests that a metrics engine took, by target.
    export_requests: NamedCounters = "export_requests";
    /// Requests that failed and are sent again, by target.
    export_retries: NamedCounters = "export_retries";
    /// Samples that will never be sent, by reason.
    export_dropped: Counters = "export_dropped";
    /// Durable log records not exported yet, by target; those that the sender holds are among them.
    export_lag: NamedGauges = "export_lag_records";
    /// Calls on the admin socket, by reason: the call's name.
    admin_calls: Counters = "admin_calls";
    /// Tasks and threads that panicked.
    panics: Gauge = "panics";
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// The page for `/metrics`.
    pub fn page(&self) -> String {
        self.panics
            .set(i64::try_from(extranet_agent::shell::panics()).unwrap_or(i64::MAX));
        let mut page = String::new();
        let encoded = encode(&mut page, &self.registry);
        debug_assert!(encoded.is_ok(), "writing into a string cannot fail");
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_openmetrics_with_a_reason_for_every_drop() {
        let stats = Stats::new();
        count(&stats.listen_dropped, "not_tls");
        stats.listen_received.inc_by(7);
        let page = stats.page();
        assert!(
            page.contains("extranet_collector_listen_dropped_total{reason=\"not_tls\"} 1"),
            "{page}"
        );
        assert!(
            page.contains("extranet_collector_listen_received_bytes_total 7"),
            "{page}"
        );
        assert!(page.contains(
            "# HELP extranet_collector_listen_open Connections open now, handshakes included."
        ));
        assert!(page.ends_with("# EOF\n"));
    }
}
