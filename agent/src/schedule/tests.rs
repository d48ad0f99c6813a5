//! The schedule in paused time: hours pass in milliseconds, and every start is known to the millisecond.

use std::collections::BTreeMap;
use std::sync::Mutex;

use extranet_proto::assignment::{Check, Family, Probe, Target, TargetAddress, TcpProbe};
use extranet_proto::id::{AssignmentVersion, CheckName, TargetId};
use extranet_proto::record::Outcome;

use super::*;
use crate::clock::{ManualClock, Reading};
use crate::shell::{ShutdownTrigger, shutdown};

/// What the fake probe does with a check.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Answer,
    /// Never, whatever its deadline says.
    Hang,
    Panic,
}

#[derive(Debug, Clone, Default)]
struct Fake {
    manners: Arc<Mutex<BTreeMap<u32, Manner>>>,
    starts: Arc<Mutex<Vec<(u32, Instant)>>>,
    results: Arc<Mutex<Vec<(u32, Measured, Instant)>>>,
    skipped: Arc<Mutex<Vec<u64>>>,
}

impl Prober for Fake {
    async fn run(&self, planned: &PlannedCheck, _deadline: Instant) -> Measured {
        let id = planned.check.id.0;
        self.starts.lock().unwrap().push((id, Instant::now()));
        let manner = self.manners.lock().unwrap().get(&id).copied();
        match manner.unwrap_or(Manner::Answer) {
            Manner::Answer => Measured::ok(Duration::from_millis(1), Vec::new()),
            Manner::Hang => std::future::pending().await,
            Manner::Panic => panic!("on purpose"),
        }
    }
}

impl Results for Fake {
    fn result(&self, planned: &PlannedCheck, measured: Measured) {
        let entry = (planned.check.id.0, measured, Instant::now());
        self.results.lock().unwrap().push(entry);
    }

    fn skipped(&self, many: u64) {
        self.skipped.lock().unwrap().push(many);
    }
}

impl Fake {
    fn starts_of(&self, id: u32) -> Vec<Instant> {
        let starts = self.starts.lock().unwrap();
        starts
            .iter()
            .filter(|(of, _)| *of == id)
            .map(|(_, at)| *at)
            .collect()
    }
}

fn plan(checks: &[(u32, Duration, Duration)]) -> Arc<Plan> {
    let planned = |(id, interval, timeout): &(u32, Duration, Duration)| {
        Arc::new(PlannedCheck {
            assignment: AssignmentVersion(1),
            check: Check {
                stretch_last: false,
                id: CheckId(*id),
                target: TargetId(1),
                name: CheckName::new(format!("check-{id}")).unwrap(),
                family: Family::V4,
                interval: *interval,
                timeout: *timeout,
                probe: Probe::Tcp(TcpProbe::to(1)),
            },
            target: Target {
                id: TargetId(1),
                vrf: String::new(),
                address: TargetAddress::Ip("127.0.0.1".parse().unwrap()),
            },
        })
    };
    Arc::new(Plan {
        version: AssignmentVersion(1),
        flush_interval: Duration::ZERO,
        daily_budget: 0,
        checks: checks.iter().map(planned).collect(),
        problems: Vec::new(),
        security: extranet_proto::assignment::Security::default(),
        snmp_modules: Vec::new(),
    })
}

struct Bench {
    fake: Fake,
    stats: Arc<Stats>,
    plans: watch::Sender<Arc<Plan>>,
    trigger: ShutdownTrigger,
    task: tokio::task::JoinHandle<()>,
}

/// A running schedule; the boot clock stands at `boottime_s` when it begins.
fn start(fake: &Fake, boottime_s: u64, first: Arc<Plan>) -> Bench {
    let clock = ManualClock::new(Reading {
        wall_us: 0,
        boottime_us: boottime_s * 1_000_000,
        synchronised: true,
    });
    let stats = Arc::new(Stats::new());
    let (trigger, stop) = shutdown();
    let (plans, receiver) = watch::channel(first);
    let schedule = Schedule::new(
        AgentId::new("agent-1").unwrap(),
        fake.clone(),
        fake.clone(),
        &clock.clock(),
        Arc::clone(&stats),
    );
    let task = spawn_named("schedule", schedule.run(receiver, stop));
    Bench {
        fake: fake.clone(),
        stats,
        plans,
        trigger,
        task,
    }
}

