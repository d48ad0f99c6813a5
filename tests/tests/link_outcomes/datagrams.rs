//! Servers on UDP: echo and time, good and bad.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;

use extranet_tests::clock::wall_ms;

/// Sends what `answer` makes of each datagram. To be called within the server's namespace.
pub(crate) fn serve(
    address: IpAddr,
    port: u16,
    mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) {
    let at = SocketAddr::new(address, port);
    let socket = UdpSocket::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"));
    thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        // An ICMP error about an answer is none of the server's business.
        loop {
            let Ok((len, peer)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            for datagram in answer(&buffer[..len]) {
                socket.send_to(&datagram, peer).ok();
            }
        }
    });
}

/// As it came.
pub(crate) fn echo(datagram: &[u8]) -> Vec<Vec<u8>> {
    vec![datagram.to_vec()]
}

/// Twice.
pub(crate) fn double(datagram: &[u8]) -> Vec<Vec<u8>> {
    vec![datagram.to_vec(); 2]
}

/// With another last byte.
pub(crate) fn alter(datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut altered = datagram.to_vec();
    if let Some(last) = altered.last_mut() {
        *last ^= 1;
    }
    vec![altered]
}

/// Something else.
pub(crate) fn something_else(_: &[u8]) -> Vec<Vec<u8>> {
    vec![b"who is there?".to_vec()]
}

/// Every second one.
pub(crate) fn every_second() -> impl FnMut(&[u8]) -> Vec<Vec<u8>> {
    let mut count = 0;
    move |datagram| {
        count += 1;
        if count % 2 == 0 {
            echo(datagram)
        } else {
            Vec::new()
        }
    }
}

/// The answer of a time server that is right, and what `change` makes of it.
pub(crate) fn time(
    change: impl Fn(&mut [u8; 48]) + Send + 'static,
) -> impl FnMut(&[u8]) -> Vec<Vec<u8>> {
    move |request| {
        let mut answer = [0; 48];
        // No leap second, version 4, server; stratum 2 below 10.0.0.1.
        answer[0] = 4 << 3 | 4;
        answer[1] = 2;
        answer[12..16].copy_from_slice(&[10, 0, 0, 1]);
        answer[24..32].copy_from_slice(&request[40..48]);
        let now = ntp(wall_ms());
        for at in [16, 32, 40] {
            answer[at..at + 8].copy_from_slice(&now);
        }
        change(&mut answer);
        vec![answer.to_vec()]
    }
}

/// Milliseconds since 1970 as an NTP timestamp.
pub(crate) fn ntp(wall_ms: i64) -> [u8; 8] {
    let seconds = wall_ms.div_euclid(1_000) + 2_208_988_800;
    let fraction = (wall_ms.rem_euclid(1_000) << 32) / 1_000;
    ((seconds << 32) | fraction).to_be_bytes()
}

/// "Ask less often" (RFC 5905 section 7.4).
pub(crate) fn kiss(answer: &mut [u8; 48]) {
    answer[0] |= 3 << 6;
    answer[1] = 0;
    answer[12..16].copy_from_slice(b"RATE");
}

/// A clock that was never set.
pub(crate) fn unset(answer: &mut [u8; 48]) {
    answer[0] |= 3 << 6;
    answer[1] = 16;
}

/// An answer to somebody else's request, or made up.
pub(crate) fn other_origin(answer: &mut [u8; 48]) {
    answer[24] ^= 1;
}

/// It left before it came.
pub(crate) fn backwards(answer: &mut [u8; 48]) {
    answer[40..48].copy_from_slice(&ntp(wall_ms() - 5_000));
}

/// Ten seconds ahead.
pub(crate) fn ahead(answer: &mut [u8; 48]) {
    let later = ntp(wall_ms() + 10_000);
    answer[32..40].copy_from_slice(&later);
    answer[40..48].copy_from_slice(&later);
}
