//! Traces through paths that exist only as a table, with a clock that only counts.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// What a packet meets.
#[derive(Debug, Clone, Copy)]
enum Node {
    /// A router that answers, with this last byte of its address.
    Router(u8),
    /// A router that answers each second packet.
    Lossy(u8),
    /// A router that quotes too little.
    Short(u8),
    Silent,
    /// Refuses to forward.
    Refuses(u8),
    Target,
    /// A target that does not answer.
    Hole,
}

use Node::{Hole, Lossy, Refuses, Router, Short, Silent, Target};

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// Who answers a packet with this time to live, and what.
fn answer(path: &[Node], hop: u8) -> Option<(Node, IpAddr, Said)> {
    for (distance, node) in (1_u8..).zip(path) {
        match node {
            Target => return Some((*node, address(200), Said::Arrived)),
            Hole => return None,
            Refuses(last) => {
                let said = Said::Refused(Reason::Prohibited);
                return Some((*node, address(*last), said));
            }
            Router(last) | Lossy(last) | Short(last) if distance == hop => {
                return Some((*node, address(*last), Said::Passing));
            }
            Silent if distance == hop => return None,
            _ => {}
        }
    }
    None
}

struct Traced {
    walk: Walk,
    took: Duration,
    sent: Vec<u8>,
    most_out: usize,
}

/// Runs a trace in which every answer takes a millisecond a hop.
fn trace(path: &[Node], parallel: u8) -> Traced {
    let extent = Extent {
        first_hop: 1,
        max_hop: 30,
        attempts: 3,
        parallel,
    };
    trace_within(path, extent, Duration::from_mins(1))
}

fn trace_within(path: &[Node], extent: Extent, limit: Duration) -> Traced {
    let mut walk = Walk::new(extent);
    let mut now = Duration::ZERO;
    let mut sent = Vec::new();
    let mut most_out = 0;
    // When, index, hop.
    let mut coming: Vec<(Duration, u16, u8)> = Vec::new();
    while now < limit {
        coming.sort();
        while coming.first().is_some_and(|(when, ..)| *when <= now) {
            let (_, index, hop) = coming.remove(0);
            let Some((node, from, said)) = answer(path, hop) else {
                continue;
            };
            let answer = Answer {
                from: Some(from),
                said,
                round_trip: Some(MS * u32::from(hop)),
            };
            match node {
                Lossy(_) if asked(&sent, hop) % 2 == 1 => {}
                Short(_) => {
                    if let Some(index) = walk.answered_unidentified() {
                        walk.answered(index, answer);
                    }
                }
                _ => walk.answered(index, answer),
            }
        }
        match walk.next(now) {
            Step::Ask { index, hop } => {
                sent.push(hop);
                coming.push((now + MS * u32::from(hop), index, hop));
            }
            Step::Wait(until) => {
                assert!(until > now, "waits for nothing");
                most_out = most_out.max(walk.waiting().count());
                let next = coming
                    .iter()
                    .map(|(when, ..)| *when)
                    .filter(|when| *when > now);
                now = next.min().unwrap_or(until).min(until);
            }
            Step::Done => {
                let took = now;
                return Traced {
                    walk,
                    took,
                    sent,
                    most_out,
                };
            }
        }
    }
    Traced {
        walk,
        took: limit,
        sent,
        most_out,
    }
}

/// How often a hop was asked.
fn asked(sent: &[u8], hop: u8) -> usize {
    sent.iter().copied().filter(|sent| *sent == hop).count()
}

