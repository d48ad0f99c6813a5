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
    /// Something that endangers the site, or no longer does.
    Security(SecurityEvent),
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
        /// The peer closed the connection before the answer was complete.
        Closed = 19 => "closed",
        /// A status of HTTP or a response code of DNS that is not the expected one.
        UnexpectedStatus = 20 => "unexpected_status",
        /// The answer does not hold what it should: other addresses, other text.
        UnexpectedContent = 21 => "unexpected_content",
        /// The answer was cut to fit into a datagram (DNS flag TC).
        Truncated = 22 => "truncated",
        /// The peer ended the TLS handshake: no common version or cipher, an alert, a broken message.
        TlsHandshake = 23 => "tls_handshake",
        /// The certificate or one above it is not in force yet or no longer.
        CertificateExpired = 24 => "certificate_expired",
        /// The certificate bears another name.
        CertificateName = 25 => "certificate_name",
        /// The chain does not lead to a trusted root, or is broken.
        CertificateUntrusted = 26 => "certificate_untrusted",
        /// Packets to the target go in circles: a router answers at several distances.
        RoutingLoop = 27 => "routing_loop",
        /// Packets above some size vanish on the way and nobody says so: no "packet too big" comes.
        PathMtuBlackHole = 28 => "path_mtu_black_hole",
        /// The path MTU is not the expected one.
        PathMtuUnexpected = 29 => "path_mtu_unexpected",
        /// A name that cannot exist was answered: somebody makes up answers of the DNS.
        Rewritten = 30 => "rewritten",
        /// The name server did not authenticate the answer (DNS flag AD).
        NotAuthenticated = 31 => "not_authenticated",
        /// The time server told us to go away (NTP kiss-o'-death).
        KissOfDeath = 32 => "kiss_of_death",
        /// The time server says that its own clock is not set.
        Unsynchronised = 33 => "unsynchronised",
        /// Answers came, but to another question than ours: other id, nonce or origin. An accident, or a forgery.
        Mismatched = 34 => "mismatched",
        /// Certificate or key are not those of the run before, or not those that were pinned.
        CertificateChanged = 35 => "certificate_changed",
        /// More redirects than the check follows.
        TooManyRedirects = 36 => "too_many_redirects",
        /// A redirect leads where this agent may not measure, or to something that is no web page.
        RedirectOutside = 37 => "redirect_outside",
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
        /// What a TLS server showed: labels `version`, `cipher`, `fingerprint_sha256`, `key_sha256`, `subject`, `issuer`,
        /// `not_after` (RFC 3339), `group`, `alpn`, `chain_sha256`, `serialnumber`, `subjectalternative`. One object for
        /// each check; defined again whenever a label changes.
        TlsEndpoint = 3 => "tls_endpoint",
        /// A row of a table of an SNMP module: the labels that the module gives it.
        SnmpRow = 5 => "snmp_row",
        /// What a metric with a number of the agent's own means ([`crate::metric::Defined`]).
        Metric = 6 => "metric",
        /// A device through which measurements and the stream leave the machine: label `device`.
        Uplink = 7 => "uplink",
        /// Who answers at a hop of a path: labels `hop` (distance in hops, two digits), `address` (empty = nobody).
        PathHop = 4 => "path_hop",
        /// A certificate that a TLS server showed: labels `cert_no` (0 = its own, then as shown), `cn`, `issuer_cn`,
        /// `serial_no`, `fingerprint_sha256`.
        Certificate = 8 => "certificate",
        /// Whoever answers echo requests with error messages: labels `offender` (its address), `icmp_type`, `icmp_code`. One
        /// object for each check; defined again whenever a label changes.
        IcmpError = 9 => "icmp_error",
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
        /// SNMP notifications of one kind arrived from a device; value = how many since the last such event. The text
        /// is `source=ADDRESS trap=NAME` and what the notification says, as `name=value` with quotes where needed.
        Trap = 16 => "trap",
        /// Packets to a target take another way than before; value = the new fingerprint, text = check and both paths.
        PathChanged = 7 => "path_changed",
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

