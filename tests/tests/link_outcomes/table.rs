//! A row of `tests/data/link-outcomes.toml`, and what it takes to run it.

use std::collections::BTreeMap;
use std::time::Duration;

use extranet_agent::measure::Measurer;
use extranet_tests::forwarder::Faults;
use serde::Deserialize;

use super::{FAR, Rig, measure, planned, value};

/// The rows, in the order of the file.
pub(crate) fn read() -> Vec<Row> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        scenario: Vec<Row>,
    }
    let table: Table = toml::from_str(include_str!("../../data/link-outcomes.toml"))
        .unwrap_or_else(|error| panic!("{error}"));
    table.scenario
}

/// What happens on the link.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Link {
    #[default]
    Good,
    NothingComesBack,
    Satellite,
    NoV6,
    LargePacketsVanish,
}

impl Link {
    fn faults(self) -> (Faults, Faults) {
        let both = |faults| (faults, faults);
        match self {
            Self::Good => both(Faults::default()),
            Self::NothingComesBack => (Faults::default(), Faults::all_lost()),
            // A geostationary one.
            Self::Satellite => both(Faults::delay(Duration::from_millis(300))),
            Self::NoV6 => both(Faults {
                drop_v6: true,
                ..Faults::default()
            }),
            Self::LargePacketsVanish => both(Faults {
                black_hole_above: 600,
                ..Faults::default()
            }),
        }
    }
}

/// One scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Keys of a check in a plan; `{root}` is the laboratory's authority.
    keys: String,
    /// Instead of the far end of the link: IPv4, then IPv6.
    target: Option<[String; 2]>,
    #[serde(default)]
    link: Link,
    #[serde(default = "usual_timeout")]
    timeout: String,
    /// Runs before the one that counts.
    #[serde(default)]
    runs_before: u8,
    /// Outcome and reason.
    expect: [String; 2],
    /// The same over IPv6, where it differs.
    expect6: Option<[String; 2]>,
    /// Values that must be there, exactly.
    #[serde(default)]
    values: BTreeMap<String, f64>,
    /// Values that must be there and no less.
    #[serde(default)]
    at_least: BTreeMap<String, f64>,
}

/// For what ends by itself.
fn usual_timeout() -> String {
    "10s".to_owned()
}

impl Row {
    pub(crate) async fn run(
        &self,
        rig: &Rig,
        measurer: &Measurer,
        family: u8,
        id: u32,
    ) -> Result<(), String> {
        let which = usize::from(family == 6);
        let address = match &self.target {
            Some(addresses) => addresses[which].as_str(),
            None => FAR[which],
        };
        let keys = self.keys.replace("{root}", &rig.authority.pem);
        let check = planned(
            &keys,
            &self.timeout,
            family,
            address,
            2 * id + u32::from(family == 6),
        );
        let (forth, back) = self.link.faults();
        rig.link.forth(forth);
        rig.link.back(back);
        for _ in 0..self.runs_before {
            measure(measurer, &check).await;
        }
        let found = measure(measurer, &check).await;
        let expected = match (&self.expect6, family) {
            (Some(expected), 6) => expected,
            _ => &self.expect,
        };
        let verdict = [found.outcome.label(), found.reason.label()];
        if verdict != *expected {
            return Err(format!("{verdict:?} instead of {expected:?}: {found:?}"));
        }
        // Values are those of a run that ended as it should over IPv4.
        let same = self.expect6.is_none() || family == 4;
        for (name, wanted) in self.values.iter().filter(|_| same) {
            let exported = value(&found, name);
            if exported != Some(*wanted) {
                return Err(format!("{name} is {exported:?}, not {wanted}: {found:?}"));
            }
        }
        for (name, least) in self.at_least.iter().filter(|_| same) {
            let exported = value(&found, name);
            if exported.is_none_or(|exported| exported < *least) {
                return Err(format!("{name} is {exported:?}, below {least}: {found:?}"));
            }
        }
        Ok(())
    }
}
