//! The Debian packages on a machine with a systemd of its own: installed, enrolled, killed, booted, installed again and
//! purged, as a field technician and an administrator do it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use extranet_tests::binary;
use extranet_tests::clock::wait_until;
use extranet_tests::machine::Machine;
use extranet_tests::oracle;
use serde_json::Value;

/// Longest for results to show, or to show again, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Worst acceptable verdict of "systemd-analyze security", in tenths: docs/installing.md has the figures.
const EXPOSURE_TENTHS: &str = "14";
/// The same of the sensor, whose unit gives a capability.
const SENSOR_EXPOSURE_TENTHS: &str = "16";
/// Bit 13, as /proc shows it.
const CAP_NET_RAW: &str = "0000000000002000";

const PLAN: &str = r#"
[[plan]]
name = "packages"
flush_interval = "1s"
[[plan.check]]
name = "anchor-icmp"
probe = "icmp"
target = "anchor"
packets = 1
interval = "1s"
"#;

/// Everything in folders that packages and services write, but for what dpkg, systemd and journald keep about all of
/// them, and the list of users, which stay.
const FILES: &str = "find /etc /opt /root /usr /var -xdev \
    -path /var/lib/dpkg -prune -o -path /var/lib/systemd -prune -o \
    -path /var/log -prune -o -path /var/tmp -prune -o -path '/etc/*passwd*' -o \
    -path '/etc/*group*' -o -path '/etc/*shadow*' -o -path /etc/.pwd.lock -o -print";

fn build_packages(folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/package.sh");
    let binaries = binary::path("extranet-agent");
    let output = Command::new(script)
        .arg(folder)
        .env(
            "EXTRANET_TEST_BINARIES",
            binaries.parent().expect("a program lies in a folder"),
        )
        .output()
        .expect("deploy/package.sh can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).lines().count(),
        2,
        "{errors}"
    );
}

fn unit(machine: &Machine, name: &str, property: &str) -> String {
    let text = machine.tell(
        "systemctl",
        &["show", "--property", property, "--value", name],
    );
    text.trim().to_owned()
}

fn status(machine: &Machine) -> Result<Value, String> {
    let text = machine.run("extranet-collector", &["status", "--json"])?;
    serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))
}

/// Waits until the site's agent is connected, ICMP over both families succeeded after `after` (machine's clock, µs) and
/// the spool has told of no loss.
fn wait_fresh(machine: &Machine, what: &str, after: i64) {
    wait_until(what, PATIENCE, || {
        let status = status(machine)?;
        let site = status["access_points"]
            .as_array()
            .and_then(|list| list.iter().find(|ap| ap["ap_id"] == "site"))
            .ok_or_else(|| format!("no site in {status}"))?;
        let agent = &site["agents"][0];
        let fresh = |family: &str| {
            site["measurements"].as_array().is_some_and(|list| {
                list.iter().any(|measured| {
                    measured["family"] == family
                        && measured["outcome"] == "ok"
                        && measured["wall_us"].as_i64() > Some(after)
                })
            })
        };
        let ledger = &agent["ledger"];
        let whole = ledger["dropped"] == 0 && ledger["damaged"] == 0;
        if agent["connected"] == true && whole && fresh("4") && fresh("6") {
            Ok(())
        } else {
            Err(site.to_string())
        }
    });
}

fn files(machine: &Machine) -> BTreeSet<String> {
    machine.shell(FILES).lines().map(str::to_owned).collect()
}

fn now_us(machine: &Machine) -> i64 {
    let nanoseconds: i64 = machine
        .tell("date", &["+%s%N"])
        .trim()
        .parse()
        .expect("date prints a number");
    nanoseconds / 1_000
}

