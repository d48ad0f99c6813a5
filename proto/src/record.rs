//! One measured thing as it enters the spool, and the closed sets of outcomes and reasons.
//!
//! A record carries no labels: a result names its assignment version and check, and the collector knows what they
//! were. What the agent discovered itself (interfaces, ...) is defined by the agent in [`Definition`] records.

use crate::id::{AssignmentVersion, CheckId, Incarnation, ObjectId};
use crate::metric::Metric;

/// When a record was measured, by both clocks of the agent, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordTime {
    /// Since boot, suspended time included. Which boot: the incarnation of the record belongs to exactly one.
    pub boottime_ms: u64,
    /// Since 1970-01-01 UTC by the system clock, right or wrong.
    pub wall_ms: i64,
}

/// A record of the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was measured (for a result: when the run ended).
    pub time: RecordTime,
    /// What it says.
    pub body: Body,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A run of a check.
    Result(CheckResult),
    /// Names and labels of something the agent discovered.
    Definition(Definition),
    /// Records that the spool had to drop.
    Dropped(DroppedRange),
    /// Something that happened to the agent itself.
    Event(AgentEvent),
    /// A kind of record that this build does not know: to be skipped and counted, never an error.
    Unknown {
        /// Its number on the wire.
        kind: u8,
    },
}

/// The result of one run of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// The assignment that held the check when it ran.
    pub assignment: AssignmentVersion,
    /// The check.
    pub check: CheckId,
    /// The verdict.
    pub outcome: Outcome,
    /// Why the outcome is not [`Outcome::Ok`]; [`Reason::None`] otherwise.
    pub reason: Reason,
    /// How long the run took, µs.
    pub duration_us: u64,
    /// What was measured, in the order the probe gives.
    pub values: Vec<Value>,
}

/// One measured value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// What it is, with its unit.
    pub metric: Metric,
    /// What it belongs to: an object the agent defined, or `ObjectId(0)` for the target itself.
    pub object: ObjectId,
    /// Raw 64 bits: unsigned for counters, two's complement for metrics that can be negative.
    pub raw: u64,
}

/// Declares a closed enum that is a number on the wire and a word in labels.
macro_rules! closed_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $number:literal => $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Number on the wire and on disk; never reused.
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The value with this number, if this build knows it.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// Label and log form.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

closed_enum! {
    /// Verdict of a run.
    Outcome {
        /// The target answered as it should.
        Ok = 0 => "ok",
        /// The target did not answer as it should: a verdict on the target or the path.
        Failed = 1 => "failed",
        /// The agent could not measure: says nothing about the target.
        NotMeasured = 2 => "not_measured",
    }
}

closed_enum! {
    /// Why a run did not end well. Also the label `reason`.
    Reason {
        /// It ended well.
        None = 0 => "none",
        /// No answer before the deadline.
        Timeout = 1 => "timeout",
        /// TCP RST in answer to SYN, or ICMP port unreachable.
        Refused = 2 => "refused",
        /// The connection was reset after it had been established.
        Reset = 3 => "reset",
        /// ICMP host unreachable, or address resolution failed on the last hop.
        HostUnreachable = 4 => "host_unreachable",
        /// No route, here or at a router on the way.
        NetworkUnreachable = 5 => "network_unreachable",
        /// ICMP administratively prohibited, or a local firewall refused the packet.
        Prohibited = 6 => "prohibited",
        /// Time to live or hop limit ran out on the way.
        TimeExceeded = 7 => "time_exceeded",
        /// A packet with "don't fragment" was too big for the path.
        PacketTooBig = 8 => "packet_too_big",
        /// The name of the target has no address of the family.
        NameNotResolved = 9 => "name_not_resolved",
        /// The target's address lies outside the prefixes this agent may probe (OPS-13).
        TargetNotAllowed = 10 => "target_not_allowed",
        /// The agent lacks the privilege for this probe.
        NoPrivilege = 11 => "no_privilege",
        /// The machine has no address of this family.
        NoAddress = 12 => "no_address",
        /// The answer could not be parsed, or broke its protocol.
        Malformed = 13 => "malformed",
        /// The target refused the credential.
        AuthenticationFailed = 14 => "authentication_failed",
        /// The target answered with an error of its protocol.
        RemoteError = 15 => "remote_error",
        /// The answer was larger than the probe accepts.
        TooLarge = 16 => "too_large",
        /// The machine refused a resource (sockets, memory).
        LocalError = 17 => "local_error",
        /// A table walk did not advance (repeated or decreasing OIDs).
        NotIncreasing = 18 => "not_increasing",
        /// A reason that this build does not know, from a newer peer.
        Other = 255 => "other",
    }
}

closed_enum! {
    /// What an agent can discover and define.
    ObjectKind {
        /// A row of ifTable: labels `ifIndex`, `ifName`, `ifDescr`, `ifAlias`.
        Interface = 1 => "interface",
        /// The device itself: labels `sysName`, `sysDescr`, `sysObjectID`, `sysLocation`, `sysContact`.
        System = 2 => "system",
        /// A kind that this build does not know, from a newer peer.
        Other = 255 => "other",
    }
}

/// Names and labels of something the agent discovered. Repeated in every spool segment, so that newest-first sending
/// and oldest-first dropping never separate a definition from the values that use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its id within the incarnation; not 0.
    pub object: ObjectId,
    /// The check that discovered it.
    pub check: CheckId,
    /// What it is.
    pub kind: ObjectKind,
    /// Label names and values, in a fixed order.
    pub labels: Vec<(String, String)>,
}

closed_enum! {
    /// Why a spool dropped a record without an acknowledgement.
    DropReason {
        /// The spool reached its limit in bytes.
        SpoolBytes = 1 => "spool_bytes",
        /// The record grew older than the spool keeps.
        SpoolAge = 2 => "spool_age",
        /// The disk refused the write.
        Disk = 3 => "disk",
        /// The collector can never use the record.
        Refused = 4 => "refused",
        /// A reason that this build does not know, from a newer peer.
        Other = 255 => "other",
    }
}

/// Consecutive records of one incarnation that the spool dropped before they were acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DroppedRange {
    /// Whose numbers.
    pub incarnation: Incarnation,
    /// First dropped sequence.
    pub from_inclusive: u64,
    /// Sequence after the last dropped one.
    pub to_exclusive: u64,
    /// Why.
    pub reason: DropReason,
}

closed_enum! {
    /// What can happen to an agent.
    EventKind {
        /// The process started; value = 0.
        Started = 1 => "started",
        /// The process stops on request; value = 0.
        Stopping = 2 => "stopping",
        /// An assignment took effect; value = its version.
        AssignmentApplied = 3 => "assignment_applied",
        /// An assignment was refused, the last good one goes on; value = its version.
        AssignmentRefused = 4 => "assignment_refused",
        /// The wall clock moved against the boot clock; value = by how many ms (signed).
        ClockStepped = 5 => "clock_stepped",
        /// Runs were skipped because they were late; value = how many.
        RunsSkipped = 6 => "runs_skipped",
        /// An event that this build does not know, from a newer peer.
        Other = 255 => "other",
    }
}

/// Something that happened to the agent itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEvent {
    /// What.
    pub kind: EventKind,
    /// Its number, see [`EventKind`].
    pub value: i64,
    /// Free text for people, at most [`crate::limits::EVENT_TEXT_BYTES`].
    pub text: String,
}
