//! The link with real kernels at both ends.

use std::net::UdpSocket;
use std::time::Duration;

use super::*;
use crate::clock::{now, wait_until};
use crate::namespace::Namespace;

fn link() -> (Namespace, Namespace, Forwarder) {
    let (site, far) = (Namespace::new("site"), Namespace::new("far"));
    let forwarder = Forwarder::connect(
        End {
            namespace: &site,
            interface: "up0",
            addresses: &["10.9.1.2/30", "fd00:9:1::2/64"],
        },
        End {
            namespace: &far,
            interface: "down0",
            addresses: &["10.9.1.1/30", "fd00:9:1::1/64"],
        },
        7,
    );
    (site, far, forwarder)
}

/// Sends so many datagrams from the site and says how many came.
fn sent_and_received(site: &Namespace, far: &Namespace, address: &str, many: u16) -> u64 {
    let receiver = far.enter(|| UdpSocket::bind(address)).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let any = if address.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let sender = site.enter(|| UdpSocket::bind(any)).unwrap();
    for number in 0..many {
        sender.send_to(&number.to_be_bytes(), address).unwrap();
    }
    let mut buffer = [0; 64];
    let mut came = 0;
    while receiver.recv(&mut buffer).is_ok() {
        came += 1;
    }
    came
}

#[test]
fn what_the_kernels_see_is_what_the_link_counted() {
    let (site, far, link) = link();
    for address in ["10.9.1.1:7", "[fd00:9:1::1]:7"] {
        link.forget_counts();
        link.forth(Faults {
            loss_per_mille: 200,
            duplicate_per_mille: 100,
            ..Faults::delay(Duration::from_millis(2))
        });
        let received = sent_and_received(&site, &far, address, 200);
        let forth = link.counts().forth;
        assert_eq!((forth.received, forth.waiting, forth.refused), (200, 0, 0));
        assert_eq!(received, forth.forwarded);
        assert_eq!(received, 200 - forth.lost + forth.duplicated);
        assert!(forth.lost > 0 && forth.duplicated > 0);
        link.forth(Faults {
            drop_v4: true,
            ..Faults::default()
        });
        let expected = if address.starts_with('[') { 10 } else { 0 };
        assert_eq!(sent_and_received(&site, &far, address, 10), expected);
    }
}

#[test]
fn a_delay_is_at_least_as_long_as_it_says() {
    let (site, far, link) = link();
    let delay = Duration::from_millis(30);
    link.both(Faults::delay(delay));
    let echo = far.enter(|| UdpSocket::bind("10.9.1.1:7")).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            echo.send_to(&buffer[..length], from).ok();
        }
    });
    let socket = site.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let started = now();
    socket.send_to(b"x", "10.9.1.1:7").unwrap();
    socket.recv(&mut [0; 8]).unwrap();
    assert!(started.elapsed() >= delay * 2);
    wait_until("both directions", Duration::from_secs(5), || {
        let counts = link.counts();
        if (counts.forth.forwarded, counts.back.forwarded) == (1, 1) {
            Ok(())
        } else {
            Err(format!("{counts:?}"))
        }
    });
}
