//! Any records survive a block, and no bytes whatever make the decoder panic or allocate without bound.

#[path = "shared/workload.rs"]
#[expect(
    dead_code,
    reason = "shared with the benchmark, which uses other parts"
)]
mod workload;

use extranet_proto::block;
use extranet_proto::id::{AssignmentVersion, CheckId, Incarnation, ObjectId};
use extranet_proto::limits;
use extranet_proto::metric::Metric;
use extranet_proto::record::{
    AgentEvent, Body, CheckResult, Definition, DropReason, DroppedRange, EventKind, ObjectKind,
    Outcome, Reason, Record, RecordTime, SecurityAction, SecurityEvent, SecurityRule, Severity,
    Value,
};
use proptest::prelude::*;
use proptest::sample::select;

/// Numbers of all sizes; uniform 64 bits would nearly always be huge.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(bits, shift)| bits >> shift)
}

fn small(limit: u32) -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0..limit, 1 => any::<u32>()]
}

fn value() -> impl Strategy<Value = Value> {
    let metric = prop_oneof![9 => 1_u16..12, 1 => any::<u16>()];
    (metric, small(4), number()).prop_map(|(metric, object, raw)| Value {
        metric: Metric(metric),
        object: ObjectId(object),
        raw,
    })
}

fn result() -> impl Strategy<Value = Body> {
    let verdict = (select(Outcome::ALL), select(Reason::ALL));
    let values = prop::collection::vec(value(), 0..12);
    (small(3), small(5), verdict, number(), values).prop_map(
        |(assignment, check, (outcome, reason), duration_us, values)| {
            Body::Result(CheckResult {
                assignment: AssignmentVersion(assignment),
                check: CheckId(check),
                outcome,
                reason,
                duration_us,
                values,
            })
        },
    )
}

fn definition() -> impl Strategy<Value = Body> {
    let label = ("[a-zA-Z]{1,12}", "\\PC{0,20}");
    let labels = prop::collection::vec(label, 0..5);
    (small(50), small(5), select(ObjectKind::ALL), labels).prop_map(
        |(object, check, kind, labels)| {
            Body::Definition(Definition {
                object: ObjectId(object),
                check: CheckId(check),
                kind,
                labels,
            })
        },
    )
}

