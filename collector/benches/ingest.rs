//! Samples per CPU-second into the durable log and the catalogue: the figures of docs/performance.md.
//! `cargo bench -p extranet-collector`
//!
//! What is measured is what a stream costs behind TLS and gRPC: a block is decoded once to see that it can be, goes
//! through the ingest thread into the log with a real `fdatasync`, and is applied to the catalogue by the follower. The
//! CPU time of the whole process is read from the kernel, so that other work on the machine does not count.

#[path = "../../proto/tests/shared/workload.rs"]
#[expect(
    dead_code,
    reason = "shared with the tests of the contract, which use other parts"
)]
mod workload;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_collector::ingest::held::Held;
use extranet_collector::ingest::{BatchReply, Ingest, NewBatch, Verdict, WINDOW};
use extranet_collector::inventory::import::Files;
use extranet_collector::self_stats::Stats;
use extranet_collector::store::{LogReader, Position, Store, StoreSettings};
use extranet_journal::{Cursor, Journal, Now, Options, Reader, WhenFull};
use extranet_proto::block;
use extranet_proto::id::{AgentId, BootId, Incarnation};
use extranet_proto::record::Record;
use extranet_proto::session::Lane;
use extranet_proto::wire;
use extranet_proto::wire::log_record::Input;
use tokio::sync::mpsc;
use tokio::time::Instant;
use workload::FIBRE_RTT_US;

/// Streams that send at once.
const AGENTS: usize = 500;

struct Follow(Reader);

impl LogReader for Follow {
    fn next(
        &mut self,
    ) -> Result<Option<(Position, Vec<u8>)>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.next()?)
    }
}

/// CPU time of this process, user and system, all threads.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // Behind the name, which may hold spaces: state is field 3, utime 14, stime 15, in hundredths of a second.
    let fields = stat.rsplit(')').next().expect("a name in brackets");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}

struct Collector {
    ingest: Ingest,
    store: Store,
    stats: Arc<Stats>,
    _folder: tempfile::TempDir,
}

fn collector(with_catalogue: bool) -> Collector {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo made it");
    let stats = Arc::new(Stats::new());
    let options = Options {
        segment_bytes: 64 << 20,
        max_bytes: 8 << 30,
        max_age: None,
        keep_acknowledged: true,
        when_full: WhenFull::Refuse,
    };
    let clock = Clock::system();
    let now = Now {
        wall_ms: clock.read().wall_ms(),
    };
    let (journal, _) =
        Journal::open(&folder.path().join("ingest"), options, now).expect("a folder of our own");
    let store = Store::open(folder.path(), StoreSettings::default(), Arc::clone(&stats))
        .expect("a folder of our own");
    if with_catalogue {
        let follower = store
            .start(Follow(journal.reader(Cursor::oldest())))
            .expect("a thread");
        // It follows until the process ends.
        std::mem::forget(follower);
    }
    let (ingest, _thread) = Ingest::start(
        journal,
        Held::default(),
        store.clone(),
        clock,
        Arc::clone(&stats),
    )
    .expect("a thread");
    Collector {
        ingest,
        store,
        stats,
        _folder: folder,
    }
}

/// Makes the agents known, each with the checks of the built-in plan, so that their results mean something.
async fn enrol(collector: &Collector) {
    let mut access_points = "ap_id,name,level,parent,medium,monitoring\n".to_owned();
    for agent in 0..AGENTS {
        writeln!(
            access_points,
            "ap-{agent},village {agent},village,centre,fibre,agent"
        )
        .expect("writing into a string cannot fail");
    }
    let targets = "ap_id,name,kind,address,tcp_port\n\
                   centre,anchor4,anchor,192.0.2.1,443\n\
                   centre,anchor6,anchor,2001:db8::1,443\n";
    let files = Files {
        access_points: access_points.as_bytes(),
        targets: targets.as_bytes(),
        villages: b"",
    };
    let planned = collector
        .store
        .plan_inventory(&files, "bench")
        .expect("the catalogue can be read");
    assert_eq!(planned.reply.problems, Vec::<String>::new());
    let record = planned.record.expect("something to import");
    let mut last = collector
        .ingest
        .log(Input::InventoryChanged(record))
        .await
        .expect("the disk has room");
    for agent in 0..AGENTS {
        let issued = wire::CertificateIssued {
            agent_id: format!("agent-{agent}"),
            ap_id: format!("ap-{agent}"),
            certificate_digest: vec![0; 32],
            ..wire::CertificateIssued::default()
        };
        last = collector
            .ingest
            .log(Input::CertificateIssued(issued))
            .await
            .expect("the disk has room");
    }
    collector
        .store
        .wait_applied(last)
        .await
        .expect("the follower runs");
}

