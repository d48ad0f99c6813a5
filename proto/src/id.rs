//! Newtypes for every number and name that identifies something, so that none is taken for another.

use std::fmt;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {rule}")]
pub struct InvalidName {
    /// Which kind of name.
    pub what: &'static str,
    /// The refused text, cut to 80 characters.
    pub value: String,
    /// What is allowed.
    pub rule: &'static str,
}

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks the text and wraps it.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                if text.is_empty() || text.len() > $max || !text.chars().all(allowed) {
                    return Err(InvalidName {
                        what: $what,
                        value: text.chars().take(80).collect(),
                        rule: "use 1 to 64 ASCII letters, digits, '-', '_' or '.'",
                    });
                }
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// An access point (接入点位) of the inventory. Stable; label `ap_id`.
    ApId, "access point id", 64
);
name!(
    /// One agent: the subject of its certificate. An access point may have several.
    AgentId, "agent id", 64
);
name!(
    /// Stable name of a check within its agent's assignment; label `check`.
    CheckName, "check name", 64
);

number!(
    /// Version of an agent's assignment; never reused for another content. 0 means none.
    AssignmentVersion(u32)
);
number!(
    /// A check of an agent, unique for all time: a changed check gets a new id.
    CheckId(u32)
);
number!(
    /// A target within an assignment.
    TargetId(u32)
);
number!(
    /// Something an agent discovered and defined itself (an interface, ...), unique within an incarnation. 0 is the
    /// target of the check itself.
    ObjectId(u32)
);
number!(
    /// Position of a record within its incarnation, from 0.
    Sequence(u64)
);

/// 64 random bits drawn each time a spool is opened. An unsynced tail that a power cut took can so never share its
/// numbers with records of the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The kernel's random id of one boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub [u8; 16]);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(ApId::new("540121-001").unwrap().as_str(), "540121-001");
        assert!(ApId::new("").is_err());
        assert!(ApId::new("a/../b").is_err());
        assert!(ApId::new("林周").is_err());
        assert!(AgentId::new("x".repeat(65)).is_err());
    }
}