/// "1:3/3 2:0/3" for hop, received, sent; behind a hop with several responders how many.
fn shown(walk: &Walk) -> String {
    let rows = walk.rows();
    let row = |row: &Row| {
        let received: u64 = row.responders.iter().map(|r| r.received).sum();
        format!("{}:{received}/{}", row.hop, row.sent)
    };
    rows.iter().map(row).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_kind_of_path_ends_as_it_should() {
    let long: Vec<Node> = (1..=40).map(Router).collect();
    let circle: Vec<Node> = [Router(1)]
        .into_iter()
        .chain([Router(2), Router(3)].into_iter().cycle().take(60))
        .collect();
    let behind = [
        Router(1),
        Silent,
        Silent,
        Silent,
        Silent,
        Silent,
        Silent,
        Silent,
        Target,
    ];
    let cases: [(&str, &[Node], End, u8, &str); 12] = [
        (
            "plain",
            &[Router(1), Router(2), Target],
            End::Arrived,
            3,
            "1:3/3 2:3/3 3:4/4",
        ),
        ("the target itself", &[Target], End::Arrived, 1, "1:3/3"),
        (
            "a silent router",
            &[Router(1), Silent, Target],
            End::Arrived,
            3,
            "1:3/3 2:0/3 3:4/4",
        ),
        (
            "a lossy router",
            &[Router(1), Lossy(2), Target],
            End::Arrived,
            3,
            "1:3/3 2:1/3 3:4/4",
        ),
        (
            "a prohibition",
            &[Router(1), Refuses(2)],
            End::Refused(Reason::Prohibited),
            2,
            "1:3/3 2:3/3",
        ),
        (
            "a dead target",
            &[Router(1), Router(2), Hole],
            End::Silent,
            2,
            "1:3/3 2:3/3 3:0/3",
        ),
        ("nobody", &[Hole], End::Silent, 0, "1:0/3"),
        (
            "a target behind a wall",
            &behind,
            End::ArrivedBehindSilence,
            1,
            "1:3/3 2:0/3",
        ),
        ("too far", &long, End::TooFar, 30, ""),
        (
            "a circle",
            &circle,
            End::Loop,
            6,
            "1:3/3 2:3/3 3:3/3 4:3/3 5:3/3 6:3/3",
        ),
        (
            "short quotes",
            &[Short(1), Short(2), Target],
            End::Arrived,
            3,
            "1:3/3 2:3/3 3:4/4",
        ),
        (
            "short quotes and a dead target",
            &[Short(1), Short(2), Hole],
            End::Silent,
            2,
            "1:3/3 2:3/3 3:0/3",
        ),
    ];
    for (name, path, end, distance, rows) in cases {
        let traced = trace(path, 6);
        assert_eq!(traced.walk.end(), end, "{name}");
        assert_eq!(traced.walk.distance(), distance, "{name}");
        if !rows.is_empty() {
            assert_eq!(shown(&traced.walk), rows, "{name}");
        }
        assert!(traced.most_out <= 6, "{name}: {} at once", traced.most_out);
    }
}

#[test]
fn a_clean_path_takes_few_round_trips_and_packets() {
    let path = [Router(1), Router(2), Router(3), Router(4), Target];
    let traced = trace(&path, 6);
    // Six to begin with, of which two count for the target; two more for each router and one for the target.
    assert_eq!(traced.sent.len(), 6 + 2 * 4 + 1);
    assert!(traced.took <= MS * 20, "{:?}", traced.took);
    let slow = trace(&path, 1);
    assert_eq!(slow.sent.len(), 3 * 5);
    assert_eq!(slow.walk.rows().len(), 5);
}

#[test]
fn silence_costs_as_much_as_the_others_take() {
    // Three times the longest round trip and a quarter of a second, at least half a second, three times over.
    let traced = trace(&[Router(1), Silent, Target], 6);
    assert!(traced.took <= MS * 1_600, "{:?}", traced.took);
    // Nothing is known here: 3.5 s for the first, the hop itself twice more, and the far target three times.
    let traced = trace(&[Hole], 6);
    assert_eq!(traced.took, FIRST_PATIENCE * 6);
}

#[test]
fn what_was_not_waited_for_is_neither_sent_nor_lost() {
    let extent = Extent {
        first_hop: 1,
        max_hop: 30,
        attempts: 3,
        parallel: 6,
    };
    let traced = trace_within(&[Router(1), Router(2), Hole], extent, MS * 100);
    assert_eq!(traced.walk.end(), End::Cut);
    assert_eq!(shown(&traced.walk), "1:1/1 2:1/1 3:0/0");
}

#[test]
fn a_late_answer_counts_and_a_second_one_does_not() {
    let mut walk = Walk::new(Extent {
        first_hop: 1,
        max_hop: 1,
        attempts: 1,
        parallel: 1,
    });
    assert_eq!(walk.next(Duration::ZERO), Step::Ask { index: 0, hop: 1 });
    assert_eq!(walk.next(MS), Step::Wait(FIRST_PATIENCE));
    let answer = |last| Answer {
        from: Some(address(last)),
        said: Said::Arrived,
        round_trip: Some(MS),
    };
    // Lost, and already on to the next question.
    assert!(matches!(
        walk.next(FIRST_PATIENCE),
        Step::Ask { hop: 255, .. }
    ));
    walk.answered(0, answer(1));
    walk.answered(0, answer(2));
    walk.answered(7, answer(3));
    assert_eq!(shown(&walk), "1:1/1");
    assert_eq!(walk.next(FIRST_PATIENCE * 3), Step::Done);
    assert_eq!(walk.end(), End::Arrived);
}

#[test]
fn several_who_answer_at_one_hop_are_told_apart() {
    let mut walk = Walk::new(Extent {
        first_hop: 1,
        max_hop: 1,
        attempts: 3,
        parallel: 1,
    });
    for (index, last, said) in [
        (0, 1, Said::Passing),
        (1, 2, Said::Passing),
        (2, 2, Said::Passing),
    ] {
        assert_eq!(walk.next(MS), Step::Ask { index, hop: 1 });
        walk.answered(
            index,
            Answer {
                from: Some(address(last)),
                said,
                round_trip: None,
            },
        );
    }
    assert_eq!(walk.next(MS), Step::Done);
    assert_eq!(walk.end(), End::TooFar);
    let rows = walk.rows();
    let found: Vec<_> = rows[0]
        .responders
        .iter()
        .map(|r| (r.address, r.received))
        .collect();
    assert_eq!(found, [(address(2), 2), (address(1), 1)]);
}
