//! TLS servers with good, bad and exchanged certificates, and what is no TLS server.

use std::io::Write;
use std::time::Duration;

use extranet_agent::probe::Measured;
use extranet_proto::assignment::{Probe, TlsProbe};
use extranet_proto::metric;
use extranet_proto::record::{Definition, ObjectKind, Outcome, Reason};

use crate::server::{
    Authority, EXPIRED, IN_FORCE, NOT_YET, Shown, drain, stream_server, tls_server,
};
use crate::{AMPLE, SHORT, V4, V6, assert_in_order, measure, probes, value, verdict};

const HOST: &str = "portal.example.gov.cn";

fn probe(port: u16, authority: &Authority) -> TlsProbe {
    TlsProbe {
        port,
        server_name: HOST.to_owned(),
        roots: vec![authority.root.clone()],
        ..TlsProbe::default()
    }
}

fn label<'a>(definition: &'a Definition, name: &str) -> &'a str {
    let found = definition.labels.iter().find(|(label, _)| label == name);
    &found.unwrap().1
}

fn the_definition(measured: &Measured) -> &Definition {
    let kinds: Vec<_> = measured.definitions.iter().map(|d| d.kind).collect();
    assert_eq!(kinds, [ObjectKind::TlsEndpoint, ObjectKind::Certificate]);
    &measured.definitions[0]
}

#[test]
fn a_good_certificate_is_shown_with_all_its_facts() {
    let authority = Authority::new("测试 CA");
    for address in [V4, V6] {
        let shown = Shown::new(authority.issue(HOST, IN_FORCE));
        let port = tls_server(address, &shown, |_| {}, drain);
        let measured = measure(
            &probes(),
            Probe::Tls(probe(port, &authority)),
            address,
            AMPLE,
        );
        assert_eq!(verdict(&measured), (Outcome::Ok, Reason::None));
        assert_in_order(&measured);
        assert_eq!(value(&measured, metric::TLS_CHAIN_VALID), Some(1));
        assert_eq!(value(&measured, metric::TLS_NAME_VALID), Some(1));
        assert_eq!(
            value(&measured, metric::TLS_EARLIEST_EXPIRY),
            Some(3_786_912_000),
            "2090-01-01"
        );
        assert!(value(&measured, metric::TLS_HANDSHAKE).unwrap() > 0);
        let definition = the_definition(&measured);
        assert_eq!(definition.kind, ObjectKind::TlsEndpoint);
        assert_eq!(label(definition, "version"), "TLS 1.3");
        assert!(label(definition, "cipher").starts_with("TLS_"));
        assert_eq!(label(definition, "subject"), format!("CN={HOST}"));
        assert_eq!(label(definition, "issuer"), "CN=测试 CA");
        assert_eq!(label(definition, "not_after"), "2090-01-01T00:00:00Z");
        assert_eq!(label(definition, "fingerprint_sha256").len(), 64);
        assert_eq!(label(definition, "group"), "X25519");
        assert_eq!(label(definition, "subjectalternative"), HOST);
        assert_eq!(value(&measured, metric::TLS_VERSION), Some(1_300));
        assert_eq!(value(&measured, metric::TLS_CERTIFICATES), Some(1));
        assert_eq!(
            value(&measured, metric::TLS_CHANGED),
            None,
            "nothing before"
        );
        let of = |object| {
            let mut values = measured.values.iter();
            let found = values.find(|value| value.object == object).unwrap();
            (found.metric, found.raw)
        };
        assert_eq!(of(definition.object), (metric::TLS_CHAIN_INFO, 1));
        let own = &measured.definitions[1];
        assert_eq!(of(own.object), (metric::TLS_NOT_AFTER, 3_786_912_000));
        assert_eq!(label(own, "cert_no"), "0");
        assert_eq!(label(own, "cn"), HOST);
        assert_eq!(label(own, "issuer_cn"), "测试 CA");
        assert!(measured.traffic.sent > 500 && measured.traffic.received > 500);
    }
}

