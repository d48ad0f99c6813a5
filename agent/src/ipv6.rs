//! IPv6 readiness: is this access point addressed, connected, usable, good, ready without IPv4?
//!
//! - [`rubric`]: what is checked and what it is worth, from a data file;
//! - [`score`]: from the verdicts of one run to score, caps and level; pure;

pub mod rubric;
pub mod score;
