//! DNS: one question to the name server that the target is, and a judgement of its answer.
//!
//! By UDP the query goes out [`DnsProbe::tries`] times at most, the time of the run spread evenly over them; what was
//! sent is reported, so that a retry hides no loss. Only a message from the target's address and port, with the random
//! id of one of our queries and our question, is an answer (RFC 5452 section 9); anything else is passed over, but
//! remembered: a run that saw nothing else ends as `mismatched`, not as a timeout.

use std::net::SocketAddr;
use std::time::Duration;

use extranet_proto::assignment::{DnsProbe, DnsTransport};
use extranet_proto::metric;
use extranet_proto::record::{Reason, Value};
use nix::errno::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::meter::Meter;
use super::tcp::Way;
use super::{Measured, Run, micros, own_value};
use crate::identity::ticket::hex;
use crate::net::datagram_socket::{Arrival, DatagramBuffer, DatagramSocket};
use crate::net::refusal::{Refusal, errno_of};
use crate::packet::dns::{Answer, Query};

/// Datagrams that are no answer before the run gives up: nobody but an attacker or a broken server sends more (guess).
const STRAYS_MAX: u32 = 64;
/// NXDOMAIN (RFC 1035 section 4.1.1).
const NO_SUCH_NAME: u16 = 3;

/// An answer to one of our queries, not yet read.
struct Answered {
    message: Vec<u8>,
    /// Opening a connection; zero over UDP.
    connect: Duration,
    /// From the query that was answered.
    request: Duration,
}

/// What a run did so far.
struct Asking<'a> {
    run: &'a Run<'a>,
    probe: &'a DnsProbe,
    /// What is asked for: the name of the check, or a random one below it.
    name: String,
    meter: Meter,
    queries: u64,
    /// Whether an answer by UDP was cut.
    cut: bool,
}

/// One question and its answer.
pub async fn run(run: &Run<'_>, probe: &DnsProbe) -> Measured {
    let started = Instant::now();
    let mut asking = match Asking::new(run, probe) {
        Ok(asking) => asking,
        Err(refusal) => return Measured::refused(refusal, started.elapsed(), Vec::new()),
    };
    let begun = Instant::now();
    let answered = asking.ask().await;
    let took = begun.elapsed();
    let read = answered.and_then(|answered| {
        let answer = Answer::read(&answered.message, probe.query_type);
        let malformed = Refusal::failed(Reason::Malformed);
        Ok((answer.ok_or(malformed)?, answered))
    });
    let measured = match read {
        Ok((answer, answered)) => {
            let values = values(&answer, &answered, took, &asking);
            match judge(answer, probe) {
                Reason::None => Measured::ok(started.elapsed(), values),
                reason => Measured::failed(reason, started.elapsed(), values),
            }
        }
        Err(refusal) => {
            let values = vec![
                own_value(metric::DNS_QUERY_SUCCEEDED, 0),
                own_value(metric::DNS_QUERIES, asking.queries),
            ];
            Measured::refused(refusal, started.elapsed(), values)
        }
    };
    measured.costing(asking.meter.traffic())
}

impl<'a> Asking<'a> {
    fn new(run: &'a Run<'a>, probe: &'a DnsProbe) -> Result<Self, Refusal> {
        let name = if probe.canary {
            let mut label = [0; 8];
            getrandom::fill(&mut label).map_err(|_| Refusal::not_measured(Reason::LocalError))?;
            let zone = probe.query_name.trim_start_matches('.');
            format!("{}.{zone}", hex(&label))
        } else {
            probe.query_name.clone()
        };
        Ok(Self {
            run,
            probe,
            name,
            meter: Meter::new(run.address),
            queries: 0,
            cut: false,
        })
    }

