//! HTTP: one GET over HTTP/1.1 on a connection of its own, each phase timed, the answer judged by status and text.
//!
//! Redirects are not followed: they may lead outside of what this agent may probe. The certificate of a server behind
//! TLS is reported as by the TLS probe, but does not decide: that check is another one. Memory is bounded: a head of
//! [`HEAD_BYTES`], and a body that is read piece by piece and never kept.

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use extranet_proto::assignment::HttpProbe;
use extranet_proto::metric;
use extranet_proto::record::{Definition, Reason, Value};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, USER_AGENT};
use hyper::{Request, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::endpoint::Endpoints;
use super::{Measured, Run, micros, own_value, tcp};
use crate::net::refusal::{Refusal, errno_of};

/// Largest head of an answer, bytes (guess: four times what common servers accept of their clients).
pub const HEAD_BYTES: usize = 32 << 10;
/// Largest body that is read, bytes (guess: the page itself, without what it loads; on 512 kbit/s this takes 16 s).
pub const BODY_BYTES: u64 = 1 << 20;

/// What was found so far; a run that is cut off keeps it.
#[derive(Default)]
struct Seen {
    values: Vec<Value>,
    definitions: Vec<Definition>,
}

impl Seen {
    fn phase(&mut self, phase: metric::Metric, took: Duration) {
        self.values.push(own_value(phase, micros(took)));
    }
}

/// One request.
pub(super) async fn run(endpoints: &Endpoints, run: &Run<'_>, probe: &HttpProbe) -> Measured {
    let started = Instant::now();
    let mut seen = Seen::default();
    // Resolving came before this run, and after the time from which its deadline counts.
    let resolve = run
        .deadline
        .checked_sub(run.check.timeout)
        .map(|due| started.saturating_duration_since(due));
    seen.phase(metric::HTTP_RESOLVE, resolve.unwrap_or_default());
    let ended = timeout_at(run.deadline, get(endpoints, run, probe, &mut seen))
        .await
        .unwrap_or(Err(Refusal::failed(Reason::Timeout)));
    let Seen {
        mut values,
        definitions,
    } = seen;
    values.sort_by_key(|value| (value.metric, value.object));
    let mut measured = match ended {
        Ok(()) => Measured::ok(started.elapsed(), values),
        Err(refusal) => Measured::refused(refusal, started.elapsed(), values),
    };
    measured.definitions = definitions;
    measured
}

async fn get(
    endpoints: &Endpoints,
    run: &Run<'_>,
    probe: &HttpProbe,
    seen: &mut Seen,
) -> Result<(), Refusal> {
    let (stream, took) = tcp::connect(run, probe.port).await?;
    seen.phase(metric::HTTP_CONNECT, took);
    if !probe.tls {
        return exchange(stream, run, probe, seen).await;
    }
    let begun = Instant::now();
    let (stream, shown) = endpoints
        .handshake(run, stream, &probe.host, &["http/1.1"], &[])
        .await?;
    seen.phase(metric::HTTP_TLS, begun.elapsed());
    seen.values.extend(shown.values());
    seen.definitions.push(shown.into_definition());
    exchange(stream, run, probe, seen).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    run: &Run<'_>,
    probe: &HttpProbe,
    seen: &mut Seen,
) -> Result<(), Refusal> {
    let request = request(run, probe)?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| refusal_of(&error))?;
    let mut talk = pin!(talk(sender, request, probe, seen));
    tokio::select! {
        ended = &mut talk => ended,
        // The connection is over first when the server closed it; what it delivered is still to be read.
        _ = connection => talk.await,
    }
}

