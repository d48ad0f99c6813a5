//! What measuring and reporting cost on the uplinks, and how far intervals are stretched to stay inside the budget of a
//! day (requirements: a village on satellite pays by the byte).
//!
//! - Counted are bytes of IP packets that leave or reach the machine through an uplink: probes as they say themselves
//!   ([`Traffic`]), the stream by [`meter`]. What stays on the machine or on a link of its own ([`egress`]) is counted
//!   apart, as device [`LOCAL`], and costs nothing. Enrolment and renewal (some 5 KB a year) are not counted.
//! - Totals are kept for each device, for ever; the budget is one for all of them ([`budget`]).
//! - What is left of the budget outlives the process: a crash loop must not spend ten budgets a day. Over a reboot no
//!   time is taken to have passed.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use extranet_proto::id::{BootId, CheckId, ObjectId};
use extranet_proto::metric;
use extranet_proto::record::{Definition, ObjectKind, Value};

use crate::clock::{self, Clock};
use crate::control::{Plan, PlannedCheck};
use crate::probe::{Measured, ObjectIds, Traffic, own_value};
use crate::shell::{Shutdown, Stage, error_chain};
use crate::state_file;

pub mod budget;
mod egress;
pub mod meter;

use budget::{Bucket, Load, Stretch};
use egress::{Egress, Egresses};

/// Weight of the last run in what a check is taken to cost.
const COST_WEIGHT: f64 = 0.2;
/// Memory of the stream's rate, s: several flushes of a village.
const STREAM_MEMORY_S: f64 = 1_800.0;
/// Nothing is stretched to more than this: a check that runs once a day is cheap, and its absence for weeks is not.
const LONGEST_STRETCHED: Duration = Duration::from_hours(24);
/// Devices with totals of their own; the rest is put together, without a name. A guess: interfaces of dial-up devices
/// may get a new name at each connection.
const DEVICES: usize = 16;

/// Stands for what passes no uplink where a device is named. No device is called so: Linux forbids nothing, but names of
/// devices have at most 15 bytes.
pub const LOCAL: &str = "stays at the site";

/// Everything that was spent through one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// By probes.
    pub probes: Traffic,
    /// By the stream to the collector.
    pub stream: Traffic,
}

/// The account of one agent; cheap to clone.
#[derive(Debug, Clone)]
pub struct Account {
    clock: Clock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    egresses: Egresses,
    totals: BTreeMap<Arc<str>, Totals>,
    bucket: Bucket,
    stretch: Stretch,
    checks: HashMap<CheckId, Cost>,
    stream: Rate,
    /// Object ids of the devices, for each check that reports them.
    objects: HashMap<(CheckId, Arc<str>), ObjectId>,
}

/// What a planned check costs.
#[derive(Debug)]
struct Cost {
    interval: Duration,
    last: bool,
    /// Mean of the runs so far, bytes; `None` before the first one.
    mean: Option<f64>,
    /// Of the run that goes on, bytes.
    running: u64,
}

/// A rate that forgets.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    bytes: f64,
    at_us: u64,
}

impl Rate {
    fn add(&mut self, bytes: u64, now_us: u64) {
        self.bytes = self.decayed(now_us) + budget::bytes(bytes);
        self.at_us = self.at_us.max(now_us);
    }

    fn decayed(&self, now_us: u64) -> f64 {
        let passed = Duration::from_micros(now_us.saturating_sub(self.at_us)).as_secs_f64();
        self.bytes * (-passed / STREAM_MEMORY_S).exp()
    }

    /// Bytes a second.
    fn now(&self, now_us: u64) -> f64 {
        self.decayed(now_us) / STREAM_MEMORY_S
    }
}

