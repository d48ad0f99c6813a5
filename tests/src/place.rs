//! Where something runs: on this host or in one of the laboratory's network namespaces.

use std::process::Command;

use crate::namespace::Namespace;

/// Where processes and sockets are made.
#[derive(Debug, Clone, Default)]
pub enum Place {
    /// The host's own network, for what stays on loopback.
    #[default]
    Host,
    /// A namespace of the laboratory.
    Inside(Namespace),
}

impl Place {
    /// A command that will run here and be killed by the kernel should the test die without cleaning up. The process
    /// id of the child is that of the program itself: every wrapper here execs.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match self {
            Self::Host => Command::new("setpriv"),
            Self::Inside(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace.name(), "setpriv"]);
                command
            }
        };
        command.args(["--pdeathsig", "KILL", program]);
        command
    }

    /// Runs `work` on a thread whose new sockets belong to this place.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self {
            Self::Host => work(),
            Self::Inside(namespace) => namespace.enter(work),
        }
    }
}