impl Bench {
    async fn stop(self) -> Fake {
        self.trigger.advance(Stage::NoNewWork);
        let finished = async { self.task.await.unwrap() };
        tokio::time::timeout(Duration::from_secs(10), finished)
            .await
            .unwrap();
        self.fake
    }

    fn skips(&self, reason: &'static str) -> u64 {
        self.stats
            .schedule_skipped
            .get_or_create(&[("reason", reason)])
            .get()
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn runs_keep_their_interval_and_phases_are_spread() {
    let checks: Vec<_> = (1..=40).map(|id| (id, MINUTE, SECOND)).collect();
    let begin = Instant::now();
    let bench = start(&Fake::default(), 1_000, plan(&checks));
    tokio::time::sleep(MINUTE * 10).await;
    let fake = bench.stop().await;
    let mut phases = Vec::new();
    for id in 1..=40 {
        let starts = fake.starts_of(id);
        assert!(
            (10..=11).contains(&starts.len()),
            "check {id}: {}",
            starts.len()
        );
        assert!(
            starts[0] - begin <= FIRST_RUN_SPREAD,
            "values soon after the start"
        );
        assert!(starts[1] - starts[0] >= MINUTE / 2);
        assert!(starts[1] - starts[0] <= MINUTE * 3 / 2);
        for pair in starts[1..].windows(2) {
            let apart = pair[1] - pair[0];
            assert!(
                apart.abs_diff(MINUTE) <= Duration::from_millis(2),
                "{apart:?}"
            );
        }
        phases.push((starts[1] - begin).as_millis() % 60_000);
    }
    phases.sort_unstable();
    let in_each_quarter = (0..4).map(|quarter| {
        phases
            .iter()
            .filter(|phase| **phase / 15_000 == quarter)
            .count()
    });
    assert!(in_each_quarter.clone().all(|many| many >= 3), "{phases:?}");
}

#[tokio::test(start_paused = true)]
async fn the_phase_belongs_to_the_boot_clock_not_to_the_process() {
    let phase_after = async |boottime_s: u64| {
        let begin = Instant::now();
        let bench = start(&Fake::default(), boottime_s, plan(&[(7, MINUTE, SECOND)]));
        tokio::time::sleep(MINUTE * 4).await;
        let fake = bench.stop().await;
        let at = *fake.starts_of(7).last().unwrap() - begin;
        (u128::from(boottime_s) * 1_000 + at.as_millis()) % 60_000
    };
    let (first, second) = (phase_after(1_000).await, phase_after(98_765).await);
    assert!(first.abs_diff(second) <= 2, "{first} and {second}");
}

#[tokio::test(start_paused = true)]
async fn a_new_plan_moves_nobody_and_starts_what_is_new() {
    let bench = start(&Fake::default(), 1_000, plan(&[(1, MINUTE, SECOND)]));
    tokio::time::sleep(MINUTE * 3).await;
    let before = bench.fake.starts_of(1);
    let changed = Instant::now();
    bench
        .plans
        .send_replace(plan(&[(1, MINUTE, SECOND), (2, MINUTE, SECOND)]));
    tokio::time::sleep(MINUTE * 3).await;
    let removed = Instant::now();
    bench.plans.send_replace(plan(&[(2, MINUTE, SECOND)]));
    tokio::time::sleep(MINUTE * 3).await;
    let fake = bench.stop().await;
    let all = fake.starts_of(1);
    for pair in all[1..].windows(2) {
        assert!((pair[1] - pair[0]).abs_diff(MINUTE) <= Duration::from_millis(2));
    }
    assert!(all.len() > before.len());
    assert!(all.iter().all(|at| *at <= removed), "not planned any more");
    let new = fake.starts_of(2);
    assert!(new[0] >= changed && new[0] - changed <= FIRST_RUN_SPREAD);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_delays_nobody_and_is_not_run_twice() {
    let fake = Fake::default();
    fake.manners.lock().unwrap().insert(1, Manner::Hang);
    let checks = [(1, SECOND * 10, SECOND * 25), (2, SECOND * 10, SECOND)];
    let bench = start(&fake, 1_000, plan(&checks));
    tokio::time::sleep(MINUTE * 5).await;
    assert!(bench.skips("overlap") >= 10, "{}", bench.skips("overlap"));
    let fake = bench.stop().await;
    assert!(
        fake.starts_of(2).len() >= 30,
        "the other check keeps its rhythm"
    );
    let hung = fake.starts_of(1);
    for pair in hung.windows(2) {
        assert!(pair[1] - pair[0] >= SECOND * 26, "one run at a time");
    }
    let results = fake.results.lock().unwrap();
    let cut_off = results.iter().find(|(id, ..)| *id == 1).unwrap();
    assert_eq!(
        cut_off.1.outcome,
        Outcome::NotMeasured,
        "the probe's fault, not the target's"
    );
    assert_eq!(cut_off.1.reason, Reason::LocalError);
    assert_eq!(cut_off.2 - hung[0], SECOND * 26);
}

#[tokio::test(start_paused = true)]
async fn late_runs_are_skipped_and_counted_not_bunched() {
    let checks: Vec<_> = (1..=5).map(|id| (id, SECOND * 10, SECOND)).collect();
    let bench = start(&Fake::default(), 1_000, plan(&checks));
    tokio::time::sleep(MINUTE).await;
    let before = bench.fake.starts.lock().unwrap().len();
    // The machine sleeps for ten minutes: nothing runs meanwhile.
    tokio::time::advance(MINUTE * 10).await;
    let awake = Instant::now();
    tokio::time::sleep(SECOND * 10).await;
    let after: Vec<(u32, Instant)> = bench.fake.starts.lock().unwrap()[before..].to_vec();
    for id in 1..=5 {
        let many = after.iter().filter(|(of, _)| *of == id).count();
        assert!(
            (1..=2).contains(&many),
            "check {id} ran {many} times after {awake:?}"
        );
    }
    let skipped = bench.skips("late");
    // Five checks, sixty intervals each; of those due at the end a few were not late yet.
    assert!((290..=305).contains(&skipped), "{skipped}");
    let fake = bench.stop().await;
    let told: u64 = fake.skipped.lock().unwrap().iter().sum();
    assert_eq!(
        told, skipped,
        "all are told, at the latest when the schedule ends"
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_costs_its_own_run_only() {
    let fake = Fake::default();
    fake.manners.lock().unwrap().insert(1, Manner::Panic);
    let bench = start(
        &fake,
        1_000,
        plan(&[(1, MINUTE, SECOND), (2, MINUTE, SECOND)]),
    );
    tokio::time::sleep(MINUTE * 4).await;
    let fake = bench.stop().await;
    assert!(fake.starts_of(1).len() >= 4, "tried again and again");
    assert!(fake.starts_of(2).len() >= 4);
}

#[tokio::test(start_paused = true)]
async fn runs_at_the_same_time_are_bounded() {
    let fake = Fake::default();
    let many = CONCURRENT_RUNS + 50;
    for id in 1..=many {
        fake.manners.lock().unwrap().insert(id, Manner::Hang);
    }
    let checks: Vec<_> = (1..=many).map(|id| (id, MINUTE, MINUTE)).collect();
    let bench = start(&fake, 1_000, plan(&checks));
    tokio::time::sleep(SECOND * 15).await;
    assert_eq!(
        bench.fake.starts.lock().unwrap().len(),
        CONCURRENT_RUNS as usize
    );
    assert_eq!(
        bench.stats.schedule_running.get(),
        i64::from(CONCURRENT_RUNS)
    );
    assert_eq!(bench.skips("busy"), 50);
    bench.trigger.advance(Stage::Stop);
    bench.task.await.unwrap();
}
