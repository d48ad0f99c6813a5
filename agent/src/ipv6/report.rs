//! What a run found, row by row, with a word on each; as values of a result for the collector, and back.

use extranet_proto::metric::{Metric, ipv6_check, ipv6_check_value};
use extranet_proto::record::Value;

use super::rubric::{ROWS, rubric};
use super::score::{Finding, Findings, Verdict};
use crate::probe::own_value;

/// A run in the making, and when it is done. What nobody reports stays not tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    findings: Findings,
    notes: Vec<String>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            findings: [Finding::NOT_TESTED; ROWS],
            notes: vec![String::new(); ROWS],
        }
    }
}

impl Report {
    /// The findings, row by row.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// For each row what there is to say beyond verdict and value; may be empty.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Enters a check by its id. `thousandths` is the measured value.
    pub fn enter(
        &mut self,
        id: &str,
        verdict: Verdict,
        thousandths: Option<i64>,
        note: impl Into<String>,
    ) {
        let Some(row) = rubric().row(id) else {
            debug_assert!(false, "the rubric has no {id}");
            return;
        };
        if let (Some(finding), Some(place)) = (self.findings.get_mut(row), self.notes.get_mut(row))
        {
            *finding = Finding {
                verdict,
                value: thousandths,
            };
            *place = note.into();
        }
    }

    /// Enters a check that passes or fails.
    pub fn decide(&mut self, id: &str, passes: bool, thousandths: i64, note: impl Into<String>) {
        let verdict = if passes { Verdict::Pass } else { Verdict::Fail };
        self.enter(id, verdict, Some(thousandths), note);
    }

    /// Takes over what another report says of one check.
    pub fn take_over(&mut self, id: &str, other: &Self) {
        let found = rubric().row(id).and_then(|row| {
            let finding = other.findings.get(row)?;
            Some((finding, other.notes.get(row)?))
        });
        if let Some((finding, note)) = found {
            self.enter(id, finding.verdict, finding.value, note.as_str());
        }
    }

    /// Enters why a check was not tested.
    pub fn untested(&mut self, id: &str, why: impl Into<String>) {
        self.enter(id, Verdict::NotTested, None, why);
    }

    /// As values of a result, in the order of the metric numbers. What was not tested stays away: two thirds of the
    /// series of a village would say nothing.
    pub fn values(&self) -> Vec<Value> {
        let rows = || {
            let rows = rubric().checks.iter().zip(&self.findings);
            rows.filter(|(_, finding)| finding.verdict != Verdict::NotTested)
        };
        let verdicts = rows().filter_map(|(check, finding)| {
            let metric = ipv6_check(&check.id)?;
            Some(own_value(metric, finding.verdict.number().into()))
        });
        let measured = rows().filter_map(|(check, finding)| {
            let metric = ipv6_check_value(&check.id)?;
            Some(own_value(metric, finding.value?.cast_unsigned()))
        });
        verdicts.chain(measured).collect()
    }
}

/// The findings in the values of a result; `None` when they do not come from a run of the rubric. A row that is absent
/// was not tested.
pub fn findings_of(values: &[Value]) -> Option<Findings> {
    let find = |wanted: Option<Metric>| {
        let found = values.iter().find(|value| Some(value.metric) == wanted);
        found.map(|value| value.raw)
    };
    let mut findings = [Finding::NOT_TESTED; ROWS];
    let mut any = false;
    for (check, finding) in rubric().checks.iter().zip(&mut findings) {
        if let Some(verdict) = find(ipv6_check(&check.id)) {
            any = true;
            finding.verdict = Verdict::from_number(verdict);
            finding.value = find(ipv6_check_value(&check.id)).map(u64::cast_signed);
        }
    }
    any.then_some(findings)
}

#[cfg(test)]
mod tests {
    use extranet_proto::metric::{IPV6_RUBRIC, TCP_CONNECT};

    use super::*;

    #[test]
    fn the_rows_are_those_of_the_metrics() {
        let ids: Vec<&str> = rubric()
            .checks
            .iter()
            .map(|check| check.id.as_str())
            .collect();
        assert_eq!(ids, IPV6_RUBRIC);
    }

    #[test]
    fn a_report_comes_back_from_its_values() {
        let mut report = Report::default();
        report.decide("V6-A1", true, 2_000, "");
        report.decide("V6-G1", false, -12_500, "slow");
        report.enter("V6-A3", Verdict::Pass, Some(-1_000), "static");
        report.enter("V6-G2", Verdict::NotApplicable, None, "");
        let values = report.values();
        assert!(
            values
                .windows(2)
                .all(|pair| pair[0].metric < pair[1].metric)
        );
        assert_eq!(values.len(), 4 + 3);
        assert_eq!(findings_of(&values).as_ref(), Some(report.findings()));
        assert_eq!(findings_of(&[own_value(TCP_CONNECT, 1)]), None);
    }
}
