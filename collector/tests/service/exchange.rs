//! Streams: greeting, batches, acknowledgements, bad input, orders.

use std::net::Ipv4Addr;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_proto::assignment::{Check, Family, Probe, Target, TargetAddress, TcpProbe};
use extranet_proto::id::{AssignmentVersion, CheckId, CheckName, TargetId};
use extranet_proto::record::{Body, CheckResult, Outcome, Reason, Record, RecordTime, Value};
use extranet_proto::wire::admin_server::Admin;
use extranet_proto::wire::agent_message::Message as Up;
use extranet_proto::wire::collector_message::Message as Down;
use extranet_proto::wire::log_record::Input;
use extranet_proto::{block, limits, metric, wire};
use tonic::{Code, Request};

use crate::place::{Site, batch, boot, clock, hello, records};

#[tokio::test]
async fn a_record_is_logged_once_however_often_it_comes() {
    let mut site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let (mut stream, _) = site.greet(&identity, hello(11)).await;
    stream.say(batch(0, 5)).await;
    stream.await_ack(11, 0, 5).await;
    // The same again, then overlapping.
    stream.say(batch(0, 5)).await;
    stream.await_ack(11, 0, 5).await;
    stream.say(batch(3, 5)).await;
    stream.await_ack(11, 3, 8).await;
    // After a restart, on another stream: known from catalogue and log, and the hello hears of it.
    site.stop().await;
    site.resume().await;
    let waiting = wire::SequenceRange {
        incarnation: 11,
        from_inclusive: 2,
        to_exclusive: 20,
    };
    let (mut stream, welcome) = site
        .greet(
            &identity,
            wire::Hello {
                waiting: vec![waiting],
                ..hello(12)
            },
        )
        .await;
    let held = wire::SequenceRange {
        incarnation: 11,
        from_inclusive: 2,
        to_exclusive: 8,
    };
    assert_eq!(welcome.already_held, [held]);
    let Up::Batch(mut old) = batch(6, 4) else {
        unreachable!()
    };
    old.incarnation = 11;
    stream.say(Up::Batch(old)).await;
    stream.await_ack(11, 6, 10).await;
    site.await_counter(
        "extranet_collector_ingest_records_total{reason=\"resent\"}",
        2,
    )
    .await;
    site.stop().await;
    assert_eq!(site.logged_sequences(11), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_same_records_on_two_streams_at_once_are_logged_once() {
    let mut site = Site::start().await;
    let (first, second) = (site.agent("ap-1").await, site.agent("ap-2").await);
    // Numbers belong to an agent: another agent may use the same.
    let ((mut one, _), (mut two, _)) =
        tokio::join!(site.greet(&first, hello(5)), site.greet(&second, hello(5)));
    for start in 0..50 {
        one.say(batch(start, 3)).await;
        two.say(batch(start, 3)).await;
    }
    one.await_ack(5, 0, 52).await;
    two.await_ack(5, 0, 52).await;
    site.stop().await;
    let twice: Vec<u64> = (0..52).flat_map(|sequence| [sequence, sequence]).collect();
    assert_eq!(site.logged_sequences(5), twice);
}

#[tokio::test]
async fn a_newer_stream_replaces_the_older_one() {
    let site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let (mut older, _) = site.greet(&identity, hello(1)).await;
    let (mut newer, _) = site.greet(&identity, hello(1)).await;
    assert_eq!(older.end().await.code(), Code::Aborted);
    newer.say(batch(0, 1)).await;
    newer.await_ack(1, 0, 1).await;
}

#[tokio::test]
async fn what_breaks_the_contract_ends_the_stream_and_nothing_else() {
    let site = Site::start().await;
    let (identity, bystander) = (site.agent("ap-1").await, site.agent("ap-2").await);
    let (mut other, _) = site.greet(&bystander, hello(9)).await;

    let mut no_hello = site.open(&identity).await.unwrap();
    no_hello.say(batch(0, 1)).await;
    assert_eq!(no_hello.end().await.code(), Code::InvalidArgument);

    let mut from_the_future = site.open(&identity).await.unwrap();
    from_the_future
        .say(Up::Hello(wire::Hello {
            protocol_min: 7,
            protocol_max: 9,
            ..hello(1)
        }))
        .await;
    assert_eq!(from_the_future.end().await.code(), Code::FailedPrecondition);

    let absurd = |first_sequence, block: Vec<u8>| {
        Up::Batch(wire::Batch {
            first_sequence,
            block,
            ..Default::default()
        })
    };
    let overflow = absurd(u64::MAX - 1, block::encode(&records(0, 5, 10)));
    let garbage = absurd(0, vec![0xff; 100]);
    let huge = absurd(0, vec![0; limits::MESSAGE_BYTES + 1]);
    for (name, message) in [("overflow", overflow), ("garbage", garbage), ("huge", huge)] {
        let (mut stream, _) = site.greet(&identity, hello(1)).await;
        stream.say(message).await;
        assert_eq!(stream.end().await.code(), Code::InvalidArgument, "{name}");
    }
    other.say(batch(0, 1)).await;
    other.await_ack(9, 0, 1).await;
}

#[tokio::test]
async fn an_unreadable_block_is_refused_by_its_numbers_and_the_stream_goes_on() {
    let mut site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let (mut stream, _) = site.greet(&identity, hello(3)).await;
    // The header is whole, the rest is cut.
    let mut block = block::encode(&records(0, 40, 10));
    block.truncate(block.len() / 2);
    assert_eq!(block::count(&block).unwrap(), 40);
    stream
        .say(Up::Batch(wire::Batch {
            block,
            ..Default::default()
        }))
        .await;
    let Down::Ack(ack) = stream.next().await.unwrap() else {
        panic!()
    };
    let refused = wire::SequenceRange {
        incarnation: 3,
        from_inclusive: 0,
        to_exclusive: 40,
    };
    assert_eq!((ack.ranges, ack.refused), (vec![], vec![refused]));
    stream.say(batch(40, 2)).await;
    stream.await_ack(3, 40, 42).await;
    site.stop().await;
    assert_eq!(site.logged_sequences(3), [40, 41]);
}

#[tokio::test]
async fn numbers_with_too_many_gaps_are_refused() {
    let site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let (mut stream, _) = site.greet(&identity, hello(3)).await;
    let sender = async {
        for sequence in 0..5_000 {
            stream.say(batch(sequence * 2, 1)).await;
        }
    };
    // The stream ends while the sender is at it; what it says then goes nowhere.
    sender.await;
    assert_eq!(stream.end().await.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn measured_times_are_frozen_by_the_boot_clock() {
    let mut site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let now = Clock::system().read();
    let zero_ms = (now.wall_us - 5_000_000_000) / 1_000;
    // An agent that is a day ahead and has been up for 5,000 s.
    let day_ahead = clock(now.wall_us + 86_400_000_000, 5_000_000_000);
    let (mut stream, _) = site
        .greet(
            &identity,
            wire::Hello {
                clock: Some(day_ahead),
                ..hello(1)
            },
        )
        .await;
    stream.say(batch(0, 1)).await;
    stream.await_ack(1, 0, 1).await;
    // Its clock is set right on the way; times must not move.
    let Up::Batch(mut next) = batch(1, 1) else {
        unreachable!()
    };
    let later = Clock::system().read();
    let up_us = 5_000_000_000 + (later.boottime_us - now.boottime_us);
    next.clock = Some(clock(later.wall_us, up_us));
    stream.say(Up::Batch(next)).await;
    stream.await_ack(1, 1, 2).await;
    // Records of a boot that was never seen alive: the agent's word, marked as such.
    let Up::Batch(mut older) = batch(0, 1) else {
        unreachable!()
    };
    (older.incarnation, older.boot_id) = (77, vec![1; 16]);
    stream.say(Up::Batch(older)).await;
    stream.await_ack(77, 0, 1).await;
    site.stop().await;
    let batches: Vec<wire::LoggedBatch> = site
        .logged()
        .into_iter()
        .filter_map(|input| match input {
            Input::Batch(batch) => Some(batch),
            _ => None,
        })
        .collect();
    assert_eq!(batches[0].boot_id, boot().0);
    assert!(
        (batches[0].boot_to_wall_ms - zero_ms).abs() < 2_000,
        "{} {zero_ms}",
        batches[0].boot_to_wall_ms
    );
    assert_eq!(batches[1].boot_to_wall_ms, batches[0].boot_to_wall_ms);
    assert!(batches[0].time_certain && !batches[2].time_certain);
    assert_eq!(batches[2].boot_to_wall_ms, 1_800_000_000_000 - 1_000);
}

#[tokio::test]
async fn assignments_come_with_the_welcome_and_when_they_change() {
    let site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let targets = |address: &str| wire::ImportRequest {
        targets_csv: format!("ap_id,name,kind,address\ncentre,anchor,anchor,{address}\n")
            .into_bytes(),
        ..wire::ImportRequest::default()
    };
    let import = |address| site.running().admin.import(Request::new(targets(address)));
    assert_eq!(
        import("192.0.2.1").await.unwrap().into_inner().problems,
        Vec::<String>::new()
    );
    let mut stream = site.open(&identity).await.unwrap();
    stream.say(Up::Hello(hello(1))).await;
    assert!(matches!(stream.next_any().await.unwrap(), Down::Welcome(_)));
    let Down::Assignment(first) = stream.next_any().await.unwrap() else {
        panic!("no assignment")
    };
    assert!(
        first
            .targets
            .iter()
            .any(|target| target.address == "192.0.2.1"),
        "{first:?}"
    );
    import("192.0.2.2").await.unwrap();
    let Down::Assignment(second) = stream.next_any().await.unwrap() else {
        panic!("no assignment")
    };
    assert!(second.version > first.version);
    assert!(
        second
            .targets
            .iter()
            .any(|target| target.address == "192.0.2.2"),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_measurement_on_demand_goes_down_and_its_answer_comes_up() {
    let site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let (mut stream, _) = site.greet(&identity, hello(1)).await;
    let id = TargetId(1);
    let target = Target {
        id,
        vrf: String::new(),
        address: TargetAddress::Ip(Ipv4Addr::LOCALHOST.into()),
    };
    let check = Check {
        stretch_last: false,
        id: CheckId(1),
        target: id,
        name: CheckName::new("now").unwrap(),
        family: Family::V4,
        interval: Duration::from_mins(1),
        timeout: Duration::from_secs(5),
        probe: Probe::Tcp(TcpProbe::to(22)),
    };
    let request = wire::MeasureRequest {
        agent_id: identity.agent_id.to_string(),
        target: Some((&target).into()),
        check: Some((&check).into()),
        ..wire::MeasureRequest::default()
    };
    let answering = async {
        let Down::MeasurementRequest(request) = stream.next().await.unwrap() else {
            panic!()
        };
        let result = CheckResult {
            assignment: AssignmentVersion(0),
            check: CheckId(1),
            outcome: Outcome::Ok,
            reason: Reason::None,
            duration_us: 1_500,
            values: vec![Value {
                metric: metric::TCP_CONNECT,
                object: extranet_proto::id::ObjectId(0),
                raw: 1_234,
            }],
        };
        let time = RecordTime {
            boottime_ms: 1,
            wall_ms: 2,
        };
        let block = block::encode(&[Record {
            time,
            body: Body::Result(result),
        }]);
        let answer = wire::MeasurementAnswer {
            request_id: request.request_id,
            block,
            refusal: String::new(),
        };
        stream.say(Up::MeasurementAnswer(answer)).await;
        stream
    };
    let (reply, _stream) = tokio::join!(
        site.running().admin.measure(Request::new(request.clone())),
        answering
    );
    let measured = reply.unwrap().into_inner().measurement.unwrap();
    assert_eq!(
        (measured.outcome.as_str(), measured.instance.as_str()),
        ("ok", "127.0.0.1")
    );
    let shown: Vec<String> = measured
        .values
        .iter()
        .map(|value| value.value.clone())
        .collect();
    assert_eq!(shown, ["1.500 ms", "1.234 ms"]);

    let nobody = wire::MeasureRequest {
        agent_id: "nobody".to_owned(),
        ..request
    };
    let reply = site
        .running()
        .admin
        .measure(Request::new(nobody))
        .await
        .unwrap()
        .into_inner();
    assert!(reply.refusal.contains("not connected"), "{}", reply.refusal);
}
