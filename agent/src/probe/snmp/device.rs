//! One device as one check sees it: the session, the modules, and the ids of what was found on it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use extranet_proto::id::{CheckId, ObjectId};
use extranet_proto::metric::{self, Metric};
use extranet_proto::record::{Definition, ObjectKind, Value};

use tokio::time::Instant;

use crate::probe::{ObjectIds, own_value};

use super::counters::UpTime;
use super::endpoint::Traffic;
use super::history::{History, Moment};
use super::library::Library;
use super::module::Module;
use super::numbers;
use super::scrape::{Found, Scrape, scrape};
use super::session::Failure;
use super::window::Window;

/// Failed runs in a row after which a v3 device is asked again who it is. One lost run is too common on a satellite
/// link to give up an identity that was authenticated.
const FAILURES_BEFORE_REDISCOVERY: u32 = 2;

/// What tells an object from the others of its device.
type Key = (ObjectKind, String);

/// A device.
pub(super) struct Device {
    check: CheckId,
    session: Library,
    is_v3: bool,
    modules: Vec<Arc<Module>>,
    window: Window,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    up_time: UpTime,
    /// Counters of the device itself.
    own: Option<History>,
    /// What the latest complete run of each module found, by the module's place.
    found: HashMap<usize, Remembered>,
}

/// What vanished is forgotten, so that a device that renames its interfaces all the time takes no memory.
#[derive(Default)]
struct Remembered {
    objects: HashMap<Key, History>,
    /// The rows of each table.
    indexes: Vec<Vec<Vec<u32>>>,
}

/// What a run collected, module by module.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Values of the complete modules.
    pub(super) values: Vec<Value>,
    /// Definitions of the objects that the values name.
    pub(super) definitions: Vec<Definition>,
    /// Readings of counters that were no samples.
    pub(super) refused: u64,
}

impl Device {
    pub(super) fn new(
        check: CheckId,
        session: Library,
        is_v3: bool,
        modules: Vec<Arc<Module>>,
    ) -> Self {
        Self {
            check,
            session,
            is_v3,
            modules,
            window: Window::new(),
            state: Mutex::default(),
        }
    }

    /// Counters of the device.
    pub(super) fn traffic(&self) -> &Traffic {
        self.session.traffic()
    }

    /// Runs all modules one after the other: many small devices answer one request at a time. What is complete is in
    /// `gathered` even if a later module fails or the caller gives up.
    pub(super) async fn scrape(
        &self,
        ids: &ObjectIds,
        gathered: &Mutex<Gathered>,
    ) -> Result<(), Failure> {
        let failures = self.state().failures;
        if self.is_v3 && failures >= FAILURES_BEFORE_REDISCOVERY {
            self.session.rediscover().await?;
        }
        for (place, module) in self.modules.iter().enumerate() {
            let known = self
                .state()
                .found
                .get(&place)
                .map(|found| found.indexes.clone())
                .unwrap_or_default();
            let scrape = scrape(&self.session, module, &known, &self.window).await?;
            let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            self.add(place, module, scrape, ids, &mut gathered);
        }
        Ok(())
    }

    /// Remembers how the run ended.
    pub(super) fn note_end(&self, ended_well: bool) {
        let mut state = self.state();
        state.failures = if ended_well {
            0
        } else {
            state.failures.saturating_add(1)
        };
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(
        &self,
        place: usize,
        module: &Module,
        scrape: Scrape,
        ids: &ObjectIds,
        gathered: &mut Gathered,
    ) {
        let mut named: HashSet<Metric> = scrape.own.iter().map(|(metric, _)| *metric).collect();
        let mut state = self.state();
        let at = Instant::now();
        let mut own = scrape.own;
        let up_time = own
            .iter()
            .find(|(metric, _)| *metric == metric::SYS_UP_TIME)
            .map(|(_, ticks)| *ticks);
        if let Some(ticks) = up_time {
            state.up_time.read(ticks, at);
        }
        let moment = Moment {
            at,
            restarts: state.up_time.restarts(),
            nature: &|metric| module.nature(metric),
        };
        let history = state.own.get_or_insert_with(|| History::new(ObjectId(0)));
        let mut refused = history.judge(module.device_kind, &mut own, &moment);
        if up_time.is_some() {
            own.push((metric::SNMP_REBOOTS, moment.restarts));
        }
        let own = own.into_iter();
        gathered
            .values
            .extend(own.map(|(metric, raw)| own_value(metric, raw)));
        let mut known = state.found.remove(&place).unwrap_or_default();
        let mut found = HashMap::with_capacity(scrape.objects.len());
        for Found {
            kind,
            key,
            labels,
            mut values,
        } in scrape.objects
        {
            let key = (kind, key);
            let history = known.objects.remove(&key);
            let mut history = history.unwrap_or_else(|| History::new(ids.allocate()));
            let object = history.id;
            refused += history.judge(kind, &mut values, &moment);
            named.extend(values.iter().map(|(metric, _)| *metric));
            gathered
                .values
                .extend(values.into_iter().map(|(metric, raw)| Value {
                    metric,
                    object,
                    raw,
                }));
            gathered.definitions.push(Definition {
                object,
                check: self.check,
                kind,
                labels,
            });
            found.insert(key, history);
        }
        gathered.refused += refused;
        let meanings = module
            .series()
            .filter(|series| named.contains(&series.number));
        gathered
            .definitions
            .extend(meanings.filter_map(|series| numbers::definition(self.check, series)));
        state.found.insert(
            place,
            Remembered {
                objects: found,
                indexes: scrape.indexes,
            },
        );
    }
}
