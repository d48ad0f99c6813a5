//! What a run shows, in a form to compare.

use std::fmt;

use extranet_agent::probe::Measured;
use extranet_proto::assignment::{PathProbe, PathTransport};
use extranet_proto::id::ObjectId;
use extranet_proto::metric::{self, Metric};
use extranet_proto::record::Definition;

/// The usual trace.
pub(crate) fn probe(transport: PathTransport) -> PathProbe {
    PathProbe {
        transport,
        port: transport.usual_port(),
        ..PathProbe::default()
    }
}

/// A value of the run as a whole.
pub(crate) fn value(measured: &Measured, metric: Metric) -> Option<u64> {
    of(measured, ObjectId(0), metric)
}

fn of(measured: &Measured, object: ObjectId, metric: Metric) -> Option<u64> {
    let mut values = measured.values.iter();
    let found = values.find(|value| value.object == object && value.metric == metric);
    found.map(|value| value.raw)
}

/// Who answered where.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) hops: Vec<Hop>,
    /// Who told a limit of the path MTU, and which.
    pub(crate) limit: Option<(String, u64)>,
    verdict: String,
}

/// Somebody who answered at a hop, or nobody.
#[derive(Debug)]
pub(crate) struct Hop {
    distance: String,
    pub(crate) address: String,
    pub(crate) sent: Option<u64>,
    pub(crate) received: u64,
    pub(crate) min_us: Option<u64>,
}

impl Seen {
    pub(crate) fn of(measured: &Measured) -> Self {
        let label = |definition: &Definition, wanted: &str| {
            let mut labels = definition.labels.iter();
            let found = labels.find(|(name, _)| name == wanted);
            found.map(|(_, text)| text.clone()).unwrap_or_default()
        };
        let mut hops = Vec::new();
        let mut limit = None;
        for definition in &measured.definitions {
            let value = |metric| of(measured, definition.object, metric);
            if let Some(mtu) = value(metric::PATH_MTU_LIMIT) {
                limit = Some((label(definition, "address"), mtu));
            }
            if let Some(received) = value(metric::PATH_HOP_RECEIVED) {
                hops.push(Hop {
                    distance: label(definition, "hop"),
                    address: label(definition, "address"),
                    sent: value(metric::PATH_HOP_SENT),
                    received,
                    min_us: value(metric::PATH_HOP_RTT_MIN),
                });
            }
        }
        hops.sort_by(|a, b| (&a.distance, &a.address).cmp(&(&b.distance, &b.address)));
        Self {
            hops,
            limit,
            verdict: format!("{} {}", measured.outcome, measured.reason),
        }
    }

    /// Hop by hop; "" = silent.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.hops.iter().map(|hop| hop.address.clone()).collect()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        for hop in &self.hops {
            write!(
                f,
                "; {} '{}' {}/{:?}",
                hop.distance, hop.address, hop.received, hop.sent
            )?;
        }
        Ok(())
    }
}
