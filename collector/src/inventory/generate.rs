//! A realistic inventory of exactly 6,918 access points, made from the table of divisions: for tests at full size, for
//! demonstrations, for the simulator. Nothing in it is claimed to be real but names and codes of divisions.
//!
//! Constraints
//! 1. The same profile, shares and seed give the same bytes, on every machine: no clock, no hash order, no float sums.
//! 2. Totals per level are exact (requirements 7.4); villages are sampled per county by largest remainder.
//! 3. Addresses come from documentation and benchmark space (RFC 3849, RFC 2544); every prefix lies in those of the
//!    divisions around it and meets no other. This is proved each time, not assumed.

mod addresses;
mod files;
mod sample;

use std::collections::{BTreeMap, HashSet};

use extranet_proto::wire;

use self::addresses::{AddressError, AddressPlan, SiteKey};
use self::sample::{Draw, apportion};
use super::{CENTRE_AP, LEVELS};
use crate::divisions::{Division, Divisions, Kind};

pub use self::files::{FILES, write};

/// Villages of the operator's register (SRC-12).
pub const REGISTER: usize = 5_259;
/// Villages with a rural information service station (SRC-12).
pub const STATIONS: usize = 3_000;
/// Access points may lie this far from the seat of their county, metres.
const OFFSET_METRES: i32 = 25_000;

/// How access points are spread over the levels; both hold 6,918.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// 2022 as reported: 4,798 units on four levels and 2,120 villages
    #[value(name = "A")]
    A,
    /// Five levels complete: every village of the register once
    #[value(name = "B")]
    B,
}

impl Profile {
    /// Access points per level: what REP-21 expects of a report.
    pub const fn totals(self) -> [usize; 5] {
        match self {
            Self::A => [113, 432, 3_552, 701, 2_120],
            Self::B => [92, 147, 719, 701, 5_259],
        }
    }
}

/// Percentages of fibre, mobile and satellite; each three add up to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaShares {
    /// Of townships.
    pub township: [u32; 3],
    /// Of villages.
    pub village: [u32; 3],
}

impl Default for MediaShares {
    fn default() -> Self {
        Self {
            township: [97, 2, 1],
            village: [80, 15, 5],
        }
    }
}

/// What makes one inventory differ from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Which totals.
    pub profile: Profile,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Media below the county.
    pub media: MediaShares,
}

/// Why no inventory can be made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Shares that do not add up.
    #[error("the media of the {level} add up to {sum} %, not to 100 %")]
    Shares {
        /// township or village
        level: &'static str,
        /// What they add up to.
        sum: u32,
    },
    /// The addresses.
    #[error(transparent)]
    Addresses(#[from] AddressError),
    /// The table of divisions does not carry the profile.
    #[error("{found} access points of level {level} came out, {expected} were meant")]
    Total {
        /// Which level.
        level: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Rows in the order of division codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// 6,918.
    pub access_points: Vec<wire::AccessPointRow>,
    /// One router each; the centre has the anchors instead.
    pub targets: Vec<wire::TargetRow>,
    /// The register: 5,259, of which 3,000 have a station.
    pub villages: Vec<wire::VillageRow>,
}

/// Makes an inventory.
pub fn generate(wish: &Wish) -> Result<Generated, GenerateError> {
    for (level, shares) in [
        ("townships", wish.media.township),
        ("villages", wish.media.village),
    ] {
        let sum = shares.iter().sum();
        if sum != 100 {
            return Err(GenerateError::Shares { level, sum });
        }
    }
    let divisions = Divisions::built_in();
    let register = register(divisions, wish.seed);
    let sites = sites(divisions, &register, wish);
    check_totals(&sites, wish.profile)?;
    let plan = AddressPlan::new(sites.iter().map(|site| site.key))?;
    let media = media(&sites, wish);
    let mut access_points = Vec::with_capacity(sites.len());
    let mut targets = Vec::with_capacity(sites.len() + 1);
    for (site, medium) in sites.iter().zip(media) {
        let row = access_point(divisions, &plan, site, medium, wish.seed)?;
        targets.extend(plan.targets(&row.ap_id, site.key)?);
        access_points.push(row);
    }
    plan.prove(&access_points)?;
    Ok(Generated {
        access_points,
        targets,
        villages: villages(&register, wish.seed),
    })
}

/// A place of an access point before it has an address.
struct Site<'a> {
    ap_id: String,
    parent: String,
    division: &'a Division,
    /// Which one of its division, from 1.
    number: usize,
    key: SiteKey,
}

