//! An HTTP server that remembers what it was sent, for Alertmanager's notifications.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::place::Place;

/// Largest notification that is read, bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Longest a client may take to send its request.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A running receiver.
#[derive(Debug)]
pub struct Webhook {
    place: Place,
    address: SocketAddr,
    received: Arc<Mutex<Vec<Value>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Webhook {
    /// Starts a receiver on a free loopback port of the place.
    pub fn start(place: &Place) -> Self {
        let listener = place
            .run(|| TcpListener::bind("127.0.0.1:0"))
            .expect("a loopback port can be bound");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let received = Arc::clone(&received);
            let stopping = Arc::clone(&stopping);
            move || {
                for stream in listener.incoming() {
                    if stopping.load(Ordering::Acquire) {
                        return;
                    }
                    // A client that breaks off has sent no notification.
                    if let Some(body) = stream.ok().and_then(|stream| receive(stream).ok()) {
                        received
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(body);
                    }
                }
            }
        });
        Self {
            place: place.clone(),
            address,
            received,
            stopping,
            thread: Some(thread),
        }
    }

    /// Where notifications go.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Everything received so far, in order.
    pub fn received(&self) -> Vec<Value> {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread from accept; whether it can be reached does not matter then.
        self.place.run(|| TcpStream::connect(self.address)).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn receive(stream: TcpStream) -> std::io::Result<Value> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0).min(BODY_BYTES_MAX);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body)?;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    reader.get_mut().write_all(answer)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn notifications_are_kept_in_order() {
        let webhook = Webhook::start(&Place::Host);
        for number in 1..=2 {
            let body = format!("{{\"number\":{number}}}").into_bytes();
            let answer = http::post(&Place::Host, &webhook.url(), "application/json", body);
            assert_eq!(answer.unwrap().status, 200);
        }
        let received = webhook.received();
        assert_eq!(received.len(), 2);
        assert_eq!(received[1]["number"], 2);
    }
}
