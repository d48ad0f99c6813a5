//! The collector.
pub mod pki;
