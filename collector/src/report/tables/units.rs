//! One row per unit of a level: overview, by prefecture, by county. What stands at the division itself has a row of its
//! own, so that the rows add up to the total.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::{Context, Fill, Table, table, word};
use crate::divisions::{Division, Divisions};
use crate::inventory::rank;
use crate::report::cell::Cell;
use crate::report::figures::{Outages, Slots};
use crate::report::source::Site;
use crate::report::words::{self, Word};
use crate::state::State;

/// Sums over access points.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) total: u64,
    in_service: u64,
    monitored: u64,
    pub(super) slots: Slots,
    outages: Outages,
    /// In service at the end, and up then.
    end_in_service: u64,
    end_up: u64,
    ipv6_tested: u64,
    ipv6_l3: u64,
    /// Access points of which is known whether they were active, and those that were.
    traffic_known: u64,
    active: u64,
    critical: u64,
    townships: BTreeSet<&'static str>,
    villages: BTreeSet<&'static str>,
}

impl Sum {
    pub(super) fn of<'a>(context: &Context<'_>, sites: impl Iterator<Item = &'a Site>) -> Self {
        let mut sum = Self::default();
        for site in sites {
            sum.total += 1;
            sum.in_service += u64::from(site.row.monitoring != "none");
            sum.monitored += u64::from(site.slots.total() > 0);
            sum.slots += site.slots;
            sum.outages += site.outages;
            sum.end_in_service += u64::from(site.state != State::NotInService);
            sum.end_up += u64::from(site.state == State::Up);
            sum.ipv6_tested += u64::from(site.ipv6.is_some());
            sum.ipv6_l3 += u64::from(site.ipv6.is_some_and(|ipv6| ipv6.level >= 3));
            let is_active = site.traffic.and_then(|traffic| traffic.is_active);
            sum.traffic_known += u64::from(is_active.is_some());
            sum.active += u64::from(is_active == Some(true));
            sum.critical += site.open_critical;
            match (rank(&site.row.level), context.covered(site)) {
                (3, Some(code)) => drop(sum.townships.insert(code)),
                (4, Some(code)) => drop(sum.villages.insert(code)),
                _ => {}
            }
        }
        sum
    }
}

/// Which access points a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Those in a unit.
    Unit,
    /// Those of the division that are in no unit.
    Own,
    /// Those without a division.
    Elsewhere,
    /// All.
    Total,
}

struct Unit {
    part: Part,
    division: &'static Division,
    sum: Sum,
    rank: Option<u64>,
}

impl Unit {
    fn id(&self) -> String {
        let code = &self.division.code;
        match self.part {
            Part::Unit | Part::Total => code.clone(),
            Part::Own => format!("{code}-own"),
            Part::Elsewhere => "none".to_owned(),
        }
    }

    /// The division whose townships and villages are counted; what stands beside units has none of them.
    fn denominator(&self) -> Option<&'static Division> {
        matches!(self.part, Part::Unit | Part::Total).then_some(self.division)
    }
}

const OVERVIEW: [Fill<Unit>; 15] = [
    ("division_code", |unit, _| Cell::Text(unit.id())),
    ("division_name", name),
    ("level", |unit, _| match unit.part {
        Part::Elsewhere => Cell::NotApplicable,
        _ => word(unit.division.level()),
    }),
    ("ap_total", |unit, _| Cell::Count(unit.sum.total)),
    ("ap_in_service", |unit, _| Cell::Count(unit.sum.in_service)),
    ("ap_monitored", |unit, _| Cell::Count(unit.sum.monitored)),
    ("monitoring_coverage", |unit, _| {
        Cell::share(unit.sum.slots.coverage())
    }),
    ("online_rate", |unit, _| {
        Cell::part(unit.sum.end_up, unit.sum.end_in_service)
    }),
    ("availability", |unit, _| unit.sum.slots.availability()),
    ("availability_low", |unit, _| {
        Cell::share(unit.sum.slots.low())
    }),
    ("availability_high", |unit, _| {
        Cell::share(unit.sum.slots.high())
    }),
    ("util_active_rate", |unit, _| match unit.sum.traffic_known {
        0 => Cell::NotApplicable,
        _ => Cell::part(unit.sum.active, unit.sum.in_service),
    }),
    ("ipv6_l3_share", |unit, _| {
        // Of all in service, tested or not; nothing where nobody has been tested.
        match unit.sum.ipv6_tested {
            0 => Cell::NotApplicable,
            _ => Cell::part(unit.sum.ipv6_l3, unit.sum.in_service),
        }
    }),
    ("open_critical", |unit, _| Cell::Count(unit.sum.critical)),
    ("rank", |unit, _| {
        unit.rank.map_or(Cell::NotApplicable, Cell::Count)
    }),
];

const MORE: [Fill<Unit>; 10] = [
    ("townships_total", |unit, context| {
        count(unit, |division| context.units_in(division, 3))
    }),
    ("townships_covered", |unit, _| {
        count(unit, |_| unit.sum.townships.len() as u64)
    }),
    ("villages_total", |unit, context| {
        count(unit, |division| context.units_in(division, 4))
    }),
    ("villages_covered", |unit, _| {
        count(unit, |_| unit.sum.villages.len() as u64)
    }),
    ("stations_total", |unit, context| {
        stations(unit, context).map_or(Cell::NotApplicable, |(stations, _)| Cell::Count(stations))
    }),
    ("station_coverage", |unit, context| {
        stations(unit, context).map_or(Cell::NotApplicable, |(stations, villages)| {
            Cell::part(stations, villages)
        })
    }),
    ("border_counties", |unit, _| {
        count(unit, |division| {
            let divisions = Divisions::built_in();
            let border = |county: &&Division| county.border && divisions.holds(division, county);
            divisions.of_rank(2).filter(border).count() as u64
        })
    }),
    ("mttr_min", |unit, context| context.mttr(&unit.sum.outages)),
    ("outages", |unit, _| Cell::Count(unit.sum.outages.number)),
    ("longest_outage_min", |unit, context| {
        match unit.sum.outages.number {
            0 => Cell::NotApplicable,
            _ => context.minutes(unit.sum.outages.longest),
        }
    }),
];

