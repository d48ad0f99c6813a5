//! A link with a delay in front of a device: every datagram arrives later, none is lost. It keeps account of how many
//! round trips followed one another, so that a test can judge an access pattern without a clock.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::sync::oneshot;

use super::*;
use crate::shell::spawn_named;

/// What the link saw.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) requests: AtomicUsize,
    /// The longest chain of requests of which each left after the answer to the one before had arrived.
    pub(super) round_trips: AtomicUsize,
    under_way: AtomicUsize,
    /// Most requests under way at a time.
    pub(super) at_once: AtomicUsize,
}

/// A link to a device on loopback.
pub(super) struct Link {
    pub(super) port: u16,
    pub(super) account: Arc<Account>,
    _stop: oneshot::Sender<()>,
}

impl Link {
    /// `one_way` is the delay in each direction.
    pub(super) async fn to(device: u16, one_way: Duration) -> Self {
        let near = Arc::new(UdpSocket::bind((V4, 0)).await.unwrap());
        let port = near.local_addr().unwrap().port();
        let account = Arc::new(Account::default());
        let (stop, mut stopped) = oneshot::channel();
        let kept = Arc::clone(&account);
        spawn_named("delayed-link", async move {
            let mut buffer = vec![0; 65_535];
            loop {
                let (length, client) = tokio::select! {
                    received = near.recv_from(&mut buffer) => received.unwrap(),
                    _ = &mut stopped => return,
                };
                kept.requests.fetch_add(1, Ordering::SeqCst);
                let chain = kept.round_trips.load(Ordering::SeqCst) + 1;
                let crossing = Crossing {
                    near: Arc::clone(&near),
                    client,
                    device: SocketAddr::new(V4, device),
                    one_way,
                    chain,
                };
                spawn_named(
                    "delayed",
                    crossing.go(buffer[..length].to_vec(), Arc::clone(&kept)),
                );
            }
        });
        Self {
            port,
            account,
            _stop: stop,
        }
    }
}

/// One request and its answer on the link.
struct Crossing {
    near: Arc<UdpSocket>,
    client: SocketAddr,
    device: SocketAddr,
    one_way: Duration,
    chain: usize,
}

impl Crossing {
    async fn go(self, request: Vec<u8>, account: Arc<Account>) {
        let under_way = account.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        account.at_once.fetch_max(under_way, Ordering::SeqCst);
        tokio::time::sleep(self.one_way).await;
        let far = UdpSocket::bind((V4, 0)).await.unwrap();
        far.send_to(&request, self.device).await.unwrap();
        let mut answer = vec![0; 65_535];
        let (length, _) = far.recv_from(&mut answer).await.unwrap();
        tokio::time::sleep(self.one_way).await;
        account.under_way.fetch_sub(1, Ordering::SeqCst);
        account.round_trips.fetch_max(self.chain, Ordering::SeqCst);
        self.near
            .send_to(&answer[..length], self.client)
            .await
            .unwrap();
    }
}
