//! SNMP scrapes of modules: v1, v2c and v3.
//!
//! In the order of a run:
//!
//! - [`Poller`] finds or makes the device's session and holds the run to its deadline;
//! - `endpoint`: one UDP socket per family and VRF, for all devices together;
//! - `session`: the two requests that modules need; `library`: the same on async-snmp;
//! - `walk`: rows and cells of tables, with every defence against a device that answers wrongly; `window` and `pace`: how
//!   much is asked at a time, and how long an answer is waited for;
//! - `module`: which objects are read and what they are called, as data; `numbers`: what stands for the names on the wire;
//! - `scrape`: one module of one device; `device` and `history`: what is remembered between runs; `counters`: which readings
//!   are samples; `rates`: what an interface carried in five minutes.
//!
//! A module's values are in the result all or not at all; a scrape that fails in its second module keeps those of the
//! first. Why the library is used the way it is: docs/decisions/0004-snmp-library.md.

pub mod by_hand;
mod counters;
mod device;
mod endpoint;
mod history;
mod library;
pub mod module;
mod numbers;
mod pace;
mod rates;
pub mod replay;
mod scrape;
mod session;
pub mod trap;
mod walk;
mod window;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_snmp::{Auth, DesSaltState};
use extranet_proto::assignment::{Family, SnmpCredential, SnmpModule, SnmpProbe};
use extranet_proto::id::CheckId;
use extranet_proto::metric;
use extranet_proto::record::{Outcome, Reason};
use tokio::time::Instant;

use self::device::{Device, Gathered};
use self::endpoint::Endpoint;
use self::library::Library;
use self::module::Module;
use self::numbers::Numbers;
use self::session::Failure;
use crate::net::refusal::{Refusal, errno_of};

use super::{Measured, ObjectIds, Run, Traffic, micros, own_value};

/// Most devices that are remembered: twice the checks of an assignment, for those of its successor.
const DEVICES_MAX: usize = 2 * extranet_proto::limits::ASSIGNMENT_CHECKS;
/// How long a device is remembered without a run, at least; a slower check keeps its device for three intervals.
const DEVICE_IDLE: Duration = Duration::from_hours(1);
/// Credentials whose keys are kept. A network has a few; each costs two pass phrases.
const CREDENTIALS_MAX: usize = 64;

/// What a remembered device belongs to. Checks are immutable, but the address of a name or symbol may change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DeviceKey {
    check: CheckId,
    vrf: String,
    address: SocketAddr,
}

struct Remembered {
    /// The probe and timeout it was made for: on-demand runs may use a check id of their own again.
    probe: SnmpProbe,
    timeout: Duration,
    /// `Err` = the check cannot be run at all, which was logged once.
    device: Result<Arc<Device>, Reason>,
    last_run: Instant,
    idle_max: Duration,
}

/// A socket; `None` = could not be opened last time, which was logged.
type Opened = Option<Arc<Endpoint>>;

#[derive(Default)]
struct Shared {
    endpoints: Mutex<HashMap<(Family, String), Opened>>,
    devices: Mutex<HashMap<DeviceKey, Remembered>>,
    credentials: Mutex<Vec<(SnmpCredential, Auth)>>,
    des_salt: Mutex<Option<DesSaltState>>,
    numbers: Numbers,
    /// Modules by name, numbered: the built-in ones that were needed, and those of the assignment.
    modules: Mutex<HashMap<String, Arc<Module>>>,
}

/// Polls SNMP devices; cheap to clone.
#[derive(Clone)]
pub struct Poller {
    ids: ObjectIds,
    shared: Arc<Shared>,
}

impl Poller {
    /// Takes the ids of what it discovers from `objects`. Opens nothing yet.
    pub fn new(objects: ObjectIds) -> Self {
        Self {
            ids: objects,
            shared: Arc::default(),
        }
    }