/// 44 of the 5,303 villagers' committees are left out, from each county in proportion.
fn register(divisions: &Divisions, seed: u64) -> BTreeMap<&str, Vec<&Division>> {
    let mut counties: BTreeMap<&str, Vec<&Division>> = BTreeMap::new();
    for village in divisions.of_rank(4) {
        if village.kind == Kind::VillagersCommittee
            && let Some(county) = divisions.at_rank(village, 2)
        {
            counties.entry(&county.code).or_default().push(village);
        }
    }
    let sizes: Vec<usize> = counties.values().map(Vec::len).collect();
    let drops = apportion(sizes.iter().sum::<usize>() - REGISTER, &sizes);
    for ((county, villages), drop) in counties.iter_mut().zip(drops) {
        Draw::new(seed, "register", county).keep(villages, villages.len() - drop);
    }
    counties
}

fn villages(register: &BTreeMap<&str, Vec<&Division>>, seed: u64) -> Vec<wire::VillageRow> {
    let sizes: Vec<usize> = register.values().map(Vec::len).collect();
    let quotas = apportion(STATIONS, &sizes);
    let mut stations: HashSet<&str> = HashSet::new();
    for ((county, villages), quota) in register.iter().zip(quotas) {
        let mut chosen = villages.clone();
        Draw::new(seed, "stations", county).keep(&mut chosen, quota);
        stations.extend(chosen.iter().map(|village| village.code.as_str()));
    }
    let all = register.values().flatten();
    all.map(|village| wire::VillageRow {
        code: village.code.clone(),
        name: village.name_zh.clone(),
        rural_station: stations.contains(village.code.as_str()),
    })
    .collect()
}

/// How many access points a division of region, prefecture or county has.
fn own_sites(
    divisions: &Divisions,
    register: &BTreeMap<&str, Vec<&Division>>,
    profile: Profile,
) -> BTreeMap<String, usize> {
    let mut own = BTreeMap::new();
    // Profile B: 719 = 74 * 9 + 53, the 53 in the counties with the most villages.
    let mut by_size: Vec<&Division> = divisions.of_rank(2).collect();
    by_size.sort_by_key(|county| {
        let villages = register.get(county.code.as_str()).map_or(0, Vec::len);
        (std::cmp::Reverse(villages), &county.code)
    });
    for (place, county) in by_size.into_iter().enumerate() {
        let number = match profile {
            Profile::A => 48,
            Profile::B => 9 + usize::from(place < 53),
        };
        own.insert(county.code.clone(), number);
    }
    for (place, prefecture) in divisions.of_rank(1).enumerate() {
        let number = match profile {
            Profile::A if place == 0 => 66,
            Profile::A => 61,
            Profile::B => 21,
        };
        own.insert(prefecture.code.clone(), number);
    }
    for region in divisions.of_rank(0) {
        own.insert(region.code.clone(), profile.totals()[0]);
    }
    own
}

