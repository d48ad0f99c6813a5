//! Hello, batches, acknowledgements and ledgers, validated.
//!
//! Each type here is one message of `uplink.proto` after every limit and rule was checked: `TryFrom<wire::X>` reads it,
//! `From<X> for wire::X` writes it. In the order of a stream:
//!
//! - [`hello`]: what an agent says first, and the collector's [`Welcome`] or [`Wait`];
//! - [`batch`]: records up, acknowledgements down;
//! - [`ledger`]: the balance of a spool and the ranges both sides count with;
//! - [`control`]: assignments and on-demand measurements.

pub mod batch;
pub mod control;
pub mod hello;
pub mod ledger;

pub use batch::{Ack, Batch, Lane};
pub use control::{AssignmentStatus, MeasurementAnswer, MeasurementRequest};
pub use hello::{ClockReading, Hello, Wait, Welcome, negotiate};
pub use ledger::{IncarnationRange, Ledger};

use crate::error::ProtoError;
use crate::wire;

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentMessage {
    /// First on every stream.
    Hello(Box<Hello>),
    /// Records, or a heartbeat.
    Batch(Batch),
    /// What became of an assignment.
    AssignmentStatus(AssignmentStatus),
    /// What an on-demand measurement gave.
    MeasurementAnswer(MeasurementAnswer),
    /// Something a newer agent says: to be counted and skipped.
    Unknown,
}

impl TryFrom<wire::AgentMessage> for AgentMessage {
    type Error = ProtoError;

    fn try_from(message: wire::AgentMessage) -> Result<Self, ProtoError> {
        use wire::agent_message::Message;
        Ok(match message.message {
            Some(Message::Hello(hello)) => Self::Hello(Box::new(hello.try_into()?)),
            Some(Message::Batch(batch)) => Self::Batch(batch.try_into()?),
            Some(Message::AssignmentStatus(status)) => Self::AssignmentStatus(status.try_into()?),
            Some(Message::MeasurementAnswer(answer)) => Self::MeasurementAnswer(answer.try_into()?),
            None => Self::Unknown,
        })
    }
}

impl From<AgentMessage> for wire::AgentMessage {
    fn from(message: AgentMessage) -> Self {
        use wire::agent_message::Message;
        let message = match message {
            AgentMessage::Hello(hello) => Some(Message::Hello((*hello).into())),
            AgentMessage::Batch(batch) => Some(Message::Batch(batch.into())),
            AgentMessage::AssignmentStatus(status) => {
                Some(Message::AssignmentStatus(status.into()))
            }
            AgentMessage::MeasurementAnswer(answer) => {
                Some(Message::MeasurementAnswer(answer.into()))
            }
            AgentMessage::Unknown => None,
        };
        Self { message }
    }
}

/// What a collector says.
#[derive(Debug, Clone, PartialEq)]
pub enum CollectorMessage {
    /// The answer to a hello.
    Welcome(Welcome),
    /// Records that are safe.
    Ack(Ack),
    /// Not validated yet: the agent reports the problems of single checks, see
    /// [`crate::assignment::Assignment::from_wire`], and keeps the bytes.
    Assignment(wire::Assignment),
    /// Not validated yet: a request that breaks a rule is answered with a refusal, see [`MeasurementRequest`].
    MeasurementRequest(Box<wire::MeasurementRequest>),
    /// Come back later.
    Wait(Wait),
    /// Something a newer collector says: to be counted and skipped.
    Unknown,
}

impl TryFrom<wire::CollectorMessage> for CollectorMessage {
    type Error = ProtoError;

    fn try_from(message: wire::CollectorMessage) -> Result<Self, ProtoError> {
        use wire::collector_message::Message;
        Ok(match message.message {
            Some(Message::Welcome(welcome)) => Self::Welcome(welcome.try_into()?),
            Some(Message::Ack(ack)) => Self::Ack(ack.try_into()?),
            Some(Message::Assignment(assignment)) => Self::Assignment(assignment),
            Some(Message::MeasurementRequest(request)) => {
                Self::MeasurementRequest(Box::new(request))
            }
            Some(Message::Wait(wait)) => Self::Wait(wait.try_into()?),
            None => Self::Unknown,
        })
    }
}

impl From<CollectorMessage> for wire::CollectorMessage {
    fn from(message: CollectorMessage) -> Self {
        use wire::collector_message::Message;
        let message = match message {
            CollectorMessage::Welcome(welcome) => Some(Message::Welcome(welcome.into())),
            CollectorMessage::Ack(ack) => Some(Message::Ack(ack.into())),
            CollectorMessage::Assignment(assignment) => Some(Message::Assignment(assignment)),
            CollectorMessage::MeasurementRequest(request) => {
                Some(Message::MeasurementRequest(*request))
            }
            CollectorMessage::Wait(wait) => Some(Message::Wait(wait.into())),
            CollectorMessage::Unknown => None,
        };
        Self { message }
    }
}

/// The longest beginning of a text that fits, cut between characters.
fn cut(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}
