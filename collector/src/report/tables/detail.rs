//! T5: one row per access point.

use time::Date;
use time::macros::format_description;

use super::{Context, Fill, Table, word};
use crate::divisions::Divisions;
use crate::report::cell::Cell;
use crate::report::source::Site;
use crate::report::words::{self, Language, Word};
use crate::state::{Cause, State};

const COLUMNS: [Fill<Site>; 49] = [
    ("ap_id", |site, _| Cell::Text(site.row.ap_id.clone())),
    ("ap_name", |site, _| Cell::text(&site.row.name)),
    ("prefecture", |site, context| division(site, context, 1)),
    ("county", |site, context| division(site, context, 2)),
    ("township", |site, context| division(site, context, 3)),
    ("village", |site, context| division(site, context, 4)),
    ("division_code12", |site, _| {
        site.division.map_or(Cell::NotApplicable, |division| {
            Cell::Text(division.code12())
        })
    }),
    ("department", |site, _| Cell::text(&site.row.department)),
    ("level", |site, _| word(&site.row.level)),
    ("zone", |site, _| word(&site.row.zone)),
    ("network_kind", |site, _| word(&site.row.network_kind)),
    ("parent_id", |site, _| Cell::text(&site.row.parent)),
    ("uplinks", |site, _| number(site.row.uplinks.into())),
    ("medium", |site, _| word(&site.row.medium)),
    ("isp", |site, _| Cell::text(&site.row.isp)),
    ("contract_mbps", |site, _| {
        match i64::try_from(site.row.contract_kbps) {
            Ok(kbps) if kbps > 0 => Cell::Decimal(kbps, 3),
            _ => Cell::NotApplicable,
        }
    }),
    ("p95_in_mbps", |site, _| {
        megabits(site.traffic.map(|traffic| traffic.p95_in))
    }),
    ("p95_out_mbps", |site, _| {
        megabits(site.traffic.map(|traffic| traffic.p95_out))
    }),
    ("util_pct", |site, _| {
        let share = site
            .traffic
            .and_then(|traffic| traffic.utilisation(site.row.contract_kbps));
        share.map_or(Cell::NotApplicable, |thousandths| {
            Cell::Decimal(i64::try_from(thousandths).unwrap_or(i64::MAX), 3)
        })
    }),
    ("active", |site, _| match site.traffic {
        None => Cell::NotApplicable,
        Some(traffic) => Cell::Word(match traffic.is_active {
            Some(true) => Word::YES,
            Some(false) => Word::NO,
            None => Word::INSUFFICIENT,
        }),
    }),
    ("state", |site, _| Cell::Word(words::state(site.state))),
    ("availability", |site, _| site.slots.availability()),
    ("coverage", |site, _| Cell::share(site.slots.coverage())),
    ("availability_low", |site, _| Cell::share(site.slots.low())),
    ("availability_high", |site, _| {
        Cell::share(site.slots.high())
    }),
    ("up_min", |site, context| {
        minutes(site, context, site.slots.up)
    }),
    ("down_min", |site, context| {
        minutes(site, context, site.slots.down)
    }),
    ("unknown_min", |site, context| {
        minutes(site, context, site.slots.unknown)
    }),
    ("outages", |site, _| match site.slots.total() {
        0 => Cell::NotApplicable,
        _ => Cell::Count(site.outages.number),
    }),
    ("longest_outage_min", |site, context| {
        match site.outages.number {
            0 => Cell::NotApplicable,
            _ => context.minutes(site.outages.longest),
        }
    }),
    ("main_cause", |site, _| match site.main_cause {
        Cause::None => Cell::NotApplicable,
        cause => Cell::Word(words::cause(cause)),
    }),
    ("open_critical", |site, _| Cell::Count(site.open_critical)),
    ("ipv4_prefix", |site, _| Cell::text(&site.row.ipv4_prefix)),
    ("ipv6_prefix", |site, _| Cell::text(&site.row.ipv6_prefix)),
    ("ipv6_level", |site, _| {
        site.ipv6.map_or(Cell::NotApplicable, |ipv6| {
            Cell::Text(format!("L{}", ipv6.level))
        })
    }),
    ("ipv6_score", |site, _| {
        let score = site.ipv6.map(|ipv6| ipv6.score);
        match score {
            None => Cell::NotApplicable,
            Some(None) => Cell::Word(Word::INSUFFICIENT),
            Some(Some(hundredths)) => Cell::Decimal(hundredths, 2),
        }
    }),
    ("ipv6_since", |site, _| {
        time(site.ipv6.and_then(|ipv6| ipv6.since_ms))
    }),
    ("ce_model", |site, _| Cell::text(&site.row.ce_model)),
    ("ce_install_date", |site, _| {
        Cell::text(&site.row.ce_install_date)
    }),
    ("warranty_end", |site, _| Cell::text(&site.row.warranty_end)),
    ("age_years", age),
    ("agent_version", |site, _| {
        let version = site.agent.as_ref().map(|agent| agent.version.as_str());
        Cell::text(version.unwrap_or_default())
    }),
    ("agent_tier", |site, _| {
        let tier = site.agent.as_ref().and_then(|agent| agent.tier);
        tier.map_or(Cell::NotApplicable, |tier| Cell::Count(tier.into()))
    }),
    ("last_seen", |site, _| {
        time(site.agent.as_ref().and_then(|agent| agent.last_seen_ms))
    }),
    ("contact_role", |site, _| Cell::text(&site.row.contact_role)),
    ("lon", |site, _| Cell::degrees(site.row.lon_e6)),
    ("lat", |site, _| Cell::degrees(site.row.lat_e6)),
    ("coord_quality", |site, _| word(&site.row.coord_quality)),
    ("border_county", |site, _| {
        Cell::Word(if site.row.border_county {
            Word::YES
        } else {
            Word::NO
        })
    }),
];

