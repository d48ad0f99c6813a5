//! One HTTP request after another, each until the engine has taken or refused it.

use std::sync::Arc;
use std::time::Duration;

use extranet_agent::shell::{Shutdown, Stage, error_chain};
use reqwest::{Client, StatusCode, header};

use super::remote_write::WriteRequest;
use crate::config::RemoteWriteConfig;
use crate::self_stats::{Stats, count_many};

/// An answer must come within this time: more than an engine takes to write 5,000 samples to a slow disk (guess).
const ANSWER: Duration = Duration::from_secs(30);
/// First pause after a failure.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest pause; also bounds what `Retry-After` may ask for.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How often a refused request is split before the rest is given up as a whole: an engine that refuses everything must
/// not be asked 10,000 times for each request.
const SPLITS: usize = 64;
/// How much of an engine's explanation is logged, characters.
const EXPLANATION: usize = 200;

/// What became of a request.
pub(super) enum Sent {
    /// The engine has taken so many samples.
    Done(u64),
    /// It has taken so many and refused others, with this explanation.
    Refused(u64, String),
    /// The service stops; the last failure.
    Stopped(String),
}

enum Attempt {
    Taken,
    Refused(String),
    Failed {
        error: String,
        pause: Option<Duration>,
    },
}

/// Sends to one target.
pub(super) struct Sender {
    name: String,
    url: String,
    client: Client,
    stats: Arc<Stats>,
    shutdown: Shutdown,
}

