//! IPv6 readiness: is this access point addressed, connected, usable, good, ready without IPv4?
//!
//! - [`rubric`]: what is checked and what it is worth, from a data file;
//! - [`score`]: from the verdicts of one run to score, caps and level; pure;
//! - [`host`]: what this machine's own tables say: addresses, default route, neighbours (checks A, B, H2);
//! - [`path`]: echo to the anchors, over IPv6 and IPv4 (C1, F1, G1, G2), and the collector's port (C2);
//! - [`service`]: resolver, names and services (D1, D3, E1, E3);
//! - [`report`]: what a run found, row by row, and its way to the collector and back;
//! - [`run`]: one run of everything that this machine can do;
//! - [`shown`]: a run as a table for the terminal, in Chinese and English;
//! - [`subjects`]: how people write what is looked at.
//!
//! Every socket is of the family of a literal address: a check of IPv6 can never fall back to IPv4 (V6-S7).

pub mod host;
pub mod path;
pub mod report;
pub mod rubric;
pub mod run;
pub mod score;
pub mod service;
pub mod shown;
pub mod subjects;