impl Account {
    /// Nothing spent, no limit.
    pub fn new(clock: Clock) -> Self {
        let now_us = clock.read().boottime_us;
        let inner = Inner {
            egresses: Egresses::default(),
            totals: BTreeMap::new(),
            bucket: Bucket::new(0, now_us),
            stretch: Stretch::NONE,
            checks: HashMap::new(),
            stream: Rate::default(),
            objects: HashMap::new(),
        };
        Self {
            clock,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.clock.read().boottime_us
    }

    /// A probe of an address sent and received this.
    pub fn charge_probe(&self, check: CheckId, vrf: &str, address: IpAddr, traffic: Traffic) {
        let spent = traffic.sent.saturating_add(traffic.received);
        if spent == 0 {
            return;
        }
        let now_us = self.now_us();
        let inner = &mut *self.inner();
        let (totals, costs) = inner.totals_of(vrf, address, now_us);
        totals.probes.add(traffic);
        if !costs {
            return;
        }
        inner.bucket.spend(spent, now_us);
        if let Some(cost) = inner.checks.get_mut(&check) {
            cost.running = cost.running.saturating_add(spent);
        }
    }

    /// The stream to the collector sent and received this.
    pub fn charge_stream(&self, address: IpAddr, traffic: Traffic) {
        let now_us = self.now_us();
        let inner = &mut *self.inner();
        let (totals, costs) = inner.totals_of("", address, now_us);
        totals.stream.add(traffic);
        if !costs {
            return;
        }
        let spent = traffic.sent.saturating_add(traffic.received);
        inner.bucket.spend(spent, now_us);
        inner.stream.add(spent, now_us);
    }

    /// A run of a planned check ended: what it cost is known.
    pub fn run_ended(&self, check: CheckId) {
        if let Some(cost) = self.inner().checks.get_mut(&check) {
            let run = budget::bytes(std::mem::take(&mut cost.running));
            let mean = cost.mean.get_or_insert(run);
            *mean += (run - *mean) * COST_WEIGHT;
        }
    }

    /// Takes over a plan and its budget. A check that goes on keeps what is known of its cost.
    pub fn follow(&self, plan: &Plan) {
        let now_us = self.now_us();
        let inner = &mut *self.inner();
        inner.bucket.resize(plan.daily_budget, now_us);
        let mut known = std::mem::take(&mut inner.checks);
        for planned in &plan.checks {
            let check = &planned.check;
            let before = known.remove(&check.id);
            inner.checks.insert(
                check.id,
                Cost {
                    interval: check.interval,
                    last: check.stretch_last,
                    mean: before.as_ref().and_then(|cost| cost.mean),
                    running: before.map_or(0, |cost| cost.running),
                },
            );
        }
        inner
            .objects
            .retain(|(check, _), _| inner.checks.contains_key(check));
        inner.adjust(now_us);
    }

    /// Works out the stretch again. Returns whether it changed.
    pub fn adjust(&self) -> bool {
        let now_us = self.now_us();
        self.inner().adjust(now_us)
    }

    /// How far intervals are stretched now.
    pub fn stretch(&self) -> Stretch {
        self.inner().stretch
    }

    /// The interval at which a check runs now.
    pub fn interval(&self, planned: &PlannedCheck) -> Duration {
        let stretch = self.stretch();
        let check = &planned.check;
        let thousandths = if check.stretch_last {
            stretch.last
        } else {
            stretch.first
        };
        if thousandths == budget::UNSTRETCHED {
            return check.interval;
        }
        let stretched = check.interval.saturating_mul(thousandths) / 1_000;
        stretched.min(LONGEST_STRETCHED.max(check.interval))
    }

    /// Bytes that may be spent at once without stretching more.
    pub fn left(&self) -> u64 {
        self.inner().bucket.left()
    }

    /// The totals of all devices.
    pub fn totals(&self) -> Vec<(Arc<str>, Totals)> {
        let inner = self.inner();
        let totals = inner.totals.iter();
        totals
            .map(|(device, totals)| (Arc::clone(device), *totals))
            .collect()
    }

    /// The account as the result of a check.
    pub fn measured(&self, check: CheckId, ids: &ObjectIds) -> Measured {
        let inner = &mut *self.inner();
        let mut values = Vec::new();
        let mut definitions = Vec::new();
        for (device, totals) in &inner.totals {
            let key = (check, Arc::clone(device));
            let object = *inner.objects.entry(key).or_insert_with(|| {
                let object = ids.allocate();
                definitions.push(Definition {
                    object,
                    check,
                    kind: ObjectKind::Uplink,
                    labels: vec![("device".to_owned(), device.to_string())],
                });
                object
            });
            let value = |metric, raw| Value {
                metric,
                object,
                raw,
            };
            values.extend([
                value(metric::PROBES_SENT, totals.probes.sent),
                value(metric::PROBES_RECEIVED, totals.probes.received),
                value(metric::STREAM_SENT, totals.stream.sent),
                value(metric::STREAM_RECEIVED, totals.stream.received),
            ]);
        }
        if inner.bucket.daily() > 0 {
            values.push(own_value(metric::BUDGET_DAILY, inner.bucket.daily()));
            values.push(own_value(metric::BUDGET_LEFT, inner.bucket.left()));
        }
        values.push(own_value(metric::STRETCH, inner.stretch.first.into()));
        values.push(own_value(metric::STRETCH_LAST, inner.stretch.last.into()));
        values.sort_by_key(|value| (value.metric, value.object));
        Measured {
            definitions,
            ..Measured::ok(Duration::ZERO, values)
        }
    }
}

impl Inner {
    /// The totals of the device by which an address is reached, and whether that costs.
    fn totals_of(&mut self, vrf: &str, address: IpAddr, now_us: u64) -> (&mut Totals, bool) {
        let egress = self.egresses.of(vrf, address, now_us);
        let costs = egress != Egress::Local;
        let device = match egress {
            Egress::Local => Arc::from(LOCAL),
            Egress::Uplink(device)
                if self.totals.len() < DEVICES || self.totals.contains_key(&device) =>
            {
                device
            }
            Egress::Uplink(_) | Egress::Unknown => Arc::from(""),
        };
        (self.totals.entry(device).or_default(), costs)
    }

