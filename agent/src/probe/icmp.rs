//! ICMP echo.

use std::time::Duration;

use extranet_proto::assignment::IcmpProbe;
use extranet_proto::record::Reason;
use extranet_proto::wire;

use super::{Measured, Run};

/// The echo engine; cheap to clone.
#[derive(Clone, Default)]
pub struct Engine;

impl Engine {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self
    }

    /// One burst of echo requests.
    #[expect(clippy::unused_async, reason = "the real engine waits for replies")]
    pub async fn run(&self, _run: &Run<'_>, _probe: &IcmpProbe) -> Measured {
        Measured::not_measured(Reason::NoPrivilege, Duration::ZERO)
    }

    /// What the machine allows.
    pub fn capabilities(&self) -> Vec<wire::Capability> {
        Vec::new()
    }

    /// Privilege tier (SEC-G0).
    pub fn privilege_tier(&self) -> u8 {
        0
    }
}