fn dropped() -> impl Strategy<Value = Body> {
    let span = (number(), number()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    (any::<u64>(), span, select(DropReason::ALL)).prop_map(|(incarnation, (from, to), reason)| {
        Body::Dropped(DroppedRange {
            incarnation: Incarnation(incarnation),
            from_inclusive: from,
            to_exclusive: to,
            reason,
        })
    })
}

fn event() -> impl Strategy<Value = Body> {
    (select(EventKind::ALL), any::<i64>(), "\\PC{0,40}")
        .prop_map(|(kind, value, text)| Body::Event(AgentEvent { kind, value, text }))
}

fn security() -> impl Strategy<Value = Body> {
    let choice = (
        select(SecurityRule::ALL),
        select(SecurityAction::ALL),
        select(Severity::ALL),
    );
    let evidence = prop::collection::vec(("[a-z_]{0,12}", "\\PC{0,20}"), 0..5);
    (choice, "\\PC{0,20}", number(), any::<i64>(), evidence).prop_map(
        |((rule, action, severity), object, boottime_ms, wall_ms, evidence)| {
            Body::Security(SecurityEvent {
                rule,
                action,
                severity,
                object,
                first_seen: RecordTime {
                    boottime_ms,
                    wall_ms,
                },
                evidence,
            })
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    let body = prop_oneof![
        8 => result(),
        2 => definition(),
        1 => dropped(),
        1 => event(),
        1 => security(),
        1 => prop_oneof![Just(5_u8), 7_u8..].prop_map(|kind| Body::Unknown { kind }),
    ];
    (number(), any::<i64>(), body).prop_map(|(boottime_ms, wall_ms, body)| Record {
        time: RecordTime {
            boottime_ms,
            wall_ms,
        },
        body,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn records_survive_a_block(records in prop::collection::vec(record(), 0..60)) {
        let block = block::encode(&records);
        prop_assert_eq!(block::count(&block), Ok(records.len()));
        prop_assert_eq!(block::decode(&block), Ok(records));
    }

    #[test]
    fn a_damaged_block_is_an_answer(
        records in prop::collection::vec(record(), 1..30),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut block = block::encode(&records);
        for (at, byte) in damage {
            *at.get_mut(&mut block) = byte;
        }
        if let Ok(read) = block::decode(&block) {
            prop_assert_eq!(Ok(read.len()), block::count(&block));
        }
    }

    #[test]
    fn any_bytes_are_an_answer(mut bytes in prop::collection::vec(any::<u8>(), 0..200), plain: bool) {
        if plain && bytes.len() > 2 {
            bytes[..2].copy_from_slice(&[1, 0]);
        }
        if let Ok(read) = block::decode(&bytes) {
            prop_assert!(read.len() <= limits::BLOCK_RECORDS);
        }
    }
}

#[test]
fn a_block_cut_anywhere_is_refused() {
    for records in [
        workload::live_batch(workload::FIBRE_RTT_US),
        workload::sealed_block(2),
    ] {
        let block = block::encode(&records);
        for len in 1..block.len() {
            assert!(block::decode(&block[..len]).is_err(), "cut to {len} bytes");
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_an_answer() {
    let block = block::encode(&workload::live_batch(workload::FIBRE_RTT_US));
    let mut accepted = 0;
    for bit in 0..block.len() * 8 {
        let mut damaged = block.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(records) = block::decode(&damaged) {
            assert_eq!(Ok(records.len()), block::count(&damaged));
            accepted += 1;
        }
    }
    // Checksums are the business of the journal and of TLS: most flips only change a number.
    assert!(accepted > 0);
}

/// A few bytes that claim the largest everything.
#[test]
fn small_blocks_cannot_claim_much() {
    let many_records = limits::BLOCK_RECORDS as u64;
    let mut block = vec![1, 0];
    put(&mut block, many_records);
    block.push(1); // every record is a result
    let mut section = vec![1, 0, 0, 0, 0, 0, 0, 0]; // key 1; all other columns constant 0, shape 0
    put(&mut section, 1); // one shape
    section.push(24); // of this many values
    put(&mut section, limits::RESULT_VALUES as u64);
    section.extend([1, 0, 0]); // metric 1, object 0, every value 0
    put(&mut block, section.len() as u64);
    block.extend(section);
    assert_eq!(
        block::decode(&block),
        Err(block::BlockError::TooMany {
            what: "values",
            limit: limits::BLOCK_VALUES
        })
    );
}

/// Evidence without a byte in it takes memory all the same, and texts have an end.
#[test]
fn evidence_is_bounded() {
    let event = |pairs: usize, bytes: usize| Record {
        time: RecordTime {
            boottime_ms: 1,
            wall_ms: 1,
        },
        body: Body::Security(SecurityEvent {
            rule: SecurityRule::RogueRa,
            action: SecurityAction::Raised,
            severity: Severity::Critical,
            object: String::new(),
            first_seen: RecordTime {
                boottime_ms: 1,
                wall_ms: 1,
            },
            evidence: vec![(String::new(), "x".repeat(bytes)); pairs],
        }),
    };
    let refused = |records: &[Record]| match block::decode(&block::encode(records)) {
        Err(block::BlockError::TooMany { what, .. }) => what,
        other => panic!("{:?}", other.map(|records| records.len())),
    };
    let full = [event(32, 256)];
    assert_eq!(
        block::decode(&block::encode(&full)).as_deref(),
        Ok(&full[..])
    );
    assert_eq!(refused(&[event(33, 1)]), "pieces of evidence");
    assert_eq!(refused(&[event(32, 257)]), "bytes of evidence");
    assert_eq!(refused(&vec![event(32, 0); 20_000]), "pieces of evidence");
}

/// The varint of the format, written out again: tests must not trust the code they test.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        out.push((number % 128) as u8 + 128);
        number /= 128;
    }
    out.push((number % 128) as u8);
}
