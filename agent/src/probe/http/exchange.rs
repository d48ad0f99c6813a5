//! One request and its answer on a connection of its own, over HTTP/1.1 or HTTP/2.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use extranet_proto::record::Reason;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::net::refusal::{Refusal, errno_of};
use crate::packet::http::Place;

/// Largest head of an answer, bytes (guess: four times what common servers accept of their clients).
pub const HEAD_BYTES: usize = 32 << 10;
/// What a server may send before we have read it, bytes: memory stays bounded.
const WINDOW_BYTES: u32 = 64 << 10;

/// Which version is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Http11,
    Http2,
}

/// What a stream of bytes must be to carry HTTP.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Carrier for T {}

/// Sends a GET and hands the answer to `read`, which sees it as long as the connection lives.
pub(super) async fn exchange<T>(
    stream: impl Carrier,
    spoken: Spoken,
    place: &Place,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let request = request(place, spoken)?;
    let refusal = |error: hyper::Error| refusal_of(&error, spoken);
    match spoken {
        Spoken::Http11 => {
            let (mut sender, connection) = http1::Builder::new()
                .max_buf_size(HEAD_BYTES)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(refusal)?;
            let talk = pin!(async move {
                let answer = sender.send_request(request).await.map_err(refusal)?;
                read(answer).await
            });
            beside(talk, connection).await
        }
        Spoken::Http2 => {
            // Dropped at the end of the run, and the tasks of the connection with it.
            let tasks = Arc::new(Mutex::new(JoinSet::new()));
            let (mut sender, connection) = http2::Builder::new(Tasks(Arc::downgrade(&tasks)))
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
                .handshake(TokioIo::new(stream))
                .await
                .map_err(refusal)?;
            let talk = pin!(async move {
                let answer = sender.send_request(request).await.map_err(refusal)?;
                read(answer).await
            });
            beside(talk, connection).await
        }
    }
}

/// The connection is over first when the server closed it; what it delivered is still to be read.
async fn beside<T>(
    mut talk: std::pin::Pin<&mut impl Future<Output = Result<T, Refusal>>>,
    connection: impl Future,
) -> Result<T, Refusal> {
    tokio::select! {
        ended = &mut talk => ended,
        _ = connection => talk.await,
    }
}

/// Compression is not asked for: the text of a body is looked for in its bytes.
fn request(place: &Place, spoken: Spoken) -> Result<Request<Empty<Bytes>>, Refusal> {
    let authority = place.authority();
    let agent = concat!("extranet-agent/", env!("CARGO_PKG_VERSION"));
    let builder = match spoken {
        Spoken::Http11 => Request::get(&place.path)
            .header(HOST, authority)
            .header(CONNECTION, "close"),
        Spoken::Http2 => {
            let scheme = if place.tls { "https" } else { "http" };
            Request::get(format!("{scheme}://{authority}{}", place.path))
        }
    };
    builder
        .header(USER_AGENT, agent)
        .header(ACCEPT, "*/*")
        .header(ACCEPT_ENCODING, "identity")
        .body(Empty::new())
        .map_err(|_| Refusal::not_measured(Reason::LocalError))
}

/// Where the tasks of an HTTP/2 connection run. Weak, because they hold it themselves.
#[derive(Clone)]
struct Tasks(Weak<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.spawn(task);
        }
    }
}

/// Why there is no answer, or only a part of one.
pub(super) fn refusal_of(error: &hyper::Error, spoken: Spoken) -> Refusal {
    if error.is_parse_too_large() {
        return Refusal::failed(Reason::TooLarge);
    }
    if error.is_parse() {
        return Refusal::failed(Reason::Malformed);
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return match io.raw_os_error() {
                Some(_) => Refusal::of(errno_of(io)),
                // TLS that breaks off.
                None => Refusal::failed(Reason::Closed),
            };
        }
        source = inner.source();
    }
    let is_over = error.is_closed() || error.is_canceled() || error.is_incomplete_message();
    if spoken == Spoken::Http2 && !is_over {
        // Whatever answers does not speak HTTP/2, or ended the stream with an error of its own.
        return Refusal::failed(Reason::Malformed);
    }
    // A body that ends early, a connection that closes instead of answering.
    Refusal::failed(Reason::Closed)
}
