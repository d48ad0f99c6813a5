//! TLS: one handshake, and a judgement of what the server showed. Nothing is sent behind it.

use std::time::Duration;

use extranet_proto::assignment::TlsProbe;
use extranet_proto::record::Reason;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::endpoint::{Endpoints, Shown};
use super::meter::Meter;
use super::tcp::Way;
use super::{Measured, Run};
use crate::net::refusal::Refusal;

/// For the goodbye: a server that does not take it is not waited for.
const CLOSE: Duration = Duration::from_millis(200);

/// One handshake.
pub(super) async fn run(endpoints: &Endpoints, run: &Run<'_>, probe: &TlsProbe) -> Measured {
    let started = Instant::now();
    let meter = Meter::new(run.address);
    let shaking = shake_hands(endpoints, run, probe, &meter);
    let ended = timeout_at(run.deadline, shaking).await;
    let measured = match ended.unwrap_or(Err(Refusal::failed(Reason::Timeout))) {
        Ok(shown) => {
            let values = shown.values();
            let mut measured = match judge(&shown, probe) {
                Reason::None => Measured::ok(started.elapsed(), values),
                reason => Measured::failed(reason, started.elapsed(), values),
            };
            measured.definitions = shown.into_definitions();
            measured
        }
        Err(refusal) => Measured::refused(refusal, started.elapsed(), Vec::new()),
    };
    measured.costing(meter.traffic())
}

async fn shake_hands(
    endpoints: &Endpoints,
    run: &Run<'_>,
    probe: &TlsProbe,
    meter: &Meter,
) -> Result<Shown, Refusal> {
    let (stream, _) = Way::of(run, probe.port).connect(meter).await?;
    let (mut stream, shown) = endpoints
        .handshake(run, stream, &probe.server_name, &[], &probe.roots)
        .await?;
    // The verdict stands: how the server takes the goodbye does not matter.
    timeout_at(Instant::now() + CLOSE, stream.shutdown())
        .await
        .ok();
    Ok(shown)
}

/// 1. a key that is not one of the pinned ones belongs to somebody else, whoever signed it;
/// 2. a chain that is not trusted or not in force, then a name that does not fit, where they decide;
/// 3. a certificate or key that is not the one of the run before, where that decides.
fn judge(shown: &Shown, probe: &TlsProbe) -> Reason {
    let pinned = |key| probe.key_sha256.contains(&key);
    if !probe.key_sha256.is_empty() && !shown.key_sha256.is_some_and(pinned) {
        return Reason::CertificateChanged;
    }
    if let Err(reason) = shown.chain.and(shown.name)
        && probe.verify_chain
    {
        return reason;
    }
    if probe.fail_on_change && shown.changed == Some(true) {
        return Reason::CertificateChanged;
    }
    Reason::None
}
