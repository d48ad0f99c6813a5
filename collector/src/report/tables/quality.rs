//! T14: what the figures are worth (REP-04).

use super::units::Sum;
use super::{Context, Fill, Table};
use crate::report::cell::Cell;
use crate::report::source::Site;
use crate::report::words;

struct Item {
    key: &'static str,
    value: Cell,
}

const COLUMNS: [Fill<Item>; 3] = [
    ("key", |item, _| Cell::Text(item.key.to_owned())),
    ("item", |item, context| {
        Cell::Text(words::of(item.key).text(context.language).to_owned())
    }),
    ("number", |item, _| item.value.clone()),
];

/// T14.
pub(super) fn table(context: &Context<'_>) -> Table {
    let sites = &context.facts.sites;
    let number = |is: &dyn Fn(&Site) -> bool| {
        Cell::Count(sites.iter().filter(|site| is(site)).count() as u64)
    };
    let sum = Sum::of(context, sites.iter());
    let newest = sites
        .iter()
        .filter_map(|site| site.agent.as_ref())
        .map(|agent| version(&agent.version))
        .max();
    let items = [
        ("ap_total", Cell::Count(sum.total)),
        ("monitoring_coverage", Cell::share(sum.slots.coverage())),
        (
            "ap_never_seen",
            number(&|site| site.row.monitoring != "none" && site.slots.total() == 0),
        ),
        (
            "ap_insufficient",
            number(&|site| site.slots.total() > 0 && !site.slots.is_sufficient()),
        ),
        (
            "ap_without_coordinates",
            number(&|site| site.row.lon_e6.is_none()),
        ),
        (
            "ap_without_division",
            number(&|site| site.division.is_none()),
        ),
        (
            "agents_other_version",
            number(&|site| {
                let own = site.agent.as_ref().map(|agent| version(&agent.version));
                own.is_some() && own != newest
            }),
        ),
    ]
    .map(|(key, value)| Item { key, value });
    super::table("t14_quality", context, &COLUMNS, &items, |item| {
        (item.key.to_owned(), None, false)
    })
}

/// "0.10.2" as numbers, so that it is newer than "0.9".
fn version(text: &str) -> Vec<u64> {
    text.split(['.', '-', '+'])
        .map(|part| part.parse().unwrap_or_default())
        .collect()
}
