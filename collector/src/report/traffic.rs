//! 利用率: what the uplinks of an access point carried in a period (AV-30, AV-31).

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::sketch::Sketch;
use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// Days begin at midnight in Asia/Shanghai.
const ZONE_MS: i64 = 8 * 3_600_000;
const DAY_MS: i64 = 86_400_000;
/// The percentile of AV-30, thousandths.
const P95: u64 = 950;
/// An access point is active on a day with more octets than this up its uplinks (AV-31).
pub(super) const ACTIVE_OCTETS: i64 = 5_000_000;
/// It is active in a period with so many such days in each month that the period holds.
const ACTIVE_DAYS_A_MONTH: u64 = 5;
/// Of a day at least this much must be covered for the day to count, ms: half of it.
const DAY_COVERED_MS: i64 = DAY_MS / 2;

/// What is known of an access point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// p95 of the rates over five minutes, towards the site and from it, bit/s: those of its busiest uplink.
    pub p95_in: u64,
    /// The same from the site.
    pub p95_out: u64,
    /// Whether it was active; `None` = too few days are covered to say no.
    pub is_active: Option<bool>,
}

impl Traffic {
    /// p95 of the busier direction over the contracted rate, thousandths of a percent; `None` without a contract.
    pub fn utilisation(&self, contract_kbps: u64) -> Option<u64> {
        let rate = u128::from(self.p95_in.max(self.p95_out));
        let contract = u128::from(contract_kbps) * 1_000;
        let share = (rate * 100_000).checked_div(contract)?;
        u64::try_from(share).ok()
    }
}

/// Sums of one uplink.
#[derive(Debug, Default)]
struct Uplink {
    inward: Sketch,
    outward: Sketch,
}

/// The traffic of an access point in a period.
pub(super) fn read(
    connection: &Connection,
    ap_id: &str,
    from_ms: i64,
    to_ms: i64,
) -> Result<Option<Traffic>, StoreError> {
    let (from, to) = (
        (from_ms + ZONE_MS).div_euclid(DAY_MS),
        (to_ms + ZONE_MS - 1).div_euclid(DAY_MS),
    );
    let mut uplinks: BTreeMap<(String, String), Uplink> = BTreeMap::new();
    let mut octets: BTreeMap<i64, i64> = BTreeMap::new();
    let mut covered: BTreeMap<i64, i64> = BTreeMap::new();
    let mut gather = || -> Result<(), rusqlite::Error> {
        // Of several agents that watch the same uplink the one that saw most of the day counts.
        let mut statement = connection.prepare_cached(
            "SELECT instance, if_name, day, max(span_ms), out_octets, in_rates, out_rates FROM traffic_days \
             WHERE ap_id = ?1 AND day BETWEEN ?2 AND ?3 GROUP BY instance, if_name, day",
        )?;
        let mut rows = statement.query(params![ap_id, from, to])?;
        while let Some(row) = rows.next()? {
            let uplink = uplinks.entry((row.get(0)?, row.get(1)?)).or_default();
            let day: i64 = row.get(2)?;
            let longest = covered.entry(day).or_default();
            *longest = row.get::<_, i64>(3)?.max(*longest);
            *octets.entry(day).or_default() += row.get::<_, i64>(4)?;
            uplink
                .inward
                .merge(&Sketch::decode(&row.get::<_, Vec<u8>>(5)?));
            uplink
                .outward
                .merge(&Sketch::decode(&row.get::<_, Vec<u8>>(6)?));
        }
        Ok(())
    };
    gather().doing("reading the traffic of uplinks")?;
    let busiest = uplinks
        .values()
        .filter_map(|uplink| {
            let p95_in = uplink.inward.percentile(P95)?;
            let p95_out = uplink.outward.percentile(P95)?;
            Some((p95_in.max(p95_out), p95_in, p95_out))
        })
        .max();
    let days = u64::try_from(to - from + 1).unwrap_or(1);
    let needed = (days * ACTIVE_DAYS_A_MONTH).div_ceil(31).max(1);
    let active = octets
        .values()
        .filter(|octets| **octets >= ACTIVE_OCTETS)
        .count() as u64;
    let known = covered
        .values()
        .filter(|span| **span >= DAY_COVERED_MS)
        .count() as u64;
    let is_active = if active >= needed {
        Some(true)
    } else {
        // Days that nobody saw could have made up what is missing.
        (active + days.saturating_sub(known) < needed).then_some(false)
    };
    Ok(busiest.map(|(_, p95_in, p95_out)| Traffic {
        p95_in,
        p95_out,
        is_active,
    }))
}
