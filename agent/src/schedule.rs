//! Decides when each check runs.
//!
//! - Phases are spread by hash: a check starts where `boot clock mod interval` equals
//!   `hash(agent, check) mod interval`, so that neither the checks of an agent nor the agents of a fleet beat together,
//!   and a new assignment moves nobody.
//! - A check that is new to this process runs for the first time within [`FIRST_RUN_SPREAD`], so that a technician
//!   sees values before he leaves.
//! - A run that is late is skipped and counted, never bunched with others: after a suspended minute the next regular
//!   run comes, not sixty.
//! - A daily budget is kept by longer intervals ([`crate::account`]), in phases of their own.
//! - Every run is a task of its own with a deadline, so that a hanging target delays nobody.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use extranet_proto::id::{AgentId, CheckId};
use extranet_proto::record::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout_at};

use crate::account::Account;
use crate::clock::Clock;
use crate::control::{Plan, PlannedCheck};
use crate::probe::Measured;
use crate::self_stats::{Stats, count};
use crate::shell::{Shutdown, Stage, spawn_named};

/// A new check's first run is spread over this time, or its interval when that is shorter.
pub const FIRST_RUN_SPREAD: Duration = Duration::from_secs(10);
/// A run that starts later than this, or than half its interval, is skipped. A guess: far above the delays of a busy
/// machine, far below what would bunch checks after a suspend.
const LATE: Duration = Duration::from_secs(5);
/// Runs at the same time. A guess: 50 checks of a county agent with all targets hanging fit five times over.
const CONCURRENT_RUNS: u32 = 256;
/// What a probe may take beyond its deadline, to report what it has, before it is cut off.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);
/// How often the stretch of the intervals is worked out again.
const ADJUSTMENT: Duration = Duration::from_secs(10);
/// Skipped runs are reported at most this often.
const SKIPPED_REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// Runs one check now.
pub trait Prober: Clone + Send + Sync + 'static {
    /// Measures, at the latest until `deadline`.
    fn run(
        &self,
        planned: &PlannedCheck,
        deadline: Instant,
    ) -> impl Future<Output = Measured> + Send;

    /// A plan is about to be measured.
    fn prepare(&self, _plan: &Plan) {}
}

/// Takes what comes out. Must not block.
pub trait Results: Clone + Send + Sync + 'static {
    /// A run ended.
    fn result(&self, planned: &PlannedCheck, measured: Measured);
    /// So many runs did not take place.
    fn skipped(&self, many: u64);
}

/// Starts the runs of one agent.
#[derive(Debug)]
pub struct Schedule<P, R> {
    agent: AgentId,
    prober: P,
    results: R,
    stats: Arc<Stats>,
    account: Account,
    permits: Arc<Semaphore>,
    /// The same moment on the timer's clock and on the boot clock, µs.
    anchor: (Instant, u64),
    checks: Vec<Scheduled>,
    /// When the check with this index starts next.
    due: BTreeSet<(Instant, usize)>,
    skipped: u64,
    skipped_reported: Option<Instant>,
}

#[derive(Debug)]
struct Scheduled {
    planned: Arc<PlannedCheck>,
    running: Arc<AtomicBool>,
}

/// Held by a run; ends it on being dropped, by a panic too.
struct Running {
    _permit: OwnedSemaphorePermit,
    flag: Arc<AtomicBool>,
    stats: Arc<Stats>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.flag.store(false, Ordering::Release);
        self.stats.schedule_running.dec();
    }
}

impl<P: Prober, R: Results> Schedule<P, R> {
    /// Without any check yet.
    pub fn new(agent: AgentId, prober: P, results: R, clock: &Clock, stats: Arc<Stats>) -> Self {
        Self {
            agent,
            prober,
            results,
            stats,
            account: Account::new(clock.clone()),
            permits: Arc::new(Semaphore::new(CONCURRENT_RUNS as usize)),
            anchor: (Instant::now(), clock.read().boottime_us),
            checks: Vec::new(),
            due: BTreeSet::new(),
            skipped: 0,
            skipped_reported: None,
        }
    }

    /// The same, but within the daily budget that an account keeps.
    #[must_use]
    pub fn with_account(mut self, account: Account) -> Self {
        self.account = account;
        self
    }

