//! The agent's end of the sensor's socket: one sensor at a time, of a user that may be one, whose messages are bounded
//! and paced. The agent never writes to it.

use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Uid, User};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::clock::Clock;
use crate::net::watched::watched;
use crate::self_stats::{Stats, count, follow};
use crate::sensor::message::{MESSAGE_BYTES, Message, Received};
use crate::sensor::pace::Pace;
use crate::shell::{Shutdown, Stage, error_chain};

/// The user that the package makes for the sensor; root and the agent's own user may be a sensor too.
pub const SENSOR_USER: &str = "extranet-sensor";
/// Connections that wait while a sensor is connected: one that is being restarted.
const BACKLOG: i32 = 4;
/// Owner and group: the package makes the sensor a member of the agent's group.
const SOCKET_MODE: u32 = 0o660;
/// Pause after a failed accept.
const RETRY: Duration = Duration::from_secs(1);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct ListenError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The listening socket and where what it hears goes.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<Socket>,
    adverts: mpsc::Sender<Received>,
    connected: watch::Sender<bool>,
    clock: Clock,
    stats: Arc<Stats>,
}

impl Listener {
    /// Makes the socket; one that a dead agent left is replaced.
    pub fn bind(
        path: &Path,
        adverts: mpsc::Sender<Received>,
        connected: watch::Sender<bool>,
        clock: Clock,
        stats: Arc<Stats>,
    ) -> Result<Self, ListenError> {
        let failed = |operation| {
            move |source| ListenError {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        remove_socket(path).map_err(failed("remove the old socket"))?;
        let listen = || {
            let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
            socket.set_nonblocking(true)?;
            socket.bind(&SockAddr::unix(path)?)?;
            // Before anybody can connect: the umask of the service may have left less, or more.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
            socket.listen(BACKLOG)?;
            watched(socket)
        };
        Ok(Self {
            socket: listen().map_err(failed("listen for the sensor on"))?,
            adverts,
            connected,
            clock,
            stats,
        })
    }

    /// Serves one sensor after the other.
    pub async fn run(self, shutdown: Shutdown) {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = shutdown.reached(Stage::NoNewWork) => return,
            };
            match accepted {
                Ok(sensor) => {
                    self.connected.send_replace(true);
                    self.stats.sensor_connected.set(1);
                    tokio::select! {
                        end = self.serve(&sensor) => {
                            tracing::warn!(reason = error_chain(&end), "the sensor is gone");
                        }
                        () = shutdown.reached(Stage::NoNewWork) => return,
                    }
                    self.connected.send_replace(false);
                    self.stats.sensor_connected.set(0);
                }
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "no sensor was let in");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<AsyncFd<Socket>> {
        let accept = |socket: &Socket| socket.accept();
        let (sensor, _) = self.socket.async_io(Interest::READABLE, accept).await?;
        let peer = getsockopt(&sensor, sockopt::PeerCredentials)?;
        if !may_be_sensor(Uid::from_raw(peer.uid())) {
            let text = format!("user {} may not be the sensor", peer.uid());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        sensor.set_nonblocking(true)?;
        watched(sensor)
    }

    /// Until the sensor leaves, or says something that it should not.
    async fn serve(&self, sensor: &AsyncFd<Socket>) -> io::Error {
        let mut pace = Pace::new(self.clock.read().boottime_us);
        // One byte more than allowed: what is longer is seen to be.
        let mut buffer = [0; MESSAGE_BYTES + 1];
        loop {
            let mut read = |mut socket: &Socket| socket.read(&mut buffer);
            let length = match sensor.async_io(Interest::READABLE, &mut read).await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(length) => length,
                Err(error) => return error,
            };
            let message = match Message::decode(buffer.get(..length).unwrap_or_default()) {
                Ok(message) => message,
                Err(error) => {
                    count(&self.stats.sensor_adverts, "damaged", 1);
                    return io::Error::new(io::ErrorKind::InvalidData, error);
                }
            };
            match message {
                Message::Hello { release } => tracing::info!(release, "the sensor is connected"),
                Message::Advert(received) => self.advert(received, &mut pace),
                Message::Counts(counts) => {
                    for (loss, total) in counts {
                        follow(&self.stats.sensor_lost, loss.label(), total);
                    }
                }
            }
        }
    }

    fn advert(&self, received: Received, pace: &mut Pace) {
        // A sensor that was taken over does not keep to its own pace.
        let reason = if !pace.allow(self.clock.read().boottime_us) {
            "flood"
        } else if self.adverts.try_send(received).is_ok() {
            "taken"
        } else {
            "busy"
        };
        count(&self.stats.sensor_adverts, reason, 1);
    }
}

/// Only a socket is removed: a wrong path in the configuration must not cost anybody a file.
fn remove_socket(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn may_be_sensor(peer: Uid) -> bool {
    let made_for_it = || User::from_name(SENSOR_USER).ok().flatten();
    peer.is_root() || peer == Uid::effective() || made_for_it().is_some_and(|user| user.uid == peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::router_advert::{Preference, RouterAdvert};
    use crate::sensor::message::Loss;
    use crate::shell::{shutdown, spawn_named};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn advert() -> Received {
        Received {
            link: 2,
            source: "fe80::1".parse().unwrap(),
            advert: RouterAdvert {
                managed: false,
                other: false,
                preference: Preference::Medium,
                lifetime_s: 1_800,
                mac: None,
                mtu: None,
                prefixes: Vec::new(),
                name_servers: Vec::new(),
                incomplete: false,
            },
        }
    }

    fn connect(path: &Path) -> Socket {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.connect(&SockAddr::unix(path).unwrap()).unwrap();
        socket
    }

    async fn is(connected: &mut watch::Receiver<bool>, wanted: bool) {
        let seen = connected.wait_for(|connected| *connected == wanted);
        tokio::time::timeout(PATIENCE, seen).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_sensor_is_heard_until_it_says_what_it_should_not_and_may_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sensor.sock");
        let stats = Arc::new(Stats::new());
        let (sender, mut adverts) = mpsc::channel(1_000);
        let (connected, mut is_connected) = watch::channel(false);
        let bind = |connected| {
            let clock = Clock::system();
            Listener::bind(&path, sender.clone(), connected, clock, Arc::clone(&stats))
        };
        // One that a dead agent left is replaced.
        drop(bind(watch::channel(false).0).unwrap());
        let listener = bind(connected).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        let (trigger, stages) = shutdown();
        let running = spawn_named("listener", listener.run(stages));

        let sensor = connect(&path);
        is(&mut is_connected, true).await;
        for message in [
            Message::Hello {
                release: "test".to_owned(),
            },
            Message::Counts(vec![(Loss::Pace, 7)]),
            Message::Advert(advert()),
        ] {
            sensor.send(&message.encode()).unwrap();
        }
        let heard = tokio::time::timeout(PATIENCE, adverts.recv()).await;
        assert_eq!(heard.unwrap(), Some(advert()));
        let lost = stats.sensor_lost.get_or_create(&[("reason", "pace")]).get();
        assert_eq!(lost, 7);

        // Longer than any message may be.
        sensor.send(&vec![1; MESSAGE_BYTES + 1]).unwrap();
        is(&mut is_connected, false).await;
        let _again = connect(&path);
        is(&mut is_connected, true).await;
        trigger.advance(Stage::NoNewWork);
        running.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let (sender, _adverts) = mpsc::channel(1);
        let stats = Arc::new(Stats::new());
        let connected = watch::channel(false).0;
        let bound = Listener::bind(&path, sender, connected, Clock::system(), stats);
        assert!(bound.unwrap_err().to_string().contains("precious"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn root_and_the_own_user_may_be_sensors() {
        assert!(may_be_sensor(Uid::from_raw(0)));
        assert!(may_be_sensor(Uid::effective()));
        assert!(!may_be_sensor(Uid::from_raw(4_000_000_000)));
    }
}
