//! A TCP forwarder between an agent and its collector that does what networks do: cut, stall, delay, throttle. It
//! counts bytes and connections, which is also how bytes on the wire are measured.
//!
//! Each direction of a connection is a reader and a writer joined by a short queue, so that a delay holds bytes back
//! without stopping the reader, and a stall (black hole) fills the sender's buffers as a dead path does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::place::Place;

/// Bytes read at once: a TLS record fits.
const CHUNK_BYTES: usize = 16 * 1024;

/// Chunks in flight in one direction: a megabyte of path.
const CHUNKS_IN_FLIGHT: usize = 64;

/// What the path does to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Forwards at once.
    Pass,
    /// Closes open connections and refuses new ones (accepts and closes them).
    Cut,
    /// Keeps connections open, accepts new ones, forwards nothing. What was on its way arrives after the fault.
    Blackhole,
    /// Holds every byte back for this long.
    Delay(Duration),
    /// Forwards at most this many bytes a second in each direction of each connection.
    Throttle(u32),
}

/// What went through.
#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

/// A count at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Connections accepted and forwarded.
    pub connections: u64,
    /// TCP payload from the client to the server.
    pub bytes_up: u64,
    /// TCP payload from the server to the client.
    pub bytes_down: u64,
}

/// A running forwarder; dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    cuts: watch::Sender<u64>,
    server: watch::Sender<SocketAddr>,
    counters: Arc<Counters>,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// Forwards a free loopback port of the host to `server`.
    pub fn start(server: SocketAddr) -> Self {
        Self::start_at(&Place::Host, "127.0.0.1:0", server)
    }

    /// Listens at `listen` in a place; connections to `server` are made from the host.
    pub fn start_at(place: &Place, listen: &str, server: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let listener = place
            .run(|| std::net::TcpListener::bind(listen))
            .unwrap_or_else(|error| panic!("cannot listen at {listen}: {error}"));
        listener
            .set_nonblocking(true)
            .expect("a socket can be made non-blocking");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let counters = Arc::new(Counters::default());
        let (fault, _) = watch::channel(Fault::Pass);
        let (cuts, _) = watch::channel(0);
        let (server, _) = watch::channel(server);
        let path = Path {
            fault: fault.subscribe(),
            cuts: cuts.subscribe(),
            server: server.subscribe(),
            counters: Arc::clone(&counters),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn_on(accept(listener, path), runtime.handle());
        // The task ends with the runtime.
        tasks.detach_all();
        Self {
            address,
            fault,
            cuts,
            server,
            counters,
            runtime: Some(runtime),
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what the path does, for open connections too.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Closes the connections that are open now; new ones are treated as before.
    pub fn cut_once(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Sends new connections to another server, as after a restart on another port.
    pub fn forward_to(&self, server: SocketAddr) {
        self.server.send_replace(server);
    }

    /// Cuts open connections every `interval` for as long as the proxy lives.
    pub fn cut_every(&self, interval: Duration) {
        let cuts = self.cuts.clone();
        let runtime = self.runtime.as_ref().expect("taken on drop only");
        let mut tasks = JoinSet::new();
        tasks.spawn_on(
            async move {
                loop {
                    tokio::time::sleep(interval).await;
                    cuts.send_modify(|cuts| *cuts += 1);
                }
            },
            runtime.handle(),
        );
        tasks.detach_all();
    }

    /// What went through so far.
    pub fn count(&self) -> Count {
        Count {
            connections: self.counters.connections.load(Ordering::Relaxed),
            bytes_up: self.counters.bytes_up.load(Ordering::Relaxed),
            bytes_down: self.counters.bytes_down.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What every connection looks at.
#[derive(Clone)]
struct Path {
    fault: watch::Receiver<Fault>,
    cuts: watch::Receiver<u64>,
    server: watch::Receiver<SocketAddr>,
    counters: Arc<Counters>,
}

async fn accept(listener: std::net::TcpListener, path: Path) {
    let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if *path.fault.borrow() == Fault::Cut {
            continue;
        }
        connections.spawn(connection(client, path.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(client: TcpStream, mut path: Path) {
    path.cuts.mark_unchanged();
    let server = *path.server.borrow();
    let forwarding = async {
        pass(&mut path.fault.clone()).await;
        let Ok(server) = TcpStream::connect(server).await else {
            return;
        };
        path.counters.connections.fetch_add(1, Ordering::Relaxed);
        client.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        let up = pump(client_read, server_write, &path, |counters| {
            &counters.bytes_up
        });
        let down = pump(server_read, client_write, &path, |counters| {
            &counters.bytes_down
        });
        tokio::join!(up, down);
    };
    let mut fault = path.fault.clone();
    let mut cuts = path.cuts.clone();
    tokio::select! {
        () = forwarding => {}
        // A watch that ends means that the proxy is being dropped.
        _ = fault.wait_for(|fault| *fault == Fault::Cut) => {}
        _ = cuts.changed() => {}
    }
}

/// Waits while the path is a black hole.
async fn pass(fault: &mut watch::Receiver<Fault>) {
    // A watch that ends means that the proxy is being dropped.
    fault
        .wait_for(|fault| *fault != Fault::Blackhole)
        .await
        .ok();
}

/// Forwards one direction until its end, then closes that direction.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    path: &Path,
    counter: impl Fn(&Counters) -> &AtomicU64,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_IN_FLIGHT);
    let mut fault = path.fault.clone();
    // Owns the sender, so that its end closes the queue.
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            pass(&mut fault).await;
            let Ok(count) = from.read(&mut buffer).await else {
                return;
            };
            if count == 0 {
                return;
            }
            let chunk = buffer.get(..count).unwrap_or_default().to_vec();
            if sender.send((Instant::now(), chunk)).await.is_err() {
                return;
            }
        }
    };
    let mut fault = path.fault.clone();
    let write = async {
        while let Some((arrived, chunk)) = receiver.recv().await {
            pass(&mut fault).await;
            let now_doing = *fault.borrow();
            match now_doing {
                Fault::Delay(delay) => tokio::time::sleep_until(arrived + delay).await,
                Fault::Throttle(bytes_per_second) => {
                    let seconds = chunk.len() as f64 / f64::from(bytes_per_second.max(1));
                    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                }
                Fault::Pass | Fault::Cut | Fault::Blackhole => {}
            }
            // Before the write, so that whoever has seen the bytes finds them counted.
            counter(&path.counters).fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if to.write_all(&chunk).await.is_err() {
                break;
            }
        }
        // The other side may be gone already.
        to.shutdown().await.ok();
        receiver.close();
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    use crate::clock;

    /// A server that sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count) = stream.read(&mut buffer) {
                        if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn client(proxy: &Proxy) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(proxy.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    fn round_trip(stream: &mut std::net::TcpStream, text: &[u8]) -> std::io::Result<Duration> {
        let started = clock::now();
        stream.write_all(text)?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        assert_eq!(answer, text);
        Ok(started.elapsed())
    }

    #[test]
    fn bytes_pass_and_are_counted() {
        let proxy = Proxy::start(echo());
        let mut stream = client(&proxy);
        round_trip(&mut stream, b"one").unwrap();
        round_trip(&mut stream, b"twelve bytes").unwrap();
        let count = proxy.count();
        assert_eq!(
            count,
            Count {
                connections: 1,
                bytes_up: 15,
                bytes_down: 15
            }
        );
    }

    #[test]
    fn a_cut_ends_connections_and_healing_lets_new_ones_through() {
        let proxy = Proxy::start(echo());
        let mut stream = client(&proxy);
        round_trip(&mut stream, b"before").unwrap();
        proxy.set(Fault::Cut);
        assert!(round_trip(&mut stream, b"during").is_err());
        assert!(round_trip(&mut client(&proxy), b"during").is_err());
        proxy.set(Fault::Pass);
        round_trip(&mut client(&proxy), b"after").unwrap();

        let mut stream = client(&proxy);
        round_trip(&mut stream, b"before").unwrap();
        proxy.cut_once();
        assert!(round_trip(&mut stream, b"during").is_err());
        round_trip(&mut client(&proxy), b"after").unwrap();
    }

    #[test]
    fn a_black_hole_swallows_nothing_for_good() {
        let proxy = Proxy::start(echo());
        let mut stream = client(&proxy);
        round_trip(&mut stream, b"before").unwrap();
        proxy.set(Fault::Blackhole);
        stream.write_all(b"during").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut answer = [0; 6];
        assert!(stream.read(&mut answer).is_err());
        proxy.set(Fault::Pass);
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"during");
    }

    #[test]
    fn delay_and_throttle_take_their_time() {
        let proxy = Proxy::start(echo());
        let mut stream = client(&proxy);
        proxy.set(Fault::Delay(Duration::from_millis(100)));
        assert!(round_trip(&mut stream, b"late").unwrap() >= Duration::from_millis(200));
        proxy.set(Fault::Throttle(10_000));
        assert!(round_trip(&mut stream, &[7; 1_000]).unwrap() >= Duration::from_millis(200));
    }

    #[test]
    fn cutting_every_so_often_ends_each_connection() {
        let proxy = Proxy::start(echo());
        proxy.cut_every(Duration::from_millis(100));
        for _ in 0..3 {
            let mut stream = client(&proxy);
            clock::wait_until("the cut", Duration::from_secs(10), || {
                match round_trip(&mut stream, b"still there?") {
                    Ok(_) => Err("not cut".to_owned()),
                    Err(_) => Ok(()),
                }
            });
        }
    }

    #[test]
    fn a_server_that_moved_is_found_again() {
        let proxy = Proxy::start("127.0.0.1:1".parse().unwrap());
        assert!(round_trip(&mut client(&proxy), b"nobody").is_err());
        proxy.forward_to(echo());
        round_trip(&mut client(&proxy), b"here").unwrap();
    }
}
