//! Renews the certificate in the background, long before it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Config;
use crate::identity::tls::{self, CertificateTime};
use crate::identity::{Identity, IdentityError, renew};
use crate::self_stats::{Stats, count};
use crate::shell::{Shutdown, Stage, error_chain};
use crate::uplink::Credentials;

/// How often to look whether it is time, and to try again after a failure.
const PERIOD: Duration = Duration::from_hours(1);
/// The same once the certificate has ended, when nothing else works any more.
const PERIOD_ENDED: Duration = Duration::from_mins(1);

/// The renewal of one agent's certificate.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) config: Arc<Config>,
    pub(super) time: CertificateTime,
    pub(super) stats: Arc<Stats>,
    pub(super) credentials: watch::Sender<Credentials>,
}

impl Renewal {
    /// Until the shutdown.
    pub(super) async fn run(self, mut identity: Identity, shutdown: Shutdown) {
        loop {
            let not_after = identity.not_after_us() / 1_000_000;
            self.stats.identity_not_after.set(not_after);
            let now_us = self.time.now_us();
            if now_us >= identity.renew_at_us() {
                match self.renewed(&identity).await {
                    Ok(renewed) => {
                        count(&self.stats.identity_renewals, "ok", 1);
                        tracing::info!(agent = %renewed.agent_id, "certificate renewed");
                        identity = renewed;
                        continue;
                    }
                    Err(error) => {
                        count(&self.stats.identity_renewals, "failed", 1);
                        tracing::warn!(error = error_chain(&error), "certificate not renewed");
                    }
                }
            }
            let ended = now_us >= identity.not_after_us();
            tokio::select! {
                () = sleep(if ended { PERIOD_ENDED } else { PERIOD }) => {}
                () = shutdown.reached(Stage::NoNewWork) => return,
            }
        }
    }

    /// Asks for it, writes it down, and only then uses it.
    async fn renewed(&self, identity: &Identity) -> Result<Identity, IdentityError> {
        let renewed = renew(&self.config, identity, self.time.clone()).await?;
        if renewed.renew_at_us() <= self.time.now_us() {
            return Err(IdentityError::BadReply("the new certificate is due again"));
        }
        renewed.store(&self.config.state_dir)?;
        self.credentials.send_replace(Credentials {
            tls: tls::mutual(&renewed, self.time.clone())?,
            not_after_us: renewed.not_after_us(),
        });
        Ok(renewed)
    }
}