    fn adjust(&mut self, now_us: u64) -> bool {
        let mut load = Load {
            stream: self.stream.now(now_us),
            ..Load::default()
        };
        for cost in self.checks.values() {
            let rate = cost.mean.unwrap_or(0.0) / cost.interval.as_secs_f64().max(0.001);
            if cost.last {
                load.last += rate;
            } else {
                load.first += rate;
            }
        }
        let before = self.stretch;
        self.stretch = self.bucket.stretch(load, before, now_us);
        if self.stretch != before {
            let thousandths = self.stretch;
            tracing::info!(
                first = thousandths.first,
                last = thousandths.last,
                left = self.bucket.left(),
                "intervals are stretched to keep the daily budget (thousandths)"
            );
        }
        self.stretch != before
    }
}

/// How often what is left is written down: flash wears, and a crash may forget a quarter of an hour.
const KEPT_EVERY: Duration = Duration::from_mins(15);

/// Where what is left is kept.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("account")
}

impl Account {
    /// Goes on with what an earlier process left of the budget. To be called after the first plan.
    pub fn resume(&self, path: &Path) {
        let kept = match state_file::read(path) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "the account begins anew");
                return;
            }
        };
        let Some((boot, at_us, left)) = kept.as_deref().and_then(decode) else {
            return;
        };
        let now_us = self.now_us();
        let inner = &mut *self.inner();
        inner.bucket.resume(left);
        // Within the same boot, time flowed on.
        if clock::boot_id().is_ok_and(|now| now == boot) {
            inner.bucket.filled_since(at_us, now_us);
        }
    }

    /// Keeps what is left of the budget from time to time, and at the end.
    pub async fn run(self, path: PathBuf, shutdown: Shutdown) {
        loop {
            let ends = tokio::select! {
                () = tokio::time::sleep(KEPT_EVERY) => false,
                () = shutdown.reached(Stage::Flush) => true,
            };
            let (account, path) = (self.clone(), path.clone());
            // A panic was reported where it happened.
            drop(tokio::task::spawn_blocking(move || account.keep(&path)).await);
            if ends {
                return;
            }
        }
    }

    /// Keeps what is left of the budget. Blocks for the disk.
    pub fn keep(&self, path: &Path) {
        let left = {
            let inner = self.inner();
            (inner.bucket.daily() > 0).then(|| inner.bucket.left())
        };
        let (Some(left), Ok(boot)) = (left, clock::boot_id()) else {
            return;
        };
        let payload = encode(boot, self.now_us(), left);
        if let Err(error) = state_file::write(path, &payload) {
            tracing::warn!(error = error_chain(&error), "the account is not kept");
        }
    }
}

fn encode(boot: BootId, at_us: u64, left: u64) -> Vec<u8> {
    let mut bytes = boot.0.to_vec();
    bytes.extend_from_slice(&at_us.to_le_bytes());
    bytes.extend_from_slice(&left.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(BootId, u64, u64)> {
    let (boot, rest) = bytes.split_first_chunk::<16>()?;
    let (at_us, rest) = rest.split_first_chunk::<8>()?;
    let left = rest.try_into().ok()?;
    Some((
        BootId(*boot),
        u64::from_le_bytes(*at_us),
        u64::from_le_bytes(left),
    ))
}

#[cfg(test)]
mod tests;
