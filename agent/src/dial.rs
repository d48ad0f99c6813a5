//! Connections to a collector: addresses of both families in turn, then TLS under a fixed server name, then HTTP/2.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::account::Account;
use crate::account::meter::Metered;
use crate::config::{HostPort, UplinkConfig};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or no answer came.
    #[error("cannot resolve {host}")]
    Resolve {
        /// Which name.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// No address could be reached; the error is that of the last one.
    #[error("cannot connect to {address}")]
    Connect {
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// TLS refused; the certificate or the peer is wrong.
    #[error("TLS with {address}")]
    Tls {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// HTTP/2 did not start.
    #[error("HTTP/2 with {address}")]
    Http {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: tonic::transport::Error,
    },
    /// It all took too long.
    #[error("no connection to {collector} within {}s", limit.as_secs())]
    Timeout {
        /// To whom.
        collector: HostPort,
        /// The limit.
        limit: Duration,
    },
}

impl DialError {
    /// Label form.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Http { .. } => "http",
            Self::Timeout { .. } => "timeout",
        }
    }
}

/// Opens a channel to one collector, within the connect timeout; what it costs is charged to `account`.
pub async fn dial(
    collector: &HostPort,
    tls: Arc<ClientConfig>,
    server_name: &'static str,
    limits: &UplinkConfig,
    account: Option<&Account>,
) -> Result<Channel, DialError> {
    let deadline = Instant::now() + limits.connect_timeout;
    let attempt = async {
        let (stream, address) = connect(collector, deadline, limits.keepalive_timeout).await?;
        let name = ServerName::try_from(server_name).map_err(|error| DialError::Tls {
            address,
            source: std::io::Error::other(error),
        })?;
        let tls = TlsConnector::from(tls);
        let tls_error = |source| DialError::Tls { address, source };
        let http_error = |source| DialError::Http { address, source };
        if let Some(account) = account {
            let stream = Metered::new(stream, address, account.clone());
            let stream = tls.connect(name, stream).await.map_err(tls_error)?;
            channel(stream, server_name, limits)
                .await
                .map_err(http_error)
        } else {
            let stream = tls.connect(name, stream).await.map_err(tls_error)?;
            channel(stream, server_name, limits)
                .await
                .map_err(http_error)
        }
    };
    timeout_at(deadline, attempt).await.unwrap_or_else(|_| {
        Err(DialError::Timeout {
            collector: collector.clone(),
            limit: limits.connect_timeout,
        })
    })
}

/// The first address that answers. Each gets an equal share of the time that is left, so that a black hole in one
/// family leaves time for the other.
async fn connect(
    collector: &HostPort,
    deadline: Instant,
    give_up_after: Duration,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let resolve_error = |source| DialError::Resolve {
        host: collector.host.clone(),
        source,
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host((collector.host.as_str(), collector.port))
        .await
        .map_err(resolve_error)?
        .collect();
    let addresses = alternate_families(&found);
    let mut last_error = resolve_error(std::io::Error::other("the name has no address"));
    for (i, address) in addresses.iter().copied().enumerate() {
        let attempts_left = u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / attempts_left;
        let result = match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(result) => result,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        match result.and_then(|stream| prepare(stream, give_up_after)) {
            Ok(stream) => return Ok((stream, address)),
            Err(source) => last_error = DialError::Connect { address, source },
        }
    }
    Err(last_error)
}

/// Small messages go at once, and data that the peer's kernel does not acknowledge ends the connection
/// (`TCP_USER_TIMEOUT`, RFC 5482): a cut is noticed without a byte spent on asking.
fn prepare(stream: TcpStream, give_up_after: Duration) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(give_up_after))?;
    Ok(stream)
}

/// Keeps the resolver's preference (RFC 6724) for the first and then alternates (RFC 8305 section 4).
fn alternate_families(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) = found
        .iter()
        .copied()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let longest = preferred.len().max(other.len());
    (0..longest)
        .flat_map(|i| [preferred.get(i), other.get(i)])
        .flatten()
        .copied()
        .collect()
}

async fn channel(
    stream: TlsStream<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    server_name: &'static str,
    limits: &UplinkConfig,
) -> Result<Channel, tonic::transport::Error> {
    // Plain http: TLS is already spoken on the stream.
    let endpoint = Endpoint::from_shared(format!("http://{server_name}"))?
        .http2_keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .keep_alive_while_idle(true);
    let stream = Mutex::new(Some(stream));
    let connector = tower::service_fn(move |_| {
        let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            // A channel reconnects by itself; ours must not, because a stream belongs to one connection.
            taken
                .map(TokioIo::new)
                .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected))
        }
    });
    endpoint.connect_with_connector(connector).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_resolver_chooses_the_first() {
        let found: Vec<SocketAddr> = ["[::1]:1", "[::2]:1", "127.0.0.1:1"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let order: Vec<String> = alternate_families(&found)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(order, ["[::1]:1", "127.0.0.1:1", "[::2]:1"]);
    }
}
