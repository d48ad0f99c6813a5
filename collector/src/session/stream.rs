//! The body of a stream: batches to the log, acknowledgements back, assignments and measurements down.
//!
//! Up to [`WINDOW`] batches are under way to the log at a time; then the stream is not read until answers come, so a
//! slow disk slows agents down instead of filling memory. Acknowledgements that are ready together go in one message.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use extranet_proto::block::{self, BlockError};
use extranet_proto::id::{AgentId, AssignmentVersion};
use extranet_proto::record::{Body, Record};
use extranet_proto::session::{
    Ack, AgentMessage, AssignmentStatus, Batch, CollectorMessage, IncarnationRange, Ledger,
    MeasurementAnswer, Wait,
};
use extranet_proto::wire;
use extranet_proto::wire::log_record::Input;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use extranet_agent::shell::Stage;

use super::boots::{self, BootTime};
use super::greeting::{self, Greeted};
use super::rationed::Rationed;
use super::{Ended, Outgoing, Parts};
use crate::fleet::{Answer, End, Order};
use crate::ingest::{BatchReply, NewBatch, Verdict, WINDOW};
use crate::self_stats::{count, count_many};

/// An agent sends at least a heartbeat every flush interval; three of them and the slack of a bad link may pass.
const IDLE_FLUSHES: u32 = 3;
/// The least patience with a silent stream.
const IDLE_MIN: Duration = Duration::from_mins(3);
/// After this long a stream is made anew, so that certificates and balance are looked at again.
const LIFETIME: Duration = Duration::from_hours(24);
/// Agents stay away for a random part of this after the end of a stream's life.
const WAIT_AFTER_LIFETIME: Duration = Duration::from_secs(5);
/// How long answers of the log are waited for when a stream is closed.
const DRAIN: Duration = Duration::from_secs(5);
/// Measurements whose answers are waited for.
const MEASUREMENTS: usize = 16;
/// Larger blocks are decoded where they disturb no other stream.
const DECODE_APART_BYTES: usize = 32 << 10;

/// A whole stream: greeting, body, farewell. Everything that happens on it is counted and logged here.
pub(super) async fn run(
    parts: &Parts,
    agent: AgentId,
    address: SocketAddr,
    mut inbound: Streaming<wire::AgentMessage>,
    outgoing: Outgoing,
) {
    let greeted = greeting::greet(parts, &agent, address, &mut inbound, &outgoing).await;
    let ended = match greeted {
        Err(ended) => ended,
        Ok(greeted) => {
            parts.stats.session_opened.inc();
            parts.stats.session_open.inc();
            let version = &greeted.hello.agent_version;
            tracing::info!(%agent, %address, version, "stream open");
            let mut session = Session::new(parts, agent.clone(), greeted, outgoing.clone());
            let ended = session.body(&mut inbound).await;
            session.farewell(&ended).await;
            parts.stats.session_open.dec();
            ended
        }
    };
    count(&parts.stats.session_closed, ended.label());
    if let Ended::Refused(status) = &ended {
        tracing::warn!(%agent, %address, reason = status.message(), "stream refused");
    } else {
        tracing::info!(%agent, %address, reason = ended.label(), "stream closed");
    }
    if let Some(status) = ended.status() {
        // The agent may be gone.
        drop(outgoing.0.send_timeout(Err(status), DRAIN).await);
    }
}

struct Session<'p> {
    parts: &'p Parts,
    agent: AgentId,
    greeted: Greeted,
    outgoing: Outgoing,
    boot_time: BootTime,
    assignment_sent: AssignmentVersion,
    replies: mpsc::Receiver<BatchReply>,
    reply_to: mpsc::Sender<BatchReply>,
    under_way: usize,
    measurements: HashMap<u64, oneshot::Sender<Answer>>,
    ledger: Rationed<Ledger>,
    status: Rationed<AssignmentStatus>,
}

