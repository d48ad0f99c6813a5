//! What a module is: data, written down in TOML (docs/snmp.md), read here.
//!
//! ```toml
//! mibs = ["UPS-MIB (RFC 1628)"]
//! [[scalar]]
//! name = "upsEstimatedMinutesRemaining"
//! oid = "1.3.6.1.2.1.33.1.2.3.0"
//! type = "gauge"
//! [[table]]
//! [[table.index]]
//! name = "upsInputLineIndex"
//! type = "integer"
//! [[table.column]]
//! name = "upsInputVoltage"
//! oid = "1.3.6.1.2.1.33.1.3.3.1.3"
//! type = "gauge"
//! ```
//!
//! A scalar or column of type `gauge`, `counter` or `counter64` is a series of its name; one of another type is a label of
//! the device or of its row.

mod built_in;
mod index;

use std::fmt;
use std::str::FromStr;

use extranet_proto::metric::{Defined, Kind, Metric};
use extranet_proto::record::ObjectKind;

use super::history::Nature;
use super::session::{Datum, Oid};
use crate::config::reader::{Problems, Reader, read};
use crate::probe::label::clean;

pub(super) use built_in::built_in;
pub use built_in::{NAMES, text_of};
pub(super) use index::{IndexPart, labels_of};

/// Most columns of a table, and most scalars, tables and notifications of a module.
const PARTS_MAX: usize = 64;

/// A module.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// As checks name it.
    pub(super) name: String,
    /// What the labels of scalars belong to.
    pub(super) device_kind: ObjectKind,
    /// A series that is always 1, on the object of the labels of scalars.
    pub(super) info: Option<Series>,
    pub(super) scalars: Vec<Column>,
    pub(super) tables: Vec<Table>,
    pub(super) notifications: Vec<Notification>,
}

/// A table: rows become objects.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) kind: ObjectKind,
    /// A series that is always 1, on every row.
    pub(super) info: Option<Series>,
    pub(super) index: Vec<IndexPart>,
    pub(super) columns: Vec<Column>,
    /// Positions of the columns that are walked to find the rows.
    pub(super) rows_by: Vec<usize>,
    /// Labels that tell rows apart for as long as they live; empty = the index.
    pub(super) identity: Vec<String>,
    /// Of rows with the same identity only the one with the highest index counts.
    pub(super) latest_only: bool,
    pub(super) derived: Vec<Derived>,
}

/// An object of the device: a scalar with its instance, or a column of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) oid: Oid,
    pub(super) form: Form,
    /// The column of another table, whose index is the first so many parts of ours.
    pub(super) index_parts: Option<usize>,
}

/// Values of one meaning.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The raw number times this is exported.
    pub(super) scale: f64,
    /// Its number, once [`super::numbers`] has given it one.
    pub(super) number: Metric,
}

impl Series {
    /// The raw bits as the number that is exported.
    pub(super) fn exported(&self, raw: u64) -> f64 {
        Defined {
            name: String::new(),
            kind: self.kind,
            scale: self.scale,
        }
        .exported(raw)
    }

    fn gauge(name: String, scale: f64) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            scale,
            number: Metric(0),
        }
    }
}

/// What becomes of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    Metric {
        series: Series,
        /// Counter64, which `SNMPv1` does not have (RFC 2576 section 4.1.2.1).
        wide: bool,
        /// Values that mean "not known".
        absent: Vec<i64>,
    },
    Label(LabelForm),
}

/// How a label is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LabelForm {
    Text,
    Number,
    Oid,
    /// Octets as hexadecimal numbers.
    Octets,
    /// An `InetAddress` of 4 or 16 octets, or an `IpAddress`.
    Address,
    /// A number that stands for a word.
    Word(Vec<(i64, String)>),
}

/// A series computed from columns of the same row: a value with the scale and precision of ENTITY-SENSOR-MIB.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Derived {
    pub(super) series: Series,
    pub(super) value: usize,
    pub(super) scale: usize,
    pub(super) precision: usize,
}

/// What one unit of a derived raw number is.
const MILLIONTHS: f64 = 1e-6;

/// A notification that devices send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its name in the MIB.
    pub name: String,
    /// `snmpTrapOID`.
    pub(super) oid: Oid,
}