/// T5.
pub(super) fn table(context: &Context<'_>) -> Table {
    let remarks: Fill<Site> = ("remarks", |site, _| Cell::text(&site.row.remarks));
    let columns = [COLUMNS.as_slice(), &[remarks]].concat();
    let sites = &context.facts.sites;
    super::table("t5_access_points", context, &columns, sites, |site| {
        let place = site.row.lon_e6.zip(site.row.lat_e6);
        (site.row.ap_id.clone(), place, false)
    })
}

fn division(site: &Site, context: &Context<'_>, rank: usize) -> Cell {
    let found = site
        .division
        .and_then(|division| Divisions::built_in().at_rank(division, rank));
    found.map_or(Cell::NotApplicable, |division| {
        Cell::Text(division.name(context.language == Language::En).to_owned())
    })
}

fn number(number: u64) -> Cell {
    match number {
        0 => Cell::NotApplicable,
        _ => Cell::Count(number),
    }
}

/// bit/s as Mbit/s.
fn megabits(rate: Option<u64>) -> Cell {
    rate.map_or(Cell::NotApplicable, |rate| {
        Cell::Decimal(i64::try_from(rate / 1_000).unwrap_or(i64::MAX), 3)
    })
}

fn time(ms: Option<i64>) -> Cell {
    ms.map_or(Cell::NotApplicable, Cell::Time)
}

/// Nothing for an access point that was not in service in the period at all.
fn minutes(site: &Site, context: &Context<'_>, slots: u64) -> Cell {
    match (site.slots.total(), site.state) {
        (0, State::NotInService) => Cell::NotApplicable,
        _ => context.minutes(slots),
    }
}

/// Whole years from installation to the end of the period.
fn age(site: &Site, context: &Context<'_>) -> Cell {
    let format = format_description!("[year]-[month]-[day]");
    let Ok(installed) = Date::parse(&site.row.ce_install_date, format) else {
        return Cell::NotApplicable;
    };
    let days = (context.query.to_exclusive - installed).whole_days();
    // Tenths of years of 365.2425 days.
    Cell::Decimal(days * 100_000 / 3_652_425, 1)
}
