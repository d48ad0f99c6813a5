//! Bad input of every kind gives a clear error or a counted drop; nothing crashes, nothing acknowledged is lost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use extranet_proto::block;
use extranet_proto::record::{AgentEvent, Body, EventKind, Record, RecordTime};
use extranet_proto::wire::agent_message::Message;
use extranet_proto::wire::collector_message::Message as Reply;
use extranet_proto::wire::{self, Batch, Hello, SequenceRange};
use extranet_tests::binary;
use extranet_tests::clock::wait_until;
use extranet_tests::place::Place;
use extranet_tests::rogue::{self, Heard, Rogue};
use extranet_tests::sandbox::{Sandbox, Settings};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);

const PLAN: &str = r#"
[[plan]]
name = "a little"
flush_interval = "300ms"
[[plan.check]]
name = "icmp"
probe = "icmp"
target = "anchor"
packets = 1
interval = "500ms"
"#;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::start(Settings {
        vantage: false,
        ..Settings::default()
    });
    sandbox.import(
        "ap_id,name,level,parent,medium\nhonest,Honest,village,centre,fibre\nrogue,Rogue,village,centre,fibre\n",
        "ap_id,name,kind,address\ncentre,four,anchor,127.0.0.1\n",
    );
    sandbox.apply_plan(PLAN);
    sandbox
}

/// An honest agent's results go on arriving.
fn honest_results_arrive(sandbox: &Sandbox) {
    let received = || {
        let sample = "extranet_collector_ingest_records_total{reason=\"new\"}";
        sandbox.statistics()?.value(sample)
    };
    // Before its first record there is no such sample.
    let before = received().unwrap_or(0.0);
    wait_until("more results of the honest agent", PATIENCE, || {
        let now = received()?;
        if now > before + 2.5 {
            Ok(())
        } else {
            Err(format!("{now} records, {before} before"))
        }
    });
    sandbox.must_not_have_panicked();
}

/// Connections that never reached a service.
fn dropped(sandbox: &Sandbox) -> f64 {
    let statistics = sandbox.statistics().expect("the collector runs");
    statistics.sum("extranet_collector_listen_dropped_total")
}

