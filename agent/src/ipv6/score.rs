//! From the verdicts of one run to score, caps and level. Pure: the same verdicts and the same [`Context`] give the
//! same [`Score`], on the terminal and at the collector.
//!
//! Rules (requirements V6-S1 to V6-S3), in the order of the code:
//! 1. score = 100 x points passed / points applicable and tested; it counts only when at least 80 % of the applicable
//!    points were tested, and is provisional otherwise;
//! 2. a symptom holds score and level down to its cap, however good the sum is;
//! 3. a level is reached when all its gates and those of every lower level hold. A gate that was not tested does not
//!    hold, but it does not fail either: [`Score::level`] is what is proven, [`Score::possible`] what nothing contradicts.

use super::rubric::{Beyond, Level, ROWS, Rubric};

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The rule holds.
    Pass,
    /// The rule does not hold.
    Fail,
    /// There is nothing here that the rule could speak about.
    NotApplicable,
    /// Nobody looked.
    NotTested,
}

impl Verdict {
    /// Number on the wire and in metrics.
    pub const fn number(self) -> u8 {
        match self {
            Self::Fail => 0,
            Self::Pass => 1,
            Self::NotApplicable => 2,
            Self::NotTested => 3,
        }
    }

    /// The verdict of a number on the wire; what is unknown was not tested by anybody we understand.
    pub const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Fail,
            1 => Self::Pass,
            2 => Self::NotApplicable,
            _ => Self::NotTested,
        }
    }

    /// Label form.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotApplicable => "not_applicable",
            Self::NotTested => "not_tested",
        }
    }
}

/// Verdict and measured value of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// How it ended.
    pub verdict: Verdict,
    /// What was measured, in thousandths of the unit that the rubric names; not every end has a value.
    pub value: Option<i64>,
}

impl Finding {
    /// Nobody looked.
    pub const NOT_TESTED: Self = Self {
        verdict: Verdict::NotTested,
        value: None,
    };
}

/// One run: a finding for each row of the rubric.
pub type Findings = [Finding; ROWS];

/// What levels need to know beyond the checks; `None` = not known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Context {
    /// Availability of IPv6 over the last 30 days, percent.
    pub availability_percent: Option<f64>,
    /// Open critical security alerts about IPv6.
    pub critical_alerts: Option<u32>,
    /// Days in a row on which every mandatory function worked with IPv4 forbidden.
    pub v6_only_days: Option<u32>,
}

/// What one run says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// Points of the checks that passed.
    pub passed: u32,
    /// Points of the checks that passed or failed.
    pub tested: u32,
    /// Points of all checks that apply here.
    pub applicable: u32,
    /// Whether enough was tested for the score to count.
    pub sufficient: bool,
    /// The score after caps in hundredths, rounded down; `None` when nothing was tested. Provisional unless
    /// [`Self::sufficient`].
    pub hundredths: Option<u32>,
    /// Names of the caps that apply, those that change nothing too.
    pub caps: Vec<String>,
    /// The level that is proven.
    pub level: Level,
    /// The level that nothing contradicts.
    pub possible: Level,
    /// What stands between [`Self::level`] and the next one.
    pub held_back_by: Vec<Gate>,
}

impl Score {
    /// The score where it counts, in hundredths.
    pub fn counting(&self) -> Option<u32> {
        self.hundredths.filter(|_| self.sufficient)
    }
}

/// A condition of a level that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Id of the check, name of the cap, or `score`, `availability`, `critical_alerts`, `v6_only`.
    pub name: String,
    /// True = it fails; false = nobody looked.
    pub failed: bool,
}

/// State of a gate: holds, fails, or was not looked at (`None`).
type Holds = Option<bool>;

