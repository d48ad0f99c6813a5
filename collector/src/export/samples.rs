//! From log records to samples: which series a value belongs to.
//!
//! - Labels of a check come from the catalogue, where a check id means the same for ever; labels of interfaces come
//!   from the agent's definitions as they held at the record's place in its incarnation.
//! - A value whose object is not defined yet (live results overtake the definitions of their segment after an outage)
//!   waits for its definition; the cursor does not pass its record until then.
//! - Each result gives `probe_duration_seconds`, `probe_success` when there was a verdict, and a series with the reason
//!   when there is one; each tick gives `extranet_ap_state`, `extranet_ap_info`, what is known of IPv6 readiness,
//!   and how many security events are open.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use extranet_proto::id::ObjectId;
use extranet_proto::metric::{self, Info, Metric};
use extranet_proto::record::{Body, CheckResult, Outcome, Value};
use extranet_proto::wire;
use extranet_proto::wire::log_record::Input;

use super::remote_write::{Collected, Labels, labels};
use crate::self_stats::{Stats, count, count_many};
use crate::store::readiness::Known;
use crate::store::{Position, Store, StoreError, new_records};

/// Most results that wait for definitions; the oldest one goes first.
const WAITING_RESULTS: usize = 20_000;
/// How long a value waits for its definition, by the time of the log: longer than a spool segment takes on a village's
/// satellite link (guess).
const WAIT_US: i64 = 600_000_000;
/// Most series whose labels are remembered; beyond, all are made again.
const REMEMBERED_SERIES: usize = 2_000_000;
/// Label names that a definition cannot have: ours, which say where a value comes from.
const OURS: [&str; 7] = [
    "ap_id", "check", "family", "instance", "vrf", "vantage", "phase",
];

/// Labels of a check.
#[derive(Debug)]
pub(crate) struct CheckLabels {
    pub(crate) ap_id: String,
    pub(crate) check: String,
    pub(crate) family: String,
    pub(crate) instance: String,
    pub(crate) vrf: String,
    pub(crate) vantage: String,
}

/// Definitions of one object of an incarnation: from which sequence on which labels hold.
pub(crate) type Definitions = HashMap<u32, Vec<Defined>>;

/// From which sequence on which labels hold.
pub(crate) type Defined = (u64, Arc<[(String, String)]>);

type Stream = (String, u64);

#[derive(PartialEq, Eq, Hash)]
struct SeriesKey {
    agent: String,
    check: u32,
    incarnation: u64,
    metric: u16,
    object: u32,
    /// Sequence from which the definition holds.
    defined: u64,
}

/// Values that wait for definitions.
struct Waiting {
    stream: Stream,
    sequence: u64,
    wall_ms: i64,
    since_us: i64,
    result: CheckResult,
    /// The log record before the one that holds them.
    before: Option<Position>,
}

/// What is known of a metric.
enum Meaning {
    Known(Named),
    /// Its definition has not arrived.
    NotYet,
    /// Nobody will say.
    Never,
}

/// What a metric means.
enum Named {
    Registered(&'static Info),
    Defined(metric::Defined),
}

impl Named {
    fn name(&self) -> &str {
        match self {
            Self::Registered(info) => info.name,
            Self::Defined(defined) => &defined.name,
        }
    }

    fn label(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Registered(info) => info.label,
            Self::Defined(_) => None,
        }
    }

    fn exported(&self, raw: u64) -> f64 {
        match self {
            Self::Registered(info) => info.exported(raw),
            Self::Defined(defined) => defined.exported(raw),
        }
    }
}

/// Makes samples; remembers labels.
pub(super) struct Sampler {
    store: Store,
    stats: Arc<Stats>,
    checks: HashMap<(String, u32), Option<Arc<CheckLabels>>>,
    definitions: HashMap<Stream, Arc<Definitions>>,
    series: HashMap<SeriesKey, Labels>,
    waiting: VecDeque<Waiting>,
    last: Option<Position>,
}

impl Sampler {
    /// `last` is the log record before the first one that will come.
    pub(super) fn new(store: Store, stats: Arc<Stats>, last: Option<Position>) -> Self {
        Self {
            store,
            stats,
            checks: HashMap::new(),
            definitions: HashMap::new(),
            series: HashMap::new(),
            waiting: VecDeque::new(),
            last,
        }
    }

    /// The last record that is not needed any more once everything collected so far has been sent.
    pub(super) fn done_through(&self) -> Option<Position> {
        match self.waiting.front() {
            Some(oldest) => oldest.before,
            None => self.last,
        }
    }

    /// Adds what a log record gives. The catalogue must hold the record already.
    pub(super) fn record(
        &mut self,
        position: Position,
        record: &wire::LogRecord,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        let before = self.last;
        match &record.input {
            Some(Input::Batch(batch)) => self.batch(batch, record.wall_us, before, collected)?,
            Some(Input::Tick(_)) => {
                self.tick(record.wall_us, collected)?;
                self.expire(record.wall_us);
            }
            _ => {}
        }
        self.last = Some(position);
        Ok(())
    }

