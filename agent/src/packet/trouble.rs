//! What the type and code of an ICMP error message say about the target or the path.

use extranet_proto::assignment::Family;
use extranet_proto::record::Reason;

/// The reason that an error message gives for a lost packet; `None` if the message does not say that it was lost.
pub const fn reason(family: Family, kind: u8, code: u8) -> Option<Reason> {
    match family {
        Family::V4 => reason_v4(kind, code),
        Family::V6 => reason_v6(kind, code),
    }
}

/// RFC 792, codes 6 to 12 from RFC 1122 section 3.2.2.1, 13 to 15 from RFC 1812 section 5.2.7.1.
const fn reason_v4(kind: u8, code: u8) -> Option<Reason> {
    Some(match (kind, code) {
        // 0 net, 5 source route failed, 6 net unknown, 11 net for this type of service.
        (3, 0 | 5 | 6 | 11) => Reason::NetworkUnreachable,
        // 2 protocol, 3 port: the host is there and does not want the packet.
        (3, 2 | 3) => Reason::Refused,
        (3, 4) => Reason::PacketTooBig,
        // 9 net, 10 host, 13 communication prohibited; 14, 15 precedence refused.
        (3, 9 | 10 | 13..=15) => Reason::Prohibited,
        // 1 host, 7 host unknown, 8 source host isolated, 12 host for this type of service, and what came later.
        (3, _) => Reason::HostUnreachable,
        (11, _) => Reason::TimeExceeded,
        // Parameter problem.
        (12, _) => Reason::RemoteError,
        _ => return None,
    })
}

/// RFC 4443 section 3.
const fn reason_v6(kind: u8, code: u8) -> Option<Reason> {
    Some(match (kind, code) {
        // 0 no route, 2 beyond scope of source address, 6 reject route.
        (1, 0 | 2 | 6) => Reason::NetworkUnreachable,
        // 1 administratively prohibited, 5 source address failed policy.
        (1, 1 | 5) => Reason::Prohibited,
        (1, 4) => Reason::Refused,
        // 3 address unreachable, and what came later.
        (1, _) => Reason::HostUnreachable,
        (2, _) => Reason::PacketTooBig,
        (3, _) => Reason::TimeExceeded,
        // Parameter problem.
        (4, _) => Reason::RemoteError,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_name_the_same_things_alike() {
        let pairs = [
            (Reason::NetworkUnreachable, (3, 0), (1, 0)),
            (Reason::HostUnreachable, (3, 1), (1, 3)),
            (Reason::Refused, (3, 3), (1, 4)),
            (Reason::PacketTooBig, (3, 4), (2, 0)),
            (Reason::Prohibited, (3, 13), (1, 1)),
            (Reason::TimeExceeded, (11, 0), (3, 0)),
            (Reason::RemoteError, (12, 0), (4, 1)),
        ];
        for (expected, v4, v6) in pairs {
            assert_eq!(reason(Family::V4, v4.0, v4.1), Some(expected), "v4 {v4:?}");
            assert_eq!(reason(Family::V6, v6.0, v6.1), Some(expected), "v6 {v6:?}");
        }
    }

    #[test]
    fn what_loses_no_packet_is_no_reason() {
        // v4: source quench, redirect, echo; v6: echo, redirect.
        for kind in [0, 4, 5, 8] {
            assert_eq!(reason(Family::V4, kind, 0), None);
        }
        for kind in [128, 129, 137] {
            assert_eq!(reason(Family::V6, kind, 0), None);
        }
    }
}