/// One stream: `batches` batches, a window of them under way.
/// Its times go on from batch to batch and end now, as those of a site that was cut off.
async fn stream(
    ingest: Ingest,
    agent: usize,
    block: Arc<Vec<u8>>,
    count: u64,
    batches: u64,
    now_ms: i64,
) {
    let (reply_to, mut replies) = mpsc::channel::<BatchReply>(WINDOW);
    let agent = AgentId::new(format!("agent-{agent}")).expect("allowed characters");
    let mut under_way = 0;
    for n in 0..batches {
        let records = block::decode(&block).expect("we packed it");
        let boottime_ms =
            |record: Option<&Record>| record.map_or(0, |record| record.time.boottime_ms);
        let (first, last) = (boottime_ms(records.first()), boottime_ms(records.last()));
        let after_ms = (batches - 1 - n) * (last - first).next_multiple_of(60_000);
        let boot_to_wall_ms = now_ms.saturating_sub_unsigned(last + after_ms);
        let batch = NewBatch {
            agent: agent.clone(),
            incarnation: Incarnation(1),
            boot_id: BootId([1; 16]),
            first_sequence: n * count,
            count,
            samples: workload::value_count(&records) as u64,
            boot_to_wall_ms,
            time_certain: true,
            block: block.to_vec(),
            lane: Lane::Live,
        };
        ingest
            .batch(batch, reply_to.clone())
            .await
            .expect("the log is open");
        under_way += 1;
        if under_way == WINDOW {
            let reply = replies.recv().await.expect("an answer");
            assert_eq!(reply.verdict, Verdict::Durable);
            under_way -= 1;
        }
    }
    for _ in 0..under_way {
        let reply = replies.recv().await.expect("an answer");
        assert_eq!(reply.verdict, Verdict::Durable);
    }
}

async fn measure(name: &str, records: &[Record], batches: u64, with_catalogue: bool) {
    let samples = workload::value_count(records) as u64 * batches * AGENTS as u64;
    let block = Arc::new(block::encode(records));
    let collector = collector(with_catalogue);
    if with_catalogue {
        enrol(&collector).await;
    }
    let applied_before = collector.store.applied_records();
    let (cpu, wall) = (cpu_time(), Instant::now());
    let now_ms = Clock::system().read().wall_ms();
    let streams: Vec<_> = (0..AGENTS)
        .map(|agent| {
            let (ingest, block) = (collector.ingest.clone(), Arc::clone(&block));
            let count = records.len() as u64;
            extranet_agent::shell::spawn_named(
                "stream",
                stream(ingest, agent, block, count, batches, now_ms),
            )
        })
        .collect();
    for stream in streams {
        stream.await.expect("a stream does not panic");
    }
    while with_catalogue
        && collector.store.applied_records() - applied_before < batches * AGENTS as u64
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (cpu, wall) = (
        cpu_time().saturating_sub(cpu).as_secs_f64(),
        wall.elapsed().as_secs_f64(),
    );
    let (logged, bytes) = collector.ingest.size();
    collector.ingest.stop().await;
    let page = collector.stats.page();
    for line in page
        .lines()
        .filter(|line| line.starts_with("extranet_collector_store_skipped_total"))
    {
        report(&format!("    {line}"));
    }
    report(&format!(
        "{name:<52} {samples:>9} samples, {:>8.0} per CPU-second, {:>8.0} per second, {:.2} B each in the log ({logged} records)",
        samples as f64 / cpu,
        samples as f64 / wall,
        bytes as f64 / samples as f64,
    ));
}

#[expect(clippy::print_stdout, reason = "the figures")]
fn report(line: &str) {
    println!("{line}");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let live = workload::live_batch(FIBRE_RTT_US);
        let sealed = workload::village_block(15, FIBRE_RTT_US);
        let switch = workload::sealed_block(15);
        measure("live village batches, log", &live, 100, false).await;
        measure("live village batches, log and catalogue", &live, 40, true).await;
        measure("15 rounds of a village, log", &sealed, 40, false).await;
        measure(
            "15 rounds of a village, log and catalogue",
            &sealed,
            10,
            true,
        )
        .await;
        measure(
            "15 rounds of a village and a switch, log",
            &switch,
            2,
            false,
        )
        .await;
        measure(
            "15 rounds of a village and a switch, log, catalogue",
            &switch,
            1,
            true,
        )
        .await;
    });
}
