//! What a technician asks a device on site: single objects, a walk, a run of a module.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use extranet_proto::assignment::{Family, SnmpCredential};
use extranet_proto::record::Reason;

use super::endpoint::Endpoint;
use super::library::{self, Library};
use super::module::{LabelForm, Module, NAMES, built_in};
use super::numbers::Numbers;
use super::scrape::scrape;
use super::session::{Binding, Datum, Failure, Oid, Session};
use super::window::Window;
use crate::net::refusal::Refusal;
use crate::probe::label::clean;

/// Rows of a walk in one request.
const REPETITIONS: u32 = 20;

/// A device under one credential.
pub struct ByHand {
    session: Library,
    names: Vec<Module>,
}

impl ByHand {
    /// Sends nothing yet. Needs a Tokio runtime.
    pub fn new(
        device: SocketAddr,
        credential: &SnmpCredential,
        timeout: Duration,
    ) -> Result<Self, String> {
        let endpoint = Endpoint::open(Family::of(device.ip()), "").map_err(|e| e.to_string())?;
        let auth = library::prepare(credential).map_err(|error| error.to_string())?;
        let handle = endpoint.handle(device, timeout);
        let session = Library::new(handle, auth, library::des_salt(), timeout)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            session,
            names: NAMES.into_iter().filter_map(built_in).collect(),
        })
    }

    /// The values of some objects, a line each.
    pub async fn get(&self, oids: &[String]) -> Result<String, String> {
        let oids = oids
            .iter()
            .map(|text| self.oid(text))
            .collect::<Result<Vec<_>, _>>()?;
        let found = self.session.get(&oids).await.map_err(told)?;
        let mut text = String::new();
        for binding in &found {
            self.line(&mut text, binding);
        }
        Ok(text)
    }

    /// Everything under an object, at most `most` lines; `line` takes each as it comes.
    pub async fn walk(
        &self,
        under: &str,
        most: usize,
        mut line: impl FnMut(&str),
    ) -> Result<usize, String> {
        let under = self.oid(under)?;
        let (mut last, mut count) = (under.clone(), 0);
        loop {
            let asked = std::slice::from_ref(&last);
            let found = self
                .session
                .successors(asked, REPETITIONS)
                .await
                .map_err(told)?;
            if found.is_empty() {
                return Err(told(Failure::failed(Reason::Malformed)));
            }
            for binding in found {
                let is_over =
                    binding.datum == Datum::EndOfView || binding.oid.under(&under).is_none();
                if is_over || count >= most {
                    return Ok(count);
                }
                if binding.oid <= last {
                    return Err(told(Failure::failed(Reason::NotIncreasing)));
                }
                let mut text = String::new();
                self.line(&mut text, &binding);
                line(text.trim_end());
                count += 1;
                last = binding.oid;
            }
        }
    }

    /// One run of a module, as the series that it would give.
    pub async fn module(&self, name: &str, text: &str) -> Result<String, String> {
        let mut module = Module::parse(name, text).map_err(|problems| problems.to_string())?;
        Numbers::default().give_to(&mut module);
        let found = scrape(&self.session, &module, &[], &Window::new())
            .await
            .map_err(told)?;
        let mut shown = String::new();
        let mut show = |labels: &str, values: &[(extranet_proto::metric::Metric, u64)]| {
            for (metric, raw) in values {
                let series = module.series().find(|series| series.number == *metric);
                if let Some(series) = series {
                    let number = series.exported(*raw);
                    writeln!(shown, "{}{labels} {number}", series.name).ok();
                }
            }
        };
        show("", &found.own);
        for object in &found.objects {
            let labels: Vec<String> = object
                .labels
                .iter()
                .map(|(name, text)| format!("{name}={text:?}"))
                .collect();
            show(&format!("{{{}}}", labels.join(",")), &object.values);
        }
        let rows: usize = found.indexes.iter().map(Vec::len).sum();
        let traffic = self.session.traffic().bytes();
        writeln!(
            shown,
            "# {rows} rows, {} requests, {} bytes sent, {} received",
            self.session.traffic().sent(),
            traffic.sent,
            traffic.received
        )
        .ok();
        Ok(shown)
    }

    /// A name of a module's column or scalar, with or without an index behind it, or numbers.
    fn oid(&self, text: &str) -> Result<Oid, String> {
        if let Ok(oid) = text.parse() {
            return Ok(oid);
        }
        let (name, index) = text.split_once('.').unwrap_or((text, ""));
        let columns = self.names.iter().flat_map(|module| {
            let of_tables = module.tables.iter().flat_map(|table| &table.columns);
            of_tables.chain(&module.scalars)
        });
        let known = columns.into_iter().find(|column| column.name == name);
        let column = known
            .ok_or_else(|| format!("'{text}' is neither an OID nor a name of a built-in module"))?;
        let arcs: Result<Vec<u32>, _> = index
            .split('.')
            .filter(|arc| !arc.is_empty())
            .map(str::parse)
            .collect();
        let arcs = arcs.map_err(|_| format!("'{index}' is no index"))?;
        Ok(column.oid.with(&arcs))
    }

    fn line(&self, out: &mut String, binding: &Binding) {
        let known = self
            .names
            .iter()
            .find_map(|module| module.object(&binding.oid));
        match known {
            Some((column, [])) => write!(out, "{}", column.name).ok(),
            Some((column, row)) => write!(out, "{}.{}", column.name, Oid(row.to_vec())).ok(),
            None => write!(out, "{}", binding.oid).ok(),
        };
        writeln!(out, " = {}", shown(&binding.datum)).ok();
    }
}

fn shown(datum: &Datum) -> String {
    match datum {
        Datum::Signed(number) => number.to_string(),
        Datum::Unsigned(number) => number.to_string(),
        Datum::Octets(octets) => {
            let text = clean(octets);
            let is_text =
                std::str::from_utf8(octets).is_ok() && (octets.is_empty() || !text.is_empty());
            if is_text {
                format!("{text:?}")
            } else {
                LabelForm::Octets.text(datum)
            }
        }
        Datum::Oid(oid) => oid.to_string(),
        Datum::Missing => "(the device has no such object)".to_owned(),
        Datum::EndOfView => "(end)".to_owned(),
        Datum::Other => "(a type that is not read)".to_owned(),
    }
}

/// A failure in words.
fn told(failure: Failure) -> String {
    let reason = match failure {
        Failure::TooBig => return "the device says that the answer would be too big".to_owned(),
        Failure::Verdict(Refusal { reason, .. }) => reason,
    };
    match reason {
        Reason::Timeout => {
            "no answer: is it up, is the community right, does it allow this machine?".to_owned()
        }
        Reason::Refused => "no SNMP service on that port (ICMP port unreachable)".to_owned(),
        Reason::AuthenticationFailed => {
            "the device refuses the user, the pass phrase or the view".to_owned()
        }
        Reason::NotIncreasing => "the device gives objects out of order".to_owned(),
        other => other.label().to_owned(),
    }
}
