//! Reads one module of one device: everything of it or nothing.

use std::collections::{BTreeMap, HashMap};

use extranet_proto::metric::Metric;
use extranet_proto::record::{ObjectKind, Reason};

use super::module::{Column, Derived, Form, Module, Table, labels_of};
use super::session::{Datum, Failure, Oid, Session};
use super::walk::{self, Rows};
use super::window::Window;

/// Something on the device that values belong to and that has labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// What it is.
    pub(super) kind: ObjectKind,
    /// What tells it from the other objects of its module, for as long as it lives.
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
    /// The rows of each table, for the next time.
    pub(super) indexes: Vec<Vec<Vec<u32>>>,
}

/// `known` holds the rows of each table as the last run found them: their cells are asked for while the rows are looked
/// for, so that over a slow link neither waits for the other.
pub(super) async fn scrape<S: Session>(
    session: &S,
    module: &Module,
    known: &[Vec<Vec<u32>>],
    window: &Window,
) -> Result<Scrape, Failure> {
    let mut scrape = Scrape::default();
    scalars(session, module, window, &mut scrape).await?;
    for (position, table) in module.tables.iter().enumerate() {
        let known = known.get(position).map(Vec::as_slice).unwrap_or_default();
        let (mut found, indexes) = rows(session, table, position, known, window).await?;
        scrape.objects.append(&mut found);
        scrape.indexes.push(indexes);
    }
    Ok(scrape)
}

async fn scalars<S: Session>(
    session: &S,
    module: &Module,
    window: &Window,
    scrape: &mut Scrape,
) -> Result<(), Failure> {
    let wanted = module
        .scalars
        .iter()
        .filter(|scalar| offered(session, scalar));
    let oids: Vec<Oid> = wanted.map(|scalar| scalar.oid.clone()).collect();
    if oids.is_empty() {
        return Ok(());
    }
    let read = walk::objects(session, oids, window).await?;
    let mut labels = Vec::new();
    for scalar in &module.scalars {
        let datum = read.get(&scalar.oid);
        match &scalar.form {
            Form::Metric { .. } => scrape.own.extend(datum.and_then(|d| value(scalar, d))),
            Form::Label(form) => {
                labels.push((
                    scalar.name.clone(),
                    datum.map(|d| form.text(d)).unwrap_or_default(),
                ));
            }
        }
    }
    if labels.iter().any(|(_, text)| !text.is_empty()) {
        scrape.objects.push(Found {
            kind: module.device_kind,
            key: "device".to_owned(),
            labels,
            values: module.info.iter().map(|info| (info.number, 1)).collect(),
        });
    }
    Ok(())
}

/// Whether it makes sense to ask for a column: a device that speaks version 1 has no Counter64.
fn offered<S: Session>(session: &S, column: &Column) -> bool {
    !matches!(column.form, Form::Metric { wide: true, .. }) || session.has_counter64()
}

/// The value of a metric; nothing when the device says that it does not know.
fn value(column: &Column, datum: &Datum) -> Option<(Metric, u64)> {
    let Form::Metric { series, absent, .. } = &column.form else {
        return None;
    };
    let raw = datum.raw()?;
    let is_known = series.number != Metric(0) && !absent.contains(&raw.cast_signed());
    is_known.then_some((series.number, raw))
}

/// A row with the texts and places of its index.
struct Indexed<'a> {
    arcs: &'a [u32],
    labels: Vec<(String, String)>,
    /// How many arcs the first parts of the index take.
    ends: Vec<usize>,
}

impl<'a> Indexed<'a> {
    fn new(table: &Table, arcs: &'a [u32]) -> Result<Self, Failure> {
        // An index that is none of this table: rows of another table, or noise.
        let (labels, ends) =
            labels_of(&table.index, arcs).ok_or(Failure::failed(Reason::Malformed))?;
        Ok(Self { arcs, labels, ends })
    }

    /// The name of the row's cell in a column.
    fn cell(&self, column: &Column) -> Oid {
        let parts = column
            .index_parts
            .and_then(|parts| self.ends.get(parts.checked_sub(1)?));
        let arcs = parts
            .and_then(|end| self.arcs.get(..*end))
            .unwrap_or(self.arcs);
        column.oid.with(arcs)
    }
}