    /// One scrape of all modules of the check. Definitions of everything the values name come with every run.
    pub async fn run(&self, run: &Run<'_>, probe: &SnmpProbe) -> Measured {
        let started = Instant::now();
        let key = DeviceKey {
            check: run.check.id,
            vrf: run.vrf.to_owned(),
            address: SocketAddr::new(run.address, probe.port),
        };
        let device = match self.device(&key, run, probe, started) {
            Ok(device) => device,
            Err(reason) => return Measured::not_measured(reason, started.elapsed()),
        };
        let traffic = device.traffic();
        let bytes_before = traffic.bytes();
        let (sent, bindings, unreadable) =
            (traffic.sent(), traffic.bindings(), traffic.unreadable());
        let gathered = Mutex::default();
        let ended =
            tokio::time::timeout_at(run.deadline, device.scrape(&self.ids, &gathered)).await;
        let (outcome, reason) = match ended {
            Ok(Ok(())) => (Outcome::Ok, Reason::None),
            Ok(Err(Failure::Verdict(verdict))) => (verdict.outcome, verdict.reason),
            Ok(Err(Failure::TooBig)) => (Outcome::Failed, Reason::RemoteError),
            Err(_) if traffic.unreadable() > unreadable => (Outcome::Failed, Reason::Malformed),
            Err(_) => (Outcome::Failed, Reason::Timeout),
        };
        device.note_end(outcome == Outcome::Ok);
        let duration = started.elapsed();
        if outcome == Outcome::NotMeasured {
            self.forget_vrf(&key);
            return Measured::not_measured(reason, duration)
                .costing(since(bytes_before, traffic.bytes()));
        }
        let Gathered {
            mut values,
            definitions,
            refused,
        } = gathered
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        values.extend([
            own_value(metric::SNMP_DURATION, micros(duration)),
            own_value(
                metric::SNMP_PDUS,
                traffic.bindings().saturating_sub(bindings),
            ),
            own_value(metric::SNMP_REQUESTS, traffic.sent().saturating_sub(sent)),
            own_value(metric::SNMP_REFUSED_READINGS, refused),
        ]);
        values.sort_by_key(|value| (value.metric, value.object));
        // Both modules read sysUpTime.
        values.dedup_by_key(|value| (value.metric, value.object));
        Measured {
            outcome,
            reason,
            duration,
            values,
            definitions,
            traffic: since(bytes_before, traffic.bytes()),
            notes: Vec::new(),
        }
    }

    /// Takes the modules that an assignment brings along, in place of those of the one before. What is no module was
    /// checked by the collector; here it is logged, and checks that name it go without.
    pub fn use_modules(&self, modules: &[SnmpModule]) {
        let mut known = lock(&self.shared.modules);
        known.retain(|name, _| {
            module::text_of(name).is_some() || modules.iter().any(|one| one.name == *name)
        });
        for SnmpModule { name, text } in modules {
            if known.contains_key(name) || module::text_of(name).is_some() {
                continue;
            }
            match Module::parse(name, text) {
                Ok(mut module) => {
                    self.shared.numbers.give_to(&mut module);
                    known.insert(name.clone(), Arc::new(module));
                }
                Err(problems) => {
                    tracing::warn!(module = name, %problems, "an SNMP module of the assignment cannot be used");
                }
            }
        }
    }

    /// A module by its name.
    fn module(&self, name: &str) -> Option<Arc<Module>> {
        let mut known = lock(&self.shared.modules);
        if let Some(module) = known.get(name) {
            return Some(Arc::clone(module));
        }
        let mut module = module::built_in(name)?;
        self.shared.numbers.give_to(&mut module);
        let module = Arc::new(module);
        known.insert(name.to_owned(), Arc::clone(&module));
        Some(module)
    }

