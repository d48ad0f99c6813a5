//! A host that answers echo requests in every way a host should not.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use extranet_agent::packet::checksum::internet_checksum;
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

/// Makes the answers to one request, from the request's ICMP message: each is sent after its delay.
pub(crate) type Behaviour = fn(&[u8]) -> Vec<(Duration, Vec<u8>)>;

/// Lets a namespace answer IPv4 requests by `behaviour` instead of by its kernel, for as long as the process lives.
pub(crate) fn answer_with(namespace: &Namespace, behaviour: Behaviour) {
    namespace.sysctl("ipv4/icmp_echo_ignore_all", "1");
    let socket =
        namespace.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap());
    std::thread::spawn(move || answer_forever(&socket, behaviour));
}

fn answer_forever(mut socket: &Socket, behaviour: Behaviour) {
    let mut buffer = [0; 2_048];
    loop {
        let length = socket.read(&mut buffer).unwrap();
        let packet = &buffer[..length];
        let from = Ipv4Addr::from_octets(packet[12..16].try_into().unwrap());
        let message = &packet[usize::from(packet[0] & 0x0f) * 4..];
        if message[0] != 8 {
            continue;
        }
        for (delay, answer) in behaviour(message) {
            sleep(delay);
            let to = SocketAddr::new(IpAddr::V4(from), 0);
            socket.send_to(&answer, &to.into()).unwrap();
        }
    }
}

/// The reply that a request asks for.
pub(crate) fn reply_to(request: &[u8]) -> Vec<u8> {
    let mut reply = request.to_vec();
    reply[0] = 0;
    fix_checksum(&mut reply);
    reply
}

/// Makes the checksum of a changed message right again.
pub(crate) fn fix_checksum(message: &mut [u8]) {
    message[2..4].fill(0);
    let checksum = internet_checksum(message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
}