#[test]
fn a_bad_certificate_is_a_finding_with_its_reason() {
    let authority = Authority::new("good");
    let stranger = Authority::new("stranger");
    let table = [
        (
            authority.issue(HOST, EXPIRED),
            Reason::CertificateExpired,
            (0, 1),
        ),
        (
            authority.issue(HOST, NOT_YET),
            Reason::CertificateExpired,
            (0, 1),
        ),
        (
            authority.issue("other.example", IN_FORCE),
            Reason::CertificateName,
            (1, 0),
        ),
        (
            stranger.issue(HOST, IN_FORCE),
            Reason::CertificateUntrusted,
            (0, 1),
        ),
        (
            stranger.issue("other.example", EXPIRED),
            Reason::CertificateExpired,
            (0, 0),
        ),
    ];
    for (certificate, reason, (chain, name)) in table {
        let port = tls_server(V4, &Shown::new(certificate), |_| {}, drain);
        let strict = measure(&probes(), Probe::Tls(probe(port, &authority)), V4, AMPLE);
        assert_eq!(verdict(&strict), (Outcome::Failed, reason));
        let reporting = TlsProbe {
            verify_chain: false,
            ..probe(port, &authority)
        };
        let lenient = measure(&probes(), Probe::Tls(reporting), V4, AMPLE);
        assert_eq!(verdict(&lenient), (Outcome::Ok, Reason::None));
        for measured in [strict, lenient] {
            assert_eq!(
                value(&measured, metric::TLS_CHAIN_VALID),
                Some(chain),
                "{reason}"
            );
            assert_eq!(
                value(&measured, metric::TLS_NAME_VALID),
                Some(name),
                "{reason}"
            );
            assert!(value(&measured, metric::TLS_EARLIEST_EXPIRY).is_some());
            assert_eq!(the_definition(&measured).labels.len(), 12);
        }
    }
}

#[test]
fn without_a_name_the_address_must_stand_in_the_certificate() {
    let authority = Authority::new("good");
    for (name, reason) in [("127.0.0.1", Reason::None), (HOST, Reason::CertificateName)] {
        let shown = Shown::new(authority.issue(name, IN_FORCE));
        let port = tls_server(V4, &shown, |_| {}, drain);
        let nameless = TlsProbe {
            server_name: String::new(),
            ..probe(port, &authority)
        };
        let measured = measure(&probes(), Probe::Tls(nameless), V4, AMPLE);
        assert_eq!(measured.reason, reason, "{name}");
    }
}

#[test]
fn an_exchanged_certificate_is_the_same_object_with_other_labels() {
    let authority = Authority::new("good");
    let shown = Shown::new(authority.issue(HOST, IN_FORCE));
    let port = tls_server(V4, &shown, |_| {}, drain);
    let probes = probes();
    let look = || {
        let measured = measure(&probes, Probe::Tls(probe(port, &authority)), V4, AMPLE);
        assert_eq!(measured.outcome, Outcome::Ok);
        the_definition(&measured).clone()
    };
    let (first, again) = (look(), look());
    assert_eq!(first, again);
    shown.exchange(authority.issue(HOST, IN_FORCE));
    let changed = look();
    assert_eq!(changed.object, first.object);
    for (name, differs) in [
        ("fingerprint_sha256", true),
        ("key_sha256", true),
        ("subject", false),
        ("issuer", false),
    ] {
        let same = label(&first, name) == label(&changed, name);
        assert_eq!(!same, differs, "{name}");
    }
}

#[test]
fn what_is_no_tls_server_has_its_reason() {
    let authority = Authority::new("good");
    let (_taken, refusing) = crate::server::closed_port(V4);
    let table = [
        (refusing, Reason::Refused, AMPLE),
        (stream_server(V4, drain), Reason::Timeout, SHORT),
        (
            stream_server(V4, |mut stream| {
                let banner = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(banner).ok();
                drain(stream);
            }),
            Reason::Malformed,
            AMPLE,
        ),
        (
            stream_server(V4, |mut stream| {
                crate::server::trickle(&mut stream, Duration::from_millis(20));
            }),
            Reason::Malformed,
            AMPLE,
        ),
        (
            // Reads the hello first: closing with unread bytes would be a reset.
            stream_server(V4, |mut stream| {
                std::io::Read::read(&mut stream, &mut [0; 4_096]).ok();
            }),
            Reason::Closed,
            AMPLE,
        ),
    ];
    for (port, reason, timeout) in table {
        let measured = measure(&probes(), Probe::Tls(probe(port, &authority)), V4, timeout);
        assert_eq!(verdict(&measured), (Outcome::Failed, reason));
        assert!(measured.values.is_empty() && measured.definitions.is_empty());
    }
}