closed_enum! {
    /// The rule that was broken (requirements 5: SEC-01 to SEC-24).
    SecurityRule {
        /// A router advertisement that nobody approved.
        RogueRa = 1 => "SEC-01",
        /// Neighbour discovery behind fragments or extension headers.
        EvasiveNd = 2 => "SEC-02",
        /// A DHCP server that nobody approved.
        RogueDhcp = 3 => "SEC-03",
        /// The gateway answers with another MAC address.
        GatewayMac = 4 => "SEC-04",
        /// An address is used twice.
        DuplicateAddress = 5 => "SEC-05",
        /// A device that the segment did not have before.
        UnknownDevice = 6 => "SEC-06",
        /// A way to the Internet that is not registered.
        InternetReachable = 7 => "SEC-07",
        /// A DNS answer that differs from the authoritative one.
        DnsTampering = 8 => "SEC-08",
        /// A certificate changed, expires, or does not fit.
        Certificate = 9 => "SEC-09",
        /// SNMP with default or weak credentials.
        SnmpCredential = 10 => "SEC-10",
        /// Errors of an interface.
        InterfaceErrors = 11 => "SEC-11",
        /// Traffic unlike any before.
        TrafficAnomaly = 12 => "SEC-12",
        /// A scan seen from the segment.
        Scan = 13 => "SEC-13",
        /// Another way through the network.
        PathChange = 14 => "SEC-14",
        /// A port that should not listen.
        UnexpectedPort = 15 => "SEC-15",
        /// A clock that is wrong.
        TimeSkew = 16 => "SEC-16",
        /// The agent itself was changed.
        AgentTampering = 17 => "SEC-17",
        /// One identity at two places.
        IdentityClone = 18 => "SEC-18",
        /// A transition tunnel.
        TransitionTunnel = 19 => "SEC-19",
        /// A filter that differs between IPv4 and IPv6.
        FilterMismatch = 20 => "SEC-20",
        /// A wireless bridge or switch that nobody approved.
        RogueBridge = 21 => "SEC-21",
        /// A gateway of mobile offices that is not what it should be.
        MobileGateway = 22 => "SEC-22",
        /// Attempts to enter the agent or to enrol.
        IntrusionAttempt = 23 => "SEC-23",
        /// Temperature, doors, power.
        Physical = 24 => "SEC-24",
        /// A rule that this build does not know, from a newer peer.
        Other = 255 => "other",
    }
}

closed_enum! {
    /// What happens to a security event.
    SecurityAction {
        /// It begins, or is seen with other evidence.
        Raised = 1 => "raised",
        /// It is over.
        Cleared = 2 => "cleared",
        /// An action that this build does not know, from a newer peer.
        Other = 255 => "other",
    }
}

closed_enum! {
    /// How bad a security event is (SEC-G3).
    Severity {
        /// 紧急
        Critical = 1 => "critical",
        /// 重要
        Major = 2 => "major",
        /// 次要
        Minor = 3 => "minor",
        /// 提示
        Info = 4 => "info",
        /// A severity that this build does not know, from a newer peer.
        Other = 255 => "other",
    }
}

/// Something that endangers the site, or no longer does. One event is known by (rule, object) at its access point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityEvent {
    /// The rule.
    pub rule: SecurityRule,
    /// Whether it begins or ends.
    pub action: SecurityAction,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, stable for the life of the event: `gateway fe80::1 on eth0`. At most
    /// [`crate::limits::TEXT_BYTES`].
    pub object: String,
    /// When it was first seen, by the clocks of the record's time.
    pub first_seen: RecordTime,
    /// What proves it, in a fixed order; within [`crate::limits::EVIDENCE_PAIRS`], [`crate::limits::EVIDENCE_KEY_BYTES`]
    /// and [`crate::limits::EVIDENCE_BYTES`] (SEC-31).
    pub evidence: Vec<(String, String)>,
}
