//! The contract of Extranet Monitor: what agents and collector say to each other and what both keep on disk.
//!
//! In the order of the path of a result:
//!
//! - [`id`]: newtypes for every number and name that identifies something;
//! - [`assignment`]: what an agent is told to measure, validated;
//! - [`metric`]: the registry of measured values: id on the wire, Prometheus name, unit;
//! - [`record`]: one measured thing as it enters the spool, and the closed sets of outcomes and reasons;
//! - [`block`]: records packed column by column, the form on the wire and on disk;
//! - [`session`]: hello, batches, acknowledgements and ledgers, validated;
//! - [`ranges`]: sets of sequence numbers, with which both sides account for every record;
//! - [`limits`]: every limit on what a peer may send, with its reason;
//! - [`wire`]: the generated protobuf types. Nothing outside this crate should look inside them without the
//!   conversions above.

pub mod assignment;
pub mod block;
mod error;
pub mod id;
pub mod limits;
pub mod mac;
pub mod metric;
pub mod ranges;
pub mod record;
mod secret;
pub mod session;
mod varint;

pub use error::ProtoError;

/// Generated from `proto/extranet/v1/*.proto`.
#[expect(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    reason = "generated code"
)]
pub mod wire {
    tonic::include_proto!("extranet.v1");
}

/// Version of the contract that this build speaks; `Hello` offers a span of versions.
pub const PROTOCOL_VERSION: u32 = 1;

/// Server name (SNI) under which the collector serves the uplink, whatever its address: mutual TLS required.
pub const UPLINK_SERVER_NAME: &str = "uplink.extranet.internal";

/// Server name (SNI) under which the collector serves enrolment and renewal on the same port: no client certificate.
pub const ENROLMENT_SERVER_NAME: &str = "enrol.extranet.internal";
