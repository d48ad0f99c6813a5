//! What an answer to a packet of a trace says, and which packet it is about.
//!
//! Whatever comes is read as if somebody had forged it: what is not about our flow, or about no packet of this run, is
//! nothing. An error message about a packet that we did send, made by somebody who saw it, cannot be told from a true
//! one; it can only spoil this run.

use std::net::IpAddr;

use extranet_proto::assignment::{Family, PathTransport};
use extranet_proto::record::Reason;

use super::icmp::{self, Message};
use super::mark::{Mark, Recognised};
use super::trouble;

/// What all packets of a run have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// What the packets are.
    pub transport: PathTransport,
    /// Where they go.
    pub target: IpAddr,
    /// Source port or identifier.
    pub port: u16,
    /// Destination port; 0 with ICMP.
    pub target_port: u16,
    /// What marks them as of this run; not on TCP.
    pub mark: Mark,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Which packet of the run it is about; `None` = the answer does not tell.
    pub index: Option<u16>,
    /// What it says.
    pub said: Said,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// A router: the time to live ran out here.
    Passing,
    /// The target.
    Arrived,
    /// A router: the packet is larger than the MTU of its next link, bytes; 0 = it does not say how large that is
    /// (RFC 1191 section 5).
    TooBig {
        /// The MTU.
        mtu: u32,
    },
    /// It goes no further.
    Refused(Reason),
}

/// An ICMP error message about one of our packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble<'a> {
    /// Type of the message.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The MTU that comes with "packet too big".
    pub info: u32,
    /// Who sent it.
    pub offender: IpAddr,
    /// What it quotes: from the header of ICMP or TCP on, but from what is behind the header of UDP.
    pub quoted: &'a [u8],
}

impl Flow {
    /// IP version.
    pub const fn family(&self) -> Family {
        Family::of(self.target)
    }

    /// Reads an error message; `None` if it is of no interest.
    pub fn read_trouble(&self, trouble: &Trouble<'_>) -> Option<Answer> {
        let reason = trouble::reason(self.family(), trouble.kind, trouble.code)?;
        let index = match self.transport {
            PathTransport::Icmp => Some(self.index_of_echo(trouble.quoted)?),
            PathTransport::Udp => match self.mark.recognise(trouble.quoted) {
                Recognised::Ours(index) => Some(index),
                Recognised::Foreign => return None,
                Recognised::TooShort => None,
            },
            PathTransport::Tcp => {
                let ports = trouble.quoted.first_chunk::<4>()?;
                let [from_high, from_low, to_high, to_low] = *ports;
                let from = u16::from_be_bytes([from_high, from_low]);
                let to = u16::from_be_bytes([to_high, to_low]);
                // There is one connection at a time.
                if (from, to) != (self.port, self.target_port) {
                    return None;
                }
                None
            }
        };
        let said = match reason {
            // Code 1 is about fragments that did not all come: from the target, not from the way.
            Reason::TimeExceeded if trouble.code == 0 => Said::Passing,
            Reason::TimeExceeded => return None,
            Reason::PacketTooBig => Said::TooBig { mtu: trouble.info },
            // Whatever it does not like about the packet, the target has it.
            _ if trouble.offender == self.target => Said::Arrived,
            reason => Said::Refused(reason),
        };
        Some(Answer { index, said })
    }

    /// Reads what the target sent; `None` if it is no answer to us. `unverified`: over a raw socket of IPv4.
    pub fn read_reply(&self, from: IpAddr, bytes: &[u8], unverified: bool) -> Option<Answer> {
        if from != self.target {
            return None;
        }
        let index = match self.transport {
            PathTransport::Icmp => {
                let Ok(Message::Reply(echo)) = icmp::parse(self.family(), bytes, unverified) else {
                    return None;
                };
                match self.mark.recognise(echo.payload) {
                    Recognised::Ours(index) if index == echo.sequence => Some(index),
                    _ => return None,
                }
            }
            // Whoever listens there may answer what he likes; an echo tells which packet it was.
            PathTransport::Udp => match self.mark.recognise(bytes) {
                Recognised::Ours(index) => Some(index),
                Recognised::Foreign | Recognised::TooShort => None,
            },
            PathTransport::Tcp => return None,
        };
        Some(Answer {
            index,
            said: Said::Arrived,
        })
    }

    /// Of a quoted echo request, which must be one of this run as far as the quote goes.
    fn index_of_echo(&self, quoted: &[u8]) -> Option<u16> {
        let echo = icmp::parse_quoted(self.family(), quoted)?;
        let ours = match self.mark.recognise(echo.payload) {
            Recognised::Ours(index) => index == echo.sequence,
            Recognised::Foreign => false,
            Recognised::TooShort => echo.identifier == self.port,
        };
        ours.then_some(echo.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::icmp::{Echo, build_request};

    const MARK: Mark = Mark(*b"twelve bytes");

    fn flow(transport: PathTransport, target: &str) -> Flow {
        Flow {
            transport,
            target: target.parse().unwrap(),
            port: 61_000,
            target_port: transport.usual_port(),
            mark: MARK,
        }
    }

    fn trouble<'a>(kind: u8, code: u8, offender: &str, quoted: &'a [u8]) -> Trouble<'a> {
        Trouble {
            kind,
            code,
            info: 1_300,
            offender: offender.parse().unwrap(),
            quoted,
        }
    }

