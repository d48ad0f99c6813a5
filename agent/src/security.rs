//! Security detections of the agent itself (requirements 5; docs/security-detections.md): what this machine hears and
//! sees of its segment is compared with what the inventory approves or with what was learnt, and becomes security
//! records. Nothing here sends anything to the network (SEC-G1).
//!
//! ```text
//! sensor (tier 2) ---- listen --\
//!                                watch -> routers (SEC-01) --\
//! netlink (tier 0) - news ------/     \-> gateways (SEC-04) --> life -> result -> spool, at once
//! ```
//!
//! - [`routers`], [`gateways`]: the rules, pure; the time is passed in;
//! - [`life`]: from findings to events: raised once, cleared after a hold-down, flaps collapsed (SEC-G3);
//! - [`memory`]: what outlives the process: what was learnt, and the events that are open;
//! - [`listen`]: the socket of the sensor;
//! - [`watch`]: the task that ties them together.

pub mod gateways;
pub mod life;
pub mod listen;
pub mod memory;
pub mod routers;
pub mod watch;

use extranet_proto::record::{SecurityRule, Severity};

/// What proves a finding: names and values in a fixed order.
pub type Evidence = Vec<(String, String)>;

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: SecurityRule,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about; one event for each.
    pub object: String,
    /// What proves it. Holds nothing that changes while the finding stays the same, such as a counter.
    pub evidence: Evidence,
    /// Whether it holds until something says that it is over; otherwise it was true for a moment.
    pub lasting: bool,
}

/// What a rule says about something that was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be, or not known yet.
    Quiet,
    /// Something is wrong.
    Found(Finding),
    /// What was wrong about these objects is so no longer.
    Over(SecurityRule, Vec<String>),
}
