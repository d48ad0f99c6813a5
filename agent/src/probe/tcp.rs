//! TCP connect.

use std::time::Duration;

use extranet_proto::assignment::TcpProbe;
use extranet_proto::record::Reason;

use super::{Measured, Run};

/// Opens a connection and closes it at once.
#[expect(
    clippy::unused_async,
    reason = "the real probe waits for the handshake"
)]
pub async fn run(_run: &Run<'_>, _probe: &TcpProbe) -> Measured {
    Measured::not_measured(Reason::LocalError, Duration::ZERO)
}