#[test]
fn garbage_on_the_port_is_dropped_and_counted() {
    let sandbox = sandbox();
    let _honest = sandbox.agent("honest", &Place::Host, sandbox.address(), "");
    let dropped = || dropped(&sandbox);
    let before = dropped();
    let mut noise = vec![0_u8; 100_000];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for byte in &mut noise {
        // xorshift64: the same noise in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[3];
    }
    // A TLS record that claims to be a handshake of 65,535 bytes; a client hello that is cut short; HTTP; nothing.
    let mut long_record = vec![0x16, 0x03, 0x01, 0xff, 0xff, 0x01];
    long_record.extend_from_slice(&noise[..65_530]);
    let short_hello = [0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0xff, 0xff, 0xff].to_vec();
    let http = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
    let inputs = [noise, long_record, short_hello, http, Vec::new()];
    for input in &inputs {
        let mut stream = TcpStream::connect(sandbox.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The collector may close in the middle of it.
        stream.write_all(input).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        // At most a TLS alert comes back, then the end.
        stream.read_to_end(&mut answer).ok();
        assert!(
            answer.len() < 100,
            "{} bytes of answer to garbage",
            answer.len()
        );
    }
    wait_until("the garbage to be counted", PATIENCE, || {
        let counted = dropped() - before;
        if counted > inputs.len() as f64 - 0.5 {
            Ok(())
        } else {
            Err(format!("{counted} of {}", inputs.len()))
        }
    });
    honest_results_arrive(&sandbox);
}

#[test]
fn an_unknown_certificate_is_refused() {
    let sandbox = sandbox();
    let _honest = sandbox.agent("honest", &Place::Host, sandbox.address(), "");
    let known = rogue::enrol(sandbox.address(), &sandbox.ticket("rogue")).unwrap();
    // The same name, signed by somebody else.
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters
        .distinguished_name
        .push(DnType::CommonName, known.agent_id.as_str());
    let certificate = parameters.signed_by(&key, &ca).unwrap();
    let root = std::fs::read(sandbox.collector_state().join("pki/ca.der")).unwrap();
    let forged = extranet_agent::identity::Identity::new(
        key.serialize_der(),
        vec![certificate.der().clone()],
        vec![CertificateDer::from(root)],
    )
    .unwrap();
    let before = dropped(&sandbox);
    let opened = Rogue::open(sandbox.address(), &forged, Message::Hello(rogue::hello()));
    let error = opened.expect_err("a forged certificate must not open a stream");
    let counted = dropped(&sandbox) - before;
    assert!(counted > 0.5, "not counted: {error}");

    // The real one is let in, until it is revoked; then its stream ends and no other opens.
    let mut stream =
        Rogue::open(sandbox.address(), &known, Message::Hello(rogue::hello())).unwrap();
    let Heard::Said(said) = stream.hear() else {
        panic!("no welcome")
    };
    assert!(matches!(*said, Reply::Welcome(_)), "{said:?}");
    sandbox.tell(&["agent", "revoke", known.agent_id.as_str()]);
    let status = stream.hear_end();
    assert_ne!(status.code(), Code::Ok, "{status:?}");
    let again = Rogue::open(sandbox.address(), &known, Message::Hello(rogue::hello()));
    assert!(again.is_err() || again.unwrap().hear_end().code() != Code::Ok);
    honest_results_arrive(&sandbox);
}

#[test]
fn a_wrong_ticket_is_refused_and_a_ticket_works_once() {
    let sandbox = sandbox();
    let ticket = sandbox.ticket("rogue");
    let spoiled = |from: &str, to: &str| ticket.replacen(from, to, 1);
    let (rest, fingerprint) = ticket.rsplit_once('-').unwrap();
    let (rest, secret) = rest.rsplit_once('-').unwrap();
    let other = |text: &str| {
        let last = if text.ends_with('2') { '3' } else { '2' };
        format!("{}{last}", text.get(..text.len() - 1).unwrap())
    };
    let wrong = [
        (
            "another secret",
            format!("{rest}-{}-{fingerprint}", other(secret)),
        ),
        (
            "another authority",
            format!("{rest}-{secret}-{}", other(fingerprint)),
        ),
        ("another access point", spoiled("rogue", "honest")),
        ("not a ticket", "ext1-rogue".to_owned()),
        ("nothing", String::new()),
    ];
    let folder = sandbox.folder().join("by-hand");
    std::fs::create_dir(&folder).unwrap();
    let configuration = sandbox.file(
        "by-hand.toml",
        &format!(
            "collectors = [\"{}\"]\nstate_dir = '{}'\n",
            sandbox.address(),
            folder.display()
        ),
    );
    let enrol = |ticket: &str| {
        let ticket_file = sandbox.file("by-hand.ticket", ticket);
        let mut command = Command::new(binary::path("extranet-agent"));
        command.args([
            "enrol",
            "--ticket-file",
            &ticket_file,
            "--config",
            &configuration,
        ]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status, text)
    };
    for (what, wrong) in &wrong {
        let (status, text) = enrol(wrong);
        assert!(!status.success(), "{what} was accepted");
        assert!(
            !text.trim().is_empty() && !text.contains("panicked"),
            "{what}: {text}"
        );
        assert!(
            !text.contains(secret),
            "{what}: the secret is repeated: {text}"
        );
    }
    let (status, text) = enrol(&ticket);
    assert!(
        status.success(),
        "the right ticket after the wrong ones: {text}"
    );
    let error = rogue::enrol(sandbox.address(), &ticket).expect_err("a ticket works once");
    assert!(!error.is_empty());
    sandbox.must_not_have_panicked();
}

#[test]
fn absurd_beginnings_end_their_stream_and_nothing_else() {
    let sandbox = sandbox();
    let _honest = sandbox.agent("honest", &Place::Host, sandbox.address(), "");
    let identity = rogue::enrol(sandbox.address(), &sandbox.ticket("rogue")).unwrap();
    let open = |first: Message| Rogue::open(sandbox.address(), &identity, first);

    let range = |from_inclusive, to_exclusive| SequenceRange {
        incarnation: 1,
        from_inclusive,
        to_exclusive,
    };
    let bad_beginnings: Vec<(&str, Message)> = vec![
        ("a batch before the hello", Message::Batch(Batch::default())),
        (
            "a short boot id",
            Message::Hello(Hello {
                boot_id: vec![1; 15],
                ..rogue::hello()
            }),
        ),
        (
            "no clock",
            Message::Hello(Hello {
                clock: None,
                ..rogue::hello()
            }),
        ),
        (
            "a version nobody speaks",
            Message::Hello(Hello {
                protocol_min: 900,
                protocol_max: 901,
                ..rogue::hello()
            }),
        ),
        (
            "an endless version",
            Message::Hello(Hello {
                agent_version: "9".repeat(100_000),
                ..rogue::hello()
            }),
        ),
        (
            "a million ranges",
            Message::Hello(Hello {
                waiting: vec![range(0, 1); 20_000],
                ..rogue::hello()
            }),
        ),
        (
            "a range that ends before it begins",
            Message::Hello(Hello {
                waiting: vec![range(9, 3)],
                ..rogue::hello()
            }),
        ),
        (
            "more than a message may hold",
            Message::Batch(Batch {
                block: vec![1; 3 << 20],
                ..Batch::default()
            }),
        ),
    ];
    for (what, first) in bad_beginnings {
        let code = match open(first) {
            Ok(mut stream) => stream.hear_end().code(),
            Err(_) => continue,
        };
        assert_ne!(code, Code::Ok, "{what} was accepted");
    }

    honest_results_arrive(&sandbox);
}

#[test]
fn absurd_batches_are_refused_and_nothing_else() {
    let sandbox = sandbox();
    let _honest = sandbox.agent("honest", &Place::Host, sandbox.address(), "");
    let identity = rogue::enrol(sandbox.address(), &sandbox.ticket("rogue")).unwrap();
    let batch = |first_sequence, block: &[u8]| {
        Message::Batch(Batch {
            first_sequence,
            block: block.to_vec(),
            lane: 1,
            ..Batch::default()
        })
    };
    let record = Record {
        time: RecordTime {
            boottime_ms: 1,
            wall_ms: 1,
        },
        body: Body::Event(AgentEvent {
            kind: EventKind::Started,
            value: 0,
            text: String::new(),
        }),
    };
    let absurd_count = [
        1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0,
    ];
    let bad_batches: Vec<(&str, Message)> = vec![
        ("a block of noise", batch(0, &[1, 9, 9, 9, 9, 9, 9, 9, 9])),
        ("a block with an absurd count", batch(10, &absurd_count)),
        ("a block of an unknown version", batch(20, &[200, 1, 2, 3])),
        (
            "sequences beyond the end of numbers",
            batch(u64::MAX, &block::encode(&[record])),
        ),
    ];
    for (what, message) in bad_batches {
        let hello = Message::Hello(rogue::hello());
        let mut stream = Rogue::open(sandbox.address(), &identity, hello).unwrap();
        stream.say(message);
        // Either the records are refused by an acknowledgement, or the stream ends with an error.
        loop {
            match stream.hear() {
                Heard::Said(said) => {
                    if let Reply::Ack(wire::Ack { ranges, refused }) = *said {
                        assert!(
                            ranges.is_empty() && !refused.is_empty(),
                            "{what}: {ranges:?}"
                        );
                        break;
                    }
                }
                Heard::Ended(status) => {
                    assert_ne!(status.code(), Code::Ok, "{what}");
                    break;
                }
            }
        }
    }
    honest_results_arrive(&sandbox);
}

#[test]
fn a_bad_configuration_is_reported_whole_before_anything_opens() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["extranet-agent", "extranet-collector"] {
        let state = folder.path().join(name);
        let configuration = folder.path().join(format!("{name}.toml"));
        let text = format!(
            "state_dir = '{}'\nunknown = 1\n[self]\nlisten = \"nowhere\"\n",
            state.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let verb = if name == "extranet-agent" {
            "run"
        } else {
            "serve"
        };
        let output = Command::new(binary::path(name))
            .args([verb, "--config"])
            .arg(&configuration)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{name}: {text}");
        assert!(
            text.contains("unknown") && text.contains("listen"),
            "{name}: {text}"
        );
        assert!(!state.try_exists().unwrap(), "{name} made its state folder");
    }
}
