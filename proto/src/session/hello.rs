//! The beginning of a stream: hello up, welcome or wait down.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::cut;
use super::ledger::{self, IncarnationRange, Ledger};
use crate::error::ProtoError;
use crate::id::{AssignmentVersion, BootId, Incarnation};
use crate::{PROTOCOL_VERSION, limits, wire};

/// Highest privilege tier (SEC-G0).
const PRIVILEGE_TIER_MAX: u32 = 2;

/// All three clocks of one machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// System clock, µs since 1970-01-01 UTC, right or wrong.
    pub wall_us: i64,
    /// Boot clock, µs, suspended time included.
    pub boottime_us: u64,
    /// Whether the kernel says that the system clock is synchronised.
    pub synchronised: bool,
}

impl From<wire::Clock> for ClockReading {
    fn from(clock: wire::Clock) -> Self {
        Self {
            wall_us: clock.wall_us,
            boottime_us: clock.boottime_us,
            synchronised: clock.synchronised,
        }
    }
}

impl From<ClockReading> for wire::Clock {
    fn from(clock: ClockReading) -> Self {
        Self {
            wall_us: clock.wall_us,
            boottime_us: clock.boottime_us,
            synchronised: clock.synchronised,
        }
    }
}

/// What an agent says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Versions of the contract that the agent speaks.
    pub protocol: RangeInclusive<u32>,
    /// Version of its program, for people.
    pub agent_version: String,
    /// The running boot.
    pub boot_id: BootId,
    /// Under which records are appended now; not 0.
    pub incarnation: Incarnation,
    /// Its clocks when it said hello.
    pub clock: ClockReading,
    /// What it can do. Those of a newer agent are left out.
    pub capabilities: Vec<wire::Capability>,
    /// Privilege tier (SEC-G0): 0, 1 or 2.
    pub privilege_tier: u8,
    /// What it works with now; 0 = none.
    pub assignment: AssignmentVersion,
    /// What the spool holds without an acknowledgement, oldest first.
    pub waiting: Vec<IncarnationRange>,
    /// The balance of its spool.
    pub ledger: Ledger,
}

impl TryFrom<wire::Hello> for Hello {
    type Error = ProtoError;

    fn try_from(hello: wire::Hello) -> Result<Self, ProtoError> {
        let found = hello.agent_version.len();
        ProtoError::check_len("hello.agent_version", found, limits::TEXT_BYTES)?;
        let found = hello.capabilities.len();
        ProtoError::check_len("hello.capabilities", found, limits::CAPABILITIES)?;
        let protocol_max = ProtoError::check_span(
            "hello.protocol_max",
            hello.protocol_max,
            hello.protocol_min,
            u32::MAX,
        )?;
        let tier = ProtoError::check_span(
            "hello.privilege_tier",
            hello.privilege_tier,
            0,
            PRIVILEGE_TIER_MAX,
        )?;
        let known = |number| wire::Capability::try_from(number).ok();
        Ok(Self {
            protocol: hello.protocol_min..=protocol_max,
            agent_version: hello.agent_version,
            boot_id: read_boot_id("hello.boot_id", &hello.boot_id)?,
            incarnation: ledger::read_incarnation("hello.incarnation", hello.incarnation)?,
            clock: hello
                .clock
                .ok_or(ProtoError::Missing {
                    field: "hello.clock",
                })?
                .into(),
            capabilities: hello.capabilities.into_iter().filter_map(known).collect(),
            privilege_tier: u8::try_from(tier).unwrap_or(0),
            assignment: AssignmentVersion(hello.assignment_version),
            waiting: ledger::read_ranges("hello.waiting", hello.waiting)?,
            ledger: hello
                .ledger
                .ok_or(ProtoError::Missing {
                    field: "hello.ledger",
                })?
                .try_into()?,
        })
    }
}

impl From<Hello> for wire::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            protocol_min: *hello.protocol.start(),
            protocol_max: *hello.protocol.end(),
            agent_version: hello.agent_version,
            boot_id: hello.boot_id.0.to_vec(),
            incarnation: hello.incarnation.0,
            clock: Some(hello.clock.into()),
            capabilities: hello.capabilities.into_iter().map(Into::into).collect(),
            privilege_tier: hello.privilege_tier.into(),
            assignment_version: hello.assignment.0,
            waiting: ledger::write_ranges(hello.waiting),
            ledger: Some(hello.ledger.into()),
        }
    }
}

/// The highest version that this build and the peer speak; `None` when there is none.
pub fn negotiate(offered: &RangeInclusive<u32>) -> Option<u32> {
    offered
        .contains(&PROTOCOL_VERSION)
        .then_some(PROTOCOL_VERSION)
}

pub(super) fn read_boot_id(field: &'static str, bytes: &[u8]) -> Result<BootId, ProtoError> {
    let rule = "must have 16 bytes";
    let bytes = bytes
        .try_into()
        .map_err(|_| ProtoError::Invalid { field, rule })?;
    Ok(BootId(bytes))
}

/// The collector's answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The version of the contract that both speak from now on.
    pub protocol: u32,
    /// Version of the collector's program, for people.
    pub collector_version: String,
    /// The collector's wall clock, µs since 1970-01-01 UTC.
    pub collector_wall_us: i64,
    /// How long live results may be collected before they are sent.
    pub flush_interval: Duration,
    /// What the collector has of those records that the hello declared as waiting.
    pub already_held: Vec<IncarnationRange>,
}

impl TryFrom<wire::Welcome> for Welcome {
    type Error = ProtoError;

    fn try_from(welcome: wire::Welcome) -> Result<Self, ProtoError> {
        let found = welcome.collector_version.len();
        ProtoError::check_len("welcome.collector_version", found, limits::TEXT_BYTES)?;
        let flush_interval_ms = ProtoError::check_span(
            "welcome.flush_interval_ms",
            welcome.flush_interval_ms,
            0,
            limits::FLUSH_INTERVAL_MS_MAX,
        )?;
        Ok(Self {
            protocol: welcome.protocol,
            collector_version: welcome.collector_version,
            collector_wall_us: welcome.collector_wall_us,
            flush_interval: Duration::from_millis(flush_interval_ms.into()),
            already_held: ledger::read_ranges("welcome.already_held", welcome.already_held)?,
        })
    }
}

impl From<Welcome> for wire::Welcome {
    fn from(welcome: Welcome) -> Self {
        Self {
            protocol: welcome.protocol,
            collector_version: welcome.collector_version,
            collector_wall_us: welcome.collector_wall_us,
            flush_interval_ms: milliseconds(welcome.flush_interval),
            already_held: ledger::write_ranges(welcome.already_held),
        }
    }
}

/// Admission control: close the stream and come back later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// How long to stay away, at most [`limits::WAIT_MS_MAX`] whatever the collector said.
    pub delay: Duration,
    /// Why, for people.
    pub reason: String,
}

impl TryFrom<wire::Wait> for Wait {
    type Error = ProtoError;

    fn try_from(wait: wire::Wait) -> Result<Self, ProtoError> {
        ProtoError::check_len("wait.reason", wait.reason.len(), limits::TEXT_BYTES)?;
        let delay_ms = wait.delay_ms.min(limits::WAIT_MS_MAX);
        Ok(Self {
            delay: Duration::from_millis(delay_ms.into()),
            reason: wait.reason,
        })
    }
}

impl From<Wait> for wire::Wait {
    fn from(wait: Wait) -> Self {
        Self {
            delay_ms: milliseconds(wait.delay),
            reason: cut(&wait.reason, limits::TEXT_BYTES).to_owned(),
        }
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