    fn batch(
        &mut self,
        batch: &wire::LoggedBatch,
        now_us: i64,
        before: Option<Position>,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        let stream: Stream = (batch.agent_id.clone(), batch.incarnation);
        let records = match new_records(batch) {
            Ok(records) => records,
            Err(reason) => {
                count(&self.stats.export_dropped, reason);
                return Ok(());
            }
        };
        let defines = |body: &Body| matches!(body, Body::Definition(_));
        if records.iter().any(|(_, _, record)| defines(&record.body)) {
            self.definitions.remove(&stream);
            self.series
                .retain(|key, _| key.object == 0 || key.incarnation != stream.1);
            self.retry(&stream, collected)?;
        }
        for (sequence, wall_ms, record) in records {
            let Body::Result(mut result) = record.body else {
                continue;
            };
            let undefined = self.result(&stream, sequence, wall_ms, &result, true, collected)?;
            if !undefined.is_empty() {
                result.values = undefined;
                self.waiting.push_back(Waiting {
                    stream: stream.clone(),
                    sequence,
                    wall_ms,
                    since_us: now_us,
                    result,
                    before,
                });
            }
        }
        while self.waiting.len() > WAITING_RESULTS {
            self.give_up();
        }
        Ok(())
    }

    /// Adds the samples of a result and returns the values whose objects are not defined.
    fn result(
        &mut self,
        stream: &Stream,
        sequence: u64,
        wall_ms: i64,
        result: &CheckResult,
        first_time: bool,
        collected: &mut Collected,
    ) -> Result<Vec<Value>, StoreError> {
        let Some(check) = self.check(&stream.0, result.check.0)? else {
            count_many(
                &self.stats.export_dropped,
                "unknown_check",
                result.values.len() as u64 + 1,
            );
            return Ok(Vec::new());
        };
        if first_time {
            verdict(&check, result, wall_ms, collected);
        }
        let mut undefined = Vec::new();
        for value in &result.values {
            let meaning = match self.meaning(stream, value.metric, sequence)? {
                Meaning::Known(meaning) => meaning,
                Meaning::NotYet => {
                    undefined.push(*value);
                    continue;
                }
                Meaning::Never => {
                    count(&self.stats.export_dropped, "unknown_metric");
                    continue;
                }
            };
            let Some((defined, object)) = self.defined(stream, value.object, sequence)? else {
                undefined.push(*value);
                continue;
            };
            let key = SeriesKey {
                agent: stream.0.clone(),
                check: result.check.0,
                incarnation: if value.object.0 == 0 && !value.metric.is_defined() {
                    0
                } else {
                    stream.1
                },
                metric: value.metric.0,
                object: value.object.0,
                defined,
            };
            if self.series.len() > REMEMBERED_SERIES {
                self.series.clear();
            }
            let series = self.series.entry(key).or_insert_with(|| {
                let label = meaning.label().into_iter();
                let ours = pairs(&check, meaning.name()).into_iter().chain(label);
                let theirs = object
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()));
                labels(ours.chain(theirs.filter(|(name, _)| is_usable(name))))
            });
            collected.push(Arc::clone(series), wall_ms, meaning.exported(value.raw));
        }
        Ok(undefined)
    }

    /// What a metric means: by the registry, or by the definition of the agent as it held at a sequence.
    fn meaning(
        &mut self,
        stream: &Stream,
        metric: Metric,
        sequence: u64,
    ) -> Result<Meaning, StoreError> {
        if let Some(info) = metric.info() {
            return Ok(Meaning::Known(Named::Registered(info)));
        }
        if !metric.is_defined() {
            return Ok(Meaning::Never);
        }
        let defined = self.defined(stream, metric.definition_object(), sequence)?;
        Ok(match defined {
            None => Meaning::NotYet,
            Some((_, labels)) => metric::Defined::from_labels(&labels)
                .map_or(Meaning::Never, |defined| {
                    Meaning::Known(Named::Defined(defined))
                }),
        })
    }

    /// Labels of an object as they held at a sequence, and from which sequence on; those nearest behind it when none
    /// held before (definitions are sent with the first results that use them, in the same block or a later one).
    fn defined(
        &mut self,
        stream: &Stream,
        object: ObjectId,
        sequence: u64,
    ) -> Result<Option<Defined>, StoreError> {
        if object.0 == 0 {
            return Ok(Some((0, Arc::from([]))));
        }
        let definitions = if let Some(definitions) = self.definitions.get(stream) {
            Arc::clone(definitions)
        } else {
            let loaded = Arc::new(self.store.definitions(&stream.0, stream.1)?);
            self.definitions.insert(stream.clone(), Arc::clone(&loaded));
            loaded
        };
        Ok(definitions.get(&object.0).and_then(|versions| {
            let behind = versions.partition_point(|(from, _)| *from <= sequence);
            versions.get(behind.saturating_sub(1)).cloned()
        }))
    }

    /// A definition of this stream arrived: values that waited may go now.
    fn retry(&mut self, stream: &Stream, collected: &mut Collected) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut self.waiting);
        for mut one in waiting {
            if one.stream == *stream {
                one.result.values = self.result(
                    stream,
                    one.sequence,
                    one.wall_ms,
                    &one.result,
                    false,
                    collected,
                )?;
                if one.result.values.is_empty() {
                    continue;
                }
            }
            self.waiting.push_back(one);
        }
        Ok(())
    }

    fn expire(&mut self, now_us: i64) {
        let late = |one: &Waiting| (now_us - one.since_us).abs() > WAIT_US;
        while self.waiting.front().is_some_and(late) {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        if let Some(one) = self.waiting.pop_front() {
            count_many(
                &self.stats.export_dropped,
                "undefined_object",
                one.result.values.len() as u64,
            );
        }
    }

    fn check(&mut self, agent: &str, check: u32) -> Result<Option<Arc<CheckLabels>>, StoreError> {
        let key = (agent.to_owned(), check);
        if let Some(known) = self.checks.get(&key) {
            return Ok(known.clone());
        }
        let found = self.store.check_labels(agent, check)?.map(Arc::new);
        self.checks.insert(key, found.clone());
        Ok(found)
    }

    fn tick(&self, wall_us: i64, collected: &mut Collected) -> Result<(), StoreError> {
        let at = wall_us.div_euclid(1_000);
        for (ap, state) in self.store.states_at(wall_us)? {
            let series = labels([("__name__", "extranet_ap_state"), ("ap_id", &ap.ap_id)]);
            collected.push(series, at, f64::from(state.number()));
            let series = labels([
                ("__name__", "extranet_ap_info"),
                ("ap_id", &ap.ap_id),
                ("name", &ap.name),
                ("level", &ap.level),
                ("parent", &ap.parent),
                ("medium", &ap.medium),
                ("division", &ap.division_code),
                ("monitoring", &ap.monitoring),
            ]);
            collected.push(series, at, 1.0);
        }
        for (ap_id, known) in self.store.ipv6_at(wall_us)? {
            readiness(&ap_id, &known, at, collected);
        }
        for open in self.store.security_at(wall_us)? {
            let series = labels([
                ("__name__", "extranet_security_events_open"),
                ("ap_id", &open.ap_id),
                ("rule", open.rule.label()),
                ("severity", open.severity.label()),
            ]);
            collected.push(series, at, f64::from(open.open));
        }
        Ok(())
    }
}

