//! The beginning of a stream: hello, the log's record of it, welcome, assignment.

use std::net::SocketAddr;
use std::time::Duration;

use extranet_agent::clock::Reading;
use extranet_agent::shell::error_chain;
use extranet_proto::id::{AgentId, AssignmentVersion};
use extranet_proto::session::{
    AgentMessage, ClockReading, CollectorMessage, Hello, Wait, Welcome, negotiate,
};
use extranet_proto::wire;
use extranet_proto::wire::log_record::Input;
use tonic::{Status, Streaming};

use super::boots::{BootTime, Settled};
use super::{Ended, Outgoing, Parts};
use crate::fleet::{Live, Membership};
use crate::lookup;

/// How long an agent may take to say hello once its stream is open. One round trip over a satellite, and loss.
const HELLO_TIMEOUT: Duration = Duration::from_secs(30);
/// When an agent has no assignment yet it has nothing to send but heartbeats.
const FLUSH_WITHOUT_ASSIGNMENT: Duration = Duration::from_mins(1);
/// How long agents stay away when the log cannot be written; each adds jitter of its own.
const WAIT_FOR_DISK: Duration = Duration::from_secs(10);

/// What the greeting settled.
pub(super) struct Greeted {
    pub(super) hello: Hello,
    pub(super) boot_time: BootTime,
    pub(super) membership: Membership,
    pub(super) flush_interval: Duration,
    pub(super) assignment_sent: AssignmentVersion,
}

/// Reads the hello, joins the fleet, logs the session and welcomes the agent.
pub(super) async fn greet(
    parts: &Parts,
    agent: &AgentId,
    address: SocketAddr,
    inbound: &mut Streaming<wire::AgentMessage>,
    outgoing: &Outgoing,
) -> Result<Greeted, Ended> {
    let hello = match tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await {
        Err(_) => return Err(Ended::Idle),
        Ok(Ok(None)) => return Err(Ended::Closed),
        Ok(Err(status)) => return Err(read_error(&status)),
        Ok(Ok(Some(message))) => message,
    };
    let now = parts.clock.read();
    let AgentMessage::Hello(hello) =
        AgentMessage::try_from(hello).map_err(|error| invalid(&error))?
    else {
        return Err(Ended::Refused(Status::invalid_argument(
            "the first message must be a hello",
        )));
    };
    let protocol = negotiate(&hello.protocol).ok_or_else(|| {
        let ours = extranet_proto::PROTOCOL_VERSION;
        Ended::Refused(Status::failed_precondition(format!(
            "this collector speaks version {ours} of the contract"
        )))
    })?;
    let boot_time = settle_clock(parts, agent, hello.boot_id, hello.clock, &now);
    let clock_offset_us = hello.clock.wall_us.saturating_sub(now.wall_us);
    let live = Live {
        clock_offset_us,
        version: hello.agent_version.clone(),
        privilege_tier: hello.privilege_tier.into(),
    };
    let membership = parts.fleet.join(agent.clone(), live).await;
    log_opening(parts, agent, address, &hello, clock_offset_us, outgoing).await?;
    let already_held = parts
        .ingest
        .held(agent.clone(), hello.waiting.clone())
        .await;
    let already_held = already_held.map_err(|_| Ended::Stopping)?;
    let assignment = assignment(parts, agent).await?;
    let flush_interval = flush_interval(assignment.as_ref());
    let welcome = Welcome {
        protocol,
        collector_version: env!("CARGO_PKG_VERSION").to_owned(),
        collector_wall_us: parts.clock.read().wall_us,
        flush_interval,
        already_held,
    };
    outgoing.send(CollectorMessage::Welcome(welcome)).await?;
    let assignment_sent = match assignment {
        Some(assignment) if assignment.version != hello.assignment.0 => {
            let version = AssignmentVersion(assignment.version);
            parts.stats.fleet_assignments_sent.inc();
            outgoing
                .send(CollectorMessage::Assignment(assignment))
                .await?;
            version
        }
        _ => hello.assignment,
    };
    Ok(Greeted {
        hello: *hello,
        boot_time,
        membership,
        flush_interval,
        assignment_sent,
    })
}

