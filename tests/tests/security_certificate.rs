//! SEC-09 from a real TLS server to a real Alertmanager and a real rsyslog: a planned renewal is silent, a certificate
//! of somebody else is an alert within 30 s of the poll with both certificates as evidence, opened once and closed once
//! across a `kill -9` of the collector and while the receiver is away, and what stands in a certificate stays evidence.

use std::collections::BTreeMap;
use std::time::Duration;

use extranet_tests::clock::{hold, wait_until};
use extranet_tests::engine::Rsyslog;
use extranet_tests::place::Place;
use extranet_tests::sandbox::{Agent, Sandbox, Settings};
use extranet_tests::tls_server::{Authority, TlsServer};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);
/// SEC-34: interval + 30 s; the interval is a second here.
const ALERT_WITHIN: Duration = Duration::from_secs(31);
const HOST: &str = "portal.lab";
/// What somebody writes into his certificate to write into our log.
const FORGED: &str = r#"portal"] [forged@1 rule="SEC-00"] \"#;
/// Names of both transports as senders.
const SENDERS: [&str; 2] = ["over-tcp", "over-udp"];

/// A site with a portal, watched by its agent; a collector that tells Alertmanager and rsyslog.
struct Lab {
    sandbox: Sandbox,
    rsyslog: Rsyslog,
    server: TlsServer,
    ours: Authority,
    _agent: Agent,
    _folder: tempfile::TempDir,
}

impl Lab {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a test can make a folder");
        let rsyslog = Rsyslog::start(&Place::Host, folder.path());
        let address = rsyslog.address();
        let receiver = |transport: &str| {
            format!(
                "[[syslog]]\nname = \"{transport}\"\naddress = \"{address}\"\ntransport = \"{transport}\"\n\
                 app_name = \"over-{transport}\"\nfacility = \"local4\"\nhostname = \"centre-1\"\n"
            )
        };
        let extra = format!(
            "[security]\nhold_down = \"1s\"\n{}{}",
            receiver("tcp"),
            receiver("udp")
        );
        let sandbox = Sandbox::start(Settings {
            extra,
            ..Settings::default()
        });
        let ours = Authority::new("Extranet CA");
        let server = TlsServer::start(&Place::Host, ours.issue(HOST, HOST, 300));
        let port = server.port();
        sandbox.import(
            "ap_id,name,level,parent,medium,monitoring\nsite,阿朗乡,township,centre,fibre,agent\n",
            &format!(
                "ap_id,name,kind,address,tcp_port,host,tls\nsite,portal,service,127.0.0.1,{port},{HOST},yes\n"
            ),
        );
        sandbox.apply_plan(&format!(
            "[[plan]]\nname = \"a\"\nflush_interval = \"200ms\"\n[[plan.check]]\nname = \"service-tls\"\n\
             probe = \"tls\"\ntarget = \"service\"\ninterval = \"1s\"\ntimeout = \"900ms\"\nroots = '''\n{}'''\n",
            ours.pem
        ));
        let agent = sandbox.agent("site", &Place::Host, sandbox.address(), "");
        wait_until("a good certificate", PATIENCE, || {
            let status = sandbox.ask(&["status", "--ap", "site"])?;
            if status.contains("service-tls") && status.contains("chain valid, name valid") {
                Ok(())
            } else {
                Err(status)
            }
        });
        Self {
            sandbox,
            rsyslog,
            server,
            ours,
            _agent: agent,
            _folder: folder,
        }
    }

    fn object(&self) -> String {
        format!("127.0.0.1:{} certificate", self.server.port())
    }

    fn events(&self, open: bool) -> Vec<Value> {
        let mut arguments = vec!["security", "list", "--json"];
        if open {
            arguments.push("--open");
        }
        serde_json::from_str(&self.sandbox.tell(&arguments)).expect("it is JSON")
    }

    /// Notifications about certificates, as "status severity object", in order.
    fn notified(&self) -> Vec<String> {
        let about_certificates = self
            .sandbox
            .webhook
            .received()
            .into_iter()
            .filter(|one| one["commonLabels"]["alertname"] == "TlsCertificate");
        about_certificates
            .map(|one| {
                let labels = &one["commonLabels"];
                let (severity, what) = (text(labels, "severity"), last_word(labels));
                format!("{} {severity} {what}", text(&one, "status"))
            })
            .collect()
    }

    /// Messages of a sender by `seq`: one that came twice counts once.
    fn messages(&self, sender: &str) -> BTreeMap<u64, Value> {
        let received = self.rsyslog.received().into_iter();
        received
            .filter(|one| one["app"] == sender)
            .map(|one| {
                let seq = text(&one["data"]["extranet@32473"], "seq").parse();
                (seq.unwrap_or_else(|_| panic!("no seq in {one}")), one)
            })
            .collect()
    }

    /// Waits until both transports have brought these messages, as "action severity object", and no others.
    fn wait_for_lines(&self, expected: &[&str]) {
        for sender in SENDERS {
            wait_until("lines of syslog", PATIENCE, || {
                let messages = self.messages(sender);
                let actions: Vec<String> = messages
                    .values()
                    .map(|one| {
                        let event = &one["data"]["extranet@32473"];
                        let (action, severity) = (text(event, "action"), text(event, "severity"));
                        format!("{action} {severity} {}", last_word(event))
                    })
                    .collect();
                same(&actions, expected)
            });
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Which object of the service: certificate, expiry, name.
fn last_word(labels: &Value) -> &str {
    text(labels, "object")
        .rsplit(' ')
        .next()
        .unwrap_or_default()
}

fn same(found: &[String], expected: &[&str]) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{found:?}"))
    }
}

