//! A collector in a throw-away folder, and agents that say exactly what a test wants.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use extranet_agent::clock::{Clock, SteppedClock};
use extranet_agent::config::{Config as AgentConfig, HostPort};
use extranet_agent::dial::dial;
use extranet_agent::identity::ticket::Ticket;
use extranet_agent::identity::tls::{self, CertificateTime};
use extranet_agent::identity::{self, Identity, IdentityError};
use extranet_collector::config::Config;
use extranet_collector::serve::Running;
use extranet_collector::store::decode_log_record;
use extranet_journal::{Cursor, Journal, Now, Options, WhenFull};
use extranet_proto::id::BootId;
use extranet_proto::record::{AgentEvent, Body, EventKind, Record, RecordTime};
use extranet_proto::wire::admin_server::Admin;
use extranet_proto::wire::agent_message::Message as Up;
use extranet_proto::wire::collector_message::Message as Down;
use extranet_proto::wire::log_record::Input;
use extranet_proto::wire::uplink_client::UplinkClient;
use extranet_proto::{UPLINK_SERVER_NAME, block, wire};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const ACCESS_POINTS: &str = "ap_id,name,level,parent,medium,monitoring\nap-1,甲,village,centre,fibre,agent\nap-2,乙,village,centre,satellite,agent\n";

pub(crate) struct Site {
    pub(crate) config: Config,
    pub(crate) clock: SteppedClock,
    running: Option<Running>,
    folder: tempfile::TempDir,
}

impl Site {
    /// A running collector that knows the access points ap-1 and ap-2.
    pub(crate) async fn start() -> Self {
        let site = Self::start_in(tempfile::tempdir().unwrap()).await;
        site.import().await;
        site
    }

    /// Imports the access points.
    pub(crate) async fn import(&self) {
        let request = wire::ImportRequest {
            access_points_csv: ACCESS_POINTS.into(),
            ..wire::ImportRequest::default()
        };
        let reply = self
            .running()
            .admin
            .import(Request::new(request))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(reply.problems, Vec::<String>::new());
    }

    /// A running collector in a folder that is there already.
    pub(crate) async fn start_in(folder: tempfile::TempDir) -> Self {
        let text = format!(
            "listen = '127.0.0.1:0'\nstate_dir = '{}'\n[vantage]\nenabled = false\n[self]\nlisten = '127.0.0.1:0'\n",
            folder.path().join("state").display()
        );
        let config = Config::parse("test", &text).unwrap();
        let mut site = Self {
            config,
            clock: SteppedClock::default(),
            running: None,
            folder,
        };
        site.resume().await;
        site
    }

