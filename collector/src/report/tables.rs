//! Tables: rows of cells under keys that never change, the same for every rendering.

mod detail;
mod levels;
mod quality;
mod stations;
mod units;

use super::cell::Cell;
use super::source::Facts;
use super::words::{self, Language};
use super::{Query, figures};
use crate::divisions::{Division, Divisions, Kind};
use crate::inventory::rank;

/// One table of the report.
#[derive(Debug, Clone)]
pub struct Table {
    /// Name of its files.
    pub key: &'static str,
    /// Title.
    pub title: &'static str,
    /// Left to right.
    pub columns: Vec<Column>,
    /// Top to bottom; the total, where there is one, comes last.
    pub rows: Vec<Row>,
    /// Whether rows have places, so that they can be drawn.
    pub has_places: bool,
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The same in every language.
    pub key: &'static str,
    /// In the language of the report.
    pub label: &'static str,
}

/// One row.
#[derive(Debug, Clone)]
pub struct Row {
    /// The same in every rendering, and unique in its table.
    pub id: String,
    /// As many as there are columns.
    pub cells: Vec<Cell>,
    /// Longitude and latitude, degrees times 10^6.
    pub place: Option<(i32, i32)>,
    /// Whether it repeats what stands in other rows.
    pub is_total: bool,
}

impl Table {
    /// A cell by its keys.
    pub fn cell(&self, id: &str, column: &str) -> Option<&Cell> {
        let at = self.columns.iter().position(|known| known.key == column)?;
        let row = self.rows.iter().find(|row| row.id == id)?;
        row.cells.get(at)
    }
}

/// What fills a column from an item of a table.
type Fill<T> = (&'static str, fn(&T, &Context<'_>) -> Cell);

/// What columns may need besides their item.
struct Context<'a> {
    facts: &'a Facts,
    query: &'a Query,
    language: Language,
}

/// Makes all tables that the query has rows for.
pub fn build(facts: &Facts, query: &Query, language: Language) -> Vec<Table> {
    let context = Context {
        facts,
        query,
        language,
    };
    let mut tables = vec![units::overview(&context), levels::table(&context)];
    tables.extend(units::by_prefecture(&context));
    tables.extend(units::by_county(&context));
    tables.push(stations::table(&context));
    tables.push(quality::table(&context));
    tables.push(detail::table(&context));
    tables
}

/// Lays columns over items.
fn table<T>(
    key: &'static str,
    context: &Context<'_>,
    fills: &[Fill<T>],
    items: &[T],
    row: impl Fn(&T) -> (String, Option<(i32, i32)>, bool),
) -> Table {
    let columns = fills.iter().map(|(key, _)| Column {
        key,
        label: words::of(key).text(context.language),
    });
    let rows: Vec<Row> = items
        .iter()
        .map(|item| {
            let (id, place, is_total) = row(item);
            Row {
                id,
                cells: fills.iter().map(|(_, fill)| fill(item, context)).collect(),
                place,
                is_total,
            }
        })
        .collect();
    Table {
        key,
        title: words::of(key).text(context.language),
        columns: columns.collect(),
        has_places: rows.iter().any(|row| row.place.is_some()),
        rows,
    }
}

/// The word for a key of the inventory.
fn word(key: &str) -> Cell {
    words::inventory(key).map_or(Cell::text(key), Cell::Word)
}

impl Context<'_> {
    /// Units of a level that should be covered in a division. Villages are those of the operator's register; without
    /// one, the villagers' committees of the table.
    fn units_in(&self, division: &Division, unit_rank: usize) -> u64 {
        let divisions = Divisions::built_in();
        let inside = |unit: &Division| divisions.holds(division, unit);
        let number = if unit_rank < 4 {
            divisions
                .of_rank(unit_rank)
                .filter(|unit| inside(unit))
                .count()
        } else if self.facts.register.is_empty() {
            divisions
                .of_rank(4)
                .filter(|unit| unit.kind == Kind::VillagersCommittee && inside(unit))
                .count()
        } else {
            self.villages_in(division).count()
        };
        number as u64
    }

    /// Villages of the register in a division.
    fn villages_in<'b>(
        &'b self,
        division: &'b Division,
    ) -> impl Iterator<Item = &'b extranet_proto::wire::VillageRow> {
        let divisions = Divisions::built_in();
        self.facts.register.values().filter(move |village| {
            divisions
                .get(&village.code)
                .is_some_and(|inner| divisions.holds(division, inner))
        })
    }

    /// The unit of its own level that an access point covers.
    fn covered(&self, site: &super::source::Site) -> Option<&'static str> {
        let unit_rank = rank(&site.row.level);
        let unit = Divisions::built_in().at_rank(site.division?, unit_rank)?;
        let is_meant = match unit_rank {
            4 if self.facts.register.is_empty() => unit.kind == Kind::VillagersCommittee,
            4 => self.facts.register.contains_key(&unit.code),
            _ => true,
        };
        is_meant.then_some(unit.code.as_str())
    }

    fn minutes(&self, slots: u64) -> Cell {
        Cell::minutes(slots, self.facts.slot_ms)
    }

    fn mttr(&self, outages: &figures::Outages) -> Cell {
        if outages.number == 0 {
            return Cell::NotApplicable;
        }
        // Hundredths of minutes.
        let ms = u128::from(outages.slots) * u128::from(self.facts.slot_ms.unsigned_abs());
        let mean = ms / (600 * u128::from(outages.number));
        Cell::Decimal(i64::try_from(mean).unwrap_or(i64::MAX), 2)
    }
}
