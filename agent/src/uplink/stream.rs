//! One stream: greeting, then both directions until something ends it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use extranet_proto::session::{
    AgentMessage, Batch, ClockReading, CollectorMessage, Hello, IncarnationRange, Lane, Welcome,
};
use extranet_proto::wire::uplink_client::UplinkClient;
use extranet_proto::{PROTOCOL_VERSION, limits, wire};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::backoff::random_up_to;
use super::flow::Flow;
use super::{End, Progress, Uplink};
use crate::clock::Reading;
use crate::config::HostPort;
use crate::control::Plan;
use crate::identity::AGENT_VERSION;
use crate::schedule::Prober;
use crate::self_stats::count;
use crate::shell::{Shutdown, Stage, error_chain, spawn_named};
use crate::spool::{Tip, Want};

/// Messages handed to HTTP/2 but not taken yet: one, so that live results overtake backlog.
const OUTGOING: usize = 1;
/// Answers waiting for their turn; requests on demand are limited before.
const ANSWERS: usize = 16;
/// Largest block of a live batch, bytes. A guess: a walk of a large switch fits into a few.
const LIVE_BLOCK_BYTES: usize = 64 << 10;
/// Largest block of a backlog batch, bytes: 8 KiB block a 64 kbit/s link for a second.
const BACKLOG_BLOCK_BYTES: usize = 8 << 10;
/// Flush interval when neither collector nor assignment names one.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// Urgent batches are at least this far apart, so that a flapping check does not send a batch per run.
const URGENT_SPACING: Duration = Duration::from_millis(250);
/// The ledger goes up, with the clocks, once in this many flush intervals: a small share of what a flush costs.
const FLUSHES_PER_LEDGER: u32 = 12;
/// But at least this often on slow links, and no oftener than the other on fast ones.
const LEDGER_INTERVAL_MAX: Duration = Duration::from_mins(10);
const LEDGER_INTERVAL_MIN: Duration = Duration::from_secs(5);
/// A batch without an acknowledgement for so long means that something on the way is stuck. A guess: far above the
/// worst round trip and the collector's slowest disk.
const ACK_TIMEOUT: Duration = Duration::from_mins(5);
/// A stream is replaced after this time and a random quarter of it, so that agents spread over collectors again and
/// renewed certificates come to use.
const LIFETIME: Duration = Duration::from_hours(24);

/// What one stream needs beyond the uplink.
struct Exchange<'a, P> {
    uplink: &'a Uplink<P>,
    outgoing: mpsc::Sender<wire::AgentMessage>,
    answers: mpsc::Sender<AgentMessage>,
    flow: Flow,
    tip: watch::Receiver<Tip>,
    plans: watch::Receiver<Arc<Plan>>,
    /// As the welcome said.
    welcome_interval: Duration,
    /// As the hello said.
    sensor_said: bool,
    /// When live results are sent next.
    flush_at: Instant,
    last_flush: Instant,
    /// Live records below this are due now.
    live_due: u64,
    heartbeat_due: bool,
    urgent_seen: u64,
    drops_seen: u64,
    clock_steps_seen: u64,
    ledger_at: Instant,
}

