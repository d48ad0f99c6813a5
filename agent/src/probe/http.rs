//! HTTP: one GET on a connection of its own, each phase timed, the answer judged by status, headers and text.
//!
//! Redirects are followed only as far as the check says, and only to addresses that this agent may measure; phases add
//! up over them. The certificate of a server behind TLS is reported as by the TLS probe, and decides where the check
//! says so. Memory is bounded: a head of 32 KiB, and a body that is read piece by piece and never kept.

mod exchange;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use extranet_proto::assignment::{Family, HttpProbe, HttpVersion, Target, TargetAddress};
use extranet_proto::id::TargetId;
use extranet_proto::metric::{self, Metric};
use extranet_proto::record::{Definition, Reason, Value};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, LOCATION};
use hyper::{Response, Version};
use tokio::time::{Instant, timeout_at};

pub use self::exchange::HEAD_BYTES;
use self::exchange::{Carrier, Spoken, refusal_of};
use super::endpoint::Endpoints;
use super::meter::Meter;
use super::tcp::Way;
use super::{Measured, Run, micros, own_value};
use crate::measure::Targets;
use crate::net::refusal::Refusal;
use crate::packet::http::{Needle, NoPlace, Place, literal};

/// Statuses that send the client elsewhere (RFC 9110 section 15.4).
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// One request, with the redirects that the check follows.
pub(super) async fn run(
    endpoints: &Endpoints,
    targets: Option<&Targets>,
    run: &Run<'_>,
    probe: &HttpProbe,
) -> Measured {
    let started = Instant::now();
    // Resolving came before this run, and after the time from which its deadline counts.
    let resolve = run
        .deadline
        .checked_sub(run.check.timeout)
        .map(|due| started.saturating_duration_since(due));
    let mut journey = Journey {
        endpoints,
        targets,
        run,
        probe,
        meter: Meter::new(run.address),
        seen: Seen::default(),
    };
    journey
        .seen
        .phase(metric::HTTP_RESOLVE, resolve.unwrap_or_default());
    let ended = timeout_at(run.deadline, journey.travel())
        .await
        .unwrap_or(Err(Refusal::failed(Reason::Timeout)));
    let Journey { seen, meter, .. } = journey;
    let (values, definitions) = seen.into_values();
    let mut measured = match ended {
        Ok(()) => Measured::ok(started.elapsed(), values),
        Err(refusal) => Measured::refused(refusal, started.elapsed(), values),
    };
    measured.definitions = definitions;
    measured.costing(meter.traffic())
}

/// What was found so far; a run that is cut off keeps it.
#[derive(Default)]
struct Seen {
    /// Sums over the redirects that were followed.
    phases: Vec<(Metric, Duration)>,
    redirects: u64,
    /// Of the last answer.
    answer: Vec<Value>,
    /// Of the last server.
    certificate: Vec<Value>,
    definitions: Vec<Definition>,
}

impl Seen {
    fn phase(&mut self, phase: Metric, took: Duration) {
        match self.phases.iter_mut().find(|(known, _)| *known == phase) {
            Some((_, sum)) => *sum += took,
            None => self.phases.push((phase, took)),
        }
    }

    /// By growing metric number.
    fn into_values(self) -> (Vec<Value>, Vec<Definition>) {
        let phases = self.phases.into_iter();
        let mut values: Vec<Value> = phases
            .map(|(phase, sum)| own_value(phase, micros(sum)))
            .collect();
        if !self.answer.is_empty() {
            values.push(own_value(metric::HTTP_REDIRECTS, self.redirects));
        }
        values.extend(self.answer);
        values.extend(self.certificate);
        values.sort_by_key(|value| (value.metric, value.object));
        (values, self.definitions)
    }
}

/// A run on its way from server to server.
struct Journey<'a> {
    endpoints: &'a Endpoints,
    targets: Option<&'a Targets>,
    run: &'a Run<'a>,
    probe: &'a HttpProbe,
    meter: Meter,
    seen: Seen,
}

