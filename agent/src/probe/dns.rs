//! DNS: one query to the name server that the target is, and a judgement of its answer.
//!
//! The query asks for recursion and offers EDNS with 1,232 bytes (RFC 6891; the size agreed on DNS flag day 2020). It is
//! sent once: a lost datagram is a failed run, because that is what a resolver's user waits for. Only a message from
//! the target's address and port, with our random id and our question, is an answer (RFC 5452 section 9); what else
//! arrives is passed over, but not without end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message::Section;
use domain::base::name::FromStrError;
use domain::base::wire::ParseError;
use domain::base::{Message, MessageBuilder, Name, ParsedRecord};
use domain::rdata::{A, Aaaa, Ns, Ptr, Soa, Txt};
use extranet_proto::assignment::{DnsProbe, DnsTransport, DnsType};
use extranet_proto::record::{Reason, Value};
use extranet_proto::{limits, metric};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::{Measured, Run, micros, own_value, tcp};
use crate::net::refusal::{Refusal, errno_of};

/// Largest answer that the query offers to take in a datagram, bytes.
const UDP_BYTES: usize = 1_232;
/// Datagrams that are no answer before the run gives up: nobody but an attacker or a broken server sends more (guess).
const STRAYS_MAX: u32 = 64;

/// One query and its answer.
pub async fn run(run: &Run<'_>, probe: &DnsProbe) -> Measured {
    let started = Instant::now();
    let asked = match query(probe) {
        Ok(query) => {
            let sent = Instant::now();
            ask(run, probe, &query)
                .await
                .map(|answer| (answer, sent.elapsed()))
        }
        Err(refusal) => Err(refusal),
    };
    let failed = |refusal| {
        let values = vec![own_value(metric::DNS_QUERY_SUCCEEDED, 0)];
        Measured::refused(refusal, started.elapsed(), values)
    };
    let (answer, took) = match asked {
        Ok(answered) => answered,
        Err(refusal) => return failed(refusal),
    };
    let Some(summary) = Message::from_octets(answer.as_slice())
        .ok()
        .and_then(|message| Summary::of(&message, probe.query_type))
    else {
        return failed(Refusal::failed(Reason::Malformed));
    };
    let mut values = vec![own_value(metric::DNS_LOOKUP, micros(took))];
    values.extend(summary.values());
    match summary.judge(probe) {
        Reason::None => Measured::ok(started.elapsed(), values),
        reason => Measured::failed(reason, started.elapsed(), values),
    }
}

type Query = Message<Vec<u8>>;

fn query(probe: &DnsProbe) -> Result<Query, Refusal> {
    let ours = || Refusal::not_measured(Reason::LocalError);
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|_| ours())?;
    let name = Name::<Vec<u8>>::from_str(&probe.query_name).map_err(|_: FromStrError| ours())?;
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(u16::from_ne_bytes(id));
    message.header_mut().set_rd(true);
    let mut question = message.question();
    question
        .push((name, rtype(probe.query_type)))
        .map_err(|_| ours())?;
    let mut additional = question.additional();
    additional
        .opt(|opt| {
            opt.set_udp_payload_size(u16::try_from(UDP_BYTES).unwrap_or(512));
            Ok(())
        })
        .map_err(|_| ours())?;
    Ok(additional.into_message())
}

const fn rtype(query_type: DnsType) -> Rtype {
    match query_type {
        DnsType::A => Rtype::A,
        DnsType::Aaaa => Rtype::AAAA,
        DnsType::Ns => Rtype::NS,
        DnsType::Soa => Rtype::SOA,
        DnsType::Ptr => Rtype::PTR,
        DnsType::Txt => Rtype::TXT,
    }
}

async fn ask(run: &Run<'_>, probe: &DnsProbe, query: &Query) -> Result<Vec<u8>, Refusal> {
    match probe.transport {
        DnsTransport::Udp => ask_by_datagram(run, probe.port, query).await,
        DnsTransport::Tcp => ask_by_stream(run, probe.port, query).await,
    }
}

