//! What the sensor gives up once its socket is open: every capability, the way to any new privilege, and all system
//! calls but those of its loop. A parser that could be made to misbehave then has nothing to misbehave with.

use std::io;

use nix::libc;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Why the sensor does not run.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Capabilities.
    #[error("cannot {operation}")]
    Privileges {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The filter cannot be built for this machine.
    #[error("cannot build the filter of system calls")]
    Build(#[source] seccompiler::BackendError),
    /// The kernel refuses the filter.
    #[error("cannot install the filter of system calls")]
    Install(#[source] seccompiler::Error),
}

/// Gives everything up, for good. The calling thread must be the only one of the process.
pub fn confine() -> Result<(), ConfineError> {
    let failed = |operation| {
        move |errno: rustix::io::Errno| ConfineError::Privileges {
            operation,
            source: errno.into(),
        }
    };
    set_no_new_privs(true).map_err(failed("renounce new privileges"))?;
    clear_ambient_capability_set().map_err(failed("clear the ambient capabilities"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(failed("drop the capabilities"))?;
    // Nothing that follows may run with a capability that was thought gone.
    let left = capabilities(None).map_err(failed("read the capabilities"))?;
    if !left.effective.union(left.permitted).is_empty() {
        return Err(ConfineError::Privileges {
            operation: "drop the capabilities",
            source: io::Error::from(io::ErrorKind::PermissionDenied),
        });
    }
    let program = program().map_err(ConfineError::Build)?;
    seccompiler::apply_filter(&program).map_err(ConfineError::Install)
}

/// A system call outside of the list ends the process: systemd starts it again and the journal says SIGSYS.
fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let anyhow = |call| (call, Vec::new());
    let mut rules: Vec<(i64, Vec<SeccompRule>)> = [
        // The loop.
        libc::SYS_recvmsg,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_ppoll,
        libc::SYS_connect,
        libc::SYS_close,
        libc::SYS_getsockopt,
        libc::SYS_setsockopt,
        libc::SYS_fcntl,
        // Log, clock, memory, signals, the end.
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ]
    .map(anyhow)
    .to_vec();
    #[cfg(target_arch = "x86_64")]
    rules.push(anyhow(libc::SYS_poll));
    // New sockets only to reach the agent: none to the network.
    let unix = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(libc::AF_UNIX.unsigned_abs()),
    )?;
    rules.push((libc::SYS_socket, vec![SeccompRule::new(vec![unix])?]));
    SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_can_be_built_for_this_machine() {
        assert!(program().unwrap().len() > 30);
    }

    /// On a thread of its own, because nothing brings a capability back.
    #[test]
    fn nothing_is_left_afterwards() {
        let confined = std::thread::spawn(|| {
            confine().unwrap();
            // What the loop needs goes on; anything outside of the list would end this process.
            nix::sys::socket::socket(
                nix::sys::socket::AddressFamily::Unix,
                nix::sys::socket::SockType::SeqPacket,
                nix::sys::socket::SockFlag::empty(),
                None,
            )
            .is_ok()
        });
        assert!(confined.join().unwrap());
    }
}
