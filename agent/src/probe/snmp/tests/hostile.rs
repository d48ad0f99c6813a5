//! An agent that answers as badly as it can. Each kind of answer must end in exactly one outcome and reason, and the
//! poller must serve the next device as if nothing had happened.

use tokio::net::UdpSocket;

use crate::shell::spawn_named;

use super::ber::{Request, request, response};
use super::*;

/// How the agent answers. The scalars before the tables are answered well, except where noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Two interfaces, as it should be.
    Good,
    /// Noise first, then a good answer (every request).
    NoiseThenGood,
    /// Rows without end.
    Endless,
    /// Rows without end, one per answer and slowly.
    EndlessSlow,
    /// The identifier that was asked for, again.
    Repeated,
    /// Identifiers that fall.
    Decreasing,
    /// Two rows in turn for ever.
    Circle,
    /// Indexes of three numbers.
    LongIndex,
    /// 2,000 bindings to every request.
    Flood,
    /// No binding at all.
    Empty,
    /// genErr.
    GenErr,
    /// tooBig, however little is asked.
    TooBig,
    /// authorizationError.
    NotAuthorised,
    /// Random bytes (every request).
    Garbage,
    /// The first half of a good answer (every request).
    Truncated,
    /// 60 kB of noise (every request).
    Huge,
    /// A good answer to another request (every request).
    WrongId,
    /// A good answer with another community (every request).
    WrongCommunity,
    /// A good answer from another port (every request).
    OtherPort,
}

use Manner::*;

/// The successor of `oid` in a table of `rows` rows, or the first row of the next column.
fn successor(oid: &[u32], rows: u32) -> Vec<u32> {
    let x_table = oid.starts_with(&[1, 3, 6, 1, 2, 1, 31]);
    let column_length = if x_table { 11 } else { 10 };
    let mut next = oid.to_vec();
    match oid.get(column_length) {
        None => next.push(1),
        Some(index) if *index < rows => next[column_length] += 1,
        Some(_) => {
            next[column_length - 1] += 1;
            next[column_length] = 1;
        }
    }
    next
}

/// Bindings of a GETBULK answer.
fn bulk(request: &Request, next: impl Fn(&[u32]) -> Vec<u32>) -> Vec<Vec<u32>> {
    let mut cursors = request.oids.clone();
    let mut names = Vec::new();
    for _ in 0..request.repetitions {
        for cursor in &mut cursors {
            *cursor = next(cursor);
            names.push(cursor.clone());
        }
    }
    names
}

/// Names in the answer to a request.
fn names(manner: Manner, request: &Request) -> Vec<Vec<u32>> {
    if !request.is_bulk {
        return request.oids.clone();
    }
    match manner {
        Endless => bulk(request, |oid| successor(oid, u32::MAX)),
        EndlessSlow => vec![successor(&request.oids[0], u32::MAX)],
        Repeated => bulk(request, <[u32]>::to_vec),
        Decreasing => vec![vec![1, 3, 6, 1, 2, 1, 1, 1, 0]],
        Circle => bulk(request, |oid| {
            let next = successor(oid, 3);
            let last = next.len() - 1;
            let index = next[last];
            [&next[..last], &[if index == 3 { 1 } else { index }]].concat()
        }),
        LongIndex => bulk(request, |oid| [oid, &[1, 2, 3]].concat()),
        Flood => (0..2_000)
            .map(|i| [&request.oids[0][..], &[i + 1]].concat())
            .collect(),
        Empty => Vec::new(),
        _ => bulk(request, |oid| successor(oid, 2)),
    }
}

/// Datagrams in answer to a request.
fn answers(manner: Manner, request: &Request) -> Vec<Vec<u8>> {
    let status = match manner {
        TooBig if request.is_bulk => 1,
        GenErr if request.is_bulk => 5,
        NotAuthorised if request.is_bulk => 16,
        _ => 0,
    };
    let good = response(&request.id, "public", status, &names(manner, request));
    let noise = vec![0xff, 0x30, 0x81, 0x00, 0x99];
    match manner {
        NoiseThenGood => vec![noise, vec![0x30, 0x81], Vec::new(), good],
        Garbage => vec![noise],
        Truncated => vec![good[..good.len() / 2].to_vec()],
        Huge => vec![vec![0x55; 60_000]],
        WrongId => vec![response(&[0x11; 4], "public", 0, &names(Good, request))],
        WrongCommunity => vec![response(&request.id, "secret", 0, &names(Good, request))],
        _ => vec![good],
    }
}

