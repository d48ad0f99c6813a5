//! Servers on TCP that behave as badly as real ones do. HTTP chooses by the path.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

/// No server waits longer for a client that says nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Hands each connection to `serve`, in a thread of its own. To be called within the server's namespace.
pub(crate) fn serve(address: IpAddr, port: u16, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let at = SocketAddr::new(address, port);
    let listener = TcpListener::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"));
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream
                .set_read_timeout(Some(PATIENCE))
                .expect("the time is not zero");
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
}

/// Says nothing until the client is gone.
pub(crate) fn silent(stream: TcpStream) {
    drain(stream);
}

/// Ends the connection with a reset as soon as the client said something.
pub(crate) fn reset(mut stream: TcpStream) {
    // An error is as good: the client may be gone.
    stream.read_exact(&mut [0]).ok();
    let at_once = linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream.as_fd(), sockopt::Linger, &at_once).expect("the socket is open");
}

/// Sends what no protocol begins with.
pub(crate) fn garbage(mut stream: TcpStream) {
    stream.read_exact(&mut [0]).ok();
    if stream.write_all(&[0xff; 600]).is_ok() {
        drain(stream);
    }
}

fn drain(mut stream: impl Read) {
    std::io::copy(&mut stream, &mut std::io::sink()).ok();
}

/// Sends bytes one by one until the client is gone.
fn trickle(stream: &mut impl Write) {
    while stream.write_all(b"x").and_then(|()| stream.flush()).is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
}

/// One request, one answer, by the path.
pub(crate) fn page(mut stream: impl Read + Write) {
    let Some(head) = read_head(&mut stream) else {
        return;
    };
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let answer = |status: &str, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let to = |place: &str| answer("302 Found", &format!("Location: {place}\r\n"), "");
    let text = match path {
        "/" => answer("200 OK", "Server: lab\r\n", "政务外网 portal"),
        "/busy" => answer("503 Service Unavailable", "", "later"),
        "/moved" => to("/"),
        "/loop" => to("/loop"),
        "/outside" => to("http://192.0.2.1/"),
        "/elsewhere" => to("ftp://10.9.1.1/"),
        "/broken" => to("http://[::1"),
        "/squeezed" => answer("200 OK", "Content-Encoding: gzip\r\n", "政务外网"),
        "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_owned(),
        "/large" => "HTTP/1.1 200 OK\r\n\r\n".to_owned() + &"x".repeat(3_000),
        "/nothing" => return,
        "/trickle" => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        "/slow-head" => "HTTP/1.1 200 OK\r\nX: ".to_owned(),
        other => answer("404 Not Found", "", other),
    };
    if stream.write_all(text.as_bytes()).is_err() {
        return;
    }
    if matches!(path, "/trickle" | "/slow-head") {
        trickle(&mut stream);
    }
}

/// Reads a request up to its empty line; `None` if the client went away.
fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}
