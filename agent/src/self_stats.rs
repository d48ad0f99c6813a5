//! Everything the agent says about itself, in OpenMetrics: one field per fact, named after its stage; and the small
//! HTTP server for it, which the collector uses too.
//!
//! Whoever lets something go counts it here, with its reason. Label values are closed enums or literals; nothing a
//! peer sends becomes a label.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::shell::{Shutdown, Stage, panics, spawn_named};

/// A counter for each value of one label.
pub type Counters = Family<[(&'static str, &'static str); 1], Counter>;

/// The counter with this reason.
pub fn count(counters: &Counters, reason: &'static str, many: u64) {
    counters.get_or_create(&[("reason", reason)]).inc_by(many);
}

/// Brings the counter with this reason to a total that somebody else counted. A total
/// that began again shows once it passes what it was.
pub fn follow(counters: &Counters, reason: &'static str, total: u64) {
    let counter = counters.get_or_create(&[("reason", reason)]);
    let seen = counter.get();
    counter.inc_by(total.saturating_sub(seen));
}

/// Declares `Stats`: one field per fact, registered under a prefix. Both programs use it, each with its own list.
///
/// A field is `name: Kind = "metric_name" [, Unit]`; its first doc comment is the help text of the metric.
#[macro_export]
macro_rules! statistics {
    ($prefix:literal; $($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $name:literal $(, $unit:expr)?;)+) => {
        /// All statistics of one process. Handles are cheap to clone; updating one takes no lock that matters.
        #[derive(Debug)]
        pub struct Stats {
            registry: $crate::self_stats::Registry,
            $($(#[doc = $doc])+ pub $field: $kind,)+
        }

        impl Stats {
            /// All at zero.
            pub fn new() -> Self {
                let mut registry = $crate::self_stats::Registry::with_prefix($prefix);
                $(
                    let $field = <$kind>::default();
                    $crate::statistics!(@register registry, $field, $name, concat!($($doc),+) $(, $unit)?);
                )+
                Self { registry, $($field,)+ }
            }
        }
    };
    (@register $registry:ident, $field:ident, $name:literal, $help:expr) => {
        $registry.register($name, $help.trim().trim_end_matches('.'), $field.clone());
    };
    (@register $registry:ident, $field:ident, $name:literal, $help:expr, $unit:expr) => {
        $registry.register_with_unit($name, $help.trim().trim_end_matches('.'), $unit, $field.clone());
    };
}

crate::statistics! {
    "extranet_agent";

    /// Runs started.
    schedule_runs: Counter = "schedule_runs";
    /// Runs going on now.
    schedule_running: Gauge = "schedule_running";
    /// Runs that were not started, by reason: late, busy, overlap.
    schedule_skipped: Counters = "schedule_skipped";
    /// Runs ended, by reason: none for a good end.
    probe_runs: Counters = "probe_runs";
    /// ICMP packets and errors, by what became of them.
    probe_icmp: Counters = "probe_icmp";
    /// Security records made, by reason: raised, cleared.
    security_events: Counters = "security_events";
    /// Security events that are raised and not cleared.
    security_open: Gauge = "security_open";
    /// Times that news of the segment were lost and everything was read again.
    security_resyncs: Counter = "security_resyncs";
    /// Whether the sensor is connected (1) or not (0).
    sensor_connected: Gauge = "sensor_connected";
    /// Messages of the sensor, by reason: taken, flood, busy, damaged.
    sensor_adverts: Counters = "sensor_adverts";
    /// Router advertisements that the sensor did not pass on, by reason.
    sensor_lost: Counters = "sensor_lost";
    /// Records made.
    result_records: Counter = "result_records";
    /// Times the wall clock moved against the boot clock.
    result_clock_steps: Counter = "result_clock_steps";
    /// Records that reached the spool.
    spool_appended: Counter = "spool_appended";
    /// Records that were lost, by reason: busy (never reached the spool), or why the spool dropped them.
    spool_dropped: Counters = "spool_dropped";
    /// Failed disk operations, by reason: append, sync, read, acknowledge.
    spool_errors: Counters = "spool_errors";
    /// Records without an acknowledgement.
    spool_waiting: Gauge = "spool_waiting_records";
    /// Size of the spool on disk.
    spool_size: Gauge = "spool", Unit::Bytes;
    /// Attempts to connect, by reason: ok or why not.
    uplink_connects: Counters = "uplink_connects";
    /// Whether a collector has welcomed this agent (1) or not (0).
    uplink_connected: Gauge = "uplink_connected";
    /// Streams that ended, by reason.
    uplink_closed: Counters = "uplink_closed";
    /// Batches sent, by reason: live, backlog, heartbeat.
    uplink_batches: Counters = "uplink_batches";
    /// Records sent, by reason: live, backlog.
    uplink_records: Counters = "uplink_records";
    /// Bytes of blocks sent.
    uplink_blocks: Counter = "uplink_blocks", Unit::Bytes;
    /// Records acknowledged by the collector.
    uplink_acknowledged: Counter = "uplink_acknowledged";
    /// Bytes of IP packets over uplinks, by direction and purpose.
    account_traffic: Counters = "account_traffic", Unit::Bytes;
    /// What may be spent at once without stretching intervals more.
    account_left: Gauge = "account_left", Unit::Bytes;
    /// By how much intervals are stretched to keep the daily budget, thousandths.
    account_stretch: Gauge = "account_stretch_thousandths";
    /// Version of the assignment at work; 0 = none.
    control_assignment: Gauge = "control_assignment_version";
    /// Checks of the assignment that this agent refuses or cannot do.
    control_problems: Gauge = "control_problems";
    /// Assignments received, by reason: applied, refused, unkept (applied, but the disk refused it).
    control_assignments: Counters = "control_assignments";
    /// Measurements on demand, by reason: answered, refused, busy.
    control_measurements: Counters = "control_measurements";
    /// Notifications of SNMP devices that were believed, repetitions included.
    trap_received: Counter = "trap_received";
    /// Datagrams at the notification port that were dropped, by reason.
    trap_dropped: Counters = "trap_dropped";
    /// End of the certificate, seconds since 1970.
    identity_not_after: Gauge = "identity_not_after", Unit::Seconds;
    /// Renewals of the certificate, by reason: ok or failed.
    identity_renewals: Counters = "identity_renewals";
    /// Tasks and threads that panicked.
    panics: Gauge = "panics";
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// Takes over what the ICMP engine counted.
    pub fn follow_icmp(&self, counts: &crate::probe::icmp::Counts) {
        for (what, total) in counts.named() {
            follow(&self.probe_icmp, what, total);
        }
    }

    /// Takes over what was spent.
    pub fn follow_account(&self, account: &crate::account::Account) {
        let mut sums = [0_u64; 4];
        for (device, totals) in account.totals() {
            if &*device == crate::account::LOCAL {
                continue;
            }
            let (probes, stream) = (totals.probes, totals.stream);
            let parts = [probes.sent, probes.received, stream.sent, stream.received];
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum = sum.saturating_add(part);
            }
        }
        let names = [
            "probes_sent",
            "probes_received",
            "stream_sent",
            "stream_received",
        ];
        for (name, total) in names.into_iter().zip(sums) {
            let counter = self.account_traffic.get_or_create(&[("reason", name)]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.account_left.set(gauge(account.left()));
        self.account_stretch.set(account.stretch().first.into());
    }

    /// The OpenMetrics text.
    pub fn render(&self) -> String {
        self.panics.set(i64::try_from(panics()).unwrap_or(i64::MAX));
        let mut text = String::new();
        let encoded = encode(&mut text, &self.registry);
        debug_assert!(encoded.is_ok(), "writing into a string cannot fail");
        text
    }
}

/// Connections served at once; a scraper needs one.
const CONNECTIONS: usize = 8;
/// How long a client may take for its request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one connection may last, requests and answers included.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Serves `GET /metrics` until the shutdown reaches its last stage.
pub async fn serve(
    listener: TcpListener,
    render: Arc<dyn Fn() -> String + Send + Sync>,
    shutdown: Shutdown,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.reached(Stage::Stop) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: give others time to close some.
                tracing::warn!(%error, "cannot accept a connection for statistics");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let render = Arc::clone(&render);
        spawn_named("self_stats", async move {
            let service = service_fn(move |request| {
                let response = answer(&request, render.as_ref());
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                // A scraper that kept it would find it closed a minute later and miss a scrape.
                .keep_alive(false)
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off is its own affair.
            drop(tokio::time::timeout(CONNECTION_TIMEOUT, connection).await);
            drop(permit);
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    render: &(dyn Fn() -> String + Send + Sync),
) -> Response<Full<Bytes>> {
    let (status, content_type, body) = if request.uri().path() != "/metrics" {
        (
            StatusCode::NOT_FOUND,
            "text/plain",
            "see /metrics\n".to_owned(),
        )
    } else if request.method() != Method::GET {
        (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "use GET\n".to_owned(),
        )
    } else {
        (
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            render(),
        )
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::shell::shutdown;

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn statistics_are_served_and_nothing_else() {
        let stats = Arc::new(Stats::new());
        stats.schedule_runs.inc();
        count(&stats.spool_dropped, "spool_bytes", 3);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, stop) = shutdown();
        let server = spawn_named(
            "server",
            serve(listener, Arc::new(move || stats.render()), stop),
        );
        let good = ask(
            address,
            "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(good.starts_with("HTTP/1.1 200"), "{good}");
        assert!(
            good.contains("extranet_agent_schedule_runs_total 1\n"),
            "{good}"
        );
        assert!(good.contains("extranet_agent_spool_dropped_total{reason=\"spool_bytes\"} 3\n"));
        assert!(good.ends_with("# EOF\n"));
        let bad = ask(
            address,
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(bad.starts_with("HTTP/1.1 404"), "{bad}");
        trigger.advance(Stage::Stop);
        server.await.unwrap();
    }
}
