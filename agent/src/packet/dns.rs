//! Queries to name servers and their answers (RFC 1035), on top of the parsers of the crate `domain`.

use std::str::FromStr;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message::Section;
use domain::base::wire::ParseError;
use domain::base::{Message, MessageBuilder, Name, ParsedRecord};
use domain::rdata::{A, Aaaa, Ns, Ptr, Soa, Txt};
use extranet_proto::assignment::DnsType;
use extranet_proto::limits;

/// A query, as it goes over the network.
#[derive(Debug, Clone)]
pub struct Query(Message<Vec<u8>>);

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Records in the answer, authority and additional sections.
    pub counts: [u64; 3],
    /// With the upper bits of EDNS (RFC 6891 section 6.1.3).
    pub rcode: u16,
    /// The answer was cut to fit into a datagram (flag TC).
    pub truncated: bool,
    /// The server says that it authenticated the answer (flag AD).
    pub authenticated: bool,
    /// Largest datagram that the server says to take; `None` = it speaks no EDNS.
    pub edns_bytes: Option<u16>,
    /// Shortest time to live in the answer section, seconds.
    pub ttl_min: Option<u32>,
    /// Of the first SOA record in the answer section.
    pub serial: Option<u32>,
    /// The answers of the type asked for in the form of `DnsProbe::expected`; no more than can be expected, and one.
    pub found: Vec<String>,
}

impl Query {
    /// A query that asks for recursion, wants to know whether the answer is authentic (flag AD, RFC 6840 section 5.7)
    /// and offers to take datagrams of `edns_bytes`. `None` for what is no name.
    pub fn new(id: u16, name: &str, query_type: DnsType, edns_bytes: u16) -> Option<Self> {
        let name = Name::<Vec<u8>>::from_str(name).ok()?;
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(id);
        message.header_mut().set_rd(true);
        message.header_mut().set_ad(true);
        let mut question = message.question();
        question.push((name, rtype(query_type))).ok()?;
        let mut additional = question.additional();
        additional
            .opt(|opt| {
                opt.set_udp_payload_size(edns_bytes);
                Ok(())
            })
            .ok()?;
        Some(Self(additional.into_message()))
    }

    /// What goes over the network.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Whether the bytes answer this query: its id, its question (RFC 5452 section 9.1). A server that could not read
    /// the question may leave it out.
    pub fn is_answered_by(&self, bytes: &[u8]) -> bool {
        let Ok(message) = Message::from_slice(bytes) else {
            return false;
        };
        let header = message.header();
        let without_question = header.qr()
            && header.id() == self.0.header().id()
            && message.header_counts().qdcount() == 0
            && matches!(
                header.rcode(),
                Rcode::FORMERR | Rcode::SERVFAIL | Rcode::NOTIMP | Rcode::REFUSED
            );
        without_question || message.is_answer(&self.0)
    }
}

impl Answer {
    /// Reads a message; `None` if it is broken anywhere.
    pub fn read(bytes: &[u8], wanted: DnsType) -> Option<Self> {
        let message = Message::from_octets(bytes).ok()?;
        let header = message.header();
        let mut answer = Self {
            counts: [0; 3],
            rcode: message.opt_rcode().to_int(),
            truncated: header.tc(),
            authenticated: header.ad(),
            edns_bytes: message.opt().map(|opt| opt.udp_payload_size()),
            ttl_min: None,
            serial: None,
            found: Vec::new(),
        };
        for item in &message {
            let (record, section) = item.ok()?;
            let count = match section {
                Section::Answer => 0,
                Section::Authority => 1,
                Section::Additional => 2,
            };
            answer.counts[count] += 1;
            if section == Section::Answer {
                answer.note(&record, wanted).ok()?;
            }
        }
        Some(answer)
    }

    fn note(
        &mut self,
        record: &ParsedRecord<'_, &[u8]>,
        wanted: DnsType,
    ) -> Result<(), ParseError> {
        let ttl = record.ttl().as_secs();
        self.ttl_min = Some(self.ttl_min.map_or(ttl, |least| least.min(ttl)));
        if self.serial.is_none()
            && let Some(soa) = record.to_record::<Soa<_>>()?
        {
            self.serial = Some(soa.data().serial().into_int());
        }
        if self.found.len() <= limits::DNS_EXPECTED {
            self.found.extend(text(record, wanted)?);
        }
        Ok(())
    }
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

    const TYPES: [DnsType; 6] = [
        DnsType::A,
        DnsType::Aaaa,
        DnsType::Ns,
        DnsType::Soa,
        DnsType::Ptr,
        DnsType::Txt,
    ];

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
        fn whatever_a_server_sends_is_read_or_refused(bytes in hostile(), which in 0_usize..6) {
            if let Some(answer) = Answer::read(&bytes, TYPES[which]) {
                prop_assert!(answer.found.len() <= limits::DNS_EXPECTED + 1);
                prop_assert!(answer.counts.iter().sum::<u64>() <= 21);
            }
        }
    }

    #[test]
    fn a_query_is_no_answer_to_itself() {
        let query = Query::new(7, "portal.example", DnsType::A, 1_232).unwrap();
        assert!(!query.is_answered_by(query.as_bytes()));
        let mut answer = query.as_bytes().to_vec();
        answer[2] |= 0x80;
        assert!(query.is_answered_by(&answer));
        answer[1] ^= 1;
        assert!(!query.is_answered_by(&answer));
        assert!(Query::new(7, "a..b", DnsType::A, 1_232).is_none());
    }
}
