//! The way to a receiver: TCP with octet counting (RFC 6587 section 3.4.1), or UDP with one message in each datagram
//! (RFC 5426).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use crate::config::{SyslogConfig, Transport};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a receiver may take to read: it may be starting.
const WRITE: Duration = Duration::from_secs(30);
/// How long the answer "nobody listens" to a datagram may take (guess: a network's round trip).
const UNREACHABLE: Duration = Duration::from_secs(1);

/// Why a receiver is away.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("looking up {address}")]
    Lookup { address: String, source: io::Error },
    #[error("connecting to {address}")]
    Connect { address: String, source: io::Error },
    #[error("writing to {address}")]
    Write { address: String, source: io::Error },
    #[error("{address} closed the connection")]
    Closed { address: String },
    #[error("the connection to {address} broke")]
    Broken { address: String, source: io::Error },
}

/// An open way.
pub(super) struct Link {
    address: String,
    transport: Transport,
    socket: Socket,
}

enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Link {
    /// Tries the addresses of the receiver in turn.
    pub(super) async fn open(
        config: &SyslogConfig,
        give_up_after: Duration,
    ) -> Result<Self, LinkError> {
        let address = config.address.clone();
        let looked_up = timeout(CONNECT, lookup_host(&config.address)).await;
        let found = looked_up
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| LinkError::Lookup {
                address: address.clone(),
                source,
            })?;
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for to in found {
            match Socket::open(to, config.transport, give_up_after).await {
                Ok(socket) => {
                    return Ok(Self {
                        address,
                        transport: config.transport,
                        socket,
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(LinkError::Connect {
            address,
            source: failure,
        })
    }

    /// Largest message, bytes.
    pub(super) fn message_bytes(&self) -> usize {
        self.transport.message_bytes()
    }

    /// How long a written message must have been on its way before the receiver has it; a datagram is lost or not.
    pub(super) fn confirm_after(&self, tcp: Duration) -> Duration {
        match self.socket {
            Socket::Tcp(_) => tcp,
            Socket::Udp(_) => UNREACHABLE,
        }
    }

    pub(super) async fn write(&mut self, messages: &[Vec<u8>]) -> Result<(), LinkError> {
        let written = match &mut self.socket {
            Socket::Tcp(stream) => {
                let mut framed = Vec::new();
                for message in messages {
                    framed.extend_from_slice(format!("{} ", message.len()).as_bytes());
                    framed.extend_from_slice(message);
                }
                timeout(WRITE, stream.write_all(&framed)).await
            }
            Socket::Udp(socket) => timeout(WRITE, send_all(socket, messages)).await,
        };
        written
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| LinkError::Write {
                address: self.address.clone(),
                source,
            })
    }

    /// Returns when the receiver is gone; it never says anything else. Cancel safe.
    pub(super) async fn lost(&mut self) -> LinkError {
        let mut bytes = [0; 512];
        loop {
            let read = match &mut self.socket {
                Socket::Tcp(stream) => stream.read(&mut bytes).await,
                // A datagram of no bytes is not an end.
                Socket::Udp(socket) => socket.recv(&mut bytes).await.map(|bytes| bytes.max(1)),
            };
            let address = self.address.clone();
            match read {
                Ok(0) => return LinkError::Closed { address },
                Ok(_) => {}
                Err(source) => return LinkError::Broken { address, source },
            }
        }
    }

    /// Ends the connection and waits until the receiver has read everything, which it shows by closing its side.
    pub(super) async fn goodbye(&mut self, patience: Duration) -> Result<(), LinkError> {
        let Socket::Tcp(stream) = &mut self.socket else {
            return match timeout(UNREACHABLE / 4, self.lost()).await {
                Ok(error) => Err(error),
                Err(_) => Ok(()),
            };
        };
        let address = self.address.clone();
        stream
            .shutdown()
            .await
            .map_err(|source| LinkError::Write { address, source })?;
        match timeout(patience, self.lost()).await {
            Ok(LinkError::Closed { .. }) => Ok(()),
            Ok(error) => Err(error),
            Err(_) => Err(LinkError::Broken {
                address: self.address.clone(),
                source: io::ErrorKind::TimedOut.into(),
            }),
        }
    }
}

impl Socket {
    async fn open(
        to: SocketAddr,
        transport: Transport,
        give_up_after: Duration,
    ) -> io::Result<Self> {
        match transport {
            Transport::Tcp => {
                let connected = timeout(CONNECT, TcpStream::connect(to)).await;
                let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
                let socket = socket2::SockRef::from(&stream);
                socket.set_tcp_user_timeout(Some(give_up_after))?;
                socket.set_keepalive(true)?;
                Ok(Self::Tcp(stream))
            }
            Transport::Udp => {
                let any: SocketAddr = if to.is_ipv6() {
                    "[::]:0".parse().expect("is an address")
                } else {
                    "0.0.0.0:0".parse().expect("is an address")
                };
                let socket = UdpSocket::bind(any).await?;
                // Connected, so that "nobody listens" comes back to us.
                socket.connect(to).await?;
                Ok(Self::Udp(socket))
            }
        }
    }
}

async fn send_all(socket: &UdpSocket, messages: &[Vec<u8>]) -> io::Result<()> {
    for message in messages {
        socket.send(message).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(address: SocketAddr, transport: Transport) -> SyslogConfig {
        SyslogConfig {
            name: "t".to_owned(),
            address: address.to_string(),
            transport,
            facility: 16,
            app_name: "a".to_owned(),
            hostname: None,
        }
    }

    #[tokio::test]
    async fn tcp_counts_octets_and_a_goodbye_waits_for_the_receiver() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config(listener.local_addr().unwrap(), Transport::Tcp);
        let mut link = Link::open(&config, Duration::from_secs(1)).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let texts = ["<134>1 a\nb".as_bytes().to_vec(), "中".as_bytes().to_vec()];
        link.write(&texts).await.unwrap();
        let receiver = async {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            drop(stream);
            bytes
        };
        let (bytes, goodbye) = tokio::join!(receiver, link.goodbye(Duration::from_secs(5)));
        assert_eq!(String::from_utf8(bytes).unwrap(), "10 <134>1 a\nb3 中");
        goodbye.unwrap();
    }

    #[tokio::test]
    async fn a_receiver_that_goes_is_noticed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = config(listener.local_addr().unwrap(), Transport::Tcp);
        let mut link = Link::open(&tcp, Duration::from_secs(1)).await.unwrap();
        drop(listener.accept().await.unwrap());
        assert!(matches!(link.lost().await, LinkError::Closed { .. }));
        drop(listener);
        assert!(Link::open(&tcp, Duration::from_secs(1)).await.is_err());

        let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let udp = config(nobody.local_addr().unwrap(), Transport::Udp);
        drop(nobody);
        let mut link = Link::open(&udp, Duration::from_secs(1)).await.unwrap();
        link.write(&[b"x".to_vec()]).await.unwrap();
        assert!(matches!(link.lost().await, LinkError::Broken { .. }));
    }
}
