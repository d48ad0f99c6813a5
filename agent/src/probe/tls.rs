//! TLS: one handshake, and a judgement of what the server showed. Nothing is sent behind it.

use std::time::Duration;

use extranet_proto::assignment::TlsProbe;
use extranet_proto::record::Reason;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::endpoint::{Endpoints, Shown};
use super::{Measured, Run, tcp};
use crate::net::refusal::Refusal;

/// For the goodbye: a server that does not take it is not waited for.
const CLOSE: Duration = Duration::from_millis(200);

/// One handshake.
pub(super) async fn run(endpoints: &Endpoints, run: &Run<'_>, probe: &TlsProbe) -> Measured {
    let started = Instant::now();
    let ended = timeout_at(run.deadline, shake_hands(endpoints, run, probe)).await;
    let shown = match ended.unwrap_or(Err(Refusal::failed(Reason::Timeout))) {
        Ok(shown) => shown,
        Err(refusal) => return Measured::refused(refusal, started.elapsed(), Vec::new()),
    };
    let verdict = shown.chain.and(shown.name);
    let values = shown.values();
    let mut measured = match verdict {
        Err(reason) if probe.verify_chain => Measured::failed(reason, started.elapsed(), values),
        _ => Measured::ok(started.elapsed(), values),
    };
    measured.definitions.push(shown.into_definition());
    measured
}

async fn shake_hands(
    endpoints: &Endpoints,
    run: &Run<'_>,
    probe: &TlsProbe,
) -> Result<Shown, Refusal> {
    let (stream, _) = tcp::connect(run, probe.port).await?;
    let (mut stream, shown) = endpoints
        .handshake(run, stream, &probe.server_name, &[], &probe.roots)
        .await?;
    // The verdict stands: how the server takes the goodbye does not matter.
    timeout_at(Instant::now() + CLOSE, stream.shutdown())
        .await
        .ok();
    Ok(shown)
}