impl Module {
    /// Reads a module; every problem is reported with its line.
    pub fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        read(name, text, |top| {
            // For people.
            let _mibs: Vec<String> = top.list("mibs", Vec::new());
            let _about = top.string("about", "");
            let module = Self {
                name: name.to_owned(),
                device_kind: kind(top, "device", "row"),
                info: name_of_series(top, "info"),
                scalars: top.sections("scalar", |reader| column(reader, true)),
                tables: top.sections("table", table),
                notifications: top.sections("notification", |reader| Notification {
                    name: reader.required_string("name"),
                    oid: oid(reader),
                }),
            };
            let empty = module.scalars.is_empty()
                && module.tables.is_empty()
                && module.notifications.is_empty();
            if empty {
                top.problem(
                    "",
                    "has no [[scalar]], no [[table]] and no [[notification]]",
                );
            }
            for (key, count) in [
                ("scalar", module.scalars.len()),
                ("table", module.tables.len()),
                ("notification", module.notifications.len()),
            ] {
                if count > PARTS_MAX {
                    top.problem(key, format!("at most {PARTS_MAX} are possible"));
                }
            }
            module
        })
    }

    /// The column or scalar under which an object of a device lies, for notifications: name, form, and the arcs behind.
    pub(super) fn object<'a>(&'a self, oid: &'a Oid) -> Option<(&'a Column, &'a [u32])> {
        let columns = self.tables.iter().flat_map(|table| &table.columns);
        columns
            .chain(&self.scalars)
            .find_map(|column| Some((column, oid.under(&column.oid)?)))
    }

    /// The name of a notification.
    pub(super) fn notification(&self, oid: &Oid) -> Option<&str> {
        let found = self.notifications.iter().find(|known| known.oid == *oid);
        found.map(|known| known.name.as_str())
    }

    /// Whether a metric counts, and how far.
    pub(super) fn nature(&self, metric: Metric) -> Nature {
        let columns = self.tables.iter().flat_map(|table| &table.columns);
        let found = columns
            .chain(&self.scalars)
            .find_map(|column| match &column.form {
                Form::Metric { series, wide, .. } if series.number == metric => {
                    Some((series.kind, *wide))
                }
                _ => None,
            });
        match found {
            Some((Kind::Counter, true)) => Nature::Counter64,
            Some((Kind::Counter, false)) => Nature::Counter32,
            _ => Nature::Gauge,
        }
    }

    /// All series of the module.
    pub(super) fn series(&self) -> impl Iterator<Item = &Series> {
        let of_tables = self.tables.iter().flat_map(|table| {
            let of_columns = table.columns.iter().filter_map(Column::series);
            let derived = table.derived.iter().map(|derived| &derived.series);
            of_columns.chain(derived).chain(&table.info)
        });
        let of_scalars = self.scalars.iter().filter_map(Column::series);
        of_scalars.chain(of_tables).chain(&self.info)
    }

    /// The same, to be numbered.
    pub(super) fn series_mut(&mut self) -> impl Iterator<Item = &mut Series> {
        let of_tables = self.tables.iter_mut().flat_map(|table| {
            let of_columns = table.columns.iter_mut().filter_map(Column::series_mut);
            let derived = table.derived.iter_mut().map(|derived| &mut derived.series);
            of_columns.chain(derived).chain(&mut table.info)
        });
        let of_scalars = self.scalars.iter_mut().filter_map(Column::series_mut);
        of_scalars.chain(of_tables).chain(&mut self.info)
    }
}

impl Column {
    fn series(&self) -> Option<&Series> {
        match &self.form {
            Form::Metric { series, .. } => Some(series),
            Form::Label(_) => None,
        }
    }

    fn series_mut(&mut self) -> Option<&mut Series> {
        match &mut self.form {
            Form::Metric { series, .. } => Some(series),
            Form::Label(_) => None,
        }
    }
}

impl LabelForm {
    /// The text of a label; empty for what has another type.
    pub(super) fn text(&self, datum: &Datum) -> String {
        match (self, datum) {
            (Self::Text, Datum::Octets(octets)) => clean(octets),
            (Self::Octets, Datum::Octets(octets)) => {
                let pairs: Vec<String> = octets.iter().map(|o| format!("{o:02x}")).collect();
                clean(pairs.join(":").as_bytes())
            }
            (Self::Address, Datum::Octets(octets)) => index::address(octets),
            (Self::Text | Self::Oid, Datum::Oid(oid)) => clean(oid.to_string().as_bytes()),
            (Self::Word(words), datum) => match number(datum) {
                Some(number) => {
                    let known = words.iter().find(|(value, _)| *value == number);
                    known.map_or_else(|| number.to_string(), |(_, word)| word.clone())
                }
                None => String::new(),
            },
            (Self::Number | Self::Text, datum) => number(datum)
                .map(|number| number.to_string())
                .unwrap_or_default(),
            _ => String::new(),
        }
    }
}

fn number(datum: &Datum) -> Option<i64> {
    match datum {
        Datum::Signed(number) => Some(*number),
        Datum::Unsigned(number) => i64::try_from(*number).ok(),
        _ => None,
    }
}

