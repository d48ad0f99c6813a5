//! T2: coverage by level, and the total.

use std::collections::BTreeSet;

use super::{Context, Fill, Table, word};
use crate::inventory::{LEVELS, rank};
use crate::report::cell::Cell;
use crate::report::source::Site;
use crate::report::words::Word;

/// Least contracted bandwidth, kbit/s: towns and above 100 Mbit/s, villages 12 Mbit/s (SRC-30).
const BANDWIDTH_KBPS: [u64; 5] = [100_000, 100_000, 100_000, 100_000, 12_000];
/// Row of all levels.
const ALL: &str = "all";

struct Level<'a> {
    /// `None`: all.
    rank: Option<usize>,
    sites: Vec<&'a Site>,
}

fn columns<'a>() -> [Fill<Level<'a>>; 11] {
    [
        ("level", |level, _| match level.rank {
            Some(rank) => word(LEVELS[rank]),
            None => Cell::Word(Word::TOTAL),
        }),
        ("units_total", |level, context| {
            Cell::Count(units_total(level, context))
        }),
        ("units_covered", |level, context| {
            Cell::Count(units_covered(level, context))
        }),
        ("unit_coverage", |level, context| {
            Cell::part(units_covered(level, context), units_total(level, context))
        }),
        ("ap_total", |level, _| Cell::Count(level.sites.len() as u64)),
        ("dual_uplink_share", |level, _| {
            let known = number(level, |site| site.row.uplinks > 0);
            Cell::part(number(level, |site| site.row.uplinks > 1), known)
        }),
        ("medium_fibre", |level, _| medium(level, "fibre")),
        ("medium_mobile", |level, _| medium(level, "mobile")),
        ("medium_satellite", |level, _| medium(level, "satellite")),
        ("medium_other", |level, _| {
            let named = |site: &Site| ["fibre", "mobile", "satellite"].contains(&&*site.row.medium);
            Cell::Count(number(level, |site| !named(site)))
        }),
        ("bandwidth_ok_share", |level, _| {
            let known = number(level, |site| site.row.contract_kbps > 0);
            let enough = number(level, |site| {
                let least = BANDWIDTH_KBPS.get(rank(&site.row.level)).copied();
                site.row.contract_kbps > 0 && Some(site.row.contract_kbps) >= least
            });
            Cell::part(enough, known)
        }),
    ]
}

/// T2.
pub(super) fn table(context: &Context<'_>) -> Table {
    let sites = &context.facts.sites;
    let mut levels: Vec<Level<'_>> = wanted(context)
        .into_iter()
        .map(|rank| Level {
            rank: Some(rank),
            sites: sites
                .iter()
                .filter(|site| site.row.level == LEVELS[rank])
                .collect(),
        })
        .collect();
    levels.push(Level {
        rank: None,
        sites: sites.iter().collect(),
    });
    super::table("t2_levels", context, &columns(), &levels, |level| {
        let id = level.rank.map_or(ALL, |rank| LEVELS[rank]);
        (id.to_owned(), None, level.rank.is_none())
    })
}

/// Levels that the query asks for and that the division has.
fn wanted(context: &Context<'_>) -> Vec<usize> {
    let query = context.query;
    let meant = |rank: &usize| {
        query.levels.is_empty() || query.levels.iter().any(|level| level == LEVELS[*rank])
    };
    (query.division.rank..LEVELS.len()).filter(meant).collect()
}

/// Units of all levels that are asked for, or of the one of the row.
fn units_total(level: &Level<'_>, context: &Context<'_>) -> u64 {
    wanted(context)
        .into_iter()
        .filter(|rank| level.rank.is_none_or(|own| own == *rank))
        .map(|rank| context.units_in(context.query.division, rank))
        .sum()
}

fn units_covered(level: &Level<'_>, context: &Context<'_>) -> u64 {
    let covered = level.sites.iter().filter_map(|site| context.covered(site));
    covered.collect::<BTreeSet<_>>().len() as u64
}

fn number(level: &Level<'_>, is: impl Fn(&Site) -> bool) -> u64 {
    level.sites.iter().filter(|site| is(site)).count() as u64
}

fn medium(level: &Level<'_>, medium: &str) -> Cell {
    Cell::Count(number(level, |site| site.row.medium == medium))
}