fn sites<'a>(
    divisions: &'a Divisions,
    register: &BTreeMap<&str, Vec<&'a Division>>,
    wish: &Wish,
) -> Vec<Site<'a>> {
    let own = own_sites(divisions, register, wish.profile);
    let sampled = sampled_villages(divisions, register, wish);
    let mut sites: Vec<Site<'a>> = Vec::new();
    // Position of a division among its siblings: the fields of its addresses.
    let mut fields = [0_u8; 4];
    for division in divisions.iter_tree() {
        if division.rank < 4 {
            if division.rank > 0 {
                fields[division.rank] += 1;
            }
            fields[division.rank + 1..].fill(0);
        } else if !sampled.contains(division.code.as_str()) {
            continue;
        }
        let numbers = match division.rank {
            0..=2 => own.get(&division.code).copied().unwrap_or_default(),
            _ => 1,
        };
        for number in 1..=numbers {
            let [_, prefecture, county, township] = fields;
            // A township's own access point is its first site, villages follow.
            let site = sites.last().map(|site: &Site<'_>| site.key).filter(|last| {
                (last.prefecture, last.county, last.township) == (prefecture, county, township)
            });
            let key = SiteKey {
                prefecture,
                county,
                township,
                site: site.map_or(1, |last| last.site + 1),
            };
            sites.push(Site {
                ap_id: ap_id(division, number),
                parent: parent(divisions, division, number),
                division,
                number,
                key,
            });
        }
    }
    sites
}

fn sampled_villages<'a>(
    divisions: &'a Divisions,
    register: &BTreeMap<&str, Vec<&'a Division>>,
    wish: &Wish,
) -> HashSet<&'a str> {
    let mut sampled = HashSet::new();
    let committees: Vec<usize> = register
        .keys()
        .map(|county| {
            let in_county = |village: &&Division| {
                village.kind == Kind::VillagersCommittee && village.code.starts_with(county)
            };
            divisions.of_rank(4).filter(in_county).count()
        })
        .collect();
    let quotas = match wish.profile {
        Profile::A => apportion(wish.profile.totals()[4], &committees),
        Profile::B => register.values().map(Vec::len).collect(),
    };
    for ((county, villages), quota) in register.iter().zip(quotas) {
        let mut chosen = villages.clone();
        Draw::new(wish.seed, "villages", county).keep(&mut chosen, quota);
        sampled.extend(chosen.iter().map(|village| village.code.as_str()));
    }
    sampled
}

