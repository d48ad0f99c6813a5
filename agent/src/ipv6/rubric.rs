//! The rubric: every check of IPv6 readiness with its points, gate, caps and texts, read from `rubric.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;

/// Number of checks.
pub const ROWS: usize = 39;

/// The rubric of this build.
static RUBRIC: LazyLock<Rubric> =
    LazyLock::new(|| toml::from_str(include_str!("rubric.toml")).expect("a test parses it"));

/// The rubric of this build.
pub fn rubric() -> &'static Rubric {
    &RUBRIC
}

/// All of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rubric {
    /// Share of the applicable points that must have been tested for a score to count.
    pub sufficient_percent: u32,
    /// Runs in a row with a higher level before the level rises.
    pub rise_runs: u32,
    /// Runs in a row with a lower level before the level falls.
    pub fall_runs: u32,
    /// What levels ask for beyond their gates among the checks.
    pub level: BTreeMap<Level, Beyond>,
    /// Symptoms that hold score and level down.
    #[serde(rename = "cap")]
    pub caps: Vec<Cap>,
    /// The checks; the place is the row.
    #[serde(rename = "check")]
    pub checks: Vec<Check>,
}

/// What a level asks for beyond the checks.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Beyond {
    /// Least score.
    pub score: Option<u32>,
    /// Least availability of IPv6 over 30 days, percent.
    pub availability_percent: Option<f64>,
    /// No critical security alert about IPv6 may be open.
    pub no_critical_alerts: bool,
    /// Least days in a row on which everything worked with IPv4 forbidden.
    pub v6_only_days: Option<u32>,
}

/// A symptom that holds score and level down.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// Key in data and labels.
    pub name: String,
    /// The check whose failure is the symptom.
    pub check: String,
    /// Its measured value must be at least this, too, in the unit of the check.
    pub value_at_least: Option<i64>,
    /// Highest score while the symptom lasts.
    pub score: u32,
    /// Highest level while the symptom lasts.
    pub level: Option<Level>,
    /// Chinese text.
    pub zh: String,
    /// English text.
    pub en: String,
}

/// One check.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Id of the requirement and label `rubric`: `V6-A1`.
    pub id: String,
    /// English title.
    pub en: String,
    /// Chinese title.
    pub zh: String,
    /// When it passes.
    pub rule: String,
    /// What a pass is worth.
    pub points: u32,
    /// The level that cannot be reached without a pass.
    pub gate: Option<Level>,
    /// What a machine needs to run it.
    pub privilege: Privilege,
    /// Unit of the measured value.
    pub unit: Unit,
    /// What the measured value says.
    pub value: String,
}

/// What a machine needs to run a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// An ordinary user.
    None,
    /// `CAP_NET_RAW`.
    Raw,
    /// Measured from outside.
    Server,
    /// The counters of the router.
    Snmp,
}

/// Unit of a measured value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A number of things.
    Count,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
    /// Bytes.
    Bytes,
    /// Percent, or percentage points.
    Percent,
}

/// How far an access point has come.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, serde::Serialize,
)]
pub enum Level {
    /// 无 IPv6: nothing beyond link-local.
    L0,
    /// 已配址: addressed.
    L1,
    /// 已连通: connected.
    L2,
    /// 双栈可用: dual stack works.
    L3,
    /// 双栈优质: dual stack is good.
    L4,
    /// 单栈就绪: ready without IPv4.
    L5,
}

impl Level {
    /// All of them, lowest first.
    pub const ALL: [Self; 6] = [Self::L0, Self::L1, Self::L2, Self::L3, Self::L4, Self::L5];

    /// 0 to 5.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The level of a number from 0 to 5.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Chinese name.
    pub const fn zh(self) -> &'static str {
        match self {
            Self::L0 => "无 IPv6",
            Self::L1 => "已配址",
            Self::L2 => "已连通",
            Self::L3 => "双栈可用",
            Self::L4 => "双栈优质",
            Self::L5 => "单栈就绪",
        }
    }

    /// English name.
    pub const fn en(self) -> &'static str {
        match self {
            Self::L0 => "none",
            Self::L1 => "addressed",
            Self::L2 => "connected",
            Self::L3 => "dual stack works",
            Self::L4 => "dual stack good",
            Self::L5 => "IPv6-only ready",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.number())
    }
}

impl Rubric {
    /// Row of a check by its id.
    pub fn row(&self, id: &str) -> Option<usize> {
        self.checks.iter().position(|check| check.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rubric_is_that_of_the_requirements() {
        let rubric = rubric();
        assert_eq!(rubric.checks.len(), ROWS);
        let mut groups: BTreeMap<char, (u32, u32)> = BTreeMap::new();
        for check in &rubric.checks {
            let mut letters = check.id.trim_start_matches("V6-").chars();
            let sum = groups.entry(letters.next().unwrap()).or_default();
            *sum = (sum.0 + 1, sum.1 + check.points);
            assert_eq!(
                letters.as_str(),
                sum.0.to_string(),
                "{} is in order",
                check.id
            );
        }
        let sums: Vec<(char, u32)> = groups.iter().map(|(group, sum)| (*group, sum.1)).collect();
        let wanted = [
            ('A', 15),
            ('B', 10),
            ('C', 20),
            ('D', 15),
            ('E', 15),
            ('F', 10),
            ('G', 10),
            ('H', 5),
        ];
        assert_eq!(sums, wanted);
    }

    #[test]
    fn the_gates_are_those_of_the_levels() {
        let gates = |level| -> Vec<&str> {
            let of_level = |check: &&Check| check.gate == Some(level);
            let checks = rubric().checks.iter().filter(of_level);
            checks
                .map(|check| check.id.trim_start_matches("V6-"))
                .collect()
        };
        assert_eq!(gates(Level::L0), [""; 0]);
        assert_eq!(gates(Level::L1), ["A1", "A3"]);
        assert_eq!(gates(Level::L2), ["B1", "C1", "C2"]);
        assert_eq!(gates(Level::L3), ["D1", "D3", "E1", "E3", "F1", "F2"]);
        assert_eq!(gates(Level::L4), ["G1", "G2"]);
        assert_eq!(gates(Level::L5), ["D4"]);
    }

    #[test]
    fn caps_name_checks_that_exist() {
        for cap in &rubric().caps {
            assert!(rubric().row(&cap.check).is_some(), "{}", cap.name);
        }
        for level in Level::ALL {
            assert_eq!(Level::from_number(level.number()), Some(level));
        }
        assert_eq!(Level::from_number(6), None);
    }
}