fn evidence_of(event: &Value) -> BTreeMap<String, String> {
    let pairs: Vec<(String, String)> =
        serde_json::from_value(event["evidence"].clone()).expect("pairs of name and value");
    pairs.into_iter().collect()
}

fn must_have(value: &Value, expected: &[(&str, &str)]) {
    for (key, expected) in expected {
        assert_eq!(value[key], *expected, "{key} of {value}");
    }
}

/// Renewed by the same authority within a registered window: silent.
fn a_planned_renewal_is_silent(lab: &Lab) {
    lab.sandbox.tell(&[
        "security",
        "window",
        "add",
        "--ap",
        "site",
        "--service",
        "portal",
        "--lasting",
        "1h",
        "--reason",
        "renewal",
    ]);
    lab.server.exchange(lab.ours.issue(HOST, HOST, 300));
    wait_until("the renewed certificate to be polled", PATIENCE, || {
        // Three handshakes: the result of the first has long been flushed.
        match lab.server.times_shown() {
            few @ 0..3 => Err(few.to_string()),
            _ => Ok(()),
        }
    });
    assert!(lab.events(false).is_empty(), "{:?}", lab.events(false));
}

/// Somebody else's certificate for the same name: an alert with both certificates; its evidence.
fn a_foreign_certificate_is_an_alert(lab: &Lab) -> BTreeMap<String, String> {
    let theirs = Authority::new("Extranet CA 2");
    lab.server.exchange(theirs.issue(HOST, FORGED, 300));
    let alert = wait_until("the alert", ALERT_WITHIN, || {
        let active = lab.sandbox.alertmanager.active()?;
        let mut alerts = active.iter();
        let found = alerts.find(|alert| alert["labels"]["alertname"] == "TlsCertificate");
        found.cloned().ok_or_else(|| format!("{active:?}"))
    });
    let labels = [
        ("rule", "SEC-09"),
        ("ap_id", "site"),
        ("level", "township"),
        ("severity", "major"),
        ("object", &lab.object()),
    ];
    must_have(&alert["labels"], &labels);
    let annotations = &alert["annotations"];
    assert!(
        text(annotations, "summary_zh").contains("服务证书被更换"),
        "{alert}"
    );

    let open = lab.events(true);
    assert_eq!(open.len(), 1, "{open:?}");
    let evidence = evidence_of(&open[0]);
    for name in [
        "fingerprint_sha256",
        "known_fingerprint_sha256",
        "key_sha256",
        "known_key_sha256",
    ] {
        assert_eq!(evidence[name].len(), 64, "{evidence:?}");
        let line = format!("{name}: {}", evidence[name]);
        assert!(text(annotations, "evidence").contains(&line), "{alert}");
    }
    assert_eq!(
        (
            evidence["change"].as_str(),
            evidence["chain_trusted"].as_str()
        ),
        ("issuer", "no")
    );
    assert!(evidence["subject"].ends_with(FORGED), "{evidence:?}");
    assert!(
        evidence["known_issuer"].ends_with("Extranet CA"),
        "{evidence:?}"
    );
    evidence
}

