use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const RULE: Rule = Rule {
    bad_slots: 3,
    good_slots: 3,
    silent_slots: 5,
};

fn probes(sent: u32, answered: u32) -> Probes {
    Probes { sent, answered }
}

/// One character per slot: g good, b bad, s silent, _ gap, - off.
fn runs(text: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (slot, c) in (0..).zip(text.chars()) {
        let signal = match c {
            'g' => Signal::Good,
            'b' => Signal::Bad(Cause::Link),
            's' => Signal::Silent,
            '_' => Signal::Gap,
            _ => Signal::Off,
        };
        if runs.last().is_none_or(|run| run.signal != signal) {
            runs.push(Run { from: slot, signal });
        }
    }
    runs
}

/// One character per slot: U up, D down, ? unknown, - not in service.
fn states(text: &str) -> String {
    let end = i64::try_from(text.len()).unwrap();
    let found = intervals(&RULE, None, &runs(text), end);
    (0..end)
        .map(|slot| {
            let at = found.iter().rfind(|interval| interval.from <= slot);
            match at.map(|interval| interval.state) {
                Some(State::Up) => 'U',
                Some(State::Down) => 'D',
                Some(State::Unknown) => '?',
                Some(State::NotInService) | None => '-',
            }
        })
        .collect()
}

#[test]
fn sequences_of_slots_become_states() {
    for (slots, expected) in [
        // Up with the first good slot, down from the first of three bad ones, up from the first of three good ones.
        ("ggbbbgggg", "UUDDDUUUU"),
        // Shorter dips do not count, in either direction.
        ("ggbbgbbg", "UUUUUUUU"),
        ("gbbbbggbgg", "UDDDDDDDDD"),
        // Never good: unknown until three bad ones, then down from the first.
        ("bb", "??"),
        ("bbb", "DDD"),
        // Short silence holds what was, long silence is down from its first slot.
        ("ggssssgg", "UUUUUUUU"),
        ("ggsssssggg", "UUDDDDDUUU"),
        // Silence does not break a streak of bad slots; it is not counted either.
        ("ggbsbsb", "UUDDDDD"),
        // A gap is unknown until something is decided, and keeps what was before.
        ("gg__gg", "UU??UU"),
        ("gbbb__bg", "UDDD??DD"),
        ("gbbb__ggg", "UDDD??UUU"),
        // ... and bad slots on both sides of it do not add up.
        ("gb__bb", "UU??UU"),
        // Not monitored.
        ("gbbb--gg", "UDDD--UU"),
        ("---", "---"),
    ] {
        assert_eq!(states(slots), expected, "{slots}");
    }
}

#[test]
fn every_row_of_the_table() {
    let both = Around {
        probers: 2,
        ..Around::default()
    };
    let evidence = |out: Option<bool>, gateway: Option<bool>, inbound: &[bool], heartbeat: bool| {
        let of = |good: bool| probes(5, if good { 5 } else { 0 });
        Evidence {
            anchors: out
                .map(|good| ("a".to_owned(), of(good)))
                .into_iter()
                .collect(),
            gateway: gateway.map(of),
            inbound: (0..)
                .map(|i: usize| i.to_string())
                .zip(inbound.iter().map(|good| of(*good)))
                .collect(),
            heartbeat,
        }
    };
    for (row, evidence, expected) in [
        (
            "2",
            evidence(Some(true), Some(false), &[false, false], false),
            Signal::Good,
        ),
        (
            "4",
            evidence(Some(false), Some(true), &[true, true], true),
            Signal::Bad(Cause::Link),
        ),
        (
            "4",
            evidence(Some(false), None, &[], true),
            Signal::Bad(Cause::Link),
        ),
        (
            "5",
            evidence(Some(false), Some(false), &[false], true),
            Signal::Bad(Cause::Device),
        ),
        (
            "5a",
            evidence(Some(false), Some(false), &[true, false], true),
            Signal::Good,
        ),
        (
            "6",
            evidence(None, None, &[true, false], false),
            Signal::Good,
        ),
        (
            "6",
            evidence(None, None, &[false, false], true),
            Signal::Good,
        ),
        (
            "9",
            evidence(None, None, &[false, false], false),
            Signal::Bad(Cause::Unattributed),
        ),
        ("11", evidence(None, None, &[false], false), Signal::Silent),
        ("11", evidence(None, None, &[], false), Signal::Silent),
    ] {
        assert_eq!(evidence.signal(&both), expected, "row {row}");
    }
    let gap = Around {
        gap: true,
        ..both.clone()
    };
    assert_eq!(
        evidence(None, None, &[], false).signal(&gap),
        Signal::Gap,
        "row 10"
    );
    assert_eq!(
        evidence(None, None, &[true], false).signal(&gap),
        Signal::Good
    );
    // A lone prober decides, unless it is cut off itself.
    let lone = Around {
        probers: 1,
        ..Around::default()
    };
    let lost = evidence(None, None, &[false], false);
    assert_eq!(lost.signal(&lone), Signal::Bad(Cause::Unattributed));
    let blind = Around {
        blind: vec!["0".to_owned()],
        ..lone
    };
    assert_eq!(lost.signal(&blind), Signal::Silent);
}