fn table(reader: &mut Reader<'_>) -> Table {
    let index = reader.sections("index", index::part);
    let columns = reader.sections("column", |reader| column(reader, false));
    let position = |name: &str| columns.iter().position(|column| column.name == name);
    let derived = reader.sections("derived", |reader| {
        let mut of = |key| {
            let name = reader.required_string(key);
            position(&name).unwrap_or_else(|| {
                reader.problem(key, format!("no column is called '{name}'"));
                0
            })
        };
        Derived {
            value: of("value"),
            scale: of("scale"),
            precision: of("precision"),
            series: Series::gauge(series_name(reader, "name"), MILLIONTHS),
        }
    });
    let mut rows_by = Vec::new();
    for name in reader.list("rows_by", Vec::<String>::new()) {
        match position(&name) {
            Some(position) => rows_by.push(position),
            None => reader.problem("rows_by", format!("no column is called '{name}'")),
        }
    }
    if rows_by.is_empty() {
        let own = columns
            .iter()
            .position(|column| column.index_parts.is_none());
        rows_by.extend(own);
    }
    if index.is_empty() || columns.is_empty() {
        reader.problem("", "needs an [[table.index]] and a [[table.column]]");
    }
    if columns.len() > PARTS_MAX {
        reader.problem("column", format!("at most {PARTS_MAX} are possible"));
    }
    for column in &columns {
        if column.index_parts.is_some_and(|parts| parts > index.len()) {
            let problem = format!("'{}' has more index parts than the table", column.name);
            reader.problem("column", problem);
        }
    }
    Table {
        kind: kind(reader, "kind", "row"),
        info: name_of_series(reader, "info"),
        identity: reader.list("identity", Vec::new()),
        latest_only: reader.boolean("latest_only", false),
        index,
        columns,
        rows_by,
        derived,
    }
}

fn column(reader: &mut Reader<'_>, is_scalar: bool) -> Column {
    let name = series_name(reader, "name");
    let kind = reader.required_string("type");
    let form = match kind.as_str() {
        "gauge" | "counter" | "counter64" => Form::Metric {
            series: Series {
                kind: if kind == "gauge" {
                    Kind::Gauge
                } else {
                    Kind::Counter
                },
                ..Series::gauge(name.clone(), reader.parsed("scale", Scale(1.0)).0)
            },
            wide: kind == "counter64",
            absent: reader.list("absent", Vec::new()),
        },
        "text" => Form::Label(LabelForm::Text),
        "number" => Form::Label(LabelForm::Number),
        "oid" => Form::Label(LabelForm::Oid),
        "octets" => Form::Label(LabelForm::Octets),
        "address" => Form::Label(LabelForm::Address),
        "word" => {
            let words: Vec<Word> = reader.list("words", Vec::new());
            Form::Label(LabelForm::Word(
                words.into_iter().map(|word| word.0).collect(),
            ))
        }
        _ => {
            reader.problem(
                "type",
                "use gauge, counter, counter64, text, number, oid, octets, address, word",
            );
            Form::Label(LabelForm::Text)
        }
    };
    let index_parts = reader.has("index_parts").then(|| {
        let parts = reader.integer("index_parts", 1, 1..=8);
        usize::try_from(parts).unwrap_or(1)
    });
    Column {
        name,
        oid: oid(reader),
        form,
        index_parts: index_parts.filter(|_| !is_scalar),
    }
}

/// A name that a series or a label can have.
fn series_name(reader: &mut Reader<'_>, key: &str) -> String {
    let name = reader.required_string(key);
    let valid = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid && !name.is_empty() {
        reader.problem(
            key,
            "use ASCII letters, digits and '_', a letter first, at most 64",
        );
    }
    name
}

fn name_of_series(reader: &mut Reader<'_>, key: &str) -> Option<Series> {
    reader
        .has(key)
        .then(|| Series::gauge(series_name(reader, key), 1.0))
}

fn kind(reader: &mut Reader<'_>, key: &str, default: &str) -> ObjectKind {
    match reader.string(key, default).as_str() {
        "row" => ObjectKind::SnmpRow,
        "interface" => ObjectKind::Interface,
        "system" => ObjectKind::System,
        _ => {
            reader.problem(key, "use row, interface, system");
            ObjectKind::SnmpRow
        }
    }
}

fn oid(reader: &mut Reader<'_>) -> Oid {
    if !reader.has("oid") {
        reader.problem("oid", "is missing");
    }
    reader.parsed("oid", Oid(Vec::new()))
}

/// Why a text is no object identifier.
#[derive(Debug)]
pub(super) struct NotAnOid;

impl fmt::Display for NotAnOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("use at least two whole numbers with dots between, as 1.3.6.1.2.1.1.3.0")
    }
}

impl FromStr for Oid {
    type Err = NotAnOid;

    fn from_str(text: &str) -> Result<Self, NotAnOid> {
        let text = text.strip_prefix('.').unwrap_or(text);
        let arcs: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        match arcs {
            Ok(arcs) if (2..=128).contains(&arcs.len()) => Ok(Self(arcs)),
            _ => Err(NotAnOid),
        }
    }
}

/// A factor.
struct Scale(f64);

impl FromStr for Scale {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: f64 = text.parse().map_err(|_| "use a number, as \"0.01\"")?;
        if number.is_finite() && number != 0.0 {
            Ok(Self(number))
        } else {
            Err("use a number that is not 0")
        }
    }
}

/// `8 celsius`.
struct Word((i64, String));

impl FromStr for Word {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "use a number and a word, as \"8 celsius\"";
        let (number, word) = text.split_once(' ').ok_or(rule)?;
        Ok(Self((number.parse().map_err(|_| rule)?, word.to_owned())))
    }
}

#[cfg(test)]
mod tests;