impl<P: Prober> Uplink<P> {
    /// Greets, then exchanges until the stream ends.
    pub(super) async fn exchange(
        &self,
        collector: &HostPort,
        channel: Channel,
        shutdown: &Shutdown,
        progress: &mut Progress,
    ) -> Result<Infallible, End> {
        let mut tip = self.spool.tip();
        let mut plans = self.control.plans();
        // Seen before the snapshot, so that whatever comes after it counts as news.
        let (seen, clock_steps_seen) = (*tip.borrow_and_update(), self.recorder.clock_steps());
        let snapshot = self.spool.snapshot().await?;
        let sensor_said = *self.about.sensor.borrow();
        let (capabilities, privilege_tier) = self.about.capabilities(sensor_said);
        let (outgoing, outgoing_stream) = mpsc::channel(OUTGOING);
        let skip = snapshot.waiting.len().saturating_sub(limits::RANGES);
        let hello = Hello {
            protocol: PROTOCOL_VERSION..=PROTOCOL_VERSION,
            agent_version: AGENT_VERSION.to_owned(),
            boot_id: self.spool.boot_id(),
            incarnation: self.spool.incarnation(),
            clock: clock_reading(&self.recorder.read_clock()),
            capabilities,
            privilege_tier,
            assignment: plans.borrow_and_update().version,
            // The newest when there are too many: those are sent first.
            waiting: snapshot.waiting.get(skip..).unwrap_or_default().to_vec(),
            ledger: snapshot.ledger.clone(),
        };
        outgoing
            .try_send(AgentMessage::Hello(Box::new(hello)).into())
            .map_err(|_| End::Ended)?;

        let deadline = Instant::now() + self.config.uplink.connect_timeout;
        let greeting = self.greet(channel, outgoing_stream);
        let (welcome, incoming) = tokio::select! {
            greeted = timeout_at(deadline, greeting) => {
                greeted.map_err(|_| End::GreetingTimeout)??
            }
            () = shutdown.reached(Stage::Flush) => return Err(End::Stopping),
        };
        progress.welcomed = true;
        count(&self.stats.uplink_connects, "ok", 1);
        self.stats.uplink_connected.set(1);
        tracing::info!(%collector, version = welcome.collector_version, waiting = snapshot.ledger.waiting, "connected");
        self.learn_time(welcome.collector_wall_us);

        let mut flow = Flow::new(
            self.spool.incarnation(),
            snapshot.next_sequence,
            &snapshot.waiting,
        );
        for held in &welcome.already_held {
            flow.forget(held);
        }
        self.spool.settle(welcome.already_held, Vec::new()).await?;
        let now = Instant::now();
        let (answers, answer_queue) = mpsc::channel(ANSWERS);
        let exchange = Exchange {
            uplink: self,
            outgoing,
            answers,
            flow,
            tip,
            plans,
            welcome_interval: welcome.flush_interval,
            sensor_said,
            // The first batch carries the ledger and shows at once that the way is open.
            flush_at: now,
            last_flush: now,
            live_due: 0,
            heartbeat_due: false,
            urgent_seen: seen.urgent,
            drops_seen: seen.drops,
            clock_steps_seen,
            ledger_at: now,
        };
        exchange
            .run(incoming, answer_queue, shutdown, progress)
            .await
    }

    /// Opens the stream and waits for the collector's first word.
    async fn greet(
        &self,
        channel: Channel,
        outgoing: mpsc::Receiver<wire::AgentMessage>,
    ) -> Result<(Welcome, Streaming<wire::CollectorMessage>), End> {
        let mut client = UplinkClient::new(channel)
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES);
        let mut incoming = client
            .exchange(ReceiverStream::new(outgoing))
            .await
            .map_err(|status| End::Status(Box::new(status)))?
            .into_inner();
        match next_message(&mut incoming).await? {
            CollectorMessage::Welcome(welcome) if welcome.protocol == PROTOCOL_VERSION => {
                Ok((welcome, incoming))
            }
            CollectorMessage::Welcome(welcome) => Err(End::Protocol(format!(
                "it chose version {}, which was not offered",
                welcome.protocol
            ))),
            CollectorMessage::Wait(wait) => Err(End::Wait {
                delay: wait.delay,
                reason: wait.reason,
            }),
            _ => Err(End::Protocol("it did not answer the hello".to_owned())),
        }
    }
}

async fn next_message(
    incoming: &mut Streaming<wire::CollectorMessage>,
) -> Result<CollectorMessage, End> {
    match incoming.message().await {
        Ok(Some(message)) => {
            CollectorMessage::try_from(message).map_err(|error| End::Protocol(error_chain(&error)))
        }
        Ok(None) => Err(End::Ended),
        Err(status) => Err(End::Status(Box::new(status))),
    }
}

fn clock_reading(reading: &Reading) -> ClockReading {
    ClockReading {
        wall_us: reading.wall_us,
        boottime_us: reading.boottime_us,
        synchronised: reading.synchronised,
    }
}

