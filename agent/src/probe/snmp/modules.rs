//! The modules: which objects are read and what becomes of them. Names and contents are those of `snmp_exporter`.
//!
//! - `system`: sysUpTime, and the texts of the system group as the definition of the device;
//! - `if_mib`: sysUpTime, ifNumber, and the columns of ifTable and ifXTable (RFC 2863) for every interface.

use extranet_proto::metric::{self, Metric};
use extranet_proto::record::ObjectKind;

use super::session::{Binding, Datum, Failure, Oid, Session};
use super::walk;
use crate::probe::label::clean;

/// SNMPv2-MIB `system`.
const SYSTEM: [u32; 7] = [1, 3, 6, 1, 2, 1, 1];
/// IF-MIB `ifNumber.0`.
const IF_NUMBER: [u32; 9] = [1, 3, 6, 1, 2, 1, 2, 1, 0];
/// IF-MIB `ifEntry`.
const IF_ENTRY: [u32; 9] = [1, 3, 6, 1, 2, 1, 2, 2, 1];
/// IF-MIB `ifXEntry`.
const IF_X_ENTRY: [u32; 10] = [1, 3, 6, 1, 2, 1, 31, 1, 1, 1];

/// Labels of the device with the arcs below `system`, in the order of the definition.
const SYSTEM_LABELS: [(&str, u32); 5] = [
    ("sysName", 5),
    ("sysDescr", 1),
    ("sysObjectID", 2),
    ("sysLocation", 6),
    ("sysContact", 4),
];
/// Labels of an interface behind `ifIndex`, in the order of the definition.
const INTERFACE_LABELS: [&str; 3] = ["ifName", "ifDescr", "ifAlias"];

/// What a column of the interface tables is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A value.
    Metric(Metric),
    /// A text: position in [`INTERFACE_LABELS`].
    Label(usize),
}

/// Columns of ifEntry.
const IF_COLUMNS: &[(u32, Use)] = &[
    (2, Use::Label(1)),
    (3, Use::Metric(metric::IF_TYPE)),
    (4, Use::Metric(metric::IF_MTU)),
    (5, Use::Metric(metric::IF_SPEED)),
    (7, Use::Metric(metric::IF_ADMIN_STATUS)),
    (8, Use::Metric(metric::IF_OPER_STATUS)),
    (9, Use::Metric(metric::IF_LAST_CHANGE)),
    (10, Use::Metric(metric::IF_IN_OCTETS)),
    (11, Use::Metric(metric::IF_IN_UCAST_PKTS)),
    (13, Use::Metric(metric::IF_IN_DISCARDS)),
    (14, Use::Metric(metric::IF_IN_ERRORS)),
    (15, Use::Metric(metric::IF_IN_UNKNOWN_PROTOS)),
    (16, Use::Metric(metric::IF_OUT_OCTETS)),
    (17, Use::Metric(metric::IF_OUT_UCAST_PKTS)),
    (19, Use::Metric(metric::IF_OUT_DISCARDS)),
    (20, Use::Metric(metric::IF_OUT_ERRORS)),
];
/// Columns of ifXEntry.
const IF_X_COLUMNS: &[(u32, Use)] = &[
    (1, Use::Label(0)),
    (2, Use::Metric(metric::IF_IN_MULTICAST_PKTS)),
    (3, Use::Metric(metric::IF_IN_BROADCAST_PKTS)),
    (4, Use::Metric(metric::IF_OUT_MULTICAST_PKTS)),
    (5, Use::Metric(metric::IF_OUT_BROADCAST_PKTS)),
    (6, Use::Metric(metric::IF_HC_IN_OCTETS)),
    (7, Use::Metric(metric::IF_HC_IN_UCAST_PKTS)),
    (8, Use::Metric(metric::IF_HC_IN_MULTICAST_PKTS)),
    (9, Use::Metric(metric::IF_HC_IN_BROADCAST_PKTS)),
    (10, Use::Metric(metric::IF_HC_OUT_OCTETS)),
    (11, Use::Metric(metric::IF_HC_OUT_UCAST_PKTS)),
    (12, Use::Metric(metric::IF_HC_OUT_MULTICAST_PKTS)),
    (13, Use::Metric(metric::IF_HC_OUT_BROADCAST_PKTS)),
    (15, Use::Metric(metric::IF_HIGH_SPEED)),
    (16, Use::Metric(metric::IF_PROMISCUOUS_MODE)),
    (17, Use::Metric(metric::IF_CONNECTOR_PRESENT)),
    (18, Use::Label(2)),
    (19, Use::Metric(metric::IF_COUNTER_DISCONTINUITY_TIME)),
];

/// A module by its name in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Module {
    /// `system`.
    System,
    /// `if_mib`.
    IfMib,
}

impl Module {
    /// The module of this name, if this build has it.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "system" => Some(Self::System),
            "if_mib" => Some(Self::IfMib),
            _ => None,
        }
    }
}

/// Something on the device that values belong to and that has labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// What it is.
    pub(super) kind: ObjectKind,
    /// What tells it from the device's other objects: for an interface its number and name.
    pub(super) key: String,
    /// For the definition.
    pub(super) labels: Vec<(String, String)>,
    /// Its values.
    pub(super) values: Vec<(Metric, u64)>,
}