impl Journey<'_> {
    async fn travel(&mut self) -> Result<(), Refusal> {
        let mut address = self.run.address;
        let mut place = Place {
            tls: self.probe.tls,
            host: if self.probe.host.is_empty() {
                address.to_string()
            } else {
                self.probe.host.clone()
            },
            port: self.probe.port,
            path: self.probe.path.clone(),
        };
        while let Some(next) = self.visit(&place, address).await? {
            if self.seen.redirects >= self.probe.redirects_max.into() {
                return Err(Refusal::failed(Reason::TooManyRedirects));
            }
            self.seen.redirects += 1;
            if next.host != place.host {
                let begun = Instant::now();
                address = self.resolve(&next.host).await?;
                self.seen.phase(metric::HTTP_RESOLVE, begun.elapsed());
            }
            place = next;
        }
        Ok(())
    }

    /// Where a redirect leads: in the family of the check, within the allowed prefixes (OPS-13).
    async fn resolve(&self, host: &str) -> Result<IpAddr, Refusal> {
        let outside = Refusal::failed(Reason::RedirectOutside);
        let family = self.run.check.family;
        let address = match literal(host) {
            Some(address) if Family::of(address) != family => return Err(outside),
            Some(address) => TargetAddress::Ip(address),
            None => TargetAddress::Name(host.to_owned()),
        };
        if address == TargetAddress::Ip(self.run.address) {
            return Ok(self.run.address);
        }
        let target = Target {
            id: TargetId(0),
            vrf: self.run.vrf.to_owned(),
            address,
        };
        let targets = self.targets.ok_or(outside)?;
        let resolved = targets.resolve(&target, family).await;
        resolved.map_err(|reason| match reason {
            Reason::TargetNotAllowed => outside,
            reason => Refusal::failed(reason),
        })
    }

    /// One request and its answer. Returns where it leads, if it is a redirect that is to be followed.
    async fn visit(&mut self, place: &Place, address: IpAddr) -> Result<Option<Place>, Refusal> {
        let way = Way {
            target: SocketAddr::new(address, place.port),
            ..Way::of(self.run, place.port)
        };
        let (stream, took) = way.connect(&self.meter).await?;
        self.seen.phase(metric::HTTP_CONNECT, took);
        self.seen.certificate.clear();
        self.seen.definitions.clear();
        if !place.tls {
            let spoken = match self.probe.version {
                HttpVersion::Http2 => Spoken::Http2,
                HttpVersion::Any | HttpVersion::Http11 => Spoken::Http11,
            };
            return self.ask(stream, spoken, place).await;
        }
        let offered: &[&str] = match self.probe.version {
            HttpVersion::Any => &["h2", "http/1.1"],
            HttpVersion::Http11 => &["http/1.1"],
            HttpVersion::Http2 => &["h2"],
        };
        let begun = Instant::now();
        let (stream, shown) = self
            .endpoints
            .handshake(self.run, stream, &place.host, offered, &self.probe.roots)
            .await?;
        self.seen.phase(metric::HTTP_TLS, begun.elapsed());
        self.seen.certificate = shown.values();
        let verdict = shown.chain.and(shown.name);
        let spoken = if shown.alpn == b"h2" {
            Spoken::Http2
        } else {
            Spoken::Http11
        };
        self.seen.definitions = shown.into_definitions();
        if let Err(reason) = verdict
            && self.probe.verify_chain
        {
            return Err(Refusal::failed(reason));
        }
        if self.probe.version == HttpVersion::Http2 && spoken != Spoken::Http2 {
            // It passed over what we offered instead of saying no (RFC 7301 section 3.2).
            return Err(Refusal::failed(Reason::TlsHandshake));
        }
        self.ask(stream, spoken, place).await
    }

    async fn ask(
        &mut self,
        stream: impl Carrier,
        spoken: Spoken,
        place: &Place,
    ) -> Result<Option<Place>, Refusal> {
        let begun = Instant::now();
        let probe = self.probe;
        let seen = &mut self.seen;
        exchange::exchange(stream, spoken, place, async |answer: Response<Incoming>| {
            seen.phase(metric::HTTP_PROCESSING, begun.elapsed());
            let status = answer.status().as_u16();
            seen.answer = head_values(&answer, place.tls);
            let location = answer.headers().get(LOCATION);
            if let Some(location) = location
                && probe.redirects_max > 0
                && REDIRECTS.contains(&status)
            {
                let malformed = Refusal::failed(Reason::Malformed);
                let location = location.to_str().map_err(|_| malformed)?;
                let next = place.follow(location).map_err(|why| match why {
                    NoPlace::Malformed => malformed,
                    NoPlace::OtherScheme => Refusal::failed(Reason::RedirectOutside),
                })?;
                return Ok(Some(next));
            }
            let (head, body) = answer.into_parts();
            let text = read_body(body, probe, spoken, seen).await?;
            judge(status, &head.headers, text, probe).map(|()| None)
        })
        .await
    }
}