impl<'p> Session<'p> {
    fn new(parts: &'p Parts, agent: AgentId, greeted: Greeted, outgoing: Outgoing) -> Self {
        let (reply_to, replies) = mpsc::channel(WINDOW);
        Self {
            parts,
            agent,
            outgoing,
            boot_time: greeted.boot_time,
            assignment_sent: greeted.assignment_sent,
            ledger: Rationed::new(Some(greeted.hello.ledger.clone())),
            status: Rationed::new(None),
            greeted,
            replies,
            reply_to,
            under_way: 0,
            measurements: HashMap::new(),
        }
    }

    async fn body(&mut self, inbound: &mut Streaming<wire::AgentMessage>) -> Ended {
        let end_of_life = Instant::now() + LIFETIME;
        let mut idle_at = self.idle_deadline();
        loop {
            self.measurements.retain(|_, reply| !reply.is_closed());
            let word_due = [self.ledger.due(), self.status.due()]
                .into_iter()
                .flatten()
                .min();
            let step = tokio::select! {
                biased;
                changed = self.greeted.membership.end.changed() => Err(match changed {
                    Ok(()) => self.told_to_end(),
                    Err(_) => Ended::Stopping,
                }),
                () = self.parts.shutdown.reached(Stage::NoNewWork) => Err(Ended::Stopping),
                Some(reply) = self.replies.recv() => self.acknowledge(reply).await,
                Some(order) = self.greeted.membership.orders.recv(), if self.measurements.len() < MEASUREMENTS => {
                    self.order(order).await
                }
                Ok(()) = self.greeted.membership.assignment.changed() => self.send_assignment().await,
                message = inbound.message(), if self.under_way < WINDOW => {
                    idle_at = self.idle_deadline();
                    match message {
                        Ok(Some(message)) => self.message(message).await,
                        Ok(None) => Err(Ended::Closed),
                        Err(status) => Err(greeting::read_error(&status)),
                    }
                }
                () = tokio::time::sleep_until(word_due.unwrap_or(idle_at)), if word_due.is_some() => {
                    let now = Instant::now();
                    let (ledger, status) = (self.ledger.take_due(now), self.status.take_due(now));
                    self.log_words(ledger, status).await
                }
                () = tokio::time::sleep_until(idle_at) => Err(Ended::Idle),
                () = tokio::time::sleep_until(end_of_life) => Err(self.lifetime_over().await),
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    fn idle_deadline(&self) -> Instant {
        Instant::now() + IDLE_MIN.max(self.greeted.flush_interval * IDLE_FLUSHES)
    }

    fn told_to_end(&self) -> Ended {
        match *self.greeted.membership.end.borrow() {
            End::Revoked => Ended::Revoked,
            End::Replaced | End::None => Ended::Replaced,
        }
    }

    async fn lifetime_over(&self) -> Ended {
        let wait = Wait {
            delay: WAIT_AFTER_LIFETIME,
            reason: "the stream is old enough".to_owned(),
        };
        match self.outgoing.send(CollectorMessage::Wait(wait)).await {
            Ok(()) => Ended::Lifetime,
            Err(ended) => ended,
        }
    }

    async fn message(&mut self, message: wire::AgentMessage) -> Result<(), Ended> {
        match AgentMessage::try_from(message).map_err(|error| greeting::invalid(&error))? {
            AgentMessage::Batch(batch) => self.batch(batch).await,
            AgentMessage::AssignmentStatus(status) => {
                let status = self.status.offer(status, Instant::now());
                self.log_words(None, status).await
            }
            AgentMessage::MeasurementAnswer(answer) => {
                self.measured(answer);
                Ok(())
            }
            AgentMessage::Hello(_) => Err(Ended::Refused(Status::invalid_argument(
                "a stream has one hello",
            ))),
            AgentMessage::Unknown => {
                count(&self.parts.stats.session_skipped, "unknown_message");
                Ok(())
            }
        }
    }

    async fn batch(&mut self, mut batch: Batch) -> Result<(), Ended> {
        self.parts.stats.session_batches.inc();
        if let Some(clock) = batch.clock {
            let (boot, now) = (self.greeted.hello.boot_id, self.parts.clock.read());
            self.boot_time = greeting::settle_clock(self.parts, &self.agent, boot, clock, &now);
        }
        if let Some(ledger) = batch.ledger.take() {
            self.check_ledger(&ledger);
            let ledger = self.ledger.offer(ledger, Instant::now());
            self.log_words(ledger, None).await?;
        }
        if batch.count == 0 {
            self.parts.stats.session_heartbeats.inc();
            return Ok(());
        }
        let range = batch.range(self.greeted.hello.incarnation);
        let (block, records) = match decode(batch.block).await? {
            Ok(decoded) => decoded,
            Err(error) => return self.refuse(range, &error).await,
        };
        let boot_id = batch.boot_id.unwrap_or(self.greeted.hello.boot_id);
        let time = if boot_id == self.greeted.hello.boot_id {
            self.boot_time
        } else {
            let own = || records.first().map(|first| boots::own_word(first.time));
            let known = self
                .parts
                .boots
                .known(&self.agent, boot_id)
                .filter(|known| known.certain);
            known.or_else(own).unwrap_or(self.boot_time)
        };
        let new = NewBatch {
            agent: self.agent.clone(),
            incarnation: range.incarnation,
            boot_id,
            first_sequence: range.from_inclusive,
            count: range.count(),
            samples: records.iter().map(samples).sum(),
            boot_to_wall_ms: time.boot_to_wall_ms,
            time_certain: time.certain,
            block,
            lane: batch.lane,
        };
        self.under_way += 1;
        self.parts
            .ingest
            .batch(new, self.reply_to.clone())
            .await
            .map_err(|_| Ended::Stopping)
    }

    /// Records that nobody will ever be able to read: the agent counts them as dropped and does not send them again.
    async fn refuse(&mut self, range: IncarnationRange, error: &BlockError) -> Result<(), Ended> {
        count_many(&self.parts.stats.ingest_records, "refused", range.count());
        tracing::warn!(
            agent = %self.agent, incarnation = %range.incarnation, from = range.from_inclusive,
            to = range.to_exclusive, %error, "unreadable block refused"
        );
        let ack = Ack {
            ranges: Vec::new(),
            refused: vec![range],
        };
        self.outgoing.send(CollectorMessage::Ack(ack)).await
    }

    /// Acknowledges what is durable: this answer of the log and all that are ready with it.
    async fn acknowledge(&mut self, first: BatchReply) -> Result<(), Ended> {
        let mut ranges: Vec<IncarnationRange> = Vec::new();
        let mut next = Some(first);
        let mut outcome = Verdict::Durable;
        while let Some(reply) = next {
            self.under_way -= 1;
            match reply.verdict {
                Verdict::Durable => append_range(&mut ranges, reply.range),
                other => outcome = other,
            }
            next = self.replies.try_recv().ok();
        }
        if !ranges.is_empty() {
            let ack = Ack {
                ranges,
                refused: Vec::new(),
            };
            self.outgoing.send(CollectorMessage::Ack(ack)).await?;
        }
        match outcome {
            Verdict::Durable => Ok(()),
            Verdict::NotDurable => Err(greeting::wait_for_disk(&self.outgoing).await),
            Verdict::TooManyGaps => Err(Ended::Refused(Status::resource_exhausted(
                "the records' numbers have too many gaps",
            ))),
        }
    }

    fn check_ledger(&self, ledger: &Ledger) {
        if !ledger.balances() {
            count(&self.parts.stats.session_skipped, "unbalanced_ledger");
            tracing::warn!(agent = %self.agent, ?ledger, "the agent's ledger does not balance");
        }
    }

    /// Logs what the agent says about itself.
    async fn log_words(
        &self,
        ledger: Option<Ledger>,
        status: Option<AssignmentStatus>,
    ) -> Result<(), Ended> {
        let agent_id = || self.agent.as_str().to_owned();
        if let Some(ledger) = ledger {
            let ledger = Some(ledger.into());
            self.log(Input::Ledger(wire::LoggedLedger {
                agent_id: agent_id(),
                ledger,
            }))
            .await?;
        }
        if let Some(status) = status {
            for problem in &status.problems {
                tracing::warn!(agent = %self.agent, version = %status.version, problem, "assignment has a problem");
            }
            let status = Some(status.into());
            let logged = wire::LoggedAssignmentStatus {
                agent_id: agent_id(),
                status,
            };
            self.log(Input::AssignmentStatus(logged)).await?;
        }
        Ok(())
    }

    async fn log(&self, input: Input) -> Result<(), Ended> {
        match self.parts.ingest.log(input).await {
            Ok(_) => Ok(()),
            Err(crate::ingest::NotDurable::Closed) => Err(Ended::Stopping),
            Err(_) => Err(greeting::wait_for_disk(&self.outgoing).await),
        }
    }

    async fn order(&mut self, order: Order) -> Result<(), Ended> {
        self.measurements
            .insert(order.request.request_id, order.reply);
        let request = CollectorMessage::MeasurementRequest(Box::new(order.request.into()));
        self.outgoing.send(request).await
    }

    fn measured(&mut self, answer: MeasurementAnswer) {
        match self.measurements.remove(&answer.request_id) {
            // The asker may have given up.
            Some(reply) => drop(reply.send(answer.answer)),
            None => count(&self.parts.stats.session_skipped, "unexpected_answer"),
        }
    }

    async fn send_assignment(&mut self) -> Result<(), Ended> {
        let Some(assignment) = greeting::assignment(self.parts, &self.agent).await? else {
            return Ok(());
        };
        let version = AssignmentVersion(assignment.version);
        if version == self.assignment_sent {
            return Ok(());
        }
        self.greeted.flush_interval = greeting::flush_interval(Some(&assignment));
        self.assignment_sent = version;
        self.parts.stats.fleet_assignments_sent.inc();
        self.outgoing
            .send(CollectorMessage::Assignment(assignment))
            .await
    }

    /// Waits for the log's last answers, acknowledges them if anybody still listens, and logs the end, unless a newer
    /// session speaks for the agent already.
    async fn farewell(mut self, ended: &Ended) {
        let deadline = Instant::now() + DRAIN;
        while self.under_way > 0 {
            let Ok(Some(reply)) = tokio::time::timeout_at(deadline, self.replies.recv()).await
            else {
                break;
            };
            if self.acknowledge(reply).await.is_err() {
                break;
            }
        }
        let now = Instant::now();
        let (ledger, status) = (self.ledger.take(now), self.status.take(now));
        // When it cannot be logged, the next session begins with as much.
        drop(self.log_words(ledger, status).await);
        if self.greeted.membership.is_current() {
            let closed = wire::SessionClosed {
                agent_id: self.agent.as_str().to_owned(),
                incarnation: self.greeted.hello.incarnation.0,
                reason: ended.label().to_owned(),
            };
            // When it cannot be logged, the next opening of a session says as much.
            drop(self.parts.ingest.log(Input::SessionClosed(closed)).await);
        }
    }
}

/// Decodes a block to see that it can be, and gives it back with its records.
async fn decode(block: Vec<u8>) -> Result<Result<(Vec<u8>, Vec<Record>), BlockError>, Ended> {
    let size = block.len();
    let decode = move || block::decode(&block).map(|records| (block, records));
    if size < DECODE_APART_BYTES {
        return Ok(decode());
    }
    let decoded = tokio::task::spawn_blocking(decode).await;
    decoded.map_err(|_| Ended::Failed(Status::internal("the collector failed")))
}

fn samples(record: &Record) -> u64 {
    match &record.body {
        Body::Result(result) => result.values.len() as u64,
        _ => 0,
    }
}

/// Adds a range, joined to the last one where they touch: live batches follow each other.
fn append_range(ranges: &mut Vec<IncarnationRange>, range: IncarnationRange) {
    match ranges.last_mut() {
        Some(last)
            if last.incarnation == range.incarnation
                && last.to_exclusive == range.from_inclusive =>
        {
            last.to_exclusive = range.to_exclusive;
        }
        _ => ranges.push(range),
    }
}