/// What one module gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scrape {
    /// Values of the device itself.
    pub(super) own: Vec<(Metric, u64)>,
    /// The device's objects.
    pub(super) objects: Vec<Found>,
}

/// Reads one module: everything of it or nothing.
pub(super) async fn scrape<S: Session>(session: &S, module: Module) -> Result<Scrape, Failure> {
    match module {
        Module::System => system(session).await,
        Module::IfMib => interfaces(session).await,
    }
}

/// `sysUpTime.0`.
fn up_time_oid() -> Oid {
    Oid(SYSTEM.to_vec()).with(&[3, 0])
}

async fn system<S: Session>(session: &S) -> Result<Scrape, Failure> {
    let system = Oid(SYSTEM.to_vec());
    let texts = SYSTEM_LABELS.map(|(name, arc)| (name, system.with(&[arc, 0])));
    let mut oids = vec![up_time_oid()];
    oids.extend(texts.iter().map(|(_, oid)| oid.clone()));
    let answer = session.get(&oids).await?;
    let labels = texts.iter().map(|(name, oid)| {
        let text = match datum(&answer, oid) {
            Some(Datum::Octets(octets)) => clean(octets),
            Some(Datum::Oid(oid)) => clean(oid.to_string().as_bytes()),
            _ => String::new(),
        };
        ((*name).to_owned(), text)
    });
    let device = Found {
        kind: ObjectKind::System,
        key: String::new(),
        labels: labels.collect(),
        values: Vec::new(),
    };
    Ok(Scrape {
        own: number(&answer, &up_time_oid(), metric::SYS_UP_TIME)
            .into_iter()
            .collect(),
        objects: vec![device],
    })
}

async fn interfaces<S: Session>(session: &S) -> Result<Scrape, Failure> {
    let count = Oid(IF_NUMBER.to_vec());
    let answer = session.get(&[up_time_oid(), count.clone()]).await?;
    let mut own = Vec::new();
    own.extend(number(&answer, &up_time_oid(), metric::SYS_UP_TIME));
    own.extend(number(&answer, &count, metric::IF_NUMBER));

    let entry = Oid(IF_ENTRY.to_vec());
    let x_entry = Oid(IF_X_ENTRY.to_vec());
    let columns: Vec<(Oid, Use)> = IF_COLUMNS
        .iter()
        .map(|(arc, purpose)| (entry.with(&[*arc]), *purpose))
        .chain(
            IF_X_COLUMNS
                .iter()
                .map(|(arc, purpose)| (x_entry.with(&[*arc]), *purpose)),
        )
        .collect();
    let oids: Vec<Oid> = columns.iter().map(|(oid, _)| oid.clone()).collect();
    let rows = walk::table(session, &oids).await?;
    let objects = rows
        .into_iter()
        .map(|(index, cells)| interface(index, cells, &columns))
        .collect();
    Ok(Scrape { own, objects })
}

/// One row of the interface tables.
fn interface(index: u32, cells: Vec<(usize, Datum)>, columns: &[(Oid, Use)]) -> Found {
    let mut texts = INTERFACE_LABELS.map(|_| String::new());
    let mut values = Vec::new();
    for (column, datum) in cells {
        match columns.get(column).map(|(_, purpose)| *purpose) {
            Some(Use::Metric(metric)) => values.extend(datum.raw().map(|raw| (metric, raw))),
            Some(Use::Label(label)) => {
                if let (Datum::Octets(octets), Some(text)) = (datum, texts.get_mut(label)) {
                    *text = clean(&octets);
                }
            }
            None => {}
        }
    }
    let name = texts.first().map_or("", String::as_str);
    let key = format!("{index} {name}");
    let mut labels = vec![("ifIndex".to_owned(), index.to_string())];
    labels.extend(
        INTERFACE_LABELS
            .iter()
            .zip(texts)
            .map(|(name, text)| ((*name).to_owned(), text)),
    );
    Found {
        kind: ObjectKind::Interface,
        key,
        labels,
        values,
    }
}

/// The value of an object in an answer.
fn datum<'a>(answer: &'a [Binding], oid: &Oid) -> Option<&'a Datum> {
    answer
        .iter()
        .find(|binding| binding.oid == *oid)
        .map(|binding| &binding.datum)
}

/// The number of an object in an answer.
fn number(answer: &[Binding], oid: &Oid, metric: Metric) -> Option<(Metric, u64)> {
    Some((metric, datum(answer, oid)?.raw()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_metric_of_the_registry_has_one_column() {
        let mut read: Vec<Metric> = IF_COLUMNS
            .iter()
            .chain(IF_X_COLUMNS)
            .filter_map(|(_, purpose)| match purpose {
                Use::Metric(metric) => Some(*metric),
                Use::Label(_) => None,
            })
            .collect();
        read.sort_unstable();
        let registered: Vec<Metric> = metric::REGISTRY
            .iter()
            .map(|info| info.metric)
            .filter(|metric| {
                (metric::IF_TYPE..=metric::IF_COUNTER_DISCONTINUITY_TIME).contains(metric)
            })
            .collect();
        assert_eq!(read, registered);
        assert!(registered.len() * walk::ROWS_MAX < extranet_proto::limits::RESULT_VALUES);
    }
}
