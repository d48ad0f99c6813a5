//! One simulated agent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use extranet_agent::clock::{Clock, boot_id};
use extranet_agent::config::Config;
use extranet_agent::dial::dial;
use extranet_agent::identity::Identity;
use extranet_agent::identity::tls;
use extranet_agent::uplink::backoff::{Backoff, random_up_to};
use extranet_proto::assignment::Assignment;
use extranet_proto::id::{AssignmentVersion, Incarnation};
use extranet_proto::record::{Body, Record};
use extranet_proto::session::{
    Ack, AgentMessage, AssignmentStatus, Batch, ClockReading, CollectorMessage, Hello,
    IncarnationRange, Lane, Ledger,
};
use extranet_proto::wire::uplink_client::UplinkClient;
use extranet_proto::{PROTOCOL_VERSION, UPLINK_SERVER_NAME, block, limits, wire};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Counts;
use super::results::{Dice, SAMPLES_BESIDE, result};
use crate::clock::now;

/// Before the first assignment names an interval.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// Batches on their way without an acknowledgement.
const WINDOW: usize = 16;

/// Records that were made together and have no acknowledgement yet.
#[derive(Debug)]
struct Chunk {
    first: u64,
    count: usize,
    block: Vec<u8>,
    made: std::time::Instant,
    /// Sent on the stream that stands.
    sent: bool,
}

/// A simulated agent.
#[derive(Debug)]
pub(super) struct Site {
    ap_id: String,
    identity: Identity,
    config: Config,
    counts: Arc<Counts>,
    clock: Clock,
    dice: Dice,
    incarnation: Incarnation,
    next_sequence: u64,
    chunks: VecDeque<Chunk>,
    assignment: Option<Assignment>,
    /// When each check of the assignment runs next, in its order.
    due: Vec<Instant>,
    acknowledged: u64,
    fresh_in: u64,
}

/// A stream that stands.
struct Stream {
    up: mpsc::Sender<wire::AgentMessage>,
    down: Streaming<wire::CollectorMessage>,
}