/// Judges one run.
pub fn score(rubric: &Rubric, findings: &Findings, context: &Context) -> Score {
    // 1. The sum.
    let points = |wanted: &[Verdict]| -> u32 {
        let rows = rubric.checks.iter().zip(findings);
        rows.filter(|(_, finding)| wanted.contains(&finding.verdict))
            .map(|(check, _)| check.points)
            .sum()
    };
    let passed = points(&[Verdict::Pass]);
    let tested = points(&[Verdict::Pass, Verdict::Fail]);
    let applicable = points(&[Verdict::Pass, Verdict::Fail, Verdict::NotTested]);
    let sufficient = tested > 0 && tested * 100 >= applicable * rubric.sufficient_percent;

    // 2. The caps.
    let symptom = |cap: &&super::rubric::Cap| {
        let finding = rubric.row(&cap.check).and_then(|row| findings.get(row));
        finding.is_some_and(|finding| {
            finding.verdict == Verdict::Fail
                && cap
                    .value_at_least
                    .is_none_or(|least| finding.value.is_some_and(|value| value >= least * 1_000))
        })
    };
    let caps: Vec<_> = rubric.caps.iter().filter(symptom).collect();
    let highest = caps.iter().map(|cap| cap.score).min().unwrap_or(100);
    let hundredths = (passed * 10_000)
        .checked_div(tested)
        .map(|sum| sum.min(highest * 100));

    // 3. The levels.
    let gates = |level: Level| -> Vec<(String, Holds)> {
        let mut gates: Vec<(String, Holds)> = rubric
            .checks
            .iter()
            .zip(findings)
            .filter(|(check, _)| check.gate == Some(level))
            .map(|(check, finding)| {
                let holds = match finding.verdict {
                    Verdict::Pass | Verdict::NotApplicable => Some(true),
                    Verdict::Fail => Some(false),
                    Verdict::NotTested => None,
                };
                (check.id.clone(), holds)
            })
            .collect();
        if let Some(beyond) = rubric.level.get(&level) {
            beyond_checks(
                beyond,
                hundredths.filter(|_| sufficient),
                context,
                &mut gates,
            );
        }
        for cap in &caps {
            if cap.level.is_some_and(|highest| level > highest) {
                gates.push((cap.name.clone(), Some(false)));
            }
        }
        gates
    };
    let reached = |holds: fn(Holds) -> bool| {
        let above = Level::ALL.into_iter().skip(1);
        above
            .take_while(|level| gates(*level).into_iter().all(|(_, gate)| holds(gate)))
            .last()
            .unwrap_or(Level::L0)
    };
    let level = reached(|gate| gate == Some(true));
    let next = Level::from_number(level.number() + 1);
    Score {
        passed,
        tested,
        applicable,
        sufficient,
        hundredths,
        caps: caps.iter().map(|cap| cap.name.clone()).collect(),
        level,
        possible: reached(|gate| gate != Some(false)),
        held_back_by: next
            .map(gates)
            .unwrap_or_default()
            .into_iter()
            .filter(|(_, holds)| *holds != Some(true))
            .map(|(name, holds)| Gate {
                name,
                failed: holds == Some(false),
            })
            .collect(),
    }
}

fn beyond_checks(
    beyond: &Beyond,
    counting: Option<u32>,
    context: &Context,
    gates: &mut Vec<(String, Holds)>,
) {
    if let Some(least) = beyond.score {
        let holds = counting.map(|hundredths| hundredths >= least * 100);
        gates.push(("score".to_owned(), holds));
    }
    if let Some(least) = beyond.availability_percent {
        let holds = context.availability_percent.map(|share| share >= least);
        gates.push(("availability".to_owned(), holds));
    }
    if beyond.no_critical_alerts {
        let holds = context.critical_alerts.map(|open| open == 0);
        gates.push(("critical_alerts".to_owned(), holds));
    }
    if let Some(least) = beyond.v6_only_days {
        let holds = context.v6_only_days.map(|days| days >= least);
        gates.push(("v6_only".to_owned(), holds));
    }
}

#[cfg(test)]
mod tests;
