//! What an error of a system call says about a probe: a verdict on target and path, or on this machine.

use std::io;

use extranet_proto::record::{Outcome, Reason};
use nix::errno::Errno;

/// An outcome that is not [`Outcome::Ok`], with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// [`Outcome::Failed`] or [`Outcome::NotMeasured`].
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
}

impl Refusal {
    /// A verdict on the target or the path.
    pub const fn failed(reason: Reason) -> Self {
        Self {
            outcome: Outcome::Failed,
            reason,
        }
    }

    /// This machine could not measure.
    pub const fn not_measured(reason: Reason) -> Self {
        Self {
            outcome: Outcome::NotMeasured,
            reason,
        }
    }

    /// Reads an error of `connect`, `sendto` or of the handshake.
    pub const fn of(errno: Errno) -> Self {
        match errno {
            Errno::ECONNREFUSED => Self::failed(Reason::Refused),
            Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED => Self::failed(Reason::Reset),
            Errno::EHOSTUNREACH | Errno::EHOSTDOWN => Self::failed(Reason::HostUnreachable),
            // Also a route of this machine that is missing: a site whose uplink is down has none, and that is what
            // the check is to find out.
            Errno::ENETUNREACH | Errno::ENETDOWN | Errno::ENONET => {
                Self::failed(Reason::NetworkUnreachable)
            }
            // EPERM: an output filter of this machine; EACCES: a prohibit route, here or (IPv6) on the way.
            Errno::EPERM | Errno::EACCES => Self::failed(Reason::Prohibited),
            Errno::ETIMEDOUT => Self::failed(Reason::Timeout),
            Errno::EMSGSIZE => Self::failed(Reason::PacketTooBig),
            Errno::EPROTO => Self::failed(Reason::RemoteError),
            Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT => Self::not_measured(Reason::NoAddress),
            _ => Self::not_measured(Reason::LocalError),
        }
    }

    /// Reads an error of opening and setting up a socket.
    pub const fn of_open(errno: Errno) -> Self {
        match errno {
            Errno::EPERM | Errno::EACCES => Self::not_measured(Reason::NoPrivilege),
            // A kernel without IPv6, or with it switched off.
            Errno::EAFNOSUPPORT => Self::not_measured(Reason::NoAddress),
            _ => Self::not_measured(Reason::LocalError),
        }
    }
}

/// The number behind an I/O error; `EIO` if it has none.
pub fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_only_blamed_for_what_is_not_ours() {
        let path = [
            Errno::ECONNREFUSED,
            Errno::EHOSTUNREACH,
            Errno::ENETUNREACH,
            Errno::EPERM,
        ];
        for errno in path {
            assert_eq!(Refusal::of(errno).outcome, Outcome::Failed, "{errno}");
        }
        for errno in [
            Errno::EMFILE,
            Errno::ENOBUFS,
            Errno::EADDRNOTAVAIL,
            Errno::ENODEV,
        ] {
            assert_eq!(Refusal::of(errno).outcome, Outcome::NotMeasured, "{errno}");
        }
        for errno in [Errno::EPERM, Errno::EMFILE, Errno::EAFNOSUPPORT] {
            assert_eq!(
                Refusal::of_open(errno).outcome,
                Outcome::NotMeasured,
                "{errno}"
            );
        }
    }

    #[test]
    fn an_error_without_a_number_is_an_io_error() {
        assert_eq!(errno_of(&io::Error::other("no number")), Errno::EIO);
        assert_eq!(errno_of(&io::Error::from(Errno::EPERM)), Errno::EPERM);
    }
}
