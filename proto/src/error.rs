//! Why a message of a peer was refused.

use crate::block::BlockError;
use crate::id::InvalidName;

/// A message broke a rule. Names the field as in the .proto files; never carries a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// A field without which the message means nothing is absent.
    #[error("{field} is missing")]
    Missing {
        /// Which field.
        field: &'static str,
    },
    /// More elements or bytes than [`crate::limits`] allows.
    #[error("{field} has length {found}, the limit is {limit}")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its length: elements of a list, bytes of a text.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A number outside of its span.
    #[error("{field} is {found}, allowed is {min} to {max}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// Smallest allowed value.
        min: u64,
        /// Largest allowed value.
        max: u64,
    },
    /// A value that is not valid for a reason of its own.
    #[error("{field}: {rule}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is allowed.
        rule: &'static str,
    },
    /// A name that is not valid.
    #[error("{field} is not valid")]
    Name {
        /// Which field.
        field: &'static str,
        /// Why.
        source: InvalidName,
    },
    /// A choice that this build does not know, from a newer peer or a broken one.
    #[error("{field} has the unknown value {found}")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// Its number on the wire.
        found: i32,
    },
    /// The block cannot be read.
    #[error("{field} is not a readable block")]
    Block {
        /// Which field.
        field: &'static str,
        /// Why.
        source: BlockError,
    },
}

impl ProtoError {
    /// Refuses a list or text that is too long.
    pub(crate) fn check_len(field: &'static str, found: usize, limit: usize) -> Result<(), Self> {
        if found > limit {
            return Err(Self::TooLong {
                field,
                found,
                limit,
            });
        }
        Ok(())
    }

    /// Refuses a number outside of `min..=max`.
    pub(crate) fn check_span(
        field: &'static str,
        found: u32,
        min: u32,
        max: u32,
    ) -> Result<u32, Self> {
        if (min..=max).contains(&found) {
            return Ok(found);
        }
        Err(Self::OutOfRange {
            field,
            found: found.into(),
            min: min.into(),
            max: max.into(),
        })
    }
}
