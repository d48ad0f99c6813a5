//! What the catalogue knows of each access point in a period. Read-only, in one read transaction: the service writes on
//! meanwhile.

use std::collections::HashMap;
use std::path::Path;

use extranet_proto::wire;
use rusqlite::{Connection, OptionalExtension, params};

use super::figures::{Outages, Slots};
use super::traffic::{self, Traffic};
use super::{Query, ReportError};
use crate::divisions::{Division, Divisions};
use crate::inventory::stored;
use crate::inventory::villages::{self, Register};
use crate::state::{Cause, Slot, State};
use crate::store::StoreError;
use crate::store::catalogue::{Doing, open_read_only};

/// Everything a report is made of.
#[derive(Debug)]
pub struct Facts {
    /// Length of a slot.
    pub slot_ms: i64,
    /// Until when slots were judged, at most to the end of the period, ms since 1970.
    pub judged_until_ms: i64,
    /// In the order of their codes and ids.
    pub sites: Vec<Site>,
    /// The operator's villages; empty when none were imported.
    pub register: Register,
}

/// One access point as it was at the end of the period.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its row of the inventory.
    pub row: wire::AccessPointRow,
    /// Where it stands.
    pub division: Option<&'static Division>,
    /// Slots of the period.
    pub slots: Slots,
    /// Interruptions in the period.
    pub outages: Outages,
    /// The cause of most down slots.
    pub main_cause: Cause,
    /// At the end.
    pub state: State,
    /// Open critical alerts at the end.
    pub open_critical: u64,
    /// Its first agent that is not revoked.
    pub agent: Option<Agent>,
    /// Readiness at the end.
    pub ipv6: Option<Ipv6>,
    /// What its uplinks carried; `None` = nobody looked.
    pub traffic: Option<Traffic>,
}

/// What an agent says about itself.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Empty when it has never connected.
    pub version: String,
    /// Privileges.
    pub tier: Option<u32>,
    /// Time of its newest result, ms since 1970, at most the end of the period: a report of a period that is over does
    /// not change from one minute to the next.
    pub last_seen_ms: Option<i64>,
}

/// IPv6 readiness.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6 {
    /// 0 to 5.
    pub level: u8,
    /// Hundredths of points, when enough was tested.
    pub score: Option<i64>,
    /// Since when the level holds, ms since 1970.
    pub since_ms: Option<i64>,
}

/// Reads the catalogue in a state folder.
pub fn read(state_dir: &Path, query: &Query) -> Result<Facts, ReportError> {
    let mut connection = open_read_only(&state_dir.join("catalogue.sqlite"))?;
    // Deferred: takes the snapshot with the first read and holds no lock that a writer waits for.
    let snapshot = connection.transaction().doing("beginning a snapshot")?;
    Ok(facts(&snapshot, query)?)
}

fn facts(connection: &Connection, query: &Query) -> Result<Facts, StoreError> {
    let (from_ms, to_ms) = query.period_ms();
    let progress: Option<(i64, Slot)> = connection
        .query_row(
            "SELECT slot_ms, judged_before FROM state_progress",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
        .doing("reading the progress of judging")?;
    let (slot_ms, judged_before) = progress.unwrap_or((60_000, 0));
    // Whole slots inside the period.
    let period = Period {
        from: -(-from_ms).div_euclid(slot_ms),
        end: to_ms.div_euclid(slot_ms).min(judged_before),
    };
    // What is valid at the last microsecond of the period.
    let at_us = to_ms * 1_000 - 1;
    let mut sites = sites(connection, query, at_us)?;
    let mut alerts = alerts(connection, to_ms)?;
    let mut agents = agents(connection, to_ms)?;
    for site in &mut sites {
        period.read(connection, site)?;
        let ap_id = site.row.ap_id.as_str();
        site.open_critical = alerts.remove(ap_id).unwrap_or_default();
        site.agent = agents.remove(ap_id);
        site.ipv6 = ipv6(connection, ap_id, to_ms)?;
        site.traffic = traffic::read(connection, ap_id, from_ms, to_ms)?;
    }
    let mut register = villages::at(connection, at_us)?;
    register.retain(|code, _| {
        let village = Divisions::built_in().get(code);
        village.is_some_and(|village| Divisions::built_in().holds(query.division, village))
    });
    Ok(Facts {
        slot_ms,
        judged_until_ms: period.end.max(period.from) * slot_ms,
        sites,
        register,
    })
}

/// The access points that the query means. Those without a division count for the whole region only.
fn sites(connection: &Connection, query: &Query, at_us: i64) -> Result<Vec<Site>, StoreError> {
    let divisions = Divisions::built_in();
    let mut statement = connection
        .prepare(&format!(
            "SELECT {} FROM access_points WHERE valid_from_us <= ?1 AND (valid_to_us IS NULL OR valid_to_us > ?1)",
            stored::ACCESS_POINT
        ))
        .doing("reading access points")?;
    let rows = statement
        .query_map([at_us], stored::access_point)
        .doing("reading access points")?;
    let mut sites = Vec::new();
    for row in rows {
        let row = row.doing("reading access points")?;
        let division = divisions.get(&row.division_code);
        let inside = match division {
            Some(division) => divisions.holds(query.division, division),
            None => query.division.rank == 0,
        };
        if inside && (query.levels.is_empty() || query.levels.contains(&row.level)) {
            sites.push(Site {
                row,
                division,
                slots: Slots::default(),
                outages: Outages::default(),
                main_cause: Cause::None,
                state: State::NotInService,
                open_critical: 0,
                agent: None,
                ipv6: None,
                traffic: None,
            });
        }
    }
    sites.sort_by(|a, b| {
        let key = |site: &Site| {
            let code = site.division.map(Division::code12).unwrap_or_default();
            (code, site.row.ap_id.clone())
        };
        key(a).cmp(&key(b))
    });
    Ok(sites)
}

/// Slots `from..end`.
struct Period {
    from: Slot,
    end: Slot,
}

impl Period {
    /// Counts the slots of one access point.
    fn read(&self, connection: &Connection, site: &mut Site) -> Result<(), StoreError> {
        if self.end <= self.from {
            return Ok(());
        }
        let intervals: Vec<(Slot, u8, u8)> = connection
            .prepare_cached(
                "SELECT from_inclusive, state, cause FROM state_intervals WHERE ap_id = ?1 AND from_inclusive < ?3 \
                 AND from_inclusive >= coalesce((SELECT max(from_inclusive) FROM state_intervals \
                 WHERE ap_id = ?1 AND from_inclusive <= ?2), ?2) ORDER BY from_inclusive",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(params![site.row.ap_id, self.from, self.end], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                    })?
                    .collect()
            })
            .doing("reading states")?;
        let mut causes: Vec<(Cause, u64)> = Vec::new();
        // An outage goes on while its cause changes.
        let mut outage = 0;
        for (place, (from, state, cause)) in intervals.iter().enumerate() {
            let next = intervals.get(place + 1).map_or(self.end, |next| next.0);
            let length = u64::try_from(next - (*from).max(self.from)).unwrap_or_default();
            site.state = State::from_number(*state).unwrap_or(State::Unknown);
            if site.state == State::Down {
                outage += length;
            } else if outage > 0 {
                site.outages.add(std::mem::take(&mut outage));
            }
            match site.state {
                State::Up => site.slots.up += length,
                State::Unknown => site.slots.unknown += length,
                State::NotInService => {}
                State::Down => {
                    site.slots.down += length;
                    let cause = Cause::from_number(*cause);
                    match causes.iter_mut().find(|(known, _)| *known == cause) {
                        Some((_, slots)) => *slots += length,
                        None => causes.push((cause, length)),
                    }
                }
            }
        }
        if outage > 0 {
            site.outages.add(outage);
        }
        // The first of those with the most slots.
        causes.sort_by_key(|(_, slots)| std::cmp::Reverse(*slots));
        site.main_cause = causes.first().map_or(Cause::None, |(cause, _)| *cause);
        Ok(())
    }
}

