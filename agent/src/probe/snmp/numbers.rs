//! Numbers for the series of modules: those of the registry where it knows the name, else the next free one, which a
//! definition record explains ([`extranet_proto::metric::Defined`]).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use extranet_proto::id::CheckId;
use extranet_proto::metric::{DEFINED_FROM, Defined, Kind, Metric, REGISTRY, Unit};
use extranet_proto::record::{Definition, ObjectKind};

use super::module::{Module, Series};

/// Gives out numbers, the same one for the same meaning, as long as the process lives.
#[derive(Debug, Default)]
pub(super) struct Numbers(Mutex<HashMap<(String, bool, u64), Metric>>);

impl Numbers {
    /// Numbers all series of a module. A meaning beyond the last number (there are 64,536) keeps the number 0, and its
    /// values are left out.
    pub(super) fn give_to(&self, module: &mut Module) {
        for series in module.series_mut() {
            series.number = registered(series).unwrap_or_else(|| self.defined(series));
        }
    }

    fn defined(&self, series: &Series) -> Metric {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (
            series.name.clone(),
            series.kind == Kind::Counter,
            series.scale.to_bits(),
        );
        if let Some(metric) = given.get(&key) {
            return *metric;
        }
        let Some(number) = u16::try_from(given.len())
            .ok()
            .and_then(|count| DEFINED_FROM.checked_add(count))
        else {
            return Metric(0);
        };
        given.insert(key, Metric(number));
        Metric(number)
    }
}

/// The number of the registry for a series of this name and type.
fn registered(series: &Series) -> Option<Metric> {
    let known = REGISTRY.iter().find(|info| info.name == series.name)?;
    let same = known.label.is_none()
        && known.unit == Unit::One
        && known.kind == series.kind
        && series.scale.to_bits() == 1.0_f64.to_bits();
    same.then_some(known.metric)
}

/// What a number means, for the collector; `None` for those of the registry.
pub(super) fn definition(check: CheckId, series: &Series) -> Option<Definition> {
    series.number.is_defined().then(|| Definition {
        object: series.number.definition_object(),
        check,
        kind: ObjectKind::Metric,
        labels: Defined {
            name: series.name.clone(),
            kind: series.kind,
            scale: series.scale,
        }
        .labels(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::snmp::module::built_in;

    #[test]
    fn a_meaning_has_one_number() {
        let numbers = Numbers::default();
        let numbered = |name| {
            let mut module = built_in(name).unwrap();
            numbers.give_to(&mut module);
            let all: Vec<Series> = module.series_mut().map(|series| series.clone()).collect();
            all
        };
        let first = numbered("ups_mib");
        assert_eq!(numbered("ups_mib"), first);
        assert!(first.iter().all(|series| series.number.is_defined()));
        let interfaces = numbered("if_mib");
        assert!(interfaces.iter().all(|series| !series.number.is_defined()));
        let other = numbered("bridge");
        assert!(
            first
                .iter()
                .all(|one| other.iter().all(|two| one.number != two.number))
        );
        let shown = definition(CheckId(1), &first[0]).unwrap();
        assert_eq!(
            Defined::from_labels(&shown.labels).unwrap().name,
            first[0].name
        );
        assert_eq!(definition(CheckId(1), &interfaces[0]), None);
    }
}
