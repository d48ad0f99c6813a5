//! The administrative divisions (行政区划) of the region: codes, names, who lies in whom.
//!
//! The table is data (`data/divisions-54.csv`, see the README beside it), compiled in and checked before it is used:
//! its numbers must be the official ones (requirement GEO-01), the kind of a village must agree with its code (GEO-04),
//! every division must lie in its parent. Names are not keys, codes are (GEO-02): 24 township names and 430 village
//! names occur more than once.
//!
//! A code may be written with any number of trailing zeros: 5401, 540100 and 540100000000 are the same prefecture.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::OnceLock;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use crate::inventory::LEVELS;

const TABLE: &[u8] = include_bytes!("../data/divisions-54.csv");
const ALIASES: &[u8] = include_bytes!("../data/division-aliases.csv");

/// What the table must hold once parks and virtual communities are left out: one number per level (GEO-01).
pub const EXPECTED: [usize; 5] = [1, 7, 74, 701, 5_576];
/// Villagers' and residents' committees among the villages.
const EXPECTED_COMMITTEES: [usize; 2] = [5_303, 273];
/// Border counties (SRC-18).
const EXPECTED_BORDER: usize = 21;

/// One division.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Division {
    /// 6, 9 or 12 digits.
    pub code: String,
    /// 中文名称
    pub name_zh: String,
    /// Romanised name; empty below the county.
    pub name_en: String,
    /// Place in [`LEVELS`].
    pub rank: usize,
    /// Code of the division above; empty for the region.
    pub parent: String,
    /// Kind of a township or village.
    pub kind: Kind,
    /// Seat: longitude and latitude, degrees times 10^6. Illustrative.
    pub seat: Option<(i32, i32)>,
    /// Whether it is, or lies in, a border county.
    pub border: bool,
}

impl Division {
    /// Word of its level.
    pub fn level(&self) -> &'static str {
        LEVELS.get(self.rank).copied().unwrap_or_default()
    }

    /// The code with 12 digits.
    pub fn code12(&self) -> String {
        format!("{:0<12}", self.code)
    }

    /// The romanised name where there is one and English is asked for.
    pub fn name(&self, english: bool) -> &str {
        if english && !self.name_en.is_empty() {
            &self.name_en
        } else {
            &self.name_zh
        }
    }
}

/// Kinds below the county.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Region, prefecture, county.
    #[serde(rename = "")]
    None,
    /// 街道
    Subdistrict,
    /// 镇
    Town,
    /// 乡
    Township,
    /// 村民委员会
    VillagersCommittee,
    /// 居民委员会
    ResidentsCommittee,
}