/// Critical alerts that were open at a time.
fn alerts(connection: &Connection, to_ms: i64) -> Result<HashMap<String, u64>, StoreError> {
    connection
        .prepare(
            "SELECT ap_id, count(*) FROM alerts WHERE severity = 'critical' AND starts_ms < ?1 \
             AND (ends_ms IS NULL OR ends_ms >= ?1) GROUP BY ap_id",
        )
        .and_then(|mut statement| {
            statement
                .query_map([to_ms], |row| {
                    Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
                })?
                .collect()
        })
        .doing("reading alerts")
}

/// The first agent of each access point.
fn agents(connection: &Connection, to_ms: i64) -> Result<HashMap<String, Agent>, StoreError> {
    let read = || -> Result<HashMap<String, Agent>, rusqlite::Error> {
        let mut statement = connection.prepare(
            "SELECT a.ap_id, a.last_result_ms, s.agent_version, s.privilege_tier FROM agents a \
             LEFT JOIN sessions s USING (agent_id) WHERE a.revoked_us IS NULL ORDER BY a.enrolled_us, a.agent_id",
        )?;
        let mut agents = HashMap::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let agent = Agent {
                last_seen_ms: row.get::<_, Option<i64>>(1)?.map(|ms| ms.min(to_ms)),
                version: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                tier: row.get(3)?,
            };
            agents.entry(row.get(0)?).or_insert(agent);
        }
        Ok(agents)
    };
    read().doing("reading agents")
}

fn ipv6(connection: &Connection, ap_id: &str, to_ms: i64) -> Result<Option<Ipv6>, StoreError> {
    let read = || -> Result<Option<Ipv6>, rusqlite::Error> {
        let known = connection
            .prepare_cached(
                "SELECT level, hundredths, sufficient FROM ipv6_known WHERE ap_id = ?1 AND wall_us < ?2 \
                 ORDER BY wall_us DESC LIMIT 1",
            )?
            .query_row(params![ap_id, to_ms * 1_000], |row| {
                let score: Option<i64> = row.get(1)?;
                let sufficient: bool = row.get(2)?;
                Ok((row.get(0)?, score.filter(|_| sufficient)))
            })
            .optional()?;
        let Some((level, score)) = known else {
            return Ok(None);
        };
        let since_ms = connection
            .prepare_cached(
                "SELECT coalesce((SELECT max(wall_ms) FROM ipv6_changes WHERE ap_id = ?1 AND wall_ms < ?2), \
                 (SELECT since_ms FROM ipv6_sites WHERE ap_id = ?1 AND since_ms < ?2))",
            )?
            .query_row(params![ap_id, to_ms], |row| row.get(0))?;
        Ok(Some(Ipv6 {
            level,
            score,
            since_ms,
        }))
    };
    read().doing("reading IPv6 readiness")
}