/// What rsyslog's own parser made of the line, field by field.
fn the_line_has_every_field(lab: &Lab, evidence: &BTreeMap<String, String>) {
    let event_id = lab.events(true)[0]["event_id"].to_string();
    for sender in SENDERS {
        let (_, line) = lab.messages(sender).pop_first().expect("one came");
        // local4 = 20; major is error = 3
        let header = [
            ("priority", "163"),
            ("version", "1"),
            ("hostname", "centre-1"),
            ("id", "SEC-09"),
        ];
        must_have(&line, &header);
        let data = line["data"].as_object().expect("structured data");
        let elements: Vec<&String> = data.keys().collect();
        assert_eq!(elements, ["evidence@32473", "extranet@32473"], "{line}");
        let event = [
            ("rule", "SEC-09"),
            ("name", "TlsCertificate"),
            ("severity", "major"),
            ("ap_id", "site"),
            ("ap_name", "阿朗乡"),
            ("object", &lab.object()),
            ("late", "no"),
            ("event", &event_id),
        ];
        must_have(&data["extranet@32473"], &event);
        let sent: BTreeMap<String, String> =
            serde_json::from_value(data["evidence@32473"].clone()).expect("texts");
        assert_eq!(sent, *evidence);
        assert_eq!(line["time"], data["extranet@32473"]["since"], "{line}");
        let words = text(&line, "text");
        assert!(
            words.starts_with('\u{feff}') && words.contains("阿朗乡 服务证书被更换"),
            "{words}"
        );
    }
}

#[test]
fn a_certificate_that_changes_is_one_alert_and_one_line() {
    let mut lab = Lab::start();
    a_planned_renewal_is_silent(&lab);
    let evidence = a_foreign_certificate_is_an_alert(&lab);
    lab.wait_for_lines(&["raised major certificate"]);
    the_line_has_every_field(&lab, &evidence);

    // The collector dies and comes back: nothing opens again.
    lab.sandbox.kill_collector();
    lab.sandbox.start_collector();
    let opened = "firing major certificate";
    hold("one opening", Duration::from_secs(4), || {
        same(&lab.notified(), &[opened])
    });
    assert_eq!(lab.events(true).len(), 1);

    // The receiver is away when it ends, and gets the end when it is back.
    lab.rsyslog.stop();
    lab.server.exchange(lab.ours.issue(HOST, HOST, 300));
    let closed = "resolved major certificate";
    wait_until("the end", PATIENCE, || {
        same(&lab.notified(), &[opened, closed])
    });
    assert!(lab.events(true).is_empty());
    lab.rsyslog.restart();
    let lines = ["raised major certificate", "over major certificate"];
    lab.wait_for_lines(&lines);

    // A certificate of the same authority, within the window still, that ends in five days.
    lab.server.exchange(lab.ours.issue(HOST, HOST, 5));
    let told = [opened, closed, "firing major expiry"];
    wait_until("the alert about its end", ALERT_WITHIN, || {
        same(&lab.notified(), &told)
    });
    let evidence = evidence_of(&lab.events(true)[0]);
    assert_eq!(
        (
            evidence["step_days"].as_str(),
            evidence["days_left"].as_str()
        ),
        ("7", "4")
    );
    lab.wait_for_lines(&[lines[0], lines[1], "raised major expiry"]);
    lab.sandbox.must_not_have_panicked();
}
