//! The golden vectors (V6-S6), and what holds for every vector.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::ipv6::rubric::rubric;

#[derive(Deserialize)]
struct File {
    vector: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    only: Option<Vec<String>>,
    #[serde(default)]
    fail: Vec<String>,
    #[serde(default)]
    not_applicable: Vec<String>,
    #[serde(default)]
    not_tested: Vec<String>,
    #[serde(default)]
    values: BTreeMap<String, i64>,
    #[serde(default)]
    context: Known,
    points: [u32; 3],
    score: Option<u32>,
    sufficient: bool,
    #[serde(default)]
    caps: Vec<String>,
    level: Level,
    possible: Level,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Known {
    availability_percent: Option<f64>,
    critical_alerts: Option<u32>,
    v6_only_days: Option<u32>,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../testdata/ipv6/vectors.toml");
    toml::from_str::<File>(text).unwrap().vector
}

impl Vector {
    fn findings(&self) -> Findings {
        let mut findings = [Finding::NOT_TESTED; ROWS];
        for (check, finding) in rubric().checks.iter().zip(&mut findings) {
            let listed = |list: &[String]| list.contains(&check.id);
            finding.verdict = if listed(&self.fail) {
                Verdict::Fail
            } else if listed(&self.not_applicable) {
                Verdict::NotApplicable
            } else if listed(&self.not_tested) {
                Verdict::NotTested
            } else if self.only.as_ref().is_none_or(|only| listed(only)) {
                Verdict::Pass
            } else {
                Verdict::NotTested
            };
            finding.value = self.values.get(&check.id).map(|value| value * 1_000);
        }
        findings
    }
}

#[test]
fn every_golden_vector_scores_as_expected() {
    let vectors = vectors();
    assert!(
        vectors.len() >= 40,
        "V6-S6 asks for 40, there are {}",
        vectors.len()
    );
    for vector in &vectors {
        let context = Context {
            availability_percent: vector.context.availability_percent,
            critical_alerts: vector.context.critical_alerts,
            v6_only_days: vector.context.v6_only_days,
        };
        let scored = score(rubric(), &vector.findings(), &context);
        let name = &vector.name;
        assert_eq!(
            [scored.passed, scored.tested, scored.applicable],
            vector.points,
            "{name}"
        );
        assert_eq!(scored.hundredths, vector.score, "{name}");
        assert_eq!(scored.sufficient, vector.sufficient, "{name}");
        assert_eq!(scored.caps, vector.caps, "{name}");
        assert_eq!(scored.level, vector.level, "{name}");
        assert_eq!(scored.possible, vector.possible, "{name}");
    }
}

#[test]
fn each_single_gate_failure_is_among_the_vectors() {
    let alone: BTreeSet<String> = vectors()
        .into_iter()
        .filter(|vector| vector.only.is_none() && vector.fail.len() == 1)
        .flat_map(|vector| vector.fail)
        .collect();
    for check in rubric().checks.iter().filter(|check| check.gate.is_some()) {
        assert!(alone.contains(&check.id), "{}", check.id);
    }
}

#[test]
fn what_holds_a_site_back_is_named() {
    let mut findings = [Finding {
        verdict: Verdict::Pass,
        value: None,
    }; ROWS];
    findings[rubric().row("V6-D3").unwrap()].verdict = Verdict::Fail;
    findings[rubric().row("V6-F2").unwrap()].verdict = Verdict::NotTested;
    let scored = score(rubric(), &findings, &Context::default());
    assert_eq!(scored.level, Level::L2);
    let gate = |name: &str, failed| Gate {
        name: name.to_owned(),
        failed,
    };
    assert_eq!(
        scored.held_back_by,
        [gate("V6-D3", true), gate("V6-F2", false)]
    );
}

fn any_findings() -> impl Strategy<Value = Findings> {
    let finding =
        (0_u64..4, proptest::option::of(-1_i64..20_000_000)).prop_map(|(number, value)| Finding {
            verdict: Verdict::from_number(number),
            value,
        });
    proptest::collection::vec(finding, ROWS).prop_map(|all| all.try_into().unwrap())
}

proptest! {
    #[test]
    fn the_possible_level_is_never_below_the_proven_one(findings in any_findings()) {
        let scored = score(rubric(), &findings, &Context::default());
        prop_assert!(scored.level <= scored.possible);
        prop_assert!(scored.hundredths.unwrap_or(0) <= 10_000);
        prop_assert!(scored.passed <= scored.tested && scored.tested <= scored.applicable);
    }

    /// Silence never improves a figure: a check that is no longer looked at cannot raise the proven level.
    #[test]
    fn not_looking_never_raises_the_proven_level(findings in any_findings(), row in 0..ROWS) {
        // Caps go with what is no longer seen; they are the one exception, and B3 is the only one that holds a level.
        prop_assume!(rubric().checks[row].id != "V6-B3");
        // With nothing known beyond the checks no level is above L3, so no score decides.
        let before = score(rubric(), &findings, &Context::default()).level;
        let mut blind = findings;
        blind[row] = Finding::NOT_TESTED;
        prop_assert!(score(rubric(), &blind, &Context::default()).level <= before);
    }
}