/// All rows of a table, and their indexes.
async fn rows<S: Session>(
    session: &S,
    table: &Table,
    position: usize,
    known: &[Vec<u32>],
    window: &Window,
) -> Result<(Vec<Found>, Vec<Vec<u32>>), Failure> {
    let walked: Vec<Oid> = table
        .rows_by
        .iter()
        .filter_map(|position| table.columns.get(*position))
        .map(|column| column.oid.clone())
        .collect();
    let asked: Vec<&Column> = table
        .columns
        .iter()
        .enumerate()
        .filter(|(position, column)| !table.rows_by.contains(position) && offered(session, column))
        .map(|(_, column)| column)
        .collect();
    let cells_of = |indexes: &mut dyn Iterator<Item = &Vec<u32>>| -> Result<Vec<Oid>, Failure> {
        let mut oids = Vec::new();
        for arcs in indexes {
            let row = Indexed::new(table, arcs)?;
            oids.extend(asked.iter().map(|column| row.cell(column)));
        }
        Ok(oids)
    };
    let early = cells_of(&mut known.iter())?;
    let (found, mut cells) = tokio::try_join!(
        walk::rows(session, &walked, window),
        walk::objects(session, early, window),
    )?;
    let mut new = found
        .keys()
        .filter(|arcs| known.binary_search(arcs).is_err());
    let late = cells_of(&mut new)?;
    if !late.is_empty() {
        cells.extend(walk::objects(session, late, window).await?);
    }
    let objects = identified(table, position, &found, &cells)?;
    Ok((objects, found.into_keys().collect()))
}

/// Makes objects of rows, and gives each a key.
fn identified(
    table: &Table,
    position: usize,
    found: &Rows,
    cells: &HashMap<Oid, Datum>,
) -> Result<Vec<Found>, Failure> {
    let mut by_identity: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    let mut order = Vec::with_capacity(found.len());
    for (arcs, walked) in found {
        let row = Indexed::new(table, arcs)?;
        let mut object = object(table, row, walked, cells);
        let identity: Vec<&str> = table
            .identity
            .iter()
            .filter_map(|wanted| object.labels.iter().find(|(name, _)| name == wanted))
            .map(|(_, text)| text.as_str())
            .collect();
        let named = identity.iter().any(|text| !text.is_empty());
        let identity = format!("{position} {}", identity.join(" "));
        object.key = dotted(arcs);
        if object.values.is_empty() {
            continue;
        }
        if !named {
            order.push(object);
            continue;
        }
        by_identity.entry(identity).or_default().push(object);
    }
    for (identity, mut same) in by_identity {
        if table.latest_only {
            same = same.split_off(same.len() - 1);
            for object in &mut same {
                let in_index = |name: &String| table.index.iter().any(|part| part.label == *name);
                object
                    .labels
                    .retain(|(name, _)| !in_index(name) || table.identity.contains(name));
            }
        }
        // Two rows of one name: the index tells them apart, as far as it can.
        match same.as_mut_slice() {
            [only] => only.key = identity,
            several => {
                for object in several {
                    object.key = format!("{identity} {}", object.key);
                }
            }
        }
        order.append(&mut same);
    }
    for object in &mut order {
        if !object.key.starts_with(&format!("{position} ")) {
            object.key = format!("{position} #{}", object.key);
        }
    }
    Ok(order)
}

fn dotted(arcs: &[u32]) -> String {
    Oid(arcs.to_vec()).to_string()
}

/// Labels and values of one row.
fn object(
    table: &Table,
    row: Indexed<'_>,
    walked: &[(usize, Datum)],
    cells: &HashMap<Oid, Datum>,
) -> Found {
    let of_walk = |position: usize| {
        let at = table
            .rows_by
            .iter()
            .position(|walked| *walked == position)?;
        let cell = walked.iter().find(|(column, _)| *column == at);
        cell.map(|(_, datum)| datum)
    };
    let data: Vec<Option<&Datum>> = table
        .columns
        .iter()
        .enumerate()
        .map(|(position, column)| of_walk(position).or_else(|| cells.get(&row.cell(column))))
        .collect();
    let mut labels = row.labels;
    let mut values = Vec::new();
    for (column, datum) in table.columns.iter().zip(&data) {
        match &column.form {
            Form::Metric { .. } => values.extend(datum.and_then(|datum| value(column, datum))),
            Form::Label(form) => {
                let text = datum.map(|datum| form.text(datum)).unwrap_or_default();
                labels.push((column.name.clone(), text));
            }
        }
    }
    values.extend(
        table
            .derived
            .iter()
            .filter_map(|derived| computed(derived, &data)),
    );
    values.extend(table.info.iter().map(|info| (info.number, 1)));
    Found {
        kind: table.kind,
        key: String::new(),
        labels,
        values,
    }
}

/// A sensor's value in millionths of its unit: `value * 1000^(scale - 9) / 10^precision`, where scale 9 stands for whole
/// units (RFC 3433, `EntitySensorDataScale` and `EntitySensorPrecision`).
fn computed(derived: &Derived, data: &[Option<&Datum>]) -> Option<(Metric, u64)> {
    let number = |at: usize| Some(data.get(at).copied()??.raw()?.cast_signed());
    let exponent = (number(derived.scale)?.checked_sub(9)?)
        .checked_mul(3)?
        .checked_sub(number(derived.precision)?)?
        .checked_add(6)?;
    let factor = 10_i64.checked_pow(u32::try_from(exponent.unsigned_abs()).ok()?)?;
    let value = number(derived.value)?;
    let raw = if exponent < 0 {
        value / factor
    } else {
        value.checked_mul(factor)?
    };
    Some((derived.series.number, raw.cast_unsigned()))
}

#[cfg(test)]
mod tests;