    /// The device of a run: remembered, or made now.
    fn device(
        &self,
        key: &DeviceKey,
        run: &Run<'_>,
        probe: &SnmpProbe,
        now: Instant,
    ) -> Result<Arc<Device>, Reason> {
        if let Some(remembered) = lock(&self.shared.devices).get_mut(key)
            && remembered.probe == *probe
            && remembered.timeout == run.check.timeout
        {
            remembered.last_run = now;
            return remembered.device.clone();
        }
        let endpoint = self.endpoint(Family::of(key.address.ip()), &key.vrf)?;
        let device = self.build(key, run, probe, &endpoint);
        let mut devices = lock(&self.shared.devices);
        devices.retain(|_, remembered| now - remembered.last_run < remembered.idle_max);
        if devices.len() >= DEVICES_MAX {
            let oldest = devices
                .iter()
                .min_by_key(|(_, remembered)| remembered.last_run)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                devices.remove(&oldest);
            }
        }
        devices.insert(
            key.clone(),
            Remembered {
                probe: probe.clone(),
                timeout: run.check.timeout,
                device: device.clone(),
                last_run: now,
                idle_max: DEVICE_IDLE.max(3 * run.check.interval),
            },
        );
        device
    }

    /// Makes the device of a check. What is wrong with the check itself is logged here, once.
    fn build(
        &self,
        key: &DeviceKey,
        run: &Run<'_>,
        probe: &SnmpProbe,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Arc<Device>, Reason> {
        let mut modules = Vec::new();
        for name in &probe.modules {
            match self.module(name) {
                Some(module)
                    if modules
                        .iter()
                        .any(|one: &Arc<Module>| one.name == module.name) => {}
                Some(module) => modules.push(module),
                None => {
                    tracing::warn!(check = %run.check.name, module = name, "unknown SNMP module is left out");
                }
            }
        }
        if modules.is_empty() {
            return Err(Reason::LocalError);
        }
        let session = self.credential(&probe.credential).and_then(|auth| {
            let handle = endpoint.handle(key.address, run.check.timeout);
            Ok(Library::new(
                handle,
                auth,
                self.des_salt(&probe.credential),
                run.check.timeout,
            )?)
        });
        match session {
            Ok(session) => {
                let is_v3 = matches!(probe.credential, SnmpCredential::V3 { .. });
                Ok(Arc::new(Device::new(key.check, session, is_v3, modules)))
            }
            Err(error) => {
                tracing::warn!(check = %run.check.name, %error, "SNMP credential cannot be used");
                Err(Reason::LocalError)
            }
        }
    }

    /// The library's form of a credential, its keys derived once.
    fn credential(&self, credential: &SnmpCredential) -> Result<Auth, Box<dyn std::error::Error>> {
        let known = lock(&self.shared.credentials)
            .iter()
            .find(|(known, _)| known == credential)
            .map(|(_, auth)| auth.clone());
        if let Some(auth) = known {
            return Ok(auth);
        }
        let auth = library::prepare(credential)?;
        let mut credentials = lock(&self.shared.credentials);
        if credentials.len() >= CREDENTIALS_MAX {
            credentials.remove(0);
        }
        credentials.push((credential.clone(), auth.clone()));
        Ok(auth)
    }

    /// The process's salt state, for credentials with DES.
    fn des_salt(&self, credential: &SnmpCredential) -> Option<DesSaltState> {
        let SnmpCredential::V3 {
            privacy: Some((protocol, _)),
            ..
        } = credential
        else {
            return None;
        };
        if !protocol.to_ascii_uppercase().contains("DES") {
            return None;
        }
        let mut state = lock(&self.shared.des_salt);
        if state.is_none() {
            *state = library::des_salt();
        }
        state.clone()
    }

    /// The socket for a family and VRF: open, or opened now.
    fn endpoint(&self, family: Family, vrf: &str) -> Result<Arc<Endpoint>, Reason> {
        let mut endpoints = lock(&self.shared.endpoints);
        let slot = endpoints.entry((family, vrf.to_owned()));
        let known = matches!(slot, std::collections::hash_map::Entry::Occupied(_));
        let slot = slot.or_default();
        if let Some(endpoint) = slot {
            return Ok(Arc::clone(endpoint));
        }
        match Endpoint::open(family, vrf) {
            Ok(endpoint) => {
                *slot = Some(Arc::clone(&endpoint));
                Ok(endpoint)
            }
            Err(error) => {
                if !known {
                    tracing::warn!(family = family.label(), vrf, %error, "SNMP socket cannot be opened");
                }
                Err(Refusal::of_open(errno_of(&error)).reason)
            }
        }
    }

    /// After a failure of this machine in a VRF: its socket and sessions are made anew at the next run. A socket bound
    /// to a device that was deleted and created again would else be deaf for ever.
    fn forget_vrf(&self, key: &DeviceKey) {
        if key.vrf.is_empty() {
            return;
        }
        let family = Family::of(key.address.ip());
        lock(&self.shared.endpoints).remove(&(family, key.vrf.clone()));
        lock(&self.shared.devices)
            .retain(|other, _| other.vrf != key.vrf || Family::of(other.address.ip()) != family);
    }
}

fn since(before: Traffic, after: Traffic) -> Traffic {
    Traffic {
        sent: after.sent.saturating_sub(before.sent),
        received: after.received.saturating_sub(before.received),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
