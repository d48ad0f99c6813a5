//! The agent of Extranet Monitor, as a library: the binary, the collector's own vantage and the tests run the same
//! code.
//!
//! Modules in the order of the path of a result, then what the stages stand on.

pub mod schedule;

pub mod measure;

pub mod probe;

pub mod ipv6;

pub mod packet;

pub mod net;

pub mod sensor;

pub mod security;

pub mod result;

pub mod spool;

pub mod uplink;

pub mod control;

pub mod account;

pub mod cli;
pub mod clock;
pub mod config;
pub mod dial;
pub mod identity;
pub mod run;
pub mod self_stats;
pub mod shell;
pub mod state_file;
