//! The laboratory: real binaries, real engines, real kernels, and what breaks the connection between them.
//!
//! From the outside in:
//!
//! - [`clock`]: waiting for a condition with a deadline and the last status;
//! - [`place`]: where something runs: on this host or in a network namespace;
//! - [`namespace`]: network namespaces and links for a site, a parent and the centre;
//! - [`forwarder`]: a link with known delay, loss, duplication, reordering and rate, with exact counts of its own;
//! - [`process`]: one child process with its log, ended by its id, its log shown when the test fails;
//! - [`http`]: requests into a place; [`webhook`]: an HTTP server that remembers what it was sent;
//! - [`engine`]: victoria-metrics, prometheus-alertmanager, prometheus, rsyslog and snmpd as Debian ships them;
//! - [`proxy`]: a TCP forwarder that cuts, stalls, delays, throttles and counts;
//! - [`binary`]: where the real binaries are; [`sandbox`]: a collector with its engines and agents;
//! - [`oracle`]: turns every acknowledgement into an obligation;
//! - [`fleet`]: thousands of simulated agents, the load for figures about collectors;
//! - [`machine`]: a Debian machine with a systemd of its own, for packages;
//! - [`segment`]: a site's segment with its router and somebody who does not belong there;
//! - [`tls_server`]: a TLS server whose certificate is exchanged;
//! - [`rogue`]: a client that says whatever it likes; [`small_disk`]: a disk that can be full.
//!
//! The harness panics when something does not happen: that is how a test fails. A missing tool fails a test, it never
//! skips one.
#![expect(
    clippy::missing_panics_doc,
    reason = "see above: a harness that returned errors would be unwrapped in every line"
)]

pub mod binary;
pub mod clock;
pub mod engine;
pub mod fleet;
pub mod forwarder;
pub mod http;
pub mod machine;
pub mod namespace;
pub mod oracle;
pub mod place;
pub mod process;
pub mod proxy;
pub mod rogue;
pub mod sandbox;
pub mod segment;
pub mod small_disk;
pub mod tls_server;
pub mod webhook;