impl<P: Prober> Exchange<'_, P> {
    async fn run(
        mut self,
        mut incoming: Streaming<wire::CollectorMessage>,
        mut answer_queue: mpsc::Receiver<AgentMessage>,
        shutdown: &Shutdown,
        progress: &mut Progress,
    ) -> Result<Infallible, End> {
        let lifetime_over = Instant::now() + LIFETIME + random_up_to(LIFETIME / 4);
        let changed = self.uplink.about.differs(self.sensor_said);
        let mut changed = std::pin::pin!(changed);
        let mut flushing = false;
        loop {
            let now = Instant::now();
            if now >= self.flush_at {
                self.begin_flush(now);
            }
            if flushing && self.is_flushed() {
                return Err(End::Stopping);
            }
            let has_work = self.heartbeat_due || self.next_range().is_some();
            let ack_deadline = self.flow.ack_deadline(ACK_TIMEOUT);
            tokio::select! {
                message = next_message(&mut incoming) => {
                    self.received(message?, progress).await?;
                }
                permit = self.outgoing.clone().reserve_owned(), if has_work => {
                    let permit = permit.map_err(|_| End::Ended)?;
                    if let Some(batch) = self.next_batch().await? {
                        permit.send(AgentMessage::Batch(batch).into());
                    }
                }
                Some(answer) = answer_queue.recv() => {
                    self.outgoing.send(answer.into()).await.map_err(|_| End::Ended)?;
                }
                changed = self.tip.changed() => {
                    changed.map_err(|_| End::Spool(crate::spool::Closed))?;
                    self.look_at_tip();
                }
                Ok(()) = self.plans.changed() => {
                    self.plans.mark_unchanged();
                    self.flush_at = self.flush_at.min(Instant::now() + self.flush_interval());
                }
                () = sleep_until(self.flush_at) => {}
                () = sleep_until(ack_deadline.unwrap_or(now)), if ack_deadline.is_some() => {
                    return Err(End::AckTimeout);
                }
                () = sleep_until(lifetime_over) => return Err(End::Lifetime),
                () = &mut changed => return Err(End::Changed),
                () = shutdown.reached(Stage::Flush), if !flushing => {
                    flushing = true;
                    self.flush_at = Instant::now();
                }
            }
        }
    }

    /// The assignment's interval is newer than the welcome's.
    fn flush_interval(&self) -> Duration {
        let planned = self.plans.borrow().flush_interval;
        [planned, self.welcome_interval, FLUSH_INTERVAL]
            .into_iter()
            .find(|interval| !interval.is_zero())
            .unwrap_or(FLUSH_INTERVAL)
    }

    /// Everything measured until now is due.
    fn begin_flush(&mut self, now: Instant) {
        self.live_due = self.tip.borrow().next_sequence;
        self.heartbeat_due = true;
        self.last_flush = now;
        self.flush_at = now + self.flush_interval();
    }

    /// News from the spool: is anything urgent?
    fn look_at_tip(&mut self) {
        let tip = *self.tip.borrow_and_update();
        if tip.urgent != self.urgent_seen || tip.drops != self.drops_seen {
            self.urgent_seen = tip.urgent;
            self.flush_at = self.flush_at.min(self.last_flush + URGENT_SPACING);
        }
    }

    fn is_flushed(&self) -> bool {
        let next = self.tip.borrow().next_sequence;
        !self.heartbeat_due && self.flow.live(next).is_none() && self.flow.nothing_in_flight()
    }

    /// What to send next: live before backlog.
    fn next_range(&self) -> Option<(Lane, IncarnationRange)> {
        let live = self
            .flow
            .live(self.live_due)
            .map(|range| (Lane::Live, range));
        live.or_else(|| self.flow.backlog().map(|range| (Lane::Backlog, range)))
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, End> {
        let now = Instant::now();
        if let Some((lane, range)) = self.next_range() {
            let max_block_bytes = match lane {
                Lane::Live => LIVE_BLOCK_BYTES,
                Lane::Backlog => BACKLOG_BLOCK_BYTES,
            };
            let want = Want {
                range,
                max_records: u64::MAX,
                max_block_bytes,
            };
            match self.uplink.spool.read(want).await? {
                Some(chunk) => {
                    let covered = chunk.covered_to_exclusive;
                    self.flow.sent(lane, &range, &chunk.range, covered, now);
                    let count = chunk.range.count();
                    if lane == Lane::Backlog {
                        let used = chunk.block.len();
                        self.flow.adapt(used, max_block_bytes, count, range.count());
                    }
                    if count > 0 {
                        let mut batch = self.batch(lane, &chunk.range, chunk.block).await?;
                        batch.boot_id = chunk.boot_id;
                        return Ok(Some(batch));
                    }
                    return Ok(None);
                }
                None => {
                    // The disk does not give them: they stay waiting, until the next flush or the next stream.
                    match lane {
                        Lane::Live => self.live_due = 0,
                        Lane::Backlog => self.flow.forget(&range),
                    }
                }
            }
        }
        if !self.heartbeat_due {
            return Ok(None);
        }
        let nothing = IncarnationRange {
            incarnation: self.uplink.spool.incarnation(),
            from_inclusive: 0,
            to_exclusive: 0,
        };
        self.batch(Lane::Live, &nothing, Vec::new()).await.map(Some)
    }

    /// Wraps a block, with clocks and ledger when they are due.
    async fn batch(
        &mut self,
        lane: Lane,
        range: &IncarnationRange,
        block: Vec<u8>,
    ) -> Result<Batch, End> {
        let stats = &self.uplink.stats;
        let label = match lane {
            _ if block.is_empty() => "heartbeat",
            Lane::Live => "live",
            Lane::Backlog => "backlog",
        };
        count(&stats.uplink_batches, label, 1);
        count(&stats.uplink_records, label, range.count());
        stats.uplink_blocks.inc_by(block.len() as u64);
        self.heartbeat_due = false;

        let now = Instant::now();
        let reading = self.uplink.recorder.read_clock();
        let clock_steps = self.uplink.recorder.clock_steps();
        let drops = self.tip.borrow().drops;
        let ledger_due = now >= self.ledger_at || drops != self.drops_seen;
        let clock_due = ledger_due || clock_steps != self.clock_steps_seen;
        let ledger = if ledger_due {
            self.ledger_at = now
                + (self.flush_interval() * FLUSHES_PER_LEDGER)
                    .clamp(LEDGER_INTERVAL_MIN, LEDGER_INTERVAL_MAX);
            self.drops_seen = drops;
            Some(self.uplink.spool.ledger().await?)
        } else {
            None
        };
        self.clock_steps_seen = clock_steps;
        let own = self.uplink.spool.incarnation();
        Ok(Batch {
            incarnation: (range.incarnation != own).then_some(range.incarnation),
            first_sequence: range.from_inclusive,
            count: usize::try_from(range.count()).unwrap_or(usize::MAX),
            block,
            lane,
            clock: clock_due.then(|| clock_reading(&reading)),
            ledger,
            boot_id: None,
        })
    }

    async fn received(
        &mut self,
        message: CollectorMessage,
        progress: &mut Progress,
    ) -> Result<(), End> {
        match message {
            CollectorMessage::Ack(ack) => {
                progress.useful = true;
                for range in ack.ranges.iter().chain(&ack.refused) {
                    self.flow.settled(range);
                }
                self.uplink.spool.settle(ack.ranges, ack.refused).await?;
            }
            CollectorMessage::Assignment(assignment) => {
                let status = self.uplink.control.assign(assignment).await;
                self.answer(AgentMessage::AssignmentStatus(status)).await?;
            }
            CollectorMessage::MeasurementRequest(request) => {
                let control = Arc::clone(&self.uplink.control);
                let answers = self.answers.clone();
                spawn_named("measurement", async move {
                    let answer = control.measure(*request).await;
                    // The stream that asked may be gone.
                    drop(answers.send(AgentMessage::MeasurementAnswer(answer)).await);
                });
            }
            CollectorMessage::Wait(wait) => {
                return Err(End::Wait {
                    delay: wait.delay,
                    reason: wait.reason,
                });
            }
            CollectorMessage::Welcome(_) => {
                return Err(End::Protocol("a second welcome".to_owned()));
            }
            CollectorMessage::Unknown => {
                tracing::debug!("a message of a newer collector was skipped");
            }
        }
        Ok(())
    }

    async fn answer(&self, message: AgentMessage) -> Result<(), End> {
        self.outgoing
            .send(message.into())
            .await
            .map_err(|_| End::Ended)
    }
}