/// By growing metric number.
fn head_values(answer: &Response<Incoming>, tls: bool) -> Vec<Value> {
    let version = match answer.version() {
        Version::HTTP_10 => 1_000,
        Version::HTTP_2 => 2_000,
        _ => 1_100,
    };
    let claimed: Option<u64> = answer
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|text| text.to_str().ok()?.parse().ok());
    vec![
        own_value(metric::HTTP_STATUS, answer.status().as_u16().into()),
        own_value(metric::HTTP_CONTENT_LENGTH, claimed.unwrap_or(u64::MAX)),
        own_value(metric::HTTP_VERSION, version),
        own_value(metric::HTTP_SSL, tls.into()),
    ]
}

/// Whether the body has the text that it must have and not the one that it must not.
async fn read_body(
    mut body: Incoming,
    probe: &HttpProbe,
    spoken: Spoken,
    seen: &mut Seen,
) -> Result<bool, Refusal> {
    let begun = Instant::now();
    let mut length = 0_u64;
    let mut wanted = Needle::new(&probe.body_contains);
    let mut unwanted = Needle::new(&probe.body_lacks);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| refusal_of(&error, spoken))?;
        let piece = frame.data_ref().map_or(&[][..], |data| data);
        length += piece.len() as u64;
        if length > probe.body_bytes_max.into() {
            return Err(Refusal::failed(Reason::TooLarge));
        }
        wanted.look_in(piece);
        if !probe.body_lacks.is_empty() {
            unwanted.look_in(piece);
        }
    }
    seen.phase(metric::HTTP_TRANSFER, begun.elapsed());
    let good = wanted.is_found() && (probe.body_lacks.is_empty() || !unwanted.is_found());
    seen.answer.extend([
        own_value(metric::HTTP_BODY_LENGTH, length),
        own_value(metric::HTTP_BODY_FAILED, (!good).into()),
    ]);
    Ok(good)
}

/// Status, then headers, then body. A body that was compressed although nobody asked for it cannot be looked through.
fn judge(status: u16, headers: &HeaderMap, text: bool, probe: &HttpProbe) -> Result<(), Refusal> {
    if !(probe.expected_status_min..=probe.expected_status_max).contains(&status) {
        return Err(Refusal::failed(Reason::UnexpectedStatus));
    }
    let has = |(name, contains): &(String, String)| {
        let mut values = headers.get_all(name).iter();
        values.any(|value| Needle::found_in(contains, value.as_bytes()))
    };
    let looks = !probe.body_contains.is_empty() || !probe.body_lacks.is_empty();
    let plain = headers
        .get(CONTENT_ENCODING)
        .is_none_or(|encoding| encoding == "identity");
    if !probe.expected_headers.iter().all(has) || !text || (looks && !plain) {
        return Err(Refusal::failed(Reason::UnexpectedContent));
    }
    Ok(())
}
