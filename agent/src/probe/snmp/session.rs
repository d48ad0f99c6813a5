//! What the modules need of an SNMP library, and no more: two requests and their errors. [`super::library`] is the
//! only implementation outside tests, so that the library can be replaced.

use std::fmt;
use std::future::Future;

use extranet_proto::record::Reason;

use crate::net::refusal::Refusal;

/// Longest octet string that is kept, bytes. Labels are cut at 255 anyway; a device may send 65,535.
pub(super) const OCTETS_KEPT: usize = 1_024;

/// An object identifier. Compares in the order of a walk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Oid(pub(super) Vec<u32>);

impl Oid {
    /// This identifier with more arcs behind it.
    pub(super) fn with(&self, arcs: &[u32]) -> Self {
        Self([self.0.as_slice(), arcs].concat())
    }

    /// The arcs behind `prefix`, if this identifier lies under it.
    pub(super) fn under(&self, prefix: &Self) -> Option<&[u32]> {
        self.0.strip_prefix(prefix.0.as_slice())
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, arc) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            write!(f, "{arc}")?;
        }
        Ok(())
    }
}

/// A value as a device gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Datum {
    /// INTEGER.
    Signed(i64),
    /// Counter32, Gauge32, `TimeTicks`, Counter64.
    Unsigned(u64),
    /// OCTET STRING, cut at [`OCTETS_KEPT`].
    Octets(Vec<u8>),
    /// OBJECT IDENTIFIER.
    Oid(Oid),
    /// The device has no such object or instance.
    Missing,
    /// The walk is past the last object of the device.
    EndOfView,
    /// A type that no module uses.
    Other,
}

impl Datum {
    /// The raw bits of a metric: unsigned, or two's complement for INTEGER.
    pub(super) fn raw(&self) -> Option<u64> {
        match self {
            Self::Signed(number) => Some(number.cast_unsigned()),
            Self::Unsigned(number) => Some(*number),
            _ => None,
        }
    }
}

/// A name with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    /// Which object.
    pub(super) oid: Oid,
    /// What it holds.
    pub(super) datum: Datum,
}

impl Binding {
    /// Roughly its bytes in a message: an arc below 128 takes one, numbers take up to nine.
    pub(super) fn size(&self) -> u64 {
        let arcs: usize = self
            .oid
            .0
            .iter()
            .map(|arc| if *arc < 128 { 1 } else { 3 })
            .sum();
        let value = match &self.datum {
            Datum::Octets(octets) => octets.len(),
            Datum::Oid(oid) => oid.0.len(),
            Datum::Unsigned(number) => (70 - number.leading_zeros() as usize) / 8,
            Datum::Signed(_) => 2,
            _ => 0,
        };
        (arcs + value + 6) as u64
    }
}

/// What requests cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Requests that got no answer in time and were sent again, or given up.
    pub(super) repeated: u64,
}

/// Why a request gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The answer would have been too big for the device: ask for less.
    TooBig,
    /// Anything else ends the scrape with this verdict.
    Verdict(Refusal),
}

impl Failure {
    /// The target or the path is at fault.
    pub(super) const fn failed(reason: Reason) -> Self {
        Self::Verdict(Refusal::failed(reason))
    }

    /// This machine is at fault.
    pub(super) const fn not_measured(reason: Reason) -> Self {
        Self::Verdict(Refusal::not_measured(reason))
    }
}

/// A device under one credential.
pub(super) trait Session: Send + Sync {
    /// Whether the version of the protocol has Counter64.
    fn has_counter64(&self) -> bool;

    /// What requests cost so far.
    fn cost(&self) -> Cost;

    /// The values of these objects, in any order. What the device does not have is [`Datum::Missing`] or absent.
    fn get(&self, oids: &[Oid]) -> impl Future<Output = Result<Vec<Binding>, Failure>> + Send;

    /// For each of `oids` up to `repetitions` successors, interleaved as GETBULK does (RFC 3416 section 4.2.3): the
    /// first successor of every identifier, then the second of every identifier, and so on. A device may stop early.
    fn successors(
        &self,
        oids: &[Oid],
        repetitions: u32,
    ) -> impl Future<Output = Result<Vec<Binding>, Failure>> + Send;
}
