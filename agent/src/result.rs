//! Turns what was measured into records with times, notices changes, and hands both to the spool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use extranet_proto::id::CheckId;
use extranet_proto::limits;
use extranet_proto::record::{
    AgentEvent, Body, CheckResult, EventKind, Outcome, Reason, Record, SecurityEvent,
};

use crate::clock::{Clock, Reading};
use crate::control::{Plan, PlannedCheck};
use crate::probe::Measured;
use crate::schedule::Results;
use crate::self_stats::Stats;
use crate::spool::Spool;

/// The wall clock may drift this far against the boot clock before that counts as a step, µs. NTP slews at most 0.5 ms
/// a second, so ordinary discipline stays below for a quarter of an hour and is then worth a new estimate anyway.
const CLOCK_STEP_US: i64 = 500_000;

/// Makes records; cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    spool: Spool,
    stats: Arc<Stats>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last outcome of each check of the plan.
    outcomes: HashMap<CheckId, Outcome>,
    /// Where the boot lay on the wall clock when we last looked.
    boot_wall_us: i64,
}

impl Recorder {
    /// Notices clock steps from now on.
    pub fn new(clock: Clock, spool: Spool, stats: Arc<Stats>) -> Self {
        let boot_wall_us = clock.read().boot_wall_us();
        Self(Arc::new(Inner {
            clock,
            spool,
            stats,
            state: Mutex::new(State {
                outcomes: HashMap::new(),
                boot_wall_us,
            }),
        }))
    }

    /// Records something that happened to the agent. Events are sent at once.
    pub fn event(&self, kind: EventKind, value: i64, text: &str) {
        let reading = self.read_clock();
        self.append(vec![event(&reading, kind, value, text)], true);
    }

    /// Records something that endangers the site, or no longer does. Sent at once.
    pub fn security(&self, event: SecurityEvent) {
        let time = self.read_clock().record_time();
        let body = Body::Security(event);
        self.append(vec![Record { time, body }], true);
    }

    /// Reads the clock, and records when the wall clock was stepped since the last look.
    pub fn read_clock(&self) -> Reading {
        let reading = self.0.clock.read();
        let step_us = {
            let mut state = self.state();
            let step_us = reading.boot_wall_us().saturating_sub(state.boot_wall_us);
            if step_us.abs() < CLOCK_STEP_US {
                return reading;
            }
            state.boot_wall_us = reading.boot_wall_us();
            step_us
        };
        self.0.stats.result_clock_steps.inc();
        let by_ms = step_us / 1_000;
        tracing::warn!(by_ms, "the wall clock moved");
        self.append(
            vec![event(&reading, EventKind::ClockStepped, by_ms, "")],
            true,
        );
        reading
    }

    /// How often the wall clock moved; whoever tells others the time compares.
    pub fn clock_steps(&self) -> u64 {
        self.0.stats.result_clock_steps.get()
    }

    /// Forgets checks that are no longer planned.
    pub fn follow(&self, plan: &Plan) {
        let planned: std::collections::HashSet<CheckId> =
            plan.checks.iter().map(|planned| planned.check.id).collect();
        self.state()
            .outcomes
            .retain(|check, _| planned.contains(check));
    }

    /// The record of a run, at the time it ended.
    pub fn result_record(&self, planned: &PlannedCheck, measured: Measured) -> Record {
        let (mut outcome, mut reason, mut values) =
            (measured.outcome, measured.reason, measured.values);
        if values.len() > limits::RESULT_VALUES {
            (outcome, reason) = (Outcome::Failed, Reason::TooLarge);
            values.clear();
        }
        Record {
            time: self.read_clock().record_time(),
            body: Body::Result(CheckResult {
                assignment: planned.assignment,
                check: planned.check.id,
                outcome,
                reason,
                duration_us: u64::try_from(measured.duration.as_micros()).unwrap_or(u64::MAX),
                values,
            }),
        }
    }

    fn append(&self, records: Vec<Record>, urgent: bool) {
        self.0.stats.result_records.inc_by(records.len() as u64);
        self.0.spool.append(records, urgent);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Results for Recorder {
    /// A changed outcome is urgent, and so is a first one that is not good.
    fn result(&self, planned: &PlannedCheck, mut measured: Measured) {
        let outcome = measured.outcome;
        let before = self.state().outcomes.insert(planned.check.id, outcome);
        let notes = std::mem::take(&mut measured.notes);
        let urgent = before.unwrap_or(Outcome::Ok) != outcome || !notes.is_empty();
        let definitions = std::mem::take(&mut measured.definitions);
        let result = self.result_record(planned, measured);
        let mut records: Vec<Record> = definitions
            .into_iter()
            .map(|definition| Record {
                time: result.time,
                body: Body::Definition(definition),
            })
            .collect();
        records.push(result);
        if !notes.is_empty() {
            let reading = self.read_clock();
            let events = notes.iter();
            records.extend(events.map(|(kind, value, text)| event(&reading, *kind, *value, text)));
        }
        self.append(records, urgent);
    }

    fn skipped(&self, many: u64) {
        let many = i64::try_from(many).unwrap_or(i64::MAX);
        self.event(EventKind::RunsSkipped, many, "");
    }
}

/// An event at the given time, its text cut to the limit.
pub(crate) fn event(reading: &Reading, kind: EventKind, value: i64, text: &str) -> Record {
    let mut text = text.to_owned();
    text.truncate(text.floor_char_boundary(limits::EVENT_TEXT_BYTES));
    Record {
        time: reading.record_time(),
        body: Body::Event(AgentEvent { kind, value, text }),
    }
}