    /// Follows the plan until the shutdown begins, then waits for the runs in hand.
    pub async fn run(mut self, mut plans: watch::Receiver<Arc<Plan>>, shutdown: Shutdown) {
        let plan = Arc::clone(&plans.borrow_and_update());
        self.follow(&plan, Instant::now());
        let mut adjustment = tokio::time::interval_at(Instant::now() + ADJUSTMENT, ADJUSTMENT);
        adjustment.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = self.due.first().map(|(at, _)| *at);
            tokio::select! {
                () = shutdown.reached(Stage::NoNewWork) => break,
                changed = plans.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let plan = Arc::clone(&plans.borrow_and_update());
                    self.follow(&plan, Instant::now());
                }
                _ = adjustment.tick() => {
                    if self.account.adjust() {
                        self.change_rhythm(Instant::now());
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.start_due(Instant::now());
                }
            }
        }
        self.report_skipped(Instant::now(), true);
        tokio::select! {
            all = self.permits.acquire_many(CONCURRENT_RUNS) => drop(all),
            () = shutdown.reached(Stage::Flush) => {}
        }
    }

    /// The stretch changed: every check goes on in the phase of its new interval.
    fn change_rhythm(&mut self, now: Instant) {
        self.due = self
            .checks
            .iter()
            .enumerate()
            .map(|(index, scheduled)| (self.next_in_phase(&scheduled.planned, now), index))
            .collect();
    }

    /// Takes over another plan. A check that goes on keeps its rhythm; its id stands for its content.
    fn follow(&mut self, plan: &Plan, now: Instant) {
        let known: HashMap<CheckId, Arc<AtomicBool>> = self
            .checks
            .iter()
            .map(|scheduled| {
                let id = scheduled.planned.check.id;
                (id, Arc::clone(&scheduled.running))
            })
            .collect();
        self.due.clear();
        self.checks.clear();
        self.account.follow(plan);
        for (index, planned) in plan.checks.iter().enumerate() {
            let known = known.get(&planned.check.id);
            let start = match known {
                Some(_) => self.next_in_phase(planned, now),
                None => now + self.first_run_delay(planned),
            };
            self.due.insert((start, index));
            self.checks.push(Scheduled {
                planned: Arc::clone(planned),
                running: known.map(Arc::clone).unwrap_or_default(),
            });
        }
    }

    fn hash(&self, planned: &PlannedCheck) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.agent.hash(&mut hasher);
        planned.check.id.hash(&mut hasher);
        hasher.finish()
    }

    fn first_run_delay(&self, planned: &PlannedCheck) -> Duration {
        let spread = micros(FIRST_RUN_SPREAD.min(planned.check.interval)).max(1);
        Duration::from_micros(self.hash(planned) % spread)
    }

    /// The first moment after `now` that has the phase of the check.
    fn next_in_phase(&self, planned: &PlannedCheck, now: Instant) -> Instant {
        let interval = micros(self.account.interval(planned)).max(1);
        let phase = self.hash(planned) % interval;
        let since_anchor = micros(now.saturating_duration_since(self.anchor.0));
        let boottime = self.anchor.1.saturating_add(since_anchor);
        let into = (boottime % interval + interval - phase) % interval;
        now + Duration::from_micros(interval - into)
    }

    fn start_due(&mut self, now: Instant) {
        while let Some((at, index)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, index));
            let Some(scheduled) = self.checks.get(index) else {
                continue;
            };
            let planned = Arc::clone(&scheduled.planned);
            let interval = self.account.interval(&planned);
            let late_by = now.saturating_duration_since(at);
            let mut next = self.next_in_phase(&planned, now);
            if late_by > LATE.min(interval / 2) {
                let missed = micros(late_by) / micros(interval).max(1) + 1;
                self.skip("late", missed);
            } else {
                self.start(index, &planned, now);
                // After the first run, which has no phase, the second must not follow at once.
                if next.saturating_duration_since(now) < interval / 2 {
                    next += interval;
                }
            }
            self.due.insert((next, index));
        }
        self.report_skipped(now, false);
    }

    fn start(&mut self, index: usize, planned: &Arc<PlannedCheck>, now: Instant) {
        let Some(scheduled) = self.checks.get(index) else {
            return;
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.skip("busy", 1);
            return;
        };
        if scheduled.running.swap(true, Ordering::AcqRel) {
            self.skip("overlap", 1);
            return;
        }
        let running = Running {
            _permit: permit,
            flag: Arc::clone(&scheduled.running),
            stats: Arc::clone(&self.stats),
        };
        self.stats.schedule_running.inc();
        self.stats.schedule_runs.inc();
        let (prober, results) = (self.prober.clone(), self.results.clone());
        let planned = Arc::clone(planned);
        let account = self.account.clone();
        spawn_named("probe", async move {
            let running = running;
            let measured = run_once(&prober, &planned, now).await;
            account.run_ended(planned.check.id);
            count(&running.stats.probe_runs, measured.reason.label(), 1);
            results.result(&planned, measured);
        });
    }

    fn skip(&mut self, reason: &'static str, many: u64) {
        self.skipped += many;
        count(&self.stats.schedule_skipped, reason, many);
    }

    /// Tells of skipped runs: the first at once, then sums.
    fn report_skipped(&mut self, now: Instant, finally: bool) {
        let again = self
            .skipped_reported
            .is_none_or(|at| now.saturating_duration_since(at) >= SKIPPED_REPORT_INTERVAL);
        if self.skipped > 0 && (again || finally) {
            self.results.skipped(self.skipped);
            self.skipped = 0;
            self.skipped_reported = Some(now);
        }
    }
}

/// One run with its deadline. A probe that overstays it says nothing about its target.
pub async fn run_once(prober: &impl Prober, planned: &PlannedCheck, start: Instant) -> Measured {
    let longest = planned.check.longest_run();
    let deadline = start + longest;
    timeout_at(deadline + DEADLINE_GRACE, prober.run(planned, deadline))
        .await
        .unwrap_or_else(|_| {
            tracing::warn!(check = %planned.check.name, "probe overstayed its deadline");
            Measured::not_measured(Reason::LocalError, longest)
        })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod budget_tests;
