//! Values in words and units that people read.

use extranet_proto::metric::{
    DNS_ADDITIONALS, DNS_ANSWERS, DNS_AUTHORITIES, DNS_LOOKUP, DNS_QUERY_SUCCEEDED, DNS_RCODE,
    HTTP_BODY_LENGTH, HTTP_CONNECT, HTTP_CONTENT_LENGTH, HTTP_PROCESSING, HTTP_REDIRECTS,
    HTTP_RESOLVE, HTTP_SSL, HTTP_STATUS, HTTP_TLS, HTTP_TRANSFER, HTTP_VERSION, ICMP_DUPLICATES,
    ICMP_HOP_LIMIT, ICMP_JITTER, ICMP_LATE, ICMP_RECEIVED, ICMP_REORDERED, ICMP_RTT_AVG,
    ICMP_RTT_MAX, ICMP_RTT_MIN, ICMP_RTT_P50, ICMP_SENT, IF_NUMBER, Kind, Metric, SNMP_DURATION,
    SNMP_PDUS, SNMP_REQUESTS, SYS_UP_TIME, TCP_CONNECT, TLS_CHAIN_VALID, TLS_EARLIEST_EXPIRY,
    TLS_HANDSHAKE, TLS_NAME_VALID, Unit,
};

/// Name and value of a metric of the target itself; `None` for what only fills the line.
pub(super) fn display(metric: Metric, raw: u64) -> Option<(String, String)> {
    let name = match metric {
        ICMP_RTT_AVG => "rtt avg",
        ICMP_RTT_MIN => "rtt min",
        ICMP_RTT_MAX => "rtt max",
        ICMP_JITTER => "jitter",
        ICMP_SENT => "sent",
        ICMP_RECEIVED => "received",
        ICMP_HOP_LIMIT => "hop limit",
        ICMP_LATE => "late",
        ICMP_REORDERED => "out of order",
        ICMP_RTT_P50 => "rtt median",
        TCP_CONNECT | HTTP_CONNECT => "connect",
        SNMP_DURATION => "scrape",
        SNMP_PDUS => "values",
        DNS_LOOKUP => "lookup",
        DNS_ANSWERS => "answers",
        DNS_RCODE => "rcode",
        HTTP_STATUS => "status",
        HTTP_RESOLVE => "resolve",
        HTTP_TLS => "tls",
        HTTP_PROCESSING => "processing",
        HTTP_TRANSFER => "transfer",
        HTTP_BODY_LENGTH => return Some(("body".to_owned(), octets(raw))),
        TLS_EARLIEST_EXPIRY => return Some(("expires".to_owned(), day(raw))),
        TLS_CHAIN_VALID => return Some(("chain".to_owned(), judged(raw))),
        TLS_NAME_VALID => return Some(("name".to_owned(), judged(raw))),
        TLS_HANDSHAKE => "handshake",
        SYS_UP_TIME => return Some(("uptime".to_owned(), uptime(raw))),
        IF_NUMBER => "interfaces",
        ICMP_DUPLICATES if raw == 0 => return None,
        SNMP_REQUESTS | DNS_AUTHORITIES | DNS_ADDITIONALS | DNS_QUERY_SUCCEEDED
        | HTTP_CONTENT_LENGTH | HTTP_VERSION | HTTP_SSL | HTTP_REDIRECTS => return None,
        other => {
            let info = other.info()?;
            if info.name.starts_with("smokeping_") {
                return None;
            }
            let name = match info.label {
                Some((_, value)) => format!("{} {value}", info.name),
                None => info.name.to_owned(),
            };
            return Some((name, plain(info.kind, info.unit, raw)));
        }
    };
    let info = metric.info()?;
    Some((name.to_owned(), plain(info.kind, info.unit, raw)))
}

fn plain(kind: Kind, unit: Unit, raw: u64) -> String {
    match (unit, kind) {
        (Unit::Microseconds, _) => milliseconds(raw),
        (Unit::Thousandths, _) => (raw.cast_signed() as f64 / 1e3).to_string(),
        (Unit::One, Kind::Gauge) => raw.cast_signed().to_string(),
        (Unit::One, Kind::Counter) => raw.to_string(),
    }
}

/// Seconds since 1970 as the day in UTC.
fn day(raw: u64) -> String {
    time::OffsetDateTime::from_unix_timestamp(raw.cast_signed())
        .map_or_else(|_| raw.to_string(), |time| time.date().to_string())
}

fn judged(raw: u64) -> String {
    if raw == 0 { "not valid" } else { "valid" }.to_owned()
}

/// Microseconds as "0.061 ms".
pub(super) fn milliseconds(us: u64) -> String {
    format!("{}.{:03} ms", us / 1_000, us % 1_000)
}

/// "1.4 MB", decimal as carriers count.
pub(super) fn octets(raw: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if raw < 1_000 {
        return format!("{raw} B");
    }
    let mut value = raw as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.95 {
            break;
        }
        value /= 1_000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// Hundredths of a second as "3 d 04:05:06".
fn uptime(hundredths: u64) -> String {
    let seconds = hundredths / 100;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60);
    if days == 0 {
        clock
    } else {
        format!("{days} d {clock}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_readable() {
        assert_eq!(
            display(ICMP_RTT_AVG, 61),
            Some(("rtt avg".to_owned(), "0.061 ms".to_owned()))
        );
        assert_eq!(
            display(ICMP_SENT, 5),
            Some(("sent".to_owned(), "5".to_owned()))
        );
        assert_eq!(display(ICMP_DUPLICATES, 0), None);
        assert_eq!(
            display(SYS_UP_TIME, 27_390_600),
            Some(("uptime".to_owned(), "3 d 04:05:06".to_owned()))
        );
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        let expires = pair("expires", "2090-01-01");
        assert_eq!(display(TLS_EARLIEST_EXPIRY, 3_786_912_000), expires);
        assert_eq!(display(TLS_CHAIN_VALID, 0), pair("chain", "not valid"));
        assert_eq!(display(HTTP_TRANSFER, 17), pair("transfer", "0.017 ms"));
        assert_eq!(display(Metric(9_999), 1), None);
        assert_eq!(octets(999), "999 B");
        assert_eq!(octets(1_000), "1.0 kB");
        assert_eq!(octets(1_400_000), "1.4 MB");
        assert_eq!(octets(999_960), "1.0 MB");
        assert_eq!(octets(u64::MAX), "18.4 EB");
    }
}
