//! HTTP/2 and redirects between servers.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::{future, thread};

use bytes::Bytes;
use extranet_agent::measure::Targets;
use extranet_agent::probe::Measured;
use extranet_proto::assignment::{HttpProbe, HttpVersion, Probe};
use extranet_proto::metric;
use extranet_proto::record::{Outcome, Reason};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::server::{Authority, IN_FORCE, Shown, read_head, stream_server};
use crate::{AMPLE, V4, V6, assert_in_order, measure, probes, value, verdict};

const HOST: &str = "portal.example";

/// A server that speaks HTTP/2 only, in TLS or without, and says what it was asked for.
fn http2_server(address: IpAddr, tls: Option<&Shown>) -> u16 {
    let acceptor = tls.map(|shown| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown.clone()));
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    });
    let listener = std::net::TcpListener::bind(SocketAddr::new(address, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            // One after the other: a probe has one connection.
            while let Ok((stream, _)) = listener.accept().await {
                match &acceptor {
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            answer(stream).await;
                        }
                    }
                    None => answer(stream).await,
                }
            }
        });
    });
    port
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let text = format!("{:?} {}", request.version(), request.uri());
        let answer = Response::builder().header("server", "lab");
        let answer = answer.body(Full::new(Bytes::from(text))).unwrap();
        future::ready(Ok::<_, Infallible>(answer))
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away is as good as one that says goodbye.
    connection.await.ok();
}

fn get(address: IpAddr, probe: HttpProbe) -> Measured {
    let measured = measure(&probes(), Probe::Http(probe), address, AMPLE);
    assert_in_order(&measured);
    measured
}

#[test]
fn http2_is_spoken_where_both_agree_on_it() {
    let authority = Authority::new("good");
    let shown = Shown::new(authority.issue(HOST, IN_FORCE));
    for address in [V4, V6] {
        let port = http2_server(address, Some(&shown));
        for version in [HttpVersion::Any, HttpVersion::Http2] {
            let wanted = HttpProbe {
                port,
                tls: true,
                host: HOST.to_owned(),
                path: "/x?y=1".to_owned(),
                body_contains: format!("HTTP/2.0 https://{HOST}:{port}/x?y=1"),
                expected_headers: vec![("server".to_owned(), "lab".to_owned())],
                verify_chain: true,
                roots: vec![authority.root.clone()],
                version,
                ..HttpProbe::default()
            };
            let measured = get(address, wanted);
            assert_eq!(verdict(&measured), (Outcome::Ok, Reason::None));
            assert_eq!(value(&measured, metric::HTTP_VERSION), Some(2_000));
            assert!(measured.traffic.received > 1_000, "{measured:?}");
        }
    }
}

#[test]
fn http2_without_tls_is_by_prior_knowledge() {
    let port = http2_server(V6, None);
    let wanted = HttpProbe {
        port,
        body_contains: format!("HTTP/2.0 http://[::1]:{port}/"),
        version: HttpVersion::Http2,
        ..HttpProbe::default()
    };
    let measured = get(V6, wanted.clone());
    assert_eq!(verdict(&measured), (Outcome::Ok, Reason::None));
    let by_habit = HttpProbe {
        version: HttpVersion::Any,
        ..wanted
    };
    let measured = get(V6, by_habit);
    assert_eq!(measured.outcome, Outcome::Failed, "{measured:?}");
}

/// Sends everybody to one place.
fn redirecting(address: IpAddr, to: String) -> u16 {
    stream_server(address, move |mut stream| {
        use std::io::Write as _;
        if read_head(&mut stream).is_some() {
            let answer =
                format!("HTTP/1.1 301 Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).ok();
        }
    })
}

#[test]
fn redirects_lead_to_other_servers_where_the_agent_may_measure() {
    let other: IpAddr = "127.0.0.2".parse().unwrap();
    let port = http2_server(other, None);
    // It takes HTTP/2 only, which tells that it was asked: what it says to HTTP/1.1 is no HTTP/1.1.
    let first = redirecting(V4, format!("http://127.0.0.2:{port}/there"));
    let wanted = HttpProbe {
        port: first,
        redirects_max: 1,
        ..HttpProbe::default()
    };
    let within = |allowed: &str| {
        let targets = Targets::new(&[allowed.parse().unwrap()]);
        let probes = probes().within(targets);
        measure(&probes, Probe::Http(wanted.clone()), V4, AMPLE)
    };
    let asked = within("127.0.0.0/8");
    assert_eq!(value(&asked, metric::HTTP_REDIRECTS), Some(1));
    assert_ne!(asked.reason, Reason::RedirectOutside);
    let outside = within("127.0.0.1/32");
    assert_eq!(
        verdict(&outside),
        (Outcome::Failed, Reason::RedirectOutside)
    );
    // Without any targets only the target itself is asked.
    assert_eq!(get(V4, wanted.clone()).reason, Reason::RedirectOutside);
    let named = HttpProbe {
        port: redirecting(V4, "http://localhost:9/".to_owned()),
        ..wanted.clone()
    };
    let targets = Targets::new(&["127.0.0.0/8".parse().unwrap()]);
    let measured = measure(&probes().within(targets), Probe::Http(named), V4, AMPLE);
    // Port 9 of this machine: resolved, allowed, and nobody there.
    assert_eq!(measured.reason, Reason::Refused, "{measured:?}");
}

#[test]
fn phases_of_all_redirects_add_up() {
    let pause = Duration::from_millis(100);
    let slow = stream_server(V4, move |mut stream| {
        use std::io::Write as _;
        let Some(head) = read_head(&mut stream) else {
            return;
        };
        thread::sleep(pause);
        let (status, location) = if head.starts_with("GET / ") {
            ("302 Found", "Location: next\r\n")
        } else {
            ("200 OK", "")
        };
        let answer = format!("HTTP/1.1 {status}\r\n{location}Content-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).ok();
    });
    let wanted = HttpProbe {
        port: slow,
        redirects_max: 2,
        ..HttpProbe::default()
    };
    let measured = get(V4, wanted);
    assert_eq!(verdict(&measured), (Outcome::Ok, Reason::None));
    let processing = value(&measured, metric::HTTP_PROCESSING).unwrap();
    assert!(u128::from(processing) >= 2 * pause.as_micros());
    assert_eq!(value(&measured, metric::HTTP_REDIRECTS), Some(1));
}