    /// A query with an id of its own.
    fn query(&mut self) -> Result<Query, Refusal> {
        let ours = || Refusal::not_measured(Reason::LocalError);
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|_| ours())?;
        let id = u16::from_ne_bytes(id);
        let query = Query::new(id, &self.name, self.probe.query_type, self.probe.edns_bytes);
        let query = query.ok_or_else(ours)?;
        self.queries += 1;
        Ok(query)
    }

    async fn ask(&mut self) -> Result<Answered, Refusal> {
        if self.probe.transport == DnsTransport::Udp {
            let answered = self.ask_by_datagram().await?;
            self.cut = is_cut(&answered.message);
            if !self.cut || !self.probe.tcp_fallback {
                return Ok(answered);
            }
        }
        self.ask_by_stream().await
    }

    async fn ask_by_datagram(&mut self) -> Result<Answered, Refusal> {
        let target = SocketAddr::new(self.run.address, self.probe.port);
        let socket = DatagramSocket::connect(target, self.run.vrf, None)?;
        let mut buffer = DatagramBuffer::new();
        let mut sent = Vec::new();
        let mut strays = 0;
        for left in (1..=u32::from(self.probe.tries)).rev() {
            let query = self.query()?;
            let now = Instant::now();
            socket.send(query.as_bytes())?;
            self.meter.datagram_sent(query.as_bytes().len());
            sent.push((query, now));
            let until = now + self.run.deadline.saturating_duration_since(now) / left;
            let listening = self.listen(&socket, &mut buffer, &sent, &mut strays);
            if let Ok(answered) = timeout_at(until, listening).await {
                return answered;
            }
        }
        Err(Refusal::failed(if strays > 0 {
            Reason::Mismatched
        } else {
            Reason::Timeout
        }))
    }

    /// Waits for the answer to any of the queries.
    async fn listen(
        &self,
        socket: &DatagramSocket,
        buffer: &mut DatagramBuffer,
        sent: &[(Query, Instant)],
        strays: &mut u32,
    ) -> Result<Answered, Refusal> {
        loop {
            let payload = match socket.receive(buffer).await? {
                Arrival::Datagram { payload, .. } => payload,
                Arrival::Error { reason, payload } => {
                    self.meter.error_received(payload.len());
                    return Err(Refusal::failed(reason));
                }
            };
            self.meter.datagram_received(payload.len());
            let asked = sent.iter().find(|(query, _)| query.is_answered_by(payload));
            if let Some((_, at)) = asked {
                if payload.len() > self.probe.edns_bytes.into() {
                    return Err(Refusal::failed(Reason::TooLarge));
                }
                return Ok(Answered {
                    message: payload.to_vec(),
                    connect: Duration::ZERO,
                    request: at.elapsed(),
                });
            }
            *strays += 1;
            if *strays >= STRAYS_MAX {
                return Err(Refusal::failed(Reason::Mismatched));
            }
        }
    }

    async fn ask_by_stream(&mut self) -> Result<Answered, Refusal> {
        let way = Way::of(self.run, self.probe.port);
        let (mut stream, connect) = way.connect(&self.meter).await?;
        let query = self.query()?;
        let begun = Instant::now();
        let talk = async {
            // RFC 7766 section 8: length and message go in one segment.
            let length = u16::try_from(query.as_bytes().len()).map_err(|_| Errno::EMSGSIZE)?;
            let framed = [&length.to_be_bytes(), query.as_bytes()].concat();
            stream.write_all(&framed).await?;
            let mut answer = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        match timeout_at(self.run.deadline, talk).await {
            Err(_) => Err(Refusal::failed(Reason::Timeout)),
            Ok(Ok(message)) if query.is_answered_by(&message) => Ok(Answered {
                message,
                connect,
                request: begun.elapsed(),
            }),
            Ok(Ok(_)) => Err(Refusal::failed(Reason::Mismatched)),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(Refusal::failed(Reason::Closed))
            }
            Ok(Err(error)) => Err(Refusal::of(errno_of(&error))),
        }
    }
}

/// Flag TC; readable even where the cut went through a record.
fn is_cut(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 2 != 0)
}

/// By growing metric number.
fn values(answer: &Answer, answered: &Answered, took: Duration, asking: &Asking<'_>) -> Vec<Value> {
    let [answers, authorities, additionals] = answer.counts;
    let mut values = vec![
        own_value(metric::DNS_LOOKUP, micros(took)),
        own_value(metric::DNS_ANSWERS, answers),
        own_value(metric::DNS_AUTHORITIES, authorities),
        own_value(metric::DNS_ADDITIONALS, additionals),
        own_value(metric::DNS_RCODE, answer.rcode.into()),
        own_value(metric::DNS_QUERY_SUCCEEDED, 1),
        own_value(metric::DNS_AUTHENTICATED, answer.authenticated.into()),
    ];
    values.extend(
        [
            (metric::DNS_SERIAL, answer.serial),
            (metric::DNS_TTL_MIN, answer.ttl_min),
        ]
        .into_iter()
        .filter_map(|(metric, found)| Some(own_value(metric, found?.into()))),
    );
    let bytes = answered.message.len() as u64;
    values.push(own_value(metric::DNS_ANSWER_BYTES, bytes));
    let edns = answer.edns_bytes;
    values.extend(edns.map(|bytes| own_value(metric::DNS_EDNS_BYTES, bytes.into())));
    values.extend([
        own_value(
            metric::DNS_TRUNCATED,
            (asking.cut || answer.truncated).into(),
        ),
        own_value(metric::DNS_QUERIES, asking.queries),
        own_value(metric::DNS_CONNECT, micros(answered.connect)),
        own_value(metric::DNS_REQUEST, micros(answered.request)),
    ]);
    values
}

/// 1. a canary that is answered was made up on the way, whatever else is right;
/// 2. another response code than the expected one is an unexpected status;
/// 3. a cut answer cannot be judged further;
/// 4. where it must be authentic and is not, its content proves nothing;
/// 5. where no data is expected (NXDOMAIN and the like) there is nothing to compare;
/// 6. without expected answers any answer of the type will do;
/// 7. otherwise they must be the same, in any order, or at least be there.
fn judge(answer: Answer, probe: &DnsProbe) -> Reason {
    let expected_rcode = if probe.canary {
        NO_SUCH_NAME
    } else {
        probe.expected_rcode
    };
    if probe.canary && answer.counts[0] > 0 {
        return Reason::Rewritten;
    }
    if answer.rcode != expected_rcode {
        return Reason::UnexpectedStatus;
    }
    if probe.canary {
        return Reason::None;
    }
    if answer.truncated {
        return Reason::Truncated;
    }
    if probe.require_authenticated && !answer.authenticated {
        return Reason::NotAuthenticated;
    }
    let in_order = |mut list: Vec<String>| {
        list.sort_unstable();
        list.dedup();
        list
    };
    let good = if probe.expected.is_empty() {
        probe.expected_rcode != 0 || !answer.found.is_empty()
    } else if probe.expected_subset {
        let mut expected = probe.expected.iter();
        expected.all(|wanted| answer.found.contains(wanted))
    } else {
        in_order(answer.found) == in_order(probe.expected.clone())
    };
    if good {
        Reason::None
    } else {
        Reason::UnexpectedContent
    }
}
