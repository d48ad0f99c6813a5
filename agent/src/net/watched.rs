//! A socket that the runtime watches.

use std::io;

use socket2::Socket;
use tokio::io::unix::AsyncFd;

/// Registers a non-blocking socket with the runtime of this thread.
pub fn watched(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe and asks for what `Socket` is: the owner of one descriptor that never \
                  changes"
    )]
    AsyncFd::new(socket)
}