impl Sender {
    pub(super) fn new(
        config: &RemoteWriteConfig,
        client: Client,
        stats: Arc<Stats>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            name: config.name.clone(),
            url: config.url.clone(),
            client,
            stats,
            shutdown,
        }
    }

    /// Tries until the engine has taken or refused everything, or the service stops.
    pub(super) async fn send(&self, request: WriteRequest) -> Sent {
        let target = [("target", self.name.clone())];
        let mut taken = 0;
        let mut refusal = None;
        let mut splits = 0;
        let mut parts = vec![request];
        while let Some(part) = parts.pop() {
            match self.until_answered(&part).await {
                Ok(None) => {
                    taken += part.samples() as u64;
                    self.stats.export_requests.get_or_create(&target).inc();
                    let samples = part.samples() as u64;
                    self.stats
                        .export_samples
                        .get_or_create(&target)
                        .inc_by(samples);
                }
                Ok(Some(_)) if part.timeseries.len() > 1 && splits < SPLITS => {
                    splits += 1;
                    let mut first = part.timeseries;
                    let second = first.split_off(first.len() / 2);
                    parts.push(WriteRequest { timeseries: second });
                    parts.push(WriteRequest { timeseries: first });
                }
                Ok(Some(error)) => {
                    let samples = part.samples() as u64;
                    count_many(&self.stats.export_dropped, "refused", samples);
                    tracing::warn!(
                        name = self.name,
                        samples,
                        error,
                        "the engine refuses samples, they are left out"
                    );
                    refusal = Some(error);
                }
                Err(error) => return Sent::Stopped(error),
            }
        }
        match refusal {
            None => Sent::Done(taken),
            Some(error) => Sent::Refused(taken, error),
        }
    }

    /// `Ok(None)` when taken, `Ok(Some(why))` when refused, `Err(why)` when the service stops first.
    async fn until_answered(&self, request: &WriteRequest) -> Result<Option<String>, String> {
        let body = bytes::Bytes::from(request.body());
        let mut backoff = BACKOFF_MIN;
        loop {
            // While the service stops there is one attempt for what is in hand, as long as the last stage allows.
            let attempt = tokio::select! {
                attempt = self.attempt(body.clone()) => attempt,
                () = self.shutdown.reached(Stage::Stop) => return Err("the service stops".to_owned()),
            };
            let (error, pause) = match attempt {
                Attempt::Taken => return Ok(None),
                Attempt::Refused(why) => return Ok(Some(why)),
                Attempt::Failed { error, pause } => (error, pause),
            };
            let target = [("target", self.name.clone())];
            self.stats.export_retries.get_or_create(&target).inc();
            let pause = pause.unwrap_or(backoff).min(BACKOFF_MAX);
            tracing::warn!(name = self.name, error, ?pause, "cannot send, trying again");
            backoff = (backoff * 2).min(BACKOFF_MAX);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.reached(Stage::Flush) => return Err(error),
            }
        }
    }

    async fn attempt(&self, body: bytes::Bytes) -> Attempt {
        let sent = self
            .client
            .post(&self.url)
            .timeout(ANSWER)
            .header(header::CONTENT_ENCODING, "snappy")
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .header(
                header::USER_AGENT,
                concat!("extranet-collector/", env!("CARGO_PKG_VERSION")),
            )
            .body(body)
            .send()
            .await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                return Attempt::Failed {
                    error: error_chain(&error),
                    pause: None,
                };
            }
        };
        let status = response.status();
        if status.is_success() {
            return Attempt::Taken;
        }
        let seconds = response.headers().get(header::RETRY_AFTER);
        let pause = seconds
            .and_then(|text| text.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        // Only the first part of the explanation is read, however long it is.
        let explanation = response.chunk().await.ok().flatten().unwrap_or_default();
        let text = String::from_utf8_lossy(&explanation);
        let short: String = text.trim().chars().take(EXPLANATION).collect();
        let error = format!("{status}: {short}");
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
            Attempt::Refused(error)
        } else {
            Attempt::Failed { error, pause }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::Mutex;

    use prost::Message;

    use super::super::remote_write::{Collected, labels};
    use super::*;

    /// An engine that answers one request after another as `answer` says, and remembers the series it has taken.
    struct Engine {
        url: String,
        taken: Arc<Mutex<Vec<String>>>,
        headers: Arc<Mutex<Vec<String>>>,
    }

    fn engine(answer: impl Fn(usize, &[String]) -> &'static str + Send + 'static) -> Engine {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/api/v1/write", listener.local_addr().unwrap());
        let (taken, headers) = (Arc::default(), Arc::default());
        let engine = Engine {
            url,
            taken: Arc::clone(&taken),
            headers: Arc::clone(&headers),
        };
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let line = line.trim().to_lowercase();
                    if line.is_empty() {
                        break;
                    }
                    if let Some(text) = line.strip_prefix("content-length: ") {
                        length = text.parse().unwrap();
                    }
                    headers.lock().unwrap().push(line);
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
                let request = WriteRequest::decode(plain.as_slice()).unwrap();
                let names: Vec<String> = request
                    .timeseries
                    .iter()
                    .map(|series| series.labels[0].value.clone())
                    .collect();
                let status = answer(number, &names);
                if status.starts_with('2') {
                    taken.lock().unwrap().extend(names);
                }
                let text = "because";
                let reply = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nretry-after: 0\r\nconnection: close\r\n\r\n{text}",
                    text.len()
                );
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        engine
    }

    fn request(names: &[&str]) -> WriteRequest {
        let mut collected = Collected::default();
        for name in names {
            collected.push(labels([("__name__", *name)]), 1, 1.0);
            collected.push(labels([("__name__", *name)]), 2, 2.0);
        }
        collected.take(1_000).remove(0)
    }

    fn sender(url: &str) -> (Sender, Arc<Stats>, extranet_agent::shell::ShutdownTrigger) {
        let (trigger, shutdown) = extranet_agent::shell::shutdown();
        let stats = Arc::new(Stats::new());
        let config = RemoteWriteConfig {
            name: "t".to_owned(),
            url: url.to_owned(),
            cursor_lag: Duration::ZERO,
            flush: Duration::ZERO,
        };
        let sender = Sender::new(&config, Client::new(), Arc::clone(&stats), shutdown);
        (sender, stats, trigger)
    }

    #[tokio::test]
    async fn what_fails_for_a_moment_is_sent_again() {
        let engine = engine(|number, _| match number {
            0 => "503 Service Unavailable",
            1 => "429 Too Many Requests",
            _ => "204 No Content",
        });
        let (sender, stats, _trigger) = sender(&engine.url);
        assert!(matches!(
            sender.send(request(&["a", "b"])).await,
            Sent::Done(4)
        ));
        assert_eq!(engine.taken.lock().unwrap().len(), 2);
        assert!(
            stats
                .page()
                .contains("export_retries_total{target=\"t\"} 2")
        );
        let headers = engine.headers.lock().unwrap().join("\n");
        for expected in [
            "content-encoding: snappy",
            "content-type: application/x-protobuf",
            "x-prometheus-remote-write-version: 0.1.0",
            "user-agent: extranet-collector/",
        ] {
            assert!(headers.contains(expected), "{headers}");
        }
    }

    #[tokio::test]
    async fn a_refused_series_is_counted_and_left_out_and_takes_no_other_with_it() {
        let engine = engine(|_, names| {
            if names.iter().any(|name| name == "bad") {
                "400 Bad Request"
            } else {
                "200 OK"
            }
        });
        let (sender, stats, _trigger) = sender(&engine.url);
        let names = ["a", "b", "bad", "c", "d", "e"];
        let Sent::Refused(taken, error) = sender.send(request(&names)).await else {
            panic!("must be refused in part");
        };
        assert_eq!((taken, error.as_str()), (10, "400 Bad Request: because"));
        let mut taken = engine.taken.lock().unwrap().clone();
        taken.sort();
        assert_eq!(taken, ["a", "b", "c", "d", "e"]);
        let page = stats.page();
        assert!(
            page.contains("export_dropped_total{reason=\"refused\"} 2"),
            "{page}"
        );
    }

    #[tokio::test]
    async fn a_stop_ends_the_trying() {
        let (sender, _stats, trigger) = sender("http://127.0.0.1:9/nobody");
        trigger.advance(Stage::Flush);
        assert!(matches!(
            sender.send(request(&["a"])).await,
            Sent::Stopped(_)
        ));
    }
}
