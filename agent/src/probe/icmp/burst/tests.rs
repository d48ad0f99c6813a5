//! Replies, errors and stragglers in every order.

use std::net::Ipv4Addr;

use super::*;

const STEADY: ClockOffset = ClockOffset {
    offset_ns: 5,
    uncertainty_ns: 1,
};

fn burst(packets: u16) -> Burst {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Burst::new(localhost, packets, 56, Departing::default())
}

fn leave(burst: &Burst, index: u16) {
    burst.leaving(
        index,
        Departure {
            real_ns: 1_000_000,
            clock: STEADY,
            allowed: Duration::from_millis(10),
        },
    );
}

fn answer(after_us: i64) -> Answer {
    Answer {
        real_ns: 1_000_000 + after_us * 1_000,
        clock: STEADY,
        hop_limit: Some(64),
    }
}

fn summary(burst: &Burst) -> Summary {
    burst.summary(Stragglers::default())
}

#[test]
fn replies_are_received_duplicate_or_late() {
    let burst = burst(2);
    leave(&burst, 0);
    leave(&burst, 1);
    assert_eq!(burst.answered(0, answer(250)), Verdict::Received);
    assert_eq!(burst.answered(0, answer(300)), Verdict::Duplicate);
    assert_eq!(burst.answered(1, answer(10_001)), Verdict::Late);
    assert_eq!(burst.answered(1, answer(10_002)), Verdict::Duplicate);
    assert_eq!(burst.answered(7, answer(1)), Verdict::Late, "never planned");
    let summary = summary(&burst);
    assert_eq!((summary.sent, summary.received, summary.silent), (2, 1, 0));
    let expected = Stragglers {
        duplicates: 2,
        late: 1,
        received_bytes: 0,
    };
    assert_eq!(summary.stragglers, expected);
    assert_eq!(
        summary.round_trips,
        [Some(Duration::from_micros(250)), None]
    );
    assert_eq!(summary.refusal, Refusal::failed(Reason::Timeout));
    assert_eq!(summary.hop_limit, Some(64));
}

#[test]
fn what_comes_after_the_end_is_told_with_the_next_run() {
    let first = burst(2);
    leave(&first, 0);
    leave(&first, 1);
    first.answered(0, answer(1));
    assert_eq!(summary(&first).stragglers, Stragglers::default());
    // In time by its stamp, but the run has been reported.
    assert_eq!(first.answered(1, answer(2)), Verdict::Late);
    assert_eq!(first.answered(1, answer(3)), Verdict::Duplicate);
    assert_eq!(first.answered(0, answer(4)), Verdict::Duplicate);
    first.received_bytes(300);

    let second = burst(1);
    leave(&second, 0);
    second.answered(0, answer(1));
    second.answered(0, answer(2));
    let expected = Stragglers {
        duplicates: 3,
        late: 1,
        received_bytes: 300,
    };
    assert_eq!(second.summary(first.take_stragglers()).stragglers, expected);
    assert_eq!(first.take_stragglers(), Stragglers::default());
}

#[test]
fn a_reply_behind_one_to_a_later_request_is_out_of_order() {
    let burst = burst(5);
    for index in 0..5 {
        leave(&burst, index);
    }
    // RFC 4737 section 3.3: 1 and 2 come after 3; the copy of 3 and 4 are in order.
    for (index, verdict) in [
        (0, Verdict::Received),
        (3, Verdict::Received),
        (1, Verdict::Received),
        (2, Verdict::Received),
        (3, Verdict::Duplicate),
        (4, Verdict::Received),
    ] {
        assert_eq!(burst.answered(index, answer(9)), verdict);
    }
    assert_eq!(summary(&burst).reordered, 2);
}

#[test]
fn what_this_machine_dropped_is_not_blamed_on_the_path() {
    let burst = burst(3);
    (0..3).for_each(|index| leave(&burst, index));
    burst.answered(0, answer(1));
    let mut some = summary(&burst);
    some.forgive(1);
    assert_eq!((some.sent, some.received, some.silent), (2, 1, 1));
    some.forgive(100);
    assert_eq!((some.sent, some.received, some.silent), (1, 1, 0));

    let silent = Burst::new(burst.destination, 1, 56, Departing::default());
    leave(&silent, 0);
    let mut none = summary(&silent);
    none.forgive(0);
    assert_eq!(none.refusal, Refusal::failed(Reason::Timeout));
    none.forgive(1);
    assert_eq!(none.refusal, Refusal::not_measured(Reason::LocalError));
}

#[test]
fn a_round_trip_across_a_clock_step_is_discarded_but_the_reply_counts() {
    for step_ns in [
        86_400_000_000_000,
        -86_400_000_000_000,
        1_000_000,
        -1_000_000,
    ] {
        let burst = burst(1);
        leave(&burst, 0);
        let mut stepped = answer(250);
        stepped.real_ns += step_ns;
        stepped.clock.offset_ns += step_ns;
        assert_eq!(burst.answered(0, stepped), Verdict::ReceivedAcrossStep);
        let summary = summary(&burst);
        assert_eq!(
            (summary.received, &summary.round_trips[..]),
            (1, &[None][..])
        );
    }
}

#[test]
fn a_reply_has_the_last_word() {
    let burst = burst(1);
    leave(&burst, 0);
    assert!(burst.failed(0, Reason::HostUnreachable));
    assert!(
        !burst.failed(0, Reason::Prohibited),
        "the first error stays"
    );
    assert_eq!(burst.answered(0, answer(9)), Verdict::Received);
    assert!(!burst.failed(0, Reason::HostUnreachable));
    assert_eq!(summary(&burst).received, 1);
}

#[test]
fn the_last_error_is_the_reason_and_remembered() {
    let burst = burst(2);
    (0..2).for_each(|index| leave(&burst, index));
    let trouble = |code| Trouble {
        offender: burst.destination,
        kind: 3,
        code,
    };
    assert!(burst.troubled(0, Reason::HostUnreachable, trouble(1)));
    assert!(burst.troubled(1, Reason::Prohibited, trouble(13)));
    assert!(!burst.troubled(1, Reason::HostUnreachable, trouble(1)));
    let summary = summary(&burst);
    assert_eq!(summary.refusal, Refusal::failed(Reason::Prohibited));
    assert_eq!((summary.errors, summary.trouble), (2, Some(trouble(13))));
}

#[test]
fn what_this_machine_refuses_blames_the_target_only_for_the_path() {
    let burst = burst(2);
    burst.refused(0, Refusal::not_measured(Reason::NoAddress));
    let told = summary(&burst);
    assert_eq!(told.sent, 0);
    assert_eq!(told.refusal, Refusal::not_measured(Reason::NoAddress));
    burst.refused(1, Refusal::failed(Reason::NetworkUnreachable));
    let summary = summary(&burst);
    assert_eq!(summary.sent, 1);
    assert_eq!(summary.refusal, Refusal::failed(Reason::NetworkUnreachable));
}

#[tokio::test]
async fn it_is_settled_when_nothing_more_can_come() {
    let burst = burst(3);
    leave(&burst, 0);
    leave(&burst, 1);
    burst.answered(0, answer(1));
    burst.failed(1, Reason::TimeExceeded);
    assert!(!burst.is_settled(), "the third is still to be sent");
    burst.refused(2, Refusal::failed(Reason::Prohibited));
    burst.settled().await;
}