/// Serves until the returned guard is dropped.
async fn agent(manner: Manner) -> (u16, tokio::sync::oneshot::Sender<()>) {
    let socket = UdpSocket::bind((V4, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let other_port = UdpSocket::bind((V4, 0)).await.unwrap();
    let (guard, mut dropped) = tokio::sync::oneshot::channel();
    spawn_named("hostile-agent", async move {
        let mut buffer = vec![0; 65_535];
        loop {
            let (length, source) = tokio::select! {
                received = socket.recv_from(&mut buffer) => received.unwrap(),
                _ = &mut dropped => return,
            };
            let request = request(&buffer[..length]);
            if manner == EndlessSlow && request.is_bulk {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let from = if manner == OtherPort {
                &other_port
            } else {
                &socket
            };
            for answer in answers(manner, &request) {
                from.send_to(&answer, source).await.unwrap();
            }
        }
    });
    (port, guard)
}

#[tokio::test]
async fn every_bad_answer_ends_in_its_reason() {
    let table = [
        (Good, LONG, Outcome::Ok, Reason::None),
        (NoiseThenGood, LONG, Outcome::Ok, Reason::None),
        (Endless, LONG, Outcome::Failed, Reason::TooLarge),
        (EndlessSlow, SHORT, Outcome::Failed, Reason::Timeout),
        (Repeated, LONG, Outcome::Failed, Reason::NotIncreasing),
        (Decreasing, LONG, Outcome::Failed, Reason::NotIncreasing),
        (Circle, LONG, Outcome::Failed, Reason::NotIncreasing),
        (LongIndex, LONG, Outcome::Failed, Reason::Malformed),
        (Flood, LONG, Outcome::Failed, Reason::Malformed),
        (Empty, LONG, Outcome::Failed, Reason::Malformed),
        (GenErr, LONG, Outcome::Failed, Reason::RemoteError),
        (TooBig, LONG, Outcome::Failed, Reason::RemoteError),
        (
            NotAuthorised,
            LONG,
            Outcome::Failed,
            Reason::AuthenticationFailed,
        ),
        (Garbage, SHORT, Outcome::Failed, Reason::Malformed),
        (Truncated, SHORT, Outcome::Failed, Reason::Malformed),
        (Huge, SHORT, Outcome::Failed, Reason::Malformed),
        (WrongId, SHORT, Outcome::Failed, Reason::Timeout),
        (WrongCommunity, SHORT, Outcome::Failed, Reason::Timeout),
        (OtherPort, SHORT, Outcome::Failed, Reason::Timeout),
    ];
    let poller = poller();
    let (good_port, _good) = agent(Good).await;
    let good_check = check(100, good_port, v2c("public"), LONG);
    for (id, (manner, timeout, outcome, reason)) in (1..).zip(table) {
        let (port, _agent) = agent(manner).await;
        let check = check(id, port, v2c("public"), timeout);
        let measured = run(&poller, &check, V4).await;
        assert_eq!(
            (measured.outcome, measured.reason),
            (outcome, reason),
            "{manner:?}"
        );
        let complete = outcome == Outcome::Ok;
        assert_eq!(
            measured.values.len() > 60,
            complete,
            "{manner:?}: {measured:?}"
        );
        let next = run(&poller, &good_check, V4).await;
        assert_eq!(next.outcome, Outcome::Ok, "after {manner:?}");
    }
}

#[tokio::test]
async fn the_values_of_a_complete_module_survive_a_later_failure() {
    let (port, _agent) = agent(Repeated).await;
    let check = check(1, port, v2c("public"), LONG);
    let measured = run(&poller(), &check, V4).await;
    assert_eq!(measured.reason, Reason::NotIncreasing);
    assert_eq!(value(&measured, metric::SYS_UP_TIME, ObjectId(0)), Some(7));
    let kinds: Vec<_> = measured.definitions.iter().map(|d| d.kind).collect();
    assert_eq!(kinds, [ObjectKind::System]);
}
