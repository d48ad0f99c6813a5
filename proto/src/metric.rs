//! The registry of measured values: number on the wire, Prometheus name, unit.
//!
//! A number is never reused. Names are those of the community exporters where they have one (`blackbox_exporter`,
//! `snmp_exporter` with `if_mib`), so that existing dashboards and rules work; what has none starts with `extranet_`.

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

        /// Every metric this build knows, by growing number.
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
    /// From SYN to established.
    TCP_CONNECT = 20, "extranet_tcp_connect_seconds", None, Microseconds, Gauge;
    /// Whole scrape of the device, all modules.
    SNMP_DURATION = 40, "snmp_scrape_duration_seconds", None, Microseconds, Gauge;
    /// Variable bindings returned.
    SNMP_PDUS = 41, "snmp_scrape_pdus_returned", None, One, Gauge;
    /// Request packets sent, retries included.
    SNMP_REQUESTS = 42, "snmp_scrape_packets_sent", None, One, Gauge;
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
}

impl Metric {
    /// What this build knows about the number.
    pub fn info(self) -> Option<&'static Info> {
        REGISTRY
            .binary_search_by_key(&self, |info| info.metric)
            .ok()
            .and_then(|i| REGISTRY.get(i))
    }
}

impl Info {
    /// The raw bits as the number that is exported.
    pub fn exported(&self, raw: u64) -> f64 {
        #[expect(
            clippy::cast_possible_wrap,
            reason = "gauges are two's complement by definition"
        )]
        let number = match self.kind {
            Kind::Counter => raw as f64,
            Kind::Gauge => raw as i64 as f64,
        };
        match self.unit {
            Unit::One => number,
            Unit::Microseconds => number / 1e6,
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
        for info in REGISTRY {
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
    fn microseconds_become_seconds_and_gauges_are_signed() {
        let text = |metric: Metric, raw| metric.info().unwrap().exported(raw).to_string();
        assert_eq!(text(ICMP_RTT_AVG, 61), "0.000061");
        assert_eq!(text(IF_MTU, (-1_i64).cast_unsigned()), "-1");
        assert_eq!(text(IF_HC_IN_OCTETS, u64::MAX), "18446744073709552000");
    }
}
