//! A schedule that pays for its runs, in paused time.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use extranet_proto::assignment::{Check, Family, Probe, Target, TargetAddress};
use extranet_proto::id::{AssignmentVersion, CheckName, TargetId};

use super::*;
use crate::clock::{Reading, Source};
use crate::probe::Traffic;
use crate::shell::shutdown;

/// An address beyond every link of this machine.
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 7, 7));
/// What each run costs, bytes both ways together.
const COST: u64 = 10_000;

/// The boot clock as the paused timer has it.
#[derive(Debug)]
struct TimerClock(Instant);

impl Source for TimerClock {
    fn read(&self) -> Reading {
        let boottime_us = micros(self.0.elapsed()) + 1_000_000_000;
        Reading {
            wall_us: 0,
            boottime_us,
            synchronised: true,
        }
    }
}

/// Spends, and remembers when.
#[derive(Clone)]
struct Spender {
    account: Account,
    starts: Arc<Mutex<Vec<(u32, Instant)>>>,
}

impl Prober for Spender {
    async fn run(&self, planned: &PlannedCheck, _deadline: Instant) -> Measured {
        let id = planned.check.id;
        self.starts.lock().unwrap().push((id.0, Instant::now()));
        let traffic = Traffic {
            sent: COST / 2,
            received: COST / 2,
        };
        self.account.charge_probe(id, "", FAR, traffic);
        Measured::ok(Duration::from_millis(1), Vec::new()).costing(traffic)
    }
}

impl Results for Spender {
    fn result(&self, _planned: &PlannedCheck, _measured: Measured) {}
    fn skipped(&self, _many: u64) {}
}

fn planned(id: u32, stretch_last: bool) -> Arc<PlannedCheck> {
    Arc::new(PlannedCheck {
        assignment: AssignmentVersion(1),
        check: Check {
            id: CheckId(id),
            target: TargetId(1),
            name: CheckName::new(format!("check-{id}")).unwrap(),
            family: Family::V4,
            interval: Duration::from_mins(1),
            timeout: Duration::from_secs(1),
            stretch_last,
            probe: Probe::Traffic,
        },
        target: Target {
            id: TargetId(1),
            vrf: String::new(),
            address: TargetAddress::Ip(FAR),
        },
    })
}

#[tokio::test(start_paused = true)]
async fn no_day_costs_more_than_its_budget_and_the_important_check_keeps_its_rhythm() {
    const HOUR: Duration = Duration::from_hours(1);
    // Five checks at 10 kB a minute would be 72 MB a day.
    let budget = 40_000_000;
    let clock = Clock::new(TimerClock(Instant::now()));
    let account = Account::new(clock.clone());
    let spender = Spender {
        account: account.clone(),
        starts: Arc::default(),
    };
    let plan = Plan {
        version: AssignmentVersion(1),
        flush_interval: Duration::ZERO,
        daily_budget: budget,
        checks: (1..=5).map(|id| planned(id, id == 1)).collect(),
        problems: Vec::new(),
        security: extranet_proto::assignment::Security::default(),
        snmp_modules: Vec::new(),
    };
    let (trigger, stop) = shutdown();
    let (_plans, receiver) = watch::channel(Arc::new(plan));
    let agent = AgentId::new("agent-1").unwrap();
    let schedule = Schedule::new(
        agent,
        spender.clone(),
        spender.clone(),
        &clock,
        Arc::default(),
    )
    .with_account(account.clone());
    let begin = Instant::now();
    let task = spawn_named("schedule", schedule.run(receiver, stop));
    tokio::time::sleep(HOUR * 60).await;
    trigger.advance(Stage::Stop);
    task.await.unwrap();

    let starts = spender.starts.lock().unwrap();
    for first_hour in 0..36 {
        let from = begin + HOUR * first_hour;
        let day = from..from + HOUR * 24;
        let runs = starts.iter().filter(|(_, at)| day.contains(at)).count();
        let spent = u64::try_from(runs).unwrap() * COST;
        assert!(spent <= budget, "{spent} in the day from hour {first_hour}");
        assert!(
            spent >= budget * 3 / 5,
            "{spent} in the day from hour {first_hour}: far too little"
        );
    }
    let important: Vec<Instant> = starts
        .iter()
        .filter(|(id, _)| *id == 1)
        .map(|(_, at)| *at)
        .collect();
    let longest = important.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(
        longest.unwrap() <= Duration::from_secs(91),
        "the check that is stretched last waited {longest:?}"
    );
    assert!(account.stretch().first > 1_000);
}
