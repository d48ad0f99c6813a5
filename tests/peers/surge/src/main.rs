//! Measures with surge-ping what `icmp-bench` measures with the engine, and prints it in the same form.
//!
//! ```text
//! surge-peer one-by-one ADDRESS COUNT busy|idle     each round trip, µs
//! surge-peer many TARGETS SECONDS                   requests, replies
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use surge_ping::{Client, Config, PingIdentifier, PingSequence};
use tokio::time::{Instant, sleep, sleep_until};

const PAYLOAD: [u8; 56] = [0; 56];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    match words.as_slice() {
        ["one-by-one", address, count, busy] => {
            let address = address.parse().expect("an address");
            let count = count.parse().expect("a number");
            runtime.block_on(one_by_one(address, count, *busy == "busy"));
        }
        ["many", targets, seconds] => {
            let targets = targets.parse().expect("a number");
            let seconds = seconds.parse().expect("a number");
            runtime.block_on(many(targets, seconds));
        }
        _ => panic!("see the head of the file"),
    }
}

/// Datagram sockets, as the agent has them.
fn client() -> Client {
    let config = Config::builder().sock_type_hint(socket2_type()).build();
    Client::new(&config).expect("ICMP is allowed here")
}

fn socket2_type() -> socket2::Type {
    socket2::Type::DGRAM
}

async fn one_by_one(address: IpAddr, count: u16, busy: bool) {
    if busy {
        tokio::spawn(async {
            loop {
                std::thread::sleep(Duration::from_millis(8));
                sleep(Duration::from_millis(15)).await;
            }
        });
    }
    let client = client();
    let mut pinger = client.pinger(address, PingIdentifier(1)).await;
    pinger.timeout(Duration::from_secs(1));
    let started = Instant::now();
    for number in 0..count {
        sleep_until(started + Duration::from_millis(20) * u32::from(number)).await;
        match pinger.ping(PingSequence(number), &PAYLOAD).await {
            Ok((_, round_trip)) => println!("{}", round_trip.as_micros()),
            Err(_) => println!("-1"),
        }
    }
}

async fn many(targets: u32, seconds: u32) {
    let client = client();
    let gap = Duration::from_secs(1) / targets;
    let started = Instant::now() + Duration::from_millis(50);
    let mut runs = Vec::new();
    for target in 0..targets {
        let client = client.clone();
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x7f01_0001 + target));
        runs.push(tokio::spawn(async move {
            let mut pinger = client.pinger(address, PingIdentifier(1)).await;
            pinger.timeout(Duration::from_millis(500));
            let mut received = 0;
            for round in 0..seconds {
                sleep_until(started + gap * target + Duration::from_secs(1) * round).await;
                let sequence = PingSequence((round % 65_536) as u16);
                received += u32::from(pinger.ping(sequence, &PAYLOAD).await.is_ok());
            }
            received
        }));
    }
    let mut received = 0;
    for run in runs {
        received += run.await.unwrap_or(0);
    }
    println!("{} {received}", targets * seconds);
}
