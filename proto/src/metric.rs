//! The registry of measured values: number on the wire, Prometheus name, unit.
//!
//! A number is never reused. Names are those of the community exporters where they have one (`blackbox_exporter`,
//! `snmp_exporter` with `if_mib`), so that existing dashboards and rules work; what has none starts with `extranet_`.

mod defined;

pub use defined::{DEFINED_FROM, Defined};

/// A metric, by its number on the wire. Numbers that this build does not know are carried, not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric(pub u16);

/// How the raw 64 bits become an exported number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Exported as it is.
    One,
    /// Raw microseconds, exported as seconds.
    Microseconds,
    /// Raw thousandths, exported as whole ones.
    Thousandths,
}

/// Whether a value only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any value; the raw bits are two's complement.
    Gauge,
    /// Only grows, until it wraps or its device restarts; the raw bits are unsigned.
    Counter,
}

/// What is known about a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// The number.
    pub metric: Metric,
    /// Prometheus name.
    pub name: &'static str,
    /// A label that is part of the name's meaning, as `("phase", "rtt")`.
    pub label: Option<(&'static str, &'static str)>,
    /// Conversion of the raw bits.
    pub unit: Unit,
    /// Gauge or counter.
    pub kind: Kind,
}

macro_rules! registry {
    ($($(#[$meta:meta])* $constant:ident = $number:literal, $name:literal, $label:expr, $unit:ident, $kind:ident;)+) => {
        $($(#[$meta])* pub const $constant: Metric = Metric($number);)+

        /// Every metric that has a constant, by growing number.
        pub const REGISTRY: &[Info] = &[
            $(Info { metric: Metric($number), name: $name, label: $label, unit: Unit::$unit, kind: Kind::$kind },)+
        ];
    };
}

registry! {
    /// Echo requests sent in the run.
    ICMP_SENT = 1, "extranet_icmp_packets_sent", None, One, Gauge;
    /// Echo replies received in time, duplicates not counted.
    ICMP_RECEIVED = 2, "extranet_icmp_packets_received", None, One, Gauge;
    /// Shortest round trip.
    ICMP_RTT_MIN = 3, "extranet_icmp_rtt_min_seconds", None, Microseconds, Gauge;
    /// Mean round trip.
    ICMP_RTT_AVG = 4, "probe_icmp_duration_seconds", Some(("phase", "rtt")), Microseconds, Gauge;
    /// Longest round trip.
    ICMP_RTT_MAX = 5, "extranet_icmp_rtt_max_seconds", None, Microseconds, Gauge;
    /// Mean absolute difference of consecutive round trips (after RFC 3393).
    ICMP_JITTER = 6, "extranet_icmp_jitter_seconds", None, Microseconds, Gauge;
    /// Time to live or hop limit of the last reply.
    ICMP_HOP_LIMIT = 7, "probe_icmp_reply_hop_limit", None, One, Gauge;
    /// Replies that arrived more than once.
    ICMP_DUPLICATES = 8, "extranet_icmp_duplicates", None, One, Gauge;
    /// Replies that came after their run had ended, or later than they were waited for; absent = none.
    ICMP_LATE = 9, "extranet_icmp_late", None, One, Gauge;
    /// Replies that came after one to a later request (RFC 4737 section 3.3); absent = none.
    ICMP_REORDERED = 10, "extranet_icmp_reordered", None, One, Gauge;
    /// Median round trip, from three replies on.
    ICMP_RTT_P50 = 11, "extranet_icmp_rtt_seconds", Some(("quantile", "0.5")), Microseconds, Gauge;
    /// From ten replies on.
    ICMP_RTT_P90 = 12, "extranet_icmp_rtt_seconds", Some(("quantile", "0.9")), Microseconds, Gauge;
    /// From twenty replies on.
    ICMP_RTT_P95 = 13, "extranet_icmp_rtt_seconds", Some(("quantile", "0.95")), Microseconds, Gauge;
    /// From a hundred replies on.
    ICMP_RTT_P99 = 14, "extranet_icmp_rtt_seconds", Some(("quantile", "0.99")), Microseconds, Gauge;
    /// Requests since the agent started; with a histogram only, as the three below.
    SMOKEPING_REQUESTS = 15, "smokeping_requests_total", None, One, Counter;
    /// All round trips since the agent started together.
    SMOKEPING_SUM = 16, "smokeping_response_duration_seconds_sum", None, Microseconds, Counter;
    /// Round trips since the agent started.
    SMOKEPING_COUNT = 17, "smokeping_response_duration_seconds_count", None, One, Counter;
    /// The bucket that holds all of them.
    SMOKEPING_BUCKET_INF = 18, "smokeping_response_duration_seconds_bucket", Some(("le", "+Inf")), One, Counter;
    /// Requests that an ICMP error message was about, on the object that stands for the last of these messages
    /// ([`crate::record::ObjectKind::IcmpError`]).
    ICMP_ERRORS = 19, "extranet_icmp_errors", None, One, Gauge;
    /// From SYN to established.
    TCP_CONNECT = 20, "extranet_tcp_connect_seconds", None, Microseconds, Gauge;
    /// From the query to its answer, connecting included where TCP is asked for.
    DNS_LOOKUP = 21, "probe_dns_lookup_time_seconds", None, Microseconds, Gauge;
    /// Resource records in the answer section.
    DNS_ANSWERS = 22, "probe_dns_answer_rrs", None, One, Gauge;
    /// Resource records in the authority section.
    DNS_AUTHORITIES = 23, "probe_dns_authority_rrs", None, One, Gauge;
    /// Resource records in the additional section.
    DNS_ADDITIONALS = 24, "probe_dns_additional_rrs", None, One, Gauge;
    /// Response code of the answer.
    DNS_RCODE = 25, "extranet_dns_rcode", None, One, Gauge;
    /// 1 when a well-formed answer to the query came, whatever it says.
    DNS_QUERY_SUCCEEDED = 26, "probe_dns_query_succeeded", None, One, Gauge;
    /// 1 when the server says that it authenticated the answer (flag AD).
    DNS_AUTHENTICATED = 30, "extranet_dns_authenticated", None, One, Gauge;
    /// Serial of the zone, of the first SOA record in the answer section.
    DNS_SERIAL = 31, "probe_dns_serial", None, One, Gauge;
    /// Shortest time to live in the answer section, seconds.
    DNS_TTL_MIN = 32, "extranet_dns_answer_ttl_min_seconds", None, One, Gauge;
    /// Length of the answer that was judged, bytes.
    DNS_ANSWER_BYTES = 33, "extranet_dns_answer_bytes", None, One, Gauge;
    /// Largest datagram that the server says to take (EDNS), bytes; absent where it speaks no EDNS.
    DNS_EDNS_BYTES = 34, "extranet_dns_edns_bytes", None, One, Gauge;
    /// 1 when an answer by UDP was cut (flag TC).
    DNS_TRUNCATED = 35, "extranet_dns_truncated", None, One, Gauge;
    /// Queries sent, retries and the one over TCP included.
    DNS_QUERIES = 36, "extranet_dns_queries_sent", None, One, Gauge;
    /// Opening the connection; 0 over UDP.
    DNS_CONNECT = 37, "probe_dns_duration_seconds", Some(("phase", "connect")), Microseconds, Gauge;
    /// From the query that was answered to its answer.
    DNS_REQUEST = 38, "probe_dns_duration_seconds", Some(("phase", "request")), Microseconds, Gauge;
    /// Whole scrape of the device, all modules.
    SNMP_DURATION = 40, "snmp_scrape_duration_seconds", None, Microseconds, Gauge;
    /// Variable bindings returned.
    SNMP_PDUS = 41, "snmp_scrape_pdus_returned", None, One, Gauge;
    /// Request packets sent, retries included.
    SNMP_REQUESTS = 42, "snmp_scrape_packets_sent", None, One, Gauge;
    /// Status of the answer.
    HTTP_STATUS = 60, "probe_http_status_code", None, One, Gauge;
    /// Resolving the host name; 0 where the target was an address.
    HTTP_RESOLVE = 61, "probe_http_duration_seconds", Some(("phase", "resolve")), Microseconds, Gauge;
    /// TCP connect.
    HTTP_CONNECT = 62, "probe_http_duration_seconds", Some(("phase", "connect")), Microseconds, Gauge;
    /// TLS handshake; absent without TLS.
    HTTP_TLS = 63, "probe_http_duration_seconds", Some(("phase", "tls")), Microseconds, Gauge;
    /// From the request to the head of the answer.
    HTTP_PROCESSING = 64, "probe_http_duration_seconds", Some(("phase", "processing")), Microseconds, Gauge;
    /// From the head to the end of the body.
    HTTP_TRANSFER = 65, "probe_http_duration_seconds", Some(("phase", "transfer")), Microseconds, Gauge;
    /// Length the answer claims; -1 when it claims none.
    HTTP_CONTENT_LENGTH = 66, "probe_http_content_length", None, One, Gauge;
    /// Version of the answer: 1.1.
    HTTP_VERSION = 67, "probe_http_version", None, Thousandths, Gauge;
    /// 1 when the answer came over TLS.
    HTTP_SSL = 68, "probe_http_ssl", None, One, Gauge;
    /// Redirects followed.
    HTTP_REDIRECTS = 69, "probe_http_redirects", None, One, Gauge;
    /// Bytes of the body that were read.
    HTTP_BODY_LENGTH = 70, "probe_http_uncompressed_body_length", None, One, Gauge;
    /// 1 when the body fails for the text that it must or must not contain.
    HTTP_BODY_FAILED = 71, "probe_failed_due_to_regex", None, One, Gauge;
    /// When the first certificate of the chain shown expires, seconds since 1970.
    TLS_EARLIEST_EXPIRY = 80, "probe_ssl_earliest_cert_expiry", None, One, Gauge;
    /// 1 when the chain leads to a trusted root and everything in it is in force.
    TLS_CHAIN_VALID = 81, "extranet_tls_chain_valid", None, One, Gauge;
    /// 1 when the certificate bears the name that was asked for.
    TLS_NAME_VALID = 82, "extranet_tls_name_valid", None, One, Gauge;
    /// TLS handshake without the TCP connect before it.
    TLS_HANDSHAKE = 83, "extranet_tls_handshake_seconds", None, Microseconds, Gauge;
    /// 1, on the object that stands for what the endpoint showed ([`crate::record::ObjectKind::TlsEndpoint`]).
    TLS_CHAIN_INFO = 84, "probe_ssl_last_chain_info", None, One, Gauge;
    /// When a certificate of the chain shown expires, seconds since 1970; on the certificate's object.
    TLS_NOT_AFTER = 85, "ssl_cert_not_after", None, One, Gauge;
    /// Version agreed on: 1.3.
    TLS_VERSION = 86, "extranet_tls_version", None, Thousandths, Gauge;
    /// Certificates shown.
    TLS_CERTIFICATES = 87, "extranet_tls_certificates_shown", None, One, Gauge;
    /// 1 when certificate or key are not those of the run before; absent in the first run of an agent's life.
    TLS_CHANGED = 88, "extranet_tls_changed", None, One, Gauge;
    /// SNMPv2-MIB, hundredths of a second.
    SYS_UP_TIME = 100, "sysUpTime", None, One, Gauge;
    /// IF-MIB.
    IF_NUMBER = 101, "ifNumber", None, One, Gauge;
    /// IF-MIB.
    IF_TYPE = 110, "ifType", None, One, Gauge;
    /// IF-MIB.
    IF_MTU = 111, "ifMtu", None, One, Gauge;
    /// IF-MIB, bit/s.
    IF_SPEED = 112, "ifSpeed", None, One, Gauge;
    /// IF-MIB: 1 up, 2 down, 3 testing.
    IF_ADMIN_STATUS = 113, "ifAdminStatus", None, One, Gauge;
    /// IF-MIB: 1 up, 2 down, 3 testing, 4 unknown, 5 dormant, 6 notPresent, 7 lowerLayerDown.
    IF_OPER_STATUS = 114, "ifOperStatus", None, One, Gauge;
    /// IF-MIB, hundredths of a second of sysUpTime.
    IF_LAST_CHANGE = 115, "ifLastChange", None, One, Gauge;
    /// IF-MIB.
    IF_IN_OCTETS = 116, "ifInOctets", None, One, Counter;
    /// IF-MIB.
    IF_IN_UCAST_PKTS = 117, "ifInUcastPkts", None, One, Counter;
    /// IF-MIB.
    IF_IN_DISCARDS = 118, "ifInDiscards", None, One, Counter;
    /// IF-MIB.
    IF_IN_ERRORS = 119, "ifInErrors", None, One, Counter;
    /// IF-MIB.
    IF_IN_UNKNOWN_PROTOS = 120, "ifInUnknownProtos", None, One, Counter;
    /// IF-MIB.
    IF_OUT_OCTETS = 121, "ifOutOctets", None, One, Counter;
    /// IF-MIB.
    IF_OUT_UCAST_PKTS = 122, "ifOutUcastPkts", None, One, Counter;
    /// IF-MIB.
    IF_OUT_DISCARDS = 123, "ifOutDiscards", None, One, Counter;
    /// IF-MIB.
    IF_OUT_ERRORS = 124, "ifOutErrors", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_IN_MULTICAST_PKTS = 130, "ifInMulticastPkts", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_IN_BROADCAST_PKTS = 131, "ifInBroadcastPkts", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_OUT_MULTICAST_PKTS = 132, "ifOutMulticastPkts", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_OUT_BROADCAST_PKTS = 133, "ifOutBroadcastPkts", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_HC_IN_OCTETS = 134, "ifHCInOctets", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_HC_IN_UCAST_PKTS = 135, "ifHCInUcastPkts", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_HC_IN_MULTICAST_PKTS = 136, "ifHCInMulticastPkts", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_HC_IN_BROADCAST_PKTS = 137, "ifHCInBroadcastPkts", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_HC_OUT_OCTETS = 138, "ifHCOutOctets", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_HC_OUT_UCAST_PKTS = 139, "ifHCOutUcastPkts", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_HC_OUT_MULTICAST_PKTS = 140, "ifHCOutMulticastPkts", None, One, Counter;
    /// IF-MIB ifXTable.
    IF_HC_OUT_BROADCAST_PKTS = 141, "ifHCOutBroadcastPkts", None, One, Counter;
    /// IF-MIB ifXTable, Mbit/s.
    IF_HIGH_SPEED = 142, "ifHighSpeed", None, One, Gauge;
    /// IF-MIB ifXTable: 1 true, 2 false.
    IF_PROMISCUOUS_MODE = 143, "ifPromiscuousMode", None, One, Gauge;
    /// IF-MIB ifXTable: 1 true, 2 false.
    IF_CONNECTOR_PRESENT = 144, "ifConnectorPresent", None, One, Gauge;
    /// IF-MIB ifXTable, hundredths of a second of sysUpTime.
    IF_COUNTER_DISCONTINUITY_TIME = 145, "ifCounterDiscontinuityTime", None, One, Gauge;
    /// Mean rate over the last whole five minutes, bit/s (AV-30).
    IF_IN_RATE = 146, "extranet_if_in_bits_per_second", None, One, Gauge;
    /// Mean rate over the last whole five minutes, bit/s (AV-30).
    IF_OUT_RATE = 147, "extranet_if_out_bits_per_second", None, One, Gauge;
    /// How much of the five minutes the rates cover.
    IF_RATE_SPAN = 148, "extranet_if_rate_span_seconds", None, Thousandths, Gauge;
    /// Mean over the same five minutes.
    IF_IN_ERROR_RATE = 149, "extranet_if_in_errors_per_second", None, Thousandths, Gauge;
    /// Mean over the same five minutes.
    IF_OUT_ERROR_RATE = 150, "extranet_if_out_errors_per_second", None, Thousandths, Gauge;
    /// Mean over the same five minutes.
    IF_IN_DISCARD_RATE = 151, "extranet_if_in_discards_per_second", None, Thousandths, Gauge;
    /// Mean over the same five minutes.
    IF_OUT_DISCARD_RATE = 152, "extranet_if_out_discards_per_second", None, Thousandths, Gauge;
    /// How often ifOperStatus changed in the same five minutes, as far as polling sees it.
    IF_FLAPS = 153, "extranet_if_flaps", None, One, Gauge;
    /// Restarts of the device that were noticed by sysUpTime since the agent started.
    SNMP_REBOOTS = 154, "extranet_snmp_device_restarts", None, One, Counter;
    /// Readings of counters that gave no sample in this run, because they cannot be right (AV-34).
    SNMP_REFUSED_READINGS = 155, "extranet_snmp_refused_readings", None, One, Gauge;
    /// Datagrams sent in the run.
    UDP_SENT = 220, "extranet_udp_packets_sent", None, One, Gauge;
    /// Datagrams that came back in time and whole, duplicates not counted.
    UDP_RECEIVED = 221, "extranet_udp_packets_received", None, One, Gauge;
    /// Shortest round trip.
    UDP_RTT_MIN = 222, "extranet_udp_rtt_min_seconds", None, Microseconds, Gauge;
    /// Mean round trip.
    UDP_RTT_AVG = 223, "extranet_udp_rtt_avg_seconds", None, Microseconds, Gauge;
    /// Longest round trip.
    UDP_RTT_MAX = 224, "extranet_udp_rtt_max_seconds", None, Microseconds, Gauge;
    /// Mean absolute difference of consecutive round trips (after RFC 3393).
    UDP_JITTER = 225, "extranet_udp_jitter_seconds", None, Microseconds, Gauge;
    /// Datagrams that came back more than once.
    UDP_DUPLICATES = 226, "extranet_udp_duplicates", None, One, Gauge;
    /// Datagrams that came back behind one that was sent later.
    UDP_REORDERED = 227, "extranet_udp_reordered", None, One, Gauge;
    /// Datagrams that came back with other bytes.
    UDP_ALTERED = 228, "extranet_udp_altered", None, One, Gauge;
    /// Clock of the server minus clock of the agent's machine (RFC 5905: theta).
    NTP_OFFSET = 230, "ntp_drift_seconds", None, Microseconds, Gauge;
    /// Round trip without the time that the server took (RFC 5905: delta).
    NTP_RTT = 231, "ntp_rtt_seconds", None, Microseconds, Gauge;
    /// 1 has a reference clock, 2 to 15 are further away from one; 0 in a kiss-o'-death, 16 not synchronised.
    NTP_STRATUM = 232, "ntp_stratum", None, One, Gauge;
    /// Round trip between the server and its reference clock.
    NTP_ROOT_DELAY = 233, "ntp_root_delay_seconds", None, Microseconds, Gauge;
    /// What the server thinks it may be wrong by.
    NTP_ROOT_DISPERSION = 234, "ntp_root_dispersion_seconds", None, Microseconds, Gauge;
    /// Largest error of a clock set by this server now (RFC 5905 section 11.2.1: lambda).
    NTP_ROOT_DISTANCE = 235, "ntp_root_distance_seconds", None, Microseconds, Gauge;
    /// Leap indicator: 0 none, 1 and 2 a leap second at the end of the day, 3 not synchronised.
    NTP_LEAP = 236, "ntp_leap", None, One, Gauge;
    /// When the server's clock was last set, seconds since 1970.
    NTP_REFERENCE_TIME = 237, "ntp_reference_timestamp_seconds", None, One, Gauge;
    /// Four bytes as a number: the server's own server by its IPv4 address, letters of its reference clock (stratum 1),
    /// or those of a kiss-o'-death (stratum 0).
    NTP_REFERENCE_ID = 238, "extranet_ntp_reference_id", None, One, Gauge;
    /// Requests sent, retries included.
    NTP_REQUESTS = 239, "extranet_ntp_requests_sent", None, One, Gauge;
    /// 1 when the target itself answered a trace.
    PATH_REACHED = 250, "extranet_path_reached", None, One, Gauge;
    /// Distance of the target in hops; where it was not reached, of the last router that answered. 0 = nobody did.
    PATH_HOPS = 251, "extranet_path_hops", None, One, Gauge;
    /// Hops before that one at which nobody answered.
    PATH_SILENT_HOPS = 252, "extranet_path_silent_hops", None, One, Gauge;
    /// A number for the way that packets take: 48 bits of a hash over distances and addresses. A hop that is silent
    /// for once does not change it.
    PATH_FINGERPRINT = 253, "extranet_path_fingerprint", None, One, Gauge;
    /// How often another way was seen, since the agent started.
    PATH_CHANGES = 254, "extranet_path_changes_total", None, One, Counter;
    /// Packets of the trace.
    PATH_SENT = 255, "extranet_path_packets_sent", None, One, Gauge;
    /// Answers to them.
    PATH_RECEIVED = 256, "extranet_path_packets_received", None, One, Gauge;
    /// Packets sent to a hop; on the first of several who answer there.
    PATH_HOP_SENT = 257, "extranet_path_hop_packets_sent", None, One, Gauge;
    /// Answers from a hop.
    PATH_HOP_RECEIVED = 258, "extranet_path_hop_packets_received", None, One, Gauge;
    /// Shortest round trip to a hop.
    PATH_HOP_RTT_MIN = 259, "extranet_path_hop_rtt_min_seconds", None, Microseconds, Gauge;
    /// Mean round trip to a hop.
    PATH_HOP_RTT_AVG = 260, "extranet_path_hop_rtt_avg_seconds", None, Microseconds, Gauge;
    /// Longest round trip to a hop.
    PATH_HOP_RTT_MAX = 261, "extranet_path_hop_rtt_max_seconds", None, Microseconds, Gauge;
    /// Largest packet that reaches the target in one piece, bytes with the header of IP.
    PATH_MTU = 270, "extranet_path_mtu_bytes", None, One, Gauge;
    /// MTU of the interface on which packets to the target leave this machine, bytes.
    PATH_MTU_LOCAL = 271, "extranet_path_mtu_local_bytes", None, One, Gauge;
    /// "Packet too big" messages that came for our packets.
    PATH_MTU_TOO_BIG = 272, "extranet_path_mtu_too_big_received", None, One, Gauge;
    /// 1 when packets above some size vanish without such a message.
    PATH_MTU_BLACK_HOLE = 273, "extranet_path_mtu_black_hole", None, One, Gauge;
    /// How long it took to find the path MTU.
    PATH_MTU_DISCOVERY = 274, "extranet_path_mtu_discovery_seconds", None, Microseconds, Gauge;
    /// MTU of its next link that a router told in "packet too big", bytes; on the hop that it is.
    PATH_MTU_LIMIT = 275, "extranet_path_mtu_limit_bytes", None, One, Gauge;
    /// Bytes of IP packets that probes sent through a device since the agent started.
    PROBES_SENT = 280, "extranet_uplink_sent_bytes_total", Some(("purpose", "probes")), One, Counter;
    /// Bytes of IP packets that probes received through a device.
    PROBES_RECEIVED = 281, "extranet_uplink_received_bytes_total", Some(("purpose", "probes")), One, Counter;
    /// Bytes of IP packets that the stream to the collector sent.
    STREAM_SENT = 282, "extranet_uplink_sent_bytes_total", Some(("purpose", "stream")), One, Counter;
    /// Bytes of IP packets that the stream to the collector received.
    STREAM_RECEIVED = 283, "extranet_uplink_received_bytes_total", Some(("purpose", "stream")), One, Counter;
    /// What the uplinks may carry in 24 hours, bytes; absent without a limit.
    BUDGET_DAILY = 284, "extranet_uplink_budget_bytes", None, One, Gauge;
    /// What may be spent at once without stretching anything, bytes.
    BUDGET_LEFT = 285, "extranet_uplink_budget_left_bytes", None, One, Gauge;
    /// By how much intervals are stretched to keep the budget: 1 = not at all.
    STRETCH = 286, "extranet_check_stretch_ratio", Some(("order", "first")), Thousandths, Gauge;
    /// The same for the checks whose intervals are stretched last.
    STRETCH_LAST = 287, "extranet_check_stretch_ratio", Some(("order", "last")), Thousandths, Gauge;
}

/// The checks of the IPv6 readiness rubric in the order of their rows; rows are never moved or reused, new ones are
/// added at the end.
pub const IPV6_RUBRIC: [&str; 39] = [
    "V6-A1", "V6-A2", "V6-A3", "V6-A4", "V6-A5", "V6-B1", "V6-B2", "V6-B3", "V6-B4", "V6-C1",
    "V6-C2", "V6-C3", "V6-C4", "V6-D1", "V6-D2", "V6-D3", "V6-D4", "V6-D5", "V6-D6", "V6-E1",
    "V6-E2", "V6-E3", "V6-E4", "V6-E5", "V6-E6", "V6-F1", "V6-F2", "V6-F3", "V6-F4", "V6-F5",
    "V6-G1", "V6-G2", "V6-G3", "V6-G4", "V6-G5", "V6-H1", "V6-H2", "V6-H3", "V6-H4",
];

/// Verdicts of the rubric: row 0 has this number. 0 fail, 1 pass, 2 not applicable, 3 not tested.
const IPV6_CHECK_FIRST: u16 = 300;
/// Measured values of the rubric, in the unit of their check: row 0 has this number.
const IPV6_VALUE_FIRST: u16 = 350;

const IPV6_CHECKS: [Info; IPV6_RUBRIC.len()] =
    ipv6_rows(IPV6_CHECK_FIRST, "extranet_ipv6_check", Unit::One);
const IPV6_VALUES: [Info; IPV6_RUBRIC.len()] = ipv6_rows(
    IPV6_VALUE_FIRST,
    "extranet_ipv6_check_value",
    Unit::Thousandths,
);

const fn ipv6_rows(first: u16, name: &'static str, unit: Unit) -> [Info; IPV6_RUBRIC.len()] {
    let mut rows = [Info {
        metric: Metric(first),
        name,
        label: None,
        unit,
        kind: Kind::Gauge,
    }; IPV6_RUBRIC.len()];
    let mut row = 0;
    let mut number = first;
    while row < rows.len() {
        rows[row].metric = Metric(number);
        rows[row].label = Some(("rubric", IPV6_RUBRIC[row]));
        row += 1;
        number += 1;
    }
    rows
}

/// The verdict of a check of the rubric: 0 fail, 1 pass, 2 not applicable, 3 not tested. `None` for an unknown name.
pub fn ipv6_check(rubric: &str) -> Option<Metric> {
    ipv6_row(&IPV6_CHECKS, rubric)
}

/// What a check of the rubric measured, raw in thousandths of its unit. `None` for an unknown name.
pub fn ipv6_check_value(rubric: &str) -> Option<Metric> {
    ipv6_row(&IPV6_VALUES, rubric)
}

fn ipv6_row(rows: &[Info], rubric: &str) -> Option<Metric> {
    let row = IPV6_RUBRIC.iter().position(|name| *name == rubric)?;
    rows.get(row).map(|info| info.metric)
}

/// First number of the histogram.
const SMOKEPING_BUCKET_FIRST: u16 = 200;

/// Upper bounds of the buckets of `smokeping_prober`, µs: its defaults, so that its dashboards work.
pub const SMOKEPING_BOUNDS_US: [u64; 20] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600,
    819_200, 1_638_400, 3_276_800, 6_553_600, 13_107_200, 26_214_400,
];

/// The same in seconds, written as `smokeping_prober` writes them.
const SMOKEPING_LE: [&str; SMOKEPING_BOUNDS_US.len()] = [
    "5e-05", "0.0001", "0.0002", "0.0004", "0.0008", "0.0016", "0.0032", "0.0064", "0.0128",
    "0.0256", "0.0512", "0.1024", "0.2048", "0.4096", "0.8192", "1.6384", "3.2768", "6.5536",
    "13.1072", "26.2144",
];

static SMOKEPING_BUCKETS: [Info; SMOKEPING_BOUNDS_US.len()] = {
    let mut rows = [Info {
        metric: Metric(SMOKEPING_BUCKET_FIRST),
        name: "smokeping_response_duration_seconds_bucket",
        label: None,
        unit: Unit::One,
        kind: Kind::Counter,
    }; SMOKEPING_BOUNDS_US.len()];
    let mut row = 0;
    let mut number = SMOKEPING_BUCKET_FIRST;
    while row < rows.len() {
        rows[row].metric = Metric(number);
        rows[row].label = Some(("le", SMOKEPING_LE[row]));
        row += 1;
        number += 1;
    }
    rows
};

/// The buckets in the order of [`SMOKEPING_BOUNDS_US`]: round trips up to the bound, since the agent started.
pub fn smokeping_buckets() -> impl Iterator<Item = Metric> {
    SMOKEPING_BUCKETS.iter().map(|info| info.metric)
}

impl Metric {
    /// What this build knows about the number.
    pub fn info(self) -> Option<&'static Info> {
        [REGISTRY, &SMOKEPING_BUCKETS, &IPV6_CHECKS, &IPV6_VALUES]
            .into_iter()
            .find_map(|part| {
                let at = part.binary_search_by_key(&self, |info| info.metric).ok()?;
                part.get(at)
            })
    }
}

impl Kind {
    /// The raw bits as a number.
    fn number(self, raw: u64) -> f64 {
        match self {
            Self::Counter => raw as f64,
            Self::Gauge => raw.cast_signed() as f64,
        }
    }
}

impl Info {
    /// The raw bits as the number that is exported.
    pub fn exported(&self, raw: u64) -> f64 {
        let number = self.kind.number(raw);
        match self.unit {
            Unit::One => number,
            Unit::Microseconds => number / 1e6,
            Unit::Thousandths => number / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_and_names_are_prometheus_names() {
        assert!(
            REGISTRY
                .windows(2)
                .all(|pair| pair[0].metric < pair[1].metric)
        );
        for info in REGISTRY
            .iter()
            .chain(&SMOKEPING_BUCKETS)
            .chain(&IPV6_CHECKS)
            .chain(&IPV6_VALUES)
        {
            assert!(
                info.name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_'),
                "{}",
                info.name
            );
            assert_eq!(info.metric.info(), Some(info));
        }
        assert_eq!(Metric(9_999).info(), None);
    }

    #[test]
    fn every_row_of_the_ipv6_rubric_has_its_two_numbers() {
        assert_eq!(ipv6_check("V6-A1"), Some(Metric(300)));
        assert_eq!(ipv6_check("V6-H4"), Some(Metric(338)));
        assert_eq!(ipv6_check_value("V6-A1"), Some(Metric(350)));
        assert_eq!(ipv6_check_value("V6-H4"), Some(Metric(388)));
        assert_eq!(ipv6_check("V6-X1"), None);
        let info = Metric(309).info().unwrap();
        assert_eq!(
            (info.name, info.label),
            ("extranet_ipv6_check", Some(("rubric", "V6-C1")))
        );
        let (first, last) = (REGISTRY[0].metric, REGISTRY[REGISTRY.len() - 1].metric);
        assert!(first < last && last < Metric(IPV6_CHECK_FIRST));
    }

    #[test]
    fn every_bucket_says_its_bound_in_seconds() {
        let buckets: Vec<_> = smokeping_buckets().collect();
        assert_eq!(buckets.len(), SMOKEPING_BOUNDS_US.len());
        for (metric, bound_us) in buckets.into_iter().zip(SMOKEPING_BOUNDS_US) {
            let (name, text) = metric.info().unwrap().label.unwrap();
            assert_eq!(name, "le");
            let bound = format!("{:e}", bound_us as f64 / 1e6);
            let written: f64 = text.parse().unwrap();
            assert_eq!(format!("{written:e}"), bound);
        }
    }

    #[test]
    fn microseconds_become_seconds_and_gauges_are_signed() {
        let text = |metric: Metric, raw| metric.info().unwrap().exported(raw).to_string();
        assert_eq!(text(ICMP_RTT_AVG, 61), "0.000061");
        assert_eq!(text(HTTP_VERSION, 1_100), "1.1");
        assert_eq!(text(IF_MTU, (-1_i64).cast_unsigned()), "-1");
        assert_eq!(text(IF_HC_IN_OCTETS, u64::MAX), "18446744073709552000");
    }
}