    fn payload(index: u16) -> Vec<u8> {
        let mut payload = Vec::new();
        MARK.write(index, index, 32, &mut payload);
        payload
    }

    fn request(family: Family, index: u16) -> Vec<u8> {
        let payload = payload(index);
        let mut packet = Vec::new();
        let echo = Echo {
            identifier: 61_000,
            sequence: index,
            payload: &payload,
        };
        build_request(family, &echo, &mut packet);
        packet
    }

    #[test]
    fn routers_and_target_are_told_apart_in_both_families() {
        for (target, router, exceeded, unreachable, too_big) in [
            ("10.0.0.9", "10.0.0.1", 11, (3, 3), (3, 4)),
            ("fd00::9", "fd00::1", 3, (1, 4), (2, 0)),
        ] {
            let flow = flow(PathTransport::Udp, target);
            let quoted = payload(5);
            let said = |kind, code, offender| {
                let answer = flow.read_trouble(&trouble(kind, code, offender, &quoted));
                answer.map(|answer| {
                    assert_eq!(answer.index, Some(5));
                    answer.said
                })
            };
            assert_eq!(said(exceeded, 0, router), Some(Said::Passing));
            assert_eq!(said(exceeded, 1, target), None);
            let (kind, code) = unreachable;
            assert_eq!(said(kind, code, target), Some(Said::Arrived));
            let refused = Some(Said::Refused(Reason::Refused));
            assert_eq!(said(kind, code, router), refused);
            let (kind, code) = too_big;
            assert_eq!(said(kind, code, router), Some(Said::TooBig { mtu: 1_300 }));
            assert_eq!(said(200, 0, router), None);
        }
    }

    #[test]
    fn a_quote_tells_which_packet_as_far_as_it_goes() {
        let udp = flow(PathTransport::Udp, "10.0.0.9");
        let icmp = flow(PathTransport::Icmp, "10.0.0.9");
        let index = |flow: &Flow, quoted: &[u8]| {
            let answer = flow.read_trouble(&trouble(11, 0, "10.0.0.1", quoted));
            answer.map(|answer| answer.index)
        };
        assert_eq!(index(&udp, &payload(7)), Some(Some(7)));
        // Eight bytes of UDP leave nothing; of ICMP the sequence number.
        assert_eq!(index(&udp, &[]), Some(None));
        assert_eq!(index(&udp, &payload(7)[..15]), Some(None));
        let packet = request(Family::V4, 7);
        for length in [8, 9, 23, 24, packet.len()] {
            assert_eq!(index(&icmp, &packet[..length]), Some(Some(7)), "{length}");
        }
        assert_eq!(index(&icmp, &packet[..7]), None);
    }

    #[test]
    fn what_is_about_another_flow_or_run_is_nothing() {
        let udp = flow(PathTransport::Udp, "10.0.0.9");
        let icmp = flow(PathTransport::Icmp, "10.0.0.9");
        let none = |flow: &Flow, quoted: &[u8]| {
            let answer = flow.read_trouble(&trouble(11, 0, "10.0.0.1", quoted));
            assert_eq!(answer, None, "{quoted:x?}");
        };
        let mut foreign = payload(7);
        foreign[8] ^= 1;
        none(&udp, &foreign);
        let mut packet = request(Family::V4, 7);
        packet[20] ^= 1;
        none(&icmp, &packet);
        // Another process's echo, quoted without a payload.
        let mut packet = request(Family::V4, 7);
        packet[4] ^= 1;
        none(&icmp, &packet[..8]);
        // The sequence number of another packet than the mark's.
        let mut packet = request(Family::V4, 7);
        packet[7] = 8;
        none(&icmp, &packet);
        let tcp = flow(PathTransport::Tcp, "10.0.0.9");
        none(&tcp, &[0xee, 0x48, 0x01]);
        none(&tcp, &[0xee, 0x49, 0x01, 0xbb, 0, 0, 0, 0]);
        let own = trouble(11, 0, "10.0.0.1", &[0xee, 0x48, 0x01, 0xbb, 0, 0, 0, 0]);
        assert!(tcp.read_trouble(&own).is_some());
    }

    #[test]
    fn replies_come_from_the_target_alone() {
        let icmp = flow(PathTransport::Icmp, "10.0.0.9");
        let mut reply = request(Family::V4, 3);
        reply[0] = 0;
        let answer = icmp.read_reply(icmp.target, &reply, false);
        assert_eq!(answer.map(|answer| answer.index), Some(Some(3)));
        assert_eq!(
            icmp.read_reply("10.0.0.8".parse().unwrap(), &reply, false),
            None
        );
        assert_eq!(
            icmp.read_reply(icmp.target, &request(Family::V4, 3), false),
            None
        );
        assert_eq!(icmp.read_reply(icmp.target, &reply[..20], false), None);
        let udp = flow(PathTransport::Udp, "10.0.0.9");
        let answer = udp.read_reply(udp.target, b"what?", false).unwrap();
        assert_eq!((answer.index, answer.said), (None, Said::Arrived));
    }
}
