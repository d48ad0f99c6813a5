//! Any bytes as what an error queue hands over about a packet of a trace, or as what the target sent. The first bytes
//! say which transport and family, what message, and from whom.
#![no_main]

use std::net::IpAddr;

use extranet_agent::packet::answer::{Flow, Said, Trouble};
use extranet_agent::packet::icmp;
use extranet_agent::packet::mark::{MARK_BYTES, Mark, Recognised};
use extranet_proto::assignment::{Family, PathTransport};
use libfuzzer_sys::fuzz_target;

const MARK: Mark = Mark(*b"twelve bytes");

fuzz_target!(|bytes: &[u8]| {
    let Some((&[how, kind, code, mtu], quoted)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let transport = PathTransport::ALL[usize::from(how & 3) % 3];
    let (target, router) = if how & 4 == 0 {
        (IpAddr::from([10, 0, 0, 9]), IpAddr::from([10, 0, 0, 1]))
    } else {
        (IpAddr::from([9; 16]), IpAddr::from([1; 16]))
    };
    let flow = Flow {
        transport,
        target,
        port: 61_000,
        target_port: transport.usual_port(),
        mark: MARK,
    };
    let offender = if how & 8 == 0 { router } else { target };
    let trouble = Trouble {
        kind,
        code,
        info: u32::from(mtu) << 8,
        offender,
        quoted,
    };
    if let Some(answer) = flow.read_trouble(&trouble) {
        assert!(
            answer.said != Said::Arrived || offender == target,
            "only the target arrives"
        );
        match (transport, answer.index) {
            (PathTransport::Tcp, index) => assert_eq!((index, quoted.len() >= 4), (None, true)),
            (PathTransport::Udp, Some(index)) => {
                assert_eq!(MARK.recognise(quoted), Recognised::Ours(index));
            }
            (PathTransport::Udp, None) => assert!(quoted.len() < MARK_BYTES),
            (PathTransport::Icmp, index) => {
                let echo = icmp::parse_quoted(flow.family(), quoted).expect("was read");
                assert_eq!(index, Some(echo.sequence));
                assert_ne!(MARK.recognise(echo.payload), Recognised::Foreign);
            }
        }
    }
    // A forged source address is no answer.
    assert_eq!(flow.read_reply(router, quoted, how & 16 != 0), None);
    if let Some(answer) = flow.read_reply(target, quoted, how & 16 != 0) {
        assert_eq!(answer.said, Said::Arrived);
        assert!(answer.index.is_some() || transport == PathTransport::Udp);
    }
    balanced(flow.family(), bytes);
});

/// What is written is known again, whatever it is.
fn balanced(family: Family, bytes: &[u8]) {
    let [high, low, rest @ ..] = bytes else {
        return;
    };
    let index = u16::from_be_bytes([*high, *low]);
    let mut payload = Vec::new();
    MARK.write(index, index, rest.len(), &mut payload);
    assert_eq!(payload.len(), rest.len().max(MARK_BYTES));
    assert_eq!(MARK.recognise(&payload), Recognised::Ours(index));
    let echo = icmp::Echo {
        identifier: 61_000,
        sequence: index,
        payload: &payload,
    };
    let mut packet = Vec::new();
    icmp::build_request(family, &echo, &mut packet);
    assert!(icmp::parse(family, &packet, family == Family::V4).is_ok());
}
