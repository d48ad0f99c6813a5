//! The agent of Extranet Monitor: probes, spools and sends.

pub mod probe;
