//! The collector of Extranet Monitor, as a library: the binary and the tests run the same code.
//!
//! Modules in the order of the path of a result, then what the stages stand on.

pub mod listen;

pub mod enrol;
pub mod session;

pub mod ingest;

pub mod alert;
pub mod export;
pub mod ipv6;
pub mod security;
pub mod state;
pub mod store;
pub mod syslog;
pub mod texts;

pub mod divisions;
pub mod inventory;
pub mod plan;

pub mod report;

pub mod fleet;
pub mod vantage;

pub mod admin;
pub mod cli;
pub mod config;
mod lookup;
pub mod pki;
pub mod seal;
pub mod self_stats;
pub mod serve;
pub mod sketch;
