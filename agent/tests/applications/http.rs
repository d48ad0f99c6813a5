//! HTTP servers that answer well, badly, slowly and without end.

use std::io::Write;
use std::net::{IpAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use extranet_agent::probe::{Measured, http::HEAD_BYTES};
use extranet_proto::assignment::{HttpProbe, HttpVersion, Probe};
use extranet_proto::metric;
use extranet_proto::record::{ObjectKind, Outcome, Reason};

use crate::server::{
    Authority, IN_FORCE, Shown, closed_port, drain, read_head, stream_server, tls_server, trickle,
};
use crate::{AMPLE, SHORT, V4, V6, assert_in_order, measure, probes, value, verdict};

fn body_bytes() -> u64 {
    HttpProbe::default().body_bytes_max.into()
}

fn probe(port: u16) -> HttpProbe {
    HttpProbe {
        port,
        path: "/health?full=1".to_owned(),
        ..HttpProbe::default()
    }
}

fn get(address: IpAddr, probe: HttpProbe, timeout: Duration) -> Measured {
    let measured = measure(&probes(), Probe::Http(probe), address, timeout);
    assert_in_order(&measured);
    measured
}

/// Reads a request and writes what `answer` wants.
fn server(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> u16 {
    stream_server(V4, move |mut stream| {
        if read_head(&mut stream).is_some() {
            answer(&mut stream);
        }
    })
}

fn says(text: &'static str) -> u16 {
    server(move |stream| {
        stream.write_all(text.as_bytes()).ok();
    })
}

#[test]
fn a_good_answer_has_a_time_for_each_phase() {
    for address in [V4, V6] {
        let (requests, request) = mpsc::channel();
        let port = stream_server(address, move |mut stream| {
            requests.send(read_head(&mut stream).unwrap()).unwrap();
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n电子政务";
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let wanted = HttpProbe {
            body_contains: "政务".to_owned(),
            ..probe(port)
        };
        let measured = get(address, wanted, AMPLE);
        assert_eq!(verdict(&measured), (Outcome::Ok, Reason::None));
        for (metric, expected) in [
            (metric::HTTP_STATUS, 200),
            (metric::HTTP_CONTENT_LENGTH, 12),
            (metric::HTTP_BODY_LENGTH, 12),
            (metric::HTTP_VERSION, 1_100),
            (metric::HTTP_SSL, 0),
            (metric::HTTP_REDIRECTS, 0),
        ] {
            assert_eq!(value(&measured, metric), Some(expected), "{metric:?}");
        }
        let phases = [
            metric::HTTP_CONNECT,
            metric::HTTP_PROCESSING,
            metric::HTTP_TRANSFER,
        ];
        let sum: u64 = phases
            .into_iter()
            .map(|phase| value(&measured, phase).unwrap())
            .sum();
        assert!(u128::from(sum) <= measured.duration.as_micros());
        assert!(value(&measured, metric::HTTP_RESOLVE).is_some());
        assert_eq!(value(&measured, metric::HTTP_TLS), None);
        let head = request.recv_timeout(AMPLE).unwrap().to_lowercase();
        assert!(
            head.starts_with("get /health?full=1 http/1.1\r\n"),
            "{head}"
        );
        let host = match address {
            IpAddr::V4(ip) => format!("\r\nhost: {ip}:{port}\r\n"),
            IpAddr::V6(ip) => format!("\r\nhost: [{ip}]:{port}\r\n"),
        };
        assert!(head.contains(&host), "{head}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    }
}

#[test]
fn answers_have_their_reasons() {
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nwe\r\n4\r\nlcom\r\n1\r\ne\r\n0\r\n\r\n";
    let table = [
        (redirect, "", Reason::None),
        (chunked, "welcome", Reason::None),
        ("HTTP/1.0 200 OK\r\n\r\nwelcome", "welcome", Reason::None),
        (
            "HTTP/1.1 200 OK\r\n\r\nwelcome",
            "farewell",
            Reason::UnexpectedContent,
        ),
        (
            "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            "",
            Reason::UnexpectedStatus,
        ),
        (
            "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
            "x",
            Reason::UnexpectedStatus,
        ),
        ("", "", Reason::Closed),
        ("HTTP/1.1 200 OK\r\nContent-Le", "", Reason::Closed),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
            "",
            Reason::Closed,
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", "", Reason::Malformed),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "",
            Reason::Malformed,
        ),
    ];
    for (answer, text, reason) in table {
        let wanted = HttpProbe {
            body_contains: text.to_owned(),
            ..probe(says(answer))
        };
        let measured = get(V4, wanted, AMPLE);
        assert_eq!(measured.reason, reason, "{answer:?}");
    }
    let (_taken, refusing) = closed_port(V4);
    let measured = get(V4, probe(refusing), AMPLE);
    assert_eq!(verdict(&measured), (Outcome::Failed, Reason::Refused));
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let body = server(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
        while stream.write_all(&[b'x'; 4_096]).is_ok() {}
    });
    let measured = get(V4, probe(body), AMPLE);
    assert_eq!(verdict(&measured), (Outcome::Failed, Reason::TooLarge));
    assert_eq!(value(&measured, metric::HTTP_STATUS), Some(200));

    let one_line = server(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").ok();
        while stream.write_all(&[b'x'; 4_096]).is_ok() {}
    });
    let many_lines = server(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").ok();
        while stream.write_all(b"X: y\r\n").is_ok() {}
    });
    for port in [one_line, many_lines] {
        let measured = get(V4, probe(port), AMPLE);
        assert_eq!(verdict(&measured), (Outcome::Failed, Reason::TooLarge));
        assert_eq!(value(&measured, metric::HTTP_STATUS), None);
    }
}

#[test]
fn a_body_just_within_the_limit_is_read() {
    assert!(body_bytes() > HEAD_BYTES as u64);
    let port = server(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let body = vec![b'x'; usize::try_from(body_bytes()).unwrap()];
        stream.write_all(&body).unwrap();
    });
    let measured = get(V4, probe(port), AMPLE);
    assert_eq!(verdict(&measured), (Outcome::Ok, Reason::None));
    assert_eq!(
        value(&measured, metric::HTTP_BODY_LENGTH),
        Some(body_bytes())
    );
}

#[test]
fn a_server_that_trickles_is_held_to_the_deadline_and_keeps_what_was_measured() {
    let pause = Duration::from_millis(20);
    let silent = server(|stream| drain(stream));
    let head = server(move |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").ok();
        trickle(stream, pause);
    });
    let body = server(move |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
        trickle(stream, pause);
    });
    for (port, status) in [(silent, None), (head, None), (body, Some(200))] {
        let measured = get(V4, probe(port), SHORT);
        assert_eq!(verdict(&measured), (Outcome::Failed, Reason::Timeout));
        assert!(value(&measured, metric::HTTP_CONNECT).is_some());
        assert_eq!(value(&measured, metric::HTTP_STATUS), status);
        assert_eq!(value(&measured, metric::HTTP_TRANSFER), None);
    }
}