/// Ends the service's main process without warning; systemd must start another one.
fn kill_9(machine: &Machine, name: &str) {
    let before = unit(machine, name, "MainPID");
    assert_ne!(before, "0", "{name} does not run");
    machine.shell(&format!("kill -9 {before}"));
    wait_until(&format!("{name} to be started again"), PATIENCE, || {
        let now = unit(machine, name, "MainPID");
        if now != "0" && now != before {
            Ok(())
        } else {
            Err(format!("main process {now}"))
        }
    });
}

fn install_and_enrol(machine: &Machine) {
    machine.shell("dpkg --install /srv/packages/extranet-collector_*.deb");
    assert_eq!(unit(machine, "extranet-collector", "ActiveState"), "active");
    wait_until("the collector to answer", PATIENCE, || status(machine));

    let said = machine.shell("dpkg --install /srv/packages/extranet-agent_*.deb");
    assert!(said.contains("extranet-agent enrol"), "{said}");
    assert_eq!(unit(machine, "extranet-agent", "ActiveState"), "inactive");
    assert_eq!(unit(machine, "extranet-agent", "UnitFileState"), "enabled");
    let refused = machine.run("systemctl", &["start", "extranet-agent"]);
    assert!(
        refused
            .as_ref()
            .is_err_and(|error| error.contains("Assertion failed")),
        "{refused:?}"
    );
    assert_eq!(machine.tell("systemctl", &["--failed", "--quiet"]), "");

    machine.write(
        "/root/access-points.csv",
        "ap_id,name,level,parent,medium,monitoring\nsite,Site 站点,county,centre,fibre,agent\n",
    );
    machine.write(
        "/root/targets.csv",
        "ap_id,name,kind,address\ncentre,four,anchor,127.0.0.1\ncentre,six,anchor,::1\n",
    );
    machine.write("/root/plan.toml", PLAN);
    machine.shell(
        "extranet-collector import --access-points /root/access-points.csv --targets /root/targets.csv
         extranet-collector plan apply /root/plan.toml
         sed -i 's/collector.extranet.internal/127.0.0.1/' /etc/extranet/agent.toml
         extranet-collector ticket new --ap site --out /root/ticket
         extranet-agent enrol --ticket-file /root/ticket
         systemctl start extranet-agent
         rm /root/*",
    );
    // Root enrolled; the service owns the result.
    let foreign = machine.shell(
        "find /var/lib/extranet-agent ! -user extranet-agent -o -perm /077; \
         find /var/lib/extranet-collector ! -user extranet-collector -o -perm /077",
    );
    assert_eq!(foreign, "");
}

/// Switches the sensor on, as docs/installing.md says, and waits until the collector knows of it.
fn enable_sensor(machine: &Machine) {
    assert_eq!(
        unit(machine, "extranet-sensor", "UnitFileState"),
        "disabled",
        "tier 2 is for who wants it"
    );
    wait_tier(machine, 1);
    machine.shell("systemctl enable --now extranet-sensor");
    wait_tier(machine, 2);
}

/// Waits until the site's agent has told its privilege tier (SEC-G0).
fn wait_tier(machine: &Machine, tier: u64) {
    wait_until(&format!("privilege tier {tier}"), PATIENCE, || {
        let status = status(machine)?;
        let site = status["access_points"]
            .as_array()
            .and_then(|list| list.iter().find(|ap| ap["ap_id"] == "site"))
            .ok_or_else(|| format!("no site in {status}"))?;
        if site["agents"][0]["privilege_tier"] == tier {
            Ok(())
        } else {
            let log = machine.shell("journalctl --no-pager --lines 20 --unit extranet-sensor");
            Err(format!("{site}\n{log}"))
        }
    });
}

/// No service is root or could become it, and systemd agrees that little is left to attack. The sensor holds nothing once
/// it runs: what its unit gave is only left in the set that bounds what a new program could get.
fn must_be_confined(machine: &Machine) {
    for (name, bounding, exposure) in [
        ("extranet-agent", "0000000000000000", EXPOSURE_TENTHS),
        ("extranet-collector", "0000000000000000", EXPOSURE_TENTHS),
        ("extranet-sensor", CAP_NET_RAW, SENSOR_EXPOSURE_TENTHS),
    ] {
        let pid = unit(machine, name, "MainPID");
        let process = machine.tell("cat", &[&format!("/proc/{pid}/status")]);
        for line in [
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            &format!("CapBnd:\t{bounding}"),
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(process.contains(line), "{name}: no {line:?} in\n{process}");
        }
        assert!(!process.contains("\nUid:\t0"), "{process}");
        let path = format!("/lib/systemd/system/{name}.service");
        assert_eq!(
            machine.tell("systemd-analyze", &["verify", "--man=no", &path]),
            ""
        );
        let threshold = format!("--threshold={exposure}");
        machine.tell(
            "systemd-analyze",
            &["security", "--no-pager", &threshold, name],
        );
    }
    let group = machine.shell("getent group extranet-ping | cut -d: -f3");
    let range = machine.tell("cat", &["/proc/sys/net/ipv4/ping_group_range"]);
    let range: Vec<_> = range.split_whitespace().collect();
    assert_eq!(range, [group.trim(), group.trim()]);
}

/// Stops both sides in order and compares their files: everything that the agent ever produced was acknowledged, and
/// the collector holds it once, through kills, installation and boot.
fn nothing_was_lost(machine: &Machine, shared: &Path) {
    machine.shell(
        "systemctl stop extranet-agent
         systemctl stop extranet-collector
         cp -r /var/lib/extranet-agent /var/lib/extranet-collector /srv/
         systemctl start extranet-collector extranet-agent",
    );
    let spooled = oracle::spooled(&shared.join("extranet-agent"));
    let logged = oracle::logged(&shared.join("extranet-collector"));
    logged.must_hold_what_was_acknowledged(&spooled);
    assert_eq!(spooled.ledger.produced, spooled.ledger.acknowledged);
    let openings: BTreeSet<_> = spooled.records.keys().map(|id| id.incarnation).collect();
    // Started four times after the first: two kills, the second installation, the boot.
    assert_eq!(openings.len(), 5, "{:?}", spooled.ledger);
}

#[test]
fn packages_install_run_survive_and_purge() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    build_packages(&shared.join("packages"));
    let machine = Machine::boot(folder.path(), &shared);
    let before = files(&machine);

    install_and_enrol(&machine);
    wait_fresh(&machine, "results", 0);
    enable_sensor(&machine);
    must_be_confined(&machine);

    let goes_on = |what: &str| {
        let since = now_us(&machine);
        wait_fresh(&machine, &format!("results after {what}"), since);
    };
    for name in [
        "extranet-agent",
        "extranet-collector",
        "extranet-sensor",
        "extranet-agent",
    ] {
        kill_9(&machine, name);
        goes_on(&format!("the end of {name}"));
    }
    // As an upgrade does.
    machine.shell("dpkg --install /srv/packages/*.deb");
    goes_on("the second installation");
    machine.reboot();
    goes_on("a boot");
    wait_tier(&machine, 2);
    must_be_confined(&machine);

    nothing_was_lost(&machine, &shared);
    machine.tell("dpkg", &["--purge", "extranet-agent", "extranet-collector"]);
    let differences: Vec<_> = files(&machine)
        .symmetric_difference(&before)
        .cloned()
        .collect();
    assert!(differences.is_empty(), "{differences:?}");
    let left = machine.shell(
        "for name in extranet-agent extranet-collector extranet-sensor; do
           systemctl status $name 2>&1 | grep -v 'could not be found' || true
           grep -l \"^Uid:.*\\b$(id -u $name)\\b\" /proc/[0-9]*/status 2>/dev/null || true
           find / -xdev -user $name
         done
         find / -xdev -name '*extranet*' -not -path '/var/log/*' -not -path '/proc/*'
         cat /proc/sys/net/ipv4/ping_group_range",
    );
    assert_eq!(left, "1\t0\n");
}