/// Why a table of divisions is refused.
#[derive(Debug, thiserror::Error)]
pub enum DivisionsError {
    /// Not the expected CSV.
    #[error("divisions: the file cannot be read")]
    Csv(#[from] csv::Error),
    /// One row is wrong.
    #[error("divisions: {code}: {problem}")]
    Row {
        /// The row.
        code: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The table is not complete, or holds what should have been left out.
    #[error("divisions: {found} {what}, expected {expected}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
}

/// A version of the table.
#[derive(Clone)]
pub struct Divisions {
    by_code: BTreeMap<String, Division>,
    /// Old code -> code of today; a four-digit prefix stands for a prefecture.
    aliases: BTreeMap<String, String>,
    sha256: String,
}

#[derive(Deserialize)]
struct Row {
    code: String,
    name_zh: String,
    name_en: String,
    // Tibetan names are for renderings to come.
    #[serde(rename = "name_bo")]
    _name_bo: String,
    level: String,
    parent_code: String,
    kind: Kind,
    lon: Option<f64>,
    lat: Option<f64>,
    border_county: u8,
}

#[derive(Deserialize)]
struct Alias {
    old_code: String,
    code: String,
}

impl Divisions {
    /// The table that this release ships.
    #[expect(clippy::missing_panics_doc, reason = "a test reads the same bytes")]
    pub fn built_in() -> &'static Self {
        static BUILT_IN: OnceLock<Divisions> = OnceLock::new();
        BUILT_IN.get_or_init(|| {
            Self::parse(TABLE, ALIASES).expect("the shipped table is checked by a test")
        })
    }

    /// Reads and checks a table and its aliases.
    pub fn parse(table: &[u8], aliases: &[u8]) -> Result<Self, DivisionsError> {
        let mut by_code = BTreeMap::new();
        for row in csv::Reader::from_reader(table).into_deserialize::<Row>() {
            let row = row?;
            if is_left_out(&row.code) {
                continue;
            }
            let code = row.code.clone();
            let wrong = |problem: String| DivisionsError::Row {
                code: code.clone(),
                problem,
            };
            let division = division(row).map_err(wrong)?;
            if by_code.insert(code.clone(), division).is_some() {
                return Err(wrong("stands twice in the table".to_owned()));
            }
        }
        let mut table_of_aliases = BTreeMap::new();
        for alias in csv::Reader::from_reader(aliases).into_deserialize::<Alias>() {
            let alias = alias?;
            table_of_aliases.insert(alias.old_code, alias.code);
        }
        let mut divisions = Self {
            by_code,
            aliases: table_of_aliases,
            sha256: hex(digest(&SHA256, table).as_ref()),
        };
        divisions.check_parents()?;
        divisions.check_counts()?;
        divisions.inherit_border();
        Ok(divisions)
    }

    fn check_parents(&self) -> Result<(), DivisionsError> {
        for division in self.by_code.values() {
            let wrong = |problem: &str| DivisionsError::Row {
                code: division.code.clone(),
                problem: problem.to_owned(),
            };
            if division.rank == 0 {
                continue;
            }
            let parent = self
                .by_code
                .get(&division.parent)
                .ok_or_else(|| wrong("its parent is not in the table"))?;
            if parent.rank + 1 != division.rank {
                return Err(wrong("its parent is not of the level above"));
            }
            if !division.code.starts_with(significant(parent)) {
                return Err(wrong("its code does not begin with that of its parent"));
            }
        }
        for (old, new) in &self.aliases {
            if self.get(new).is_none() || self.exact(old).is_some() {
                return Err(DivisionsError::Row {
                    code: old.clone(),
                    problem: "an alias must lead from an unknown code to a known one".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), DivisionsError> {
        let check = |what, found, expected| {
            if found == expected {
                Ok(())
            } else {
                Err(DivisionsError::Count {
                    what,
                    found,
                    expected,
                })
            }
        };
        let words = [
            "regions",
            "prefectures",
            "counties",
            "townships",
            "villages",
        ];
        for (rank, (what, expected)) in words.into_iter().zip(EXPECTED).enumerate() {
            check(what, self.of_rank(rank).count(), expected)?;
        }
        let kinds = [Kind::VillagersCommittee, Kind::ResidentsCommittee];
        let words = ["villagers' committees", "residents' committees"];
        for ((what, kind), expected) in words.into_iter().zip(kinds).zip(EXPECTED_COMMITTEES) {
            let found = self.of_rank(4).filter(|village| village.kind == kind);
            check(what, found.count(), expected)?;
        }
        let border = self.of_rank(2).filter(|county| county.border).count();
        check("border counties", border, EXPECTED_BORDER)
    }

    /// What lies in a border county is border too.
    fn inherit_border(&mut self) {
        let counties: Vec<String> = self
            .of_rank(2)
            .filter(|county| county.border)
            .map(|county| county.code.clone())
            .collect();
        for division in self.by_code.values_mut() {
            division.border |= counties
                .iter()
                .any(|county| division.code.starts_with(county));
        }
    }

    /// The division with a code as people write it: trailing zeros do not matter, old codes lead to those of today.
    pub fn get(&self, code: &str) -> Option<&Division> {
        self.exact(code).or_else(|| {
            let trimmed = code.trim_end_matches('0');
            let (old, new) = self
                .aliases
                .iter()
                .filter(|(old, _)| {
                    code.starts_with(old.as_str()) || trimmed == old.trim_end_matches('0')
                })
                .max_by_key(|(old, _)| old.len())?;
            let rest = code.get(old.len()..).unwrap_or_default();
            self.exact(&format!("{new}{rest}"))
        })
    }

    fn exact(&self, code: &str) -> Option<&Division> {
        if code.len() > 12 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // The region is 54, a prefecture has 4 significant digits, a county 6; names end where zeros begin. The longest
        // code that is all zeros behind is tried first, so that 540100 is not taken for a county.
        let padded = format!("{code:0<12}");
        let (head, tail) = padded.split_at_checked(6)?;
        let lengths: &[usize] = if tail == "000000" {
            &[6]
        } else if tail.ends_with("000") {
            &[9]
        } else {
            &[12]
        };
        if code.len() < 4 && head != "540000" {
            return None;
        }
        lengths
            .iter()
            .find_map(|length| self.by_code.get(padded.get(..*length)?))
    }

    /// All divisions in the order of their codes.
    pub fn iter(&self) -> impl Iterator<Item = &Division> {
        self.by_code.values()
    }

    /// All divisions, each before those in it, siblings in the order of their codes.
    pub fn iter_tree(&self) -> impl Iterator<Item = &Division> {
        let mut tree: Vec<&Division> = self.iter().collect();
        tree.sort_by_key(|division| (division.code12(), division.rank));
        tree.into_iter()
    }

    /// Divisions of one level in the order of their codes.
    pub fn of_rank(&self, rank: usize) -> impl Iterator<Item = &Division> {
        self.by_code
            .values()
            .filter(move |division| division.rank == rank)
    }

    /// The division itself and everything above it, up to the region.
    pub fn path<'a>(&'a self, division: &'a Division) -> impl Iterator<Item = &'a Division> {
        std::iter::successors(Some(division), |at| self.by_code.get(&at.parent))
    }

    /// The division of a level that `division` is or lies in.
    pub fn at_rank<'a>(&'a self, division: &'a Division, rank: usize) -> Option<&'a Division> {
        self.path(division).find(|at| at.rank == rank)
    }

    /// Whether `inner` is `outer` or lies in it: codes begin with those of the divisions around, which was checked.
    pub fn holds(&self, outer: &Division, inner: &Division) -> bool {
        inner.rank >= outer.rank && inner.code.starts_with(significant(outer))
    }

    /// SHA-256 of the table, hexadecimal: the version that percentages are computed against.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// Digits of a code that its children share.
fn significant(division: &Division) -> &str {
    let digits = match division.rank {
        0 => 2,
        1 => 4,
        _ => division.code.len(),
    };
    division.code.get(..digits).unwrap_or_default()
}

/// GEO-01: statistical parks have a 7 as the fifth digit, virtual communities end in 498.
fn is_left_out(code: &str) -> bool {
    let is_park = code.as_bytes().get(4) == Some(&b'7');
    is_park || code.len() == 12 && code.ends_with("498")
}

fn division(row: Row) -> Result<Division, String> {
    let rank = LEVELS
        .iter()
        .position(|level| *level == row.level)
        .ok_or_else(|| format!("unknown level '{}'", row.level))?;
    let digits = [6, 6, 6, 9, 12].get(rank).copied().unwrap_or_default();
    if row.code.len() != digits || !row.code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("a {} has a code of {digits} digits", row.level));
    }
    let kinds: &[Kind] = match rank {
        3 => &[Kind::Subdistrict, Kind::Town, Kind::Township],
        // GEO-04: the tenth digit says which.
        4 => match row.code.as_bytes().get(9) {
            Some(b'2') => &[Kind::VillagersCommittee],
            Some(b'0') => &[Kind::ResidentsCommittee],
            _ => return Err("the tenth digit of a village is 0 or 2".to_owned()),
        },
        _ => &[Kind::None],
    };
    if !kinds.contains(&row.kind) {
        return Err(format!("{:?} does not fit its level and code", row.kind));
    }
    if row.name_zh.is_empty() {
        return Err("has no name".to_owned());
    }
    let seat = row.lon.zip(row.lat);
    if rank <= 2 && seat.is_none() {
        return Err("has no seat".to_owned());
    }
    Ok(Division {
        code: row.code,
        name_zh: row.name_zh,
        name_en: row.name_en,
        rank,
        parent: row.parent_code,
        kind: row.kind,
        seat: seat.map(|(lon, lat)| (micro(lon), micro(lat))),
        border: row.border_county == 1,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "degrees times 10^6 fit, and the cast saturates"
)]
fn micro(degrees: f64) -> i32 {
    (degrees * 1e6).round() as i32
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing into a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> String {
        String::from_utf8(TABLE.to_vec()).unwrap()
    }

    fn refused(table: &str) -> String {
        Divisions::parse(table.as_bytes(), ALIASES)
            .err()
            .expect("must be refused")
            .to_string()
    }

    #[test]
    fn the_shipped_table_holds_the_official_numbers() {
        let divisions = Divisions::parse(TABLE, ALIASES).unwrap();
        let counts: Vec<usize> = (0..5).map(|rank| divisions.of_rank(rank).count()).collect();
        assert_eq!(counts, EXPECTED);
        assert_eq!(
            divisions.of_rank(2).filter(|county| county.border).count(),
            21
        );
    }

    #[test]
    fn parks_and_virtual_communities_are_left_out_before_counting() {
        let more = table()
            + "540171,格尔木藏青工业园区,x,,county,540100,,91.1,29.6,0\n\
               540102002498,虚拟社区,,,village,540102002,residents_committee,,,0\n";
        let divisions = Divisions::parse(more.as_bytes(), ALIASES).unwrap();
        assert!(divisions.get("540171").is_none());
        assert!(divisions.get("540102002498").is_none());
    }

    #[test]
    fn a_missing_or_doubled_division_is_refused() {
        let village = table()
            .lines()
            .find(|line| line.contains(",village,"))
            .unwrap()
            .to_owned();
        let without = table().replace(&format!("{village}\n"), "");
        assert!(
            refused(&without).contains("5575 villages, expected 5576"),
            "{}",
            refused(&without)
        );
        let twice = format!("{}{village}\n", table());
        assert!(refused(&twice).contains("stands twice"));
    }

    #[test]
    fn a_village_kind_that_contradicts_its_code_is_refused() {
        let line = table()
            .lines()
            .find(|line| line.contains("villagers_committee"))
            .unwrap()
            .to_owned();
        let wrong = table().replace(
            &line,
            &line.replace("villagers_committee", "residents_committee"),
        );
        assert!(refused(&wrong).contains("does not fit its level and code"));
        let code = line.split(',').next().unwrap();
        let ninth = format!("{}9{}", code.get(..9).unwrap(), code.get(10..).unwrap());
        let wrong = table().replace(&line, &line.replace(code, &ninth));
        assert!(refused(&wrong).contains("tenth digit"));
    }

    #[test]
    fn a_division_outside_its_parent_is_refused() {
        let line = table()
            .lines()
            .find(|line| line.starts_with("540121201,"))
            .unwrap()
            .to_owned();
        let wrong = table().replace(&line, &line.replace(",540121,", ",540122,"));
        assert!(refused(&wrong).contains("does not begin with that of its parent"));
    }

    #[test]
    fn codes_are_found_as_people_write_them() {
        let divisions = Divisions::built_in();
        let name = |code: &str| divisions.get(code).map(|found| found.name_zh.as_str());
        for code in ["5401", "540100", "540100000", "540100000000"] {
            assert_eq!(name(code), Some("拉萨市"), "{code}");
        }
        for code in ["54", "540000", "540000000000"] {
            assert_eq!(name(code), Some("西藏自治区"), "{code}");
        }
        assert_eq!(name("540121"), Some("林周县"));
        assert_eq!(name("540121201000"), Some("松盘乡"));
        assert_eq!(name("540121201201"), Some("松盘村委会"));
        // Old codes.
        assert_eq!(name("540126"), Some("达孜区"));
        assert_eq!(name("540126000000"), Some("达孜区"));
        assert_eq!(name("5421"), Some("昌都市"));
        assert_eq!(name("542100"), Some("昌都市"));
        for code in [
            "",
            "5",
            "5409",
            "110000",
            "540121999",
            "5401210000000",
            "54012x",
        ] {
            assert_eq!(name(code), None, "{code}");
        }
    }

    #[test]
    fn a_path_leads_up_to_the_region() {
        let divisions = Divisions::built_in();
        let village = divisions.get("540121201201").unwrap();
        let path: Vec<&str> = divisions.path(village).map(|at| at.code.as_str()).collect();
        assert_eq!(
            path,
            ["540121201201", "540121201", "540121", "540100", "540000"]
        );
        assert!(divisions.holds(divisions.get("5401").unwrap(), village));
        assert!(!divisions.holds(divisions.get("5402").unwrap(), village));
        let border = divisions.get("540229").unwrap();
        assert!(!border.border && divisions.get("540230").unwrap().border);
    }
}
