//! A trace as a table for people, with the columns of mtr.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use extranet_proto::id::ObjectId;
use extranet_proto::metric::{self, Metric};
use extranet_proto::record::{Definition, ObjectKind, Reason, Value};

/// What stands in front of the lines of [`hops`].
pub const COLUMNS: &str = "Loss%   Snt      Best       Avg      Wrst  (ms)";

/// The values that are in those columns.
pub const COLUMN_METRICS: [Metric; 5] = [
    metric::PATH_HOP_SENT,
    metric::PATH_HOP_RECEIVED,
    metric::PATH_HOP_RTT_MIN,
    metric::PATH_HOP_RTT_AVG,
    metric::PATH_HOP_RTT_MAX,
];

/// Hops in their order: "01 10.0.0.1", and Loss%, Snt, Best, Avg, Wrst as far as they are known.
pub fn hops<D: Borrow<Definition>>(values: &[Value], definitions: &[D]) -> Vec<(String, String)> {
    let mut by_object: BTreeMap<ObjectId, BTreeMap<Metric, u64>> = BTreeMap::new();
    for value in values {
        let of_object = by_object.entry(value.object).or_default();
        of_object.insert(value.metric, value.raw);
    }
    let mut rows = Vec::new();
    for definition in definitions.iter().map(Borrow::borrow) {
        let found = by_object.get(&definition.object);
        let Some(found) = found.filter(|_| definition.kind == ObjectKind::PathHop) else {
            continue;
        };
        let label = |wanted: &str| {
            let mut labels = definition.labels.iter();
            labels
                .find(|(name, _)| name == wanted)
                .map_or("", |(_, text)| text.as_str())
        };
        let (hop, address) = (label("hop").to_owned(), label("address"));
        let Some(received) = found.get(&metric::PATH_HOP_RECEIVED) else {
            continue;
        };
        // The second and later ones who answer at a hop come without what was sent there.
        let sent = found.get(&metric::PATH_HOP_SENT);
        let parsed: Option<IpAddr> = address.parse().ok();
        let order = (hop.clone(), sent.is_none(), parsed);
        let address = if address.is_empty() { "???" } else { address };
        rows.push((
            order,
            (
                format!("{hop} {address}"),
                columns(sent.copied(), *received, found),
            ),
        ));
    }
    rows.sort();
    rows.into_iter().map(|(_, row)| row).collect()
}

fn columns(sent: Option<u64>, received: u64, found: &BTreeMap<Metric, u64>) -> String {
    let mut text = match sent {
        Some(sent) => {
            // Others answered too: what is missing here is not lost.
            let lost = sent.saturating_sub(received);
            let tenths = (lost * 1_000).checked_div(sent).unwrap_or(0);
            format!("{:>3}.{}%  {sent:>4}", tenths / 10, tenths % 10)
        }
        None => format!("{:>6}  {received:>4}", "+"),
    };
    for metric in [
        metric::PATH_HOP_RTT_MIN,
        metric::PATH_HOP_RTT_AVG,
        metric::PATH_HOP_RTT_MAX,
    ] {
        if let Some(us) = found.get(&metric) {
            write!(text, "  {:>4}.{:03}", us / 1_000, us % 1_000)
                .expect("writing into a string cannot fail");
        }
    }
    text
}

/// What there is to say about the whole, a line each.
pub fn summary(values: &[Value], definitions: &[Definition], reason: Reason) -> Vec<String> {
    let of = |wanted| {
        let mut values = values.iter();
        values.find(|value| value.metric == wanted)
    };
    let raw = |wanted| of(wanted).map(|value| value.raw);
    let mut lines = Vec::new();
    if let (Some(reached), Some(hops)) = (raw(metric::PATH_REACHED), raw(metric::PATH_HOPS)) {
        let fingerprint = raw(metric::PATH_FINGERPRINT).unwrap_or(0);
        lines.push(if reached == 1 {
            format!("reached; {hops} hops; path {fingerprint:012x}")
        } else {
            let reason = reason.label();
            format!("not reached ({reason}); last answer from hop {hops}; path {fingerprint:012x}")
        });
    }
    if let Some(mtu) = raw(metric::PATH_MTU) {
        let local = raw(metric::PATH_MTU_LOCAL).unwrap_or(mtu);
        let mut line = format!("path MTU {mtu} bytes, device {local}");
        if let Some(limit) = of(metric::PATH_MTU_LIMIT) {
            let mut all = definitions.iter();
            let by = all.find(|definition| definition.object == limit.object);
            let by = by.and_then(|by| by.labels.iter().find(|(name, _)| name == "address"));
            let by = by.map_or("?", |(_, address)| address.as_str());
            write!(line, "; {by} told {}", limit.raw).expect("writing into a string cannot fail");
        }
        if raw(metric::PATH_MTU_BLACK_HOLE) == Some(1) {
            line.push_str("; black hole: larger packets vanish and nobody says so");
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use extranet_proto::id::CheckId;

    use super::*;

    fn hop(object: u32, hop: &str, address: &str) -> Definition {
        Definition {
            object: ObjectId(object),
            check: CheckId(1),
            kind: ObjectKind::PathHop,
            labels: vec![
                ("hop".to_owned(), hop.to_owned()),
                ("address".to_owned(), address.to_owned()),
            ],
        }
    }

    #[test]
    fn hops_stand_in_their_order_with_the_columns_of_mtr() {
        let definitions = [
            hop(4, "02", "10.0.0.9"),
            hop(3, "02", "10.0.0.2"),
            hop(2, "03", ""),
            hop(1, "01", "10.0.0.1"),
        ];
        let value = |metric, object, raw| Value {
            metric,
            object: ObjectId(object),
            raw,
        };
        let values = [
            value(metric::PATH_REACHED, 0, 0),
            value(metric::PATH_HOPS, 0, 2),
            value(metric::PATH_FINGERPRINT, 0, 0xabc),
            value(metric::PATH_HOP_SENT, 1, 3),
            value(metric::PATH_HOP_SENT, 2, 3),
            value(metric::PATH_HOP_SENT, 3, 3),
            value(metric::PATH_HOP_RECEIVED, 1, 3),
            value(metric::PATH_HOP_RECEIVED, 2, 0),
            value(metric::PATH_HOP_RECEIVED, 3, 1),
            value(metric::PATH_HOP_RECEIVED, 4, 1),
            value(metric::PATH_HOP_RTT_MIN, 1, 80),
            value(metric::PATH_HOP_RTT_AVG, 1, 1_234),
            value(metric::PATH_HOP_RTT_MAX, 1, 612_000),
            value(metric::PATH_MTU, 0, 1_300),
            value(metric::PATH_MTU_LOCAL, 0, 1_500),
            value(metric::PATH_MTU_LIMIT, 3, 1_400),
            value(metric::PATH_MTU_BLACK_HOLE, 0, 1),
        ];
        let lines: Vec<String> = hops(&values, &definitions)
            .into_iter()
            .map(|(hop, columns)| format!("{hop:<12}{columns}"))
            .collect();
        assert_eq!(
            lines,
            [
                "01 10.0.0.1   0.0%     3     0.080     1.234   612.000",
                "02 10.0.0.2  66.6%     3",
                "02 10.0.0.9      +     1",
                "03 ???      100.0%     3",
            ]
        );
        assert_eq!(
            summary(&values, &definitions, Reason::Timeout),
            [
                "not reached (timeout); last answer from hop 2; path 000000000abc",
                "path MTU 1300 bytes, device 1500; 10.0.0.2 told 1400; black hole: larger packets vanish and nobody \
                 says so",
            ]
        );
    }
}