fn request(run: &Run<'_>, probe: &HttpProbe) -> Result<Request<Empty<Bytes>>, Refusal> {
    let host = match run.address {
        _ if !probe.host.is_empty() => probe.host.clone(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let usual = if probe.tls { 443 } else { 80 };
    let host = if probe.port == usual {
        host
    } else {
        format!("{host}:{}", probe.port)
    };
    Request::get(&probe.path)
        .header(HOST, host)
        .header(
            USER_AGENT,
            concat!("extranet-agent/", env!("CARGO_PKG_VERSION")),
        )
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|_| Refusal::not_measured(Reason::LocalError))
}

async fn talk(
    mut sender: http1::SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    probe: &HttpProbe,
    seen: &mut Seen,
) -> Result<(), Refusal> {
    let begun = Instant::now();
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| refusal_of(&error))?;
    seen.phase(metric::HTTP_PROCESSING, begun.elapsed());
    let status = answer.status().as_u16();
    let version = if answer.version() == Version::HTTP_10 {
        1_000
    } else {
        1_100
    };
    let claimed: Option<u64> = answer
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|text| text.to_str().ok()?.parse().ok());
    seen.values.extend([
        own_value(metric::HTTP_STATUS, status.into()),
        own_value(metric::HTTP_CONTENT_LENGTH, claimed.unwrap_or(u64::MAX)),
        own_value(metric::HTTP_VERSION, version),
        own_value(metric::HTTP_SSL, probe.tls.into()),
        own_value(metric::HTTP_REDIRECTS, 0),
    ]);
    let begun = Instant::now();
    let mut body = answer.into_body();
    let mut length = 0_u64;
    let mut wanted = Wanted::new(&probe.body_contains);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| refusal_of(&error))?;
        let piece = frame.data_ref().map_or(&[][..], |data| data);
        length += piece.len() as u64;
        if length > BODY_BYTES {
            return Err(Refusal::failed(Reason::TooLarge));
        }
        wanted.look_in(piece);
    }
    seen.phase(metric::HTTP_TRANSFER, begun.elapsed());
    seen.values
        .push(own_value(metric::HTTP_BODY_LENGTH, length));
    if !(probe.expected_status_min..=probe.expected_status_max).contains(&status) {
        return Err(Refusal::failed(Reason::UnexpectedStatus));
    }
    if !wanted.found {
        return Err(Refusal::failed(Reason::UnexpectedContent));
    }
    Ok(())
}

/// Looks for a text in pieces, without keeping them.
struct Wanted<'a> {
    text: &'a [u8],
    /// The end of what was seen, one byte shorter than the text.
    end: Vec<u8>,
    found: bool,
}

impl<'a> Wanted<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            end: Vec::new(),
            found: text.is_empty(),
        }
    }

    fn look_in(&mut self, piece: &[u8]) {
        if self.found {
            return;
        }
        self.end.extend_from_slice(piece);
        self.found = self
            .end
            .windows(self.text.len())
            .any(|window| window == self.text);
        let surplus = self.end.len().saturating_sub(self.text.len() - 1);
        self.end.drain(..surplus);
    }
}

/// Why there is no answer, or only a part of one.
fn refusal_of(error: &hyper::Error) -> Refusal {
    if error.is_parse_too_large() {
        return Refusal::failed(Reason::TooLarge);
    }
    if error.is_parse() {
        return Refusal::failed(Reason::Malformed);
    }
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<std::io::Error>()) {
        Some(source) if source.raw_os_error().is_some() => Refusal::of(errno_of(source)),
        // A body that ends early, a connection that closes instead of answering, TLS that breaks off.
        _ => Refusal::failed(Reason::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_across_pieces_and_nothing_is_kept() {
        for (text, pieces, found) in [
            ("", vec![], true),
            ("abc", vec!["ab", "c"], true),
            ("abc", vec!["a", "b", "c"], true),
            ("abc", vec!["ab", "", "abd"], false),
            ("aab", vec!["aaa", "b"], true),
            ("政务", vec!["电子政", "务外网"], true),
            ("x", vec![], false),
        ] {
            let mut wanted = Wanted::new(text);
            for piece in &pieces {
                wanted.look_in(piece.as_bytes());
                assert!(wanted.end.len() < text.len().max(1));
            }
            assert_eq!(wanted.found, found, "{text} in {pieces:?}");
        }
    }
}