#[test]
fn behind_tls_the_certificate_is_reported_and_does_not_decide() {
    let authority = Authority::new("nobody knows it");
    let shown = Shown::new(authority.issue("portal.example", IN_FORCE));
    let port = tls_server(
        V4,
        &shown,
        |config| config.alpn_protocols = vec![b"http/1.1".to_vec()],
        |mut stream| {
            let head = read_head(&mut stream).unwrap();
            assert!(head.to_lowercase().contains("\r\nhost: portal.example:"));
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
        },
    );
    let wanted = HttpProbe {
        tls: true,
        host: "portal.example".to_owned(),
        body_contains: "ok".to_owned(),
        ..probe(port)
    };
    let measured = get(V4, wanted, AMPLE);
    assert_eq!(verdict(&measured), (Outcome::Ok, Reason::None));
    assert_eq!(value(&measured, metric::HTTP_SSL), Some(1));
    assert!(value(&measured, metric::HTTP_TLS).unwrap() > 0);
    assert_eq!(value(&measured, metric::TLS_CHAIN_VALID), Some(0));
    assert_eq!(value(&measured, metric::TLS_NAME_VALID), Some(1));
    assert_eq!(measured.definitions[0].kind, ObjectKind::TlsEndpoint);
}

#[test]
fn a_server_that_refuses_the_handshake_says_so() {
    let authority = Authority::new("good");
    let shown = Shown::new(authority.issue("portal.example", IN_FORCE));
    // It speaks HTTP/2 only, which we do not offer here, and RFC 7301 section 3.2 makes it end the handshake with an alert.
    let http2_only = |config: &mut rustls::ServerConfig| {
        config.alpn_protocols = vec![b"h2".to_vec()];
    };
    let port = tls_server(V4, &shown, http2_only, drain);
    let wanted = HttpProbe {
        tls: true,
        host: "portal.example".to_owned(),
        version: HttpVersion::Http11,
        ..probe(port)
    };
    let measured = get(V4, wanted, AMPLE);
    assert_eq!(verdict(&measured), (Outcome::Failed, Reason::TlsHandshake));
}