async fn log_opening(
    parts: &Parts,
    agent: &AgentId,
    address: SocketAddr,
    hello: &Hello,
    clock_offset_us: i64,
    outgoing: &Outgoing,
) -> Result<(), Ended> {
    let opened = wire::SessionOpened {
        agent_id: agent.as_str().to_owned(),
        incarnation: hello.incarnation.0,
        boot_id: hello.boot_id.0.to_vec(),
        agent_version: hello.agent_version.clone(),
        privilege_tier: hello.privilege_tier.into(),
        assignment_version: hello.assignment.0,
        clock_offset_us,
        peer_address: address.ip().to_string(),
    };
    let ledger = wire::LoggedLedger {
        agent_id: agent.as_str().to_owned(),
        ledger: Some(hello.ledger.clone().into()),
    };
    let (opened, ledger) = tokio::join!(
        parts.ingest.log(Input::SessionOpened(opened)),
        parts.ingest.log(Input::Ledger(ledger))
    );
    match opened.and(ledger) {
        Ok(_) => Ok(()),
        Err(_) => Err(wait_for_disk(outgoing).await),
    }
}

/// Sends the agent away until the log can be written again.
pub(super) async fn wait_for_disk(outgoing: &Outgoing) -> Ended {
    let wait = Wait {
        delay: WAIT_FOR_DISK,
        reason: "the collector cannot write its log".to_owned(),
    };
    match outgoing.send(CollectorMessage::Wait(wait)).await {
        Ok(()) => Ended::NotDurable,
        Err(ended) => ended,
    }
}

/// The agent's latest assignment.
pub(super) async fn assignment(
    parts: &Parts,
    agent: &AgentId,
) -> Result<Option<wire::Assignment>, Ended> {
    let asked = agent.clone();
    lookup::read(&parts.store, move |store| store.assignment_for(&asked))
        .await
        .map_err(|error| {
            tracing::error!(%agent, error = error_chain(&error), "cannot read an assignment");
            Ended::Failed(Status::unavailable("the collector cannot answer now"))
        })
}

/// How often the agent is to send.
pub(super) fn flush_interval(assignment: Option<&wire::Assignment>) -> Duration {
    assignment.map_or(FLUSH_WITHOUT_ASSIGNMENT, |assignment| {
        Duration::from_millis(assignment.flush_interval_ms.into())
    })
}

/// Settles where the agent's boot lies, from a reading that has just come.
pub(super) fn settle_clock(
    parts: &Parts,
    agent: &AgentId,
    boot: extranet_proto::id::BootId,
    theirs: ClockReading,
    ours: &Reading,
) -> BootTime {
    let ClockReading {
        wall_us,
        boottime_us,
        synchronised,
    } = theirs;
    let theirs = Reading {
        wall_us,
        boottime_us,
        synchronised,
    };
    let settled = parts.boots.settle(agent, boot, &theirs, ours);
    if let Settled::Moved(time) = settled {
        parts.stats.session_clock_moved.inc();
        tracing::warn!(%agent, %boot, boot_to_wall_ms = time.boot_to_wall_ms, "a clock was set, boot time estimated anew");
    }
    settled.time()
}

/// A message that breaks a rule ends the stream, with the rule.
pub(super) fn invalid(error: &(dyn std::error::Error + 'static)) -> Ended {
    Ended::Refused(Status::invalid_argument(error_chain(error)))
}

/// tonic reports a broken connection and an unreadable message alike; the code tells them apart.
pub(super) fn read_error(status: &Status) -> Ended {
    match status.code() {
        tonic::Code::Cancelled | tonic::Code::Unknown | tonic::Code::Unavailable => Ended::Lost,
        // Too long, or not protobuf.
        _ => Ended::Refused(Status::invalid_argument(status.message())),
    }
}