/// Level and score. A score that does not count has a name of its own, so that no average takes it in (V6-S1).
fn readiness(ap_id: &str, known: &Known, wall_ms: i64, collected: &mut Collected) {
    let mut push = |name: &str, value: f64| {
        let series = labels([("__name__", name), ("ap_id", ap_id)]);
        collected.push(series, wall_ms, value);
    };
    push("extranet_ipv6_level", known.level.into());
    push("extranet_ipv6_level_possible", known.possible.into());
    push("extranet_ipv6_provisional", f64::from(!known.sufficient));
    if let Some(hundredths) = known.hundredths {
        let name = if known.sufficient {
            "extranet_ipv6_score"
        } else {
            "extranet_ipv6_score_provisional"
        };
        push(name, f64::from(hundredths) / 100.0);
    }
}

/// Success, duration and reason of a run.
fn verdict(check: &CheckLabels, result: &CheckResult, wall_ms: i64, collected: &mut Collected) {
    let series = |name: &str| labels(pairs(check, name));
    let duration = result.duration_us as f64 / 1e6;
    collected.push(series("probe_duration_seconds"), wall_ms, duration);
    let (success, failed) = match result.outcome {
        Outcome::Ok => (Some(1.0), None),
        Outcome::Failed => (Some(0.0), Some("extranet_probe_failed")),
        Outcome::NotMeasured => (None, Some("extranet_probe_not_measured")),
    };
    if let Some(success) = success {
        collected.push(series("probe_success"), wall_ms, success);
    }
    if let Some(name) = failed {
        let reason = [("reason", result.reason.label())];
        collected.push(
            labels(pairs(check, name).into_iter().chain(reason)),
            wall_ms,
            1.0,
        );
    }
}

fn pairs<'a>(check: &'a CheckLabels, name: &'a str) -> [(&'a str, &'a str); 7] {
    [
        ("__name__", name),
        ("ap_id", &check.ap_id),
        ("check", &check.check),
        ("family", &check.family),
        ("instance", &check.instance),
        ("vrf", &check.vrf),
        ("vantage", &check.vantage),
    ]
}

/// Whether a definition may use a label name: a Prometheus name that is neither ours nor reserved.
fn is_usable(name: &str) -> bool {
    let mut characters = name.chars();
    let first = characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with("__")
        && !OURS.contains(&name)
}