impl Site {
    pub(super) fn new(
        number: u64,
        ap_id: String,
        identity: Identity,
        config: Config,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            ap_id,
            identity,
            config,
            counts,
            clock: Clock::system(),
            dice: Dice::new(number + 1),
            incarnation: Incarnation(0x51e0_0000_0000_0000 | (number + 1)),
            next_sequence: 0,
            chunks: VecDeque::new(),
            assignment: None,
            due: Vec::new(),
            acknowledged: 0,
            fresh_in: 0,
        }
    }

    /// Connects at a random moment of `ramp`, and again whenever the stream ends.
    pub(super) async fn run(mut self, ramp: Duration) {
        sleep(random_up_to(ramp)).await;
        let uplink = &self.config.uplink;
        let mut backoff = Backoff::new(uplink.backoff_min, uplink.backoff_max);
        let time = super::time();
        let Ok(tls) = tls::mutual(&self.identity, time) else {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        loop {
            let delay = match self.connect(&tls).await {
                Ok(stream) => {
                    backoff.reset();
                    self.counts.welcomed.fetch_add(1, Ordering::Relaxed);
                    self.counts.connected.fetch_add(1, Ordering::Relaxed);
                    let asked = self.exchange(stream).await;
                    self.counts.connected.fetch_sub(1, Ordering::Relaxed);
                    asked
                }
                Err(asked) => {
                    tracing::debug!(ap = self.ap_id, "no stream");
                    self.counts.failed.fetch_add(1, Ordering::Relaxed);
                    asked
                }
            };
            let delay = match delay {
                Some(asked) => backoff.after_wait(asked),
                None => backoff.delay(),
            };
            let back = Instant::now() + delay;
            // Measures on meanwhile, as a real one would.
            while Instant::now() < back {
                let flush = Instant::now() + self.flush_interval();
                sleep_until(back.min(flush)).await;
                self.measure();
            }
        }
    }

    /// Dials and greets. An error may carry how long the collector asked to stay away.
    async fn connect(
        &mut self,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<Stream, Option<Duration>> {
        let collector = self.config.collectors.first().ok_or(None)?;
        let uplink = &self.config.uplink;
        let channel = dial(collector, Arc::clone(tls), UPLINK_SERVER_NAME, uplink, None)
            .await
            .map_err(|_| None)?;
        let (up, messages) = mpsc::channel(WINDOW);
        let hello = AgentMessage::Hello(Box::new(self.hello()));
        up.try_send(hello.into()).map_err(|_| None)?;
        let mut client = UplinkClient::new(channel)
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES);
        let mut down = client
            .exchange(ReceiverStream::new(messages))
            .await
            .map_err(|_| None)?
            .into_inner();
        match said(&mut down).await.map_err(|()| None)? {
            CollectorMessage::Welcome(welcome) => {
                for held in &welcome.already_held {
                    self.forget(held);
                }
                Ok(Stream { up, down })
            }
            CollectorMessage::Wait(wait) => Err(Some(wait.delay)),
            _ => Err(None),
        }
    }

    fn hello(&mut self) -> Hello {
        for chunk in &mut self.chunks {
            chunk.sent = false;
        }
        let range = |chunk: &Chunk| IncarnationRange {
            incarnation: self.incarnation,
            from_inclusive: chunk.first,
            to_exclusive: chunk.first + chunk.count as u64,
        };
        let mut waiting: Vec<IncarnationRange> = Vec::new();
        for range in self.chunks.iter().map(range) {
            match waiting.last_mut() {
                Some(last) if last.to_exclusive == range.from_inclusive => {
                    last.to_exclusive = range.to_exclusive;
                }
                _ => waiting.push(range),
            }
        }
        let skip = waiting.len().saturating_sub(limits::RANGES);
        Hello {
            protocol: PROTOCOL_VERSION..=PROTOCOL_VERSION,
            agent_version: "simulated".to_owned(),
            boot_id: boot_id().unwrap_or(extranet_proto::id::BootId([7; 16])),
            incarnation: self.incarnation,
            clock: self.clock_reading(),
            capabilities: Vec::new(),
            privilege_tier: 1,
            assignment: self
                .assignment
                .as_ref()
                .map_or(AssignmentVersion(0), |assignment| assignment.version),
            waiting: waiting.split_off(skip),
            ledger: self.ledger(),
        }
    }

    fn ledger(&self) -> Ledger {
        Ledger {
            produced: self.next_sequence,
            acknowledged: self.acknowledged,
            waiting: self.next_sequence - self.acknowledged,
            ..Ledger::default()
        }
    }

    fn clock_reading(&self) -> ClockReading {
        let reading = self.clock.read();
        ClockReading {
            wall_us: reading.wall_us,
            boottime_us: reading.boottime_us,
            synchronised: true,
        }
    }

    fn flush_interval(&self) -> Duration {
        let planned = self.assignment.as_ref().map(|a| a.flush_interval);
        planned.filter(|p| !p.is_zero()).unwrap_or(FLUSH_INTERVAL)
    }

    /// Both directions until the stream ends; how long the collector asked to stay away, if it did.
    async fn exchange(&mut self, mut stream: Stream) -> Option<Duration> {
        let mut flush_at = Instant::now() + random_up_to(self.flush_interval());
        loop {
            let on_the_way = self.chunks.iter().filter(|chunk| chunk.sent).count();
            let unsent = self.chunks.iter().rposition(|chunk| !chunk.sent);
            tokio::select! {
                heard = said(&mut stream.down) => match heard {
                    Ok(CollectorMessage::Ack(ack)) => self.acknowledge(&ack),
                    Ok(CollectorMessage::Assignment(assignment)) => {
                        let status = self.assign(assignment);
                        if stream.up.send(status.into()).await.is_err() {
                            return None;
                        }
                    }
                    Ok(CollectorMessage::Wait(wait)) => return Some(wait.delay),
                    Ok(_) => {}
                    Err(()) => return None,
                },
                permit = stream.up.reserve(), if unsent.is_some() && on_the_way < WINDOW => {
                    let Ok(permit) = permit else { return None };
                    // Live before backlog: the newest first.
                    if let Some(batch) = unsent.and_then(|at| self.batch(at)) {
                        permit.send(AgentMessage::Batch(batch).into());
                    }
                }
                () = sleep_until(flush_at) => {
                    flush_at = Instant::now() + self.flush_interval();
                    if !self.measure() && stream.up.send(heartbeat().into()).await.is_err() {
                        return None;
                    }
                }
            }
        }
    }

    fn batch(&mut self, at: usize) -> Option<Batch> {
        let newest = at + 1 == self.chunks.len();
        let chunk = self.chunks.get_mut(at)?;
        chunk.sent = true;
        Some(Batch {
            incarnation: None,
            first_sequence: chunk.first,
            block: chunk.block.clone(),
            count: chunk.count,
            lane: if newest { Lane::Live } else { Lane::Backlog },
            clock: None,
            ledger: None,
            boot_id: None,
        })
    }

    fn assign(&mut self, assignment: wire::Assignment) -> AgentMessage {
        let version = AssignmentVersion(assignment.version);
        let mut problems = Vec::new();
        let applied = match Assignment::from_wire(assignment) {
            Ok((assignment, partly)) => {
                problems.extend(partly.iter().map(ToString::to_string));
                let begin = Instant::now();
                self.due = assignment
                    .checks
                    .iter()
                    .map(|check| begin + random_up_to(check.interval))
                    .collect();
                self.assignment = Some(assignment);
                true
            }
            Err(error) => {
                problems.push(error.to_string());
                false
            }
        };
        self.counts.assignments.fetch_add(1, Ordering::Relaxed);
        AgentMessage::AssignmentStatus(AssignmentStatus {
            version,
            applied,
            problems,
        })
    }

    /// Everything that is due becomes one chunk. Returns whether there is any.
    fn measure(&mut self) -> bool {
        let Some(assignment) = &self.assignment else {
            return false;
        };
        if !self.counts.measuring.load(Ordering::Relaxed) {
            return false;
        }
        let now_at = Instant::now();
        let reading = self.clock.read();
        let mut records = Vec::new();
        let mut samples = 0;
        for (check, due) in assignment.checks.iter().zip(&mut self.due) {
            while *due <= now_at {
                let ago = u64::try_from((now_at - *due).as_millis()).unwrap_or(0);
                let mut time = reading.record_time();
                time.boottime_ms = time.boottime_ms.saturating_sub(ago);
                time.wall_ms = time.wall_ms.saturating_sub_unsigned(ago);
                let result = result(
                    assignment.version,
                    check,
                    assignment.link_class,
                    &mut self.dice,
                );
                samples += result.values.len() + SAMPLES_BESIDE;
                records.push(Record {
                    time,
                    body: Body::Result(result),
                });
                *due += check.interval;
            }
        }
        if records.is_empty() {
            return false;
        }
        records.sort_by_key(|record| record.time.boottime_ms);
        Counts::add(&self.counts.produced, records.len());
        Counts::add(&self.counts.samples, samples);
        self.chunks.push_back(Chunk {
            first: self.next_sequence,
            count: records.len(),
            block: block::encode(&records),
            made: now(),
            sent: false,
        });
        self.next_sequence += records.len() as u64;
        true
    }

    fn acknowledge(&mut self, ack: &Ack) {
        for range in &ack.refused {
            let refused = self.forget(range);
            self.counts.refused.fetch_add(refused, Ordering::Relaxed);
        }
        for range in &ack.ranges {
            let newest = self.chunks.back().map(|chunk| (chunk.first, chunk.made));
            self.forget(range);
            // The lane that matters: what was measured last.
            if let Some((first, made)) = newest
                && (range.from_inclusive..range.to_exclusive).contains(&first)
            {
                self.counts.took(made.elapsed());
                let round = self.counts.round.load(Ordering::Relaxed) + 1;
                if self.fresh_in != round {
                    self.fresh_in = round;
                    self.counts.fresh.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The collector has these records.
    fn forget(&mut self, range: &IncarnationRange) -> u64 {
        if range.incarnation != self.incarnation {
            return 0;
        }
        let mut forgotten = 0;
        self.chunks.retain(|chunk| {
            let end = chunk.first + chunk.count as u64;
            let held = range.from_inclusive <= chunk.first && end <= range.to_exclusive;
            if held {
                forgotten += chunk.count as u64;
            }
            !held
        });
        self.acknowledged += forgotten;
        self.counts
            .acknowledged
            .fetch_add(forgotten, Ordering::Relaxed);
        forgotten
    }
}

fn heartbeat() -> AgentMessage {
    AgentMessage::Batch(Batch {
        incarnation: None,
        first_sequence: 0,
        block: Vec::new(),
        count: 0,
        lane: Lane::Live,
        clock: None,
        ledger: None,
        boot_id: None,
    })
}

/// The next word of the collector; the end of the stream is an error.
async fn said(down: &mut Streaming<wire::CollectorMessage>) -> Result<CollectorMessage, ()> {
    match down.message().await {
        Ok(Some(message)) => CollectorMessage::try_from(message).map_err(|_| ()),
        Ok(None) | Err(_) => Err(()),
    }
}