async fn ask_by_datagram(run: &Run<'_>, port: u16, query: &Query) -> Result<Vec<u8>, Refusal> {
    let refusal = |error: std::io::Error| Refusal::of(errno_of(&error));
    let socket = datagram_socket(run).map_err(|error| Refusal::of_open(errno_of(&error)))?;
    // A connected socket: the kernel lets nobody else's datagrams through and reports ICMP errors.
    socket
        .connect(SocketAddr::new(run.address, port))
        .await
        .map_err(refusal)?;
    socket.send(query.as_slice()).await.map_err(refusal)?;
    // One byte more tells a datagram that was too large from one that just fits.
    let mut buffer = vec![0; UDP_BYTES + 1];
    for _ in 0..STRAYS_MAX {
        let len = match timeout_at(run.deadline, socket.recv(&mut buffer)).await {
            Err(_) => return Err(Refusal::failed(Reason::Timeout)),
            Ok(received) => received.map_err(refusal)?,
        };
        if buffer.get(..len).is_some_and(|got| answers(got, query)) {
            if len > UDP_BYTES {
                return Err(Refusal::failed(Reason::TooLarge));
            }
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
    Err(Refusal::failed(Reason::Malformed))
}

/// Bound to a random port by the kernel when it connects, within the VRF.
fn datagram_socket(run: &Run<'_>) -> std::io::Result<UdpSocket> {
    let (domain, any) = match run.address {
        IpAddr::V4(_) => (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if !run.vrf.is_empty() {
        socket.bind_device(Some(run.vrf.as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(any, 0).into())?;
    UdpSocket::from_std(socket.into())
}

async fn ask_by_stream(run: &Run<'_>, port: u16, query: &Query) -> Result<Vec<u8>, Refusal> {
    let (mut stream, _) = tcp::connect(run, port).await?;
    let talk = async {
        // RFC 7766 section 8: length and message go in one segment.
        let length = u16::try_from(query.as_slice().len()).map_err(|_| Errno::EMSGSIZE)?;
        let framed = [&length.to_be_bytes(), query.as_slice()].concat();
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match timeout_at(run.deadline, talk).await {
        Err(_) => Err(Refusal::failed(Reason::Timeout)),
        Ok(Ok(answer)) if answers(&answer, query) => Ok(answer),
        Ok(Ok(_)) => Err(Refusal::failed(Reason::Malformed)),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Refusal::failed(Reason::Closed))
        }
        Ok(Err(error)) => Err(Refusal::of(errno_of(&error))),
    }
}

/// Whether the bytes answer our query. A server that could not read the question may leave it out.
fn answers(bytes: &[u8], query: &Query) -> bool {
    let Ok(message) = Message::from_slice(bytes) else {
        return false;
    };
    let header = message.header();
    let without_question = header.qr()
        && header.id() == query.header().id()
        && message.header_counts().qdcount() == 0
        && header.rcode() != Rcode::NOERROR;
    message.is_answer(query) || without_question
}

/// What an answer says.
struct Summary {
    /// Records of the answer, authority and additional section.
    counts: [u64; 3],
    rcode: u16,
    truncated: bool,
    /// The answers of the type asked for, in the form of [`DnsProbe::expected`]; no more than can be expected, and one.
    found: Vec<String>,
}

impl Summary {
    /// `None` if the message is broken anywhere.
    fn of(message: &Message<&[u8]>, wanted: DnsType) -> Option<Self> {
        let mut counts = [0; 3];
        let mut found = Vec::new();
        for item in message {
            let (record, section) = item.ok()?;
            let count = match section {
                Section::Answer => &mut counts[0],
                Section::Authority => &mut counts[1],
                Section::Additional => &mut counts[2],
            };
            *count += 1;
            if section == Section::Answer && found.len() <= limits::DNS_EXPECTED {
                found.extend(text(&record, wanted).ok()?);
            }
        }
        let header = message.header();
        Some(Self {
            counts,
            rcode: message.opt_rcode().to_int(),
            truncated: header.tc(),
            found,
        })
    }

    fn values(&self) -> [Value; 5] {
        let [answers, authorities, additionals] = self.counts;
        [
            own_value(metric::DNS_ANSWERS, answers),
            own_value(metric::DNS_AUTHORITIES, authorities),
            own_value(metric::DNS_ADDITIONALS, additionals),
            own_value(metric::DNS_RCODE, self.rcode.into()),
            own_value(metric::DNS_QUERY_SUCCEEDED, 1),
        ]
    }

    /// 1. another response code than the expected one is an unexpected status;
    /// 2. a cut answer cannot be judged further;
    /// 3. where no data is expected (NXDOMAIN and the like) there is nothing to compare;
    /// 4. without expected answers any answer of the type will do;
    /// 5. otherwise they must be the same, in any order.
    fn judge(self, probe: &DnsProbe) -> Reason {
        if self.rcode != probe.expected_rcode {
            return Reason::UnexpectedStatus;
        }
        if self.truncated {
            return Reason::Truncated;
        }
        let in_order = |mut list: Vec<String>| {
            list.sort_unstable();
            list.dedup();
            list
        };
        let good = if probe.expected.is_empty() {
            probe.expected_rcode != 0 || !self.found.is_empty()
        } else {
            in_order(self.found) == in_order(probe.expected.clone())
        };
        if good {
            Reason::None
        } else {
            Reason::UnexpectedContent
        }
    }
}

/// `None` for a record of another type.
fn text(record: &ParsedRecord<'_, &[u8]>, wanted: DnsType) -> Result<Option<String>, ParseError> {
    if record.class() != Class::IN || record.rtype() != rtype(wanted) {
        return Ok(None);
    }
    let name = |name: String| {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() {
            ".".to_owned()
        } else {
            name
        }
    };
    Ok(match wanted {
        DnsType::A => record
            .to_record::<A>()?
            .map(|found| found.data().addr().to_string()),
        DnsType::Aaaa => record
            .to_record::<Aaaa>()?
            .map(|found| found.data().addr().to_string()),
        DnsType::Ns => record
            .to_record::<Ns<_>>()?
            .map(|found| name(found.data().nsdname().to_string())),
        DnsType::Soa => record
            .to_record::<Soa<_>>()?
            .map(|found| name(found.data().mname().to_string())),
        DnsType::Ptr => record
            .to_record::<Ptr<_>>()?
            .map(|found| name(found.data().ptrdname().to_string())),
        // Pieces of up to 255 bytes that belong together (RFC 7208 section 3.3).
        DnsType::Txt => record.to_record::<Txt<_>>()?.map(|found| {
            let pieces: Vec<&[u8]> = found.data().iter().collect();
            String::from_utf8_lossy(&pieces.concat()).into_owned()
        }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPES: [DnsType; 4] = [DnsType::A, DnsType::Aaaa, DnsType::Ns, DnsType::Soa];

    /// A header that claims records, and bytes behind it in which names often point somewhere.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            3 => 0_u8..20,
            2 => Just(0xc0),
            1 => any::<u8>(),
        ];
        (any::<[u8; 12]>(), prop::collection::vec(byte, 0..120)).prop_map(|(mut head, rest)| {
            // Few questions, some records.
            for (at, most) in [(4, 1), (6, 7), (8, 7), (10, 7)] {
                head[at] = 0;
                head[at + 1] &= most;
            }
            [&head[..], &rest[..]].concat()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_a_server_sends_is_judged(bytes in hostile(), which in 0_usize..4) {
            if let Ok(message) = Message::from_octets(bytes.as_slice())
                && let Some(summary) = Summary::of(&message, TYPES[which])
            {
                prop_assert!(summary.found.len() <= limits::DNS_EXPECTED + 1);
                prop_assert!(summary.counts.iter().sum::<u64>() <= 21);
            }
        }
    }
}