    pub(crate) async fn resume(&mut self) {
        self.running = Some(
            Running::start(&self.config, self.clock.clock())
                .await
                .unwrap(),
        );
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn ticket(&self, ap: &str) -> Ticket {
        let request = wire::NewTicketRequest {
            ap_id: ap.to_owned(),
            valid_hours: 0,
        };
        let reply = self
            .running()
            .admin
            .new_ticket(Request::new(request))
            .await
            .unwrap();
        reply.into_inner().ticket.parse().unwrap()
    }

    fn agent_config(&self) -> AgentConfig {
        let address = self.running().address;
        let collector = HostPort {
            host: address.ip().to_string(),
            port: address.port(),
        };
        AgentConfig {
            collectors: vec![collector],
            ..AgentConfig::default()
        }
    }

    pub(crate) async fn enrol(&self, ticket: &Ticket) -> Result<Identity, IdentityError> {
        identity::enrol(&self.agent_config(), ticket, self.time()).await
    }

    /// Enrols with a key that may have been used before.
    pub(crate) async fn enrol_with(
        &self,
        ticket: &Ticket,
        key: &rcgen::KeyPair,
    ) -> Result<Identity, IdentityError> {
        identity::enrol_with(&self.agent_config(), ticket, self.time(), key).await
    }

    pub(crate) async fn renew(&self, identity: &Identity) -> Result<Identity, IdentityError> {
        identity::renew(&self.agent_config(), identity, self.time()).await
    }

    /// Agents verify by the collector's idea of the time.
    fn time(&self) -> CertificateTime {
        CertificateTime::new(self.clock.clock(), 0)
    }

    pub(crate) async fn agent(&self, ap: &str) -> Identity {
        self.enrol(&self.ticket(ap).await).await.unwrap()
    }

    /// Opens a stream without saying anything.
    pub(crate) async fn open(&self, identity: &Identity) -> Result<Stream, Status> {
        let config = self.agent_config();
        let tls = tls::mutual(identity, self.time()).unwrap();
        let channel = dial(
            &config.collectors[0],
            Arc::clone(&tls),
            UPLINK_SERVER_NAME,
            &config.uplink,
            None,
        )
        .await;
        let mut client =
            UplinkClient::new(channel.map_err(|error| Status::unavailable(error.to_string()))?)
                .max_encoding_message_size(64 << 20);
        let (up, messages) = mpsc::channel(16);
        let down = client
            .exchange(ReceiverStream::new(messages))
            .await?
            .into_inner();
        Ok(Stream { up, down })
    }

    /// Opens a stream and says hello; also what was welcomed.
    pub(crate) async fn greet(
        &self,
        identity: &Identity,
        hello: wire::Hello,
    ) -> (Stream, wire::Welcome) {
        let mut stream = self.open(identity).await.unwrap();
        stream.say(Up::Hello(hello)).await;
        let Down::Welcome(welcome) = stream.next().await.unwrap() else {
            panic!("no welcome")
        };
        (stream, welcome)
    }

    /// Every batch in the log of a collector that has stopped.
    pub(crate) fn logged(&self) -> Vec<Input> {
        let options = Options {
            segment_bytes: 64 << 20,
            max_bytes: 1 << 30,
            max_age: None,
            keep_acknowledged: true,
            when_full: WhenFull::Refuse,
        };
        let folder: PathBuf = self.config.state_dir.join("ingest");
        let (journal, _) = Journal::open(&folder, options, Now { wall_ms: 0 }).unwrap();
        let mut reader = journal.reader(Cursor::oldest());
        let mut inputs = Vec::new();
        while let Some((_, payload)) = reader.next().unwrap() {
            inputs.push(decode_log_record(&payload).unwrap().input.unwrap());
        }
        inputs
    }

    /// How often each sequence of an incarnation is in the log.
    pub(crate) fn logged_sequences(&self, incarnation: u64) -> Vec<u64> {
        let mut sequences = Vec::new();
        for input in self.logged() {
            if let Input::Batch(batch) = input {
                let ranges = batch
                    .new_ranges
                    .iter()
                    .filter(|range| range.incarnation == incarnation);
                sequences.extend(ranges.flat_map(|range| range.from_inclusive..range.to_exclusive));
            }
        }
        sequences.sort_unstable();
        sequences
    }

    /// Waits until a counter of the metrics page has at least this value.
    pub(crate) async fn await_counter(&self, line: &str, least: u64) {
        let reached = async {
            loop {
                let page = self.running().stats.page();
                let value = page
                    .lines()
                    .find_map(|found| found.strip_prefix(line)?.trim().parse::<u64>().ok());
                if value.is_some_and(|value| value >= least) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        assert!(
            in_time,
            "{line} did not reach {least}:\n{}",
            self.running().stats.page()
        );
    }
}

pub(crate) struct Stream {
    up: mpsc::Sender<wire::AgentMessage>,
    pub(crate) down: Streaming<wire::CollectorMessage>,
}

impl Stream {
    pub(crate) async fn say(&self, message: Up) {
        // A stream that the collector has closed takes nothing more; the test sees that in what it reads.
        drop(
            self.up
                .send(wire::AgentMessage {
                    message: Some(message),
                })
                .await,
        );
    }

    /// The next message; assignments are passed over, tests about them read the stream themselves.
    pub(crate) async fn next(&mut self) -> Result<Down, Status> {
        loop {
            match self.next_any().await? {
                Down::Assignment(_) => {}
                message => return Ok(message),
            }
        }
    }

    pub(crate) async fn next_any(&mut self) -> Result<Down, Status> {
        let message = tokio::time::timeout(PATIENCE, self.down.message())
            .await
            .expect("a message in time");
        message?
            .map(|message| message.message.unwrap())
            .ok_or_else(|| Status::ok("closed"))
    }

    /// Reads acknowledgements until all of `wanted` is acknowledged.
    pub(crate) async fn await_ack(&mut self, incarnation: u64, from: u64, to: u64) {
        let mut missing = extranet_proto::ranges::RangeSet::new();
        missing.insert(from, to);
        while !missing.is_empty() {
            let Down::Ack(ack) = self.next().await.unwrap() else {
                panic!("not an acknowledgement")
            };
            assert_eq!(ack.refused, Vec::new());
            for range in ack
                .ranges
                .iter()
                .filter(|range| range.incarnation == incarnation)
            {
                missing.remove(range.from_inclusive, range.to_exclusive);
            }
        }
    }

    /// Reads until the stream ends, and how.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next_any().await {
                return status;
            }
        }
    }
}

pub(crate) fn hello(incarnation: u64) -> wire::Hello {
    let now = Clock::system().read();
    wire::Hello {
        protocol_min: 1,
        protocol_max: 1,
        agent_version: "test".to_owned(),
        boot_id: vec![7; 16],
        incarnation,
        clock: Some(clock(now.wall_us, now.boottime_us)),
        ledger: Some(wire::Ledger::default()),
        ..wire::Hello::default()
    }
}

pub(crate) fn clock(wall_us: i64, boottime_us: u64) -> wire::Clock {
    wire::Clock {
        wall_us,
        boottime_us,
        synchronised: true,
    }
}

pub(crate) fn boot() -> BootId {
    BootId([7; 16])
}

/// `count` events with texts of `text_bytes` that do not compress.
pub(crate) fn records(first_sequence: u64, count: u64, text_bytes: usize) -> Vec<Record> {
    let mut state = first_sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + u8::try_from(state >> 32 & 0x3f).unwrap())
    };
    (first_sequence..first_sequence + count)
        .map(|sequence| Record {
            time: RecordTime {
                boottime_ms: 1_000 + sequence,
                wall_ms: 1_800_000_000_000,
            },
            body: Body::Event(AgentEvent {
                kind: EventKind::Started,
                value: i64::try_from(sequence).unwrap(),
                text: std::iter::repeat_with(&mut letter)
                    .take(text_bytes)
                    .collect(),
            }),
        })
        .collect()
}

pub(crate) fn batch(first_sequence: u64, count: u64) -> Up {
    Up::Batch(wire::Batch {
        first_sequence,
        block: block::encode(&records(first_sequence, count, 10)),
        lane: wire::Lane::Live.into(),
        ..wire::Batch::default()
    })
}
