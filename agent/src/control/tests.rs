//! Assignments: kept, judged, refused, and survived.

use extranet_proto::record::Outcome;
use extranet_proto::wire::check::Probe as WireProbe;

use super::*;
use crate::clock::Clock;
use crate::probe::Measured;
use crate::spool::Spool;
use crate::spool::tests::config_in;

#[derive(Debug, Clone)]
struct Instant;

impl Prober for Instant {
    async fn run(&self, _planned: &PlannedCheck, _deadline: tokio::time::Instant) -> Measured {
        Measured::ok(Duration::from_millis(3), Vec::new())
    }
}

fn control(folder: &Path) -> Control<Instant> {
    let stats = Arc::new(Stats::new());
    let clock = Clock::system();
    // A spool of its own each time: the state folder is what is shared.
    let spool_folder = folder.join(format!("{:x}", getrandom::u64().unwrap()));
    std::fs::create_dir_all(&spool_folder).unwrap();
    let config = config_in(&spool_folder, 1 << 20);
    let spool = Spool::open(&config, clock.clone(), Arc::clone(&stats)).unwrap();
    let recorder = Recorder::new(clock, spool, Arc::clone(&stats));
    let targets = Targets::new(&["10.0.0.0/8".parse().unwrap()]);
    Control::open(folder, targets, Instant, recorder, stats)
}

fn assignment(version: u32, addresses: &[&str]) -> wire::Assignment {
    let ids = 1..=u32::try_from(addresses.len()).unwrap();
    wire::Assignment {
        version,
        ap_id: "ap".to_owned(),
        targets: ids
            .clone()
            .zip(addresses)
            .map(|(target_id, address)| wire::Target {
                target_id,
                vrf: String::new(),
                address: (*address).to_owned(),
            })
            .collect(),
        checks: ids.map(check).collect(),
        flush_interval_ms: 7_000,
        link_class: wire::LinkClass::Satellite.into(),
        security: None,
        daily_budget_bytes: 0,
        snmp_modules: Vec::new(),
    }
}

fn check(id: u32) -> wire::Check {
    wire::Check {
        stretch_last: false,
        check_id: id,
        target_id: id,
        name: format!("tcp-{id}"),
        family: wire::Family::Ipv4.into(),
        interval_ms: 60_000,
        timeout_ms: 1_000,
        probe: Some(WireProbe::Tcp(wire::TcpProbe {
            port: 80,
            ..Default::default()
        })),
    }
}

#[tokio::test]
async fn the_last_good_assignment_survives_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let first = control(folder.path());
    assert_eq!(first.plans().borrow().version.0, 0);
    let status = first.assign(assignment(3, &["10.0.0.1"])).await;
    assert!(status.applied && status.problems.is_empty());
    let plan = Arc::clone(&first.plans().borrow());
    assert_eq!((plan.version.0, plan.checks.len()), (3, 1));
    assert_eq!(plan.flush_interval, Duration::from_secs(7));

    let second = control(folder.path());
    assert_eq!(*second.plans().borrow(), plan);
    assert_eq!(second.stats.control_assignment.get(), 3);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    control(folder.path())
        .assign(assignment(3, &["10.0.0.1"]))
        .await;
    let path = folder.path().join("assignment");
    let mut content = std::fs::read(&path).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&path, content).unwrap();

    let after = control(folder.path());
    assert_eq!(
        after.plans().borrow().version.0,
        0,
        "nothing rather than something wrong"
    );
    assert!(
        folder
            .path()
            .join("assignment.damaged")
            .try_exists()
            .unwrap()
    );
    after.assign(assignment(3, &["10.0.0.1"])).await;
    assert_eq!(control(folder.path()).plans().borrow().version.0, 3);
}

#[tokio::test]
async fn forbidden_targets_cost_their_checks_only() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(folder.path());
    let mut wanted = assignment(
        4,
        &["10.0.0.1", "192.0.2.1", "::ffff:192.0.2.2", "@gateway"],
    );
    wanted.checks[0].probe = None;
    let status = control.assign(wanted).await;
    assert!(status.applied);
    let plan = Arc::clone(&control.plans().borrow());
    let kept: Vec<u32> = plan
        .checks
        .iter()
        .map(|planned| planned.check.id.0)
        .collect();
    assert_eq!(kept, [4], "{:?}", status.problems);
    assert_eq!(status.problems.len(), 3, "{:?}", status.problems);
    assert!(
        status
            .problems
            .iter()
            .any(|problem| problem.contains("check 2 (tcp-2): 192.0.2.1"))
    );
    assert_eq!(control.stats.control_problems.get(), 3);
}

#[tokio::test]
async fn an_assignment_that_is_wrong_as_a_whole_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(folder.path());
    control.assign(assignment(3, &["10.0.0.1"])).await;
    let mut wrong = assignment(4, &["10.0.0.2"]);
    wrong.ap_id = "no such id".to_owned();
    let status = control.assign(wrong).await;
    assert!(!status.applied);
    assert_eq!(status.version.0, 4);
    assert_eq!(status.problems.len(), 1);
    assert_eq!(control.plans().borrow().version.0, 3);
    assert_eq!(self::control(folder.path()).plans().borrow().version.0, 3);
}

#[tokio::test]
async fn an_assignment_is_at_work_even_when_the_disk_refuses_it() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(folder.path());
    // A folder where the file should be written.
    std::fs::create_dir(folder.path().join("assignment.new")).unwrap();
    let status = control.assign(assignment(3, &["10.0.0.1"])).await;
    assert!(status.applied);
    assert_eq!(control.plans().borrow().version.0, 3);
    let unkept = control
        .stats
        .control_assignments
        .get_or_create(&[("reason", "unkept")])
        .get();
    assert_eq!(unkept, 1);
}

#[tokio::test]
async fn one_measurement_on_demand_gives_one_result_or_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(folder.path());
    let request = |address: &str| wire::MeasurementRequest {
        request_id: 5,
        target: assignment(1, &[address]).targets.pop(),
        check: Some(check(1)),
    };
    let answer = control.measure(request("10.0.0.1")).await;
    assert_eq!(answer.request_id, 5);
    let records = answer.answer.unwrap();
    assert!(
        matches!(&records[..], [Record { body: Body::Result(result), .. }]
        if result.outcome == Outcome::Ok && result.assignment.0 == 0)
    );
    let refusal = control
        .measure(request("192.0.2.1"))
        .await
        .answer
        .unwrap_err();
    assert!(refusal.contains("allowed prefixes"), "{refusal}");
    let mut incomplete = request("10.0.0.1");
    incomplete.check = None;
    let refusal = control.measure(incomplete).await.answer.unwrap_err();
    assert!(refusal.contains("check is missing"), "{refusal}");
    let permits = control.on_demand.acquire_many(4).await.unwrap();
    let refusal = control
        .measure(request("10.0.0.1"))
        .await
        .answer
        .unwrap_err();
    assert!(refusal.contains("busy"), "{refusal}");
    drop(permits);
}