fn name(unit: &Unit, context: &Context<'_>) -> Cell {
    let english = context.language == words::Language::En;
    let name = unit.division.name(english);
    let of = |word: Word| {
        let gap = if english { " " } else { "" };
        format!("{name}{gap}{}", word.text(context.language))
    };
    match unit.part {
        Part::Unit => Cell::Text(name.to_owned()),
        Part::Own => Cell::Text(of(Word::OWN)),
        Part::Elsewhere => Cell::Word(Word::ELSEWHERE),
        Part::Total => Cell::Text(of(Word::TOTAL)),
    }
}

fn count(unit: &Unit, of: impl Fn(&Division) -> u64) -> Cell {
    unit.denominator()
        .map_or(Cell::NotApplicable, |division| Cell::Count(of(division)))
}

/// Stations and villages of the register; nothing without a register.
fn stations(unit: &Unit, context: &Context<'_>) -> Option<(u64, u64)> {
    let division = unit.denominator()?;
    let villages = context.villages_in(division).count() as u64;
    let stations = context
        .villages_in(division)
        .filter(|village| village.rural_station);
    (villages > 0).then(|| (stations.count() as u64, villages))
}

/// T1.
pub(super) fn overview(context: &Context<'_>) -> Table {
    let units = context
        .query
        .unit_rank()
        .map_or_else(|| total_only(context), |rank| units(context, rank));
    finish("t1_overview", context, &OVERVIEW, &units)
}

/// T3, where the division has prefectures.
pub(super) fn by_prefecture(context: &Context<'_>) -> Option<Table> {
    summary("t3_prefectures", context, 1)
}

/// T4, where the division has counties.
pub(super) fn by_county(context: &Context<'_>) -> Option<Table> {
    summary("t4_counties", context, 2)
}

fn summary(key: &'static str, context: &Context<'_>, unit_rank: usize) -> Option<Table> {
    if context.query.division.rank >= unit_rank {
        return None;
    }
    let columns = [OVERVIEW.as_slice(), &MORE].concat();
    Some(finish(key, context, &columns, &units(context, unit_rank)))
}

fn finish(key: &'static str, context: &Context<'_>, fills: &[Fill<Unit>], units: &[Unit]) -> Table {
    table(key, context, fills, units, |unit| {
        let place = match unit.part {
            Part::Elsewhere => None,
            _ => Divisions::built_in()
                .path(unit.division)
                .find_map(|at| at.seat),
        };
        (unit.id(), place, unit.part == Part::Total)
    })
}

fn total_only(context: &Context<'_>) -> Vec<Unit> {
    vec![Unit {
        part: Part::Total,
        division: context.query.division,
        sum: Sum::of(context, context.facts.sites.iter()),
        rank: None,
    }]
}

/// Units in the order of their codes, then the others, then the total.
fn units(context: &Context<'_>, unit_rank: usize) -> Vec<Unit> {
    let divisions = Divisions::built_in();
    let whole = context.query.division;
    let unit_of = |site: &Site| divisions.at_rank(site.division?, unit_rank);
    let sum_of = |is: &dyn Fn(&Site) -> bool| {
        Sum::of(context, context.facts.sites.iter().filter(|site| is(site)))
    };
    // Sites come in the order of codes, so those of a unit stand together.
    let mut by_unit: std::collections::HashMap<&str, Vec<&Site>> = std::collections::HashMap::new();
    for site in &context.facts.sites {
        if let Some(unit) = unit_of(site) {
            by_unit.entry(&unit.code).or_default().push(site);
        }
    }
    let mut units: Vec<Unit> = divisions
        .of_rank(unit_rank)
        .filter(|division| divisions.holds(whole, division))
        .map(|division| Unit {
            part: Part::Unit,
            division,
            sum: Sum::of(
                context,
                by_unit.remove(division.code.as_str()).into_iter().flatten(),
            ),
            rank: None,
        })
        .collect();
    give_ranks(&mut units);
    let others = [
        (
            Part::Own,
            sum_of(&|site| site.division.is_some() && unit_of(site).is_none()),
        ),
        (Part::Elsewhere, sum_of(&|site| site.division.is_none())),
    ];
    for (part, sum) in others {
        if sum.total > 0 {
            units.push(Unit {
                part,
                division: whole,
                sum,
                rank: None,
            });
        }
    }
    units.extend(total_only(context));
    units
}

/// By availability, best first, equal ones share a place; units without a single figure have none.
fn give_ranks(units: &mut [Unit]) {
    let figures: Vec<_> = units
        .iter()
        .map(|unit| {
            let sufficient = unit.sum.slots.is_sufficient();
            unit.sum.slots.observed().filter(|_| sufficient)
        })
        .collect();
    for (unit, own) in units.iter_mut().zip(&figures) {
        if let Some(own) = own {
            let better = figures
                .iter()
                .flatten()
                .filter(|other| other.partial_cmp(&own) == Some(Ordering::Greater));
            unit.rank = Some(better.count() as u64 + 1);
        }
    }
}