#[test]
fn the_loss_that_counts_depends_on_the_number_of_probes() {
    for (sent, answered, expected) in [
        (4, 0, None),
        (5, 3, Some(true)),
        (5, 2, Some(false)),
        (19, 8, Some(true)),
        (20, 15, Some(true)),
        (20, 14, Some(false)),
        (60, 49, Some(true)),
        (60, 48, Some(false)),
        (5, 7, Some(true)),
    ] {
        assert_eq!(
            probes(sent, answered).verdict(),
            expected,
            "{answered} of {sent}"
        );
    }
}

#[test]
fn numbers_in_the_catalogue_come_back() {
    for signal in [Signal::Off, Signal::Good, Signal::Silent, Signal::Gap]
        .into_iter()
        .chain((0..5).map(|cause| Signal::Bad(Cause::from_number(cause))))
    {
        assert_eq!(Signal::from_number(signal.number()), signal);
    }
    for state in [State::Down, State::Up, State::Unknown, State::NotInService] {
        assert_eq!(State::from_number(state.number()), Some(state));
    }
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    let some = (0_u32..12, 0_u32..12).prop_map(|(sent, answered)| probes(sent, answered.min(sent)));
    let named = || proptest::collection::btree_map("[ab]", some.clone(), 0..3);
    (
        named(),
        proptest::option::of(some.clone()),
        named(),
        any::<bool>(),
    )
        .prop_map(|(anchors, gateway, inbound, heartbeat)| Evidence {
            anchors,
            gateway,
            inbound,
            heartbeat,
        })
}

proptest! {
    /// Promise 6: the same records give the same evidence, in any order of arrival.
    #[test]
    fn evidence_does_not_depend_on_the_order_of_arrival(
        parts in vec(any_evidence(), 1..8),
        swaps in vec((any::<Index>(), any::<Index>()), 0..16),
    ) {
        let sum = |parts: &[Evidence]| {
            let mut all = Evidence::default();
            for part in parts {
                all.add(part);
            }
            all
        };
        let mut shuffled = parts.clone();
        for (a, b) in swaps {
            shuffled.swap(a.index(parts.len()), b.index(parts.len()));
        }
        prop_assert_eq!(sum(&parts), sum(&shuffled));
    }

    /// Judging in two steps from far enough back gives what judging at once gives: what the store does for late records.
    #[test]
    fn judging_again_from_before_a_change_gives_the_whole(text in "([gbs_-]|bs|sssss|gg){1,80}", changed in any::<Index>(), was in proptest::sample::select(vec!['g', 'b', 's', '_'])) {
        let all = runs(&text);
        let end = i64::try_from(text.len()).unwrap();
        // What was known before slot `changed` got its present signal.
        let mut old_text: Vec<char> = text.chars().collect();
        let changed = changed.index(text.len());
        old_text[changed] = was;
        let old_runs = runs(&old_text.iter().collect::<String>());
        let old = intervals(&RULE, None, &old_runs, end);
        let whole = intervals(&RULE, None, &all, end);
        let changed = i64::try_from(changed).unwrap();
        let start_of = |slot: Slot| -> Result<Option<Slot>, std::convert::Infallible> {
            Ok(old_runs.iter().rfind(|run| run.from <= slot).map(|run| run.from))
        };
        let Ok(Some(from)) = rejudge_from(&RULE, changed, start_of) else {
            return Ok(());
        };
        let before = old.iter().rfind(|interval| interval.from < from);
        let rest: Vec<Run> = all.iter().copied().filter(|run| run.from >= from).collect();
        let again = intervals(&RULE, before, &rest, end);
        for slot in from..end {
            let at = |list: &[Interval]| list.iter().rfind(|i| i.from <= slot).map(|i| (i.state, i.firm_up));
            prop_assert_eq!(at(&again), at(&whole), "slot {}", slot);
        }
    }
}
