//! What a notification says, in the words of the modules.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use extranet_proto::limits::EVENT_TEXT_BYTES;

use crate::probe::label::clean;
use crate::probe::snmp::module::{Form, LabelForm, Module, NAMES, built_in};
use crate::probe::snmp::session::{Binding, Datum, Oid};

/// Most bindings that are written down.
const BINDINGS_MAX: usize = 16;

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// `snmpTrapOID`.
    pub(super) name: Oid,
    pub(super) bindings: Vec<Binding>,
}

/// The modules that know the names of things.
#[derive(Debug)]
pub(super) struct Names(Vec<Arc<Module>>);

impl Names {
    /// All built-in modules.
    pub(super) fn built_in() -> Self {
        Self(
            NAMES
                .into_iter()
                .filter_map(built_in)
                .map(Arc::new)
                .collect(),
        )
    }

    /// These and those of the assignment.
    pub(super) fn with(&self, others: Vec<Arc<Module>>) -> Self {
        Self(self.0.iter().cloned().chain(others).collect())
    }

    /// `source=10.0.0.1 trap=linkDown ifIndex=3 ifName="ge 0/0/3"`, cut to what an event may have.
    pub(super) fn text(&self, source: IpAddr, notice: &Notice) -> String {
        let name = self
            .0
            .iter()
            .find_map(|module| module.notification(&notice.name));
        let name = name.map_or_else(|| notice.name.to_string(), str::to_owned);
        let mut text = format!("source={source} trap={name}");
        let mut index_is_known = false;
        for binding in notice.bindings.iter().take(BINDINGS_MAX) {
            let (name, value, row) = self.binding(binding);
            // ifIndex.7 and ifName.7 say 7 once.
            if let Some(row) = row
                && !index_is_known
                && name != "ifIndex"
            {
                write!(text, " index={row}").ok();
            }
            index_is_known = true;
            write!(text, " {name}={}", quoted(&value)).ok();
        }
        text.truncate(text.floor_char_boundary(EVENT_TEXT_BYTES));
        text
    }

    /// Name, value and index of a binding. Objects that no module knows keep their numbers.
    fn binding(&self, binding: &Binding) -> (String, String, Option<String>) {
        if let Some(row) = binding.oid.under(&Oid(vec![1, 3, 6, 1, 2, 1, 2, 2, 1, 1])) {
            return (
                "ifIndex".to_owned(),
                plain(&binding.datum),
                Some(dotted(row)),
            );
        }
        let known = self.0.iter().find_map(|module| module.object(&binding.oid));
        match known {
            Some((column, row)) => {
                let value = match &column.form {
                    Form::Label(form) => form.text(&binding.datum),
                    Form::Metric { .. } => plain(&binding.datum),
                };
                (
                    column.name.clone(),
                    value,
                    (!row.is_empty()).then(|| dotted(row)),
                )
            }
            None => (binding.oid.to_string(), plain(&binding.datum), None),
        }
    }
}

fn dotted(arcs: &[u32]) -> String {
    Oid(arcs.to_vec()).to_string()
}

/// A value without a name for its form.
fn plain(datum: &Datum) -> String {
    match datum {
        Datum::Oid(oid) => oid.to_string(),
        Datum::Octets(octets) if !octets.is_empty() && clean(octets).is_empty() => {
            LabelForm::Octets.text(datum)
        }
        datum => LabelForm::Text.text(datum),
    }
}

/// In quotes when it has spaces or quotes.
fn quoted(value: &str) -> String {
    if value.is_empty() || value.contains([' ', '"', '=', '\\']) {
        format!("{value:?}")
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(oid: &str, datum: Datum) -> Binding {
        Binding {
            oid: oid.parse().unwrap(),
            datum,
        }
    }

    #[test]
    fn notifications_are_told_in_the_words_of_the_modules() {
        let names = Names::built_in();
        let source = "10.1.2.3".parse().unwrap();
        let text = |name: &str, bindings: Vec<Binding>| {
            let name = name.parse().unwrap();
            names.text(source, &Notice { name, bindings })
        };
        let link_down = vec![
            binding("1.3.6.1.2.1.2.2.1.1.7", Datum::Signed(7)),
            binding("1.3.6.1.2.1.2.2.1.7.7", Datum::Signed(1)),
            binding("1.3.6.1.2.1.2.2.1.8.7", Datum::Signed(2)),
            binding(
                "1.3.6.1.2.1.31.1.1.1.1.7",
                Datum::Octets(b"ge 0/0/3".to_vec()),
            ),
        ];
        assert_eq!(
            text("1.3.6.1.6.3.1.1.5.3", link_down),
            "source=10.1.2.3 trap=linkDown ifIndex=7 ifAdminStatus=1 ifOperStatus=2 ifName=\"ge 0/0/3\""
        );
        let ups = vec![binding("1.3.6.1.2.1.33.1.2.3.0", Datum::Signed(12))];
        assert_eq!(
            text("1.3.6.1.2.1.33.2.1", ups),
            "source=10.1.2.3 trap=upsTrapOnBattery upsEstimatedMinutesRemaining=12"
        );
        let unknown = vec![binding("1.3.6.1.4.1.99999.1.5", Datum::Octets(vec![0, 1]))];
        assert_eq!(
            text("1.3.6.1.4.1.99999.0.1", unknown),
            "source=10.1.2.3 trap=1.3.6.1.4.1.99999.0.1 1.3.6.1.4.1.99999.1.5=00:01"
        );
    }

    #[test]
    fn a_long_notification_is_cut() {
        let names = Names::built_in();
        let long = vec![
            binding(
                "1.3.6.1.2.1.1.5.0",
                Datum::Octets("拉".repeat(400).into_bytes())
            );
            9
        ];
        let name = "1.3.6.1.6.3.1.1.5.1".parse().unwrap();
        let text = names.text(
            "::1".parse().unwrap(),
            &Notice {
                name,
                bindings: long,
            },
        );
        assert!(text.len() <= EVENT_TEXT_BYTES, "{}", text.len());
    }
}