fn check_totals(sites: &[Site<'_>], profile: Profile) -> Result<(), GenerateError> {
    for ((rank, level), expected) in LEVELS.iter().enumerate().zip(profile.totals()) {
        let found = sites
            .iter()
            .filter(|site| site.division.rank == rank)
            .count();
        if found != expected {
            return Err(GenerateError::Total {
                level,
                found,
                expected,
            });
        }
    }
    Ok(())
}

fn ap_id(division: &Division, number: usize) -> String {
    match (division.rank, number) {
        (0, 1) => CENTRE_AP.to_owned(),
        (0, _) => format!("r-{}-{number:03}", division.code),
        (1, _) => format!("p-{}-{number:03}", division.code),
        (2, _) => format!("c-{}-{number:03}", division.code),
        (3, _) => format!("t-{}", division.code),
        _ => format!("v-{}", division.code),
    }
}

/// The first access point of a division is its node; the others hang below it, and it below the node of the division
/// above.
fn parent(divisions: &Divisions, division: &Division, number: usize) -> String {
    if number > 1 {
        return ap_id(division, 1);
    }
    let above = divisions.get(&division.parent);
    above.map_or_else(String::new, |above| ap_id(above, 1))
}

/// One medium per site: exact shares per level, drawn.
fn media(sites: &[Site<'_>], wish: &Wish) -> Vec<&'static str> {
    let words = ["fibre", "mobile", "satellite"];
    let mut media = vec![words[0]; sites.len()];
    for (rank, shares) in [(3, wish.media.township), (4, wish.media.village)] {
        let mut places: Vec<usize> = (0..sites.len())
            .filter(|place| sites[*place].division.rank == rank)
            .collect();
        let shares = shares.map(|share| share as usize);
        let quotas = apportion(places.len(), &shares);
        Draw::new(wish.seed, "media", LEVELS[rank]).shuffle(&mut places);
        let mut places = places.into_iter();
        for (word, quota) in words.into_iter().zip(quotas) {
            for place in places.by_ref().take(quota) {
                media[place] = word;
            }
        }
    }
    media
}

fn access_point(
    divisions: &Divisions,
    plan: &AddressPlan,
    site: &Site<'_>,
    medium: &'static str,
    seed: u64,
) -> Result<wire::AccessPointRow, GenerateError> {
    let division = site.division;
    let mut draw = Draw::new(seed, "site", &site.ap_id);
    let seat = divisions
        .path(division)
        .find_map(|at| at.seat)
        .unwrap_or_default();
    let (lon_e6, lat_e6) = draw.near(seat, OFFSET_METRES);
    let (department, zone) = match division.rank {
        3 => (government(division), "public"),
        4 => (division.name_zh.clone(), "public"),
        rank => {
            let word = ["区直", "市直", "县直"]
                .get(rank)
                .copied()
                .unwrap_or_default();
            // Mostly the common zone; some departments have a network of their own in it.
            let zone = if draw.percent(15) {
                "private"
            } else {
                "public"
            };
            (department(word, rank, site.number), zone)
        }
    };
    let isp = match medium {
        "satellite" => "中国卫通",
        _ => ["中国电信", "中国移动", "中国联通"][draw.below(3)],
    };
    let dual = match division.rank {
        0 | 1 => 100,
        2 => 60,
        3 => 20,
        _ => 0,
    };
    let names: Vec<&str> = divisions
        .path(division)
        .filter(|at| at.rank > 0 || division.rank == 0)
        .map(|at| at.name_zh.as_str())
        .collect();
    let place: String = names.into_iter().rev().collect();
    Ok(wire::AccessPointRow {
        ap_id: site.ap_id.clone(),
        name: match division.rank {
            0..=2 => format!("{place}{department}"),
            _ => place,
        },
        level: division.level().to_owned(),
        parent: site.parent.clone(),
        medium: medium.to_owned(),
        monitoring: "agent".to_owned(),
        division_code: division.code12(),
        department,
        zone: zone.to_owned(),
        network_kind: "extranet".to_owned(),
        uplinks: 1 + u32::from(draw.percent(dual)),
        isp: isp.to_owned(),
        contract_kbps: contract_kbps(division.rank, medium),
        lon_e6: Some(lon_e6),
        lat_e6: Some(lat_e6),
        coord_quality: "illustrative".to_owned(),
        ipv4_prefix: plan.ipv4(site.key)?.to_string(),
        ipv6_prefix: plan.ipv6(site.key).to_string(),
        border_county: division.border,
        ..Default::default()
    })
}

/// The node of a division comes first; 91 departments follow (SRC-08), and then further places of theirs.
fn department(word: &str, rank: usize, number: usize) -> String {
    let departments = if rank == 0 { 91 } else { usize::MAX };
    match number.checked_sub(2) {
        None => format!("{word}核心节点"),
        Some(place) if place < departments => format!("{word}单位{:02}", place + 1),
        Some(place) => format!("{word}单位{:02}第2点位", place - departments + 1),
    }
}

fn government(township: &Division) -> String {
    match township.kind {
        Kind::Subdistrict => format!("{}办事处", township.name_zh),
        _ => format!("{}人民政府", township.name_zh),
    }
}

/// Plausible contracts: the bandwidth targets of SRC-30 hold except over satellite.
fn contract_kbps(rank: usize, medium: &str) -> u64 {
    match (rank, medium) {
        (0, _) => 1_000_000,
        (1, _) => 500_000,
        (2, _) => 200_000,
        (3, "fibre") => 100_000,
        (_, "fibre") => 50_000,
        (_, "mobile") => 12_000,
        _ => 4_000,
    }
}

#[cfg(test)]
mod tests;
