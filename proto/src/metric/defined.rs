//! Metrics that an agent defines itself: what SNMP modules read that has no number in the registry.
//!
//! A number from [`DEFINED_FROM`] on means nothing by itself. Its meaning comes in a definition record of the same
//! incarnation, whose object is computed from the number, so that a value names its meaning as it names its object.

use super::{Kind, Metric};
use crate::id::ObjectId;

/// Numbers from here on are defined by the agent, for one incarnation.
pub const DEFINED_FROM: u16 = 1_000;

/// Objects from here on are meanings of metrics; what agents discover counts up from 1 and never gets here.
const OBJECTS_FROM: u32 = 0xffff_0000;

/// What a defined metric means, as the labels `name`, `type` and `scale` of its definition say.
#[derive(Debug, Clone, PartialEq)]
pub struct Defined {
    /// Prometheus name.
    pub name: String,
    /// Gauge or counter.
    pub kind: Kind,
    /// The raw number times this is exported.
    pub scale: f64,
}

impl Metric {
    /// Whether the number is one that agents define themselves.
    pub const fn is_defined(self) -> bool {
        self.0 >= DEFINED_FROM
    }

    /// The object whose definition holds the meaning of this metric.
    pub const fn definition_object(self) -> ObjectId {
        ObjectId(OBJECTS_FROM + self.0 as u32)
    }
}

impl Defined {
    /// The labels of the definition.
    pub fn labels(&self) -> Vec<(String, String)> {
        let kind = match self.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let mut labels = vec![
            ("name".to_owned(), self.name.clone()),
            ("type".to_owned(), kind.to_owned()),
        ];
        if self.scale.to_bits() != 1.0_f64.to_bits() {
            labels.push(("scale".to_owned(), self.scale.to_string()));
        }
        labels
    }

    /// Reads the labels of a definition; `None` when they are none of a metric.
    pub fn from_labels(labels: &[(String, String)]) -> Option<Self> {
        let label = |wanted: &str| {
            let found = labels.iter().find(|(name, _)| name == wanted);
            found.map(|(_, text)| text.as_str())
        };
        let name = label("name").filter(|name| is_metric_name(name))?;
        let kind = match label("type")? {
            "gauge" => Kind::Gauge,
            "counter" => Kind::Counter,
            _ => return None,
        };
        let scale = label("scale").map_or(Ok(1.0), str::parse).ok()?;
        f64::is_finite(scale).then(|| Self {
            name: name.to_owned(),
            kind,
            scale,
        })
    }

    /// The raw bits as the number that is exported.
    pub fn exported(&self, raw: u64) -> f64 {
        self.kind.number(raw) * self.scale
    }
}

/// Whether a text can be the name of a series.
fn is_metric_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meaning_survives_its_labels() {
        for (kind, scale, shown) in [(Kind::Gauge, 0.01, "-0.05"), (Kind::Counter, 1.0, "7")] {
            let defined = Defined {
                name: "upsBatteryVoltage".to_owned(),
                kind,
                scale,
            };
            let raw = if kind == Kind::Gauge {
                (-5_i64).cast_unsigned()
            } else {
                7
            };
            let read = Defined::from_labels(&defined.labels()).unwrap();
            assert_eq!(read, defined);
            assert_eq!(read.exported(raw).to_string(), shown);
        }
    }

    #[test]
    fn labels_that_are_no_meaning_are_refused() {
        let labels = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
            pairs.iter().map(owned).collect()
        };
        for pairs in [
            &[("ifName", "eth0")][..],
            &[("name", "bad name"), ("type", "gauge")],
            &[("name", "x"), ("type", "histogram")],
            &[("name", "x"), ("type", "gauge"), ("scale", "inf")],
        ] {
            assert_eq!(Defined::from_labels(&labels(pairs)), None, "{pairs:?}");
        }
    }

    #[test]
    fn every_number_has_an_object_of_its_own() {
        assert!(!Metric(999).is_defined());
        assert!(Metric(1_000).is_defined());
        assert_eq!(Metric(u16::MAX).definition_object(), ObjectId(u32::MAX));
    }
}
