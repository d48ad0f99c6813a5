//! Up, down or unknown.

/// Live state of an access point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It cannot be reached, or cannot reach the core.
    Down,
    /// It can reach the core.
    Up,
    /// Nothing is known, because we ourselves did not watch.
    Unknown,
    /// Not monitored, or never seen yet.
    NotInService,
}

impl State {
    /// Number in the catalogue and value of `extranet_ap_state`.
    pub const fn number(self) -> u8 {
        match self {
            Self::Down => 0,
            Self::Up => 1,
            Self::Unknown => 2,
            Self::NotInService => 3,
        }
    }

    /// The state with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Down),
            1 => Some(Self::Up),
            2 => Some(Self::Unknown),
            3 => Some(Self::NotInService),
            _ => None,
        }
    }

    /// Word for people and labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
            Self::Unknown => "unknown",
            Self::NotInService => "not_in_service",
        }
    }
}
