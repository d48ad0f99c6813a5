//! T13: rural information service stations (农村综合信息服务站) by the units below the division, from the register of
//! villages.

use super::{Context, Fill, Table};
use crate::divisions::{Division, Divisions};
use crate::report::cell::Cell;
use crate::report::words::{Language, Word};

struct Unit {
    division: &'static Division,
    is_total: bool,
    villages: u64,
    stations: u64,
}

const COLUMNS: [Fill<Unit>; 5] = [
    ("division_code", |unit, _| {
        Cell::Text(unit.division.code.clone())
    }),
    ("division_name", |unit, context| {
        if unit.is_total {
            return Cell::Word(Word::TOTAL);
        }
        let english = context.language == Language::En;
        Cell::Text(unit.division.name(english).to_owned())
    }),
    ("villages_total", |unit, _| Cell::Count(unit.villages)),
    ("stations_total", |unit, _| Cell::Count(unit.stations)),
    ("station_coverage", |unit, _| {
        Cell::part(unit.stations, unit.villages)
    }),
];

/// T13. Without a register there is nothing to count.
pub(super) fn table(context: &Context<'_>) -> Table {
    let whole = context.query.division;
    let unit = |division: &'static Division, is_total: bool| Unit {
        division,
        is_total,
        villages: context.villages_in(division).count() as u64,
        stations: context
            .villages_in(division)
            .filter(|village| village.rural_station)
            .count() as u64,
    };
    let mut units: Vec<Unit> = Divisions::built_in()
        .iter()
        .filter(|division| division.parent == whole.code && division.rank < 4)
        .map(|division| unit(division, false))
        .collect();
    units.push(unit(whole, true));
    super::table("t13_stations", context, &COLUMNS, &units, |unit| {
        (unit.division.code.clone(), None, unit.is_total)
    })
}
